"""The representation files beside the runs of a page."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

from lskd.io.errors import InputError, input_error
from lskd.measure.class_sets import ClassSets, class_indices, read_sets
from lskd.measure.representations import Representations, read_representations
from lskd.records.found_runs import Run
from lskd.records.studies import Study

Given = TypeVar("Given")
Found = TypeVar("Found")


class RepresentationFiles:
    """The representation files of a study's runs, read when they are needed.

    Args:
        study: the study of the runs.

    Attributes:
        paths: the files by the run's directory, then by split.
        class_names: the class names, which all files share; empty without files.

    Raises:
        InputError: a file cannot be read, has other classes than the others, or is of another run.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.paths: dict[Path, dict[str, Path]] = {}
        self._read = lru_cache(maxsize=4)(read_representations)  # few, as moments of large vocabularies take memory
        self.class_names: list[str] = []
        for run in study.runs:
            for path in run.representations():
                each = self._checked(run, path)
                self.paths.setdefault(run.directory, {})[each.provenance.get("split", "unknown split")] = path

    def _checked(self, run: Run, path: Path) -> Representations:
        each = self._read(path)
        self.class_names = self.class_names or each.class_names
        if each.class_names != self.class_names:
            raise input_error("representations", path, "has other classes than other runs on these data")
        recorded = each.provenance.get("configuration", {}).get("temperature")
        if recorded is not None and recorded != run.record.configuration.get("temperature"):
            raise input_error("representations", path, f"is of T = {recorded:g}, which the run.json beside it is not")
        return each

    @property
    def splits(self) -> list[str]:
        """The splits of all files, training last, as validation matters most."""
        return sorted({split for paths in self.paths.values() for split in paths}, key=_train_last)

    def splits_of(self, run: Run) -> list[str]:
        """The splits of a run's files, training first."""
        return sorted(self.paths.get(run.directory, {}), key=_train_last, reverse=True)

    def read(self, run: Run, split: str) -> Representations:
        """Read a run's file of a split, which must exist."""
        return self._read(self.paths[run.directory][split])

    @cached_property
    def reference(self) -> tuple[Path, Representations] | None:
        """The file by which similar classes are chosen: the least smoothed teacher's, of the training split if any."""
        for alpha in self.study.smoothings:
            for run in self.study.teachers.get(alpha, []):
                if splits := self.paths.get(run.directory):
                    path = splits.get("train") or splits[min(splits)]
                    return path, self._read(path)
        return None

    def given_sets(self, path: str | os.PathLike[str]) -> dict[int, ClassSets]:
        """Read S1 and S2 from a file.

        Raises:
            InputError: the file is not valid, or has other classes.
        """
        return read_sets(path, self.class_names)

    def fitting_sets(
        self, paths: Sequence[str | os.PathLike[str]]
    ) -> tuple[str | os.PathLike[str], Mapping[int, ClassSets]] | None:
        """The first file whose sets are of these classes, with its sets; None if there is none."""
        for path in paths:
            if sets := fitting(self.given_sets, path):
                return path, sets
        return None

    def given_classes(self, names: Sequence[str]) -> list[str]:
        """The three classes of the projection, by their names in the files.

        Raises:
            InputError: there is no such class.
        """
        return [self.class_names[index] for index in class_indices(names, self.class_names, "--classes")]

    def command(self, teacher: bool = False) -> str:
        """The command that makes the files of a student, or of a teacher."""
        every = self.study.teachers if teacher and self.study.teachers else self.study.students
        run = next(iter(every.values()), [self.study.first])[0]
        if run.kind == "vision":
            checkpoint = f"{run.directory}/last.pth.tar --data-dir {run.record.data.get('path', 'DIR')}"
            return f"lskd vision representations {checkpoint} --split train validation"
        data = run.record.data.get("path", "DIR")
        checkpoint = f"{run.directory}/checkpoint_best.pt"
        return f"lskd nmt representations --data {data} --path {checkpoint} --split train valid"


def fitting(read: Callable[[Given], Found], given: Given) -> Found | None:
    """Return ``read(given)``; None if ``given`` does not fit the files' classes."""
    try:
        return read(given)
    except InputError:
        return None


def _train_last(split: str) -> tuple[bool, str]:
    return split == "train", split
