"""The page of runs: claims in words, α × T tables beside the paper's, drawings, and how each result was made.

It is made from run records and, if there are any, the representation files beside checkpoints. The same input gives the
same bytes.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial

from lskd.io.errors import InputError, input_error
from lskd.records.found_runs import find_runs
from lskd.records.studies import group
from lskd.report.claims import Claims
from lskd.report.elements import Section
from lskd.report.measured_eta import Diffusion, measure_diffusion
from lskd.report.options import Options
from lskd.report.rendering import render
from lskd.report.representation_files import RepresentationFiles
from lskd.report.sections.accuracy import accuracy_section
from lskd.report.sections.class_accuracy import class_accuracy_section
from lskd.report.sections.diffusion import diffusion_section
from lskd.report.sections.entropy import entropy_section
from lskd.report.sections.measures import measures_section
from lskd.report.sections.projection import projection_section
from lskd.report.sections.runs import runs_section
from lskd.report.sections.side_by_side import side_by_side_section


def runs_page(places: Sequence[str | os.PathLike[str]], options: Options | None = None) -> str:
    """The HTML of the page.

    Args:
        places: run directories, or directories above them.
        options: see :class:`lskd.report.options.Options`.

    Raises:
        InputError: no run, a record or a representation file cannot be read, or sets or classes fit no study.
    """
    options = options or Options()
    runs = find_runs(places)
    studies = [RepresentationFiles(study) for study in group(runs)]
    _check_options(studies, options)
    etas = [(files, measure_diffusion(files, options)) for files in studies]
    change = f"T\u00a0=\u00a0{options.first:g} → {options.second:g}"
    side_by_side = side_by_side_section([files.study for files in studies])
    sections: list[Section] = [side_by_side] if side_by_side else []
    sections += [_study_section(files, options, eta) for files, eta in etas]
    introduction = "Below each table and drawing are the files it was made from. These are the runs:"
    sections.append(runs_section("How each result was made", runs, introduction))
    return render(
        "runs_page.html",
        sections,
        title=options.title,
        introduction=options.introduction,
        answer=Claims([(files.study, eta) for files, eta in etas], change).answer(),
        drawing_word="Figure",
    )


def _study_section(files: RepresentationFiles, options: Options, eta: Diffusion) -> Section:
    """The section of one study; parts with nothing to show are left out."""
    parts = [
        accuracy_section(files.study),
        diffusion_section(files, options, eta),
        projection_section(files, options),
        entropy_section(files),
        measures_section(files),
        class_accuracy_section(files.study, options.first),
    ]
    return Section(title=files.study.title, parts=[part for part in parts if part is not None])


def _check_options(studies: Sequence[RepresentationFiles], options: Options) -> None:
    """Check that each file of sets, and the classes, fit a study; for the others the page says what is missing."""
    with_files = [files for files in studies if files.paths]
    for path in options.sets:
        _check_option("--sets", path, [partial(files.given_sets, path) for files in with_files])
    if options.classes is not None:
        reads = [partial(files.given_classes, options.classes) for files in with_files]
        _check_option("--classes", " ".join(options.classes), reads)


def _check_option(name: str, value: object, reads: Sequence[Callable[[], object]]) -> None:
    """Check that at least one of ``reads``, which has one for each study with files, succeeds."""
    if not reads:
        raise input_error(name, value, "must have representation files to be used on: none is beside these runs")
    errors = []
    for read in reads:
        try:
            read()
        except InputError as error:
            errors.append(error)
    if len(errors) == len(reads):
        raise errors[0]
