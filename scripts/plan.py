"""Plan the jobs of experiments: what `lskd reproduce` hands to snakemake, and the summary that it prints first.

    python scripts/plan.py 2A 3 --scale mini              # prints a summary, writes nothing
    python scripts/plan.py 2A 3 --scale mini --write      # writes OUTPUT/plan.json, which the Snakefile reads

A plan is the union of the jobs of its experiments: each model is trained once, however many tables show it.
"""

import argparse
import functools
import importlib.util
import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from definitions import ROOT, Experiment, chosen, read_experiments
from jobs import SOURCE, Job, first_seeds_first
from measurements import Measurements, students_of
from models import Models
from scale_definitions import Scale, check_fits, read_scale
from study import measure_study

from lskd.io.argument_types import positive
from lskd.io.errors import OneLineParser, input_error, not_installed, run_command
from lskd.io.files import write_json
from lskd.records.runs import read_run, training_time

KINDS = {
    "prepare": "prepare data",
    "teacher": "train from labels",
    "cache": "cache teachers",
    "student": "distil students",
    "score": "score translations",
    "representations": "record representations",
    "measure": "measure, draw, compare",
    "report": "make pages",
}
# For each extra: how the commands that need it begin, and what it installs.
PACKAGES = {
    "vision": (("lskd_vision",), ("torch", "timm")),
    "nmt": (("fairseq", "lskd_fairseq"), ("torch", "fairseq")),
    "report": (("report",), ("matplotlib", "jinja2")),
}
INTRO = {
    "paper": "Everything on this page was trained with the paper's recipe on the paper's data.",
    "mini": "Everything on this page was trained on the small data that ship with the project, in minutes, unless an "
    "experiment names another model: it shows that every experiment runs. The paper's results are there to be read "
    "beside ours, not to be met.",
}
STUDIES_INTRO = {
    "paper": "Students on the paper's data; each study says in what their training differs from the paper's recipe.",
    "mini": "Students on the small data that ship with the project, trained in minutes.",
    "studies": "Students on the small data that ship with the project, trained in minutes; each seed with a teacher of "
    "its own.",
}


class Page(NamedTuple):
    """What the page of a plan's results is made from.

    Attributes:
        path: of the file with the contents, relative to the checkout or absolute.
        contents: as `lskd report --contents` reads them.
    """

    path: str
    contents: dict[str, Any]


shipped_experiments = functools.cache(read_experiments)


def make_plan(
    experiments: Sequence[Experiment],
    scale: Scale,
    output: str,
    seeds: int | None = None,
    sources: dict[str, str] | None = None,
) -> tuple[dict[str, Job], Page]:
    """All jobs by name, and the page of their results.

    Args:
        experiments: at least one.
        scale: that has their data, models, classes and recipes.
        output: the directory of all outputs, relative to the checkout or absolute.
        seeds: students of each kind; None for the scale's number, or the experiment's own.
        sources: paths of the archives, by the scale's name of the data set.

    Raises:
        InputError: the scale lacks something.
    """
    check_fits(experiments, scale)
    models = Models(scale, output, seeds, sources or {})
    wanted = [student for each in experiments for student in students_of(each, models)]
    models.students(wanted)
    measurements = Measurements(models)
    for each in experiments:
        measure_study(each, measurements) if each.kind == "study" else measurements.add(each)
    name = page_name(experiments)
    path = f"{output}/contents{name}.json"
    measurements.page(path, f"{output}/report{name}.html")
    studies_alone = all(each.kind == "study" for each in experiments)
    title = "Our own studies" if studies_alone else "The paper's experiments"
    other = f"Everything on this page was made at the scale {scale.name}, which is not the paper's."
    intro = (STUDIES_INTRO if studies_alone else INTRO).get(scale.name, other)
    contents = {"title": f"{title}, {scale.name} scale", "scale": scale.name, "intro": [intro]}
    contents |= {"experiments": measurements.entries}
    first_seeds_first(models.jobs.values())
    runs = [run.removeprefix(f"{output}/") for job in models.jobs.values() for run in job.runs]
    return models.jobs, Page(path, contents | {"runs": list(dict.fromkeys(runs))})


