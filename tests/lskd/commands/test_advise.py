import json
import re

import numpy as np
import pytest
from helpers.known_teachers import NAMES, logits_of
from helpers.small_runs import CLASSES, add_representations, image_run, translation_run

from lskd.measure.class_sets import write_sets
from lskd.measure.recorded_smoothing import disagreement
from lskd.measure.representations import read_representations
from lskd.measure.similar_classes import sets_by_distance
from lskd.measure.smoothing_estimate import SmoothingEstimate
from lskd.measure.student_pairs import identity
from lskd.paper.evidence import of_the_paper, of_this_project
from lskd.records.fingerprints import joint_fingerprint

SMOOTHED = SmoothingEstimate(0.1, 0.06, 0.16, "smoothed", "")
PLAIN = SmoothingEstimate(0.0, 0.0, 0.01, "not smoothed", "")
UNTOLD = SmoothingEstimate(None, None, None, "cannot tell", "")


class Text(str):
    """What was printed, in which a phrase is found also where a line ends in it."""

    def __contains__(self, phrase):
        return " ".join(phrase.split()) in " ".join(self.split())


@pytest.fixture
def answers(lskd):
    """The text of ``lskd advise`` and the list that it prints with --json."""

    def answers(*words):
        text = lskd("advise", *words)
        return Text(text), json.loads(lskd("advise", *words, "--json"))

    return answers


@pytest.fixture
def answer(answers):
    def answer(*words):
        text, (one,) = answers(*words)
        return text, one

    return answer


def students(place, by_temperature, alpha=0.1, **options):
    """Students of the teacher "a", by T the accuracy of each seed."""
    for T, values in by_temperature.items():
        for seed, top1 in enumerate(values, 1):
            image_run(place, alpha, float(T), seed, top1=top1, **options)


SGD = {"host": {"opt": "momentum", "lr": 0.1}}
MATCH = {"host": {"opt": "momentum", "lr": 0.1, "kd_gradient_scale": "match"}}
ADAMW = {"host": {"opt": "adamw", "lr": 0.005, "weight_decay": 0.05}}
FALLING = {1: [85.0, 85.4, 85.2], 3: [83.0, 83.5, 83.1], 64: [75.0, 75.3, 75.4]}


# --- 1: was the teacher smoothed? ------------------------------------------------------------------------------------


def test_a_smoothed_teacher_is_distilled_at_1_where_nothing_was_measured(answer, teacher):
    text, one = answer(teacher("a", alpha=0.1))
    assert (one["smoothing"]["smoothed"], one["smoothing"]["recorded"]) == (True, 0.1)
    assert one["smoothing"]["estimate"]["verdict"] == "smoothed"
    assert one["smoothing"]["estimate"]["low"] < 0.1 < one["smoothing"]["estimate"]["high"]
    assert "ADVICE  Start at T = 1, the paper's rule for a smoothed teacher" in text
    assert (one["advice"]["temperature"], one["advice"]["compare"]) == (1, [2, 3])
    assert one["advice"]["decided_by"] == "teacher"
    assert one["advice"]["text"] in text
    assert "1  Was the teacher smoothed? yes" in text
    assert "recorded   α = 0.1 (the model's configuration)" in text
    assert "rests on   the record" in text


def test_several_teachers_have_an_answer_each(answers, teacher):
    files = [teacher("a", alpha=0.1), teacher("b", alpha=0.0)]
    text, both = answers(*files)
    assert [(one["teacher"]["file"], one["smoothing"]["smoothed"]) for one in both] == [
        (str(files[0]), True),
        (str(files[1]), False),
    ]
    advice = [line for line in text.splitlines() if line.startswith("ADVICE")]
    assert [line.split()[1] for line in advice] == ["Start", "Compare"]


def test_without_smoothing_several_temperatures_are_to_be_compared(answer, teacher):
    text, one = answer(teacher("a", alpha=0.0))
    assert (one["smoothing"]["smoothed"], one["smoothing"]["estimate"]["verdict"]) == (False, "not smoothed")
    assert "ADVICE  Compare T = 1, 2, 3 and 4 on validation data" in text
    assert (one["advice"]["temperature"], one["advice"]["compare"]) == (None, [1, 2, 3, 4])


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "smoothed"), [(0.1, True), (0.0, False)])
def test_where_nothing_is_recorded_the_outputs_decide(answer, teacher, alpha, smoothed):
    text, one = answer(teacher("a", alpha=alpha, configuration={}))
    found = one["smoothing"]
    assert (found["smoothed"], found["recorded"], found["source"]) == (smoothed, None, "not in the file")
    assert "rests on   the outputs alone" in text


