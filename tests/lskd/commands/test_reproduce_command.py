"""``lskd reproduce`` before anything runs: what it hands to snakemake, and what it refuses."""

import argparse
import importlib.util
import json

import pytest
from helpers.commands import ROOT, run
from helpers.lskd_commands import exit_status

import lskd
from lskd.commands import reproduce
from lskd.commands.workflow import workflow_root
from lskd.io.errors import not_installed


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    return parser.parse_args(["2A", *words])


def words_after(command: list[str], option: str) -> list[str]:
    return command[command.index(option) + 1 :]


@pytest.mark.slow
def test_what_it_makes_goes_to_the_working_directory(tmp_path):
    said = run("lskd reproduce 2A --dry-run", cwd=tmp_path).stdout
    assert f"at mini scale, in {tmp_path / 'runs' / 'mini'}\n" in said
    assert not list(tmp_path.iterdir())
    plan = run("python", ROOT / "scripts" / "plan.py", "2A --commands", cwd=tmp_path).stdout
    assert f"--dest {tmp_path}/runs/mini/data/letters" in plan


def test_without_snakemake_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert exit_status(reproduce, "2A") == 2
    assert capsys.readouterr().err == f"lskd reproduce: error: {not_installed('snakemake', 'workflow')}\n"
    assert not list(tmp_path.iterdir())


def test_what_the_planner_refuses_is_refused_in_this_commands_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_status(reproduce, "2C") == 2
    assert capsys.readouterr().err.startswith("lskd reproduce: error: TABLE: 2C (must be ")
    assert not list(tmp_path.iterdir())


def test_the_workflow_is_that_of_the_installed_package_else_of_the_checkout(tmp_path, monkeypatch):
    assert workflow_root() == ROOT
    package = tmp_path / "site-packages" / "lskd"
    monkeypatch.setattr(lskd, "__file__", str(package / "__init__.py"))
    assert workflow_root() == package.parent
    (package / "workflow").mkdir(parents=True)
    assert workflow_root() == package / "workflow"


def test_it_takes_all_cores_and_a_job_a_gpu_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    command = reproduce._snakemake(options(), tmp_path)
    assert words_after(command, "--cores")[0] == "all"
    assert words_after(command, "--resources")[0] == "gpu=3"
    command = reproduce._snakemake(options("--cores", "4", "--gpus", "1"), tmp_path)
    assert words_after(command, "--cores")[0] == "4"
    assert words_after(command, "--resources")[0] == "gpu=1"


def test_without_a_gpu_it_still_allows_one_since_none_would_be_no_limit(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "")
    assert words_after(reproduce._snakemake(options(), tmp_path), "--resources")[0] == "gpu=1"


def test_a_profile_is_one_of_the_projects_or_a_directory(tmp_path):
    command = reproduce._snakemake(options("--profile", "slurm"), tmp_path)
    assert words_after(command, "--profile")[0] == str(reproduce.PROFILES / "slurm")
    assert "--cores" not in command  # how many jobs at a time the profile says
    command = reproduce._snakemake(options("--profile", str(tmp_path)), tmp_path)
    assert words_after(command, "--profile")[0] == str(tmp_path)


def test_more_options_for_snakemake_come_last(tmp_path):
    command = reproduce._snakemake(options("--snakemake=--keep-going --until 2A"), tmp_path)
    assert command[-3:] == ["--keep-going", "--until", "2A"]


def test_a_part_of_the_jobs_is_told_apart_from_all_of_them(tmp_path):
    report = {"name": "report", "command": ["lskd", "report"], "files": [str(tmp_path / "page.html")]}
    compare = {"name": "2A", "command": ["lskd", "compare", "2A"], "files": [str(tmp_path / "2A.json")]}
    (tmp_path / "plan.json").write_text(json.dumps({"2A": compare, "report": report}), encoding="utf-8")
    assert reproduce._results(tmp_path) == f"the requested jobs are done, of 2: {tmp_path}"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "2A.log").write_text("\n$ lskd compare 2A\nthe table\n", encoding="utf-8")
    (tmp_path / "page.html").touch()
    assert reproduce._results(tmp_path) == f"the table\n\n\n2 jobs are done; the page: {tmp_path / 'page.html'}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("9Z", "TABLE: 9Z (must be all, studies, or one of 2A, "),
        ("2A --profile nowhere", "--profile: nowhere (must be slurm, or a directory with a config.yaml)"),
        ("2A --profile nowhere --dry-run", "--profile: nowhere (must be slurm, or a directory with a config.yaml)"),
        ("2A --cores 0", "--cores: '0' (must be a whole number above 0)"),
        ("2A --scale huge", "--scale: huge (must be one of "),
        ("2A --scale paper", "--data: not given (must have imagenet=PATH"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line_and_leaves_nothing(words, said, tmp_path, capfd):
    assert exit_status(reproduce, *words.split(), "--output", tmp_path / "out") == 2
    (line,) = capfd.readouterr().err.splitlines()  # also of the plan, a program of its own
    assert said in line
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused_and_stays(tmp_path, capfd):
    (tmp_path / "out").write_text("mine")
    assert exit_status(reproduce, "2A", "--output", tmp_path / "out") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"--output: {tmp_path / 'out'} (must be a directory, or a new one)" in line
    assert (tmp_path / "out").read_text() == "mine"


def test_a_log_gets_a_line_for_each_finished_job_with_how_many_there_are_and_no_bar(capsys):
    lines = ["total        14", "Finished jobid: 7 (Rule: data.letters)", "1 of 14 steps (7%) done"]
    lines += ["Finished jobid: 3 (Rule: letters.resnet18_a0_s1)", "2 of 14 steps (14%) done"]
    reproduce._show(f"{line}\n" for line in lines)
    expected = ["done  1/14  00:00  data.letters", "done  2/14  00:00  letters.resnet18_a0_s1"]
    assert capsys.readouterr().err.splitlines() == expected
