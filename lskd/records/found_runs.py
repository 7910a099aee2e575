"""Find runs in and below directories, validate their records, and give access to what every command reads of a run."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from lskd.io.errors import input_error
from lskd.io.schema import Number, Text, convert
from lskd.records.inputs import RECORD, SUFFIX, find_inputs
from lskd.records.runs import (
    RunRecord,
    data_name,
    deciding_settings,
    is_translation,
    read_existing_run,
    teacher_smoothing,
)


class _Configuration(msgspec.Struct):
    model: Text | None = None
    host: dict[str, Any] | None = None
    temperature: Number | None = None
    label_smoothing: Number | None = None


class _Data(msgspec.Struct):
    path: Text | None = None
    dataset: Text | None = None
    fingerprint: Text | None = None
    classes: list[Any] | None = None


class _Smoothing(msgspec.Struct):
    alpha: Number | None = None


class _Teacher(msgspec.Struct):
    model: Text | None = None
    fingerprint: Text | None = None
    paths: list[Text] | None = None
    valid: dict[str, Any] | None = None
    label_smoothing: _Smoothing | None = None


class _Validation(msgspec.Struct):
    seconds: Number | None = None
    together: Number | None = None


class _Parts(msgspec.Struct):
    """The parts of a record on which a report relies, in addition to what :func:`lskd.records.runs.read_run` checks."""

    configuration: _Configuration
    data: _Data
    teacher: _Teacher | None
    history: list[_Validation]


# Titles of metrics, with the unit, by their keys in records.
TITLES = {"top1": "top-1 %", "top5": "top-5 %", "bleu": "BLEU", "tokenised_lowercased_bleu": "BLEU, tok. lower"}


@dataclass(frozen=True)
class Metric:
    """A metric of a run: its key in records and in the paper's tables, the latter empty if they do not have it."""

    key: str
    published: str

    @property
    def title(self) -> str:
        """The title, with the unit."""
        return TITLES[self.key]


METRICS = {
    "vision": (Metric("top1", "top1"), Metric("top5", "top5")),
    "translation": (Metric("bleu", "bleu"), Metric("tokenised_lowercased_bleu", "")),
}


