"""``lskd reproduce``: experiments from data to the page, interrupted and continued, at a scale of seconds."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collect_results import collect
from definitions import read_experiments
from helpers.commands import ROOT, last_line, run
from helpers.forked_commands import hand_over
from helpers.tiny_scale import write_tiny_scale
from image_statements import Results
from plan import make_plan, write_plan
from planned_tests import read_rows
from scale_definitions import read_scale

from lskd.paper.published import published
from lskd.paper.results import read_result
from lskd.records.runs import read_run

pytestmark = pytest.mark.slow
LSKD = [str(Path(sys.executable).parent / "lskd"), "reproduce"]


@pytest.fixture
def scale(tmp_path) -> Path:
    return write_tiny_scale(tmp_path / "tiny.yaml")


def start(*words: object) -> subprocess.Popen:
    """``lskd reproduce`` in the background."""
    return subprocess.Popen(
        [*LSKD, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and so would the tests and their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_of(output: Path) -> list[int]:
    """Every process whose command line names the directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(output).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def times(output: Path) -> dict[Path, int]:
    """When each outcome of a job was made."""
    places = [*(output / "done").iterdir(), *(output / "results").glob("[!.]*"), *output.glob("*/*/[!.]*.safetensors")]
    return {path: path.stat().st_mtime_ns for path in places}


def test_killed_in_the_middle_it_goes_on_with_what_is_missing_and_shows_tables_and_figures(scale, tmp_path):
    output = tmp_path / "out"
    words = ["H.2", "A.3", "--scale", scale, "--output", output, "--cores", 2]
    first = start(*words)
    wait_for(output / "done" / "small-letters.resnet10t_a0.1_s1", first)
    for process in processes_of(output):  # as a power cut would: all of them
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.kill(process, signal.SIGKILL)
    first.wait()
    while processes_of(output):
        time.sleep(0.05)
    made = times(output)

    said = run("lskd reproduce --dry-run", *words).stdout
    jobs = json.loads((output / "plan.json").read_text())
    ends = {name: [ROOT / file for file in job["files"]] or [output / "done" / name] for name, job in jobs.items()}
    whole = [name for name, files in ends.items() if all(file.exists() for file in files)]
    assert f"{len(jobs)} jobs, {len(whole)} of them done" in said
    assert times(output) == made

    with hand_over():
        second = run("lskd reproduce", *words)
    done = [
        line.removeprefix("done  ").strip()
        for line in second.stderr.replace("\r", "\n").splitlines()
        if "done  " in line
    ]
    # Marks are snakemake's; a job that was killed with its files just written may be run again.
    marks = {path: made[path] for path in made if path.parent.name == "done"}
    assert len(jobs) - len(whole) <= len(done) <= len(jobs) - len(marks)
    now = times(output)
    assert {path: now[path] for path in marks} == marks
    page = (output / "report.H.2+A.3.html").read_text(encoding="utf-8")
    published_top1 = f"{published('H.2', metric='top1')[0].mean:.2f}"
    for part in ("Table H.2", "Figure A.3", published_top1, "lskd reproduce H.2 --scale tiny"):
        assert part in page

    rows = read_result(output / "results" / "H.2.json").rows
    students = {(row.student, row.label_smoothing) for row in rows if row.metric == "top1"}
    assert students == {("resnet10t", 0.1), ("resnet10t", 0.0), ("test_resnet", 0.1), ("test_resnet", 0.0)}
    matched = json.loads((output / "results" / "equal-entropy-1.json").read_text())["rows"][0]["temperature"]
    found = {row.temperature for row in rows if row.label_smoothing == 0.0}
    assert len(found) == 1
    assert found.pop() == pytest.approx(matched)

    third = run("lskd reproduce", *words)
    assert "done  " not in third.stderr
    assert times(output) == now
    assert str(output / "report.H.2+A.3.html") in third.stdout.splitlines()[-1]


def test_one_that_is_still_running_keeps_a_second_one_out_and_ctrl_c_ends_it(scale, tmp_path):
    output = tmp_path / "out"
    words = ["E", "--scale", scale, "--output", output]
    first = start(*words)
    wait_for(output / "logs" / "letters.resnet10t_a0.1_s1.log", first)
    second = run("lskd reproduce", *words, status=2)
    assert "another lskd reproduce is still running there" in last_line(second)
    first.send_signal(signal.SIGINT)
    _, message = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "resumes where it stopped" in message
    assert not processes_of(output)
    with hand_over():
        assert "measured, scale tiny" in run("lskd reproduce", *words).stdout


def snakemake(experiment, scale, output):
    """Run a definition as `lskd reproduce` runs those in scripts/experiments."""
    write_plan(*make_plan([experiment], read_scale(str(scale)), str(output)), output)
    words = ["python -m snakemake --snakefile", ROOT / "scripts" / "Snakefile", "--directory", output]
    return run(*words, "--config", f"plan={output / 'plan.json'}", "--cores 2 --resources gpu=1")


