"""The conclusion of ``lskd advise``: at which T to distil, by the user's own runs if conclusive, else the teacher."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lskd.commands.effect_tables import distinguished, smoothing_words
from lskd.records.studies import TIE

START = {
    True: "Start at T = 1, the paper's rule for a smoothed teacher, and compare T = 2 and 3 with it.",
    False: "Compare T = 1, 2, 3 and 4 on validation data: without label smoothing there is no rule.",
    None: "Start at T = 1 and compare T = 2, 3 and 4 with it on validation data: nothing shows whether this teacher "
    "was smoothed. If it was, T = 1 is the paper's rule.",
}
# The temperatures in these sentences: where to start, and what to compare.
TEMPERATURES: dict[bool | None, tuple[float | None, list[float]]] = {
    True: (1.0, [2.0, 3.0]),
    False: (None, [1.0, 2.0, 3.0, 4.0]),
    None: (1.0, [2.0, 3.0, 4.0]),
}
OF_STEPS = (
    "With an optimiser that does not normalise its steps, such as SGD, training begins slowly at {temperatures}: its "
    "gradients are below {share:.0f} % of those at T = 1. There, compare temperatures with --kd-gradient-scale match, "
    "an optimiser such as AdamW, or a larger learning rate."
)
VERDICTS = {
    "more": "what T = {T:g} costs goes away with {control}, and T = {T:g} is then better than T = 1: it is the size of "
    "the steps that costs, not what T teaches.",
    "all": "what T = {T:g} costs goes away with {control}: as far as your runs show, it is the size of the steps.",
    "part": "part of what T = {T:g} costs goes away with {control}, and part remains.",
    "none": "T = {T:g} is not shown to be better with {control} than without: your runs do not show that it is the "
    "size of the steps that costs.",
    "no cost": "T = {T:g} costs nothing beyond chance without {control}.",
}
OF_STUDIES = (
    "In this project's own studies of {kind} (α = {alpha:g}, {training}, {students}) {costs}, in {points}. {verdict}"
)
VERDICTS_OF_STUDIES = {
    "all": "There it was the size of the steps that cost, not T.",
    "some": "So it depends on the student whether it is the size of the steps that costs: compare match on yours.",
    "none": "There match removed little or nothing of it.",
}


def conclusion(advice: dict[str, Any]) -> dict[str, Any]:
    """The conclusion from the other parts, for ``--json``.

    Returns:
        ``temperature``: at which to distil, or to start, None if there is no rule; ``compare``: others to compare on
        validation data; ``decided_by``: "runs" if the user's own runs are conclusive, else "teacher"; ``text``.
    """
    best = _deciding(advice)
    if best is None:
        temperature, compare = TEMPERATURES[advice["smoothing"]["smoothed"]]
    else:
        found = best["difference"]
        temperature, compare = (found["higher"] if found["more_than_chance"] else 1.0), []
    text = " ".join(_conclusion(advice, best))
    decided_by = "teacher" if best is None else "runs"
    return {"temperature": temperature, "compare": compare, "decided_by": decided_by, "text": text}


def _deciding(advice: dict[str, Any]) -> dict[str, Any] | None:
    """The user's own students that decide: the best of those with enough seeds; None if there are none."""
    decided = [each for each in advice["runs"]["effects"] if each["of_this_teacher"] and each["difference"]]
    return max(decided, key=lambda each: each["means"][f"{each['best']:g}"]["mean"]) if decided else None


def _conclusion(advice: dict[str, Any], decided: dict[str, Any] | None) -> list[str]:
    """The conclusion, in sentences: from the user's own runs if conclusive, else from the teacher's outputs."""
    ours = [each for each in advice["runs"]["effects"] if each["of_this_teacher"]]
    if decided:
        said = [_of_own_runs(decided, distinguished(decided, ours))]
    else:
        said = [START[advice["smoothing"]["smoothed"]]]
        if ours:
            said.append(_of_few_seeds(ours))
    controls = [each for each in advice["runs"]["controls"] if each["verdict"] != "cannot tell"]
    said += [_of_steps(each, distinguished(each, controls)) for each in controls]
    said += [_of_smoothing(each) for each in advice["runs"]["smoothings"] if each["more_than_chance"]]
    small = advice["outputs"]["small_steps"]
    plain = not ours or any(each["plain_steps"] for each in ours)
    if small and plain and not advice["runs"]["controls"]:
        *first, last = (f"{T:g}" for T in small)
        temperatures = "T = " + " and ".join([*([", ".join(first)] if first else []), last])
        said.append(OF_STEPS.format(temperatures=temperatures, share=100 * advice["outputs"]["small_steps_are_below"]))
    if not decided and advice["smoothing"]["smoothed"] is not False:
        unit = advice["measured"]["unit_of_this_kind"]
        said += _of_studies([each for each in advice["measured"]["this_project"] if each["unit"] == unit])
    return said


