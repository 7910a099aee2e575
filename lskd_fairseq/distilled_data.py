"""Write a data directory whose training targets are a teacher's translations; all else is copied from the data."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq.data.indexed_dataset import make_builder
from fairseq.tasks.translation import TranslationTask

from lskd.io.files import building, sha256, write_json, write_text
from lskd.records.provenance import versions
from lskd_fairseq import text

SPLIT = "train"


@dataclass(frozen=True)
class RawText:
    """The training split as it was before preparation.

    Attributes:
        source: its lines, one per sentence.
        target: likewise.
        decode: from a translation's tokens to its line.
    """

    source: Sequence[str]
    target: Sequence[str]
    decode: text.Decode


def read_raw(data: Path, task: TranslationTask, plan: dict[str, Any]) -> RawText | None:
    """Read the text of the training split; None if the data do not have it.

    Raises:
        InputError: it is not UTF-8 or has a different number of sentences, or see :func:`decoder`.
    """
    count = len(task.dataset(SPLIT))
    languages = str(task.cfg.source_lang), str(task.cfg.target_lang)
    source, target = (text.raw_references(data, SPLIT, language, count) for language in languages)
    return None if source is None or target is None else RawText(source, target, decoder(data, task, plan))


def decoder(data: Path, task: TranslationTask, plan: dict[str, Any]) -> text.Detokeniser:
    """The function from target tokens to text.

    Raises:
        InputError: it follows neither from the options nor from the data.
    """
    dictionary, chosen = task.target_dictionary, (plan["remove_bpe"], plan["detokenize"])
    processing = text.chosen_postprocessing(data, dictionary, task.dataset(SPLIT), *chosen)
    return text.Detokeniser(dictionary, str(task.cfg.target_lang), processing)


def write_data(
    data: Path,
    dest: Path,
    task: TranslationTask,
    plan: dict[str, Any],
    translations: Iterable[Sequence[int]],
    raw: RawText | None,
) -> None:
    """Write the data directory beside ``dest`` and move it there.

    Args:
        data: the data directory that was translated.
        dest: the directory to make; it appears when it is complete.
        task: the teacher's, with the training split.
        plan: how it was translated, for the manifest.
        translations: the tokens of each sentence's translation, in the order of the split.
        raw: the text of the split, if there is any.
    """
    pair = f"{task.cfg.source_lang}-{task.cfg.target_lang}"
    rows = [torch.tensor(row, dtype=torch.int64) for row in translations]
    with building(dest) as beside:
        copy_others(data, beside, pair)
        counts = write_split(beside, pair, task, rows, plan["interpolate"])
        if raw is not None:
            write_raw(beside, pair, raw, rows, plan["interpolate"])
        manifest = text.manifest(data)
        files = sorted(path for path in beside.rglob("*") if path.is_file())
        manifest |= {"pair": pair, "distilled": plan | {"counts": counts}, "versions": versions()}
        manifest["counts"] = manifest.get("counts", {}) | {SPLIT: {"sentences": counts["pairs"]}}
        manifest["sha256"] = {str(path.relative_to(beside)): sha256(path) for path in files}
        write_json(beside / "manifest.json", manifest)


def copy_others(data: Path, beside: Path, pair: str) -> None:
    """Copy everything but the training split and the manifest.

    fairseq reads data of either direction, and tells the direction from the first file name. So the splits of a
    teacher of the reverse direction get its direction into their names, as the translated training split does. Word
    alignments of the other direction are left out, and splits that are there in both directions are copied once.
    """
    source, target = pair.split("-")
    reverse = f".{target}-{source}."
    for path in sorted(data.rglob("*")):
        place = path.relative_to(data)
        if not path.is_file() or path.name.startswith(SPLIT) or place == Path("manifest.json"):
            continue
        if reverse in place.name:
            place = place.with_name(place.name.replace(reverse, f".{pair}."))
            if ".align." in place.name or (data / place).exists():
                continue
        (beside / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, beside / place)


def write_split(
    beside: Path, pair: str, task: TranslationTask, translations: Sequence[torch.Tensor], interpolate: bool
) -> dict[str, int]:
    """Write the training split, binarised, and count its sentences."""
    dataset, languages = task.dataset(SPLIT), pair.split("-")
    targets, sources = dataset.tgt, dataset.src
    assert targets is not None
    dictionaries = {languages[0]: task.source_dictionary, languages[1]: task.target_dictionary}
    stems = {language: str(beside / f"{SPLIT}.{pair}.{language}") for language in languages}
    builders = {
        language: make_builder(f"{stem}.bin", impl="mmap", vocab_size=len(dictionaries[language]))
        for language, stem in stems.items()
    }
    pairs = [(sources[number], each) for number, each in enumerate(translations)]
    if interpolate:
        pairs += [(sources[number], targets[number]) for number in range(len(dataset))]
    for languages_of_pair in pairs:
        for language, sentence in zip(languages, languages_of_pair, strict=True):
            builders[language].add_item(sentence.int())
    for language, stem in stems.items():
        builders[language].finalize(f"{stem}.idx")
    same = sum(torch.equal(each.long(), targets[number].long()) for number, each in enumerate(translations))
    return {
        "pairs": len(pairs),
        "translated": len(translations),
        "equal_to_the_reference": same,
        "empty": sum(len(each) <= 1 for each in translations),
    }


def write_raw(beside: Path, pair: str, raw: RawText, translations: Sequence[torch.Tensor], interpolate: bool) -> None:
    """Write the text of the training split."""
    sources, targets = list(raw.source), [raw.decode(each) for each in translations]
    if interpolate:
        sources, targets = [*sources, *raw.source], [*targets, *raw.target]
    (beside / "raw").mkdir(exist_ok=True)
    for language, each in zip(pair.split("-"), (sources, targets), strict=True):
        write_text(beside / "raw" / f"{SPLIT}.{language}", "".join(f"{line}\n" for line in each))


def described(dest: Path) -> str:
    """Describe in one line what was made."""
    manifest = text.manifest(dest)
    made = manifest["distilled"]
    counts = made["counts"]
    line = f"{dest}: {counts['translated']} sentences translated {manifest['pair']} with beam {made['beam']}"
    line += f", {counts['equal_to_the_reference']} of them as the reference"
    line += f", {counts['empty']} empty" if counts["empty"] else ""
    return f"{line}; {counts['pairs']} pairs" + (", the references among them" if made["interpolate"] else "")
