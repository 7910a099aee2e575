"""Collect the results of studies from their runs into tables that are committed: docs/results/studies/*.csv.

    python scripts/collect_results.py runs/studies docs/results/studies
    python scripts/collect_results.py runs/more docs/results/studies --add
    python scripts/collect_results.py runs/mini docs/results/small-letters --data small-letters

With ``--add`` the rows of other runs are kept, such as those of studies that ran on another machine.

- translations.csv: a row for each scored translation model: what it is, test BLEU and chrF of the best checkpoint, its
  training time in seconds.
- students.csv: a row for each image model whose training has ended, students and teachers: what it is, its last epoch,
  its gradient relative to T = 1.
- epochs.csv: validation top-1 of each epoch; translations_epochs.csv: validation BLEU, of those that have it.
- measures.csv: of each run with representations of the validation images: collapse, calibration, distances.
- eta.csv, translations_eta.csv: a row for each student at T > 1: η from the student at T = 1 of the same variant, α and
  seed, or of another variant that equals it there; the mean over the targets, and how many have the paper's sign.
- translations_paired.csv: a row for each such student of translation: its BLEU and chrF minus those at T = 1, and the p
  of a paired test over the test sentences.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from definitions import PLAIN, trained_as
from planned_tests import read_rows
from tqdm import tqdm

from lskd.commands.file_logits import FileLogits
from lskd.io.errors import input_error, run_command, shortened
from lskd.io.files import check_writable
from lskd.io.tables import write
from lskd.measure.class_distances import squared_distances
from lskd.measure.class_sets import ClassSets, read_sets
from lskd.measure.diffusion import diffusion_indices
from lskd.measure.model_measures import measure_outputs
from lskd.measure.neural_collapse import neural_collapse
from lskd.measure.representations import Representations, read_representations
from lskd.records.found_runs import Run, find_runs
from lskd.records.runs import training_time, unfinished

FILES = {
    "vision": "last.validation.representations.safetensors",
    "translation": "checkpoint_best.train.representations.safetensors",
}
EPOCH = ("valid_top1", "valid_top5", "valid_nll_loss", "valid_teacher_agreement", "valid_teacher_kl")
SCORES = ("bleu", "chrf")
TABLES = ("students.csv", "epochs.csv", "measures.csv", "eta.csv")
TABLES += ("translations.csv", "translations_eta.csv", "translations_epochs.csv", "translations_paired.csv")
TRANSLATIONS = "test.checkpoint_best"  # the beginning of the names of the files that `lskd nmt score` wrote
Key = tuple[str, str, str, float, int]  # data, variant, model, α, seed


def collect(place: Path, dest: Path, data: str | None = None, add: bool = False) -> None:
    """Write the tables of the runs below a directory.

    Args:
        place: the output of ``lskd reproduce``.
        dest: the directory of the tables.
        data: the only data set whose runs are taken; None for all.
        add: keep the rows of runs that are not below ``place``.

    Raises:
        InputError: no run, or none of the data set.
    """
    found = [run for run in find_runs([place]) if data is None or data_of(run) == data]
    if not found:
        known = ", ".join(sorted({data_of(run) for run in find_runs([place])}))
        raise input_error("--data", data, f"must be of {known}")
    check_writable("DEST", dest)
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}  # written when all are complete
    scored = [run for run in found if run.kind == "translation" and run.metrics]
    tables["translations.csv"] = [
        about(run) | {name: run.metrics.get(name) for name in SCORES} | {"seconds": seconds_of(run)} for run in scored
    ]
    tables["translations_eta.csv"] = etas(scored, place)
    tables["translations_paired.csv"] = paired(scored)
    images = finished([run for run in found if run.kind == "vision"])
    tables["students.csv"] = [about(run) | last_epoch(run) for run in images]
    tables["epochs.csv"] = by_epoch(images, "valid_top1", ".3f")
    tables["translations_epochs.csv"] = by_epoch(scored, "valid_bleu", ".2f")
    measured = tqdm([run for run in images if sets_of(run, place)], desc="measures", unit=" runs", disable=None)
    tables["measures.csv"] = [{"run": run.name} | measures_of(run, place) for run in measured]
    tables["eta.csv"] = etas(images, place)
    dest.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        runs = {row["run"] for row in tables[name]}
        kept = [row for row in read_rows(dest / name) if add and row["run"] not in runs]
        (dest / name).unlink(missing_ok=True)  # none stays that other runs have left
        if rows := [*kept, *tables[name]]:
            write(dest / name, sorted(rows, key=lambda row: row["run"]))  # stable: epochs stay in their order


def finished(runs: Sequence[Run]) -> list[Run]:
    """The image trainings that have completed all their epochs; a message names the others."""
    kept = [run for run in runs if run.record.history and not unfinished(run.record)]
    if left_out := [run.name for run in runs if run not in kept]:
        print(f"left out, as their training has not ended: {shortened(left_out, 5)}", file=sys.stderr)
    return kept


def by_epoch(runs: Sequence[Run], name: str, form: str) -> list[dict[str, Any]]:
    """A row for each epoch of each run that has a number of that name, written in a Python format."""
    return [
        {"run": run.name, "epoch": each["epoch"], name: format(each[name], form)}
        for run in runs
        for each in run.record.history
        if name in each
    ]


def etas(runs: Sequence[Run], place: Path) -> list[dict[str, Any]]:
    """A row for each student at T > 1 that has a counterpart at T = 1; both with representations."""
    pairs = with_counterparts([run for run in runs if sets_of(run, place)])
    rows, cache = [], dict[str, Representations]()
    for first, run in tqdm(pairs, desc="η", unit=" students", disable=None):
        if first.name not in cache:
            cache[first.name] = read_representations(file_of(first))
        second = read_representations(file_of(run))
        sets = read_sets(sets_of(run, place) or "", second.class_names)
        rows.append({"run": run.name, "from": first.name} | mean_eta(cache[first.name], second, sets))
    return rows


def with_counterparts(runs: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Pairs of the student at T = 1 and each at another T, with the same data, variant, model, α and seed.

    At T = 1 the variant is that of :func:`trained_as`, or its own if it has students there all the same.
    """
    students = [run for run in runs if run.temperature is not None]
    at_one = {key_of(run): run for run in students if run.temperature == 1}
    found = []
    for run in students:
        data, variant, model, alpha, seed = key_of(run)
        others = (variant, trained_as(variant, 1))
        first = next((at_one[key] for each in others if (key := (data, each, model, alpha, seed)) in at_one), None)
        if run.temperature != 1 and first is not None:
            found.append((first, run))
    return found


