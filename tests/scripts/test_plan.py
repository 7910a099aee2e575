"""The plans of the experiments, against the paper's own grid of students, α, T and seeds."""

import dataclasses
import importlib.util
import itertools
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from definitions import chosen, read_experiments
from helpers.commands import ROOT
from letters_sample import CLASSES as TABLE
from letters_sample import read_table
from measurements import students_of
from models import Models
from plan import KINDS, listing, make_plan, summary, write_plan
from scale_definitions import read_scale

from lskd.io.errors import InputError
from lskd.measure.wordnet import imagenet_classes, readable_name
from lskd.paper.published import published, tables

EVERYTHING = read_experiments()
EXPERIMENTS = {name: each for name, each in EVERYTHING.items() if each.kind != "study"}
FIGURES = {"1", "2", "A.1", "A.2", "A.3", "A.4", "A.5"}
# What is printed of students is n runs where the table, or the one that repeats it, says so, and else three: the paper
# repeats all experiments three times. J.1 is Table 4 with one more α. η, class-wise accuracy, figures are of one run.
RUNS = {"4": 2, "D.4": 2, "J.1": 2, "3": 1, "B.4": 1, "K.1": 1, "I.1": 1, "I.2": 1, "I.3": 1}


def plan_of(name: str, scale: str = "paper", **options):
    return make_plan([EXPERIMENTS[name]], read_scale(scale), "runs/here", **options)[0]


def without_speeds(scale: str = "paper"):
    return dataclasses.replace(read_scale(scale), speeds=None)


def kinds(jobs: dict, kind: str) -> list:
    return [job for job in jobs.values() if job.kind == kind]


def test_every_table_and_figure_of_the_paper_is_an_experiment():
    assert set(EXPERIMENTS) == set(tables()) | FIGURES
    assert [name for name in EXPERIMENTS if "." not in name] == ["2A", "2B", "3", "4", "5", "1", "2", "E"]


@pytest.mark.parametrize("name", [name for name in tables() if any(each.student for each in published(name))])
def test_the_planned_students_are_the_published_ones(name):
    experiment = EXPERIMENTS[name]
    figures = [each for each in published(name) if each.student]
    grid = {
        (each.student, each.label_smoothing, temperature)
        for each in figures
        for temperature in (each.temperature, each.reference_temperature)
        if temperature
    }
    if name == "K.1":  # the paper does not say which student
        grid = {("ResNet-18", alpha, T) for _, alpha, T in grid}
    students = students_of(experiment, Models(read_scale("paper"), "runs/here", None, {}))
    assert {(each.model, each.label_smoothing, each.temperature) for each in students} == grid
    runs = RUNS.get(name, 3)
    assert {each.n for each in figures if each.n} <= {runs}
    assert len(students) == len(set(students)) == len(grid) * runs * len(experiment.recipes)
    jobs = plan_of(name)
    assert len(kinds(jobs, "student")) == len(students)  # a job each
    assert len({job.runs[0] for job in kinds(jobs, "student")}) == len(students)


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_each_teacher_is_trained_once_for_each_label_smoothing(name):
    experiment = EXPERIMENTS[name]
    if experiment.shows == "agreement":
        return
    trained = [job.runs for job in kinds(plan_of(name), "teacher")]
    assert len(trained) == len({run for runs in trained for run in runs})
    alphas = {0.0, *experiment.label_smoothing} if experiment.equal_entropy or experiment.shows == "eta" else set()
    alphas |= set(experiment.label_smoothing)
    # CUB's teachers start from ImageNet's of the same α; the four Transformers are two α by two recipes.
    times = {"CUB200-2011": 2, "ImageNet-1K": 1}.get(experiment.data, len(experiment.recipes))
    alphas -= {0.0} if name in ("3", "B.4") else set()  # the sets are of ImageNet's groups, no teacher is asked
    assert len(trained) == len(alphas) * times


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_the_plan_of_all_is_the_union_of_the_plans(scale):
    together, _ = make_plan(list(EXPERIMENTS.values()), read_scale(scale), "runs/here")
    alone = [make_plan([each], read_scale(scale), "runs/here")[0] for each in EXPERIMENTS.values()]
    assert set(together) == set(itertools.chain.from_iterable(alone))
    runs = [{run for job in jobs.values() for run in job.runs} for jobs in (together, *alone)]
    assert runs[0] == set().union(*runs[1:])


