"""The plans of our own studies: the grid of each, its students' options, and that nothing is trained twice."""

import re
from pathlib import Path

import pytest
from definitions import chosen, read_experiments
from helpers.commands import ROOT
from plan import cost, make_plan
from scale_definitions import read_scale
from students import loss_in_name

from lskd.io.errors import InputError
from lskd_vision.loss_config import DistillationConfig

EXPERIMENTS = read_experiments()
STUDIES = [name for name, each in EXPERIMENTS.items() if each.kind == "study"]
BOTH, FOUR, SMOOTHINGS = ("0", "0.1"), ("0", "0.05", "0.1", "0.2"), ("0", "0.05", "0.1", "0.2", "0.3")
SMOOTHED, ENDS = ("0.1",), ("1", "64")
MOST_T, ALL_T, FEW_T = ("1", "2", "3", "4", "64"), ("1", "2", "3", "64"), ("1", "3", "64")
# For each study and directory the α, the T and what a run's name has of the loss. A dot begins a variant's directory.
GRIDS = {
    "study-optimiser": {"": (FOUR, MOST_T, ""), ".adamw": (FOUR, MOST_T, "")},
    "study-model": {"": (FOUR, MOST_T, ""), ".match": (FOUR, ("3", "64"), "_match"), ".adamw": (FOUR, MOST_T, "")},
    "study-epochs": {"": (BOTH, FEW_T, ""), ".epochs-x4": (BOTH, FEW_T, "")},
    "study-step": {
        "": (BOTH, FEW_T, ""),
        ".match": (BOTH, ("3", "64"), "_match"),
        ".lr-x3": (BOTH, FEW_T, ""),
        ".lr-x10": (BOTH, FEW_T, ""),
    },
    "study-losses": {
        "": (BOTH, FEW_T, ""),
        ".standardised": (BOTH, FEW_T, "_standardised"),
        ".mse": (BOTH, ("1",), "_mse"),
        ".decoupled": (BOTH, FEW_T, "_decoupled"),
        ".wttm": (BOTH, ("3", "64"), "_wttm"),
        ".teacher-only": (BOTH, ("3", "64"), ""),
    },
    "study-truncation": {end: (BOTH, ALL_T, "") for end in ("", ".top-4", ".top-16", ".top-64")},
    "study-truncation-russian": {end: (BOTH, ALL_T, "") for end in ("", ".top-4")},
    "study-step-translation": {
        "": (BOTH, FEW_T, ""),
        ".match": (BOTH, ("3", "64"), ""),
        ".standardised": (BOTH, FEW_T, ""),
    },
    "study-sequence": {end: (BOTH, ("1",), "") for end in ("", ".sequence-level", ".both")},
    "study-smoothing": {"": (SMOOTHINGS, ALL_T, "")},
    "study-updates": {
        "": (SMOOTHED, ENDS, ""),
        ".epochs-x4": (SMOOTHED, ENDS, ""),
        ".epochs-x4-top-4": (SMOOTHED, ("64",), ""),
        ".epochs-x4-match": (SMOOTHED, ("64",), ""),
        ".epochs-x4-standardised": (SMOOTHED, ("64",), ""),
    },
}
# α of the labels of students without a teacher, and the directories of those.
ALONE = {
    "study-optimiser": (BOTH, ("", ".adamw")),
    "study-step": (BOTH, ("", ".lr-x3", ".lr-x10")),
    "study-epochs": (BOTH, ("", ".epochs-x4")),
    "study-smoothing": (SMOOTHINGS, ("",)),
    "study-truncation": (BOTH, ("",)),
    "study-truncation-russian": (BOTH, ("",)),
    "study-step-translation": (BOTH, ("",)),
    "study-sequence": (BOTH, ("",)),
    "study-updates": (SMOOTHED, ("", ".epochs-x4")),
}
TRANSLATION = (
    "study-truncation",
    "study-truncation-russian",
    "study-step-translation",
    "study-sequence",
    "study-updates",
)
OPTIONS = {
    ".adamw": {"--opt": "adamw", "--weight-decay": "0.05"},
    ".match": {"--kd-gradient-scale": "match"},
    ".lr-x3": {"--lr": "0.3"},
    ".lr-x10": {"--lr": "1"},
    ".epochs-x4": {},
    ".sequence-level": {},
    ".both": {},
    ".standardised": {"--kd-loss": "standardised"},
    ".mse": {"--kd-loss": "mse"},
    ".decoupled": {"--kd-loss": "decoupled"},
    ".wttm": {"--kd-loss": "wttm"},
    ".teacher-only": {"--kd-student-temperature": "1"},
    ".top-4": {"--teacher-topk": "4"},
    ".top-16": {"--teacher-topk": "16"},
    ".top-64": {"--teacher-topk": "64"},
    ".epochs-x4-top-4": {"--teacher-topk": "4"},
    ".epochs-x4-match": {"--kd-gradient-scale": "match"},
    ".epochs-x4-standardised": {"--kd-loss": "standardised"},
}
# What no student of Table 2A or Table 5's first reading has.
ODD = {"--kd-loss", "--kd-gradient-scale", "--kd-student-temperature", "--teacher-topk"}


