"""The pictures of docs/evidence.md and evidence-details.md, from the committed results of our studies."""

import io
from collections.abc import Mapping, Sequence

from definitions import PLAIN
from image_statements import SMOOTHED, STEP_CONTROLS, Results
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from planned_tests import BySeed
from translation_statements import LONGER, Translations

from lskd.measure.comparisons import mean_test
from lskd.records.spread import over_seeds
from lskd.report import drawing_style as style

INK = "#768390"  # readable on white and on a dark page
SMOOTH, PLAIN_TEACHER = "#E07B39", "#3D9BD9"
SETTINGS = {**style.PAGE, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK}
SETTINGS |= {"axes.labelcolor": INK, "text.color": INK, "axes.titlecolor": INK, "legend.labelcolor": INK}
TEMPERATURES = (1, 2, 3, 4, 64)
PANELS = {PLAIN: "SGD", "match": "SGD with match", "lr-x10": "SGD, rate × 10", "adamw": "AdamW"}
SHORT = {
    PLAIN: "no control",
    "match": "match",
    "lr-x3": "rate × 3",
    "lr-x10": "rate × 10",
    "adamw": "AdamW",
    "epochs-x4": "epochs × 4",
}


def draw_temperature(grid: Results, controls: Results) -> str:
    """Top-1 against T for students of the smoothed teacher and of the other, for SGD and each control that has both.

    Args:
        grid: of study-optimiser: SGD and AdamW.
        controls: of study-step: the other panels, each with its own students at T = 1.
    """
    sources = {variant: grid if variant in (PLAIN, "adamw") else controls for variant in PANELS}
    with context(SETTINGS):
        drawing = Figure(figsize=(8, 3), layout="constrained")
        shown = {
            variant: title
            for variant, title in PANELS.items()
            if variant == PLAIN or all(sources[variant].accuracy(variant, alpha, 3) for alpha in (0.0, SMOOTHED))
        }
        panels: Sequence[Axes] = drawing.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, (variant, title) in zip(panels, shown.items(), strict=True):
            for alpha in (0.0, SMOOTHED):
                by_temperature(axes, {T: sources[variant].accuracy(variant, alpha, T) for T in TEMPERATURES}, alpha)
            axes.set_title(title, fontsize=11)
            temperature_axis(axes)
        panels[0].set_ylabel("student's top-1 in %")
        if panels[0].get_legend_handles_labels()[0]:
            handles, labels = panels[0].get_legend_handles_labels()
            drawing.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
        return svg(drawing)


def draw_cost(results: Results) -> str:
    """What T = 3 and 64 cost a smoothed teacher's student, with each control for the size of the steps."""
    with context(SETTINGS):
        drawing = Figure(figsize=(8, 3), layout="constrained")
        panels: Sequence[Axes] = drawing.subplots(1, 2, sharex=True, sharey=True)
        variants = [PLAIN, *STEP_CONTROLS]
        for axes, T in zip(panels, (3, 64), strict=True):
            for place, variant in enumerate(variants):
                costs = results.cost(variant, SMOOTHED, T)
                if costs:
                    centre, half = interval(costs)
                    colour = SMOOTH if variant == PLAIN else PLAIN_TEACHER
                    axes.errorbar([centre], [place], xerr=[half], fmt="o", color=colour, capsize=3)
            axes.axvline(0, color=INK, linewidth=1)
            axes.set_xlabel(f"cost of T = {T} in points of top-1")
            axes.set_yticks(range(len(variants)), [SHORT[variant] for variant in variants])
        panels[0].set_ylim(len(variants) - 0.5, -0.5)
        return svg(drawing)


