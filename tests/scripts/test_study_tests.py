"""The tests of the registered statements, on made-up results whose answers are known, against scipy."""

import csv
import itertools
from collections import Counter

import numpy as np
import pytest
import study_tests
from image_statements import Results, drift_slopes, elsewhere, larger_student, paper_statements, reasons
from planned_tests import judged
from scipy import stats
from study_tests import table
from translation_statements import Translations, translation, translation_again

from lskd.io.errors import InputError
from lskd.io.tables import write

SEEDS = range(11, 16)
VARIANTS = ("plain", "match", "lr-x3", "lr-x10", "adamw", "epochs-x4", "standardised", "wttm", "teacher-only")
PAPERS_AT_ONE = ("match", "wttm", "teacher-only")


def made_up(directory, cost, drift, drift_costs=0.0, left_out=(), first_seed=11):
    """Results in which T costs ``cost(variant, α, T)`` points, η(S1) is ``drift(variant, α, T)``, beside noise."""
    draws = np.random.default_rng(5)
    students, etas, measures, epochs = [], [], [], []
    outputs = {"nc2_angles": 0.2, "nc3": 0.4, "optimal_temperature": 0.5}
    for seed in range(first_seed, first_seed + 5):
        of_seed = draws.normal()
        for model, alpha, variant, T in itertools.product(
            ("test_resnet", "resnet10t"), (0.0, 0.05, 0.1, 0.2), VARIANTS, (1, 2, 3, 4, 64)
        ):
            if T == 1 and variant in PAPERS_AT_ONE:
                continue
            run = f"letters.{variant}/{model}_a{alpha:g}_T{T}_s{seed}"
            eta = drift(variant, alpha, T) + draws.normal() if T > 1 else 0
            top1 = 80 + of_seed - cost(variant, alpha, T) + drift_costs * eta + 0.2 * draws.normal()
            row = {"run": run, "variant": variant, "model": model, "label_smoothing": alpha, "temperature": T}
            if run not in left_out:
                students.append(row | {"seed": seed, "valid_top1": top1, "valid_teacher_agreement": top1 + 2})
                epochs += [{"run": run, "epoch": epoch, "valid_top1": top1 * epoch / 2} for epoch in (1, 2)]
                if T > 1:
                    etas.append({"run": run, "eta_similar_percent": eta, "eta_dissimilar_percent": -eta / 5})
                collapse = {"nc1": 2 + alpha, "nc1_ratio": 1 - 3 * alpha + 0.01 * of_seed}
                collapse["similar_distance"] = 0.5 + alpha
                measures.append({"run": run} | collapse | outputs | {"ece_percent": 10 + T})
        for alpha, variant in itertools.product((0.0, 0.1), ("plain", "lr-x3", "lr-x10")):
            run = f"letters.{variant}/test_resnet_a{alpha:g}_s{seed}"
            row = {"run": run, "variant": variant, "model": "test_resnet", "label_smoothing": alpha, "temperature": ""}
            top1 = 70 + 10 * alpha + (variant == "lr-x3")
            students.append(row | {"seed": seed, "valid_top1": top1, "valid_teacher_agreement": ""})
        for alpha in (0.0, 0.1):
            run = f"letters/resnet10t_a{alpha:g}_s{seed}"
            row = {"run": run, "variant": "plain", "model": "resnet10t", "label_smoothing": alpha, "temperature": ""}
            students.append(row | {"seed": seed, "valid_top1": 87, "valid_teacher_agreement": ""})
            noise = 0.01 * draws.normal()
            collapse = {"nc1": 2 - alpha + noise, "nc1_ratio": 1 - 3 * alpha + noise}
            collapse["similar_distance"] = 0.5 + alpha + noise
            measures.append({"run": run} | collapse | outputs | {"ece_percent": 10})
    for name, rows in (("students", students), ("eta", etas), ("measures", measures), ("epochs", epochs)):
        write(directory / f"{name}.csv", rows)
    return Results(directory)


def made_up_studies(directory, *arguments, **options):
    """The same results of study-step and, in the directory beside it, of study-optimiser and study-model."""
    for place in (directory, directory.with_name(f"{directory.name}-optimiser")):
        place.mkdir(parents=True)
        made_up(place, *arguments, **options)
    return Results(directory)


