"""What is told of the committed results is what they give: `make results-check`."""

import re

import evidence
import evidence_page
import pytest
import study_tests
from evidence_format import untested
from evidence_not_registered import collapse_of_both, cost_from_smoothing, drift_from_both
from evidence_page import filled
from evidence_summary import RATES, costs, with_adamw
from evidence_tables import drifts, followed, readings
from evidence_translation import chrf_costs, collapse, sentence_tests
from image_statements import Results
from planned_tests import minus, read_tests
from test_study_tests import SEEDS, made_up, made_up_studies, made_up_translations, step_size_alone

from lskd.io.errors import InputError
from lskd.io.tables import write

SCRIPTS = (evidence, study_tests, evidence_page)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_every_committed_number_is_computed_again_and_is_the_same(script):
    assert script.run(script.parser().parse_args(["--check"])) is None  # else an InputError names the file


def test_a_number_that_was_changed_by_hand_is_found(monkeypatch, tmp_path):
    page = tmp_path / "evidence.md"
    text = evidence_page.PAGES[0].read_text(encoding="utf-8")
    page.write_text(text.replace("<!-- end -->", "| 99.9 |\n\n<!-- end -->", 1), encoding="utf-8")
    monkeypatch.setattr(evidence_page, "PAGES", (page,))
    with pytest.raises(InputError, match=r"differs from the committed results: run scripts/evidence_page\.py"):
        evidence_page.run(evidence_page.parser().parse_args(["--check"]))


def test_the_pages_tables_have_the_results_of_a_directory(tmp_path):
    directory = tmp_path / "studies"
    results = made_up_studies(directory, step_size_alone, lambda variant, alpha, T: -80 * alpha)
    advice = [
        {"label_smoothing": f"{alpha:g}", "seed": seed, "alone": "1", "runs": "64" if seed == 11 else "1"}
        for alpha in (0, 0.05, 0.1, 0.2)
        for seed in SEEDS
    ]
    write(tmp_path / "studies-optimiser" / "advice.csv", advice)
    (directory / "tests.csv").write_text(study_tests.table(directory), encoding="utf-8")
    translations = made_up_translations(directory)
    blocks = ("gains", "best", "accuracy", "paper", "controls", "reasons", "larger", "advice", "ways")
    page = filled("".join(f"<!-- {name} -->\n<!-- end -->\n" for name in blocks), directory)
    assert filled(page, directory) == page
    usual, of_rates = [line for line in page.splitlines() if line.startswith("- At ")]
    at_one = results.accuracy("plain", 0.2, 1).values()  # the best of α = .2
    assert usual.endswith(f" {sum(at_one) / 5:.2f} % from α = 0.2 (T = 1).")
    assert "72.00 % without a teacher (rate .3, labels smoothed by 0.1)." in of_rates
    means = [sum(results.accuracy(rate, 0.0, T).values()) / 5 for rate in RATES for T in (1, 3, 64)]
    assert f"{max(means):.2f} % from α = 0 (rate " in of_rates
    smoothing = minus(results.accuracy("lr-x10", 0.1, 1), results.accuracy("lr-x10", 0.0, 1))
    taught = minus(results.accuracy("plain", 0.1, 1), dict.fromkeys(SEEDS, 70.0))
    later = minus(results.accuracy("match", 0.1, 64), results.accuracy("lr-x3", 0.1, 1))
    for row in (
        f"| T = 1, rate 1 | smoothed teacher minus plain one | {untested(smoothing)} |",
        f"| T = 1, rate .1, question 1 | smoothed teacher minus labels | {untested(taught)} |",
        f"| smoothed teacher | T = 64, `match`, rate .1 minus T = 1, rate .3 | {untested(later)} |",
    ):
        assert row in page
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    (at_one,) = [row[2] for row in rows if row[:2] == ["SGD", "0.1"] and len(row) == 8]
    values = results.accuracy("plain", 0.1, 1).values()
    assert at_one.startswith(f"{sum(values) / 5:.2f}\u00a0±\u00a0")
    (match,) = [row for row in rows if row[:2] == ["`match`", "0.1"] and len(row) == 7]
    assert match[5].startswith("−8.")
    cost = next(row for row in rows if row[0] == "cost of T = 64 with `match`" and row[4] == "5")
    assert cost[-1] == "not shown"
    advice = page.partition("<!-- advice -->")[2]
    smoothed = re.search(r"\| 0\.2 \|.*", advice)[0].strip("| ").split(" | ")
    by_T = {T: results.accuracy("plain", 0.2, T) for T in (1, 4, 64)}  # T = 1 is the best, as T costs by its steps
    best = sum(by_T[1].values()) / 5
    assert smoothed[1:4] == [f"{best:.2f} at T = 1", "1", "64, 1, 1, 1, 1"]
    followed = [best - by_T[64 if seed == 11 else 1][seed] for seed in SEEDS]
    for cell, mean in zip(smoothed[4:], (0, best - sum(by_T[4].values()) / 5, sum(followed) / 5), strict=True):
        assert float(cell.partition("\u00a0")[0].replace("−", "-")) == pytest.approx(mean, abs=0.006)
    (both,) = [row for row in rows if row[:2] == ["its translations, word by word", "0.1"]]
    values = [translations.of("both", 0.1, 1, metric=metric).values() for metric in ("bleu", "chrf")]
    assert [cell.partition("\u00a0")[0] for cell in both[2:]] == [f"{sum(each) / 3:.2f}" for each in values]
    with pytest.raises(InputError, match="must be a block of accuracy"):
        filled("<!-- acuracy -->\n<!-- end -->", directory)