def plan_of(*names: str, scale: str = "mini", **options) -> dict:
    return make_plan(chosen(names, EXPERIMENTS), read_scale(scale), "runs/here", **options)[0]


def runs_of(jobs: dict, kind: str = "student") -> list[str]:
    return [run for job in jobs.values() if job.kind == kind for run in job.runs]


def about(scale: str, name: str) -> tuple[str, str, int, int]:
    """Directory, student, first seed and number of seeds."""
    settings = read_scale(scale).data[EXPERIMENTS[name].data]
    first = settings["first_seed"]
    if name in TRANSLATION:
        return settings["name"], "transformer-small", first, 1 if scale == "mini" else 3
    model = settings["models"][EXPERIMENTS[name].students[0]]["model"]
    return settings["name"], model, first, 5 if scale == "studies" else 3


def table_of(name: str) -> str:
    """The paper's table that has the study's students, where it trains them in the paper's way."""
    return {"IWSLT En-De": "5", "IWSLT En-Ru": "B.2"}.get(EXPERIMENTS[name].data, "2A")


def test_there_is_a_plan_for_each_study():
    assert sorted(GRIDS) == STUDIES
    assert [each.id for each in chosen(["studies"], EXPERIMENTS)] == STUDIES
    assert not {each.id for each in chosen(["all"], EXPERIMENTS)} & set(STUDIES)


@pytest.mark.parametrize("scale", ["mini", "studies", "paper"])
@pytest.mark.parametrize("name", sorted(GRIDS))
def test_a_study_has_every_student_of_its_grid_once(name, scale):
    data, model, first, seeds = about(scale, name)
    expected = {
        f"runs/here/{data}{end}/{model}_a{alpha}_T{T}{loss}_s{seed}"
        for end, (smoothings, temperatures, loss) in GRIDS[name].items()
        for alpha in smoothings
        for T in temperatures
        for seed in range(first, first + seeds)
    }
    smoothings, ends = ALONE.get(name, ((), ()))
    expected |= {
        f"runs/here/{data}{end}/{model}_a{alpha}_s{seed}"
        for end in ends
        for alpha in smoothings
        for seed in range(first, first + seeds)
    }
    if scale == "paper":
        expected = {path.replace("_decoupled_", "_decoupled0.5_") for path in expected}
    runs = runs_of(plan_of(name, scale=scale))
    assert sorted(runs) == sorted(expected)


@pytest.mark.parametrize("scale", ["mini", "paper"])
@pytest.mark.parametrize("name", sorted(GRIDS))
def test_students_of_the_papers_way_are_those_of_its_table(name, scale):
    data, *_ = about(scale, name)
    table = plan_of(table_of(name), scale=scale)
    trained = {run: job.command for job in table.values() if job.kind in ("student", "teacher") for run in job.runs}
    for job in plan_of(name, scale=scale).values():
        for run in job.runs:
            plain = run.startswith(f"runs/here/{data}/")
            assert plain or job.kind == "student"  # variants have no teachers of their own
            if plain and re.search(r"_a0(\.1)?_(T(1|2|3|64)_)?s", run) and (job.kind == "teacher" or "_T" in run):
                # A job of several temperatures may have more or fewer of them, which is no other training.
                ours, theirs = (
                    [word for word in each if word not in ("2", "4")] for each in (job.command, trained[run])
                )
                assert ours == theirs


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_students_of_a_variant_are_trained_with_its_options_and_others_are_not(scale):
    found = set()
    for job in plan_of("studies", scale=scale).values():
        if job.kind != "student":
            continue
        assert job.command.count("--epochs") + job.command.count("--max-epoch") == 1
        end = "".join(re.findall(r"(?:letters|imagenet|en-de|en-ru)(\.[^/]*)", Path(job.runs[0]).parent.name))
        found.add(end)
        for option, value in OPTIONS.get(end, {}).items():
            assert job.command.count(option) == 1
            assert job.command[job.command.index(option) + 1] == value
        assert ODD & set(job.command) == ODD & OPTIONS.get(end, {}).keys()
        if "--experiment" in job.command:  # the directory of the study, in which the training makes the run's
            assert job.command[job.command.index("--experiment") + 1] == Path(job.runs[0]).parent.name
    assert found == {"", *OPTIONS}