def step_size_alone(variant, alpha, T):
    """T costs by the size of the steps: not where they are matched."""
    return 0 if variant not in ("plain", "lr-x3") else 5 * alpha / 0.1 * np.log(T)


def drift(variant, alpha, T):
    return -8 * np.log(T) * alpha / 0.1


def verdicts(tests):
    return {row["what"]: row["verdict"] for row in judged(tests)}


def test_where_t_costs_by_its_steps_alone_match_removes_the_cost_and_the_drift_costs_nothing(tmp_path):
    results = made_up(tmp_path, step_size_alone, drift)
    found = verdicts(reasons(results))
    for T in (3, 64):
        assert found[f"cost of T = {T}"] == "holds"
        assert found[f"cost of T = {T} with match"] == "not shown"
        assert found[f"η(S1) to T = {T} with match"] == "holds"
    assert found["slope of top-1 over η(S1), match and losses"] == "not shown"
    removed = [row["verdict"] for row in judged(reasons(results)) if row["statement"] == "match: removed"]
    assert removed == ["holds", "holds"]
    assert [row["verdict"] for row in judged(reasons(results)) if row["statement"] == "lr-x3: removed"] == [
        "not shown",
        "not shown",
    ]
    assert verdicts(larger_student(results))["cost of T = 64 with match"] == "not shown"


def test_where_the_drift_costs_accuracy_its_slope_is_found(tmp_path):
    results = made_up(tmp_path, lambda *_: 0, drift, drift_costs=0.3)
    slopes = drift_slopes(results)
    assert np.mean(list(slopes.values())) == pytest.approx(0.3, abs=0.03)
    assert verdicts(reasons(results))["slope of top-1 over η(S1), match and losses"] == "holds"
    assert verdicts(reasons(results))["cost of T = 3 with match"] == "holds"


def test_the_papers_statements_hold_where_they_are_true_and_are_contradicted_where_the_opposite_is(tmp_path):
    (tmp_path / "true").mkdir()
    true = verdicts(paper_statements(made_up(tmp_path / "true", step_size_alone, drift)))
    assert true["cost of T = 64, α = 0.1"] == "holds"
    assert true["cost of T = 64, α = 0"] == "not shown"
    assert true["η(S1) to T = 3, α = 0.1"] == true["η(S2) to T = 3, α = 0.1"] == "holds"
    assert true["NC1 ratio of teachers, α = 0.1 less 0"] == "holds"
    assert true["slope of the cost of T = 64 over α"] == "holds"
    (tmp_path / "false").mkdir()
    false = paper_statements(made_up(tmp_path / "false", lambda *cell: -step_size_alone(*cell), lambda *_: 8.0))
    found = verdicts(false)
    assert found["cost of T = 64, α = 0.1"] == found["η(S1) to T = 3, α = 0.1"] == "contradicted"
    best = [row for row in judged(false) if row["statement"].startswith("2 ")]
    assert [row["verdict"] for row in best] == ["contradicted"]
    assert best[0]["what"].endswith("(T = 64, α = 0.1)")


def test_intervals_and_p_are_those_of_students_t_over_the_seeds_and_p_is_adjusted_for_its_question_alone(tmp_path):
    results = made_up(tmp_path, step_size_alone, drift)
    tests = reasons(results)
    one, three = (results.top1["plain", "test_resnet", 0.1, T] for T in (1.0, 3.0))
    differences = [one[seed] - three[seed] for seed in SEEDS]
    (found,) = [test for test in tests if test.what == "cost of T = 3"]
    expected = stats.ttest_1samp(differences, 0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-3)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6)
    rows = {(row["question"], row["what"]): row for row in judged([*tests, *larger_student(results)])}
    smaller = sum(test.p < found.p for test in tests)  # Holm: at least as many times p as hypotheses are left
    assert float(rows["2", "cost of T = 3"]["p_adjusted"]) >= 0.99 * (len(tests) - smaller) * found.p


