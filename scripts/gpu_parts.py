"""The parts of ``scripts/gpu_check.py``: each a function that yields rows as they are measured."""

import contextlib
import io
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from bench_loss import Inputs, extra_memory, implementations, make_inputs, naive_loss, with_gradient
from side_by_side import median_ratio, seconds_in_turns

from lskd.commands.workflow import DataScript
from lskd.loss.distillation import distillation_loss
from lskd.loss.reference import reference_loss, teacher_distribution
from lskd.records.nonfinite_batch import NAME
from lskd.records.runs import read_run

# Limits of the gradient's relative error: its own rounding. Small numbers of float16 have fewer digits than its others.
ROUNDING = {"float32": 2.0**-17, "bfloat16": 2.0**-8, "float16": 2.0**-8}
VALUE = 1e-4  # of the loss
RUNS = math.inf  # the limit of a time: any number passes, NaN, which marks a failure, does not


@dataclass(frozen=True)
class Row:
    """A check, or without a limit a measurement.

    Attributes:
        check: what is measured.
        setting: of what.
        value: a number, NaN if it is not finite.
        limit: the largest value that passes; None if any does.
    """

    check: str
    setting: str
    value: float
    limit: float | None = None

    @property
    def passed(self) -> bool:
        """Whether it is a measurement, or a check that passes."""
        return self.limit is None or self.value <= self.limit

    def line(self) -> str:
        """The row as a line of the table."""
        limit, passed = ("", "") if self.limit is None else (f"{self.limit:.3g}", "yes" if self.passed else "no")
        return f"{self.check},{self.setting},{self.value:.4g},{limit},{passed}"


@dataclass(frozen=True)
class Size:
    """Where, and how much.

    Attributes:
        device: ``cuda`` or ``cpu``.
        small: the smallest size of everything.
    """

    device: str
    small: bool

    @property
    def shapes(self) -> tuple[str, ...]:
        """Tokens by vocabulary of translation, images by classes of ImageNet."""
        return ("32x300", "16x100") if self.small else ("4096x10000", "4096x32000", "256x1000")

    @property
    def compilers(self) -> tuple[bool, ...]:
        """Without and with torch.compile, which takes too long for a small check."""
        return (False,) if self.small else (False, True)


def accuracy(size: Size) -> Iterator[Row]:
    """Relative errors of loss and gradient against the reference in float64; the naive loss's are measurements."""
    for shape in size.shapes:
        rows = shape if size.small else f"512x{shape.partition('x')[2]}"  # float64 takes 8 times the memory, 10 times
        for precision, limit in ROUNDING.items():
            inputs = make_inputs(rows, getattr(torch, precision), torch.device(size.device))
            student, teacher, target = inputs
            for temperature in (1.0, 64.0):
                wide = student.detach().double().requires_grad_()
                p_t = teacher_distribution([teacher], temperature)
                expected = reference_loss(wide, p_t, target, student_temperature=temperature).loss
                expected.backward()
                ways = {"naive": lambda given, T: naive_loss(given.student, given.teacher, T)}
                ways |= {"compiled" if compiled else "eager": ours(compiled) for compiled in size.compilers}
                for way, loss in ways.items():
                    value = loss(inputs, temperature)
                    (gradient,) = torch.autograd.grad(value, student)
                    of, limits = f"{way} {rows} {precision} T = {temperature:g}", (VALUE, limit)
                    limits = (None, None) if way == "naive" else limits
                    yield Row("relative error of the loss", of, relative(value.double(), expected.detach()), limits[0])
                    yield Row("relative error of the gradient", of, relative(gradient.double(), wide.grad), limits[1])


def ours(compiled: bool) -> Callable[[Inputs, float], torch.Tensor]:
    """Our loss of inputs at a temperature, with or without torch.compile."""
    return lambda given, T: distillation_loss(*given, temperature=T, compiled=compiled).loss


def relative(found: torch.Tensor, expected: torch.Tensor | None) -> float:
    """‖found − expected‖ / ‖expected‖."""
    assert expected is not None
    return ((found - expected).norm() / expected.norm()).item()