def paired(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each translation student that has a counterpart at T = 1; both with their translations."""
    translated = [run for run in runs if (run.directory / f"{TRANSLATIONS}.hypotheses.txt").is_file()]
    if not (pairs := with_counterparts(translated)):
        return []
    from lskd_fairseq.paired_randomisation import paired_randomisation  # needs fairseq, which images do not

    rows = []
    for first, run in tqdm(pairs, desc="paired tests", unit=" students", disable=None):
        ours, other = (lines_of(each, "hypotheses") for each in (run, first))
        row: dict[str, Any] = {"run": run.name, "from": first.name}
        for metric, found in paired_randomisation(ours, other, lines_of(run, "references")).items():
            row |= {f"{metric}_difference": f"{found.difference:.2f}", f"{metric}_p": f"{found.p_value:.5f}"}
        rows.append(row)
    return rows


def lines_of(run: Run, name: str) -> list[str]:
    """The hypotheses or references of a run's test sentences."""
    return (run.directory / f"{TRANSLATIONS}.{name}.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")


def file_of(run: Run) -> Path:
    """The representation file from which a run is measured."""
    return run.directory / FILES[run.kind]


def sets_of(run: Run, place: Path) -> Path | None:
    """The file of S1 and S2 of a run that has representations; None for others, and for images of other classes."""
    name = "sets.json" if run.kind == "vision" else f"sets.{data_of(run)}.json"
    path = place / "results" / name
    if not path.is_file() or not file_of(run).is_file():
        return None
    others = run.kind == "vision" and read_sets_of_names(path).keys() - set(run.record.data["classes"])
    return None if others else path


def read_sets_of_names(path: Path) -> dict[str, Any]:
    """The contents of a file of sets, by the name of the target."""
    return json.loads(path.read_text(encoding="utf-8"))["sets"]


def variant_of(run: Run) -> str:
    """The variant of a study, as named in the directory above.

    A run in ``letters.lr-x3`` is of ``lr-x3``, one in ``letters`` is plain; the names of the data sets are in ``data``.
    """
    return run.directory.parent.name.removeprefix(data_of(run)).lstrip(".") or PLAIN


def data_of(run: Run) -> str:
    """The name of a run's data set, with which the name of its study begins."""
    study = run.directory.parent
    known = [path.name for path in study.parent.glob("data/*") if f"{study.name}.".startswith(f"{path.name}.")]
    if not known:
        raise input_error("RUNS", run.directory, "must be an output of lskd reproduce")
    return max(known, key=len)


def key_of(run: Run) -> Key:
    """What students must share to be compared at different T."""
    return data_of(run), variant_of(run), run.model, alpha_of(run), run.record.seed


def alpha_of(run: Run) -> float:
    """The experiment's α, from the run's name: the teacher's, even if a student sees only its translations.

    The α in a translation model's record is larger by ε/V than the experiment's, which is fairseq's ε.
    """
    found = re.search(r"_a([\d.]+)_", run.directory.name)
    if found is None:
        raise input_error("RUNS", run.directory, "must be an output of lskd reproduce")
    return float(found[1])


def about(run: Run) -> dict[str, Any]:
    """The columns that say what a run is."""
    return {
        "run": run.name,
        "variant": variant_of(run),
        "model": run.model,
        "label_smoothing": alpha_of(run),
        "temperature": "" if run.temperature is None else f"{run.temperature:g}",
        "seed": run.record.seed,
        "teacher": str(run.teacher.get("fingerprint", ""))[:12],
    }


def last_epoch(run: Run) -> dict[str, Any]:
    """The results of a run: its last epoch, the first epoch's gradient relative to T = 1, its seconds."""
    history = run.record.history
    last, ratio = history[-1], history[0].get("train_kd_gradient_ratio")
    row = {name: "" if last.get(name) is None else f"{last[name]:.4f}" for name in EPOCH}
    ratio = "" if ratio is None else f"{ratio:.4f}"
    return {"epochs": len(history)} | row | {"first_gradient_ratio": ratio, "seconds": seconds_of(run)}


def seconds_of(run: Run) -> str:
    """The time of a run's training, its share if several students were trained together; empty if unknown."""
    time = training_time(run.record)
    return "" if time is None or time.own is None else f"{time.own:.1f}"


def measures_of(run: Run, place: Path) -> dict[str, str]:
    """Collapse, calibration, and the distance of targets to similar classes in units of that to the others."""
    model = read_representations(file_of(run))
    sets = read_sets(sets_of(run, place) or "", model.class_names)
    collapse, outputs = neural_collapse(model), measure_outputs(model, FileLogits(run.name, model), [1.0], 0)
    values = {"nc1": collapse.nc1, "nc1_ratio": collapse.nc1_ratio, "nc2_angles": collapse.nc2_angles}
    values |= {
        "nc3": collapse.nc3,
        "ece_percent": 100 * outputs.ece,
        "optimal_temperature": outputs.optimal_temperature,
    }
    values |= {"similar_distance": similar_distance(model, sets)}
    return {name: "" if value is None or not np.isfinite(value) else f"{value:.5g}" for name, value in values.items()}


def similar_distance(model: Representations, sets: Mapping[int, ClassSets]) -> float:
    """The mean over targets of the mean distance to S1 over the mean distance to S2, of centroids, unsquared."""
    ratios = []
    for target, each in sets.items():
        distances = np.sqrt(squared_distances(model.moments, [target])[0])
        with np.errstate(divide="ignore", invalid="ignore"):  # where all images have one representation
            ratios.append(distances[each.similar].mean() / distances[each.dissimilar].mean())
    return float(np.mean(ratios))


def mean_eta(first: Representations, second: Representations, sets: Mapping[int, ClassSets]) -> dict[str, Any]:
    """η(S1) and η(S2) in %, the mean over the targets, and how many have the sign that the paper reports.

    Empty where η is not defined, as of a student all of whose images have one representation.
    """
    indices = diffusion_indices(first, second, sets)  # which refuses files that do not match
    try:
        found = list(indices)
    except ValueError:
        return dict.fromkeys(("eta_similar_percent", "below_0", "eta_dissimilar_percent", "above_0", "targets"), "")
    similar, dissimilar = np.array([(each.eta_similar, each.eta_dissimilar) for each in found]).T
    return {
        "eta_similar_percent": f"{100 * similar.mean():.4f}",
        "below_0": int((similar < 0).sum()),
        "eta_dissimilar_percent": f"{100 * dissimilar.mean():.4f}",
        "above_0": int((dissimilar > 0).sum()),
        "targets": len(found),
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", type=Path, metavar="RUNS", help="the output of lskd reproduce")
    options.add_argument("dest", type=Path, metavar="DEST", help="the directory of the tables")
    options.add_argument("--data", metavar="NAME", help="only this data set's, as its directory is called")
    options.add_argument("--add", action="store_true", help="keep the rows of runs that are not in RUNS")
    return options


if __name__ == "__main__":
    run_command(parser(), lambda arguments: collect(arguments.runs, arguments.dest, arguments.data, arguments.add))
