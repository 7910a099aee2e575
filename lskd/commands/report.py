"""Write the results of runs to one HTML page: tables beside the paper's, drawings, how each was made.

Runs are found by their run.json, also in directories below those named. η, projections and entropies are made from the
representation files beside the checkpoints; where there are none the page says which command makes them. Instead of
runs, --contents names experiments: what `lskd compare` measured of each table beside what the paper printed, and
drawings. The page needs nothing but itself: no network, no scripts.
"""

import argparse

from lskd.io.argument_types import number, output_file
from lskd.io.errors import input_error
from lskd.io.files import write_text
from lskd.records.inputs import find_inputs, say_skipped
from lskd.report.experiments_page import experiments_page
from lskd.report.options import Options
from lskd.report.runs_page import runs_page

EXAMPLE = "lskd report runs/demo --output report.html --sets runs/demo/*/sets.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd report``."""
    parser.add_argument("runs", nargs="*", metavar="RUNS", help="run directories, or directories above them")
    parser.add_argument(
        "--contents", metavar="FILE.json", help="instead of RUNS: the experiments of the page, and their files"
    )
    parser.add_argument(
        "--output", type=output_file(".html", ".htm"), required=True, metavar="FILE.html", help="the page"
    )
    parser.add_argument(
        "--sets",
        nargs="+",
        default=[],
        metavar="FILE.json",
        help="S1 and S2 of η's targets, as `lskd similar` writes them; each is used where its classes are",
    )
    parser.add_argument(
        "--classes",
        nargs=3,
        metavar=("A", "B", "C"),
        help="of the projection: two similar classes, then a dissimilar one (default: by --sets, or the teacher)",
    )
    for name, which, default in (("--first", "lower", Options.first), ("--second", "higher", Options.second)):
        about = f"{which} T of η (default: {default:g})"
        parser.add_argument(name, type=number(0, above=True), default=default, metavar="T", help=about)
    parser.add_argument("--title", default=Options.title, metavar="TEXT", help=f"(default: {Options.title})")
    parser.add_argument("--introduction", default="", metavar="TEXT", help="a paragraph below the title")


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    if arguments.contents:
        _only_contents(arguments)
        text = experiments_page(arguments.contents)
    else:
        text = _runs_page(arguments)
    write_text(arguments.output, text)
    print(f"{arguments.output}, {arguments.output.stat().st_size / 1e6:.1f} MB")


def _only_contents(arguments: argparse.Namespace) -> None:
    """Raise InputError for arguments that the page of experiments does not use."""
    if arguments.runs:
        raise input_error("--contents", arguments.contents, "must be without RUNS: its file names the runs")
    defaults = {"sets": [], "classes": None, "first": Options.first, "second": Options.second}
    defaults |= {"title": Options.title, "introduction": Options.introduction}
    for name, default in defaults.items():
        if getattr(arguments, name) != default:
            raise input_error(f"--{name}", getattr(arguments, name), "is for RUNS, must not be with --contents")


def _runs_page(arguments: argparse.Namespace) -> str:
    if not arguments.runs:
        raise input_error("RUNS", "none", "must be run directories, or there must be --contents")
    names = ("sets", "classes", "first", "second", "title", "introduction")
    page = runs_page(arguments.runs, Options(**{name: getattr(arguments, name) for name in names}))
    found = find_inputs("runs", arguments.runs, "must hold runs")
    say_skipped([*found.skipped, *found.representations], "not a run")
    return page
