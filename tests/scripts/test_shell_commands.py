"""The plain shell commands are those of the workflow, word by word."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from definitions import read_experiments
from helpers.commands import ROOT
from plan import in_checkout, make_plan
from scale_definitions import read_scale

# In the place of every program that the scripts start: it writes its words down.
PROGRAM = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["WORDS"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""


def commands_of(script: str, source: Path, place: Path) -> list[list[str]]:
    """What the script would run."""
    programs = place / "bin"
    programs.mkdir()
    for name in ("python", "fairseq-train"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    variables = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "WORDS": str(place / "words")}
    copy = place / "checkout" / "scripts" / script  # it makes directories in its checkout
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / script, copy)
    subprocess.run(["bash", str(copy), str(source)], check=True, cwd=place, env=os.environ | variables)
    return [json.loads(line) for line in (place / "words").read_text().splitlines()]


def commands_of_plan(table: str, name: str, source: Path, last: str) -> list[list[str]]:
    """What the workflow runs for one job and all those before it, in order."""
    sources = {name: in_checkout(source)}
    jobs, _ = make_plan([read_experiments()[table]], read_scale("paper"), "runs/paper", sources=sources)
    ordered = {}

    def add(job: str) -> None:
        for before in jobs[job].after:
            add(before)
        ordered[job] = jobs[job].command

    add(last)
    return [command for job, command in ordered.items() if "imagenet" not in job or name == "imagenet"]


@pytest.mark.parametrize(
    ("script", "table", "name", "last"),
    [
        ("imagenet.sh", "2A", "imagenet", "imagenet.resnet18_a0.1_T1_s42"),
        ("cub200.sh", "2B", "cub200", "cub200.resnet18.tv_in1k_a0.1_T1_s2021"),
        ("iwslt14.sh", "5", "iwslt14.en-de", "score.iwslt14.en-de.transformer-small_a0.1_T1_s1"),
    ],
)
def test_a_plain_script_runs_what_the_workflow_runs(script, table, name, last, tmp_path):
    source = tmp_path / "the source"
    source.mkdir()
    assert commands_of(script, source, tmp_path) == commands_of_plan(table, name, source, last)


def test_a_plain_script_without_its_data_says_what_it_needs():
    for script in ("imagenet.sh", "cub200.sh", "iwslt14.sh"):
        result = subprocess.run(["bash", str(ROOT / "scripts" / script)], capture_output=True, text=True)
        assert result.returncode != 0
        assert len(result.stderr.splitlines()) == 1
