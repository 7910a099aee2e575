"""Readers of what was measured, and of what says how to measure."""

import json
import shutil
from pathlib import Path

import small_runs

from fuzzing import ROOT
from fuzzing.reader import Reader, below, lskd, written
from lskd.errors import InputError
from lskd.representations import SUFFIX
from lskd.student_pairs import DIFFERENCES


def representations(place: Path) -> list[Path]:
    """Of a teacher and two students, and of a teacher whose features were not kept."""
    small_runs.add_representations(small_runs.image_run(place, 0.1), 0.1)
    small_runs.add_representations(small_runs.image_run(place, 0.0), 0.0, keep=0)
    for temperature in (1.0, 3.0):
        small_runs.add_representations(small_runs.image_run(place, 0.1, temperature), 0.1, temperature)
    origin = {"by": "distance", "from": "centroids", "fingerprint": "0f" * 32, "weights": None, "split": "train"}
    sets = {"Coat": {"similar": ["Pullover"], "dissimilar": ["Bag", "Trouser"]}}
    (place / "sets.json").write_text(json.dumps({"origin": origin, "sets": sets}))
    return below(place, f"*train{SUFFIX}")


def read_representations(place: Path, path: Path) -> None:
    """What every command makes of them."""
    others = [place / "data" / f"student_net_a0.1_T{T}_s1" / path.name for T in (1, 3)]
    other = next(other for other in others if other != path)
    lskd("entropy", path, "--temperatures", 1, 3)
    if "a0.0" in str(path):
        return
    lskd("accuracy", path, "--classes")
    first, second = sorted((path, other))  # students of T = 1 and 3, or one and the teacher
    for variant in ("centroid", "pairwise"):
        words = ["--sets", place / "sets.json", "--resamples", 5, "--variant", variant, "--allow", *DIFFERENCES]
        lskd("eta", "--first", first, "--second", second, *words)
    lskd("similar", path, "--by", "distance", "--output", place / "out" / "sets.json")
    lskd("match-temperature", other, path)
    lskd("advise", path)
    lskd("project", path, other, "--classes", "Coat", "Pullover", "Bag", "--table", place / "out" / "points.csv")


def records(place: Path) -> list[Path]:
    """Of teachers and students, of images and of translations."""
    for temperature in (None, 1.0, 3.0):
        small_runs.image_run(place / "runs", 0.1, temperature)
        small_runs.translation_run(place / "runs", temperature)
    return below(place, "run.json")


def read_records(place: Path, path: Path) -> None:
    """Summed up, compared with the paper, and on a page."""
    images = path.parent.parent.name == "data"
    if images:
        lskd("accuracy", path.parent)
    lskd("compare", "2B" if images else "5", path.parent.parent, "--output", place / "out" / "result.json")
    lskd("report", path.parent.parent, "--output", place / "out" / "page.html")


def pages(place: Path) -> list[Path]:
    """A page of experiments: results, a drawing and its numbers."""
    from test_experiments_page import DRAWING, SVG, TABLES, eta_figures, write

    from lskd.results import Result, write_result

    (place / "results").mkdir()
    write_result(place / "results" / "3.json", Result("3", "η", "mini", ["a note"], ["runs/3"], list(eta_figures())))
    (place / "results" / "1.svg").write_text(SVG)
    row = {"checkpoint": "a.pt", "model": "net", "temperature": 3.0, "samples": 90, "seed": None}
    (place / "results" / "1.json").write_text(json.dumps({"classes": ["a"], "rows": [row]}))
    return [write(place, [TABLES[2], DRAWING]), *below(place / "results", "*")]


def read_page(place: Path, path: Path) -> None:
    """Make the page."""
    lskd("report", "--contents", place / "contents.json", "--output", place / "out" / "page.html")


FIGURES = {"eta": "3", "entropy": "H.1", "accuracy": "I.1", "agreement": "G.1"}  # a table with figures of the command


