"""The answer of ``lskd advise`` as text: the advice, then the five parts on which it is based."""

import textwrap
from collections.abc import Sequence
from typing import Any

from lskd.commands.effect_tables import (
    cell,
    distinguished,
    effect_row,
    effects_table,
    format_best_students,
    interval,
    smoothing_words,
)
from lskd.io.tables import Column, show
from lskd.records.found_runs import left_out_note
from lskd.records.spread import Spread

WIDTH = 110
MIXED = (
    "its labels were mixed too (mixup, cutmix), and mixed labels smooth a teacher as well: α does not tell how much, "
    "the entropy of its outputs (2) does."
)
LIMITS = (
    "What is best for your own data is for your validation data to say. A T that was chosen by the data it is scored "
    "on looks better than it is."
)


def in_words(advice: dict[str, Any]) -> str:
    """The whole answer as text."""
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
        Column("non-target %", "non_target_percent", ".1f"),
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
    lines += [f"   {_control(each, distinguished(each, part['controls']))}" for each in part["controls"]]
    lines += [f"   {line}" for line in map(_smoothing_choice, part["smoothings"])]
    lines += [f"   {line}" for line in map(_eta, part["eta"])]
    for each in part["eta_undefined"]:
        lines.append(f"   η, {smoothing_words(each)}, {each['split']}, is not defined: {each['why']}")
    for each in part["without_teacher"]:
        about = ", ".join(filter(None, [each["model"], each["setting"], f"labels of {smoothing_words(each)}"]))
        lines.append(f"   without a teacher: {about}: {_alone(each)}")
    about = (
        "mean ± standard deviation over seeds and teachers (n); the difference is of the best T and T = 1, or of T = 1 "
        "and the next best; its interval and p allow for the choice of T, and p for the number of rows"
    )
    lines.append(_wrapped("   ", " ".join(filter(None, [f"{about}.", left_out]))))
    return "\n".join([*lines, f"   rests on   {part['given'] - part['left_out']} runs"])


def _control(each: dict[str, Any], which: str) -> str:
    at, means = f"T = {each['temperature']:g}", each["means"]
    about = ", ".join(filter(None, [smoothing_words(each), which, each["control"]]))
    said = f"{about}: T = 1 {means['T = 1']:.2f}, {at} {means['plain']:.2f}; with it "
    if "T = 1 controlled" in means:
        said += f"T = 1 {means['T = 1 controlled']:.2f}, "
    said += f"{at} {means['controlled']:.2f}"
    if each["cost"] and each["cost_controlled"]:
        said += f"; cost of T {interval(each['cost'])}, with it {interval(each['cost_controlled'])}"
    return said


def _smoothing_choice(each: dict[str, Any]) -> str:
    setting = each["setting"]
    best, other = format_best_students(each["best"]), format_best_students(each["other"])
    said = f"smoothed or not{setting and f', {setting}'}: {best}; {other}"
    if each["difference"]:
        said += f"; difference {interval(each['difference'])}, p = {each['p_adjusted']:.2g}"
    return f"{said}: {each['verdict']}"


def _alone(each: dict[str, Any]) -> str | None:
    return cell(Spread(each["mean"], each["sd"], each["n"]))


def _eta(each: dict[str, Any]) -> str:
    how = each["setting"] and f"{each['setting']}, "
    said = f"η, {each['change']}, {smoothing_words(each)}, {how}{each['split']}: "
    said += (
        f"η(S1) {each['similar_percent']:+.2f} %, below 0 for {each['similar_below_0']} of {each['targets']} targets; "
        f"η(S2) {each['dissimilar_percent']:+.2f} %"
    )
    if each["p"] is not None:
        said += f" ({each['pairs']} pairs of seeds, p = {each['p']:.2g} that chance gives as low an η(S1))"
    else:
        excluding = each["similar_excluding_0"]
        inside = "" if excluding is None else f"; the interval over samples leaves out 0 for {excluding}"
        said += f" ({each['pairs']} pair{'s' * (each['pairs'] > 1)}: no test{inside})"
    return " ".join([f"{said}{'.' * bool(each['notes'])}", *each["notes"]])


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
            *(Column(f"T = {T:.3g}", f"T{T:g}", ".1f") for T in temperatures),
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
    """Text after a head, wrapped to :data:`WIDTH` with a hanging indent."""
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)
