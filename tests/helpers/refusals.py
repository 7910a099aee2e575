"""Commands run in this process with input that they must refuse, and the files that must be as before."""

import hashlib
import importlib
import sys
from pathlib import Path

import pytest

from lskd.io.errors import run_command


def snapshot(place: Path) -> dict[str, tuple]:
    """The name of everything in a directory and below it, with the size and the SHA-256 of files."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.is_symlink() or not path.is_file():
            found[name] = ("link" if path.is_symlink() else "directory",)
        else:
            content = path.read_bytes()
            found[name] = (len(content), hashlib.sha256(content).hexdigest())
    return found


def answer(words: list[str], monkeypatch, capsys) -> tuple[int, str]:
    """The exit status of a command, and what it has said on standard error.

    Args:
        words: ``lskd …``, a module of ours with a command line, a script of data_prep, or ``fairseq-train …``.
        monkeypatch: pytest's.
        capsys: pytest's.
    """
    monkeypatch.setattr(sys, "argv", words)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(words[0])
    return ended.value.code, capsys.readouterr().err


def run(name: str) -> None:
    """Run a command in this process, with the words of ``sys.argv``."""
    if name == "lskd":
        importlib.import_module("lskd.commands.main").main()
    elif name == "fairseq-train":
        importlib.import_module("lskd_fairseq")
        importlib.import_module("fairseq_cli.train").cli_main()
    else:
        module = importlib.import_module(name)
        run_command(module.parser(), module.main)


def refusal(words: list[str], place: Path, monkeypatch, capsys) -> str:
    """The one line with which a command refuses: status 2, no traceback, and nothing in ``place`` is touched."""
    before = snapshot(place)
    status, complaint = answer(words, monkeypatch, capsys)
    assert status == 2, complaint
    assert "Traceback" not in complaint
    lines = complaint.splitlines()
    assert sum("error: " in line for line in lines) == 1, complaint
    assert "error: " in lines[-1], complaint
    assert snapshot(place) == before
    return lines[-1]