def speed(size: Size) -> Iterator[Row]:
    """Time and memory of the loss with its gradient by ``bench_loss.py``, ratios to the naive one."""
    precisions = ("float32",) if size.small else ("bfloat16", "float16")
    for shape in size.shapes:
        for precision in precisions if shape != "4096x32000" else precisions[:1]:
            inputs = make_inputs(shape, getattr(torch, precision), torch.device(size.device))
            losses = implementations(inputs, 2.0)
            losses = {way: loss for way, loss in losses.items() if not size.small or "compiled" not in way}
            runs = {way: with_gradient(loss, inputs.student) for way, loss in losses.items()}
            seconds = seconds_in_turns(runs, 2 if size.small else 15, shape)
            for way, values in seconds.items():
                of = f"{way} {shape} {precision} T = 2"
                yield Row("ms of loss and gradient", of, 1000 * statistics.median(values))
                yield Row("ratio to naive", of, median_ratio(seconds, way, "naive"))
                logits = inputs.student.numel() * inputs.student.element_size()
                yield Row("extra memory over logits", of, extra_memory(runs[way], torch.device(size.device)) / logits)


def images(size: Size) -> Iterator[Row]:
    """Trainings of images: with a loss scaler, students at once and one after another, and a non-finite loss."""
    from lskd_vision import options, train

    with tempfile.TemporaryDirectory() as place:
        data, runs = Path(place) / "letters", Path(place) / "runs"
        prepare("letters", f"--fonts {3 if size.small else 48} --validation-fonts 2 --dest {data}")
        common = f"--data-dir {data} --dataset lskd/arrays --in-chans 1 --img-size 32 --crop-pct 1 --mean 0.1"
        common += f" --std 0.25 --hflip 0 --color-jitter 0 --workers 0 --device {size.device} --opt momentum"
        common += f" --warmup-epochs 0 --output {runs} --model {'test_resnet' if size.small else 'resnet18'}"
        common += f" --batch-size 64 --epochs {1 if size.small else 3}"

        def trained(study: str, words: str = "--lr 0.05", status: int = 0) -> float:
            words = f"{common} --experiment {study} {words}"
            return seconds_of(lambda: train.main(options.parser().parse_args(words.split())), study, status)

        yield Row("seconds of a training", "teacher float32", trained("teacher", "--lr 0.05 --smoothing 0.1"), RUNS)
        (teacher,) = (runs / "teacher").glob("*/last.pth.tar")
        student = f"--kd-checkpoint {teacher} --seed 1 --lr"
        precisions = {"float32": "", "float16": "--amp", "bfloat16": "--amp --amp-dtype bfloat16"}
        for name, words in list(precisions.items())[: 2 if size.small else 3]:
            yield Row("seconds of a training", f"student {name}", trained(name, f"{student} 0.05 {words}"), RUNS)
            yield Row("loss", f"student {name}", last(runs / name, "train_loss"), RUNS)
            yield Row("top-1", f"student {name}", last(runs / name, "valid_top1"), RUNS)
        temperatures, amp = (("1", "3"), "") if size.small else (("1", "2", "3", "64"), "--amp")
        words = f"{student} 0.05 {amp} --kd-temperature"
        together = trained("together", f"{words} {' '.join(temperatures)}")
        alone = sum(trained(f"alone{T}", f"{words} {T}") for T in temperatures)
        ratio = together / alone
        yield Row("students at once / one after another", f"time of {len(temperatures)} students", ratio, RUNS)
        yield from nonfinite(trained("nan", f"{student} 1e30", status=1), runs / "nan", "images")


