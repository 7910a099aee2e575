"""Lay out measured results like a table of the paper, and print both.

TABLE determines what is read from the inputs: from run directories, validation accuracy of the last epoch or test BLEU
of the best checkpoint; from JSON files, what `lskd eta`, `lskd entropy`, `lskd accuracy --classes` and `lskd similar
--agreement` wrote. Runs that differ only in their seed are one result: mean ± standard deviation (n). `lskd report
--contents` shows what --output writes.
"""

import argparse

from lskd.commands.published import text_grid
from lskd.io.argument_types import output_file
from lskd.io.output import shown_anyway
from lskd.paper.command_files import is_result
from lskd.paper.measured import VALID, measure
from lskd.paper.published import MODELS, SOURCE, published, tables
from lskd.paper.results import Result, write_result
from lskd.paper.table_layout import constants
from lskd.records.inputs import find_inputs, say_skipped
from lskd.report.origins import described

EXAMPLE = "lskd compare 2B runs/cub200/* --as mobilenetv2_100=ResNet-18 --output 2B.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd compare``."""
    parser.add_argument("table", metavar="TABLE", help="such as 2A, H.2 or I.3; `lskd published` lists them")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="runs, representation files, directories of either, JSON files that lskd's commands wrote",
    )
    parser.add_argument(
        "--as",
        nargs="+",
        action="extend",
        default=[],
        type=_stand_in,
        dest="stand_ins",
        metavar="NAME=PAPER",
        help="the paper's model that a student stands for, as in test_resnet=ResNet-18",
    )
    parser.add_argument("--scale", metavar="NAME", help="the scale of these experiments, as in mini")
    parser.add_argument("--title", help="of the table (default: the paper's)")
    parser.add_argument(
        "--note", nargs="+", action="extend", default=[], metavar="TEXT", help="notes for readers, a string each"
    )
    parser.add_argument("--output", type=output_file(".json"), metavar="FILE.json", help="the measured results")


def run(arguments: argparse.Namespace) -> None:
    """Measure, write, and print the two tables."""
    measurements, notes = measure(arguments.table, arguments.inputs, dict(arguments.stand_ins))
    say_skipped(find_inputs("INPUT", arguments.inputs, VALID, is_result).skipped)
    printed = published(arguments.table)
    result = Result(
        arguments.table,
        arguments.title or tables()[arguments.table],
        arguments.scale,
        [*arguments.note, *notes],
        [str(each) for each in arguments.inputs],
        measurements,
    )
    scale = f", scale {result.scale}" if result.scale else ""
    with shown_anyway(
        f"{result.title}\nmeasured{scale}: {described(measurements)}",
        text_grid(measurements, printed),
        f"Table {result.table} ({SOURCE}): {constants(printed)}",
        text_grid(printed),
        *(["\n".join(result.notes)] if result.notes else []),
    ):
        if arguments.output:
            write_result(arguments.output, result)


def _stand_in(text: str) -> tuple[str, str]:
    name, _, paper = text.rpartition("=")
    if not name or paper not in MODELS.values():
        known = ", ".join(dict.fromkeys(MODELS.values()))
        raise argparse.ArgumentTypeError(f"{text} (must be NAME=PAPER, PAPER one of {known})")
    return name, paper
