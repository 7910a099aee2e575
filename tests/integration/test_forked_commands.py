"""How tests start commands: forked from a process that has imported what takes long."""

import sys

import pytest
from helpers.commands import run

pytestmark = pytest.mark.slow


def test_a_forked_command_finds_torch_fairseq_and_timm_imported_and_its_own_modules_not(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import sys; print(*sorted({'torch', 'fairseq_cli', 'timm', 'lskd'} & {*sys.modules}))")
    assert run("python", program).stdout.split() == ["fairseq_cli", "timm", "torch"]
    assert run("python", program, fresh=True).stdout == "\n"
    assert "torch" in sys.modules  # of the tests' own process; the fork is of another
