"""The groups of flags for training only: model, teacher, labels, optimiser, schedule, augmentation, run."""

import argparse
from pathlib import Path
from typing import get_args

from timm.utils import ParseKwargs

from lskd.io.argument_types import number, positive, whole
from lskd.io.temperatures import temperatures
from lskd.loss.schedule import TemperatureSchedule
from lskd.loss.types import GradientScale, LossType
from lskd_vision.augmentation_config import Interpolation
from lskd_vision.config import Schedule
from lskd_vision.loss_config import DistillType
from lskd_vision.option_parser import add_group, assignment


def add_model_options(options: argparse.ArgumentParser) -> None:
    """Add the flags of the model to train."""
    group = add_group(options, "model")
    group.add_argument("--model", nargs="+", help="timm's name, or several (default resnet50)")
    group.add_argument("--num-classes", type=positive, metavar="K", help="checked against the data's number of classes")
    group.add_argument(
        "--model-kwargs",
        nargs="*",
        type=assignment,
        action=ParseKwargs,
        metavar="K=V",
        help="for the model",
    )
    group.add_argument("--pretrained", action="store_true", help="start from timm's weights of that name")
    group.add_argument("--initial-checkpoint", type=Path, metavar="FILE", help="start from these weights")
    group.add_argument("--drop", type=number(0, 1), metavar="P", help="dropout before the classifier")
    group.add_argument("--drop-path", type=number(0, 1), metavar="P", help="stochastic depth")
    group.add_argument("--grad-checkpointing", action="store_true", help="less memory, more time")
    group.add_argument("--sync-bn", action="store_true", help="BatchNorm over all GPUs")
    group.add_argument("--model-ema", action="store_true", help="also an exponential moving average of the weights")
    group.add_argument("--model-ema-decay", type=number(0, 1), help="default 0.9998")
    group.add_argument("--model-ema-warmup", action="store_true", help="smaller decay at the beginning")


def add_teacher_options(options: argparse.ArgumentParser) -> None:
    """Add the flags of the teacher and the distillation term."""
    group = add_group(options, "teacher and distillation")
    group.add_argument(
        "--kd-model-name", nargs="+", metavar="MODEL", help="the teacher's model (default: its checkpoint's)"
    )
    group.add_argument(
        "--kd-checkpoint",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the teacher's weights; several: students of each; A:B: an ensemble, whose probabilities are averaged",
    )
    group.add_argument(
        "--kd-temperature",
        nargs="+",
        type=temperatures,
        metavar="T",
        help="T (default 1), or several; or the file of `lskd match-temperature --output`",
    )
    group.add_argument(
        "--kd-student-temperature", type=number(0, above=True), help="default: T; 1 tempers the teacher only (TTM)"
    )
    group.add_argument(
        "--kd-temperature-schedule", choices=get_args(TemperatureSchedule), help="of T by epochs (default constant)"
    )
    group.add_argument("--kd-final-temperature", type=number(0, above=True), metavar="T", help="in the last epoch")
    group.add_argument("--kd-loss", choices=get_args(LossType), help="default kl; TTM is --kd-student-temperature 1")
    group.add_argument(
        "--kd-nckd-weight", type=number(0), metavar="W", help="decoupled: of all classes but the label (default 8)"
    )
    group.add_argument(
        "--kd-gradient-scale",
        choices=get_args(GradientScale),
        help="gradient: t2 (default): with the student's T²; none: without it; match: the norm that T = 1 would give",
    )
    group.add_argument(
        "--kd-distill-type",
        choices=get_args(DistillType),
        help="overhaul: also features (Heo et al.); token: a head of its own; feature: those before the last layer",
    )
    group.add_argument(
        "--kd-token-distill-type", choices=("soft", "hard"), help="token: at T (default), or the teacher's class alone"
    )
    group.add_argument(
        "--kd-batch-statistics", action="store_true", help="overhaul: the teacher's BatchNorm in train mode"
    )


def add_label_options(options: argparse.ArgumentParser) -> None:
    """Add the flags of the hard-label loss."""
    group = add_group(options, "hard-label loss: of a teacher in training, or beside distillation")
    group.add_argument("--task-loss-weight", type=number(0, 1), help="weight 1-β of the hard-label loss (default 0)")
    group.add_argument("--smoothing", nargs="+", type=number(0, 0.999), help="label smoothing α (0)")
    group.add_argument("--bce-loss", action="store_true", help="binary cross entropy as the hard-label loss")
    group.add_argument("--bce-sum", action="store_true", help="its sum over the classes, not the mean")
    group.add_argument("--bce-target-thresh", type=number(0, 1), metavar="P", help="labels above P are 1, others 0")
    group.add_argument("--bce-pos-weight", type=number(0, above=True), metavar="W", help="of positive labels")


def add_optimiser_options(options: argparse.ArgumentParser) -> None:
    """Add the flags of the optimiser."""
    group = add_group(options, "optimiser")
    group.add_argument("-b", "--batch-size", type=positive, help="images per process and batch (default 256)")
    group.add_argument("--grad-accum-steps", type=positive, help="batches for one update (default 1)")
    group.add_argument("--opt", help="default momentum: SGD without Nesterov")
    group.add_argument("--opt-eps", type=number(0, above=True))
    group.add_argument("--opt-betas", type=number(0, 1), nargs="+")
    group.add_argument("--momentum", type=number(0, 1), help="default 0.9")
    group.add_argument("--weight-decay", type=number(0), help="default 1e-4")
    group.add_argument(
        "--filter-bias-and-bn", action="store_true", help="no decay of biases and BatchNorm; the paper decays all"
    )
    group.add_argument("--clip-grad", type=number(0, above=True), help="no clipping by default")
    group.add_argument("--clip-mode", choices=("norm", "value", "agc"), help="default norm")


