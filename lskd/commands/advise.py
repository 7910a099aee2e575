"""Advise at which temperature to distil a teacher, from its outputs, your own runs and what others measured.

The answer has five parts: was the teacher smoothed; what its outputs are at each temperature, and which temperatures
begin with small gradients; what your own runs show; what this project and the paper measured; what to run next. Each
says what it rests on. TEACHER is a file of `lskd vision representations` or `lskd nmt representations`, or a run with
such files; RUNS are students, of this teacher or of others, and models without a teacher. Several files have an
answer each.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lskd.commands.advice import Advice, measured_part, outputs_part, runs_part, smoothing_part
from lskd.commands.advice_conclusion import conclusion
from lskd.commands.advice_in_words import in_words
from lskd.commands.advice_next import next_part
from lskd.commands.file_logits import FileLogits
from lskd.io.errors import InputError, error_context, input_error
from lskd.io.files import json_text
from lskd.io.temperatures import add_temperatures
from lskd.measure.class_sets import read_origin
from lskd.measure.recorded_smoothing import Smoothing
from lskd.measure.representations import Representations, read_representations
from lskd.records.found_runs import Run, find_runs
from lskd.records.inputs import SUFFIX

EXAMPLE = "lskd advise runs/imagenet/resnet50_a0.1_s42/last.validation.representations.safetensors runs/imagenet"
SAMPLES = 20_000  # evenly spaced; more than enough
VALID = "must be a file that `lskd vision representations` or `lskd nmt representations` wrote, or a run with one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd advise``."""
    parser.add_argument("teacher", metavar="TEACHER", type=Path, help="a teacher's representation file, or its run")
    parser.add_argument(
        "runs",
        nargs="*",
        default=[],
        metavar="RUNS",
        help="runs, or directories above them; or further teachers' files",
    )
    add_temperatures(parser, [1, 2, 3, 4, 64], "at which to evaluate the outputs")
    parser.add_argument(
        "--sets", type=Path, metavar="FILE", help="S1 and S2, of `lskd similar --output`: adds η of RUNS"
    )
    parser.add_argument("--json", action="store_true", help="print the answers as JSON, a list")


def run(arguments: argparse.Namespace) -> None:
    """Print the answer."""
    others = [place for place in arguments.runs if place.endswith(SUFFIX)]
    places = [place for place in arguments.runs if place not in others]
    if arguments.sets and not places:
        raise input_error("--sets", arguments.sets, "must be with RUNS, whose η it is for")
    if arguments.sets:
        read_origin(arguments.sets)  # an invalid file is an error before others are read
    teachers = [(path, read_representations(path)) for path in [teacher_file(arguments.teacher), *map(Path, others)]]
    runs = find_runs(places) if places else []
    answers = [advise(*each, runs, arguments.temperatures, arguments.sets) for each in teachers]
    if arguments.json:
        print(json_text(answers), end="")
    else:
        print("\n\n\n".join(map(in_words, answers)))


def teacher_file(place: Path) -> Path:
    """The representation file for a path: the path itself, or a run's file, of the validation split if there is one.

    Raises:
        InputError: there is none.
    """
    if place.name.endswith(SUFFIX):
        return place
    found = []
    if place.is_dir() and (place / "run.json").exists():
        (run,) = find_runs([place])
        found = sorted(run.representations(), key=lambda each: ".train." in each.name)
    if not found:
        raise input_error("TEACHER", place, VALID + _how(place))
    return found[0]


def _how(place: Path) -> str:
    """The command that makes a representation file of a checkpoint, or of a run's; empty for anything else."""
    if place.is_dir():
        place = next(
            (place / name for name in ("last.pth.tar", "checkpoint_best.pt") if (place / name).exists()), place
        )
    if not place.is_file():
        return ""
    if place.suffix == ".pt":
        return f": `lskd nmt representations --data DATA-BIN --path {place}`"
    return f": `lskd vision representations {place} --data-dir DIR`"


def advise(
    path: Path,
    teacher: Representations,
    runs: Sequence[Run],
    temperatures: Sequence[float],
    sets: Path | None = None,
) -> Advice:
    """The whole answer of ``lskd advise`` for one teacher, as plain values.

    Args:
        path: path of the teacher's file.
        teacher: its content.
        runs: the students' runs; may be empty.
        temperatures: temperatures of the measures of the outputs.
        sets: a file of S1 and S2, for η of the runs.

    Raises:
        InputError: a file is not valid.
    """
    thinned = teacher.thinned(SAMPLES)
    logits, reason = None, ""
    try:
        logits = FileLogits(str(path), thinned)
    except InputError as error:  # no last layer or no features: there is advice without outputs
        reason = str(error)
    with error_context(str(path)):
        smoothing = Smoothing.of(teacher.provenance, logits, reason)
        outputs = outputs_part(teacher, thinned, logits, temperatures, reason)
    own = runs_part(teacher, runs, sets)
    found: Advice = {
        "teacher": {"file": str(path), "model": teacher.provenance.get("model"), "data": data_path(teacher)},
        "smoothing": smoothing_part(smoothing),
        "outputs": outputs,
        "runs": own,
        "measured": measured_part(smoothing.smoothed, teacher),
        "next": next_part(path, teacher, runs, outputs, own),
    }
    return {"advice": conclusion(found)} | found


def data_path(teacher: Representations) -> str | None:
    """The path of the data from which a file was made; None if unknown."""
    return (teacher.provenance.get("data") or {}).get("path")
