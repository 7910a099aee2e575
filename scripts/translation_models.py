"""The jobs that train translation models: teachers, caches of them, data that they translate, students, scores."""

from typing import TYPE_CHECKING, Any

from jobs import Job, Output, flags, train_translation, translation_command, word
from students import Student

if TYPE_CHECKING:
    from scripts.models import Models

# In the settings of a variant, beside training options: how its data are distilled.
DISTILLED, WORD_LEVEL = "distilled-data", "word-level"


def teacher(models: "Models", data: str, alpha: float, recipe: str, seed: int) -> str:
    """The job that trains a teacher."""
    settings, run = models.settings(data), models.teacher_run(data, alpha, recipe, seed)
    command = train_translation(settings, settings["recipes"][recipe]["teacher"], models.data_dir(data), run, seed)
    command += _labels(alpha)
    return models.trained(run, "teacher", command, [models.prepare(data)], [run], settings["train"]["max-epoch"])


def student_without_teacher(models: "Models", student: Student) -> str:
    """The job that trains a student on the references alone."""
    command, epochs = _training(models, student, models.data_dir(student.data))
    run, after = models.run(student), [models.prepare(student.data)]
    return models.trained(run, "student", command + _labels(student.label_smoothing), after, [run], epochs)


def student(models: "Models", student: Student) -> str:
    """The job that trains a student: on the references or on the teacher's translations, word by word or not."""
    run, variant = models.run(student), models.variant(student)
    data_dir, after = models.data_dir(student.data), [models.prepare(student.data)]
    if variant.get(DISTILLED):
        data_dir, job = distilled_data(models, student)
        after.append(job)
    command, epochs = _training(models, student, data_dir)
    if variant.get(WORD_LEVEL, True):
        cache, job = cached_teacher(models, student, data_dir, after)
        command += ["--criterion", "kd", "--temperature", f"{student.temperature:.10g}", "--teacher-cache", cache]
        command += flags(models.settings(student.data)["recipes"][student.recipe].get("distil", {}))
        after.append(job)
    else:
        command += _labels(0.0)
    return models.trained(run, "student", command, after, [run], epochs)


def cached_teacher(models: "Models", student: Student, data_dir: str, after: list[str]) -> Output:
    """The cache of a teacher on the sentences that a student learns from."""
    run, job = _teacher_of(models, student)
    dest = f"{run}/teacher-cache" + ("" if data_dir == models.data_dir(student.data) else "-distilled")
    command = _of_checkpoint(models, "cache_teacher", student.data, data_dir, run, "--dest", dest)
    name = f"cache.{_name(models, dest).removesuffix('.teacher-cache')}"
    made = Job(name, "cache", command, [*after, job], directory=dest, **models.compute("other"))
    return Output(dest, models.add(made))


def distilled_data(models: "Models", student: Student) -> Output:
    """The training sentences as the teacher translates them."""
    run, job = _teacher_of(models, student)
    dest, source = f"{run}/distilled-data", models.data_dir(student.data)
    command = _of_checkpoint(models, "distil_data", student.data, source, run, "--dest", dest)
    after = [models.prepare(student.data), job]
    made = Job(_name(models, dest), "prepare", command, after, **models.compute("other"))
    return Output(dest, models.add(made))


def score(models: "Models", run: str, data: str, training: str) -> str:
    """The job that scores a model on the test split."""
    command = _of_checkpoint(models, "score", data, models.data_dir(data), run)
    return models.add(Job(f"score.{training}", "score", command, [training], **models.compute("other")))


def recorded(models: "Models", run: str, data: str, training: str) -> Output:
    """The representation file of a model on the training split."""
    file = f"{run}/checkpoint_best.train.representations.safetensors"
    command = _of_checkpoint(models, "representations", data, models.data_dir(data), run, "--split", "train")
    command += flags(models.settings(data)["record"])
    name, other = f"representations.{_name(models, run)}", models.compute("other")
    return Output(file, models.add(Job(name, "representations", command, [training], [file], **other)))


def _teacher_of(models: "Models", student: Student) -> Output:
    """The run directory of a student's teacher."""
    of = student.data, student.label_smoothing, student.recipe, models.teacher_seed(student)
    return Output(models.teacher_run(*of), models.teacher(*of))


def _of_checkpoint(models: "Models", module: str, data: str, data_dir: str, run: str, *options: str) -> list[str]:
    """A command for the best checkpoint of a run."""
    return translation_command(module, models.settings(data), data_dir, f"{run}/checkpoint_best.pt", *options)


def _name(models: "Models", path: str) -> str:
    """The name of the job that makes a directory."""
    return path.removeprefix(f"{models.output}/").replace("/", ".")


def _training(models: "Models", student: Student, data_dir: str) -> tuple[list[str], int]:
    """The command of a student's training without its criterion, and its epochs."""
    settings = models.settings(student.data)
    options = {name: value for name, value in models.variant(student).items() if name not in (DISTILLED, WORD_LEVEL)}
    own: dict[str, Any] = settings | {"train": settings["train"] | options}
    shape = settings["recipes"][student.recipe]["student"]
    command = train_translation(own, shape, data_dir, models.run(student), student.seed)
    return command, own["train"]["max-epoch"]


def _labels(alpha: float) -> list[str]:
    """The criterion of a training on references alone."""
    return ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", word(float(alpha))]
