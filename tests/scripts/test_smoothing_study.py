import csv
from pathlib import Path

import numpy as np
import pytest
import smoothing_study
from smoothed_models.settings import MODELS, Setting, settings

from lskd.measure.smoothing_estimate import SmoothingEstimate

ROWS = Path("docs/benchmarks/smoothing_study.csv")


def test_each_run_is_in_one_half_and_the_halves_are_alike():
    halves = settings()
    assert set(halves.values()) == {"tuning", "test"}
    for model in MODELS:
        for smoothed in (False, True):
            own = [half for run, half in halves.items() if run.model == model and (run.alpha > 0) == smoothed]
            assert abs(own.count("tuning") - own.count("test")) <= 0.2 * len(own), (model, smoothed)


def test_the_published_rows_are_of_the_runs_that_are_defined_and_bear_out_the_claims():
    halves = {str(run): half for run, half in settings().items()}
    with ROWS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        run = Setting(
            row["model"],
            row["data"],
            row["training"],
            float(row["amount"]),
            float(row["true_alpha"]),
            int(row["seed"]),
        )
        assert halves[str(run)] == row["half"]
    untouched = [row for row in rows if row["half"] == "test"]
    assert len(untouched) >= 300
    assert sum(row["right"] == "False" for row in untouched) <= 0.01 * len(untouched)
    intervals = [row["held"] for row in untouched if row["held"]]
    assert intervals.count("True") >= 0.95 * len(intervals)


@pytest.mark.parametrize(
    ("alpha", "verdict", "right"),
    [(0, "smoothed", False), (0, "not smoothed", True), (0.01, "smoothed", True), (0.01, "not smoothed", False)],
)
def test_a_verdict_is_right_where_it_says_what_was_done(alpha, verdict, right):
    assert smoothing_study.right(alpha, SmoothingEstimate(0.1, 0.0, 1.0, verdict, "")) == right
    assert smoothing_study.right(alpha, SmoothingEstimate(None, None, None, "cannot tell", "")) is None


def test_an_interval_without_alpha_does_not_hold_it():
    estimate = SmoothingEstimate(0.1, 0.05, 0.2, "smoothed", "")
    assert [smoothing_study.held(alpha, estimate) for alpha in (0.04, 0.05, 0.2, 0.21)] == [False, True, True, False]


@pytest.mark.slow
def test_a_run_is_trained_once_and_evaluated(tmp_path, capsys):
    arguments = smoothing_study.parser().parse_args(["train", "--dest", str(tmp_path), "--runs", "1"])
    smoothing_study.main(arguments)
    (file,) = tmp_path.iterdir()
    with np.load(file) as snapshots:
        assert list(snapshots) == ["early", "converged", "long"]
    written = file.stat().st_mtime_ns
    smoothing_study.main(arguments)
    assert file.stat().st_mtime_ns == written
    half = settings()[smoothing_study.in_order()[0]]
    smoothing_study.main(smoothing_study.parser().parse_args(["evaluate", str(tmp_path), "--half", half]))
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["all", "3"]
