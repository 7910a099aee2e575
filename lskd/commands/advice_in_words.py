"""The answer of ``lskd advise`` as text: the advice, then the five parts it rests on."""

import textwrap
from collections.abc import Sequence
from typing import Any

from lskd.commands.effect_tables import best_students, cell, effect_row, effects_table, interval
from lskd.io.tables import Column, show
from lskd.records.found_runs import left_out_note
from lskd.records.spread import Spread

WIDTH = 110
START = {
    True: "Start at T = 1, the paper's rule for a smoothed teacher, and compare T = 2 and 3 with it.",
    False: "Compare T = 1, 2, 3 and 4 on validation data: without label smoothing there is no rule.",
    None: "Start at T = 1 and compare T = 2, 3 and 4 with it on validation data: nothing shows whether this teacher "
    "was smoothed. If it was, T = 1 is the paper's rule.",
}
# The temperatures of these sentences: where to start, and what to compare.
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
    "part": "a part of what T = {T:g} costs goes away with {control}, and a part stays.",
    "none": "what T = {T:g} costs does not go away with {control}, beyond chance: your runs do not show that it is the "
    "size of the steps.",
    "no cost": "T = {T:g} costs nothing beyond chance without {control}.",
}
MIXED = (
    "its labels were mixed too (mixup, cutmix), and mixed labels smooth a teacher as well: α does not tell how much, "
    "the entropy of its outputs (2) does."
)
OF_STUDIES = (
    "In this project's own study of images ({data}, α = {alpha:g}, n = {n}) {plain} with {training}, and {matched} "
    "with --kd-gradient-scale match{verdict}."
)
LIMITS = (
    "What is best for your own data is for your validation data to say. A T that was chosen by the data it is scored "
    "on looks better than it is."
)


def in_words(advice: dict[str, Any]) -> str:
    """The whole answer."""
    parts = [
        f"teacher: {advice['teacher']['model'] or advice['teacher']['file']}",
        _wrapped("ADVICE  ", advice["advice"]["text"]),
        _smoothing(advice["smoothing"]),
        _outputs(advice["outputs"]),
        _runs(advice["runs"]),
        _measured(advice["measured"]),
        _next(advice["next"]),
        _wrapped("", LIMITS),
    ]
    return "\n\n".join(parts)


def conclusion(advice: dict[str, Any]) -> dict[str, Any]:
    """What follows, for ``--json``.

    Returns:
        ``temperature``: at which to distil, or to start, None where there is no rule; ``compare``: others to compare on
        validation data; ``decided_by``: "runs" where the user's own decide, else "teacher"; ``text``.
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
    """The user's own students that decide: of those with enough seeds the best; None where there are none."""
    decided = [each for each in advice["runs"]["effects"] if each["of_this_teacher"] and each["difference"]]
    return max(decided, key=lambda each: each["means"][f"{each['best']:g}"]["mean"]) if decided else None


def _conclusion(advice: dict[str, Any], decided: dict[str, Any] | None) -> list[str]:
    """What follows, in sentences: from the user's own runs if they decide, else from the teacher's outputs."""
    ours = [each for each in advice["runs"]["effects"] if each["of_this_teacher"]]
    if decided:
        said = [_of_own_runs(decided)]
    else:
        said = [START[advice["smoothing"]["smoothed"]]]
        if ours:
            said.append(_of_few_seeds(ours))
    said += [_of_steps(each) for each in advice["runs"]["controls"] if each["verdict"] != "cannot tell"]
    said += [_of_smoothing(each) for each in advice["runs"]["smoothings"] if each["more_than_chance"]]
    small = advice["outputs"]["small_steps"]
    plain = not ours or any(each["plain_steps"] for each in ours)
    if small and plain and not advice["runs"]["controls"]:
        *first, last = (f"{T:g}" for T in small)
        temperatures = "T = " + " and ".join([*([", ".join(first)] if first else []), last])
        said.append(OF_STEPS.format(temperatures=temperatures, share=100 * advice["outputs"]["small_steps_are_below"]))
    if not decided and advice["smoothing"]["smoothed"] is not False:
        said += _of_studies(advice["measured"]["this_project"])
    return said


def _of_studies(measured: Sequence[dict[str, Any]]) -> list[str]:
    """What T costs with plain and with matched steps, in the study of ours that has most seeds; none without one."""
    end = ", match"
    plain = {(each["source"], each["student"], each["label_smoothing"], each["training"]): each for each in measured}
    pairs = [
        (
            plain.get((each["source"], each["student"], each["label_smoothing"], each["training"].removesuffix(end))),
            each,
        )
        for each in measured
        if each["training"].endswith(end) and each["label_smoothing"] > 0
    ]
    known = [(first, other) for first, other in pairs if first and "1" in first["means"] and "1" in other["means"]]
    if not known:
        return []
    first, other = max(known, key=lambda pair: min(pair[0]["n"], pair[1]["n"]))
    shared = [T for T in other["means"] if T != "1" and T in first["means"]]
    costs = [[each["means"]["1"] - each["means"][T] for T in shared] for each in (first, other)]
    names = " and ".join(f"T = {T}" for T in shared)
    plain_words, matched = (" and ".join(f"{cost:.1f}" for cost in found) for found in costs)
    small = all(cost <= 0 for cost in costs[1])
    return [
        OF_STUDIES.format(
            data=first["data"],
            alpha=first["label_smoothing"],
            n=min(first["n"], other["n"]),
            training=first["training"],
            plain=f"{names} cost {plain_words} points",
            matched=matched,
            verdict=": there it was the size of the steps that cost, not T" if small else "",
        )
    ]