@pytest.mark.parametrize(
    ("scale", "names"),
    [("mini", "all studies"), ("paper", "all studies"), ("medium", "5"), ("medium", "B.2 study-truncation")],
)
def test_jobs_come_after_jobs_of_the_plan_and_no_two_write_one_file(scale, names):
    jobs, _ = make_plan(chosen(names.split(), EVERYTHING), read_scale(scale), "runs/here")
    finished = set()
    while waiting := [job for job in jobs.values() if job.name not in finished]:
        ready = [job.name for job in waiting if finished.issuperset(job.after)]
        assert ready, f"{waiting[0].name} waits for what is not there, or for itself"
        finished.update(ready)
    files = [path for job in jobs.values() for path in (*job.files, *job.runs) if not path.endswith("/")]
    assert len(files) == len(set(files))


def test_a_job_reads_only_what_jobs_before_it_make():
    jobs, page = make_plan(list(EVERYTHING.values()), read_scale("mini"), "runs/here")
    made = {job.name: {*job.files, *job.runs, *filter(None, [job.directory])} for job in jobs.values()}

    def before(name: str) -> set[str]:
        return set(jobs[name].after).union(*(before(each) for each in jobs[name].after))

    for job in jobs.values():
        there = set().union(*(made[name] for name in before(job.name)), made[job.name])
        for word in job.command:
            if word.startswith("runs/here/") and not word.startswith("runs/here/data/") and word not in there:
                inside = any(Path(word).is_relative_to(place) for place in there)
                own = any(Path(place).is_relative_to(word) for place in made[job.name]) or word == page.path
                assert inside or own, f"{job.name}: {word}"


def test_temperatures_of_equal_entropy_are_the_papers_on_its_data_and_found_on_others():
    words = [job.command for job in kinds(plan_of("H.2"), "student")]
    assert {command[command.index("--kd-temperature") + 1] for command in words} == {"1", "1.481375"}
    mini = kinds(plan_of("H.2", "mini"), "student")
    found = {job.command[job.command.index("--kd-temperature") + 1] for job in mini}
    assert found == {"1", "runs/here/results/equal-entropy-1.json"}
    assert sum("match-temperature" in job.command for job in plan_of("H.2", "mini").values()) == 1


def test_at_the_small_scale_a_job_trains_all_temperatures_of_a_teacher():
    (small, *others) = kinds(plan_of("4", "mini"), "student")
    assert len(others) == 2 * 3 - 1  # two α, three seeds
    place = small.command.index("--kd-temperature")
    assert small.command[place + 1 : place + 5] == ["1", "2", "3", "64"]
    assert [Path(run).name for run in small.runs] == [f"test_efficientnet_a0_T{T}_s1" for T in (1, 2, 3, 64)]


def test_a_seed_whose_jobs_have_begun_is_finished_before_the_next():
    jobs, _ = make_plan([EVERYTHING["study-step"]], read_scale("studies"), "runs/here")
    (data,) = [job for job in jobs.values() if job.name == "data.letters"]
    by_seed = [{job.priority for job in jobs.values() if f"_s{seed}" in job.name} for seed in range(11, 16)]
    assert [len(each) for each in by_seed] == [1] * 5
    order = [data.priority, *(priority for each in by_seed for priority in each)]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == 6
    assert min(order) > 0


def test_seeds_are_as_many_as_are_asked_for():
    assert len(kinds(plan_of("2B", seeds=5), "student")) == 2 * 2 * 4 * 5
    commands = [job.command for job in kinds(plan_of("2B", seeds=2), "student")]
    assert {command[command.index("--seed") + 1] for command in commands} == {"2021", "2022"}
    assert all(
        command[command.index("--seed") + 1] == command[command.index("--data-seed") + 1] for command in commands
    )