def test_studies_beside_the_papers_experiments_train_each_model_once():
    jobs = plan_of("all", "studies", scale="paper")
    runs = [run for job in jobs.values() for run in job.runs if not run.endswith("/")]
    assert len(runs) == len(set(runs))
    alone = runs_of(plan_of("studies", scale="paper")), runs_of(plan_of("all", scale="paper"))
    assert set(runs_of(jobs)) == set(alone[0]) | set(alone[1])


def test_of_each_variant_the_temperatures_of_a_teacher_are_one_job_at_the_small_scale():
    jobs = [job for job in plan_of("study-step").values() if job.kind == "student"]
    assert len([job for job in jobs if "--kd-temperature" in job.command]) == 4 * 2 * 3  # variants, α, seeds
    (matched,) = [job for job in jobs if job.name == "letters.match.test_resnet_a0.1_s2.students"]
    place = matched.command.index("--kd-temperature")
    assert matched.command[place + 1 : place + 3] == ["3", "64"]
    assert matched.command[place + 3 :] == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kd-loss": "mse"},
        {"kd-loss": "decoupled", "kd-nckd-weight": 0.5},
        {"kd-gradient-scale": "match", "kd-loss": "standardised"},
    ],
)
def test_a_run_is_named_as_image_training_names_it(options):
    training = DistillationConfig("resnet50", **{key.replace("-", "_"): each for key, each in options.items()})
    assert training.name == f"T1{loss_in_name(options)}"


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_a_study_is_summarised_and_gets_a_page_of_all_its_runs(name):
    jobs, shown = make_plan([EXPERIMENTS[name]], read_scale("mini"), "runs/here")
    (entry,) = shown.contents["experiments"]
    assert entry["id"] == name
    assert entry["question"] == EXPERIMENTS[name].question
    summary, page = jobs[f"summary.{name}"], jobs[f"{name}.page"]
    assert summary.command[:2] == ["lskd", "summarise"]
    assert summary.files == [f"runs/here/{entry['summary']}"]
    assert page.files == [f"runs/here/{entry['page']}"]
    assert {summary.name, page.name} <= set(jobs["report"].after)
    students, teachers = set(runs_of(jobs)), set(runs_of(jobs, "teacher"))
    assert students == {word for word in summary.command if word in students}
    assert students | teachers == {word for word in page.command if word in students | teachers}
    if name in TRANSLATION:
        assert len([job for job in page.after if jobs[job].kind == "score"]) == len(students | teachers)
    assert ("--sets" in page.command) == bool(EXPERIMENTS[name].eta)
    if EXPERIMENTS[name].eta:
        data, *_ = about("mini", name)
        sets = f"sets.{data}.json" if name in TRANSLATION else "sets.json"
        assert page.command[page.command.index("--sets") + 1] == f"runs/here/results/{sets}"
        files = {file for job in page.after for file in jobs[job].files}
        measured = {run for run in students if re.search(r"_T(1|3|64)_", run)} | teachers
        checkpoint = "checkpoint_best" if name in TRANSLATION else "last"
        assert {f"{run}/{checkpoint}.train.representations.safetensors" for run in measured} <= files


