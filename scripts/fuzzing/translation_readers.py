"""Readers of what translation models are made from."""

import argparse
import json
from pathlib import Path

from fuzzing.reader import Reader, below, command
from lskd.representations import SUFFIX

PAIRS = (
    ("a small dog", "ein kleiner Hund"),
    ("the dog sees the cat", "der Hund sieht die Katze"),
    ("a cat", "eine Katze"),
)


def translations(place: Path) -> list[Path]:
    """What fairseq-preprocess makes, with raw sentences and a manifest."""
    from fairseq import options
    from fairseq_cli import preprocess

    (place / "data" / "raw").mkdir(parents=True)
    for side, language in enumerate(("en", "de")):
        text = "".join(pair[side] + "\n" for pair in PAIRS)
        (place / "data" / "raw" / f"valid.{language}").write_text(text)
        (place / f"text.{language}").write_text(
            "".join("▁" + line.replace(" ", " ▁") + "\n" for line in text.splitlines())
        )
    words = ["--source-lang", "en", "--target-lang", "de", "--joined-dictionary", "--destdir", str(place / "data")]
    for split in ("train", "valid"):
        words += [f"--{split}pref", str(place / "text")]
    preprocess.main(options.get_preprocessing_parser().parse_args(words))
    (place / "data" / "preprocess.log").unlink()
    (place / "data" / "manifest.json").write_text('{"pair": "en-de", "parameters": {"tokenisation": "sentencepiece"}}')
    files = [*below(place / "data", "dict.*"), *below(place / "data", "valid.*"), place / "data" / "manifest.json"]
    import small_nmt

    task = small_nmt.make_task(place / "data")
    small_nmt.save_checkpoint(place / "good.pt", small_nmt.make_model(task), task)
    return files


def read_translations(place: Path, path: Path) -> None:
    """Record what a good model makes of them, and find the references."""
    from lskd_fairseq import score, text

    record_representations(place, place / "good.pt")
    _, task = score.load(str(place / "good.pt"), str(place / "data"))
    score.load_split(task, str(place / "data"), "valid")
    dataset = task.dataset("valid")
    processing = text.chosen_postprocessing(place / "data", task.target_dictionary, dataset)
    text.decoded_references(dataset, text.Detokeniser(task.target_dictionary, "de", processing))
    text.raw_references(place / "data", "valid", "de", len(dataset))


def record_representations(place: Path, checkpoint: Path) -> None:
    """Run ``lskd_fairseq.representations``."""
    words = ["--data", place / "data", "--path", checkpoint, "--cpu", "--output", place / "out" / f"new{SUFFIX}"]
    command("lskd_fairseq.representations", *words)


def translation_checkpoints(place: Path, old: bool = False) -> list[Path]:
    """Of a small Transformer."""
    import torch

    translations(place)
    if old:
        state = torch.load(place / "good.pt", weights_only=True)
        torch.save(state, place / "old.pth", _use_new_zipfile_serialization=False)
        return [place / "old.pth"]
    return [place / "good.pt"]


def read_translation_checkpoint(place: Path, path: Path) -> None:
    """As a teacher, then to record what it makes of sentences, and to export."""
    import small_nmt

    from lskd_fairseq.teacher import Teacher

    Teacher([str(path)], small_nmt.make_task(place / "data"))
    record_representations(place, path)
    command("lskd_fairseq.export", path, place / "out" / "exported.pt")


def caches(place: Path) -> list[Path]:
    """Cached teachers of both formats."""
    import small_nmt

    translations(place)
    for kind, more in (("features", ""), ("topk", " --topk 5 --temperatures 1 2")):
        small_nmt.make_cache(place / kind, place / "data", place / "good.pt", f"--format {kind}{more} --split valid")
    return [
        *below(place, "cache.json"),
        *below(place / "features", "*.safetensors"),
        *below(place / "topk", "*.safetensors"),
    ]


def read_cache(place: Path, path: Path) -> None:
    """Give a student its targets; sizes and checksums are made to fit."""
    import small_nmt
    import torch

    from lskd.files import sha256
    from lskd_fairseq.teacher_cache import CachedTeacher
    from lskd_fairseq.teacher_checks import PairedData

    if path.name != "cache.json":
        manifest = json.loads((path.parent / "cache.json").read_text())
        for file in manifest["files"]:
            there = path.parent / file["name"]
            file |= {"bytes": there.stat().st_size, "sha256": sha256(there)}
        (path.parent / "cache.json").write_text(json.dumps(manifest))
    task = small_nmt.make_task(place / "data")
    teacher = CachedTeacher([str(path.parent)], PairedData.of(task), 1.0, 0)
    teacher.check_training([str(place / "data")], ["valid"], [])
    batch = small_nmt.batch_of(task, [0, 1, 2])
    teacher.logits(batch, batch["target"].ne(task.target_dictionary.pad()), torch.zeros(1))


def scores(place: Path) -> list[Path]:
    """What is remembered beside a teacher."""
    translations(place)
    from lskd_fairseq.records import data_fingerprint

    (place / "good.pt.valid.json").write_text(
        json.dumps({f"teacher {data_fingerprint([str(place / 'data')])}": {"bleu": 3.5}})
    )
    return [place / "good.pt.valid.json"]


def read_scores(place: Path, path: Path) -> None:
    """What a training does with it, of a teacher that has no model to be scored anew."""
    import small_nmt

    task = small_nmt.make_task(place / "data")
    task.teacher = argparse.Namespace(paths=[str(place / "good.pt")], models=[], fingerprint="teacher")
    task._score_teacher(None)


READERS = {
    "translation-checkpoint": Reader(translation_checkpoints, read_translation_checkpoint),
    "translation-checkpoint-old": Reader(
        lambda place: translation_checkpoints(place, old=True), read_translation_checkpoint
    ),
    "translations": Reader(translations, read_translations),
    "cached-teacher": Reader(caches, read_cache),
    "teacher-scores": Reader(scores, read_scores),
}