def add_schedule_options(options: argparse.ArgumentParser) -> None:
    """Add the flags of the number of epochs and the learning-rate schedule."""
    group = add_group(options, "schedule")
    group.add_argument("--epochs", type=positive, help="default 90, of a student 200")
    group.add_argument("--lr", type=number(0, above=True), help="learning rate (default 0.1)")
    group.add_argument("--sched", choices=get_args(Schedule), help="default step")
    group.add_argument("--sched-on-updates", action="store_true", help="every update instead of every epoch")
    group.add_argument("--decay-milestones", type=positive, nargs="+", metavar="EPOCH", help="for multistep")
    group.add_argument("--decay-epochs", type=number(0, above=True), help="for step; default 30, of a student 80")
    group.add_argument("--decay-rate", type=number(0, 1), help="default 0.1")
    group.add_argument("--warmup-epochs", type=whole, help="linear warm-up; default 0, of a student 5")
    group.add_argument("--warmup-lr", type=number(0), help="its initial rate (default 1e-5)")
    group.add_argument("--min-lr", type=number(0), help="final rate of cosine, floor of plateau (default 0)")
    group.add_argument("--plateau-mode", choices=("max", "min"), help="max: top-1 (default); min: validation loss")
    group.add_argument("--patience-epochs", type=whole, metavar="N", help="plateau: wait N without a better one (10)")
    group.add_argument("--cooldown-epochs", type=whole, metavar="N", help="plateau: N after a decay do not count (0)")


def add_augmentation_options(options: argparse.ArgumentParser) -> None:
    """Add the flags of augmentation, which is timm's."""
    group = add_group(options, "augmentation of an image; RandomResizedCrop and a flip by default")
    group.add_argument("--no-aug", action="store_true", help="none")
    group.add_argument("--train-crop-mode", choices=("rrc", "rkrc", "rkrr"), help="default rrc")
    group.add_argument("--scale", type=number(0, above=True), nargs=2, help="default 0.08 1")
    group.add_argument("--ratio", type=number(0, above=True), nargs=2, help="default 3/4 4/3")
    group.add_argument("--hflip", type=number(0, 1), help="default 0.5")
    group.add_argument("--vflip", type=number(0, 1), help="default 0")
    group.add_argument("--rotation", type=number(0, 180), help="degrees to either side (default 0)")
    group.add_argument("--color-jitter", type=number(0), nargs="+", help="one, or brightness, contrast, saturation")
    group.add_argument("--grayscale-prob", type=number(0, 1), help="default 0")
    group.add_argument("--aa", metavar="POLICY", help="AutoAugment, RandAugment, …, in timm's syntax")
    group.add_argument("--reprob", type=number(0, 1), help="random erasing (default 0)")
    group.add_argument("--remode", choices=("const", "rand", "pixel"), help="default pixel")
    group.add_argument("--recount", type=positive, help="default 1")
    group.add_argument("--train-interpolation", choices=(*get_args(Interpolation), "random"), help="default bilinear")

    group = add_group(options, "mixing of a batch's images and labels")
    group.add_argument("--mixup", type=number(0), metavar="ALPHA", help="mix images; α of Beta(α, α) (0: no)")
    group.add_argument("--cutmix", type=number(0), metavar="ALPHA", help="paste parts of images; likewise (0: no)")
    group.add_argument(
        "--cutmix-minmax", type=number(0, 1), nargs=2, metavar="P", help="size of the part, in place of --cutmix's α"
    )
    group.add_argument("--mixup-prob", type=number(0, 1), help="of mixing at all (default 1)")
    group.add_argument("--mixup-switch-prob", type=number(0, 1), help="of cutmix where there are both (default 0.5)")
    group.add_argument("--mixup-mode", choices=("batch", "pair", "elem"), help="one draw for each (default batch)")
    group.add_argument("--mixup-off-epoch", type=whole, metavar="N", help="off from epoch N, the first is 0 (0: never)")


def add_run_options(options: argparse.ArgumentParser) -> None:
    """Add the flags of seeds, output and execution."""
    group = add_group(options, "run")
    group.add_argument("--seed", type=whole, nargs="+", help="of weights and dropout (default 42)")
    group.add_argument("--data-seed", type=whole, help="of order and augmentation (default 42)")
    group.add_argument("--output", type=Path, metavar="DIR", help="default runs")
    group.add_argument("--experiment", metavar="NAME", help="folder in --output; the data set's name by default")
    group.add_argument(
        "--resume",
        nargs="?",
        const=True,
        type=Path,
        metavar="FILE",
        help="resume from the checkpoints in the run directories; FILE: a run's last.pth.tar, which says where it is",
    )
    group.add_argument("--group-size", type=positive, metavar="N", help="models trained at once; what fits by default")
    group.add_argument(
        "--torchcompile", nargs="?", const="inductor", metavar="BACKEND", help="torch.compile (backend inductor)"
    )
    group.add_argument(
        "--val-interval", type=positive, metavar="N", help="validate every N epochs, and after the last (default 1)"
    )
    group.add_argument("--log-interval", type=positive, metavar="N", help="also print a line every N batches")
    group.add_argument("--log-tensorboard", action="store_true", help="TensorBoard files in the run directories")
    group.add_argument("--log-wandb", action="store_true", help="Weights & Biases; the key comes from the environment")
    group.add_argument("--wandb-project", help="default lskd")
