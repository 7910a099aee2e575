#!/usr/bin/env bash
# A teacher with label smoothing and its student at T = 1 on IWSLT'14 English–German, as in Table 5, without a workflow
# tool:
#     bash scripts/iwslt14.sh de-en.tgz
# These are the commands of `lskd reproduce 5 --scale paper`. An interrupted run resumes when started again. What a
# training prints, with the losses of each epoch, is also in train.log beside its checkpoints.
set -euo pipefail
ARCHIVE=$(realpath "${1:?"de-en.tgz"}")
cd "$(dirname "$0")/.."

python data_prep/iwslt14.py --pair en-de --archive "$ARCHIVE" --dest runs/paper/data/iwslt14.en-de

mkdir -p runs/paper/iwslt14.en-de/transformer_a0.1_s1 runs/paper/iwslt14.en-de/transformer-small_a0.1_T1_s1
fairseq-train runs/paper/data/iwslt14.en-de --user-dir lskd_fairseq \
    --save-dir runs/paper/iwslt14.en-de/transformer_a0.1_s1 --seed 1 \
    --encoder-layers 6 --encoder-embed-dim 512 --encoder-ffn-embed-dim 1024 --encoder-attention-heads 4 \
    --decoder-layers 6 --decoder-embed-dim 512 --decoder-ffn-embed-dim 1024 --decoder-attention-heads 4 \
    --arch transformer --share-all-embeddings --optimizer adam --adam-betas '(0.9, 0.98)' \
    --lr 0.0005 --lr-scheduler inverse_sqrt --warmup-updates 4000 --warmup-init-lr 1e-07 \
    --dropout 0.3 --weight-decay 0 --max-tokens 4096 \
    --max-epoch 60 --patience 10 \
    --required-batch-size-multiple 1 --no-epoch-checkpoints --log-format json \
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
    2>&1 | tee -ia runs/paper/iwslt14.en-de/transformer_a0.1_s1/train.log

# The teacher's features, 1 KB for each of about 4 million target tokens: its students train without running it.
python -m lskd_fairseq.cache_teacher --data runs/paper/data/iwslt14.en-de \
    --path runs/paper/iwslt14.en-de/transformer_a0.1_s1/checkpoint_best.pt \
    --dest runs/paper/iwslt14.en-de/transformer_a0.1_s1/teacher-cache

fairseq-train runs/paper/data/iwslt14.en-de --user-dir lskd_fairseq \
    --save-dir runs/paper/iwslt14.en-de/transformer-small_a0.1_T1_s1 --seed 1 \
    --encoder-layers 2 --encoder-embed-dim 256 --encoder-ffn-embed-dim 1024 --encoder-attention-heads 4 \
    --decoder-layers 2 --decoder-embed-dim 256 --decoder-ffn-embed-dim 1024 --decoder-attention-heads 4 \
    --arch transformer --share-all-embeddings --optimizer adam --adam-betas '(0.9, 0.98)' \
    --lr 0.0005 --lr-scheduler inverse_sqrt --warmup-updates 4000 --warmup-init-lr 1e-07 \
    --dropout 0.3 --weight-decay 0 --max-tokens 4096 \
    --max-epoch 60 --patience 10 \
    --required-batch-size-multiple 1 --no-epoch-checkpoints --log-format json \
    --criterion kd --temperature 1 --teacher-cache runs/paper/iwslt14.en-de/transformer_a0.1_s1/teacher-cache \
    2>&1 | tee -ia runs/paper/iwslt14.en-de/transformer-small_a0.1_T1_s1/train.log

python -m lskd_fairseq.score --data runs/paper/data/iwslt14.en-de \
    --path runs/paper/iwslt14.en-de/transformer-small_a0.1_T1_s1/checkpoint_best.pt
