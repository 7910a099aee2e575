"""How runs are grouped into studies: what tells them apart, and the students that two studies share."""

import json

import pytest
from helpers.small_runs import image_run, translation_run

from lskd.measure.temperature_effects import effects, step_controls
from lskd.records.found_runs import find_runs
from lskd.records.studies import group, pair

MATCH = {"kd_gradient_scale": "match"}


def students(place, temperatures, top1=80.0, alpha=0.1, own_temperature=None, loss="kl", **host):
    """Three students at each T."""
    for T in temperatures:
        for seed in (1, 2, 3):
            path = image_run(place, alpha, T, seed=seed, top1=top1 + seed / 10 - T / 10, host={"kd_loss": loss} | host)
            record = json.loads((path / "run.json").read_text())
            record["configuration"]["kd_loss_type"] = loss
            if own_temperature:
                record["configuration"]["student_temperature"] = own_temperature
            (path / "run.json").write_text(json.dumps(record))


def studies(place):
    return {study.setting: study for study in group(find_runs([place]))}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (({}, {"opt": "adamw"}), ["optimiser = adamw", "optimiser = off"]),
        (({"lr": 0.1}, {"lr": 0.3}), ["learning rate = 0.1", "learning rate = 0.3"]),
        (
            ({}, {"loss": "wttm"}, {"own_temperature": 1.0}),
            ["loss = kl", "loss = kl, T of the student = 1", "loss = wttm"],
        ),
        (({}, {"mixup": 0.2}), ["mixup = 0.2", "mixup = off"]),
        (
            ({"lr": 0.1}, {"lr": 0.1} | MATCH, {"lr": 0.3}),
            ["gradient scale = match, learning rate = 0.1", "gradient scale = t2, learning rate = 0.1"]
            + ["gradient scale = t2, learning rate = 0.3"],
        ),
    ],
)
def test_what_tells_studies_apart_is_said_in_words(settings, said, tmp_path):
    for place, each in enumerate(settings):
        students(tmp_path / str(place), [3.0], **each)
    assert sorted(studies(tmp_path)) == said


def test_translations_name_a_setting_once_that_their_records_have_twice(tmp_path):
    for k in (0, 4):
        path = image_run(tmp_path / str(k), temperature=1.0, host={"criterion": {"teacher_topk": k}})
        record = json.loads((path / "run.json").read_text())
        record["configuration"]["teacher_topk"] = k
        (path / "run.json").write_text(json.dumps(record))
    assert sorted(studies(tmp_path)) == ["top-k of the teacher = 4", "top-k of the teacher = all"]


@pytest.mark.parametrize("same_at_one", [MATCH, {"own_temperature": 1.0}, {"loss": "wttm", "own_temperature": 1.0}])
def test_where_t_1_is_the_papers_loss_its_students_are_in_both_studies(same_at_one, tmp_path):
    students(tmp_path / "plain", [1.0, 3.0])
    students(tmp_path / "plain", [1.0], alpha=0.0)
    students(tmp_path / "other", [3.0], top1=75.0, **same_at_one)
    first, second = group(find_runs([tmp_path]))
    plain, other = (first, second) if (0.0, 1.0) in first.students else (second, first)
    assert list(plain.students) == [(0.0, 1.0), (0.1, 1.0), (0.1, 3.0)]
    assert list(other.students) == [(0.1, 1.0), (0.1, 3.0)]
    assert other.students[0.1, 1.0] == plain.students[0.1, 1.0]


@pytest.mark.parametrize(
    "differs_at_one",
    [
        {"loss": "standardised"},
        {"loss": "standardised"} | MATCH,
        {"own_temperature": 2.0},
        {"lr": 0.3} | MATCH,
        {"kd_temperature_schedule": "linear"} | MATCH,
    ],
)
def test_other_students_at_t_1_are_not_borrowed(differs_at_one, tmp_path):
    students(tmp_path / "plain", [1.0])
    students(tmp_path / "other", [3.0], **differs_at_one)
    assert sorted(study.temperatures for study in group(find_runs([tmp_path]))) == [[1.0], [3.0]]


def test_students_of_its_own_at_t_1_are_kept(tmp_path):
    students(tmp_path / "plain", [1.0])
    students(tmp_path / "other", [1.0, 3.0], top1=75.0, **MATCH)
    means = {study.setting: study.spread(0.1, 1.0, "top1").mean for study in group(find_runs([tmp_path]))}
    assert means == {"gradient scale = t2": pytest.approx(80.1), "gradient scale = match": pytest.approx(75.1)}


def test_a_shared_student_counts_once_in_what_a_control_removes(tmp_path):
    students(tmp_path / "plain", [1.0, 64.0], opt="momentum")
    students(tmp_path / "other", [64.0], top1=85.0, opt="momentum", **MATCH)
    (control,) = step_controls(effects(group(find_runs([tmp_path]))))
    assert control.cost.difference == pytest.approx(6.3)
    assert control.cost_controlled.difference == pytest.approx(1.3)
    assert control.removed.difference == pytest.approx(5.0)


def test_teachers_without_a_recorded_fingerprint_are_told_apart_by_their_paths(tmp_path):
    for alpha in (0.0, 0.1, 0.2):
        image_run(tmp_path, alpha, 1.0, fingerprint="weights" if alpha == 0.2 else None)
    teachers = [pair(run)[-1] for run in find_runs([tmp_path])]
    assert sorted(teachers) == [
        *(f"/elsewhere/data/teacher_net_a{alpha}_s1/last.pth.tar" for alpha in (0.0, 0.1)),
        "weights",
    ]


@pytest.mark.parametrize(("name", "values"), [("lr", (0.1, 0.3)), ("weight_decay", (0.0, 0.05))])
def test_students_without_a_teacher_stand_beside_those_that_are_trained_alike(tmp_path, name, values):
    for value, top1 in zip(values, (80.0, 70.0), strict=True):
        host = {name: value}
        image_run(tmp_path / f"{value}", 0.1, 1.0, host=host | {"kd_loss": "standardised"})
        for seed in (1, 2):
            image_run(tmp_path / f"{value}", 0.0, seed=seed, model="student_net", top1=top1, host=host)
    other = image_run(tmp_path / "other", 0.0, seed=3, model="student_net", host={name: 1.0})
    of = {study.first.directory.parent.parent.name: study for study in group(find_runs([tmp_path])) if study.students}
    for value, top1 in zip(values, (80.0, 70.0), strict=True):
        (alone,) = of[f"{value}"].alone.values()
        assert [run.metrics["top1"] for run in alone if run.directory != other] == [top1, top1]
        assert any(run.directory == other for run in alone)  # no students are trained as it is


def test_translation_models_without_a_teacher_stand_beside_students_of_as_many_epochs(tmp_path):
    for epochs in (5, 20):
        for temperature, criterion in ((1.0, "kd"), (None, "label_smoothed_cross_entropy")):
            run = translation_run(tmp_path / f"{epochs}", temperature)
            run = run.rename(run.with_name(criterion))  # else it would be taken for the teacher
            record = json.loads((run / "run.json").read_text())
            host = record["configuration"]["host"]
            host |= {"criterion": {"_name": criterion}, "optimization": {"max_epoch": epochs}}
            host["model"] = {"arch": "transformer", "encoder_layers": 2, "decoder_layers": 1, "decoder_embed_dim": 128}
            (run / "run.json").write_text(json.dumps(record))
    found = [study for study in group(find_runs([tmp_path])) if study.students]
    assert len(found) == 2
    for study in found:
        (alone,) = study.alone.values()
        assert [run.directory.parent.parent for run in alone] == [study.first.directory.parent.parent]
