"""The options of ``lskd vision train``: timm's names where timm has the option, and the paper's defaults.

``--model``, ``--seed``, ``--kd-temperature`` and ``--kd-checkpoint`` take several values: all combinations are trained
in one process. The same words in a YAML file (``--config``) are read as if they stood first on the command line.
"""

import argparse
import difflib
import functools
import math
import sys
from pathlib import Path

import torch
from timm.utils import ParseKwargs

from lskd.io.errors import InputError, OneLineParser, input_error, positive
from lskd.io.files import parse_yaml
from lskd.measure.temperatures import temperatures
from lskd_vision.checkpoint_metadata import INTERPOLATIONS
from lskd_vision.class_order import CLASS_ORDERS
from lskd_vision.image_files import MODES

# The paper's ImageNet recipe: batch 256, SGD .1 without Nesterov, × .1 every so many epochs; a student takes longer.
TEACHER_RECIPE = {"epochs": 90, "decay_epochs": 30, "warmup_epochs": 0}
STUDENT_RECIPE = {"epochs": 200, "decay_epochs": 80, "warmup_epochs": 5}
SCHEDULES = ("step", "multistep", "cosine", "tanh", "poly")
# Options that say something about a teacher, and what they are when nothing is said.
ABOUT_TEACHERS = {"kd_temperature": [1.0], "kd_student_temperature": None, "task_loss_weight": 0.0}
ABOUT_TEACHERS |= {"kd_distill_type": "logit", "kd_batch_statistics": False}


def number(minimum: float, maximum: float = math.inf, above: bool = False):
    """An argument type: a finite number from ``minimum`` (``above``: greater than it) to ``maximum``."""
    bounds = f"{'above' if above else 'at least'} {minimum:g}" + (
        "" if maximum == math.inf else f" and at most {maximum:g}"
    )

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and (minimum < value if above else minimum <= value) and value <= maximum):
            raise argparse.ArgumentTypeError(f"{text} (must be a number {bounds})")
        return value

    return parse


