"""Damaged files for every reader: each must be read, or refused in a line.

    python scripts/fuzz.py --minutes 30                       # all readers, 30 minutes together
    python scripts/fuzz.py --reader cub200 --case 17          # one case again

A finding is any other error than a refusal, a crash, more than 20 s or 1.5 GB, a program that is run or a file that is
written elsewhere. Its file is kept in --output, with what happened and the command that repeats it.
"""

import argparse
import itertools
import shlex
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzzing import data_readers, image_readers, measurement_readers, translation_readers
from fuzzing.cases import Answer, Cases
from tqdm import tqdm

from lskd.errors import OneLineParser, bad, run_command
from lskd.tables import Column, show

READERS = image_readers.READERS | translation_readers.READERS | measurement_readers.READERS | data_readers.READERS
OUTPUT = Path("runs") / "fuzz"
KEPT = 3  # findings of a kind whose files are kept
COLUMNS = (
    Column("reader", "reader"),
    Column("cases", "cases"),
    Column("accepted", "accepted"),
    Column("refused", "refused"),
    Column("findings", "finding"),
    Column("kinds", "kinds"),
)


class Findings:
    """Keeps the files of findings, and counts what came of the cases of each reader.

    Args:
        output: directory for the files; made with the first of them.
    """

    def __init__(self, output: Path):
        self.output = output
        self.outcomes: dict[str, Counter] = {}
        self.kinds: dict[str, Counter] = {}

    def add(self, cases: Cases, answer: Answer) -> None:
        """Count an answer; of a finding, keep the file."""
        self.outcomes.setdefault(cases.name, Counter())[answer.outcome] += 1
        if answer.outcome != "finding":
            return
        kinds = self.kinds.setdefault(cases.name, Counter())
        kind = answer.message.strip().splitlines()[-1]
        kinds[kind] += 1
        if kinds[kind] > KEPT:
            return
        path, content = cases.damaged(answer.number)
        self.output.mkdir(parents=True, exist_ok=True)
        stem = f"{cases.name}-{answer.number}"
        (self.output / f"{stem}-{path.name}").write_bytes(content)
        again = f"python scripts/fuzz.py --reader {shlex.quote(cases.name)} --case {answer.number}"
        text = f"{again}\n\n{answer.message}\n".encode(errors="backslashreplace")
        (self.output / f"{stem}.txt").write_bytes(text)
        if kinds[kind] == 1:
            tqdm.write(f"{cases.name}, case {answer.number}: {kind}", file=sys.stderr)

    def table(self) -> str:
        """Readers with what came of their cases."""
        rows = []
        for name, outcomes in self.outcomes.items():
            row = {key: outcomes[key] for key in ("accepted", "refused", "finding")}
            rows.append({"reader": name, "cases": outcomes.total(), "kinds": len(self.kinds.get(name, ()))} | row)
        return show(rows, COLUMNS)


def main(arguments: argparse.Namespace) -> int:
    """Try the readers, one after the other; print the table."""
    names = [arguments.reader] if arguments.reader else list(READERS)
    if arguments.case is not None:
        if arguments.reader is None:
            raise bad("--case", arguments.case, "must come with --reader")
        return repeat(arguments.reader, arguments.case)
    findings, interrupted = Findings(arguments.output), False
    tqdm.monitor_interval = 0  # no thread, which a fork would lose
    end = time.monotonic() + 60 * arguments.minutes
    try:
        with tqdm(
            total=round(60 * arguments.minutes), unit="s", bar_format="{l_bar}{bar}| {n}/{total} s", disable=None
        ) as bar:
            for left, name in zip(range(len(names), 0, -1), names, strict=True):
                bar.set_description(name)
                until = time.monotonic() + (end - time.monotonic()) / left
                with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
                    cases = Cases(name, READERS[name], Path(place))
                    for answer in cases.run(itertools.count(), until):
                        findings.add(cases, answer)
                        bar.update(round(60 * arguments.minutes - (end - time.monotonic())) - bar.n)
    except KeyboardInterrupt:
        interrupted = True
    print(findings.table())
    if findings.kinds:
        print(f"\nfindings: {arguments.output}")
        return 1
    return 130 if interrupted else 0


def repeat(name: str, number: int) -> int:
    """Try one case and say what comes of it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        cases = Cases(name, READERS[name], Path(place))
        (answer,) = cases.run(iter([number]), float("inf"))
        print(f"{cases.damaged(number)[0].name}: {answer.outcome}\n{answer.message}".strip())
    return int(answer.outcome == "finding")


def minutes(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} (must be a number above 0)")
    return value


def whole(text: str) -> int:
    """The number of a case, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} (must be a whole number)")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="fuzz.py", description=__doc__.split("\n")[0])
    options.add_argument("--minutes", type=minutes, default=10, help="of all readers together (default 10)")
    options.add_argument("--reader", choices=READERS, help="this one alone")
    options.add_argument("--case", type=whole, metavar="N", help="this case of the reader alone")
    options.add_argument("--output", type=Path, default=OUTPUT, help=f"directory for findings (default {OUTPUT})")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
