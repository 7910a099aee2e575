"""Check, from their provenance, that the students between which η is measured differ only in temperature.

Any other difference between two students changes η as well. A major difference is an error unless the user allows it by
its key in :data:`DIFFERENCES`; minor ones, and files without provenance, become notes for the reader.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lskd.io.errors import InputError, input_error, shortened
from lskd.measure.representations import Representations
from lskd.records.runs import deciding_settings, look_up, read_run, teacher_smoothing

Files = Sequence[tuple[str, Representations]]

DIFFERENCES = {
    "temperature": "T that does not rise from first to second",
    "role": "a teacher against a student",
    "smoothing": "a different α",
    "model": "a different model",
    "loss": "a different β, student's T, α of own labels or top-k of the teacher",
    "counts": "different numbers of samples of a class, with --variant centroid",
    "sets": "S1 and S2 that were chosen from one of the students",
}
SHOWN = 4  # settings in a note


def check_students(first: Files, second: Files, allowed: Collection[str] = ()) -> list[str]:
    """Check, from their provenance, that students at T1 and at T2 differ only in T.

    Args:
        first: paths and representations of students at T1; with several seeds, in the order of ``second``.
        second: paths and representations of students at T2, the higher temperature.
        allowed: keys of :data:`DIFFERENCES`.

    Returns:
        Notes for the reader of η, a sentence each.

    Raises:
        InputError: classes or samples differ, students of one side differ from each other, or there is a major
            difference that is not allowed.
    """
    _check_samples(first, second)
    _check_features(first, second)
    for argument, files in (("--first", first), ("--second", second)):
        start, expected = files[0]
        for path, each in files[1:]:
            temperatures = {"temperature": ("temperature", _temperature(each), _temperature(expected))}
            for what, value, wanted in (temperatures | _differences(expected, each)).values():
                if value != wanted:
                    raise input_error(argument, path, f"has {what} {value}, must be {wanted} as {start}")
    _check_seeds(first, second)
    (start, one), (path, other) = first[0], second[0]
    wrong = [
        (word, f"has {what} {value}, must be {wanted} as {start}")
        for word, (what, value, wanted) in _differences(one, other).items()
    ]
    lower, higher = _temperature(one), _temperature(other)
    if lower is not None and higher is not None and lower >= higher:
        wrong.append(("temperature", f"is of T = {higher:g}, must be above T = {lower:g} of {start}"))
    if _role(one) == _role(other) == "teacher":
        wrong.append(("temperature", "neither it nor --first was distilled: must be students at two T"))
    warnings: list[str] = []
    for word, valid in wrong:
        warnings += refuse_unless_allowed(word, "--second", path, valid, allowed)
    for (start, one), (path, other) in zip(first, second, strict=True):
        if others := _minor_differences(start, one, path, other):
            named = shortened(others, SHOWN)
            warnings.append(f"{path} differs from {start} also in {named}, which affects η too.")
    if unknown := [path for path, each in (*first, *second) if _is_unknown(each)]:
        named = shortened(unknown, 1)
        warnings.append(f"T or α is not recorded in {named}: it was not checked that these differ in T alone.")
    return warnings


def identity(representations: Representations) -> dict[str, str | None]:
    """Identify the model and the samples of a representation file; files of sets store this as their origin."""
    digest = hashlib.sha256("\0".join(representations.class_names).encode())
    for array in (representations.moments.counts, representations.moments.centroids(), representations.weight):
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    provenance = representations.provenance
    weights = provenance.get("fingerprint")
    return {
        "file": representations.path,
        "fingerprint": digest.hexdigest(),
        "weights": weights if isinstance(weights, str) else None,
        "split": provenance.get("split"),
    }


def student_of_origin(origin: Mapping[str, str | None], students: Files) -> tuple[str, bool] | None:
    """The student in whose feature space S1 and S2 were chosen, and whether on other samples; None if in none of them.

    The classes nearest to a target in one student are so partly by chance, and less near in another student, so their η
    is biased even if nothing changed.

    Args:
        origin: from :func:`lskd.measure.class_sets.read_origin`, or what ``lskd similar`` would write.
        students: paths and representations of all students compared.
    """
    others = None
    for name, each in students:
        own = identity(each)
        same_model = own["weights"] is not None and own["weights"] == origin.get("weights")
        same_samples = origin.get("from") == "templates" or own["split"] == origin.get("split")
        if own["fingerprint"] == origin.get("fingerprint") or (same_model and same_samples):
            return name, False
        if same_model:
            others = name, True
    return others


def check_origin(
    origin: Mapping[str, str | None] | None,
    argument: str,
    path: object,
    students: Files,
    allowed: Collection[str] | None = None,
) -> list[str]:
    """Check that S1 and S2 were not chosen in a student under test, see :func:`student_of_origin`.

    Args:
        origin: how the sets were chosen; None if unknown.
        argument: the option that gave the sets.
        path: path of the sets, or of the model in which they were chosen.
        students: paths and representations of all students compared.
        allowed: as for :func:`check_students`; None for a command without ``--allow``.

    Returns:
        Notes for the reader, a sentence each.

    Raises:
        InputError: they were, and on the same samples.
    """
    if origin is None:
        return [f"{path} does not say what its classes were chosen by: must not be by distance in these students."]
    found = student_of_origin(origin, students)
    if found is None:
        return []
    name, other_samples = found
    if other_samples:
        return [f"S1 and S2 were chosen in a student under test, {name}, on other samples."]
    valid = f"S1 and S2 were chosen in {name}, a student under test; must be in the teacher or another split"
    return refuse_unless_allowed("sets", argument, path, valid, allowed)


def refuse_unless_allowed(
    word: str, argument: str, value: object, valid: str, allowed: Collection[str] | None
) -> list[str]:
    """Raise an InputError for a difference, or return a note if the user allowed it."""
    if allowed is None:
        raise input_error(argument, value, valid)
    if word not in allowed:
        raise input_error(argument, value, f"{valid}; --allow {word} accepts it")
    return [f"{argument}: {value} ({valid}), allowed."]


def _check_samples(first: Files, second: Files) -> None:
    """Raise InputError if classes, splits or data differ, or one model is on both sides."""
    path, expected = first[0]
    for argument, files in (("--first", first), ("--second", second)):
        for other_path, each in files:
            if each.class_names != expected.class_names:
                raise input_error(argument, other_path, f"must have the classes of {path}, in their order")
            for what, a, b in zip(("split", "data"), _samples(expected), _samples(each), strict=True):
                if None not in (a, b) and a != b:
                    raise input_error(argument, other_path, f"is of {what} {b}, must be of {a} as {path}")
    for (path, one), (other_path, other) in zip(first, second, strict=True):
        weights = one.provenance.get("fingerprint")
        if weights is not None and weights == other.provenance.get("fingerprint"):
            raise input_error("--second", other_path, f"has the weights of {path}, must be another student")


def _check_features(first: Files, second: Files) -> None:
    """Raise InputError if a student is given twice, even under different file names."""
    seen: dict[str | None, str] = {}
    for argument, files in (("--first", first), ("--second", second)):
        for path, each in files:
            own = identity(each)["fingerprint"]
            if own in seen:
                raise input_error(argument, path, f"holds the features of {seen[own]}, must be another student")
            seen[own] = path


def _check_seeds(first: Files, second: Files) -> None:
    """Raise InputError if both sides have the same seeds in a different order."""
    seeds = [[each.provenance.get("seed") for _, each in files] for files in (first, second)]
    if seeds[0] != seeds[1] and sorted(map(str, seeds[0])) == sorted(map(str, seeds[1])):
        raise input_error("--second", f"seeds {seeds[1]}", f"must be in the order of --first: {seeds[0]}")


def _samples(representations: Representations) -> tuple[Any, Any]:
    """The split and the data's fingerprint, None where unknown."""
    provenance = representations.provenance
    data = provenance.get("data")
    return provenance.get("split"), data.get("fingerprint") if isinstance(data, dict) else data


