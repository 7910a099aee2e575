"""The fuzzer: it finds planted faults and repeats them by their number, and finds none in the readers."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from random import Random

import fuzz
import pytest
from commands import ROOT
from fuzzing.cases import Cases
from fuzzing.containers import FORMATS, mutate
from fuzzing.reader import Reader

from lskd.errors import InputError

WHOLE = b'{"a": [1, 2, {"b": "text"}]}'


def planted(fault) -> Reader:
    """A reader of a JSON file that does ``fault()`` in the processes that try it."""
    parent = os.getpid()

    def make(place: Path) -> list[Path]:
        (place / "whole.json").write_bytes(WHOLE)
        return [place / "whole.json"]

    return Reader(make, lambda place, path: os.getpid() == parent or fault())


def answers(fault, place: Path, count: int = 3, longest: float = 20) -> list:
    return list(Cases("planted", planted(fault), place, longest).run(iter(range(count)), math.inf))


def key_error():
    return {}["nothing"]


def refuse():
    raise InputError("file: x (must be whole)")


def hang():
    time.sleep(60)


def take_memory():
    return b"\1" * (1700 * 2**20)


def ask_for_memory():
    return bytearray(2**40)


def refuse_memory():
    try:
        bytearray(2**40)
    except MemoryError:
        raise InputError("file: x (is too large)") from None


def refuse_in_a_circle():
    error, cause = InputError("file: x (must be y)"), ValueError("y")
    error.__cause__, cause.__cause__ = cause, error
    raise error


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def run_a_program():
    os.system("true")  # noqa: S605


def write_elsewhere():
    try:
        Path("/tmp/elsewhere").write_text("x")  # noqa: S108
    except BaseException:  # what hides it does not help
        return


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (key_error, "KeyError at"),
        (hang, "takes longer than 1 s"),
        (take_memory, "MB of memory"),
        (ask_for_memory, "MemoryError"),
        (refuse_memory, "too much memory"),
        (crash, "SIGSEGV"),
        (run_a_program, "os.system"),
        (write_elsewhere, "/tmp/elsewhere"),  # noqa: S108
    ],
)
def test_a_planted_fault_is_found_and_the_cases_after_it_are_tried(fault, why, tmp_path):
    found = answers(fault, tmp_path, count=2, longest=1 if fault is hang else 20)
    assert [(each.number, each.outcome) for each in found] == [(0, "finding"), (1, "finding")]
    assert why in found[0].message
    assert [each.harmful for each in found] == [fault is not key_error] * 2
    assert not Path("/tmp/elsewhere").exists()  # noqa: S108


def test_a_refusal_and_what_is_read_are_no_findings(tmp_path):
    for fault, outcome in ((refuse, "refused"), (refuse_in_a_circle, "refused"), (int, "accepted")):
        (tmp_path / fault.__name__).mkdir()
        assert {each.outcome for each in answers(fault, tmp_path / fault.__name__)} == {outcome}


def test_the_command_that_a_finding_names_repeats_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(fuzz.READERS, "planted", planted(key_error))
    words = ["--reader", "planted", "--minutes", "0.02", "--output", str(tmp_path / "out")]
    assert fuzz.main(fuzz.parser().parse_args(words)) == 1
    assert re.search(r"planted +\d+ +0 +0 +\d+ +1\n", capsys.readouterr().out)
    kept = sorted((tmp_path / "out").glob("*.txt"))
    assert len(kept) == fuzz.KEPT
    again = shlex.split(kept[0].read_text().splitlines()[0])[2:]
    assert fuzz.main(fuzz.parser().parse_args(again)) == 1
    assert "KeyError at" in capsys.readouterr().out


def test_the_same_number_is_the_same_damage(tmp_path):
    cases = Cases("planted", planted(key_error), tmp_path)
    damage = [cases.damaged(number) for number in range(50)]
    assert damage == [cases.damaged(number) for number in range(50)]
    assert len({content for _, content in damage}) > 40


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_no_file_of_its_kind_is_damaged_too(suffix):
    for number in range(5):
        assert isinstance(mutate(f"file{suffix}", b"nothing of the kind", b"else", Random(number)), bytes)


EVERY_READER = """
import json, math, pathlib, tempfile, fuzz
for name, reader in fuzz.READERS.items():
    with tempfile.TemporaryDirectory() as place:
        cases = fuzz.Cases(name, reader, pathlib.Path(place), longest=120)
        for each in cases.run(iter(range(16)), math.inf):
            print(json.dumps([name, each.outcome, each.harmful, each.message]), flush=True)
"""


@pytest.fixture(scope="module")
def answers_of_readers() -> list[tuple[str, str, bool, str]]:
    """What came of 16 cases of each reader: name, outcome, harm, message.

    In a process of its own, as `make fuzz` is one: other tests have left threads, which a fork would lose.
    """
    environment = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-W", "ignore", "-c", EVERY_READER]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [tuple(json.loads(line)) for line in ended.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz.READERS)
def test_no_damaged_file_does_harm_to_its_reader(name, answers_of_readers):
    """What is damaged has times and places in it, and is another file each time: an error alone is for `make fuzz`."""
    found = [(outcome, harm, message) for reader, outcome, harm, message in answers_of_readers if reader == name]
    assert len(found) == 16
    assert [message for _, harm, message in found if harm] == []
    for outcome, _, message in found:
        if outcome == "finding":
            warnings.warn(f"{name}: {message}", stacklevel=1)
    assert "accepted" in {outcome for outcome, *_ in found}