def test_translation_is_distilled_as_the_paper_says_and_as_its_code_does():
    students = kinds(plan_of("5"), "student")
    as_code = [job for job in students if ".mkd/" in job.runs[0]]
    assert len(as_code) == len(students) / 2 == 24
    for job in students:
        words = " ".join(job.command)
        other = "--kd-weight 0.9 --label-smoothing 0.1 --teacher-topk 4"
        assert (other in words) == (job in as_code)
        assert "--criterion kd" in words
        assert "--weight-decay 0" in words


def test_a_teacher_of_translation_is_stored_once_and_its_students_read_that():
    jobs = plan_of("5")
    stored = {job.directory: job for job in kinds(jobs, "cache")}
    teachers = {job.runs[0]: job.name for job in kinds(jobs, "teacher")}
    assert stored.keys() == {f"{run}/teacher-cache" for run in teachers}
    assert len(stored) == 4  # two α by two recipes
    for directory, job in stored.items():
        assert teachers[str(Path(directory).parent)] in job.after
        assert job.files == job.runs == []  # snakemake would remove what it resumes from
    for job in kinds(jobs, "student"):
        cache = job.command[job.command.index("--teacher-cache") + 1]
        assert stored[cache].name in job.after
        assert "--teacher-path" not in job.command
        assert Path(job.runs[0]).name.split("_")[1] == Path(cache).parent.name.split("_")[1]  # of its α
        assert Path(job.runs[0]).parent == Path(cache).parent.parent  # and recipe


def test_a_stored_teacher_may_go_when_its_students_are_trained_and_not_before(tmp_path):
    jobs, page = make_plan([EXPERIMENTS["5"]], read_scale("mini"), str(tmp_path))
    for job in jobs.values():
        for path in map(Path, job.runs):
            path.mkdir(parents=True)
            (path / "run.json").touch()
    write_plan(jobs, page, tmp_path)
    marks = {job.name: tmp_path / "done" / job.name for job in jobs.values() if not job.files}
    for path in marks.values():
        path.touch()
    write_plan(jobs, page, tmp_path)
    assert all(path.exists() for path in marks.values())
    student = next(job for job in kinds(jobs, "student") if "_a0.1_" in job.runs[0] and ".mkd/" not in job.runs[0])
    shutil.rmtree(student.runs[0])
    write_plan(jobs, page, tmp_path)
    lost = {name for name, path in marks.items() if not path.exists()}
    assert lost == {student.name, "cache.help.en-de.transformer_a0.1_s1"}


def test_no_student_of_two_recipes_shares_a_directory():
    models = Models(read_scale("paper"), "runs/here", None, {})
    recipes: dict[str, set] = {}
    for experiment in EXPERIMENTS.values():
        for student in students_of(experiment, models):
            recipes.setdefault(models.study(student), set()).add((student.recipe, student.distill_type))
    assert all(len(each) == 1 for each in recipes.values())
    assert set().union(*recipes.values()) == {("paper", "logit"), ("paper", "overhaul"), ("mkd", "logit")}
    jobs, _ = make_plan(list(EXPERIMENTS.values()), read_scale("paper"), "runs/here")
    distilling_features = [job.runs[0] for job in kinds(jobs, "student") if "--kd-distill-type" in job.command]
    assert distilling_features
    assert all("/cub200.overhaul/" in run for run in distilling_features)


def test_a_training_whose_run_is_gone_loses_its_mark_and_others_keep_theirs(tmp_path):
    jobs, page = make_plan([EXPERIMENTS["H.2"]], read_scale("mini"), str(tmp_path))
    trainings = [job for job in jobs.values() if job.runs]
    for job in trainings:
        for run_directory in map(Path, job.runs):
            run_directory.mkdir(parents=True, exist_ok=True)
            (run_directory / "run.json").touch()
    write_plan(jobs, page, tmp_path)
    marks = [tmp_path / "done" / job.name for job in trainings]
    for path in marks:
        path.touch()
    write_plan(jobs, page, tmp_path)
    assert all(path.exists() for path in marks)
    shutil.rmtree(tmp_path / "small-letters" / "test_resnet_a0.1_T1_s1")
    write_plan(jobs, page, tmp_path)
    assert [path.name for path in marks if not path.exists()] == ["small-letters.test_resnet_a0.1_s1.students"]


