"""The command lines of all scripts that prepare data."""

import importlib

import pytest
from helpers.commands import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / "data_prep").glob("*.py") if "\ndef parser(" in path.read_text("utf-8"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_empty_destination_is_refused_in_one_line(script, capsys):
    with pytest.raises(SystemExit) as left:
        importlib.import_module(script).parser().parse_args(["--dest", ""])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(": error: --dest: '' (must be a path)")