def page_name(experiments: Sequence[Experiment]) -> str:
    """What distinguishes a page's name: nothing for all of the paper's experiments, ``.studies``, ``.2A+3``."""
    ids, known = {each.id for each in experiments}, shipped_experiments()
    for words, name in (("all", ""), ("studies", ".studies")):
        if ids == {each.id for each in chosen([words], known)}:
            return name
    return "." + "+".join(each.id for each in experiments)


def listing(jobs: dict[str, Job], output: Path) -> str:
    """The names of the jobs, a line each, by kind; finished ones are marked."""
    lines = []
    for kind, words in KINDS.items():
        if alike := [job for job in jobs.values() if job.kind == kind]:
            lines += [words, *(f"    {job.name}{'  (done)' * is_done(job, output)}" for job in alike)]
    return "\n".join(lines)


def summary(experiments: Sequence[Experiment], scale: Scale, jobs: dict[str, Job], output: Path) -> str:
    """The number of jobs of each kind, and an estimate of the time of trainings from finished ones."""
    counts = Counter(job.kind for job in jobs.values())
    names = textwrap.fill(", ".join(each.name for each in experiments), 110)
    lines = [names, f"at {scale.name} scale, in {output}", ""]
    for kind, words in KINDS.items():
        trained = [run for job in jobs.values() if job.kind == kind for run in job.runs]
        several = f", {len(trained)} models" if len(trained) > counts[kind] else ""
        if counts[kind]:
            lines.append(f"{words:<24}{counts[kind]:>5} job{'s' if counts[kind] > 1 else ''}{several}")
    done = sum(is_done(job, output) for job in jobs.values())
    ended = f", {done} of them done" if done else ""
    return "\n".join([*lines, f"{'in all':<24}{len(jobs):>5} jobs{ended}", "", cost(scale, jobs, output)])


def cost(scale: Scale, jobs: dict[str, Job], output: Path) -> str:
    """Hours of the trainings, from the seconds per epoch of finished runs of the same kind in ``output``.

    Without such runs, the speeds that the scale gives are used.
    """
    unit = "GPU hours" if scale.gpu else "core hours"
    trainings = [job for job in jobs.values() if job.trains]
    kinds = {(job.kind, job.trains) for job in trainings}
    speeds = {key: seconds_an_epoch(*key, output, on_gpu=bool(scale.gpu)) for key in kinds}
    seconds, known, estimated, missing = 0.0, 0, 0, set()
    for job in trainings:
        speed = speeds[job.kind, job.trains]
        if speed is not None:
            seconds += job.epochs * speed * max(1, len(job.runs)) * (1 if scale.gpu else job.threads)
        elif job.seconds:
            seconds, estimated = seconds + job.seconds, estimated + 1
        else:
            missing.add(job.trains)
            continue
        known += 1
    words = f"{seconds / 3600:.1f} for {known} of {len(trainings)} trainings" if known else "unknown"
    if estimated and scale.speeds:
        words += f", {estimated} of them by the speeds of {scale.speeds['of']}"
    hint = f"; no finished run in {output} shows the speed of {', '.join(sorted(missing))}" if missing else ""
    return f"{unit}: {words}{hint}"


def seconds_an_epoch(kind: str, trains: str, output: Path, on_gpu: bool) -> float | None:
    """Seconds per epoch of one model, from a finished run of the same study and model with any seed, α and T.

    Models that shared a process have equal shares of its time; older records do not say how many there were.

    Args:
        kind: of the job.
        trains: the study and the model.
        output: the directory of the studies.
        on_gpu: use only runs on a machine with a GPU.

    Returns:
        The seconds; None without such a run.
    """
    for path in sorted(output.glob(f"{trains}_a*/run.json")):
        record = read_run(path.parent)
        if record is None:
            continue
        fits = (kind == "student") == bool(record.teacher) and on_gpu <= bool(record.hardware.get("gpus"))
        time = training_time(record)
        if fits and time is not None and time.own is not None:
            return time.own / record.history[-1]["epoch"]
    return None


def forget_lost(jobs: dict[str, Job], output: Path) -> None:
    """Remove the marks of jobs whose outputs are gone, so that they run again.

    A directory that only later jobs read may be removed when these are done.
    """
    for job in jobs.values():
        if any(not (ROOT / run / ("" if run.endswith("/") else "run.json")).exists() for run in job.runs):
            mark(job, output).unlink(missing_ok=True)
    for job in jobs.values():
        lost = job.directory and not (ROOT / job.directory).exists()
        if lost and any(job.name in each.after and not is_done(each, output) for each in jobs.values()):
            mark(job, output).unlink(missing_ok=True)


