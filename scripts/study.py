"""The jobs that measure a study of our own: a summary of its students by temperature, and a page of its runs."""

from definitions import Experiment
from jobs import Job, Output, lskd
from measurements import Measurements, jobs_of, paths_of, students_of


def measure_study(experiment: Experiment, measurements: Measurements) -> None:
    """Plan a study's measurements: `lskd summarise` and `lskd report` of its runs, scored or with representations."""
    models, data = measurements.models, experiment.data
    students = students_of(experiment, models)
    teachers = measurements.teachers(experiment)
    runs = [measurements.trained(each) for each in students]
    if models.settings(data)["kind"] == "translation":
        teachers, runs = (measurements.scored(data, trained) for trained in (teachers, runs))
    summary, job = measurements.measure("summarise", f"summary.{experiment.id}", paths_of(runs), runs)
    measured = experiment.eta and models.settings(data).get("sets")
    made, words = _eta(experiment, measurements) if measured else ([], [])
    page = f"{models.output}/{experiment.id}.html"
    command = lskd("report", *paths_of([*teachers, *runs]), *words, "--title", experiment.title)
    command += ["--introduction", str(experiment.question), "--output", page]
    after = jobs_of([*teachers, *runs, *made])
    shown = models.add(Job(f"{experiment.id}.page", "report", command, after, [page], **measurements.resources))
    content = {"summary": summary, "page": page, "question": experiment.question}
    measurements.entry(experiment, str(experiment.title), [job, shown], **content)


def _eta(experiment: Experiment, measurements: Measurements) -> tuple[list[Output], list[str]]:
    """What the page needs to show η: files, and options of `lskd report`."""
    models, (first, second, *_) = measurements.models, experiment.eta
    recorded = [
        models.recorded_teacher(experiment.data, alpha, seed)
        for alpha in experiment.label_smoothing
        for seed in models.teacher_seeds(experiment)
    ]
    students = [each for each in students_of(experiment, models) if each.temperature in experiment.eta]
    recorded += [models.recorded_student(each) for each in students]
    sets = measurements.sets(experiment)
    words = ["--sets", sets.path, "--first", f"{first:g}", "--second", f"{second:g}"]
    return [sets, *(file for files in recorded for file in files.values())], words
