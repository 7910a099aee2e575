import json

import numpy as np
import pytest
from helpers.small_runs import image_run, translation_run
from scipy.stats import ttest_1samp

from lskd.measure.comparisons import planned_difference
from lskd.measure.temperature_effects import effects, step_controls
from lskd.records.found_runs import find_runs
from lskd.records.studies import group

SGD = {"opt": "momentum", "lr": 0.1}


def students(place, by_temperature, alpha=0.1, **host):
    for T, values in by_temperature.items():
        for seed, top1 in enumerate(values, 1):
            image_run(place, alpha, float(T), seed, top1=top1, host=host)


def found_in(place):
    return effects(group(find_runs([place])))


def test_an_effect_has_the_students_of_one_teacher_and_setting(tmp_path):
    students(tmp_path, {1: [80, 81, 82], 3: [79, 80.5, 81]}, **SGD)
    students(tmp_path, {1: [85, 86, 87]}, alpha=0.0, **SGD)
    students(tmp_path / "other", {1: [70, 71, 72]}, **SGD, epochs=1)
    found = found_in(tmp_path)
    means = [(each.alpha, {T: spread.mean for T, spread in each.means.items()}) for each in found]
    assert sorted(means, key=str) == sorted(
        [(0.1, {1: 81, 3: pytest.approx(80.1666667)}), (0.0, {1: 86}), (0.1, {1: 71})], key=str
    )
    (both,) = [each for each in found if len(each.values) == 2]
    assert both.best == 1
    assert both.against_one.difference == pytest.approx(0.8333333)
    assert both.plain_steps
    assert both.optimiser == "momentum"


def test_of_equal_means_the_lowest_temperature_is_the_best(tmp_path):
    students(tmp_path, {3: [80.0], 2: [80.0], 64: [79.0]})
    assert found_in(tmp_path)[0].best == 2


def test_a_cost_and_what_a_control_removes_of_it_are_paired_over_seeds(tmp_path):
    values = {1: [85.0, 85.4, 85.2], 3: [83.0, 83.5, 83.1]}
    matched = [84.9, 85.2, 85.3]
    students(tmp_path, values, **SGD)
    students(tmp_path / "match", {3: matched}, **SGD, kd_gradient_scale="match")
    (control,) = step_controls(found_in(tmp_path))
    one, three, under = (np.array(each) for each in (values[1], values[3], matched))
    for found, differences in (
        (control.cost, one - three),
        (control.cost_controlled, one - under),
        (control.removed, under - three),
    ):
        assert found.paired
        assert found.difference == pytest.approx(differences.mean())
        assert found.p == pytest.approx(ttest_1samp(differences, 0).pvalue, abs=1e-5)
    assert control.verdict == "all"


def test_p_is_adjusted_for_the_three_differences_of_a_control(tmp_path):
    one, three, under = [85.0, 85.4, 85.2], [83.0, 83.42, 83.18], [84.0, 84.72, 83.88]
    students(tmp_path, {1: one, 3: three}, **SGD)
    students(tmp_path / "match", {3: under}, **SGD, kd_gradient_scale="match")
    (control,) = step_controls(found_in(tmp_path))
    assert control.removed.p < 0.05 < 2 * control.removed.p  # the second smallest of three
    assert control.verdict == "none"


def test_another_optimiser_has_its_own_students_of_1(tmp_path):
    sgd, adam = {1: [85.0, 85.4, 85.2], 3: [83.0, 83.5, 83.1]}, {1: [86.0, 86.1, 86.3], 3: [85.9, 86.2, 86.2]}
    students(tmp_path, sgd, **SGD)
    students(tmp_path / "adam", adam, opt="adamw", lr=0.005, weight_decay=0.05, warmup_epochs=1)
    (control,) = step_controls(found_in(tmp_path))
    removed = [np.array(each[1]) - np.array(each[3]) for each in (sgd, adam)]
    assert control.removed.difference == pytest.approx((removed[0] - removed[1]).mean())
    assert control.removed.p == pytest.approx(ttest_1samp(removed[0] - removed[1], 0).pvalue, abs=1e-5)


@pytest.mark.parametrize(
    "host",
    [
        {"opt": "adamw", "lr": 0.005, "epochs": 20},  # trained longer, too
        {"opt": "nesterov", "lr": 0.1},  # as plain as the other
        {"opt": "momentum", "lr": 0.3, "weight_decay": 0.05},
        {"opt": "momentum", "lr": 0.3, "epochs": 20},
        SGD | {"kd_gradient_scale": "match", "kd_loss": "standardised"},
        SGD | {"kd_gradient_scale": "none"},
    ],
)
def test_runs_that_differ_in_anything_else_are_no_control(tmp_path, host):
    students(tmp_path, {1: [85.0] * 3, 3: [83.0] * 3}, **SGD)
    students(tmp_path / "other", {1: [85.0] * 3, 3: [84.0] * 3}, **host)
    assert step_controls(found_in(tmp_path)) == []


