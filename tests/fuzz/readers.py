"""Our readers of files that users bring: whole files for each, and the commands that read them."""

import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers import small_runs
from helpers.commands import ROOT

from lskd.commands import main as cli
from lskd.measure.student_pairs import DIFFERENCES
from lskd.records.inputs import SUFFIX


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
        make: write whole files into a directory and return those that are to be damaged.
        read: read one of them; also gets the directory, and may write below ``out`` there.
    """

    make: Callable[[Path], Sequence[Path]]
    read: Callable[[Path, Path], object]


def lskd(*words: object) -> None:
    """Run ``lskd`` in this process."""
    arguments = cli.parser().parse_args(list(map(str, words)))
    arguments.run(arguments)


def command(module: str, *words: object) -> None:
    """Run the command of another module in this process."""
    found = importlib.import_module(module)
    found.main(found.parser().parse_args(list(map(str, words))))


def representation_files(place: Path) -> list[Path]:
    """A teacher, and two students of it."""
    small_runs.add_representations(small_runs.image_run(place, 0.1), 0.1)
    for temperature in (1.0, 3.0):
        small_runs.add_representations(small_runs.image_run(place, 0.1, temperature), 0.1, temperature)
    origin = {"by": "distance", "from": "centroids", "fingerprint": "0f" * 32, "weights": None, "split": "train"}
    sets = {"Coat": {"similar": ["Pullover"], "dissimilar": ["Bag", "Trouser"]}}
    (place / "sets.json").write_text(json.dumps({"origin": origin, "sets": sets}))
    return sorted(place.rglob(f"*train{SUFFIX}"))


def read_representation_file(place: Path, path: Path) -> None:
    """Every command that takes one."""
    *students, teacher = sorted(place.rglob(f"*train{SUFFIX}"))
    other = next(each for each in students if each != path)
    lskd("entropy", path, "--temperatures", 1, 3)
    lskd("accuracy", path, "--classes")
    first, second = sorted((path, other))  # students of T = 1 and 3, or one and the teacher
    words = ["--sets", place / "sets.json", "--resamples", 20, "--allow", *DIFFERENCES]
    lskd("eta", "--first", first, "--second", second, *words)
    lskd("similar", path, "--by", "distance", "--output", place / "out" / "sets.json")
    lskd("match-temperature", teacher, path)
    lskd("measure", path, other, "--teacher", teacher, "--resamples", 0)
    lskd("advise", path)
    lskd("project", path, other, "--classes", "Coat", "Pullover", "Bag", "--table", place / "out" / "points.csv")


def run_records(place: Path) -> list[Path]:
    """Teachers and students, of images and of translations."""
    for temperature in (None, 1.0, 3.0):
        small_runs.image_run(place / "runs", 0.1, temperature)
        small_runs.translation_run(place / "runs", temperature)
    return sorted(place.rglob("run.json"))


def read_run_record(place: Path, path: Path) -> None:
    """Sum them up, compare them with the paper, show them on a page."""
    images = path.parent.parent.name == "data"
    if images:
        lskd("accuracy", path.parent)
    lskd("compare", "2B" if images else "5", path.parent.parent, "--output", place / "out" / "result.json")
    lskd("report", path.parent.parent, "--output", place / "out" / "page.html")


OUTPUTS = {"eta": "3", "entropy": "H.1", "accuracy": "I.1", "agreement": "G.1"}  # a table that shows what it measured


def command_outputs(place: Path) -> list[Path]:
    """What commands write with --output."""
    first, second, teacher = representation_files(place)
    lskd("eta", "--first", first, "--second", second, "--sets", place / "sets.json", "--output", place / "eta.json")
    lskd("entropy", teacher, "--temperatures", 1, 3, "--output", place / "entropy.json")
    lskd("accuracy", first, "--classes", "--output", place / "accuracy.json")
    words = ["--by", "wordnet", "--targets", "n02099601", "--agree-with", "wordnet"]
    lskd("similar", *words, "--agreement", place / "agreement.json")
    return [place / f"{name}.json" for name in OUTPUTS]


def read_command_output(place: Path, path: Path) -> None:
    """Compare it with a table of the paper."""
    lskd("compare", OUTPUTS[path.stem], path, "--output", place / "out" / "result.json")


def choices(place: Path) -> list[Path]:
    """Sets, groups and synsets of classes, and temperatures."""
    representation_files(place)
    groups = {"tops": ["T-shirt/top", "Pullover", 3], "others": ["Bag"]}
    synsets = {"n02099601": "n02099712", "n02099712": "n02099601"}
    temperatures = {"rows": [{"reference_temperature": 1.0, "temperature": 1.5}]}
    for name, content in (("groups", groups), ("synsets", synsets), ("temperatures", temperatures)):
        (place / f"{name}.json").write_text(json.dumps(content))
    return [place / f"{name}.json" for name in ("sets", "groups", "synsets", "temperatures")]


def read_choice(place: Path, path: Path) -> None:
    """Use it."""
    first, second, teacher = sorted(place.rglob(f"*train{SUFFIX}"))
    commands = {
        "temperatures": ("entropy", teacher, "--temperatures", path),
        "sets": ("eta", "--first", first, "--second", second, "--sets", path, "--resamples", 20),
        "groups": ("similar", teacher, "--by", "groups", "--groups", path),
        "synsets": ("similar", "--by", "wordnet", "--targets", "n02099601", "--synsets", path),
    }
    lskd(*commands[path.stem])


def definitions(place: Path) -> list[Path]:
    """Experiments and a scale."""
    for directory, names in (("scales", ["mini"]), ("experiments", ["table-2A", "table-5", "figure-1", "study-step"])):
        (place / directory).mkdir()
        for name in names:
            shutil.copy(ROOT / "scripts" / directory / f"{name}.yaml", place / directory)
    return sorted(place.rglob("*.yaml"))


def read_definition(place: Path, path: Path) -> None:
    """Read them; what a plan makes of them is as trusted as they are, since a scale names programs."""
    from definitions import read_experiments
    from scale_definitions import read_scale

    read_scale(str(place / "scales" / "mini.yaml"))
    read_experiments(place / "experiments")


def training_options(place: Path) -> list[Path]:
    """A --config file of image training."""
    text = "model: [resnet18, resnet34]\nkd_temperature: 1\nkd-model-name: resnet50\namp: true\nlr: 0.1\nmean: [0.5]\n"
    (place / "options.yaml").write_text(text + "model_kwargs: {drop_rate: 0.1}\ninput_size: [3, 32, 32]\naa: null\n")
    return [place / "options.yaml"]


def read_training_options(place: Path, path: Path) -> None:
    """Parse the options."""
    from lskd_vision.options import parser

    parser().parse_args(["--data-dir", str(place), "--config", str(path)])


def image_checkpoints(place: Path) -> list[Path]:
    """A safetensors checkpoint of this project, its metadata JSON, and images of its classes."""
    import timm
    import torch
    from helpers.image_folders import write_folders
    from safetensors.torch import save_file

    write_folders(place / "images", train=1, validation=1)
    torch.manual_seed(0)
    data = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    args = {"model": "test_resnet", "dataset": "", "input_size": [3, 32, 32], "crop_pct": 1.0, "model_kwargs": {}}
    args |= {"interpolation": "bicubic", "val_split": "validation", "class_map": "", "img_size": None, "in_chans": None}
    made = {"label_smoothing": 0.1, "kd_weight": 0.0, "temperature": None, "host": {"data_config": data}}
    about = {"arch": "test_resnet", "args": json.dumps(args), "epoch": "3"}
    about["lskd"] = json.dumps({"configuration": made, "data": {"classes": ["Bag", "Dress", "Sneaker"]}})
    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), place / "ours.safetensors", about)
    return [place / "ours.safetensors"]


def read_image_checkpoint(place: Path, path: Path) -> None:
    """Score it."""
    command("lskd_vision.validate", path, "--data-dir", place / "images", "--workers", 0, "--device", "cpu")


def image_arrays(place: Path) -> list[Path]:
    """Images and labels of a split, and the names of their classes."""
    import numpy as np

    (place / "train").mkdir()
    np.save(place / "train" / "images.npy", np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8))
    np.save(place / "train" / "labels.npy", np.array([0, 1, 1]))
    (place / "classes.txt").write_text("a\nb\n")
    return [place / "train" / "images.npy", place / "train" / "labels.npy", place / "classes.txt"]


def read_image_arrays(place: Path, _: Path) -> None:
    """Read every image."""
    from lskd_vision.image_arrays import ImageArrays

    split = ImageArrays(place / "train")
    for number in range(len(split)):
        split[number]


def caches(place: Path) -> list[Path]:
    """Manifests of cached translation teachers of both formats."""
    from helpers import small_nmt
    from helpers.commands import prepare

    prepare(place / "data", "--pair en-de --vocab-size 300 --max-words 6 --max-pairs 60")
    task = small_nmt.make_task(place / "data")
    small_nmt.save_checkpoint(place / "good.pt", small_nmt.make_model(task), task)
    for kind, more in (("features", ""), ("topk", " --topk 5 --temperatures 1 2")):
        small_nmt.make_cache(place / kind, place / "data", place / "good.pt", f"--format {kind}{more} --split valid")
    return sorted(place.rglob("cache.json"))


def read_cache(place: Path, path: Path) -> None:
    """Give a student its targets."""
    import torch
    from helpers import small_nmt

    from lskd_fairseq.cache.cached_teacher import CachedTeacher
    from lskd_fairseq.teacher_checks import PairedData

    task = small_nmt.make_task(place / "data")
    teacher = CachedTeacher([str(path.parent)], PairedData.of(task), 1.0, 0)
    teacher.check_training([str(place / "data")], ["valid"], [])
    batch = small_nmt.batch_of(task, [0, 1])
    teacher.logits(batch, batch["target"].ne(task.target_dictionary.pad()), torch.zeros(1))


READERS = {
    "representations": Reader(representation_files, read_representation_file),
    "run-records": Reader(run_records, read_run_record),
    "command-outputs": Reader(command_outputs, read_command_output),
    "class-choices": Reader(choices, read_choice),
    "definitions": Reader(definitions, read_definition),
    "training-options": Reader(training_options, read_training_options),
    "image-checkpoint": Reader(image_checkpoints, read_image_checkpoint),
    "image-arrays": Reader(image_arrays, read_image_arrays),
    "teacher-cache": Reader(caches, read_cache),
}