def whole(text: str) -> int:
    """An argument type: a whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} (must be a whole number, 0 or more)")
    return int(text)


def assignment(text: str) -> str:
    """An argument type: ``name=value``."""
    if not text.partition("=")[0].isidentifier() or "=" not in text:
        raise argparse.ArgumentTypeError(f"{text} (must be name=value)")
    return text


class Parser(OneLineParser):
    """argparse with ``--config``, defaults that differ between teacher and student, and one line for an error."""

    def parse_args(self, args=None, namespace=None):
        """Parse; ``args`` are the words of the command line."""
        words = list(sys.argv[1:] if args is None else args)
        config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        config.add_argument("-c", "--config", type=Path)
        config.error = self.error
        try:
            arguments = super().parse_args(self.words_of_config(config.parse_known_args(words)[0].config) + words)
            return finish(arguments)
        except InputError as error:
            self.error(str(error))

    def words_of_config(self, path: Path | None) -> list[str]:
        """The settings of a YAML file as words of a command line.

        Raises:
            InputError: the file cannot be read, is not a list of settings, or has one that is no option.
        """
        if path is None:
            return []
        try:
            settings = parse_yaml(path.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError) as error:
            raise input_error("--config", path, f"cannot be read as YAML: {error}") from None
        if not isinstance(settings, dict):
            raise input_error("--config", path, "must hold settings, one `name: value` a line")
        words = []
        options = {option: action for action in self._actions for option in action.option_strings}
        for key, value in settings.items():
            option = "--" + str(key).replace("_", "-")
            if option not in options or option in ("--config", "--help"):
                near = difflib.get_close_matches(option, options, n=1)
                raise input_error(
                    f"--config: {key}", value, f"no such option{f', perhaps {near[0][2:]}' if near else ''}"
                )
            values = value if isinstance(value, list) else [value]
            if isinstance(value, dict):
                values = [f"{name}={each}" for name, each in value.items()]
            takes = options[option].nargs
            if takes == 0 and not isinstance(value, bool):
                raise input_error(f"--config: {key}", value, "must be true or false")
            if takes not in (0, "?") and isinstance(value, bool):
                raise input_error(f"--config: {key}", str(value).lower(), "must be a value, not true or false")
            if isinstance(value, bool):
                words += [option] * value
            elif value is not None:
                words += [option, *map(str, values)]
        return words


def finish(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fill in the defaults that depend on other options, and check how the options fit together.

    Raises:
        InputError: they do not.
    """
    arguments.kd_temperature = [each for values in arguments.kd_temperature for each in values]
    distils = distilling(arguments)
    for name, value in (STUDENT_RECIPE if distils else TEACHER_RECIPE).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    if not distils:
        for name, nothing in ABOUT_TEACHERS.items():
            if (value := getattr(arguments, name)) != nothing:
                raise input_error(f"--{name.replace('_', '-')}", spaced(value), "needs a teacher: --kd-checkpoint")
    elif len(arguments.smoothing) > 1:
        raise input_error(
            "--smoothing",
            spaced(arguments.smoothing),
            "must be one value beside a teacher: it is the hard-label loss's",
        )
    names, checkpoints = arguments.kd_model_name, arguments.kd_checkpoint
    if names and checkpoints and len(names) not in (1, len(checkpoints)):
        raise input_error(
            "--kd-model-name", spaced(names), f"must be one, or as many as checkpoints: {len(checkpoints)}"
        )
    for name in ("model", "seed", "kd_temperature", "smoothing", "kd_checkpoint"):
        values = getattr(arguments, name) or []
        if len(set(values)) < len(values):
            raise input_error(f"--{name.replace('_', '-')}", spaced(values), "must not repeat a value")
    if not arguments.data_dir.is_dir() and not arguments.dataset_download:
        raise input_error("--data-dir", arguments.data_dir, "must be the directory of the data set")
    if arguments.kd_batch_statistics and arguments.kd_distill_type != "overhaul":
        raise input_error("--kd-batch-statistics", True, "needs --kd-distill-type overhaul")
    if arguments.sched == "multistep" and not arguments.decay_milestones:
        raise input_error("--sched", "multistep", "needs --decay-milestones")
    for name in ("decay_milestones", "scale", "ratio"):
        if (values := getattr(arguments, name) or []) != sorted(values):
            raise input_error(f"--{name.replace('_', '-')}", spaced(values), "must ascend")
    if len(arguments.color_jitter) not in (1, 3, 4):
        raise input_error("--color-jitter", spaced(arguments.color_jitter), "must be one value, 3 or 4")
    if arguments.torchcompile and arguments.torchcompile not in (known := torch.compiler.list_backends(())):
        raise input_error("--torchcompile", arguments.torchcompile, f"must be one of {', '.join(known)}")
    if (folder := arguments.experiment) and (Path(folder).name != folder or folder == ".."):
        raise input_error("--experiment", arguments.experiment, "must be the name of a folder in --output")
    return arguments