def _of_own_runs(effect: dict[str, Any]) -> str:
    found = effect["difference"]
    points = "points" if effect["unit"] == "%" else effect["unit"]
    size = f"{found['mean']:.2f} {points}, 95 % interval {found['low']:+.2f} to {found['high']:+.2f}"
    size += f", {found['seeds']} seeds, the best of {found['temperatures']} temperatures"
    if found["more_than_chance"]:
        return f"T = {found['higher']:g}: in your runs it is above T = {found['lower']:g} by {size}: more than chance."
    other = found["higher"] if found["lower"] == 1 else found["lower"]
    return (
        f"T = 1: no other T is shown to be better. In your runs T = {found['higher']:g} is above "
        f"T = {found['lower']:g} by {size}, which may be chance; more seeds would tell T = 1 from T = {other:g}."
    )


def _of_few_seeds(ours: Sequence[dict[str, Any]]) -> str:
    best = max(ours, key=lambda each: each["means"][f"{each['best']:g}"]["mean"])
    unit = "%" if best["unit"] == "%" else best["unit"]
    how = "" if len(ours) == 1 else f" ({best['study'].partition(', ')[2] or best['study']})"
    mean = best["means"][f"{best['best']:g}"]["mean"]
    highest = f"T = {best['best']:g}{how} with {mean:.2f} {unit}"
    return f"Your runs have too few seeds to decide; the highest of them is {highest}."


def _of_smoothing(choice: dict[str, Any]) -> str:
    """Students of differently smoothed teachers, one of which has better students by more than chance."""
    better, other = choice["best"], choice["other"]
    which = "Do not smooth the teacher" if better["label_smoothing"] == 0 else f"Smooth the teacher by {_alpha(better)}"
    return (
        f"{which}: in your runs the best students of {_alpha(better)} (T = {better['temperature']:g}) are above those "
        f"of {_alpha(other)} (T = {other['temperature']:g}) by {interval(choice['difference'])}: more than chance."
    )


def _of_steps(control: dict[str, Any]) -> str:
    said = VERDICTS[control["verdict"]].format(T=control["temperature"], control=control["control"])
    return said[0].upper() + said[1:]


def _smoothing(part: dict[str, Any]) -> str:
    answer = {True: "yes", False: "no", None: "cannot tell"}[part["smoothed"]]
    estimate = part["estimate"]
    interval = ""
    if estimate["verdict"] == "smoothed":
        interval = f", α between {estimate['low']:.2g} and {estimate['high']:.2g}"
    elif estimate["verdict"] == "not smoothed":
        interval = f", α below {estimate['high']:.2g}"
    recorded = part["source"] if part["recorded"] is None else f"α = {part['recorded']:.3g} ({part['source']})"
    lines = [
        f"1  Was the teacher smoothed? {answer}",
        _wrapped("   recorded   ", recorded),
        _wrapped("   outputs    ", f"{estimate['verdict']}{interval}: {estimate['reason']}"),
    ]
    if part["mixed_labels"]:
        lines.append(_wrapped("   mixed      ", MIXED))
    if part["disagreement"]:
        lines.append(_wrapped("   these disagree: ", f"{part['disagreement']}. The answer follows the record."))
    return "\n".join([*lines, _wrapped("   rests on   ", part["rests_on"])])


def _outputs(part: dict[str, Any]) -> str:
    title = "2  Its outputs at each temperature"
    if part["reason"]:
        return f"{title}: not known\n" + _wrapped("   ", part["reason"])
    columns = [
        Column("T", "temperature", "g"),
        Column("entropy, nats", "entropy_nats", ".3f"),
        Column("beside the label %", "non_target_percent", ".1f"),
        Column("gradient at the start", "gradient_at_start", ".3g"),
        Column("near the end", "gradient_at_end", ".3g"),
    ]
    about = (
        f"entropy is at most {part['largest_entropy_nats']:.2f}; the gradient of the paper's loss at the logits, "
        "relative to T = 1, for a student that does not know anything yet, and for one close to the teacher"
    )
    small = ", ".join(f"{T:g}" for T in part["small_steps"])
    share = f"below {100 * part['small_steps_are_below']:.0f} % at the start: T = {small}" if small else ""
    lines = [title, textwrap.indent(show(part["by_temperature"], columns), "   "), _wrapped("   ", about)]
    lines += [f"   {share}"] if share else []
    return "\n".join([*lines, f"   rests on   {part['rests_on']}"])