def test_translation_is_reproduced_in_both_ways_beside_the_published_scores(scale, tmp_path, programs_are_forked):
    """Of D.3 two temperatures of the smoothed teacher: all of it are 44 jobs that start fairseq."""
    small = dataclasses.replace(read_experiments()["D.3"], label_smoothing=(0.1,), temperature=(1, 64))
    output = tmp_path / "out"
    snakemake(small, scale, output)
    for name in ("D.3", "D.3.mkd"):
        log = (output / "logs" / f"{name}.log").read_text(encoding="utf-8")
        assert "Table D.3 (Chandrasegaran" in log
        rows = read_result(output / "results" / f"{name}.json").rows
        grid = {(round(row.label_smoothing, 1), row.temperature) for row in rows if row.metric == "bleu"}
        assert grid == {(0.1, 1), (0.1, 64)}  # of a small vocabulary the paper's α is a little above fairseq's ε
    as_code = json.loads((output / "help.en-de.mkd" / "transformer-small_a0.1_T64_s1" / "run.json").read_text())
    settings = as_code["configuration"]
    assert (settings["kd_weight"], settings["teacher_topk"]) == (0.9, 4)
    assert as_code["teacher"]["cache"][0]["dtype"] == "fp16"
    for cache in output.glob("help.en-de*/*/teacher-cache"):  # no student needs it any more
        shutil.rmtree(cache)
    assert "Nothing to be done" in snakemake(small, scale, output).stderr
    page = (output / "report.D.3.html").read_text(encoding="utf-8")
    assert "as the paper says" in page
    assert "as its code does" in page


def test_a_study_goes_from_the_data_to_a_summary_and_a_page_that_tell_its_variants_apart(
    scale, tmp_path, programs_are_forked
):
    study = read_experiments()["study-optimiser"]
    small = dataclasses.replace(study, label_smoothing=(0.1,), temperature=(1, 3), eta=(1, 3), without_teacher=(0.1,))
    snakemake(small, scale, tmp_path)
    rows = json.loads((tmp_path / "results" / "summary.study-optimiser.json").read_text())["rows"]
    grid = {(row["optimiser"], row["label_smoothing"], row["temperature"]) for row in rows}
    assert grid == {(name, 0.1, T) for name in ("momentum", "adamw") for T in (1, 3)}
    page = (tmp_path / "study-optimiser.html").read_text(encoding="utf-8")
    for words in ("<h1>Another optimiser</h1>", "optimiser = adamw", "optimiser = momentum"):
        assert words in page
    contents = (tmp_path / "report.study-optimiser.html").read_text(encoding="utf-8")
    assert 'href="./study-optimiser.html"' in contents
    planned = json.loads((tmp_path / "plan.json").read_text())
    assert all((ROOT / path / "run.json").exists() for job in planned.values() for path in job["runs"])
    collect(tmp_path, tmp_path / "collected")
    results = Results(tmp_path / "collected")
    kinds = {(variant, "test_resnet", 0.1, T) for variant in ("plain", "adamw") for T in (1, 3, None)}
    teachers = {("plain", "resnet10t", alpha, None) for alpha in (0.0, 0.1)}  # that without smoothing names the classes
    assert results.top1.keys() == kinds | teachers
    of_summary = {(row["optimiser"], row["temperature"]): row["mean"] for row in rows}
    assert results.accuracy("adamw", 0.1, 3)[1] == pytest.approx(of_summary["adamw", 3], abs=1e-3)
    place = tmp_path / "letters.adamw" / "test_resnet_a0.1_T{}_s1" / "last.validation.representations.safetensors"
    files = [str(place).format(T) for T in (1, 3)]
    run(
        "lskd eta --first",
        files[0],
        "--second",
        files[1],
        "--sets",
        tmp_path / "results" / "sets.json",
        "--output",
        tmp_path / "eta.json",
    )
    similar = [row["eta_similar_percent"] for row in json.loads((tmp_path / "eta.json").read_text())["rows"]]
    assert results.drift("adamw", 0.1, 3)[1] == pytest.approx(sum(similar) / len(similar), abs=1e-3)
    assert results.measure("similar_distance", "test_resnet", 0.1, 1)
    seconds = {row["run"]: float(row["seconds"]) for row in read_rows(tmp_path / "collected" / "students.csv")}
    record = read_run(tmp_path / "letters.adamw" / "test_resnet_a0.1_T3_s1")
    assert record.history[-1]["together"] == 2
    assert seconds["letters.adamw/test_resnet_a0.1_T3_s1"] == pytest.approx(record.history[-1]["seconds"] / 2, abs=0.1)


def test_a_job_that_fails_is_named_with_what_it_said(scale, tmp_path, programs_are_forked):
    scale.write_text(scale.read_text().replace("resnet10t", "resnet10x"))
    result = run("lskd reproduce E --scale", scale, "--output", tmp_path / "out", status=2)
    assert "--model: resnet10x (must be a timm model" in result.stderr
    assert "not all jobs are done, see above" in last_line(result)


def test_a_changed_definition_does_not_mix_with_what_was_trained_before(scale, tmp_path, programs_are_forked):
    words = ["lskd reproduce 2 --scale", scale, "--output", tmp_path / "out"]
    run(*words)
    scale.write_text(scale.read_text().replace("epochs: 1", "epochs: 2"))
    result = run(*words, status=2)
    assert "holds another run: epochs differs" in result.stderr


@pytest.mark.parametrize("names", ["all", "studies"])
def test_a_dry_run_writes_nothing_for_every_table_of_the_paper_and_every_study(names, tmp_path):
    result = run("lskd reproduce", names, "--dry-run --scale paper --output", tmp_path / "out")
    # of images by measured speeds; nobody has measured translation
    said = (
        r"GPU hours: \d+\.\d for (\d+) of \d+ trainings, \1 of them by the speeds of .*; no finished run in .* iwslt14"
    )
    assert re.search(said, result.stdout)
    assert not (tmp_path / "out").exists()