def draw_kinds(kinds: Mapping[str, Results]) -> str:
    """What T = 3 and 64 cost each kind of students of a smoothed teacher, with plain steps and with those of T = 1.

    Args:
        kinds: the results of each, by its name, whose ``student`` is the model.
    """
    with context(SETTINGS):
        drawing = Figure(figsize=(8, 0.5 * len(kinds) + 1.3), layout="constrained")
        panels: Sequence[Axes] = drawing.subplots(1, 2, sharex=True, sharey=True)
        for axes, T in zip(panels, (3, 64), strict=True):
            for variant, colour, marker, shift in ((PLAIN, SMOOTH, "s", -0.15), ("match", PLAIN_TEACHER, "o", 0.15)):
                for place, results in enumerate(kinds.values()):
                    if costs := results.cost(variant, SMOOTHED, T):
                        centre, half = interval(costs)
                        label = PANELS[variant] if place == 0 else None
                        axes.errorbar(
                            [centre], [place + shift], xerr=[half], fmt=marker, color=colour, capsize=3, label=label
                        )
            axes.axvline(0, color=INK, linewidth=1)
            axes.set_xlabel(f"cost of T = {T} in points of top-1")
            axes.set_yticks(range(len(kinds)), list(kinds))
        panels[0].set_ylim(len(kinds) - 0.5, -0.5)
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
        return svg(drawing)


def draw_drift(results: Results) -> str:
    """What T = 3 and 64 cost against η(S1), for steps of several sizes: a panel per teacher, a mark per student.

    The marks of T = 3 are hollow.
    """
    with context(SETTINGS):
        drawing = Figure(figsize=(8, 3.2), layout="constrained")
        panels: Sequence[Axes] = drawing.subplots(1, 2, sharex=True, sharey=True)
        for axes, alpha in zip(panels, (SMOOTHED, 0.0), strict=True):
            for place, variant in enumerate((PLAIN, "lr-x3", "lr-x10", "match")):
                for T in (3, 64):
                    drift, cost = results.drift(variant, alpha, T), results.cost(variant, alpha, T)
                    if not (seeds := sorted(drift.keys() & cost.keys())):
                        continue
                    axes.plot(
                        [drift[seed] for seed in seeds],
                        [cost[seed] for seed in seeds],
                        style.MARKERS[place],
                        color=f"C{place}",
                        markerfacecolor="none" if T == 3 else None,
                        label=("SGD" if variant == PLAIN else SHORT[variant]) if T == 64 else None,
                        alpha=0.8,
                    )
            axes.axhline(0, color=INK, linewidth=1)
            axes.set_title(f"{'smoothed' if alpha else 'plain'} teacher", fontsize=11)
            axes.set_xlabel("η(S1) to T = 3 (hollow) and 64, in %")
        panels[0].set_ylabel("cost of T, points of top-1")
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, frameon=False, loc="outside lower center", ncols=4)
        return svg(drawing)


def draw_curves(results: Results) -> str:
    """Validation top-1 against the epoch, of students of a smoothed teacher at T = 1, 3 and 64: means over seeds."""
    panels_of = {variant: SHORT[variant] for variant in (PLAIN, "match", "lr-x10", "epochs-x4")} | {PLAIN: "SGD"}
    with context(SETTINGS):
        drawing = Figure(figsize=(8, 3), layout="constrained")
        panels: Sequence[Axes] = drawing.subplots(1, len(panels_of), sharey=True)
        for axes, (variant, title) in zip(panels, panels_of.items(), strict=True):
            for place, T in enumerate((1, 3, 64)):
                if curves := results.curves(variant, SMOOTHED, T):
                    by_epoch(axes, curves, f"T = {T}", place)
            axes.set_title(title, fontsize=11)
            epoch_axis(axes)
        panels[0].set_ylabel("validation top-1 in %")
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
        return svg(drawing)