def test_a_page_of_some_experiments_does_not_take_the_place_of_the_page_of_all():
    pages = set()
    for names in (["all"], ["2A"], ["2A", "3", "4", "5", "1"], ["studies"], ["study-losses"]):
        jobs, page = make_plan(chosen(names, EVERYTHING), read_scale("mini"), "runs/here")
        pages.add((*jobs["report"].files, page.path))
    assert ("runs/here/report.html", "runs/here/contents.json") in pages
    assert ("runs/here/report.2A+3+4+5+1.html", "runs/here/contents.2A+3+4+5+1.json") in pages
    assert ("runs/here/report.studies.html", "runs/here/contents.studies.json") in pages
    assert ("runs/here/report.study-losses.html", "runs/here/contents.study-losses.json") in pages
    assert len(pages) == 5


def test_the_summary_says_how_many_jobs_and_that_their_time_is_unknown(tmp_path):
    scale = without_speeds()
    jobs, _ = make_plan([EXPERIMENTS["2A"]], scale, "runs/here")
    said = summary([EXPERIMENTS["2A"]], scale, jobs, tmp_path)
    assert re.search(r"distil students +48 jobs", said)
    assert re.search(r"in all +53 jobs", said)
    assert "GPU hours: unknown; no finished run" in said
    assert "imagenet/resnet18" in said


def test_before_any_has_run_the_hours_are_those_of_measured_speeds(tmp_path):
    scale = read_scale("paper")
    said = summary([EXPERIMENTS["2A"]], scale, plan_of("2A"), tmp_path)
    train, ask = scale.speeds["train"], scale.speeds["ask"]["resnet50"]
    teachers = 2 * 90 / train["resnet50"]
    students = 24 * 200 * (1 / train["resnet18"] + 1 / ask + 1 / train["resnet50"] + 1 / ask)
    assert f"GPU hours: {1281167 * (teachers + students) / 3600:.1f} for 50 of 50 trainings, 50 of them by" in said
    assert "RTX 3090" in said
    jobs = plan_of("5")
    assert "GPU hours: unknown" in summary([EXPERIMENTS["5"]], scale, jobs, tmp_path)  # no speeds of translation


def test_the_listing_names_every_job_under_its_kind_and_says_which_are_done(tmp_path):
    jobs = plan_of("2A")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "imagenet.resnet50_a0_s42").touch()
    lines = listing(jobs, tmp_path).splitlines()
    assert (
        lines.index("distil students")
        > lines.index("    imagenet.resnet50_a0_s42  (done)")
        > lines.index("train from labels")
    )
    assert [line.split()[0] for line in lines if line.startswith("    ")] == [
        job.name for kind in KINDS for job in kinds(jobs, kind)
    ]


def test_notes_on_the_data_stand_where_these_data_were_used():
    def notes(name: str) -> list[str]:
        _, page = make_plan([EXPERIMENTS[name]], read_scale("mini"), "runs/x")
        return [note for entry in page.contents["experiments"] for note in entry["notes"]]

    assert any("Letters with diacritics" in note for note in notes("2A"))
    assert notes("G.1") == []  # of a real model's templates, not of the data that stand for ImageNet's


