"""The jobs that prepare data and train models: teachers, students at temperatures, scores, representations."""

from typing import Any, Literal

import translation_models
from definitions import PLAIN, Experiment
from jobs import (
    SOURCE,
    Job,
    Output,
    lskd,
    record_images,
    train_images,
    word,
)
from scale_definitions import Scale, directory_part
from students import Student, loss_in_name

SPLITS = ("train", "validation")


def architecture(model: dict[str, Any]) -> dict[str, Any]:
    """Those settings of a model that define its architecture."""
    return {name: model[name] for name in ("model", "model-kwargs") if name in model}


class Models:
    """The jobs of a plan that make models, each once, for however many experiments.

    Args:
        scale: the meaning of the paper's terms.
        output: the directory of all outputs.
        seeds: students of each kind; None for the scale's number, or the experiment's.
        sources: paths of the user's archives, by the scale's name of the data set.
    """

    def __init__(self, scale: Scale, output: str, seeds: int | None, sources: dict[str, str]) -> None:
        self.scale, self.output, self.seeds, self.sources = scale, output, seeds, sources
        self.jobs: dict[str, Job] = {}
        self._job_of: dict[Student, str] = {}

    def add(self, job: Job) -> str:
        """Add a job unless it is there already, and return its name.

        Raises:
            ValueError: another job has this name.
        """
        if self.jobs.setdefault(job.name, job).command != job.command:
            raise ValueError(f"job: {job.name} (must be one job, and two have this name)")
        return job.name

    def compute(self, kind: Literal["train", "other"]) -> dict[str, Any]:
        """The resources of a job that runs a model; ``kind`` is ``train`` or ``other``."""
        return {"gpu": self.scale.gpu, "threads": self.scale.threads} | self.scale.slurm[kind]

    def settings(self, data: str) -> dict[str, Any]:
        """The scale's settings of a data set."""
        return self.scale.data[data]

    def data_dir(self, data: str) -> str:
        """The directory of the prepared data."""
        settings = self.settings(data)
        if settings.get("data_dir") == SOURCE:
            return self.source(data)
        return f"{self.output}/data/{settings['name']}"

    def source(self, data: str) -> str:
        """The archive or directory of the user; a word in capitals if none was given."""
        name = self.settings(data)["name"]
        return self.sources.get(name, name.upper())

    def prepare(self, data: str) -> str:
        """The job that makes or checks the data."""
        settings = self.settings(data)
        script, *words = (self.source(data) if each == SOURCE else word(each) for each in settings["prepare"])
        dest = [] if settings.get("data_dir") else ["--dest", self.data_dir(data)]
        command = ["python", f"data_prep/{script}", *words, *dest]
        return self.add(Job(f"data.{settings['name']}", "prepare", command, **self.scale.slurm["other"]))

    def seeds_of(self, experiment: Experiment) -> list[int]:
        """The seeds of an experiment's students; a drawing shows one of each kind."""
        settings = self.settings(experiment.data)
        first, number = settings["first_seed"], self.seeds or settings.get("seeds") or self.scale.seeds
        return list(range(first, first + (1 if experiment.shows == "projection" else number or experiment.seeds)))

    def teacher_seeds(self, experiment: Experiment) -> list[int]:
        """The seeds of an experiment's teachers: those of its students, or one for all."""
        seeds = self.seeds_of(experiment)
        return seeds if self.scale.teacher_per_seed else [self.settings(experiment.data)["first_seed"]]

    def teacher_seed(self, student: Student) -> int:
        """The seed of a student's teacher."""
        return student.seed if self.scale.teacher_per_seed else self.settings(student.data)["first_seed"]

    def trains_on_labels(self, data: str, variant: str) -> bool:
        """Whether a variant says nothing about how a teacher is followed, so that a student without one can have it."""
        options = self.settings(data).get("variants", {}).get(variant, {})
        return not any(name.startswith(("kd-", "teacher-", translation_models.DISTILLED)) for name in options)

    def study(self, student: Student) -> str:
        """The directory of a student's study, which holds its run."""
        name = self.settings(student.data)["name"]
        if student.recipe != "paper":
            name += f".{student.recipe}"
        if student.distill_type != "logit":
            name += f".{student.distill_type}"
        if student.equal_entropy:
            name += f".equal-entropy-{student.temperature:g}"
        if student.variant != PLAIN:
            name += f".{directory_part(student.variant)}"
        return f"{self.output}/{name}"

    def teacher_model(self, data: str, recipe: str = "paper") -> str:
        """The teacher's model as named in run directories."""
        settings = self.settings(data)
        if settings["kind"] == "translation":
            return settings["recipes"][recipe]["teacher"]["name"]
        return settings["teacher"]["model"]

    def teacher_run(self, data: str, alpha: float, recipe: str = "paper", seed: int | None = None) -> str:
        """The run directory of a teacher, the first one unless a seed is given."""
        study = self.study(Student(data, "", alpha, 1, 0, recipe))
        return f"{study}/{self.teacher_model(data, recipe)}_a{alpha:g}_s{self._seed(data, seed)}"

    def _seed(self, data: str, seed: int | None) -> int:
        return self.settings(data)["first_seed"] if seed is None else seed

    def student_model(self, student: Student) -> str:
        """The student's model as named in run directories."""
        settings = self.settings(student.data)
        if settings["kind"] == "translation":
            return settings["recipes"][student.recipe]["student"]["name"]
        return settings["models"][student.model]["model"]

    def run(self, student: Student) -> str:
        """The run directory of a student; if its T is found later, the directory above, with a /."""
        if student.equal_entropy:
            return f"{self.study(student)}/"
        name = f"{self.student_model(student)}_a{student.label_smoothing:g}"
        if student.temperature is None:
            return f"{self.study(student)}/{name}_s{student.seed}"
        name += f"_T{student.temperature:g}"
        if self.settings(student.data)["kind"] == "images":
            name += loss_in_name(self.image_role(student))
        return f"{self.study(student)}/{name}_s{student.seed}"

    def variant(self, student: Student) -> dict[str, Any]:
        """The options of a student's variant."""
        return self.settings(student.data).get("variants", {}).get(student.variant, {})

    def image_role(self, student: Student) -> dict[str, Any]:
        """The training settings of an image student, in addition to those of all models of its data."""
        settings = self.settings(student.data)
        return settings.get("student", {}) | settings["models"][student.model] | self.variant(student)

    def teacher(self, data: str, alpha: float, recipe: str = "paper", seed: int | None = None) -> str:
        """The job that trains a teacher, the first one unless a seed is given."""
        settings = self.settings(data)
        if settings["kind"] == "images":
            return self.from_labels(data, settings["teacher"], alpha, self._seed(data, seed))
        return translation_models.teacher(self, data, alpha, recipe, self._seed(data, seed))

    def from_labels(self, data: str, model: dict[str, Any], alpha: float, seed: int) -> str:
        """The job that trains an image model on labels: a teacher, or a model from which others start."""
        settings = self.settings(data)
        role = settings["teacher"] | architecture(model)
        run = f"{self.output}/{settings['name']}/{model['model']}_a{alpha:g}_s{seed}"
        return self.images_from_labels(data, role, model["model"], alpha, run, "teacher", seed)

    def images_from_labels(
        self, data: str, role: dict[str, Any], model: str, alpha: float, run: str, kind: str, seed: int
    ) -> str:
        """The job that trains an image model on labels: a teacher, or a student without one."""
        command = train_images(self.settings(data), role, model, self.data_dir(data), run.rpartition("/")[0], seed)
        command += ["--smoothing", word(float(alpha))]
        start, after = self.start(role, alpha if kind == "teacher" else 0.0)
        job = self.trained(run, kind, command + start, [self.prepare(data), *after], [run], role["epochs"])
        return self.estimated(job, data, model)

    def without_teacher(self, student: Student) -> str:
        """The job that trains a student on labels alone."""
        data, alpha, run = student.data, student.label_smoothing, self.run(student)
        if self.settings(data)["kind"] == "translation":
            return translation_models.student_without_teacher(self, student)
        role = self.image_role(student)
        return self.images_from_labels(data, role, role["model"], alpha, run, "student", student.seed)

    def start(self, role: dict[str, Any], alpha: float) -> tuple[list[str], list[str]]:
        """The options for a model's initial weights, and the jobs that train these with label smoothing α."""
        if other := role.get("starts_from"):
            job = self.from_labels(other, role, alpha, self._seed(other, None))
            return ["--initial-checkpoint", f"{self.jobs[job].runs[0]}/last.pth.tar"], [job]
        if name := role.get("torchvision_weights"):
            path = f"{self.output}/data/{name}.pth"
            command = ["python", "data_prep/torchvision_weights.py", "--model", name, "--weights", "IMAGENET1K_V1"]
            command += ["--dest", path]
            job = Job(f"weights.{name}", "prepare", command, files=[path], **self.scale.slurm["other"])
            return ["--initial-checkpoint", path], [self.add(job)]
        return [], []

    def students(self, wanted: list[Student]) -> None:
        """Add the jobs that train students: one for each, or one for all temperatures if the scale says so."""
        groups: dict[tuple[str, str, float, int, float | None], list[Student]] = {}
        for each in sorted(set(wanted), key=repr):
            if each.temperature is None:
                self._job_of[each] = self.without_teacher(each)
                continue
            alone = self.settings(each.data)["kind"] == "translation" or not self.scale.together or each.equal_entropy
            own = each.temperature if alone else None
            key = (self.study(each), each.model, each.label_smoothing, each.seed, own)
            groups.setdefault(key, []).append(each)
        for group in groups.values():
            group.sort(key=lambda each: each.temperature or 0)
            translation = self.settings(group[0].data)["kind"] == "translation"
            job = translation_models.student(self, group[0]) if translation else self.image_students(group)
            for each in group:
                self._job_of[each] = job

    def job(self, student: Student) -> str:
        """The job that trains a student."""
        return self._job_of[student]

    def image_students(self, group: list[Student]) -> str:
        """The job that trains image students that differ only in their temperature."""
        one = group[0]
        settings, alpha = self.settings(one.data), one.label_smoothing
        model, role = settings["models"][one.model], self.image_role(one)
        command = train_images(settings, role, model["model"], self.data_dir(one.data), self.study(one), one.seed)
        seed = self.teacher_seed(one)
        after = [self.prepare(one.data), self.teacher(one.data, alpha, seed=seed)]
        teacher = f"{self.teacher_run(one.data, alpha, seed=seed)}/last.pth.tar"
        command += ["--kd-checkpoint", teacher, "--kd-temperature"]
        if one.equal_entropy and one.temperature:
            file, job = self.temperature_of_equal_entropy(one.data, one.temperature)
            command, after = [*command, file], [*after, job]
            name = f"{self.study(one)}/{model['model']}_a{alpha:g}_s{one.seed}"
        else:
            command += [f"{each.temperature:.10g}" for each in group]
            name = self.run(one)
            if self.scale.together:
                name = f"{self.study(one)}/{model['model']}_a{alpha:g}_s{one.seed}.students"
        if one.distill_type != "logit":
            command += ["--kd-distill-type", one.distill_type]
        start, before = self.start(model, 0.0)
        runs = list(dict.fromkeys(map(self.run, group)))
        job = self.trained(name, "student", command + start, after + before, runs, role["epochs"])
        return self.estimated(job, one.data, model["model"], settings["teacher"]["model"])

    def trained(self, name: str, kind: str, command: list[str], after: list[str], runs: list[str], epochs: int) -> str:
        """Add a training; its job is named after its run."""
        name = name.removeprefix(f"{self.output}/")
        trains, resources = name.rpartition("_a")[0], self.compute("train")
        job = Job(name.replace("/", "."), kind, command, after, runs=runs, trains=trains, epochs=epochs, **resources)
        return self.add(job)

    def estimated(self, job: str, data: str, model: str, teacher: str | None = None) -> str:
        """Give an image training the seconds that it takes by the scale's speeds, if they cover its models."""
        speeds, samples = self.scale.speeds, self.settings(data).get("samples")
        if speeds and samples:
            train, ask = speeds["train"].get(model.split(".")[0]), speeds["ask"].get((teacher or "").split(".")[0])
            if train and (ask or teacher is None):
                an_image = len(self.jobs[job].runs) / train + (1 / ask if ask else 0)
                self.jobs[job].seconds = self.jobs[job].epochs * samples * an_image
        return job

    def score(self, run: str, data: str, training: str) -> str:
        """The job that scores a translation model on the test split."""
        return translation_models.score(self, run, data, training)

    def recorded(self, run: str, data: str, training: str) -> dict[str, Output]:
        """The representation files of a model, by split; of a translation model of the training split."""
        settings = self.settings(data)
        if settings["kind"] == "translation":
            return {"train": translation_models.recorded(self, run, data, training)}
        files = {split: f"{run}/last.{split}.representations.safetensors" for split in SPLITS}
        command = record_images(settings, settings["record"], f"{run}/last.pth.tar", self.data_dir(data), SPLITS)
        name = f"representations.{run.removeprefix(self.output + '/').replace('/', '.')}"
        job = Job(name, "representations", command, [training], list(files.values()), **self.compute("other"))
        return {split: Output(path, self.add(job)) for split, path in files.items()}

    def recorded_teacher(self, data: str, alpha: float, seed: int | None = None) -> dict[str, Output]:
        """The representation files of a teacher, the first one unless a seed is given."""
        return self.recorded(self.teacher_run(data, alpha, seed=seed), data, self.teacher(data, alpha, seed=seed))

    def recorded_student(self, student: Student) -> dict[str, Output]:
        """The representation files of a student."""
        return self.recorded(self.run(student), student.data, self.job(student))

    def temperature_of_equal_entropy(self, data: str, temperature: float) -> Output:
        """The file with the T at which the teacher without smoothing has the smoothed one's entropy."""
        file = f"{self.output}/results/equal-entropy-{temperature:g}.json"
        reference, first = self.recorded_teacher(data, 0.1)["train"]
        other, second = self.recorded_teacher(data, 0.0)["train"]
        command = lskd("match-temperature", reference, other, "--temperature", temperature, "--output", file)
        job = Job(f"equal-entropy-{temperature:g}", "measure", command, [first, second], [file])
        return Output(file, self.add(job))
