"""The page of experiments: measured tables beside the published ones, redrawn figures, and our own studies."""

import os

from lskd.paper.results import Result
from lskd.report.contents import Experiment, StudySummary, read_contents
from lskd.report.elements import Section
from lskd.report.rendering import render
from lskd.report.sections.experiment_drawing import experiment_drawing_section
from lskd.report.sections.experiment_table import MEASURED_DIGITS, experiment_table_section
from lskd.report.sections.overview import overview_section
from lskd.report.sections.runs import runs_section
from lskd.report.sections.study import study_section


def experiments_page(path: str | os.PathLike[str]) -> str:
    """The HTML of the page of the experiments listed in a file.

    Args:
        path: FILE.json of `lskd report --contents`, see :func:`lskd.report.contents.read_contents`.

    Raises:
        InputError: the file, or a file that it names, is not valid.
    """
    contents = read_contents(path)
    sections: list[Section] = [overview_section(contents, MEASURED_DIGITS)]
    sections += [_experiment_section(each) for each in contents.experiments]
    if contents.runs:
        sections.append(runs_section("How each run was made", contents.runs))
    return render(
        "experiments_page.html",
        sections,
        title=contents.title,
        introduction=contents.intro,
        drawing_word="Drawing",
    )


def _experiment_section(experiment: Experiment) -> Section:
    if isinstance(experiment.outcome, Result):
        return experiment_table_section(experiment, experiment.outcome)
    if isinstance(experiment.outcome, StudySummary):
        return study_section(experiment, experiment.outcome)
    return experiment_drawing_section(experiment, experiment.outcome)