def test_without_sets_a_study_of_images_has_no_eta(tmp_path):
    text = (ROOT / "scripts" / "scales" / "mini.yaml").read_text(encoding="utf-8")
    (tmp_path / "own.yaml").write_text(re.sub(r"    sets:\n(      .*\n|        .*\n)+", "", text), encoding="utf-8")
    jobs = plan_of("study-step", scale=str(tmp_path / "own.yaml"))
    assert not [job for job in jobs.values() if job.kind == "representations"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("AdamW: {", "Adam: {"), "has no variant AdamW for study-optimiser"),
        (("match: {", "Lr ×3: {"), "must have a name that is not 'lr-x3' too"),
        (("match: {", "plain: {"), "must have a name that is not 'plain' too"),
        (("top 4: {", "mkd: {"), "must have a name that is not 'mkd' too"),
        (("top 4: {", "↑: {"), "must have a name that is not '' too"),
        (
            ("AdamW: {opt: adamw, lr: 3.0e-3, weight-decay: 0.05}", "AdamW: 5"),
            "variants[...] (must be an object, not a whole number)",
        ),
    ],
)
def test_variants_of_a_scale_of_ones_own_are_checked(change, said, tmp_path):
    text = (ROOT / "scripts" / "scales" / "mini.yaml").read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / "own.yaml").write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(InputError) as error:
        plan_of("study-optimiser", scale=str(tmp_path / "own.yaml"))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("shows: study", "shows: accuracy"), "must be study in study-NAME.yaml, and only there"),
        (("title: ", "# "), "title, question (must be there)"),
        (("match: [3, 64]", "mtach: [3]"), "only: mtach (must be of plain, match, lr ×3, lr ×10)"),
        (("match: [3, 64]", "match: [4]"), "only: match: [4] (must be of the temperatures)"),
        (("eta: [1, 3, 64]", "eta: [1]"), "eta: [1] (must be two or more of the temperatures)"),
        (("eta: [1, 3, 64]", "etas: [1]"), "has no setting etas"),
    ],
)
def test_definitions_of_studies_are_checked(change, said, tmp_path):
    text = (ROOT / "scripts" / "experiments" / "study-step.yaml").read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / "study-step.yaml").write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_experiments(tmp_path)
    assert said in str(error.value)


def test_where_seeds_have_teachers_of_their_own_each_student_learns_from_the_teacher_of_its_seed():
    jobs = plan_of("study-step", "study-step-translation", scale="studies")
    teachers = [job for job in jobs.values() if job.kind == "teacher"]
    assert len(teachers) == 2 * 5 + 2 * 3  # α, seeds
    for job in teachers:
        assert job.command[job.command.index("--seed") + 1] == job.runs[0].rpartition("_s")[2]
    taught = 0
    for job in jobs.values():
        if job.kind == "student" and "_T" in job.runs[0]:
            alpha, seed = re.findall(r"_a([\d.]+)_T.*_s(\d+)$", job.runs[0])[0]
            (teacher,) = [word for word in job.command if word.endswith(("/last.pth.tar", "/teacher-cache"))]
            assert Path(teacher).parent.name.endswith(f"_a{alpha}_s{seed}")
            taught += 1
    assert taught == 4 * 2 * 5 + (3 + 2 + 3) * 2 * 3


def test_a_scale_has_what_the_one_it_is_based_on_has_and_what_it_sets_itself(tmp_path):
    mini, studies = read_scale("mini").data["ImageNet-1K"], read_scale("studies").data["ImageNet-1K"]
    assert studies["train"] == mini["train"]
    assert (studies["first_seed"], studies["seeds"], mini["first_seed"], mini["seeds"]) == (11, 5, 1, 3)
    (tmp_path / "own.yaml").write_text("based_on: nothing\n")
    with pytest.raises(InputError, match=r"^--scale \S+own.yaml: based_on: nothing .must be one of medium, mini"):
        read_scale(str(tmp_path / "own.yaml"))
    (tmp_path / "own.yaml").write_text(f"based_on: {tmp_path / 'own.yaml'}\n")
    with pytest.raises(InputError, match=r"must not be based on itself"):
        read_scale(str(tmp_path / "own.yaml"))
    others = read_scale("studies-other-fonts")
    assert (others.seeds, others.teacher_per_seed, others.data["ImageNet-1K"]["first_seed"]) == (5, True, 21)
    assert others.data["ImageNet-1K"]["models"] == studies["models"]


def test_a_file_that_a_scale_is_based_on_is_looked_for_beside_it(tmp_path, monkeypatch):
    (tmp_path / "base.yaml").write_text("based_on: mini\nseeds: 7\n")
    (tmp_path / "own.yaml").write_text("based_on: base.yaml\ngpu: 1\n")
    monkeypatch.chdir("/")
    scale = read_scale(str(tmp_path / "own.yaml"))
    assert (scale.seeds, scale.gpu) == (7, 1)
    jobs, _ = make_plan(chosen(["study-step"], EXPERIMENTS), scale, "runs/here")
    seeds = {run.rpartition("_s")[2] for run in runs_of(jobs)}
    assert seeds == {str(seed) for seed in range(1, 8)}  # though mini has three seeds of these data