def test_larger_learning_rates_control_the_smallest_one(tmp_path):
    rates = {0.1: (85.0, 83.0), 0.3: (86.0, 85.9), 1: (86.5, 86.6)}
    for rate, (one, three) in rates.items():
        noise = np.array([0, 0.2, 0.1]) * rate
        values = {1: [one + 0.1, one, one - 0.1], 3: [*(three - noise)]}
        students(tmp_path / f"{rate}", values, opt="momentum", lr=rate, min_lr=rate / 100)
    found = step_controls(found_in(tmp_path))
    assert [(each.name, each.plain.learning_rate) for each in found] == [("--lr 0.3", 0.1), ("--lr 1", 0.1)]
    assert [each.verdict for each in found] == ["all", "all"]
    assert found[0].removed.difference == pytest.approx((85.0 - 83.0 + 0.01) - (86.0 - 85.9 + 0.03))
    students(tmp_path / "match", {3: [84.0] * 3}, opt="momentum", lr=1, min_lr=0.01, kd_gradient_scale="match")
    names = [(each.name, each.plain.learning_rate) for each in step_controls(found_in(tmp_path))]
    assert sorted(names) == [("--lr 0.3", 0.1), ("--lr 1", 0.1), ("match", 1)]


def test_of_rates_the_smallest_with_enough_students_is_controlled(tmp_path):
    for rate, values in ((0.1, {1: [85.0, 85.2, 85.1], 3: [83.0, 83.1, 83.2]}), (0.3, {1: [86.0] * 3, 3: [86.0] * 3})):
        students(tmp_path / f"{rate}", values, opt="momentum", lr=rate)
    students(tmp_path / "tuning", {1: [80.0, 80.2], 3: [79.0, 79.1]}, opt="momentum", lr=0.03)
    (control,) = [each for each in step_controls(found_in(tmp_path)) if each.verdict != "cannot tell"]
    assert (control.plain.learning_rate, control.control.learning_rate) == (0.1, 0.3)
    students(tmp_path / "adam", {1: [86.0] * 3, 3: [85.9] * 3}, opt="adamw", lr=0.003)
    found = [each for each in step_controls(found_in(tmp_path)) if each.verdict != "cannot tell"]
    pairs = {(each.plain.learning_rate, each.name) for each in found}
    assert pairs == {(0.1, "--lr 0.3"), (0.1, "adamw --lr 0.003")}


def test_sgd_with_decoupled_weight_decay_does_not_normalise_its_steps(tmp_path):
    students(tmp_path, {1: [85.0] * 3, 3: [83.0] * 3}, **SGD)
    students(tmp_path / "other", {1: [85.0] * 3, 3: [85.0] * 3}, opt="sgdw", lr=0.1)
    assert step_controls(found_in(tmp_path)) == []


def test_students_of_other_data_with_the_same_name_are_no_control(tmp_path):
    students(tmp_path, {1: [85.0] * 3, 3: [83.0] * 3}, **SGD)
    students(tmp_path / "other", {1: [85.0] * 3, 3: [85.0] * 3}, opt="momentum", lr=0.3)
    for run in (tmp_path / "other").glob("*/*/run.json"):
        record = json.loads(run.read_text())
        record["data"]["fingerprint"] = "other"
        run.write_text(json.dumps(record))
    assert step_controls(found_in(tmp_path)) == []


def test_a_larger_learning_rate_of_adamw_is_no_control(tmp_path):
    for rate in (0.001, 0.003):  # its steps have the same size whatever that of the gradient is
        students(tmp_path / f"{rate}", {1: [85.0] * 3, 3: [83.0] * 3}, opt="adamw", lr=rate)
    assert step_controls(found_in(tmp_path)) == []


def test_with_fewer_than_three_seeds_nothing_can_be_told(tmp_path):
    students(tmp_path, {1: [85.0, 85.1], 3: [83.0, 83.2]}, **SGD)
    students(tmp_path / "match", {3: [85.0, 85.1]}, **SGD, kd_gradient_scale="match")
    (control,) = step_controls(found_in(tmp_path))
    assert (control.verdict, control.cost, control.removed) == ("cannot tell", None, None)


def test_match_controls_translations_too_whose_optimiser_normalises_its_steps(tmp_path):
    for name, T, scale, values in (
        ("plain", 1.0, "t2", [16.0, 16.2, 16.1]),
        ("plain", 3.0, "t2", [12.0, 12.3, 12.1]),
        ("match", 3.0, "match", [16.0, 16.3, 16.0]),
    ):
        for seed, bleu in enumerate(values, 1):
            run = translation_run(tmp_path / name, T, bleu, seed)
            record = json.loads((run / "run.json").read_text())
            host = record["configuration"]["host"]
            host |= {"optimizer": {"_name": "adam"}, "criterion": {"kd_gradient_scale": scale}}
            (run / "run.json").write_text(json.dumps(record))
    (control,) = step_controls(found_in(tmp_path))
    assert (control.temperature, control.verdict, control.control.matched) == (3, "all", True)


def test_translations_are_compared_by_bleu(tmp_path):
    translation_run(tmp_path, 1.0, 16.0)
    translation_run(tmp_path, 3.0, 12.0)
    (effect,) = found_in(tmp_path)
    assert {T: each.mean for T, each in effect.means.items()} == {1: 16.0, 3: 12.0}
    assert effect.study.unit == "BLEU"


def test_seeds_that_are_not_shared_are_compared_by_their_spreads():
    one, other = {1: 80.0, 2: 81.0, 3: 82.5}, {4: 79.0, 5: 79.5, 6: 81.0}
    found = planned_difference([(1, one), (-1, other)])
    assert not found.paired
    assert found.difference == pytest.approx(np.mean(list(one.values())) - np.mean(list(other.values())))
    assert found.interval[0] < found.difference < found.interval[1]
    assert planned_difference([(1, one), (-1, {1: 80.0})]) is None