def test_where_neither_tells_nothing_is_assumed_of_the_teacher(answer, teacher):
    text, one = answer(teacher("a", samples=60, configuration={}))
    assert (one["smoothing"]["smoothed"], one["smoothing"]["estimate"]["verdict"]) == (None, "cannot tell")
    assert "rests on   nothing: neither the record nor the outputs show it" in text
    assert "ADVICE  Start at T = 1 and compare T = 2, 3 and 4 with it on validation data: nothing shows" in text
    assert "60 samples, at least 100 are needed" in text
    assert {each["label_smoothing"] for each in one["measured"]["the_paper"]} == {0.0, 0.1}


def test_a_record_is_enough_where_no_features_were_kept(answer, teacher):
    text, one = answer(teacher("a", keep=0))
    assert (one["smoothing"]["smoothed"], one["smoothing"]["estimate"]["verdict"]) == (True, "cannot tell")
    assert one["outputs"]["by_temperature"] == []
    assert "2  Its outputs at each temperature: not known" in text
    assert "it kept none of them" in text


def test_a_record_and_outputs_that_disagree_are_told(answer, teacher):
    text, one = answer(teacher("a", alpha=0.1, configuration={"label_smoothing": 0.0, "kd_weight": 0.0}))
    assert one["smoothing"]["disagreement"] == "no smoothing is recorded, and the outputs look smoothed"
    assert one["smoothing"]["smoothed"] is False
    assert "these disagree: no smoothing is recorded, and the outputs look smoothed. The answer follows the" in text


@pytest.mark.parametrize(("alpha", "smoothed"), [(0.1, True), (0.0, None)])
def test_of_a_teacher_with_mixed_labels_alpha_is_not_all(answer, teacher, alpha, smoothed):
    """Its labels are soft with α = 0 too: the outputs may show it, and that it was not smoothed is never said."""
    about = {"label_smoothing": 0.0, "kd_weight": 0.0, "mixed_labels": True}
    text, one = answer(teacher("a", alpha=alpha, configuration=about))
    assert (one["smoothing"]["smoothed"], one["smoothing"]["recorded"]) == (smoothed, 0.0)
    assert (one["smoothing"]["mixed_labels"], one["smoothing"]["disagreement"]) == (True, None)
    assert "mixed labels smooth a teacher as well: α does not tell how much, the entropy of its outputs" in text
    assert "Was the teacher smoothed? " + ("yes" if smoothed else "cannot tell") in text
    assert ("rests on   the outputs alone" if smoothed else "rests on   nothing: its labels were mixed") in text


def test_a_teacher_with_smoothed_and_mixed_labels_was_smoothed_by_its_record(answer, teacher):
    about = {"label_smoothing": 0.1, "kd_weight": 0.0, "mixed_labels": True}
    text, one = answer(teacher("a", alpha=0.1, configuration=about))
    assert one["smoothing"]["smoothed"] is True
    assert "rests on   the record" in text
    assert "mixed labels smooth a teacher as well" in text


def test_a_distilled_teacher_is_judged_by_its_outputs(answer, teacher):
    about = {"configuration": {"kd_weight": 1.0, "label_smoothing": 0.0, "temperature": 2.0}}
    text, one = answer(teacher("a", alpha=0.1, teacher={"label_smoothing": {"alpha": 0.1}}, **about))
    assert "recorded   trained by distillation from a teacher with α = 0.1 at T = 2" in text
    assert one["smoothing"]["smoothed"] is True