def test_the_first_table_has_what_t_costs_each_kind_of_students_and_marks_what_is_beyond_chance(tmp_path):
    directory = tmp_path / "studies"
    results = made_up_studies(directory, step_size_alone, lambda variant, alpha, T: -80 * alpha)
    (tmp_path / "studies-other-fonts").mkdir()
    elsewhere = made_up(tmp_path / "studies-other-fonts", step_size_alone, lambda *_: 0, first_seed=21)
    (directory / "tests.csv").write_text(study_tests.table(directory), encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in costs(directory).splitlines()[2:]]
    again = rows.pop(1)
    assert (again[0], again[2], again[4]) == ("the small ResNet, on another processor", "–", "–")
    names = ["a small ResNet", "a ResNet as large as its teacher", "a small ResNet, other fonts"]
    assert [row[0] for row in rows] == [*names, "the small ResNet, *teacher without smoothing* (not tested)"]
    kinds = [(results, 0.1, None), (results, 0.1, "resnet10t"), (elsewhere, 0.1, None), (results, 0.0, None)]
    for (_, *cells), (found, alpha, model) in zip(rows, kinds, strict=True):
        ways = [(variant, T) for T in (3, 64) for variant in ("plain", "match")]
        for (variant, T), cell in zip(ways, cells, strict=True):
            values = found.cost(variant, alpha, T, model).values()
            assert cell.strip("*").replace("−", "-").startswith(f"{sum(values) / 5:.2f} (")
            assert cell.startswith("**") == (variant == "plain" and alpha == 0.1)
    assert costs(tmp_path) == "No runs yet."
    found = [elsewhere.cost("adamw", 0.1, T).values() for T in (3, 64)]
    means = [f"{sum(values) / 5:.2f}".replace("-", "−") for values in found]
    assert re.search(rf"T = 3 costs {means[0]} \(.+\), T = 64 {means[1]} \(.+\) points\.", with_adamw(elsewhere))


def test_a_number_in_a_sentence_is_that_of_the_test_that_it_names(tmp_path):
    directory = tmp_path / "studies"
    results = made_up_studies(directory, step_size_alone, lambda *_: 0)
    (directory / "tests.csv").write_text(study_tests.table(directory), encoding="utf-8")
    cost = results.cost("plain", 0.1, 64).values()
    told = f"T = 64 costs {sum(cost) / 5:.2f}<!-- 2 | cost of T = 64 --> points."
    assert filled("T = 64 costs 0.1<!-- 2 | cost of T = 64 --> points.", directory) == told
    gain = results.cost("plain", 0.0, 3).values()
    told = f"{sum(gain) / 5:.2f}<!-- 1 | cost of T = 3, α = 0 -->".replace("-0", "−0")
    assert filled("<!-- 1 | cost of T = 3, α = 0 -->", directory) == told
    with pytest.raises(InputError, match=r"must name one test of tests\.csv, not 0"):
        filled("1.0<!-- 2 | cost of T = 65 -->", directory)