def _role(representations: Representations) -> str | None:
    """``student``, ``teacher``, or None if unknown."""
    if representations.provenance.get("teacher"):
        return "student"
    return "teacher" if "teacher" in representations.provenance else None


def _temperature(representations: Representations) -> float | None:
    """T of a student; None for a teacher, or if unknown."""
    provenance = representations.provenance
    return look_up(provenance, "configuration", "temperature") if provenance.get("teacher") else None


def _is_unknown(representations: Representations) -> bool:
    """Whether T or α is not recorded."""
    known = _role(representations) == "teacher" or _temperature(representations) is not None
    return not known or teacher_smoothing(representations.provenance) is None


def _differences(one: Representations, other: Representations) -> dict[str, tuple[str, object, object]]:
    """The major differences, by key of :data:`DIFFERENCES`: name, value of ``other``, value of ``one``."""
    facts = [list(_facts(each)) for each in (one, other)]
    found: dict[str, tuple[str, object, object]] = {}
    for (word, what, wanted), (_, _, value) in zip(*facts, strict=True):
        if None not in (wanted, value) and wanted != value:
            found.setdefault(word, (what, value, wanted))
    return found


def _facts(representations: Representations) -> Iterator[tuple[str, str, object]]:
    """Yield the recorded properties that must be equal: key of :data:`DIFFERENCES`, name, value."""
    provenance = representations.provenance
    configuration = provenance.get("configuration") or {}
    smoothing = teacher_smoothing(provenance)
    yield "role", "the role of a", _role(representations)
    yield "model", "model", provenance.get("model")
    yield "smoothing", "label smoothing", None if smoothing is None else round(smoothing, 6)
    distilled = bool(provenance.get("teacher"))
    own = configuration.get("student_temperature")
    own = "the teacher's" if own == configuration.get("temperature") else own
    yield "loss", "the student's temperature", own if distilled else None
    for name in ("kd_weight", "label_smoothing", "teacher_topk"):
        yield "loss", name, configuration.get(name) if distilled else None
    for name, paper in (("kd_loss_type", "kl"), ("kd_gradient_scale", "t2"), ("temperature_schedule", "constant")):
        yield "loss", name, configuration.get(name, paper) if distilled else None  # missing in older records
    yield "loss", "nckd_weight", configuration.get("nckd_weight") if distilled else None