def mark(job: Job, output: Path) -> Path:
    """The file that marks a job without files of its own as done."""
    return output / "done" / job.name


def outcome(job: Job, output: Path) -> list[Path]:
    """The files whose existence means that a job is done."""
    return [ROOT / file for file in job.files] or [mark(job, output)]


def is_done(job: Job, output: Path) -> bool:
    """Whether a job is done."""
    return all(path.exists() for path in outcome(job, output))


def write_plan(jobs: dict[str, Job], page: Page, output: Path) -> Path:
    """Write ``plan.json`` and the page's contents, and return the path of the plan."""
    for name in ("results", "data", "done", "logs"):
        (output / name).mkdir(parents=True, exist_ok=True)
    forget_lost(jobs, output)
    write_json(ROOT / page.path, page.contents)
    write_json(output / "plan.json", {name: asdict(job) for name, job in jobs.items()})
    return output / "plan.json"


def in_checkout(path: Path) -> str:
    """A path for commands in the checkout: relative if it is inside."""
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def sources(given: Sequence[str], scale: Scale) -> dict[str, str]:
    """Paths of the user's archives, from ``NAME=PATH``.

    Raises:
        InputError: a name that is not in the scale, or no such path.
    """
    names = {settings["name"] for settings in scale.data.values() if SOURCE in settings["prepare"]}
    found = {}
    for each in given:
        name, _, path = each.partition("=")
        if name not in names:
            raise input_error(
                "--data", each, f"must be NAME=PATH, NAME of {', '.join(sorted(names)) or 'none at this scale'}"
            )
        if not Path(path).exists():
            raise input_error("--data", each, "must name a path that exists")
        found[name] = in_checkout(Path(path))
    return found


def check_sources(jobs: dict[str, Job], scale: Scale, given: dict[str, str]) -> None:
    """Check that every archive that the jobs read is given.

    Raises:
        InputError: one is missing.
    """
    for settings in scale.data.values():
        name = settings["name"]
        if SOURCE in settings["prepare"] and f"data.{name}" in jobs and name not in given:
            raise input_error("--data", "not given", f"must have {name}=PATH: {settings['source']}")


def check_packages(jobs: dict[str, Job]) -> None:
    """Check that what the jobs' commands import is installed, before the first of them runs.

    Raises:
        InputError: a package is not installed; the message names the extra that has it.
    """
    commands = {word for job in jobs.values() for word in job.command[:3]}
    for extra, (words, packages) in PACKAGES.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing and any(command.startswith(words) for command in commands):
            raise not_installed(missing[0], extra)


def main(arguments: argparse.Namespace) -> None:
    """Print the summary, or write the plan."""
    experiments = chosen(arguments.table, read_experiments())
    scale = read_scale(arguments.scale)
    given = sources(arguments.data, scale)
    output = (arguments.output or Path("runs") / scale.name).resolve()
    jobs, page = make_plan(experiments, scale, in_checkout(output), arguments.seeds, given)
    if arguments.ready or arguments.write:
        check_sources(jobs, scale, given)
        check_packages(jobs)
    if arguments.write:
        write_plan(jobs, page, output)
        return
    if arguments.names:
        print(listing(jobs, output) + "\n")
    if arguments.commands:
        print("\n".join(shlex.join(job.command) for job in jobs.values()) + "\n")
    print(summary(experiments, scale, jobs, output))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that select what to plan."""
    parser.add_argument("table", nargs="+", metavar="TABLE", help="such as 2A, A.1, study-step; all; or studies")
    parser.add_argument("--scale", default="mini", help="mini, medium, paper, studies, or a YAML file like these")
    parser.add_argument("--seeds", type=positive, metavar="N", help="students of each kind (default: the scale's)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where everything goes (default: runs/SCALE)")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=PATH", help="paths of the archives")


if __name__ == "__main__":
    command = OneLineParser(prog="scripts/plan.py", description=__doc__.split("\n")[0])
    add_arguments(command)
    command.add_argument("--names", action="store_true", help="also print every job")
    command.add_argument("--commands", action="store_true", help="also print every command")
    command.add_argument("--ready", action="store_true", help="fail if an archive or a package is missing")
    command.add_argument("--write", action="store_true", help="write the plan, print nothing")
    run_command(command, main)