def test_only_some_of_many_samples_are_looked_at_and_these_are_evenly_spread(answer, teacher, monkeypatch):
    monkeypatch.setattr("lskd.commands.advise.SAMPLES", 120)
    assert answer(teacher("a"))[1]["smoothing"]["estimate"]["verdict"] == "smoothed"
    monkeypatch.setattr("lskd.commands.advise.SAMPLES", 80)
    seen = []
    monkeypatch.setattr(
        "lskd.measure.recorded_smoothing.estimate_label_smoothing", lambda logits: seen.extend(logits) or UNTOLD
    )
    one = answer(teacher("a"))[1]
    assert np.array_equal(np.concatenate(seen[: len(seen) // 2]), logits_of(0.1)[0][::3])
    assert one["outputs"]["rests_on"] == "80 samples of the train split"


@pytest.mark.parametrize(
    ("recorded", "estimate", "said"),
    [
        (0.1, SMOOTHED, None),
        (0.06, SMOOTHED, None),
        (0.0, PLAIN, None),
        (0.009, PLAIN, None),
        (None, SMOOTHED, None),
        (0.1, UNTOLD, None),
        (0.009, SMOOTHED, "α = 0.009 is recorded, and the outputs look smoothed"),
        (0.1, PLAIN, "α = 0.1 is recorded, and the outputs look unsmoothed"),
        (0.2, SMOOTHED, "α = 0.2 is recorded, and the outputs look like 0.06 to 0.16"),
        (0.03, SMOOTHED, "α = 0.03 is recorded, and the outputs look like 0.06 to 0.16"),
    ],
)
def test_a_disagreement_is_one_that_the_interval_does_not_hold(recorded, estimate, said):
    assert disagreement(recorded, estimate) == said


# --- 2: its outputs --------------------------------------------------------------------------------------------------


def test_the_outputs_are_those_of_the_file_at_each_temperature(answer, teacher):
    text, one = answer(teacher("a", alpha=0.1), "--temperatures", 1, 5)
    logits, labels = logits_of(0.1)
    logits = logits.astype(np.float64)
    for row, T in zip(one["outputs"]["by_temperature"], (1, 5), strict=True):
        p = np.exp(logits / T) / np.exp(logits / T).sum(1, keepdims=True)
        start = np.sqrt((T**2 * (p - 1 / len(NAMES)) ** 2).sum())
        p_1 = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert row["temperature"] == T
        assert row["entropy_nats"] == pytest.approx(-(p * np.log(p)).sum(1).mean())
        assert row["non_target_percent"] == pytest.approx(100 * (1 - p[np.arange(len(p)), labels]).mean())
        assert row["gradient_at_start"] == pytest.approx(start / np.sqrt(((p_1 - 1 / len(NAMES)) ** 2).sum()))
    assert "2  Its outputs at each temperature" in text


def test_temperatures_that_begin_with_small_gradients_are_named(answer, teacher):
    names = [f"class {number}" for number in range(100)]
    provenance = {"names": names, "samples": 300}
    text, one = answer(teacher("a", alpha=0.1, **provenance), "--temperatures", 1, 64)
    assert one["outputs"]["small_steps"] == [64]
    assert one["outputs"]["by_temperature"][1]["gradient_at_start"] < 0.5
    assert "training begins slowly at T = 64" in text
    assert "--kd-gradient-scale match" in text


# --- 3: your runs ----------------------------------------------------------------------------------------------------


def test_runs_that_decide_are_the_advice_and_the_interval_knows_of_the_choice(answer, teacher, tmp_path):
    students(tmp_path, FALLING, **SGD)
    text, one = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    (effect,) = one["runs"]["effects"]
    assert effect["of_this_teacher"]
    assert effect["best"] == 1
    assert effect["means"]["3"] == pytest.approx({"mean": 83.2, "sd": 0.264575, "n": 3}, abs=1e-5)
    assert (effect["difference"]["higher"], effect["difference"]["lower"]) == (1, 3)
    assert effect["difference"]["mean"] == pytest.approx(2.0)
    assert effect["difference"]["more_than_chance"]
    assert "ADVICE  T = 1: in your runs it is above T = 3 by 2.00 points, 95 % interval +" in text
    assert (one["advice"]["temperature"], one["advice"]["decided_by"]) == (1, "runs")
    assert "3 seeds, the best of 3 temperatures: more than chance." in text


def test_a_difference_that_may_be_chance_is_no_advice_for_another_temperature(answer, teacher, tmp_path):
    students(tmp_path, {1: [85.0, 85.4, 85.2], 2: [85.9, 85.0, 85.4]}, **SGD)
    text, one = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    assert one["runs"]["effects"][0]["best"] == 2
    assert not one["runs"]["effects"][0]["difference"]["more_than_chance"]
    assert "ADVICE  T = 1: no other T is shown to be better. In your runs T = 2 is above" in text
    assert (one["advice"]["temperature"], one["advice"]["decided_by"]) == (1, "runs")


def test_temperatures_with_one_mean_are_called_as_good(answer, teacher, tmp_path):
    students(tmp_path, {1: [85.0, 86.0, 87.0], 3: [86.0, 87.0, 85.0]}, **SGD)
    text, _ = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    assert "ADVICE  T = 1: no other T is shown to be better. In your runs T = 3 is as good (0.00 points, 95 %" in text
    assert "is above" not in text


def test_a_higher_temperature_that_is_better_beyond_chance_is_the_advice(answer, teacher, tmp_path):
    students(tmp_path, {1: [85.0, 85.4, 85.2], 2: [87.1, 87.4, 87.3], 3: [86.0, 86.2, 86.3]}, **SGD)
    text, one = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    assert "ADVICE  T = 2: in your runs it is above T = 1 by" in text
    assert (one["advice"]["temperature"], one["advice"]["decided_by"]) == (2, "runs")
    assert one["advice"]["compare"] == []


@pytest.mark.parametrize("control", [MATCH, ADAMW], ids=["match", "adamw"])
@pytest.mark.parametrize(
    ("controlled", "verdict", "said"),
    [
        ([85.1, 85.3, 85.3], "all", "What T = 3 costs goes away with"),
        ([84.2, 84.6, 84.4], "part", "Part of what T = 3 costs goes away with"),
        ([83.1, 83.3, 83.2], "none", "T = 3 is not shown to be better with"),
        ([87.0, 87.5, 87.2], "more", "and T = 3 is then better than T = 1"),
    ],
)
def test_a_control_of_the_step_tells_its_part_of_the_cost(
    answer, teacher, tmp_path, control, controlled, verdict, said
):
    students(tmp_path, {1: FALLING[1], 3: FALLING[3]}, **SGD)
    at_one = {} if control is MATCH else {1: FALLING[1]}
    students(tmp_path / "control", at_one | {3: controlled}, **control)
    text, one = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    (found,) = one["runs"]["controls"]
    assert (found["temperature"], found["verdict"]) == (3, verdict)
    assert found["cost"]["mean"] == pytest.approx(2.0)
    assert said in text


def test_runs_of_other_teachers_are_shown_and_decide_nothing(answer, teacher, tmp_path):
    students(tmp_path, FALLING, alpha=0.0, **SGD)
    text, one = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    assert [effect["of_this_teacher"] for effect in one["runs"]["effects"]] == [False]
    assert "ADVICE  Start at T = 1" in text
    assert "another" in text


def test_one_seed_is_told_to_be_too_few(answer, teacher, tmp_path):
    students(tmp_path, {1: [85.0], 3: [83.0]}, **SGD)
    text, one = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    assert one["runs"]["effects"][0]["difference"] is None
    assert "Your runs have too few seeds to decide; the highest of them is T = 1 with 85.00 %." in text
    assert one["next"][0]["settles"].startswith("whether differences are more than chance")


def test_eta_and_students_without_a_teacher_stand_beside(answer, tmp_path):
    add_representations(image_run(tmp_path, 0.1), 0.1)
    for T in (1.0, 3.0):
        add_representations(image_run(tmp_path, 0.1, T, top1=80 - T), 0.1, T)
    image_run(tmp_path, 0.0, model="student_net", top1=77.0)
    place = tmp_path / "data" / "teacher_net_a0.1_s1"
    path = place / "last.validation.representations.safetensors"
    text, one = answer(place, tmp_path)
    assert one["teacher"]["file"] == str(path)
    assert [row["split"] for row in one["runs"]["eta"]] == ["validation", "train"]
    assert one["runs"]["eta"][0]["targets"] == len(CLASSES)
    assert "η, T = 1 → 3, α = 0.1, validation: η(S1)" in text
    assert "without a teacher: student_net, labels of α = 0: 77.00 (1)" in text
    (tmp_path / "sets.json").write_text(json.dumps({"Trouser": {"similar": ["Bag"], "dissimilar": ["Coat"]}}))
    text, one = answer(place, tmp_path, "--sets", tmp_path / "sets.json")
    told = f"{tmp_path / 'sets.json'} does not say what its classes were chosen by"
    assert told in one["runs"]["eta"][0]["notes"][0]
    assert told in text
    student = tmp_path / "data" / "student_net_a0.1_T3_s1" / "last.validation.representations.safetensors"
    read = read_representations(student)
    chosen = sets_by_distance(read.moments.centroids(), None, 1, 2)
    write_sets(
        tmp_path / "sets.json", chosen, read.class_names, {"by": "distance", "from": "centroids"} | identity(read)
    )
    text, one = answer(place, tmp_path, "--sets", tmp_path / "sets.json")
    assert [row["split"] for row in one["runs"]["eta"]] == ["train"]
    assert one["runs"]["eta_undefined"][0]["split"] == "validation"
    assert f"validation, is not defined: --sets: {tmp_path / 'sets.json'} (S1 and S2 were chosen in {student}, " in text


def test_students_that_learn_features_are_no_students_at_1(answer, teacher, tmp_path):
    students(tmp_path / "runs", FALLING, **SGD)
    feature = {"host": SGD["host"] | {"kd_distill_type": "feature"}}
    students(tmp_path / "runs/feature", {1: [89.0, 89.4, 89.2]}, **feature)
    text, one = answer(teacher("a", alpha=0.1), tmp_path / "runs")
    assert [(each["study"], each["means"]["1"]["mean"]) for each in one["runs"]["effects"]] == [
        ("clothes: teacher_net → student_net", pytest.approx(85.2))
    ]
    assert one["runs"]["without_teacher"] == []
    assert "Left out: 3 students that learn features, or the class alone, and have no T." in text
    assert "rests on 9 runs" in text
    text, one = answer(teacher("a", alpha=0.1), tmp_path / "runs/feature")
    assert "3 Your runs: none with a T. Left out: 3 students" in text
    assert one["runs"]["effects"] == []


def test_students_of_differently_smoothed_teachers_say_whether_to_smooth_where_there_are_enough_teachers(
    answer, teacher, tmp_path
):
    for place, teachers in (("few", 2), ("many", 4)):
        for alpha, mean in ((0.0, 88.0), (0.1, 86.0)):
            for seed in range(1, teachers + 1):
                for T in (1.0, 3.0):
                    top1 = mean + 0.1 * seed - alpha * T - (0.01 * seed * T)
                    about = {"top1": top1, "fingerprint": f"weights of {alpha}, {seed}", "host": SGD["host"]}
                    image_run(tmp_path / place, alpha, T, seed, **about)
    file = teacher("a", alpha=0.1, fingerprint="weights of 0.1, 1")
    text, one = answer(file, tmp_path / "many")
    (row,) = one["runs"]["smoothings"]
    assert (row["best"]["label_smoothing"], row["other"]["label_smoothing"], row["best"]["n"]) == (0.0, 0.1, 4)
    assert (row["verdict"], row["more_than_chance"]) == ("no", True)
    assert "Do not smooth the teacher: in your runs the best students of α = 0 (T = 1) are above" in text
    assert "(T = 1) by 2.10 points, 95 % interval" in " ".join(text.split())
    text, one = answer(file, tmp_path / "few")
    assert [row["verdict"] for row in one["runs"]["smoothings"]] == ["too few teachers"]
    assert "smooth the teacher:" not in text.lower()


# --- 4: what others measured -----------------------------------------------------------------------------------------


def test_the_papers_students_are_as_printed(answer, teacher):
    text, one = answer(teacher("a", alpha=0.1))
    lines = text.splitlines()
    row = lines[lines.index("   Table 2B: CUB200-2011") + 1]
    assert row.split() == ["ResNet-18", "0.1", "80.9", "80.4", "78.2", "67.2", "1", "3"]
    assert {each["label_smoothing"] for each in one["measured"]["the_paper"]} == {0.1}
    assert {each["label_smoothing"] for each in one["measured"]["this_project"]} == {0.05, 0.1, 0.2}


def test_the_papers_rule_is_what_its_tables_say():
    for each in of_the_paper(None):
        assert set(each.means) == {1, 2, 3, 64}
        assert min(each.means, key=each.means.get) == 64
        assert each.best == 1 or (each.label_smoothing == 0 and each.source in ("Table 2B", "Table 4"))
        assert max(each.means.values()) - each.means[1] < 1


def test_what_this_project_measured_is_what_its_committed_results_say():
    import evidence

    assert evidence.summary() == evidence.MEASURED.read_text(encoding="utf-8")
    assert all(each.n >= 3 for each in of_this_project(None))


def one_place(rows, temperature):
    """The range of what a temperature costs, as the advice has it."""
    costs = [each["means"]["1"] - each["means"][temperature] for each in rows]
    low, high = (f"{each:.1f}".replace("-0.0", "0.0") for each in (min(costs), max(costs)))
    return f"{low} to {high}"


def test_the_advice_for_a_smoothed_teacher_says_what_our_own_study_found_of_the_step(answer, teacher):
    text, one = answer(teacher("a", alpha=0.1))
    found = [each for each in one["measured"]["this_project"] if each["label_smoothing"] == 0.1]
    matched = [each for each in found if re.fullmatch(r"SGD \.1, \d+ epochs?, match", each["training"])]
    plain = [
        next(
            each
            for each in found
            if each["training"] + ", match" == of["training"]
            and all(each[name] == of[name] for name in ("source", "data", "student"))
        )
        for of in matched
    ]
    assert f"of images (α = 0.1, SGD .1, {len(matched)} kinds of students)" in text
    told = [
        f"T = {T} cost {one_place(plain, T)}, with --kd-gradient-scale match {one_place(matched, T)}"
        for T in ("3", "64")
    ]
    assert f"{'; '.join(told)}, in points of top-1." in text
    assert "own studies" not in answer(teacher("b", alpha=0.0))[0]


def test_the_advice_for_a_translation_teacher_cites_translations(answer, teacher):
    text, one = answer(teacher("a", alpha=0.1, kind="translation"))
    rows = {
        each["training"]: each["means"]
        for each in one["measured"]["this_project"]
        if each["data"].endswith("English to German") and each["n"] == 5  # the more seeds of two studies
    }
    assert "own studies of translation" in text
    ways = ["", ", match"]
    plain, match = ([{"means": rows[f"Adam .003, {n} epochs{way}"]} for n in (5, 20)] for way in ways)
    told = f"T = 64 cost {one_place(plain, '64')}, with --kd-gradient-scale match {one_place(match, '64')}, in BLEU."
    assert f"(α = 0.1, Adam .003, 2 kinds of students) {told}" in text
    assert "There match removed little or nothing of it." in text


def test_what_others_measured_fits_a_terminal_each_data_set_named_once(answer, teacher):
    part = re.search(r"^4  .*(?=^5  )", answer(teacher("a", alpha=0.1))[0], re.DOTALL | re.MULTILINE)[0].splitlines()
    assert max(map(len, part)) <= 110
    places = [f"   {each.source}: {each.data}" for each in (*of_this_project(True), *of_the_paper(True))]
    assert [line for line in part if line in places] == list(dict.fromkeys(places))


# --- 5: what to run next ---------------------------------------------------------------------------------------------


def test_without_runs_the_next_step_is_to_train_students_with_the_teachers_own_options(answer, teacher, tmp_path):
    words = [
        "vision",
        "train",
        "--data-dir",
        "a b",
        "--seed",
        "1",
        "2",
        "--model",
        "net",
        "--smoothing",
        "0.1",
        "--amp",
    ]
    directory = image_run(tmp_path, 0.1)
    record = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps(record | {"command": ["__main__.py", *words]}))
    _, one = answer(teacher("a", checkpoint=str(directory / "last.pth.tar"), kind="vision"))
    (step,) = one["next"]
    assert step["command"] == (
        f"lskd vision train --data-dir 'a b' --amp --model STUDENT --kd-checkpoint {directory}/last.pth.tar "
        "--kd-temperature 1 2 3 4 --seed 1 2 3"
    )


def test_of_temperatures_with_small_steps_the_control_is_the_next_step(answer, teacher, tmp_path):
    students(tmp_path, FALLING, **SGD)
    names = [f"class {number}" for number in range(100)]
    about = {"names": names, "samples": 300, "fingerprint": "weights of 0.1", "checkpoint": "t/last.pth.tar"}
    _, one = answer(teacher("a", **about), tmp_path)
    (command,) = [step["command"] for step in one["next"] if "size of its steps" in step["settles"]]
    assert command == (
        "lskd vision train --data-dir 'a b' --kd-checkpoint t/last.pth.tar --kd-temperature 3 64 "
        "--kd-gradient-scale match --seed 1 2 3"
    )


def larger_rates(one):
    """The commands of the next steps that have a larger learning rate."""
    return [step["command"] for step in one["next"] if "larger learning rate" in step["settles"]]


@pytest.mark.parametrize("place", [".", "data"])
def test_a_larger_learning_rate_is_a_next_step_until_there_is_one(answer, teacher, tmp_path, monkeypatch, place):
    students(tmp_path, FALLING, **SGD)
    with_command(tmp_path.glob("data/*"), "lskd vision train --data-dir d --lr 0.1 --kd-temperature 1 3 64 --seed 1")
    file = teacher("a", fingerprint="weights of 0.1", checkpoint="t/last.pth.tar")
    monkeypatch.chdir(tmp_path / "data")
    _, one = answer(file, ".")
    (command,) = larger_rates(one)
    assert command == (
        "lskd vision train --data-dir d --kd-checkpoint t/last.pth.tar --kd-temperature 1 3 64 --lr 0.3 "
        f"--output {tmp_path}/data/lr-0.3 --resume --seed 1 2 3"
    )
    rate = {"host": {"opt": "momentum", "lr": 0.3}}
    students(tmp_path / "data" / "lr-0.3", {1: [86.0, 86.4, 86.2], 3: [86.1, 86.2, 86.3]}, **rate)
    with_command((tmp_path / "data" / "lr-0.3").glob("data/*"), command)
    text, one = answer(file, tmp_path / place)  # where the students of the smaller rate are found, these are too
    assert larger_rates(one) == []
    assert [each["control"] for each in one["runs"]["controls"]] == ["--lr 0.3"]
    assert "What T = 3 costs goes away with --lr 0.3: as far as your runs show, it is the size of the steps." in text
    assert "In your runs (learning rate = 0.3) T = 3 is as good" in text
    assert "α = 0.1, --lr 0.3: T = 1 85.20, T = 3 83.20; with it T = 1 86.20, T = 3 86.20; cost of T +2.00" in text
    (alone,) = [step["command"] for step in one["next"] if "what distillation adds" in step["settles"]]
    assert alone == "lskd vision train --data-dir d --lr 0.1 --seed 1 2 3"  # like the smaller rate's


def test_models_without_a_teacher_are_told_once_for_each_training(answer, teacher, tmp_path):
    for rate, top1 in ((0.1, 80.0), (0.3, 70.0)):
        host = {"opt": "momentum", "lr": rate}
        students(tmp_path / f"{rate}", {1: [81.0] * 3, 3: [80.0] * 3}, host=host)
        students(tmp_path / f"{rate}-match", {3: [81.0] * 3}, host=host | {"kd_gradient_scale": "match"})
        for seed in (1, 2, 3):
            image_run(tmp_path / f"{rate}", 0.0, seed=seed, model="student_net", top1=top1, host=host)
    text, one = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    assert [each["mean"] for each in one["runs"]["without_teacher"]] == [80.0, 70.0]
    assert "without a teacher: student_net, learning rate = 0.1, labels of α = 0: 80.00" in text
    assert "without a teacher: student_net, learning rate = 0.3, labels of α = 0: 70.00" in text


def test_a_larger_learning_rate_at_a_higher_temperature_alone_is_not_enough(answer, teacher, tmp_path):
    students(tmp_path, FALLING, **SGD)
    file = teacher("a", fingerprint="weights of 0.1", checkpoint="t/last.pth.tar")
    students(tmp_path / "faster", {3: [86.1, 86.2, 86.3]}, host={"opt": "momentum", "lr": 0.3})
    assert len(larger_rates(answer(file, tmp_path)[1])) == 1


def test_a_cost_that_falls_only_as_the_students_of_1_get_worse_is_not_counted_as_removed(answer, teacher, tmp_path):
    students(tmp_path, {1: [85.0, 85.4, 85.2], 3: [83.0, 83.4, 83.1]}, **SGD)
    rate = {"host": {"opt": "momentum", "lr": 0.3}}
    students(tmp_path / "faster", {1: [82.2, 82.5, 82.3], 3: [82.1, 82.5, 82.3]}, **rate)
    text, one = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    (control,) = one["runs"]["controls"]
    assert control["removed"]["low"] > 1.5
    assert control["gained"]["high"] < 0
    assert "T = 3 is not shown to be better with --lr 0.3 than without: your runs do not show" in text


def test_controls_of_several_student_models_and_rates_are_told_apart(answer, teacher, tmp_path):
    steady = {1: [85.0, 85.4, 85.2], 3: [85.1, 85.3, 85.2]}
    for model, rate, values in (("net", 0.1, FALLING), ("net", 0.3, steady), ("vit", 0.1, FALLING)):
        for control, kept in (("plain", values), ("match", {3: steady[3]})):
            host = {"opt": "momentum", "lr": rate} | ({"kd_gradient_scale": "match"} if control == "match" else {})
            students(tmp_path / f"{model}-{rate}" / control, kept, host=host, model=model)
    text, _ = answer(teacher("a", fingerprint="weights of 0.1"), tmp_path)
    for which in ("net, gradient scale = t2, learning rate = 0.1", "vit, gradient scale = t2"):
        assert f"In your runs ({which}) what T = 3 costs goes away with match" in text
        assert f"α = 0.1, {which}, match: T = 1 85.20, T = 3 83.20; with it T = 3 85.20" in text
    which = "net, gradient scale = t2, learning rate = 0.3"
    assert f"In your runs ({which}) T = 3 costs nothing beyond chance without match" in text


def test_without_students_of_other_smoothing_teachers_of_both_kinds_are_a_next_step(answer, teacher, tmp_path):
    students(tmp_path, FALLING, **SGD)
    directory = image_run(tmp_path / "teacher", 0.1)
    about = {"kind": "vision", "fingerprint": "weights of 0.1", "checkpoint": str(directory / "last.pth.tar")}
    _, one = answer(teacher("a", **about), tmp_path)
    (command,) = [step["command"] for step in one["next"] if "smooth the teacher" in step["settles"]]
    assert command == (
        "lskd vision train --data-dir 'a b' --smoothing 0 0.1 --seed 4 5 6 && for SEED in 4 5 6; do for A in 0 0.1; do "
        "lskd vision train --data-dir 'a b' --kd-temperature 1 2 3 4 "
        f"--kd-checkpoint {directory.parent}/teacher_net_a$A_s$SEED/last.pth.tar --seed $SEED; done; done"
    )


def test_translation_has_a_command_for_each_temperature(answer, teacher, tmp_path):
    run = translation_run(tmp_path, 1.0, 16.86)
    record = json.loads((run / "run.json").read_text())  # which has one fingerprint over those of all teachers
    record["teacher"]["fingerprint"] = joint_fingerprint(["weights"])
    (run / "run.json").write_text(json.dumps(record))
    about = {"kind": "translation", "fingerprint": "weights", "checkpoint": "t/checkpoint_best.pt"}
    _, one = answer(teacher("a", **about), tmp_path)
    assert one["runs"]["effects"][0]["of_this_teacher"]
    command = one["next"][0]["command"]
    assert command.startswith("for T in 1; do for SEED in 1 2 3; do fairseq-train")
    assert "--criterion kd --teacher-path t/checkpoint_best.pt --temperature $T --seed $SEED" in command
    assert "--save-dir student_T${T}_s$SEED && lskd nmt score --data" in command
    assert all("#" not in step["command"] for step in one["next"])


def test_more_seeds_of_matched_gradients_are_matched_and_leave_the_shared_students_out(answer, teacher, tmp_path):
    about = {"fingerprint": "weights of 0.1", "checkpoint": "t/last.pth.tar"}
    students(tmp_path, {1: [85.0], 3: [83.0]}, **SGD)
    students(tmp_path / "matched", {3: [85.0]}, **MATCH)
    effects = answer(teacher("a", **about), tmp_path)[1]["runs"]["effects"]
    assert [(each["matched"], each["few_seeds"]) for each in effects] == [(False, [1.0, 3.0]), (True, [3.0])]
    assert effects[1]["first_run"].startswith(str(tmp_path / "matched"))


def with_command(runs, words):
    for run in runs:
        record = json.loads((run / "run.json").read_text()) | {"command": words.split()}
        (run / "run.json").write_text(json.dumps(record))


def test_more_seeds_resume_what_is_there_and_keep_short_options(answer, teacher, tmp_path):
    students(tmp_path, {1: [85.0], 3: [83.0]}, **SGD)
    with_command(tmp_path.glob("data/*"), "lskd vision train d --kd-temperature 1 3 --seed 1 -b 128 --amp -j 2")
    _, one = answer(teacher("a", fingerprint="weights of 0.1", checkpoint="t/last.pth.tar"), tmp_path)
    assert one["next"][0]["command"] == (
        "lskd vision train d -b 128 --amp -j 2 --kd-checkpoint t/last.pth.tar --kd-temperature 1 3 --resume "
        "--seed 1 2 3"
    )


def test_a_model_without_a_teacher_has_no_option_of_distillation_and_new_students_have_all(answer, teacher, tmp_path):
    students(tmp_path, FALLING, **SGD)
    words = "lskd vision train d --kd-loss decoupled --task-loss-weight 0.1 --kd-distill-type logit --opt sgd --seed 1"
    with_command(tmp_path.glob("data/*"), words)
    directory = image_run(tmp_path / "teacher", 0.1)
    about = {"kind": "vision", "fingerprint": "weights of 0.1", "checkpoint": str(directory / "last.pth.tar")}
    _, one = answer(teacher("a", **about), tmp_path)
    commands = {step["settles"].partition(",")[0]: step["command"] for step in one["next"]}
    alone = commands["what distillation adds to training on labels"]
    assert alone == "lskd vision train d --opt sgd --seed 1 2 3"
    students_of_both = commands["whether to smooth the teacher"].partition("&& for")[2]
    assert "--kd-loss decoupled --task-loss-weight 0.1 --kd-distill-type logit --opt sgd" in students_of_both


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_what_is_no_teacher_is_refused_in_one_line(refused, teacher, tmp_path):
    run = image_run(tmp_path, 0.1)
    valid = "(must be a file that `lskd vision representations` or `lskd nmt representations` wrote, or a run with one)"
    assert refused("advise", run).endswith(f"TEACHER: {run} {valid}")
    assert refused("advise", tmp_path).endswith(f"TEACHER: {tmp_path} {valid}")
    file = teacher("a")
    assert "--sets: sets.json (must be with RUNS" in refused("advise", file, "--sets", "sets.json")
    assert "--temperatures: 0 (must be a finite number above 0, or " in refused("advise", file, "--temperatures", 0)
    assert "runs: nothing (must be a directory" in refused("advise", file, "nothing")
    said = refused("advise", file, tmp_path, "--sets", "nothere.json")
    assert "--sets: nothere.json (must be a file, as `lskd similar --output` writes it)" in said


def test_a_checkpoint_in_the_place_of_its_outputs_gets_the_command_that_records_them(refused, tmp_path):
    run = image_run(tmp_path, 0.1)
    for name, command in (
        ("last.pth.tar", "lskd vision representations {} --data-dir DIR"),
        ("checkpoint_best.pt", "lskd nmt representations --data DATA-BIN --path {}"),
    ):
        (run / name).touch()
        assert refused("advise", run / name).endswith(f": `{command.format(run / name)}`)")
    assert refused("advise", run).endswith(f": `lskd vision representations {run / 'last.pth.tar'} --data-dir DIR`)")