def draw_translation(translations: Translations) -> str:
    """BLEU against T with all tokens, with the teacher's four most likely, and with steps as at T = 1."""
    with context(SETTINGS):
        drawing = Figure(figsize=(8, 3), layout="constrained")
        panels: Sequence[Axes] = drawing.subplots(1, 3, sharey=True)
        titles = {PLAIN: "all tokens", "top-4": "the teacher's top 4", "match": "match"}
        for axes, (variant, title) in zip(panels, titles.items(), strict=True):
            for alpha in (0.0, SMOOTHED):
                found = {T: translations.of(variant, alpha, T) for T in (1, 2, 3, 64)}
                if variant == "match":
                    found[1] = translations.of(PLAIN, alpha, 1)
                by_temperature(axes, found, alpha)
            axes.set_title(title, fontsize=11)
            temperature_axis(axes)
        panels[0].set_ylabel("test BLEU")
        if panels[0].get_legend_handles_labels()[0]:
            panels[0].legend(frameon=False, loc="lower left")
        return svg(drawing)


def draw_updates(translations: Translations) -> str:
    """Validation BLEU against the epoch, at T = 1 and, of each way to train a student, at T = 64: means over seeds."""
    shown = {(LONGER, 1.0): "T = 1", (LONGER, 64.0): "T = 64", (f"{LONGER}-top-4", 64.0): "T = 64, top 4"}
    shown |= {(f"{LONGER}-match", 64.0): "T = 64, match", (f"{LONGER}-standardised", 64.0): "T = 64, standardised"}
    shown |= {(LONGER, None): "no teacher"}
    with context(SETTINGS):
        drawing = Figure(figsize=(8, 3.2), layout="constrained")
        axes: Axes = drawing.subplots()
        for place, ((variant, T), label) in enumerate(shown.items()):
            curves = list(translations.curves[variant, SMOOTHED, T].values())
            if curves:
                by_epoch(axes, curves, label, place)
        epoch_axis(axes)
        axes.set_ylabel("validation BLEU")
        if axes.get_legend_handles_labels()[0]:
            drawing.legend(frameon=False, loc="outside right center")
        return svg(drawing)


def by_epoch(axes: Axes, curves: Sequence[Mapping[int, float]], label: str, place: int) -> None:
    """Means over the seeds against the epoch."""
    epochs = sorted(set.intersection(*map(set, curves)))
    means = [sum(curve[epoch] for curve in curves) / len(curves) for epoch in epochs]
    marker, dashes = style.MARKERS[place], style.DASHES[place]
    every = max(1, len(epochs) // 6)  # markers do not touch
    axes.plot(epochs, means, label=label, color=f"C{place}", marker=marker, linestyle=dashes, markevery=every)


def epoch_axis(axes: Axes) -> None:
    """Whole epochs."""
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    axes.grid(axis="y", color=INK, alpha=0.25)


def by_temperature(axes: Axes, found: Mapping[int, BySeed], alpha: float) -> None:
    """Means and standard deviations over seeds against T, of the students of one kind of teacher."""
    spreads = {T: over_seeds(list(values.values())) for T, values in found.items() if values}
    if spreads:
        place = int(alpha > 0)
        means, deviations = [each.mean for each in spreads.values()], [each.sd or 0 for each in spreads.values()]
        marker, dashes = style.MARKERS[place], style.DASHES[place]
        colour, label = (PLAIN_TEACHER, SMOOTH)[place], f"{('plain', 'smoothed')[place]} teacher"
        axes.errorbar(
            list(spreads), means, deviations, marker=marker, linestyle=dashes, capsize=3, color=colour, label=label
        )


def interval(values: BySeed) -> tuple[float, float]:
    """A mean and half its 95 % interval; 0 where there are too few seeds for one."""
    spread = over_seeds(list(values.values()))
    found = mean_test(list(values.values()))
    return spread.mean, (found[0][1] - found[0][0]) / 2 if found else 0.0


def temperature_axis(axes: Axes) -> None:
    """T on a logarithmic axis, with the temperatures that were trained."""
    axes.set_xscale("log")
    axes.set_xlim(0.8, 80)
    axes.xaxis.set_major_locator(FixedLocator([1, 3, 64]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda T, _: f"{T:g}"))
    axes.set_xlabel("temperature T")
    axes.grid(axis="y", color=INK, alpha=0.25)


def svg(drawing: Figure) -> str:
    """The drawing on a transparent ground; the same input gives the same bytes."""
    text = io.StringIO()
    drawing.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