def _minor_differences(start: str, one: Representations, path: str, other: Representations) -> list[str]:
    """The names of the minor differences, which are only noted."""
    facts = [_minor_facts(each) for each in (one, other)]
    found = [name for name in facts[0] if None not in (both := [known[name] for known in facts]) and both[0] != both[1]]
    own, others = _settings(start, one), _settings(path, other)
    if own is not None and others is not None:  # settings that are switched off are missing
        found += [name for name in sorted(own.keys() | others.keys()) if own.get(name) != others.get(name)]
    return found


def _minor_facts(representations: Representations) -> dict[str, object]:
    """The recorded properties whose differences are only noted, by name."""
    provenance = representations.provenance
    return {
        "seed": provenance.get("seed"),
        "the teacher's weights": look_up(provenance, "teacher", "fingerprint"),
        "moving average": provenance.get("moving_average"),
        "checkpoint": Path(provenance["checkpoint"]).name if provenance.get("checkpoint") else None,
    }


def _settings(path: str, representations: Representations) -> dict[str, str] | None:
    """The training settings from the ``run.json`` beside the file; None if there is none, or it is of another run."""
    try:
        record = read_run(Path(path).parent)
    except (InputError, OSError):
        return None
    own = {"seed": representations.provenance.get("seed"), "temperature": _temperature(representations)}
    if record is None or own != {"seed": record.seed, "temperature": record.configuration.get("temperature")}:
        return None
    return deciding_settings(record.configuration.get("host") or {})