def test_a_question_with_missing_runs_has_means_and_no_verdict_and_others_keep_theirs(tmp_path):
    gone = "letters.match/test_resnet_a0.1_T64_s13"
    results = made_up(tmp_path, step_size_alone, drift, left_out=[gone])
    rows = judged([*reasons(results), *larger_student(results)])
    assert {row["verdict"] for row in rows if row["question"] == "2"} == {"incomplete"}
    assert "incomplete" not in {row["verdict"] for row in rows if row["question"] == "2, larger student"}
    (short,) = [row for row in rows if row["what"] == "cost of T = 64 with match" and row["question"] == "2"]
    assert (short["n"], short["low"], short["p_adjusted"]) == ("4", "", "")
    assert float(short["mean"]) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("place", ["studies", "studies-optimiser"])
def test_the_check_finds_a_result_that_was_changed(place, tmp_path, monkeypatch):
    studies = tmp_path / "studies"
    made_up_studies(studies, step_size_alone, drift)
    monkeypatch.setattr(study_tests, "RESULTS", studies)
    options = study_tests.parser()
    (studies / "tests.csv").write_text(table(studies), encoding="utf-8")
    study_tests.run(options.parse_args(["--check"]))
    changed = tmp_path / place / "students.csv"
    changed.write_text(changed.read_text(encoding="utf-8").replace(",0.1,3,11,", ",0.1,3,11,1"), encoding="utf-8")
    with pytest.raises(InputError, match=r"differs from the committed results: run scripts/study_tests\.py"):
        study_tests.run(options.parse_args(["--check"]))


def test_a_student_without_an_eta_is_left_out_of_the_slope(tmp_path):
    made_up(tmp_path, lambda *_: 0, drift, drift_costs=0.3)
    rows = list(csv.DictReader((tmp_path / "eta.csv").read_text().splitlines()))
    for row in rows:
        if row["run"] == "letters.wttm/test_resnet_a0.1_T64_s11":
            row["eta_similar_percent"] = ""
    write(tmp_path / "eta.csv", rows)
    assert drift_slopes(Results(tmp_path))[11] == pytest.approx(0.3, abs=0.06)
    write(tmp_path / "eta.csv", [row for row in rows if row["eta_similar_percent"]])
    assert set(drift_slopes(Results(tmp_path))) == set(SEEDS) - {11}  # it has not been measured yet


def test_what_is_asked_elsewhere_is_a_family_of_its_own_with_its_own_seeds(tmp_path):
    fonts = tmp_path / "studies-other-fonts"
    made_up_studies(tmp_path / "studies", lambda *_: 0, drift)
    fonts.mkdir()
    made_up(fonts, step_size_alone, drift, first_seed=21)
    rows = list(csv.DictReader(table(tmp_path / "studies").splitlines()))
    found = {(row["question"], row["what"]): row["verdict"] for row in rows}
    assert found["1", "cost of T = 64, α = 0.1"] == "not shown"
    assert found["5, other-fonts: 1", "cost of T = 64, α = 0.1"] == "holds"
    assert found["5, other-fonts: 2", "cost of T = 64 with match"] == "not shown"
    assert found["5, other-fonts: 2", "cost of T = 64 with adamw"] == "not shown"
    assert not any(what.startswith("slope") for question, what in found if question.startswith("5"))
    others = [row for row in judged(elsewhere("convnext", fonts)) if row["n"] != "0"]
    assert all(row["verdict"] == "incomplete" for row in others)  # these are no ConvNeXt's, and of other seeds