def test_jobs_that_train_several_models_cost_that_many(tmp_path):
    scale, place = read_scale("mini"), tmp_path / "letters" / "test_resnet_a0.1_T1_s7"
    jobs, _ = make_plan([EXPERIMENTS["2A"]], scale, str(tmp_path))
    record = {"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "teacher": {"paths": []}}
    place.mkdir(parents=True)
    row = {"epoch": 3, "updates": 20, "seconds": 36000.0, "together": 8}
    (place / "run.json").write_text(json.dumps(record | {"history": [row]}))
    said = summary([EXPERIMENTS["2A"]], scale, jobs, tmp_path)
    # 10 hours of 8 models for half of their epochs: a model has 2.5, and each of six jobs of this student trains four
    assert "core hours: 60.0 for 6 of " in said


def test_the_summary_takes_the_speed_of_finished_runs(tmp_path):
    scale = without_speeds()
    jobs, _ = make_plan([EXPERIMENTS["2A"]], scale, "runs/here")
    record = {"schema_version": 1, "configuration": {}, "seed": 1, "data": {}, "teacher": {"paths": []}}
    row = {"epoch": 2, "updates": 20, "seconds": 7200.0, "together": 1}
    record |= {"history": [row], "hardware": {"gpus": ["a GPU"]}}
    place = tmp_path / "imagenet" / "resnet18_a0.1_T1_s7"
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps(record))
    said = summary([EXPERIMENTS["2A"]], scale, jobs, tmp_path)
    assert f"GPU hours: {24 * 200:.1f} for 24 of 50 trainings" in said  # an hour an epoch, two kinds of student
    assert "imagenet/resnet18" not in said.partition("shows the speed of")[2]
    (place / "run.json").write_text(json.dumps(record | {"history": [row | {"together": 4}]}))
    said = summary([EXPERIMENTS["2A"]], scale, jobs, tmp_path)
    assert f"GPU hours: {24 * 200 / 4:.1f} for 24 of 50 trainings" in said  # four models shared that hour
    (place / "run.json").write_text(json.dumps(record | {"history": [row | {"together": None}]}))
    said = summary([EXPERIMENTS["2A"]], scale, jobs, tmp_path)
    assert "GPU hours: unknown" in said  # nobody knows how many models shared it
    (place / "run.json").write_text(json.dumps(record | {"hardware": {"gpus": []}}))
    said = summary([EXPERIMENTS["2A"]], scale, jobs, tmp_path)
    assert "GPU hours: unknown" in said  # a run without one says nothing of a GPU's speed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("7Z", "TABLE: 7Z (must be all, studies, or one of 2A, "),
        ("study-optimizer", "TABLE: study-optimizer (must be all, studies, or one such as study-optimiser"),
        ("study-step --scale medium", "--scale: medium (has no data for study-step: ImageNet-1K)"),
        (
            "2A --scale huge",
            "--scale: huge (must be one of medium, mini, paper, studies",
        ),
        ("2A --scale medium", "--scale: medium (has no data for Table 2A: ImageNet-1K)"),
        ("2A --seeds 0", "--seeds: '0' (must be a whole number above 0)"),
        ("2A --scale paper --data imagenet=/no/where", "--data: imagenet=/no/where (must name a path that exists)"),
        ("2A --scale paper --data birds=.", "--data: birds=. (must be NAME=PATH, NAME of "),
        ("2A --scale paper --write", "--data: not given (must have imagenet=PATH: a directory with train/ and val/"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(words, said, refused, tmp_path):
    assert said in refused(*words.split(), "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "package", "extra"), [("2A", "timm", "vision"), ("5", "fairseq", "nmt"), ("2A", "jinja2", "report")]
)
def test_a_package_that_the_jobs_need_is_missed_before_anything_runs(
    table, package, extra, refused, monkeypatch, tmp_path
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else found(name, *more)
    )
    said = refused(table, "--ready", "--output", tmp_path / "out")
    assert said.strip().endswith(f"{package} is not installed (in a checkout of lskd: pip install '.[{extra}]')")


@pytest.fixture
def refused(monkeypatch, capsys):
    """The one line with which the command, run in this process, refuses."""

    def refused(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["scripts/plan.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "scripts" / "plan.py"), run_name="__main__")
        printed, complaint = capsys.readouterr()
        assert (ended.value.code, printed, complaint.count("\n")) == (2, "", 1)
        return complaint

    return refused


def test_a_scale_of_ones_own_is_checked(refused, tmp_path):
    text = (ROOT / "scripts" / "scales" / "mini.yaml").read_text(encoding="utf-8")
    for change, said in [
        (("gpu: 0", "gppu: 0"), "has no setting gppu"),
        (("kind: images", "kind: sounds"), "must have a kind: images or translation"),
        (
            ("ResNet-18: {model: test_resnet}", "ResNet-19: {model: test_resnet}"),
            "has no model for ResNet-18 of Table 2A",
        ),
        (("data:", "data: ["), "cannot be read as YAML"),
    ]:
        (tmp_path / "own.yaml").write_text(text.replace(*change, 1), encoding="utf-8")
        assert said in refused("2A", "--scale", tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seeds: 1", "seeds: three"), "seeds (must be a whole number or null, not text)"),
        (("seeds: 1", "seeds: 0"), "seeds (must be a whole number >= 1)"),
        (("gpu: 0", "gpu: true"), "gpu (must be a whole number, not true or false)"),
        (("threads: 1 ", "threads: 1.5 "), "threads (must be a whole number, not a decimal number)"),
        (("first_seed: 1", "first_seed: -1"), "ImageNet-1K: first_seed (must be a whole number >= 0)"),
        (("together: true", "together: 2"), "together (must be true or false, not a whole number)"),
        (
            ("{model: test_resnet}", "{model: test_resnet, epochs: abc}"),
            "ImageNet-1K: models: ResNet-18: epochs (must be a whole number, not text)",
        ),
        (
            ("student: {epochs: 6}", "student: {epochs: 0}"),
            "ImageNet-1K: models: ResNet-18: epochs (must be a whole number >= 1)",
        ),
        (("teacher: {epochs: 6}", "teacher: {}"), "Pretraining: teacher: {} (must have the field epochs)"),
        (("teacher: {epochs: 6}", "teacher: 5"), "Pretraining: teacher (must be an object, not a whole number)"),
        (
            ("{model: test_resnet}", "{model: 18}"),
            "ImageNet-1K: models: ResNet-18: model (must be text, not a whole number)",
        ),
        (("max-epoch: 5", "max-epoch: x"), "IWSLT En-De: train: max-epoch (must be a whole number, not text)"),
        (
            ("layers: 2, dim", "layers: 2.5, dim"),
            "IWSLT En-De: recipes: paper: teacher.layers (must be a whole number, not a decimal number)",
        ),
        (
            ("{name: transformer, layers: 2", "{layers: 2"),
            "IWSLT En-De: recipes: paper: teacher (must have the field name)",
        ),
    ],
)
def test_numbers_of_a_scale_of_ones_own_are_checked(change, said, tmp_path):
    text = (ROOT / "scripts" / "scales" / "mini.yaml").read_text(encoding="utf-8")
    (tmp_path / "own.yaml").write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_scale(str(tmp_path / "own.yaml"))
    assert str(error.value) == f"--scale {tmp_path / 'own.yaml'}: {said}"


def test_a_models_own_epochs_are_those_of_its_job(tmp_path):
    text = (ROOT / "scripts" / "scales" / "mini.yaml").read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("{model: test_resnet}", "{model: test_resnet, epochs: 7}", 1), encoding="utf-8")
    jobs, _ = make_plan([EXPERIMENTS["2A"]], read_scale(str(own)), "runs/own")
    students = [job for job in jobs.values() if job.kind == "student" and job.trains.endswith("/test_resnet")]
    assert students
    for job in students:
        assert job.epochs == int(job.command[job.command.index("--epochs") + 1]) == 7


def test_the_classes_of_a_scale_are_those_of_its_data():
    names = list(imagenet_classes())
    classes = read_scale("paper").data["ImageNet-1K"]["classes"]
    assert [readable_name(each) for each in classes["three"]] == ["miniature poodle", "standard poodle", "submarine"]
    for name, table in (("retrievers", "I.2"), ("snakes", "I.3"), ("soft_outputs", "E"), ("three", "I.1")):
        printed = dict.fromkeys(each.target_class for each in published(table) if each.target_class != "average")
        assert [readable_name(each) for each in classes[name]] == list(printed)
        assert set(classes[name]) <= set(names)
    small, letters = read_scale("mini").data, {row["name"] for row in read_table(TABLE)}
    assert all(set(each) <= letters for each in small["ImageNet-1K"]["classes"].values())
    assert set(small["ImageNet-1K"]["sets"]["targets"]) <= letters
    assert all(name.startswith("small_") for name in small["CUB200-2011"]["classes"]["three"])
    assert set(small["CUB200-2011"]["classes"]["three"]) <= letters


def test_names_of_experiments_are_taken_as_people_write_them():
    names = ["table 2a", "Figure A.1", "fig. 1", "h.2", "appendix e", "Study losses", "study_step"]
    expected = ["2A", "A.1", "1", "H.2", "E", "study-losses", "study-step"]
    assert [each.id for each in chosen(names, EVERYTHING)] == expected
