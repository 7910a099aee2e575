"""The runs of a report: found, their records checked, and what a record says in a report's words."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from lskd.io.errors import input_error
from lskd.io.schema import Number, Text, convert
from lskd.records.inputs import RECORD, SUFFIX, find_inputs
from lskd.records.runs import (
    RunRecord,
    data_name,
    deciding_settings,
    is_translation,
    read_run,
    teacher_smoothing,
)


class _Configuration(msgspec.Struct):
    model: Text | None = None
    host: dict | None = None
    temperature: Number | None = None
    label_smoothing: Number | None = None


class _Data(msgspec.Struct):
    path: Text | None = None
    dataset: Text | None = None
    fingerprint: Text | None = None
    classes: list | None = None


class _Smoothing(msgspec.Struct):
    alpha: Number | None = None


class _Teacher(msgspec.Struct):
    model: Text | None = None
    fingerprint: Text | None = None
    paths: list[Text] | None = None
    valid: dict | None = None
    label_smoothing: _Smoothing | Number | None = None


class _Validation(msgspec.Struct):
    seconds: Number | None = None
    together: Number | None = None


class _Parts(msgspec.Struct):
    """What a report relies on in a record, beside what :func:`lskd.records.runs.read_run` has checked."""

    configuration: _Configuration
    data: _Data
    teacher: _Teacher | None
    history: list[_Validation]


@dataclass(frozen=True)
class Metric:
    """A figure of a run: its name in records and in the paper's tables, and its title with the unit."""

    key: str
    title: str
    published: str


METRICS = {
    "vision": (Metric("top1", "top-1 %", "top1"), Metric("top5", "top-5 %", "top5")),
    "translation": (Metric("bleu", "BLEU", "bleu"), Metric("tokenised_lowercased_bleu", "BLEU, tok. lower", "")),
}


@dataclass(frozen=True)
class Run:
    """A run directory and its record."""

    directory: Path
    record: RunRecord

    @property
    def name(self) -> str:
        """The directory's, below its data set's."""
        return "/".join(self.directory.parts[-2:])

    @property
    def kind(self) -> str:
        """``translation`` or ``vision``."""
        return "translation" if is_translation(self.record) else "vision"

    @property
    def data(self) -> str:
        """The data set's name."""
        return data_name(self.record.data) or "data"

    @property
    def model(self) -> str:
        """timm's name, or fairseq's architecture with its layers and width."""
        if name := self.record.configuration.get("model"):
            return name
        model = self.record.configuration.get("host", {}).get("model", {})
        if not isinstance(model, dict):
            return "model"
        layers = f"{model.get('encoder_layers', '?')}+{model.get('decoder_layers', '?')} layers"
        return f"{model.get('arch', 'model')}, {layers}, d = {model.get('decoder_embed_dim', '?')}"

    @property
    def temperature(self) -> float | None:
        """T, of a student."""
        return self.record.configuration.get("temperature") if self.record.teacher else None

    @property
    def label_smoothing(self) -> float | None:
        """α of the teacher: a student's, or its own where the run has none; to three decimals, None if unknown."""
        known = teacher_smoothing({"teacher": self.record.teacher, "configuration": self.record.configuration})
        return None if known is None else round(known, 3)

    @property
    def own_smoothing(self) -> float | None:
        """α of its own hard labels."""
        return self.record.configuration.get("label_smoothing")

    @property
    def figures(self) -> dict:
        """Of images: the last epoch's, validation split. Of translations: the best checkpoint's, test split."""
        split, checkpoint = ("valid", "last") if self.kind == "vision" else ("test", "best")
        found = self.record.figures.get(split, {})
        names = sorted(found, key=lambda name: (checkpoint not in name, name))
        return found[names[0]] if names and (checkpoint in names[0] or self.kind == "translation") else {}

    def representations(self) -> list[Path]:
        """Representation files beside the checkpoints, those of the checkpoint that :attr:`figures` is of first."""
        first = "last." if self.kind == "vision" else "checkpoint_best."
        files = sorted(self.directory.glob(f"*{SUFFIX}"), key=lambda path: (not path.name.startswith(first), path.name))
        stem = files[0].name.removesuffix(SUFFIX).rpartition(".")[0] if files else ""
        return [path for path in files if path.name.removesuffix(SUFFIX).rpartition(".")[0] == stem]

    @cached_property
    def settings(self) -> dict[str, str]:
        """What decides about the result beside data, teacher, T and seed; what is off or by default is left out."""
        own = self.record.configuration
        settings = {"β": own.get("kd_weight"), "top-k of the teacher": own.get("teacher_topk")}
        settings["α of its own labels"] = self.own_smoothing if self.record.teacher else None
        if own.get("student_temperature") not in (None, own.get("temperature")):
            settings["T of the student"] = own["student_temperature"]
        return deciding_settings(settings | own.get("host", {}))


def find_runs(places: Sequence[str | os.PathLike]) -> list[Run]:
    """The runs in directories and below them, in the order of their paths, each once; what else there is, is skipped.

    Raises:
        InputError: no run there, a record that cannot be read, or no such directory.
    """
    valid = f"must be a directory: of a run, or above runs; it must hold {RECORD} files, which every training leaves"
    found = find_inputs("runs", places, valid)
    if not found.runs:
        raise input_error("runs", places[0], valid)
    runs = [Run(path, _checked(read_run(path), path / RECORD)) for path in found.runs]
    return sorted(runs, key=lambda run: str(run.directory))


def score_notes(scores: Iterable[dict]) -> list[str]:
    """What the scores of translations are of, a sentence each: of which text, and whether they compare.

    >>> score_notes([{"bleu": 20.1, "of": "of detokenised text, against the raw references"}, {"top1": 80.0}])
    ['BLEU is of detokenised text, against the raw references.']
    """
    of = Counter(each.get("of") for each in scores if "bleu" in each)
    untold = of.pop(None, 0)
    notes = [f"BLEU is {each}." for each in sorted(map(str, of))]
    if of and untold:
        notes.append(f"Of which text the BLEU of {untold} run{'s' * (untold > 1)} is, their records do not say.")
    return [*notes, "Scores of different texts do not compare."] if len(of) > 1 else notes


def _checked(record: RunRecord, path: Path) -> RunRecord:
    """A record that a report can rely on."""
    parts = convert(vars(record), _Parts, str(path))
    if record.teacher and parts.configuration.temperature is None:
        raise input_error("run record", path, "configuration must have the temperature of a student")
    return record