def figures(place: Path) -> list[Path]:
    """What commands write with --output."""
    representations(place)
    first, second, teacher = (path for path in below(place, f"*train{SUFFIX}") if "a0.0" not in str(path))
    lskd("eta", "--first", first, "--second", second, "--sets", place / "sets.json", "--output", place / "eta.json")
    lskd("entropy", teacher, "--temperatures", 1, 3, "--output", place / "entropy.json")
    lskd("accuracy", first, "--classes", "--output", place / "accuracy.json")
    words = ["--by", "wordnet", "--targets", "n02099601", "--agree-with", "wordnet"]
    lskd("similar", *words, "--agreement", place / "agreement.json")
    return [place / f"{name}.json" for name in FIGURES]


def read_figures(place: Path, path: Path) -> None:
    """Compare them with a table of the paper."""
    lskd("compare", FIGURES[path.stem], path, "--output", place / "out" / "result.json")


def choices(place: Path) -> list[Path]:
    """Sets, groups and synsets of classes, and temperatures."""
    representations(place)
    rows = [{"reference_temperature": 1.0, "temperature": 1.5}]
    groups = {"tops": ["T-shirt/top", "Pullover", 3], "others": ["Bag"]}
    synsets = {"n02099601": "n02099712", "n02099712": "n02099601"}
    written(place, groups=groups, temperatures={"rows": rows}, synsets=synsets)
    return [place / f"{name}.json" for name in ("sets", "groups", "synsets", "temperatures")]


def read_choice(place: Path, path: Path) -> None:
    """Use it."""
    first, second, student = (path for path in below(place, f"*train{SUFFIX}") if "a0.0" not in str(path))
    if path.stem == "temperatures":
        lskd("entropy", student, "--temperatures", path)
    elif path.stem == "sets":
        lskd("eta", "--first", first, "--second", second, "--sets", path, "--resamples", 5)
    elif path.stem == "groups":
        lskd("similar", student, "--by", "groups", "--groups", path)
    else:
        lskd("similar", "--by", "wordnet", "--targets", "n02099601", "--synsets", path)


def wordnets(place: Path) -> list[Path]:
    """WordNet's files of a few nouns."""
    from test_similar_classes import small_wordnet

    return below(small_wordnet(place / "wordnet"), "*")


def read_wordnet(place: Path, path: Path) -> None:
    """Find classes in it."""
    from lskd.wordnet import find_hierarchy

    names = ["12.Gray_wolf", "great coach-dog", "Cat", "Buses", "laika"]
    find_hierarchy(names, {"Cat": "crane.n.02"}, path.parent).nearness(0)


def tensors(place: Path) -> list[Path]:
    """A batch on which a loss became no number."""
    import torch

    from lskd.nan_batch import NAME, keep_batch

    logits = torch.tensor([[1.0, float("nan")], [0.5, 2.0]])
    keep_batch(
        place, ["a.png", "b.png"], float("nan"), {"lr": 0.1}, {"student_logits": logits, "target": torch.tensor([0, 1])}
    )
    return [place / NAME]


def read_tensors(place: Path, path: Path) -> None:
    """As its module says."""
    from lskd.tensor_files import mapped_tensors, read_about

    read_about(path)
    for tensor in mapped_tensors(path).values():
        tensor.sum()


def settings(place: Path) -> list[Path]:
    """Experiments and a scale."""
    for directory, names in (("scales", ["mini"]), ("experiments", ["table-2A", "table-5", "figure-1"])):
        (place / directory).mkdir()
        for name in names:
            shutil.copy(ROOT / "scripts" / directory / f"{name}.yaml", place / directory)
    return below(place, "*.yaml")


def read_settings(place: Path, path: Path) -> None:
    """Read them; what a plan makes of them is as trusted as they are, since a scale names programs."""
    from definitions import read_experiments, read_scale

    read_scale(str(place / "scales" / "mini.yaml"))
    read_experiments(place / "experiments")


READERS = {
    "representations": Reader(representations, read_representations),
    "run-records": Reader(records, read_records),
    "experiments-page": Reader(pages, read_page),
    "command-figures": Reader(figures, read_figures),
    "class-choices": Reader(choices, read_choice),
    "wordnet": Reader(wordnets, read_wordnet),
    "nan-batch": Reader(tensors, read_tensors, (InputError, OSError, ValueError)),
    "experiments": Reader(settings, read_settings),
}