def rows_of(table):
    """The cells of a markdown table, without its head."""
    return [line[2:-2].split(" | ") for line in table.splitlines()[2:]]


def test_a_rule_is_compared_with_each_teachers_own_best_temperature(tmp_path):
    results = made_up_studies(tmp_path / "studies", lambda variant, alpha, T: abs(T - 3) * alpha, lambda *_: 0)
    directory = tmp_path / "studies-optimiser"
    advice = [{"label_smoothing": "0.2", "seed": seed, "alone": "1", "runs": "3"} for seed in SEEDS]
    write(directory / "advice.csv", advice)
    found = {row[0]: row[1] for row in rows_of(followed(directory))}
    best = {seed: max(results.accuracy("plain", 0.2, T)[seed] for T in (1, 2, 3, 4, 64)) for seed in SEEDS}
    for name, T in (("T = 1", 1), ("T = 4", 4), ("the advice from runs", 3)):
        lost = [best[seed] - results.accuracy("plain", 0.2, T)[seed] for seed in SEEDS]
        expected = f"{sum(lost) / 5:.2f} (best for {sum(points < 0.005 for points in lost)} of 5)"
        assert found[name] == expected
    assert "the highest mean of the other seeds" in found


def test_reasons_for_a_collapse_of_translations_are_told_from_tests_and_from_students_at_that_temperature(tmp_path):
    directory = tmp_path / "studies"
    made_up_studies(directory, step_size_alone, lambda *_: 0)
    translations = made_up_translations(directory)
    again = made_up_translations(tmp_path / "studies-other-seeds", range(14, 19))
    (directory / "tests.csv").write_text(study_tests.table(directory), encoding="utf-8")
    rows = {row[1]: row[2:] for row in rows_of(collapse(read_tests(directory)))}
    found = {name: [cell.strip("*") for cell in cells] for name, cells in rows.items()}

    def removed_by_match(of, longer=""):
        of_plain, of_match = (of.cost(each, 0.1, 64) for each in (longer or "plain", f"{longer}-match".strip("-")))
        return untested(minus(of_plain, of_match))

    for column, of in ((1, translations), (2, again)):
        cost = of.cost("plain", 0.1, 64)
        assert found["cost of T = 64"][column] == untested(cost)
        assert found["part that `match` removes"][column] == removed_by_match(of)
        longer = of.cost("epochs-x4", 0.1, 64)
        assert found["part that four times the epochs remove"][column] == untested(minus(cost, longer))
        assert found["cost that is left with both"][column] == untested(of.cost("epochs-x4-match", 0.1, 64))
        more = minus(of.cost("top-4", 0.1, 64), cost)
        assert found["cost that the teacher's top 4 alone add"][column] == untested(more)
    assert found["and what `match` removes of the rest"] == ["–", "–", removed_by_match(again, "epochs-x4")]
    assert rows["cost of T = 64"][2] == f"**{found['cost of T = 64'][2]}**"  # it holds
    chrf = minus(translations.of("plain", 0.1, 1, metric="chrf"), translations.of("plain", 0.1, 64, metric="chrf"))
    (row,) = [each for each in rows_of(chrf_costs(translations)) if each[:2] == ["64", "0.1"]]
    assert row[2] == untested(chrf)


def test_students_that_are_worse_by_sentence_are_counted_after_adjustment(tmp_path):
    runs = [
        {"run": f"help.en-ru.mkd/transformer-small_a0.1_T64_s{seed}", "variant": "mkd", "label_smoothing": 0.1}
        | {"temperature": 64, "seed": seed}
        for seed in (11, 12, 13)
    ]
    write(tmp_path / "translations.csv", runs)
    differences, p_values = (-5, -1, 2), (0.001, 0.04, 0.001)  # the third is higher
    paired = [
        {"run": run["run"], "bleu_difference": difference, "bleu_p": p, "chrf_difference": -1, "chrf_p": 0.0001}
        for run, difference, p in zip(runs, differences, p_values, strict=True)
    ]
    write(tmp_path / "translations_paired.csv", paired)
    assert rows_of(sentence_tests(tmp_path)) == [["en-ru", "as the code", "0.1", "64", "2 of 3", "3 of 3"]]
    paired[1]["bleu_p"] = 0.06
    write(tmp_path / "translations_paired.csv", paired)
    assert rows_of(sentence_tests(tmp_path)) == [["en-ru", "as the code", "0.1", "64", "1 of 3", "3 of 3"]]


