"""The launch profile for Slurm, on a real Slurm of one node that is started for this test."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import last_line, run
from helpers.one_node_slurm import one_node_slurm, why_not
from helpers.tiny_scale import write_tiny_scale

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=f"no Slurm here: {why_not()}")]
# Only the waiting is shorter than in the profile.
QUICK = "--slurm-init-seconds-before-status-checks 3 --seconds-between-status-checks 3 --latency-wait 5"


@pytest.fixture(scope="module")
def partition(tmp_path_factory) -> Iterator[str]:
    with one_node_slurm(tmp_path_factory.mktemp("slurm")) as partition:
        yield partition


def test_a_table_is_reproduced_on_slurm(partition, tmp_path):
    scale = write_tiny_scale(tmp_path / "tiny.yaml")
    out = tmp_path / "out"
    quick = Path(f"--snakemake={QUICK}")  # one word, with spaces
    result = run("lskd reproduce E --profile slurm --scale", scale, "--output", out, quick)
    jobs = json.loads((out / "plan.json").read_text())
    submitted = re.findall(r"SLURM jobid '?(\d+)", result.stderr)
    assert len(set(submitted)) == len(jobs) == 6, result.stderr
    assert "measured, scale tiny" in result.stdout
    for job in jobs.values():
        assert all(Path(file).exists() for file in job["files"]), job
    record = json.loads((out / "letters" / "resnet10t_a0.1_s1" / "run.json").read_text())
    assert record["history"][-1]["epoch"] == 1


def test_what_a_job_on_slurm_says_when_it_fails_is_shown(partition, tmp_path):
    scale = write_tiny_scale(tmp_path / "tiny.yaml")
    scale.write_text(scale.read_text().replace("resnet10t", "resnet10x"))
    quick = Path(f"--snakemake={QUICK}")
    result = run("lskd reproduce E --profile slurm --scale", scale, "--output", tmp_path / "out", quick, status=2)
    assert "--model: resnet10x (must be a timm model" in result.stderr
    assert "not all jobs are done" in last_line(result)