def _runs(part: dict[str, Any]) -> str:
    title = "3  Your runs"
    if not part["given"]:
        return f"{title}: none given"
    left_out = left_out_note(part["left_out"])
    if part["given"] == part["left_out"]:
        return f"{title}: none with a T. {left_out}"
    rows = []
    for each in part["effects"]:
        means = {float(T): Spread(**spread) for T, spread in each["means"].items()}
        found = each["difference"]
        p = found and found["p_adjusted"]
        row = effect_row(each["study"], each["label_smoothing"], each["best"], means, found, p)
        rows.append(row | {"teacher": "this" if each["of_this_teacher"] else "another"})
    temperatures = sorted({float(T) for each in part["effects"] for T in each["means"]})
    table = effects_table(rows, temperatures, [Column("students", "study"), Column("teacher", "teacher")])
    lines = [title, textwrap.indent(table, "   ")]
    lines += [f"   {line}" for line in map(_control, part["controls"])]
    lines += [f"   {line}" for line in map(_smoothing_choice, part["smoothings"])]
    lines += [f"   {line}" for line in map(_eta, part["eta"])]
    for each in part["without_teacher"]:
        lines.append(f"   without a teacher: {each['model']}, labels of {_alpha(each)}: {_alone(each)}")
    about = (
        "mean ± standard deviation over seeds and teachers (n); the difference is of the best T and T = 1, or of T = 1 "
        "and the next best; its interval and p allow for the choice of T, and p for the number of rows"
    )
    lines.append(_wrapped("   ", " ".join(filter(None, [f"{about}.", left_out]))))
    return "\n".join([*lines, f"   rests on   {part['given'] - part['left_out']} runs"])


def _control(each: dict[str, Any]) -> str:
    means = ", ".join(f"{name} {mean:.2f}" for name, mean in each["means"].items())
    cost = ""
    if each["cost"] and each["cost_controlled"]:
        cost = f"; cost of T {interval(each['cost'])}, with {each['control']} {interval(each['cost_controlled'])}"
    return f"{_alpha(each)}, T = {each['temperature']:g}, {each['control']}: {means}{cost}"


def _smoothing_choice(each: dict[str, Any]) -> str:
    said = f"smoothed or not: {best_students(each['best'])}; {best_students(each['other'])}"
    if each["difference"]:
        said += f"; difference {interval(each['difference'])}, p = {each['p_adjusted']:.2g}"
    return f"{said}: {each['verdict']}"


def _alone(each: dict[str, Any]) -> str | None:
    return cell(Spread(each["mean"], each["sd"], each["n"]))


def _alpha(each: dict[str, Any]) -> str:
    return "α unknown" if each["label_smoothing"] is None else f"α = {each['label_smoothing']:g}"


def _eta(each: dict[str, Any]) -> str:
    how = each["study"].partition(", ")[2]
    said = f"η, {each['change']}, {_alpha(each)}, {how + ', ' if how else ''}{each['split']}: "
    said += (
        f"η(S1) {each['similar_percent']:+.2f} %, below 0 for {each['similar_below_0']} of {each['targets']} targets; "
        f"η(S2) {each['dissimilar_percent']:+.2f} %"
    )
    if each["p"] is not None:
        return f"{said} ({each['pairs']} pairs of seeds, p = {each['p']:.2g} that chance gives as low an η(S1))"
    excluding = each["similar_excluding_0"]
    inside = "" if excluding is None else f"; the interval over samples leaves out 0 for {excluding}"
    return f"{said} ({each['pairs']} pair{'s' * (each['pairs'] > 1)}: no test{inside})"


def _measured(part: dict[str, Any]) -> str:
    title = f"4  What others measured from teachers that were {part['of_teachers']}"
    texts = [title]
    for name, rows in (("this project", part["this_project"]), ("the paper", part["the_paper"])):
        temperatures = sorted({float(T) for row in rows for T in row["means"]})
        shown = [row | {f"T{T:g}": row["means"].get(f"{T:g}") for T in temperatures} for row in rows]
        columns = [Column("student", "student")]
        columns += [Column("training", "training")] if any(row["training"] for row in rows) else []
        columns += [
            Column("α", "label_smoothing", "g"),
            *(Column(f"T = {T:g}", f"T{T:g}", ".1f") for T in temperatures),
        ]
        columns += [Column("best T", "best", "g"), Column("n", "n")]
        head, *lines = show(shown, columns).splitlines()
        texts += [f"   {name}, top-1 in % or BLEU:", f"     {head}"]
        place = None
        for row, line in zip(rows, lines, strict=True):
            if place != (place := f"{row['source']}: {row['data']}"):
                texts.append(f"   {place}")
            texts.append(f"     {line}")
    return "\n".join(texts)


def _next(steps: Sequence[dict[str, Any]]) -> str:
    if not steps:
        return "5  What to run next: nothing is missing for this answer"
    lines = ["5  What to run next"]
    for step in steps:
        lines += [f"   to settle {step['settles']}:", f"     {step['command']}"]
    return "\n".join(lines)


def _wrapped(head: str, text: str) -> str:
    """Text behind a head, its lines as wide as a terminal."""
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)