def test_costs_stand_beside_drifts_only_where_both_are_known(tmp_path):
    directory = tmp_path / "studies"
    results = made_up_studies(directory, step_size_alone, lambda variant, alpha, T: -80 * alpha)
    (directory / "tests.csv").write_text(study_tests.table(directory), encoding="utf-8")
    tests = read_tests(directory)
    found = {tuple(row[:2]): row[2:] for row in rows_of(drifts(results, tests))}
    assert found["SGD", "0.1"][1] == f"**{untested(results.cost('plain', 0.1, 64))}**"  # shown by a test
    assert found["SGD", "0"][1] == untested(results.cost("plain", 0.0, 64))  # not tested
    assert found["`match`", "0.1"][0] == untested(results.cost("match", 0.1, 3))  # tested, not shown
    assert found["`match`", "0.1"][2] == f"**{untested(results.drift('match', 0.1, 3))}**"
    assert found["`match`", "0"][2] == untested(results.drift("match", 0.0, 3))
    results.eta["eta_similar_percent"].clear()
    assert drifts(results, tests) == "No runs yet."


def test_the_readings_of_matched_students_begin_with_plain_ones_at_t_1(tmp_path):
    results = made_up(tmp_path, step_size_alone, lambda *_: 0)
    rows = rows_of(readings(results))
    assert [row[2] for row in rows if row[:2] == ["`match`", "0.1"]] == ["3", "64"]  # at T = 1 they are the plain ones
    (plain,) = [row for row in rows if row[:3] == ["SGD", "0.1", "64"]]
    agreement = sum(results.accuracy("plain", 0.1, 64).values()) / 5 + 2
    assert plain[4].startswith(f"{agreement:.2f}\u00a0")
    assert plain[5] == "74.00\u00a0±\u00a00.00"
    assert results.curves("match", 0.1, 1) == results.curves("plain", 0.1, 1)
    assert [curve[2] for curve in results.curves("plain", 0.1, 1)] == list(results.accuracy("plain", 0.1, 1).values())


def test_each_picture_shows_what_there_is_and_is_the_same_each_time(tmp_path):
    directory = tmp_path / "studies"
    made_up_studies(directory, step_size_alone, lambda variant, alpha, T: -80 * alpha)
    made_up_translations(directory)
    made_up_translations(tmp_path / "studies-other-seeds", range(14, 19))
    (tmp_path / "studies-other-fonts").mkdir()
    made_up(tmp_path / "studies-other-fonts", step_size_alone, lambda *_: 0, first_seed=21)
    committed = evidence_page.Committed.of(directory)
    for name, (draw, _, shown) in evidence_page.PICTURES.items():
        assert shown(committed), name
        drawing = draw(committed)
        assert drawing.startswith("<?xml"), name
        assert name != "cost" or draw(committed) == drawing
    (tmp_path / "empty").mkdir()
    nothing = evidence_page.Committed.of(tmp_path / "empty")
    assert not any(shown(nothing) for _, _, shown in evidence_page.PICTURES.values())


def test_what_was_not_registered_is_of_both_teachers_and_the_smoothed_less_the_plain_one(tmp_path):
    directory = tmp_path / "studies"
    results = made_up_studies(directory, step_size_alone, lambda variant, alpha, T: -80 * alpha)
    kinds = {"here": results, "nowhere": Results(tmp_path)}
    smoothed, plain = [f"| here | {alpha:g} | {untested(results.drift('plain', alpha, 3))} |" for alpha in (0.1, 0.0)]
    table = drift_from_both(kinds)
    assert table.splitlines()[2].startswith(smoothed)
    assert table.splitlines()[3].startswith(plain)
    assert len(table.splitlines()) == 4
    by_way = {row.split(" | ")[0]: row.split(" | ")[-1] for row in cost_from_smoothing(results).splitlines()[2:]}
    more = minus(results.cost("lr-x3", 0.1, 64), results.cost("lr-x3", 0.0, 64))
    assert by_way["| learning rate × 3"] == f"{untested(more)} |"
    teachers, students = collapse_of_both(kinds).splitlines()[-1].split(" | ")[1:3]
    assert teachers.startswith("−0.")  # made up: of teachers NC1 falls by α, of students it rises by as much
    assert students == "0.10 (0.10 to 0.10)"
