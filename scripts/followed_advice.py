"""Ask ``lskd advise`` about each teacher of a study, without runs and with runs: DEST/advice.csv.

    python scripts/followed_advice.py runs/studies docs/results/studies-optimiser

A row for each α and seed: the temperatures that the advice names from the teacher alone, several where it says to
compare them, and the one that it names when the plain students of all other seeds are given as "one's own" runs.
Teachers need their representation files of the validation images.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from collect_results import alpha_of, finished, variant_of
from definitions import PLAIN
from tqdm import tqdm

from lskd.commands.advise import advise, teacher_file
from lskd.io.errors import input_error, run_command
from lskd.io.files import check_writable
from lskd.io.tables import write
from lskd.measure.representations import read_representations
from lskd.records.found_runs import Run, find_runs

TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 64.0)


def run(arguments: argparse.Namespace) -> None:
    """Ask, and write the table.

    Raises:
        InputError: there is no student, an α has fewer than two seeds, or a teacher is missing or has no
            representation file.
    """
    check_writable("DEST", arguments.dest)
    students: dict[tuple[float, int], list[Run]] = defaultdict(list)
    teachers: dict[tuple[float, int], Run] = {}
    plain = [run for run in find_runs([arguments.runs]) if run.kind == "vision" and variant_of(run) == PLAIN]
    for found in finished(plain):
        key = alpha_of(found), found.record.seed
        if found.temperature is None and found.model == arguments.teacher:
            teachers[key] = found
        elif found.temperature in TEMPERATURES and found.model == arguments.student:
            students[key].append(found)
    if not students:
        raise input_error("RUNS", arguments.runs, f"must have plain students {arguments.student} of image teachers")
    if missing := sorted(students.keys() - teachers.keys()):
        what = " and ".join(f"α = {alpha:g}, seed {seed}" for alpha, seed in missing)
        raise input_error("RUNS", arguments.runs, f"must have the teachers {arguments.teacher} of {what} too")
    rows = []
    for alpha, seed in tqdm(sorted(students), desc="advice", unit=" teachers", disable=None):
        others = [each for each in students if each[0] == alpha and each[1] != seed]
        if not others:
            raise input_error("RUNS", arguments.runs, f"must have students of several seeds, of α = {alpha:g} too")
        alone = named(teachers[alpha, seed], [])
        # The advice is about one of the others' teachers: runs of other teachers decide nothing.
        of_runs = named(teachers[others[0]], [each for key in others for each in students[key]])
        rows.append({"label_smoothing": f"{alpha:g}", "seed": seed, "alone": alone, "runs": of_runs})
    arguments.dest.mkdir(parents=True, exist_ok=True)
    write(arguments.dest / "advice.csv", rows)


def named(teacher: Run, students: list[Run]) -> str:
    """The temperatures that the advice names, separated by spaces."""
    path = teacher_file(teacher.directory)
    advice = advise(path, read_representations(path), students, TEMPERATURES)["advice"]
    return f"{advice['temperature']:g}" if advice["temperature"] else " ".join(f"{T:g}" for T in advice["compare"])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", type=Path, metavar="RUNS", help="the output of lskd reproduce study-optimiser")
    options.add_argument("dest", type=Path, metavar="DEST", help="the directory of the table")
    options.add_argument("--student", default="test_resnet", metavar="MODEL", help="default: test_resnet")
    options.add_argument("--teacher", default="resnet10t", metavar="MODEL", help="default: resnet10t")
    return options


if __name__ == "__main__":
    run_command(parser(), run)