def _of_studies(measured: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence on what T costs without and with ``match`` for the students in our studies; none if there are none."""
    end = ", match"
    kind = ("source", "data", "student", "label_smoothing")
    plain = {tuple(each[name] for name in (*kind, "training")): each for each in measured}
    by_student: dict[tuple[Any, ...], tuple[dict[str, Any], dict[str, Any]]] = {}
    for matched in measured:
        first = plain.get((*(matched[name] for name in kind), matched["training"].removesuffix(end)))
        known = first and "1" in first["means"] and "1" in matched["means"] and matched["label_smoothing"] > 0
        if first and known and matched["training"].endswith(end):
            student = matched["student"], matched["data"], first["training"], matched["label_smoothing"]
            if student not in by_student or by_student[student][1]["n"] < matched["n"]:
                by_student[student] = first, matched
    if not by_student:
        return []
    most = max(by_student.values(), key=lambda pair: min(each["n"] for each in pair))
    optimiser, alpha = most[0]["training"].partition(", ")[0], most[0]["label_smoothing"]
    costs: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    explained = []
    for pair in by_student.values():
        if (pair[0]["training"].partition(", ")[0], pair[0]["label_smoothing"]) != (optimiser, alpha):
            continue
        shared = [T for T in pair[1]["means"] if T != "1" and T in pair[0]["means"]]
        for T in shared:
            for each, values in zip(pair, costs[T], strict=True):
                values.append(each["means"]["1"] - each["means"][T])
        explained.append(all(costs[T][1][-1] <= 0 for T in shared))
    told = [
        f"T = {T} cost {_range(plain_steps)}, with --kd-gradient-scale match {_range(matched_steps)}"
        for T, (plain_steps, matched_steps) in costs.items()
    ]
    verdict = VERDICTS_OF_STUDIES["all" if all(explained) else "some" if any(explained) else "none"]
    students = f"{len(explained)} kinds of students" if len(explained) > 1 else "one kind of students"
    about = {"alpha": alpha, "training": optimiser, "students": students}
    bleu = most[0]["unit"] == "BLEU"
    about |= {"kind": "translation", "points": "BLEU"} if bleu else {"kind": "images", "points": "points of top-1"}
    return [OF_STUDIES.format(**about, costs="; ".join(told), verdict=verdict)]


def _range(values: Sequence[float]) -> str:
    """From the lowest to the highest of some numbers, or the only one.

    >>> _range([2.19, -0.04]), _range([-0.04])
    ('0.0 to 2.2', '0.0')
    """
    low, high = (f"{round(each, 1) + 0.0:.1f}" for each in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _of_own_runs(effect: dict[str, Any], setting: str) -> str:
    """What the students say that decide; ``setting`` is what distinguishes them from others of this teacher."""
    found = effect["difference"]
    size = f"{_size(effect)}, {found['seeds']} seeds, the best of {found['temperatures']} temperatures"
    ours = "your runs" + (setting and f" ({setting})")
    if found["more_than_chance"]:
        return f"T = {found['higher']:g}: in {ours} it is above T = {found['lower']:g} by {size}: more than chance."
    other = found["higher"] if found["lower"] == 1 else found["lower"]
    if abs(found["mean"]) < TIE:
        return (
            f"T = 1: no other T is shown to be better. In {ours} T = {other:g} is as good ({size}); more seeds "
            f"would tell T = 1 from T = {other:g}."
        )
    return (
        f"T = 1: no other T is shown to be better. In {ours} T = {found['higher']:g} is above "
        f"T = {found['lower']:g} by {size}, which may be chance; more seeds would tell T = 1 from T = {other:g}."
    )


def _size(row: dict[str, Any]) -> str:
    """The difference in a row, with its unit and interval."""
    found, points = row["difference"], "points" if row["unit"] == "%" else row["unit"]
    return f"{found['mean']:.2f} {points}, 95 % interval {found['low']:+.2f} to {found['high']:+.2f}"


def _of_few_seeds(ours: Sequence[dict[str, Any]]) -> str:
    temperatures = {T for each in ours for T in each["means"]}
    if len(temperatures) == 1:
        return f"Your runs have T = {temperatures.pop()} alone, and so cannot say which T is best."
    best = max(ours, key=lambda each: each["means"][f"{each['best']:g}"]["mean"])
    unit = "%" if best["unit"] == "%" else best["unit"]
    which = distinguished(best, ours)
    how = which and f" ({which})"
    mean = best["means"][f"{best['best']:g}"]["mean"]
    highest = f"T = {best['best']:g}{how} with {mean:.2f} {unit}"
    return f"Your runs have too few seeds to decide; the highest of them is {highest}."


def _of_smoothing(choice: dict[str, Any]) -> str:
    """A sentence on differently smoothed teachers, one of which has better students by more than chance."""
    (better, higher), (other, lower) = (
        (smoothing_words(each), f"T = {each['temperature']:g}") for each in (choice["best"], choice["other"])
    )
    which = "Do not smooth the teacher" if choice["best"]["label_smoothing"] == 0 else f"Smooth the teacher by {better}"
    setting = choice["setting"]
    return (
        f"{which}: in your runs{setting and f' with {setting}'} the best students of {better} ({higher}) are above "
        f"those of {other} ({lower}) by {_size(choice)}: more than chance."
    )


def _of_steps(control: dict[str, Any], which: str) -> str:
    said = VERDICTS[control["verdict"]].format(T=control["temperature"], control=control["control"])
    return f"In your runs ({which}) {said}" if which else said[0].upper() + said[1:]