def translation(size: Size) -> Iterator[Row]:
    """Trainings of translation: of a cached teacher, with a non-finite loss, and in half precision."""
    from lskd_fairseq import cache_teacher

    with tempfile.TemporaryDirectory() as place:
        data, runs, cache = (Path(place) / name for name in ("data", "runs", "cache"))
        some = "--max-pairs 300 --max-words 8 --vocab-size 200" if size.small else "--vocab-size 10000"
        prepare("libreoffice_help", f"--pair en-de {some} --dest {data}")
        cpu = " --cpu" * (size.device == "cpu")
        common = f"{data} --user-dir {Path(cache_teacher.__file__).parent} --arch transformer --share-all-embeddings"
        for side in ("encoder", "decoder"):
            width, inner = (8, 16) if size.small else (512, 1024)
            common += f" --{side}-embed-dim {width} --{side}-ffn-embed-dim {inner} --{side}-layers 2"
            common += f" --{side}-attention-heads 2"
        common += f" --optimizer adam --dropout 0 --seed 1 --num-workers 0 --no-epoch-checkpoints{cpu}"
        common += " --required-batch-size-multiple 1"
        common += f" --max-tokens {1000 if size.small else 4096} --max-epoch 1"

        def trained(name: str, words: str, status: int = 0) -> float:
            words = f"{common} --save-dir {runs / name} {words}"
            return seconds_of(lambda: fairseq_train(words.split()), name, status)

        smoothed = "--criterion label_smoothed_cross_entropy --label-smoothing 0.1 --lr 1e-3"
        yield Row("seconds of a training", "teacher float32", trained("teacher", smoothed), RUNS)
        teacher = runs / "teacher" / "checkpoint_last.pt"
        kd, given = "--criterion kd --temperature 2 --lr", f"--teacher-path {teacher}"
        whole = trained("float32", f"{kd} 1e-3 {given}")
        yield Row("seconds of a training", "student float32", whole, RUNS)
        words = f"--data {data} --path {teacher} --dest {cache}{cpu}".split()
        stored = seconds_of(lambda: cache_teacher.main(cache_teacher.parser().parse_args(words)), "cache")
        yield Row("seconds to store the teacher", "float16 features", stored, RUNS)
        cached = trained("cached", f"{kd} 1e-3 --teacher-cache {cache}")
        yield Row("time with a cached teacher / with its forward pass", "student float32", cached / whole, RUNS)
        expected = last(runs / "float32", "valid_loss")
        difference = abs(last(runs / "cached", "valid_loss") / expected - 1)
        yield Row("relative difference of the validation loss", "cached teacher", difference, 0.01)
        yield from nonfinite(trained("nan", f"{kd} 1e30 {given}", status=1), runs / "nan", "translation")
        for name in () if cpu else ("fp16", "amp", "bf16"):  # fairseq's need a GPU
            yield Row("seconds of a training", f"student {name}", trained(name, f"{kd} 1e-3 {given} --{name}"), RUNS)
            difference = abs(last(runs / name, "valid_loss") / expected - 1)
            yield Row("relative difference of the validation loss", f"student {name}", difference, 0.05)


def seconds_of(run: Callable[[], object], name: str, status: int = 0) -> float:
    """The seconds that a command takes; NaN, with the reason on standard error, if it ends with another status."""
    began = time.perf_counter()
    with quiet() as said:
        try:
            ended = run() or 0
        except Exception as error:  # a measurement that fails is a row like others
            ended = f"{type(error).__name__}: {error}"
    if ended != status:
        print(f"{name}: ended with {ended}, not {status}: {said.getvalue()[-300:]}", file=sys.stderr)
    return time.perf_counter() - began if ended == status else math.nan


def last(directory: Path, metric: str) -> float:
    """A metric of the last epoch of the run in a directory or the one below it; NaN if there is none."""
    places = [directory, *(directory.iterdir() if directory.is_dir() else [])]
    records = [record for place in places if place.is_dir() and (record := read_run(place)) and record.history]
    return records[0].history[-1].get(metric, math.nan) if records else math.nan


def nonfinite(seconds: float, directory: Path, of: str) -> Iterator[Row]:
    """The row of a training whose loss became non-finite, which must end with status 1 and leave the batch."""
    kept = any(directory.rglob(NAME))
    yield Row("seconds until a non-finite loss ends a training", of, seconds if kept else math.nan, RUNS)


def prepare(script: str, words: str) -> None:
    """Prepare data that ship with the project."""
    module = DataScript(script, "").load()
    with quiet():
        module.main(module.parser().parse_args(words.split()))


def fairseq_train(words: list[str]) -> object:
    """The exit status of ``fairseq-train`` with these words."""
    from fairseq_cli.train import cli_main

    with mock.patch.object(sys, "argv", ["fairseq-train", *words]), quiet():
        try:
            cli_main()
        except SystemExit as ended:
            return ended.code
    return 0


@contextlib.contextmanager
def quiet() -> Generator[io.StringIO]:
    """Keep what is printed."""
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        yield said
