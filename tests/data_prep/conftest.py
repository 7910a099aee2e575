"""The command run in this process, and what it answers to what it cannot use."""

import sys
import tarfile

import iwslt14
import pytest
from helpers.iwslt14_archive import write_tgz

from lskd.io.errors import run_command


@pytest.fixture
def run(request, monkeypatch, capsys):
    """Run the test module's ``COMMAND`` in this process: its exit status, what it printed and complained about."""
    command = getattr(request.module, "COMMAND", iwslt14)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{command.__name__}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(command.parser(), command.main)
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run, tmp_path):
    """Run the command, which must answer with status 2 and one line, and leave no file or folder behind."""

    def refused(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        status, printed, complaint = run(*arguments)
        assert (status, printed) == (2, "")
        assert complaint.startswith("iwslt14.py: error: --")
        assert complaint.endswith("\n")
        assert complaint.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return complaint

    return refused


@pytest.fixture
def refused_with_dest(run, request, tmp_path):
    """As ``refused``, of the test module's ``COMMAND``, with a ``--dest`` in a folder that must not appear."""

    def refused_with_dest(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        status, printed, complaint = run("--dest", tmp_path / "below" / "dest", *arguments)
        assert (status, printed, complaint.count("\n")) == (2, "", 1)
        assert complaint.startswith(f"{request.module.COMMAND.__name__}.py: error: ")
        assert sorted(tmp_path.rglob("*")) == before
        return complaint

    return refused_with_dest


@pytest.fixture
def refused_archive(refused, tmp_path):
    """Refuse an archive of en-de with these files and members."""

    def refused_archive(files: dict, *members: tarfile.TarInfo) -> str:
        path = write_tgz(tmp_path / "de-en.tgz", files, *members)
        return refused("--pair", "en-de", "--dest", tmp_path / "below" / "dest", "--archive", path)

    return refused_archive


@pytest.fixture
def made(monkeypatch):
    """What would be handed over to be written, instead of writing it."""
    calls = []

    def write_data_bin(dest, pair, splits, vocab_size, parameters, origin, tokenise=None):
        calls.append({"splits": splits, "parameters": parameters, "origin": origin, "tokenise": tokenise})
        counts = {name: {"sentences": len(pairs)} for name, pairs in splits.items()}
        return {"pair": pair, "parameters": parameters, "counts": counts}

    monkeypatch.setattr(iwslt14, "write_data_bin", write_data_bin)
    return calls