@dataclass(frozen=True)
class Run:
    """A run directory and its record."""

    directory: Path
    record: RunRecord

    @property
    def name(self) -> str:
        """The last two parts of the directory's path: usually the data set and the run."""
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
        """timm's name of the model, or fairseq's architecture with its layers and width."""
        if name := self.record.configuration.get("model"):
            return name
        model = self.record.configuration.get("host", {}).get("model", {})
        if not isinstance(model, dict):
            return "model"
        layers = f"{model.get('encoder_layers', '?')}+{model.get('decoder_layers', '?')} layers"
        return f"{model.get('arch', 'model')}, {layers}, d = {model.get('decoder_embed_dim', '?')}"

    @property
    def teacher(self) -> dict[str, Any]:
        """The record's entry on the teacher; empty if the run has none."""
        return self.record.teacher or {}

    @property
    def temperature(self) -> float | None:
        """T of a student; None if the run has no teacher, or its distillation loss has no T."""
        if not self.record.teacher or self.learns_without_temperature:
            return None
        return self.record.configuration.get("temperature")

    @property
    def learns_without_temperature(self) -> bool:
        """Whether a student is trained on its teacher's features or predicted class, in place of its probabilities.

        The T in its record is the default, which has no effect.
        """
        host = self.record.configuration.get("host") or {}
        alone = host.get("kd_distill_type") == "feature" or host.get("kd_token_distill_type") == "hard"
        return bool(self.record.teacher) and alone

    @property
    def label_smoothing(self) -> float | None:
        """α of the student's teacher, or of the run itself if it has none, to three decimals; None if unknown."""
        known = teacher_smoothing({"teacher": self.record.teacher, "configuration": self.record.configuration})
        return None if known is None else round(known, 3)

    @property
    def own_smoothing(self) -> float | None:
        """α of the run's own hard labels."""
        return self.record.configuration.get("label_smoothing")

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics: of the last epoch on ``valid`` for images, the best checkpoint on ``test`` for translation."""
        split, checkpoint = ("valid", "last") if self.kind == "vision" else ("test", "best")
        found = self.record.metrics.get(split, {})
        names = sorted(found, key=lambda name: (checkpoint not in name, name))
        return found[names[0]] if names and (checkpoint in names[0] or self.kind == "translation") else {}

    def representations(self) -> list[Path]:
        """The representation files of one checkpoint, if possible of the one with the results in :attr:`metrics`."""
        first = "last." if self.kind == "vision" else "checkpoint_best."
        files = sorted(self.directory.glob(f"*{SUFFIX}"), key=lambda path: (not path.name.startswith(first), path.name))
        stem = files[0].name.removesuffix(SUFFIX).rpartition(".")[0] if files else ""
        return [path for path in files if path.name.removesuffix(SUFFIX).rpartition(".")[0] == stem]

    @cached_property
    def settings(self) -> dict[str, str]:
        """The settings that affect the result, other than data, teacher, T and seed, without those switched off."""
        own = self.record.configuration
        settings: dict[str, Any] = {"β": own.get("kd_weight"), "top-k of the teacher": own.get("teacher_topk")}
        settings["α of its own labels"] = self.own_smoothing if self.record.teacher else None
        # The loss wttm tempers only the teacher, at every T.
        if own.get("kd_loss_type") != "wttm" and own.get("student_temperature") not in (None, own.get("temperature")):
            settings["T of the student"] = own["student_temperature"]
        return deciding_settings(settings | own.get("host", {}))


def find_runs(places: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Find the runs in and below directories, in the order of their paths, each once; other files are skipped.

    Raises:
        InputError: no run was found, a record cannot be read, or there is no such directory.
    """
    valid = f"must be a directory: of a run, or above runs; it must hold {RECORD} files, which every training leaves"
    found = find_inputs("runs", places, valid)
    if not found.runs:
        raise input_error("runs", places[0], valid)
    runs = [Run(path, _validated(read_existing_run(path), path / RECORD)) for path in found.runs]
    return sorted(runs, key=lambda run: str(run.directory))


def left_out_note(count: int) -> str:
    """The note, for tables of temperatures, on students that have none; empty if there are no such students.

    >>> left_out_note(1)
    'Left out: 1 student that learns features, or the class alone, and has no T.'
    """
    who = "student that learns" if count == 1 else "students that learn"
    has = "has" if count == 1 else "have"
    return f"Left out: {count} {who} features, or the class alone, and {has} no T." if count else ""


def score_notes(scores: Iterable[dict[str, Any]]) -> list[str]:
    """Notes on translation scores, a sentence each: on which text they were computed, and whether they are comparable.

    >>> score_notes([{"bleu": 20.1, "of": "of detokenised text, against the raw references"}, {"top1": 80.0}])
    ['BLEU is of detokenised text, against the raw references.']
    """
    of = Counter(each.get("of") for each in scores if "bleu" in each)
    unknown = of.pop(None, 0)
    notes = [f"BLEU is {each}." for each in sorted(map(str, of))]
    if of and unknown:
        subject = f"The records of {unknown} runs do" if unknown > 1 else "The record of 1 run does"
        notes.append(f"{subject} not say of which text BLEU was computed.")
    return [*notes, "Scores of different texts do not compare."] if len(of) > 1 else notes


def _validated(record: RunRecord, path: Path) -> RunRecord:
    """Validate the parts of a record on which a report relies."""
    parts = convert(msgspec.structs.asdict(record), _Parts, str(path))
    if record.teacher and parts.configuration.temperature is None:
        raise input_error("run record", path, "configuration must have the temperature of a student")
    return record
