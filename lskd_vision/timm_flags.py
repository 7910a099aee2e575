"""Flags of timm's training script that ``lskd vision train`` does not have, and why or what to use instead."""

_SPLIT = "auxiliary batch norms and the JSD loss are not supported"
_LR_CYCLE = "one cycle only; --sched cosine, step, multistep, tanh, poly or plateau"
_LAYER = "all layers have one learning rate"
_REPEATABLE = "the order of images is a function of --data-seed and the epoch alone, so that runs can be repeated"
_EVERY_EPOCH = "every model is saved after every epoch, and --resume resumes from there"
_FEATURES = "the models say how many features they have"
_HUB = "nothing is fetched from a hub; give --data-dir"
INSTEAD = {
    **dict.fromkeys(("--jsd-loss", "--aug-splits", "--split-bn", "--resplit"), _SPLIT),
    **dict.fromkeys(("--lr-cycle-mul", "--lr-cycle-decay", "--lr-cycle-limit", "--lr-k-decay"), _LR_CYCLE),
    **dict.fromkeys(("--lr-noise", "--lr-noise-pct", "--lr-noise-std"), "the learning rate has no noise"),
    **dict.fromkeys(("--lr-base", "--lr-base-size", "--lr-base-scale"), "give the learning rate itself: --lr"),
    **dict.fromkeys(("--layer-decay", "--layer-decay-min-scale", "--layer-decay-no-opt-scale"), _LAYER),
    **dict.fromkeys(("--worker-seeding", "--aug-repeats", "--epoch-repeats", "--use-multi-epochs-loader"), _REPEATABLE),
    **dict.fromkeys(("--recovery-interval", "--checkpoint-hist", "--start-epoch"), _EVERY_EPOCH),
    **dict.fromkeys(("--train-num-samples", "--val-num-samples", "--input-key", "--target-key"), _HUB),
    **dict.fromkeys(("--kd-student-feature-dim", "--kd-teacher-feature-dim"), _FEATURES),
    "--dataset-trust-remote-code": _HUB,
    "--pretrained-path": "--initial-checkpoint starts from the weights in a file",
    "--no-resume-opt": "--resume resumes all of a run; --initial-checkpoint takes weights alone",
    "--opt-kwargs": "--momentum, --opt-eps and --opt-betas",
    "--gp": "--model-kwargs global_pool=NAME",
    "--drop-connect": "use --drop-path",
    "--drop-block": "--model-kwargs drop_block_rate=P, of models that have it",
    "--bn-momentum": "--model-kwargs, of models that have it",
    "--bn-eps": "--model-kwargs, of models that have it",
    "--dist-bn": "after every epoch all processes have the mean of their statistics",
    "--model-ema-force-cpu": "the moving average is on the model's device",
    "--save-images": "augmented images are not saved",
    "--no-prefetcher": "images are normalised on the device as they are loaded",
    "--eval-metric": "the best checkpoint is that of the highest top-1",
    "--tta": "each image is evaluated once",
    "--torchscript": "--torchcompile",
    "--torchcompile-mode": "--torchcompile takes a backend",
    "--fuser": "--torchcompile",
    "--fast-norm": "not supported",
    "--amp-impl": "--amp is torch's own",
    "--model-dtype": "--amp; weights and the loss stay in float32",
    "--no-ddp-bb": "buffers are not broadcast",
    "--synchronize-step": "not needed",
    "--local_rank": "torchrun sets it in the environment",
    "--local-rank": "torchrun sets it in the environment",
    "--device-modules": "not supported",
    "--color-jitter-prob": "--color-jitter applies to every image",
    "--gaussian-blur-prob": "not supported",
    "--head-init-scale": "--initial-checkpoint",
    "--head-init-bias": "--initial-checkpoint",
    "--warmup-prefix": "the warm-up is part of --epochs",
    "--distill-loss-weight": "1 less --task-loss-weight",
    "--kd-loss-type": "--kd-loss",
    "--kd-model-kwargs": "the teacher's checkpoint has them",
    "--kd-pretrained-path": "--kd-checkpoint",
    "--kd-teacher-checkpoint": "--kd-checkpoint",
}


def instead(word: str) -> str | None:
    """What to use instead of one of timm's flags, or why there is no such flag; None for any other word.

    >>> instead("--drop-connect=0.2"), instead("--data-dir")
    ('use --drop-path', None)
    """
    return INSTEAD.get(word.partition("=")[0])