def test_translations_with_other_seeds_are_five_of_each_kind_and_none_that_the_studies_have():
    expected = {"studies": {"11", "12", "13"}, "studies-other-seeds": {"14", "15", "16", "17", "18"}}
    found = {}
    for scale in expected:
        runs = runs_of(plan_of("study-updates", scale=scale))
        found[scale] = {run.rpartition("_s")[2] for run in runs}
        assert len(runs) == len(set(runs)) == 9 * len(expected[scale])
    assert found == expected


@pytest.mark.parametrize(
    ("scale", "student", "teacher", "images", "seed"),
    [
        ("studies-other-fonts", "test_resnet", "resnet10t", "lskd/arrays", 21),
        ("studies-other-seeds", "test_resnet", "resnet10t", "lskd/arrays", 51),
        ("studies-convnext", "test_convnext", "resnet10t", "lskd/arrays", 31),
        ("studies-fashion", "test_resnet", "resnet10t", "torch/fashion_mnist", 41),
        ("studies-cub", "resnet18.tv_in1k", "resnet50.tv_in1k", None, 11),
    ],
)
def test_the_question_of_the_step_is_asked_of_other_data_and_models_too(scale, student, teacher, images, seed):
    jobs = plan_of("study-step", scale=scale)
    students = [job for job in jobs.values() if job.kind == "student" and "--kd-checkpoint" in job.command]
    teachers = [job for job in jobs.values() if job.kind == "teacher"]

    def values(jobs: list, option: str) -> set:
        return {job.command[job.command.index(option) + 1] if option in job.command else None for job in jobs}

    assert (values(students, "--model"), values(teachers, "--model")) == ({student}, {teacher})
    assert values(students + teachers, "--dataset") == {images}
    assert values(students, "--seed") == {str(each) for each in range(seed, seed + 5)} == values(teachers, "--seed")
    assert sum(len(job.runs) for job in students) == 110
    (sets,) = [job for job in jobs.values() if job.name == "sets"]
    groups = Path(sets.command[sets.command.index("--groups") + 1])
    assert (ROOT / groups).is_file() or groups.parent.name in ("letters", "cub200")  # that it is made with the data


def test_the_hours_that_photographs_would_take_are_those_that_a_dry_run_tells(tmp_path):
    page = (ROOT / "docs" / "evidence-details.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| `lskd reproduce (.*) --scale (\S+) .*` \| ([\d ]+) \|$", page, re.MULTILINE)
    assert len(rows) == 3
    for studies, name, hours in rows:
        scale, chosen_ones = read_scale(name), chosen(studies.split(), EXPERIMENTS)
        jobs, _ = make_plan(chosen_ones, scale, "runs/here")
        told = float(re.search(r"GPU hours: ([\d.]+) for (\d+) of \2 ", cost(scale, jobs, tmp_path))[1])
        assert int(hours.replace(" ", "")) == pytest.approx(told, rel=0.02)


def test_a_student_of_the_teachers_translations_learns_from_data_that_its_own_teacher_made():
    jobs = plan_of("study-sequence", scale="studies")
    word_level = {"": True, ".sequence-level": False, ".both": True}
    for end, words in word_level.items():
        job = jobs[f"help.en-de{end}.transformer-small_a0.1_T1_s12"]
        teacher = "runs/here/help.en-de/transformer_a0.1_s12"
        distilled = end != ""
        assert job.command[1] == (f"{teacher}/distilled-data" if distilled else "runs/here/data/help.en-de")
        assert ("--teacher-cache" in job.command) == words
        if words:
            cache = job.command[job.command.index("--teacher-cache") + 1]
            assert cache == f"{teacher}/teacher-cache" + "-distilled" * distilled
            (made,) = [each for each in jobs.values() if each.directory == cache]
            assert made.name in job.after
            assert made.command[made.command.index("--data") + 1] == job.command[1]
        else:
            assert job.command[-4:] == ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0"]
        translated = "help.en-de.transformer_a0.1_s12.distilled-data"
        assert (translated in job.after) == distilled
        assert f"{teacher}/checkpoint_best.pt" in jobs[translated].command
