#!/usr/bin/env bash
# A teacher with label smoothing and its student at T = 1 on ImageNet-1K, as in Table 2A, without a workflow tool:
#     bash scripts/imagenet.sh IMAGENET          # a directory with train/ and val/, a folder for each class
# These are the commands of `lskd reproduce 2A --scale paper`; scripts/scales/paper.yaml gives the reasons for their
# options. An interrupted run resumes when started again.
set -euo pipefail
IMAGENET=$(realpath "${1:?"the directory of ImageNet, with train/ and val/"}")
cd "$(dirname "$0")/.."

python data_prep/imagenet.py --check "$IMAGENET"

python -m lskd_vision.train --data-dir "$IMAGENET" --model resnet50 \
    --crop-pct 0.875 --interpolation bilinear --workers 8 \
    --batch-size 256 --opt momentum --momentum 0.9 --weight-decay 0.0001 --lr 0.1 \
    --epochs 90 --decay-epochs 30 --warmup-epochs 0 \
    --seed 42 --data-seed 42 --output runs/paper --experiment imagenet --resume --smoothing 0.1

python -m lskd_vision.train --data-dir "$IMAGENET" --model resnet18 \
    --crop-pct 0.875 --interpolation bilinear --workers 8 \
    --batch-size 256 --opt momentum --momentum 0.9 --weight-decay 0.0001 --lr 0.1 \
    --epochs 200 --decay-epochs 80 --warmup-epochs 5 --amp \
    --seed 42 --data-seed 42 --output runs/paper --experiment imagenet --resume \
    --kd-checkpoint runs/paper/imagenet/resnet50_a0.1_s42/last.pth.tar --kd-temperature 1