def spaced(value: object) -> str:
    """Values as they stand on a command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def distilling(arguments: argparse.Namespace) -> bool:
    """Whether a student is trained."""
    return bool(arguments.kd_model_name or arguments.kd_checkpoint)


def add_data_options(options: argparse.ArgumentParser, required: bool = True) -> None:
    """What the data are and how an image becomes an input, for all commands; ``required``: --data-dir must be given."""
    group = options.add_argument_group("data")
    group.add_argument("--data-dir", type=Path, required=required, metavar="DIR", help="where the data set is")
    group.add_argument(
        "--dataset",
        default="",
        help="timm's name: torch/fashion_mnist, …; lskd/arrays for NumPy files; empty for a folder per class",
    )
    group.add_argument("--train-split", default="train", help="default train")
    group.add_argument("--val-split", default="validation", help="default validation")
    order = group.add_mutually_exclusive_group()
    order.add_argument("--class-map", default="", metavar="FILE", help="class names in the order of their labels")
    order.add_argument(
        "--class-order", choices=CLASS_ORDERS, help="of folders: timm's (default) or torchvision's ImageFolder's"
    )
    group.add_argument("--dataset-download", action="store_true", help="let torchvision download the data set")
    group.add_argument("--input-img-mode", choices=MODES, help="PIL mode of the images; from the channels by default")
    group.add_argument(
        "--max-pixel-value",
        type=number(0, above=True),
        metavar="V",
        help="white in grey images of more than 8 bits (default 65535, of float images 1)",
    )
    group.add_argument("--img-size", type=positive, metavar="N", help="height and width; the model's by default")
    group.add_argument("--input-size", type=positive, nargs=3, metavar="N", help="channels, height and width")
    group.add_argument("--in-chans", type=positive, metavar="N", help="input channels; the model's by default")
    group.add_argument("--mean", type=number(0, 1), nargs="+", help="per channel, of 0 to 1; the model's by default")
    group.add_argument(
        "--std", type=number(0, 1, above=True), nargs="+", help="per channel, of 0 to 1; the model's by default"
    )
    group.add_argument("--interpolation", choices=INTERPOLATIONS, help="of validation images; the model's by default")
    group.add_argument("--crop-pct", type=number(0, 1, above=True), help="part of a validation image that is kept")
    group.add_argument("-vb", "--validation-batch-size", type=positive, metavar="N", help="as --batch-size by default")
    group.add_argument(
        "-j", "--workers", type=whole, default=4, help="loader processes (default 4); 0: no other process"
    )
    group.add_argument("--pin-mem", action="store_true", help="pin the loader's memory, for GPUs")


def add_device_options(options: argparse.ArgumentParser) -> None:
    """Where and in which precision; shared with ``lskd_vision.validate``."""
    group = options.add_argument_group("device")
    group.add_argument("--device", help="cuda or cpu; a GPU where there is one by default")
    group.add_argument("--channels-last", action="store_true", help="channels_last memory layout")
    group.add_argument("--amp", action="store_true", help="mixed precision; the loss stays in float32")
    group.add_argument("--amp-dtype", choices=("float16", "bfloat16"), default="float16", help="default float16")


def parser() -> Parser:
    """The command line of ``lskd_vision.train``."""
    options = Parser(
        prog="lskd_vision.train", description=__doc__.split("\n")[0], allow_abbrev=False, argument_default=None
    )
    options.add_argument("-c", "--config", type=Path, metavar="FILE", help="YAML file of these options")
    add_data_options(options)

    group = options.add_argument_group("model")
    group.add_argument("--model", nargs="+", default=["resnet50"], help="timm's name, or several (default resnet50)")
    group.add_argument(
        "--model-kwargs",
        nargs="*",
        type=assignment,
        default={},
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
    group.add_argument("--model-ema-decay", type=number(0, 1), default=0.9998, help="default 0.9998")
    group.add_argument("--model-ema-warmup", action="store_true", help="smaller decay at the beginning")

    group = options.add_argument_group("distillation")
    group.add_argument("--kd-model-name", nargs="+", metavar="MODEL", help="the teacher's model; from its checkpoint")
    group.add_argument(
        "--kd-checkpoint", nargs="+", type=Path, metavar="FILE", help="the teacher's weights, or several"
    )
    group.add_argument(
        "--kd-temperature",
        nargs="+",
        type=functools.partial(temperatures, number=number(0, above=True)),
        default=[[1.0]],
        metavar="T",
        help="T (default 1), or several; or the file of `lskd match-temperature --output`",
    )
    group.add_argument(
        "--kd-student-temperature", type=number(0, above=True), help="as T by default; 1: only the teacher"
    )
    group.add_argument(
        "--task-loss-weight", type=number(0, 1), default=0.0, help="weight 1-β of the hard-label loss (default 0)"
    )
    group.add_argument("--smoothing", nargs="+", type=number(0, 0.999), default=[0.0], help="label smoothing α (0)")
    group.add_argument(
        "--kd-distill-type", choices=("logit", "overhaul"), default="logit", help="overhaul: also features (Heo et al.)"
    )
    group.add_argument(
        "--kd-batch-statistics", action="store_true", help="overhaul: the teacher's BatchNorm in train mode"
    )

    group = options.add_argument_group("optimisation")
    group.add_argument("--epochs", type=positive, help="default 90, of a student 200")
    group.add_argument("-b", "--batch-size", type=positive, default=256, help="images a process and step (default 256)")
    group.add_argument("--grad-accum-steps", type=positive, default=1, help="batches for one update (default 1)")
    group.add_argument("--opt", default="momentum", help="default momentum: SGD without Nesterov")
    group.add_argument("--opt-eps", type=number(0, above=True))
    group.add_argument("--opt-betas", type=number(0, 1), nargs="+")
    group.add_argument("--momentum", type=number(0, 1), default=0.9, help="default 0.9")
    group.add_argument("--weight-decay", type=number(0), default=1e-4, help="default 1e-4")
    group.add_argument(
        "--filter-bias-and-bn", action="store_true", help="no decay of biases and BatchNorm; the paper decays all"
    )
    group.add_argument("--clip-grad", type=number(0, above=True), help="no clipping by default")
    group.add_argument("--clip-mode", choices=("norm", "value", "agc"), default="norm", help="default norm")
    group.add_argument("--lr", type=number(0, above=True), default=0.1, help="learning rate (default 0.1)")
    group.add_argument("--sched", choices=SCHEDULES, default="step", help="default step")
    group.add_argument("--sched-on-updates", action="store_true", help="every update instead of every epoch")
    group.add_argument("--decay-milestones", type=positive, nargs="+", metavar="EPOCH", help="for multistep")
    group.add_argument("--decay-epochs", type=number(0, above=True), help="for step; default 30, of a student 80")
    group.add_argument("--decay-rate", type=number(0, 1), default=0.1, help="default 0.1")
    group.add_argument("--warmup-epochs", type=whole, help="linear warm-up; default 0, of a student 5")
    group.add_argument("--warmup-lr", type=number(0), default=1e-5, help="where it begins (default 1e-5)")
    group.add_argument("--min-lr", type=number(0), default=0.0, help="where cosine ends (default 0)")

    group = options.add_argument_group("augmentation; timm's, RandomResizedCrop and a flip by default")
    group.add_argument("--no-aug", action="store_true", help="none")
    group.add_argument("--train-crop-mode", choices=("rrc", "rkrc", "rkrr"), help="default rrc")
    group.add_argument("--scale", type=number(0, above=True), nargs=2, default=[0.08, 1.0], help="default 0.08 1")
    group.add_argument("--ratio", type=number(0, above=True), nargs=2, default=[3 / 4, 4 / 3], help="default 3/4 4/3")
    group.add_argument("--hflip", type=number(0, 1), default=0.5, help="default 0.5")
    group.add_argument("--vflip", type=number(0, 1), default=0.0, help="default 0")
    group.add_argument("--rotation", type=number(0, 180), default=0.0, help="degrees to either side (default 0)")
    group.add_argument(
        "--color-jitter", type=number(0), nargs="+", default=[0.0], help="one, or brightness, contrast, saturation"
    )
    group.add_argument("--grayscale-prob", type=number(0, 1), default=0.0, help="default 0")
    group.add_argument("--aa", metavar="POLICY", help="AutoAugment, RandAugment, …, in timm's words")
    group.add_argument("--reprob", type=number(0, 1), default=0.0, help="random erasing (default 0)")
    group.add_argument("--remode", choices=("const", "rand", "pixel"), default="pixel", help="default pixel")
    group.add_argument("--recount", type=positive, default=1, help="default 1")
    group.add_argument(
        "--train-interpolation", choices=(*INTERPOLATIONS, "random"), default="bilinear", help="default bilinear"
    )

    add_device_options(options)
    group = options.add_argument_group("run")
    group.add_argument("--seed", type=whole, nargs="+", default=[42], help="of weights and dropout (default 42)")
    group.add_argument("--data-seed", type=whole, default=42, help="of order and augmentation (default 42)")
    group.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="default runs")
    group.add_argument("--experiment", metavar="NAME", help="folder in --output; the data set's name by default")
    group.add_argument("--resume", action="store_true", help="go on from the checkpoints in the run directories")
    group.add_argument("--group-size", type=positive, metavar="N", help="models trained at once; what fits by default")
    group.add_argument(
        "--torchcompile", nargs="?", const="inductor", metavar="BACKEND", help="torch.compile (backend inductor)"
    )
    group.add_argument("--log-tensorboard", action="store_true", help="TensorBoard files in the run directories")
    group.add_argument("--log-wandb", action="store_true", help="Weights & Biases; the key comes from the environment")
    group.add_argument("--wandb-project", default="lskd", help="default lskd")
    return options