def made_up_translations(directory, seeds=range(11, 14)):
    """Translations that lose 4 BLEU at T = 64, half of it by the step, and gain 1 by a teacher and 1 by sentences."""
    directory.mkdir(exist_ok=True)
    draws = np.random.default_rng(3)
    rows, etas = [], []
    for seed, alpha, (variant, gain, lost) in itertools.product(
        seeds,
        (0.0, 0.1),
        (("plain", 0, 4), ("match", 0, 2), ("standardised", 0, 0), ("top-4", -1, 6), ("mkd", 1, 9)),
    ):
        for pair, T in itertools.product(("en-de", "en-ru"), (1, 2, 3, 64)):
            if variant == "match" and T == 1:
                continue
            study = f"help.{pair}" + ("" if variant == "plain" else f".{variant}")
            run = f"{study}/transformer-small_a{alpha:g}_T{T}_s{seed}"
            row = {"run": run, "variant": variant, "label_smoothing": alpha, "seed": seed}
            bleu = 20 + gain - lost * (T == 64) + 0.05 * draws.normal()
            rows.append(row | {"bleu": bleu, "chrf": 2 * bleu})
            etas.append({"run": run, "eta_similar_percent": -3 * alpha / 0.1 + 0.1 * draws.normal()})
    others = ((".sequence-level/transformer-small_a{}_T1", 1), (".both/transformer-small_a{}_T1", 2))
    others += (("/transformer-small_a{}", -1), ("/transformer_a{}", 5))
    for seed, alpha, (end, gain) in itertools.product(seeds, (0.0, 0.1), others):
        run = f"help.en-de{end.format(f'{alpha:g}')}_s{seed}"
        variant = end.partition("/")[0].strip(".") or "plain"
        row = {"run": run, "variant": variant, "label_smoothing": alpha, "seed": seed}
        bleu = 20 + gain + 0.05 * draws.normal()
        rows.append(row | {"bleu": bleu, "chrf": 2 * bleu})
    longer = (("", 1, 25), ("", 64, 22), ("-match", 64, 24), ("-top-4", 64, 21), ("-standardised", 64, 25))
    curves = []
    for seed, (end, T, mean) in itertools.product(seeds, longer):
        run = f"help.en-de.epochs-x4{end}/transformer-small_a0.1_T{T}_s{seed}"
        row = {"run": run, "variant": f"epochs-x4{end}", "label_smoothing": 0.1, "seed": seed}
        bleu = mean + 0.05 * draws.normal()
        rows.append(row | {"bleu": bleu, "chrf": 2 * bleu})
        curves += [{"run": run, "epoch": epoch, "valid_bleu": epoch + seed} for epoch in range(1, 21)]
    write(directory / "translations.csv", [row | {"seconds": 90.0} for row in rows])
    write(directory / "translations_eta.csv", etas)
    write(directory / "translations_epochs.csv", curves)
    return Translations(directory)


def test_statements_on_translation_are_tested_on_the_students_that_they_name(tmp_path):
    rows = {row["what"]: row for row in judged(translation(made_up_translations(tmp_path)))}
    expected = {
        "cost of T = 64, en-ru, all tokens, α = 0.1": 4,
        "cost of T = 64, en-de, as the code, α = 0": 9,
        "part of the cost of T = 64 removed by match, α = 0.1": 2,
        "part of the cost of T = 64 removed by standardised, α = 0": 4,
        "cost of T = 64 with top 4 less with all, α = 0.1": 2,
        "η(S1) to T = 3, α = 0.1": -3,
        "η(S1) to T = 64, α = 0.1 less 0": -3,
        "word by word less no teacher, α = 0": 1,
        "translations less no teacher, α = 0.1": 2,
        "both less word by word, α = 0": 2,
        "part of the cost of T = 64 removed by four times the epochs": 1,
        "cost of T = 64 with four times the epochs": 3,
        "cost of T = 64 with four times the epochs and match": 1,
    }
    for what, mean in expected.items():
        assert float(rows[what]["mean"]) == pytest.approx(mean, abs=0.3), what
        assert rows[what]["verdict"] == "holds", what
    assert Counter(row["question"] for row in rows.values()) == {
        "3.1": 6,
        "3.1, Russian and the paper's code": 18,
        "3.2": 6,
        "3.3": 4,
        "3.4": 6,
        "3.5": 3,
    }
    assert rows["cost of T = 2, en-de, all tokens, α = 0"]["verdict"] == "not shown"


