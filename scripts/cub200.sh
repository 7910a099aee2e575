#!/usr/bin/env bash
# A teacher with label smoothing and its student at T = 1 on CUB200-2011, as in Table 2B, without a workflow tool:
#     bash scripts/cub200.sh CUB_200_2011.tgz
# These are the commands of `lskd reproduce 2B --scale paper`. The teacher starts from ImageNet's of the same α, which
# scripts/imagenet.sh trains. An interrupted run resumes when started again.
set -euo pipefail
CUB=$(realpath "${1:?"CUB_200_2011.tgz"}")
cd "$(dirname "$0")/.."

python data_prep/cub200.py --archive "$CUB" --dest runs/paper/data/cub200

python -m lskd_vision.train --data-dir runs/paper/data/cub200 --model resnet50 \
    --crop-pct 0.875 --interpolation bilinear --workers 8 --batch-size 256 --opt momentum --momentum 0.9 --lr 0.01 \
    --scale 0.2 1 --ratio 0.8 1.25 --rotation 45 --grayscale-prob 0.2 --color-jitter 0.2 0.2 0 \
    --warmup-epochs 0 --epochs 200 --decay-epochs 80 --weight-decay 0.0001 \
    --seed 2021 --data-seed 2021 --output runs/paper --experiment cub200 --resume --smoothing 0.1 \
    --initial-checkpoint runs/paper/imagenet/resnet50_a0.1_s42/last.pth.tar

python -m lskd_vision.train --data-dir runs/paper/data/cub200 --model resnet18.tv_in1k \
    --crop-pct 0.875 --interpolation bilinear --workers 8 --batch-size 256 --opt momentum --momentum 0.9 --lr 0.01 \
    --scale 0.2 1 --ratio 0.8 1.25 --rotation 45 --grayscale-prob 0.2 --color-jitter 0.2 0.2 0 \
    --warmup-epochs 0 --epochs 200 --decay-epochs 80 --weight-decay 0.001 --amp --pretrained \
    --seed 2021 --data-seed 2021 --output runs/paper --experiment cub200 --resume \
    --kd-checkpoint runs/paper/cub200/resnet50_a0.1_s2021/last.pth.tar --kd-temperature 1