def test_statements_on_other_seeds_are_one_family_of_their_own_students(tmp_path):
    found = made_up_translations(tmp_path, range(14, 19))
    rows = {row["what"]: row for row in judged(translation_again(found))}
    assert len(rows) == 11
    assert {row["question"] for row in rows.values()} == {"3, other seeds"}
    expected = {
        "cost of T = 64": 4,
        "part of the cost of T = 64 removed by match": 2,
        "part of the cost of T = 64 removed by standardised": 4,
        "cost of T = 64 with top 4 less with all": 2,
        "η(S1) to T = 3": -3,
        "η(S1) to T = 64": -3,
        "part of the cost of T = 64 removed by four times the epochs": 1,
        "cost of T = 64 with four times the epochs": 3,
        "part of the cost of T = 64 with four times the epochs removed by match": 2,
        "cost of T = 64 with four times the epochs and match": 1,
    }
    for what, mean in expected.items():
        assert float(rows[what]["mean"]) == pytest.approx(mean, abs=0.2), what
        assert rows[what]["verdict"] == "holds", what
        assert rows[what]["n"] == "5"
    assert abs(float(rows["cost of T = 3"]["mean"])) < 0.2  # the only other one: nothing is lost there
    three = judged(translation_again(made_up_translations(tmp_path / "three")))  # other seeds are not taken for these
    assert {row["verdict"] for row in three} == {"incomplete"}


def test_adamw_at_other_smoothings_and_the_larger_student_are_tested_on_other_seeds(tmp_path):
    made_up_studies(tmp_path / "studies", step_size_alone, lambda *_: 0)
    more = tmp_path / "studies-other-seeds"
    more.mkdir()
    results = made_up(more, lambda variant, alpha, T: 10 * alpha * (T == 64), lambda *_: 0, first_seed=51)
    rows = list(csv.DictReader(table(tmp_path / "studies").splitlines()))
    found = {row["what"]: row for row in rows if row["question"] == "1, AdamW"}
    assert found["cost of T = 64, α = 0.2"]["verdict"] == "holds"
    values = results.cost("adamw", 0.2, 64).values()
    assert float(found["cost of T = 64, α = 0.2"]["mean"]) == pytest.approx(sum(values) / 5, abs=1e-6)
    assert found["cost of T = 3, α = 0.05"]["verdict"] == "not shown"
    larger = [row for row in rows if row["question"] == "2, larger student of the plain teacher"]
    assert [row["what"] for row in larger] == ["cost of T = 3, α = 0", "cost of T = 64, α = 0"]
    values = results.cost("plain", 0.0, 64, "resnet10t").values()
    assert float(larger[1]["mean"]) == pytest.approx(sum(values) / 5, abs=1e-6)


def test_the_grid_of_the_larger_student_has_three_families_of_seeds_of_its_own(tmp_path):
    made_up_studies(tmp_path / "studies", step_size_alone, lambda *_: 0)
    where = tmp_path / "studies-larger-student"
    where.mkdir()
    results = made_up(
        where, lambda variant, alpha, T: 0 if variant == "match" else 30 * alpha * (T == 64), drift, 0, (), 61
    )
    rows = list(csv.DictReader(table(tmp_path / "studies").splitlines()))
    families = {
        name: {row["what"]: row for row in rows if row["question"] == name}
        for name in ("1, larger student", "1, larger student, AdamW", "2, larger student, α = 0.2")
    }
    assert [len(family) for family in families.values()] == [25, 8, 10]
    paper, adamw, reasons = families.values()
    assert paper["cost of T = 64, α = 0.1"]["verdict"] == paper["η(S1) to T = 3, α = 0.1"]["verdict"] == "holds"
    assert adamw["cost of T = 64, α = 0.2"]["verdict"] == "holds"
    assert adamw["cost of T = 3, α = 0.2"]["verdict"] == "not shown"
    assert reasons["part of the cost of T = 64 removed by match"]["verdict"] == "holds"
    for family, what, cost in (
        (paper, "cost of T = 64, α = 0.1", results.cost("plain", 0.1, 64, "resnet10t")),
        (adamw, "cost of T = 64, α = 0.05", results.cost("adamw", 0.05, 64, "resnet10t")),
        (reasons, "cost of T = 64 with match", results.cost("match", 0.2, 64, "resnet10t")),
    ):
        assert float(family[what]["mean"]) == pytest.approx(sum(cost.values()) / 5, abs=1e-6)
