"""How often η's tests claim drift in simulated students without any, and in some with drift.

    python scripts/eta_false_claims.py --output false_claims.csv        # 30 settings, about 5 minutes; resumable

Ten classes in groups of five, three, one and one, as in Fashion-MNIST, in 32 dimensions; the similar classes of a
target are the others of its group, with a fifth of the squared distance of the rest. A sample is its class's mean plus
noise of trace 1, which is correlated by .8 between the two students; each has 50 samples a class. "Noise" moves whole
classes in a random direction by this length (the distance of similar ones is .7), as another training seed does.

The table has the shares of targets with p ≤ .05, in %: for the permutation p of the paper's distances, of corrected
ones, for the test against isotropic change, for both; and of simulations in which the statement on all targets together
has p ≤ .05.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from simulation_table import command_line, simulated
from tqdm import tqdm

from lskd.io.errors import run_command
from lskd.io.tables import Column, show
from lskd.measure.class_sets import ClassSets
from lskd.measure.diffusion import diffusion_indices, permutation_p
from lskd.measure.isotropy import isotropy_test
from lskd.measure.representations import Representations, collect
from lskd.measure.similar_classes import sets_by_distance
from lskd.measure.usable_sets import usable_sets

GROUPS, DIMENSION, SPREAD, DRAWS, LEVEL = (5, 3, 1, 1), 32, 0.5, 199, 0.05
GROUP = np.repeat(range(len(GROUPS)), GROUPS)
NAMES = [f"class {label}" for label in range(len(GROUP))]


Means = NDArray[np.float64]  # (K, d)
Change = Callable[[Means, np.random.Generator], Means]
Pair = tuple[Representations, Representations]


@dataclass(frozen=True)
class Setting:
    """Pairs of students, and the change from the first to the second.

    Attributes:
        name: in the table.
        samples: of a class, in either student.
        noise: random displacement of classes, in either student.
        change: of the second student's class means (K, d), given a generator.
        feature_noise: standard deviation of isotropic noise added to the second student's samples.
        anisotropic: within-class noise is largest in the directions in which class means differ.
        even: classes without groups, all about equally far from each other.
        chosen_in: the student in which S1 is the nearest two classes and S2 the farthest five: first, second, another.
        pairs: number of pairs of students.
        groups: those whose targets are counted, if not all change.
    """

    name: str
    samples: tuple[int, int] = (50, 50)
    noise: tuple[float, float] = (0.1, 0.1)
    change: Change = field(default=lambda means, generator: means)
    feature_noise: float = 0.0
    anisotropic: bool = False
    even: bool = False
    chosen_in: str | None = None
    pairs: int = 1
    groups: tuple[int, ...] = tuple(range(len(GROUPS)))


def pulled(share: float, groups: tuple[int, ...], alone: bool = False) -> Change:
    """A change that moves the classes of some groups, or only the first of each, nearer to the mean of their group.

    Args:
        share: of the squared distance.
        groups: their numbers.
        alone: only the first class of each group.
    """

    def change(means: Means, generator: np.random.Generator) -> Means:
        means = means.copy()
        for group in groups:
            labels = np.flatnonzero(group == GROUP)
            moving = labels[:1] if alone else labels
            centre = means[labels[1:] if alone else labels].mean(0)
            means[moving] += (centre - means[moving]) * (1 - math.sqrt(1 - share))
        return means

    return change


def turned(means: Means, generator: np.random.Generator) -> Means:
    """A random rotation."""
    return means @ np.linalg.qr(generator.normal(size=(DIMENSION, DIMENSION)))[0]


NULLS = (
    Setting("the same students, other samples", noise=(0, 0)),
    Setting("the same, noise along the classes", noise=(0, 0), anisotropic=True),
    Setting("10 and 500 samples", (10, 500), (0, 0)),
    Setting("500 and 10 samples", (500, 10), (0, 0)),
    Setting("10 and 500, noise along the classes", (10, 500), (0, 0), anisotropic=True),
    Setting("noise .15 in second", noise=(0, 0.15)),
    Setting("noise .3 in second", noise=(0, 0.3)),
    Setting("noise .6 in second", noise=(0, 0.6)),
    Setting("noise .15 in first", noise=(0.15, 0)),
    Setting("noise .3 in first", noise=(0.3, 0)),
    Setting("noise .6 in first", noise=(0.6, 0)),
    Setting("noise .3 in both", noise=(0.3, 0.3)),
    Setting("noise on every sample of second", feature_noise=0.3),
    Setting("second twice as large", change=lambda means, generator: 2 * means),
    Setting("second half as large", change=lambda means, generator: means / 2),
    Setting("second turned", change=turned),
    Setting("noise .3 in first, 3 pairs", noise=(0.3, 0), pairs=3),
    Setting("sets chosen in first", noise=(0.3, 0.3), even=True, chosen_in="first"),
    Setting("sets chosen in second", noise=(0.3, 0.3), even=True, chosen_in="second"),
    Setting("sets chosen in the teacher", noise=(0.3, 0.3), even=True, chosen_in="another"),
)
EFFECTS = (
    *(Setting(f"one group {share:.0%} nearer", change=pulled(share, (0,)), groups=(0,)) for share in (0.1, 0.2, 0.4)),
    Setting("one group 20% nearer, 3 pairs", change=pulled(0.2, (0,)), groups=(0,), pairs=3),
    Setting("one group 20% nearer, noise .3", noise=(0.2, 0.2), change=pulled(0.2, (0,)), groups=(0,)),
    *(Setting(f"one class {share:.0%} nearer", change=pulled(share, (0,), True), groups=(0,)) for share in (0.2, 0.4)),
    *(Setting(f"all groups {share:.0%} nearer", change=pulled(share, (0, 1))) for share in (0.2, 0.4)),
    Setting("all groups 40% nearer, 3 pairs", change=pulled(0.4, (0, 1)), pairs=3),
)


def simulate(setting: Setting, generator: np.random.Generator, seed: int) -> dict[str, list[bool]]:
    """Whether each test of one simulation has p ≤ .05: a value for each target and one for all together."""
    centres = generator.normal(size=(len(GROUPS), DIMENSION)) / math.sqrt(DIMENSION)
    centres *= generator.uniform(1.0, 1.8, (len(GROUPS), 1))
    offsets = generator.normal(size=(len(GROUP), DIMENSION)) / math.sqrt(DIMENSION)
    means = offsets if setting.even else centres[GROUP] + SPREAD * offsets
    shape = np.eye(DIMENSION) / math.sqrt(DIMENSION)
    if setting.anisotropic:
        _, sizes, axes = np.linalg.svd(means - means.mean(0), full_matrices=False)
        shape = sizes[:, None] * axes / np.linalg.norm(sizes)
    pairs = [_pair(setting, means, shape, generator) for _ in range(setting.pairs)]
    sets = _sets(setting, means, dict(zip(("first", "second"), pairs[0], strict=True)), generator)
    counted = [target for target in sets if GROUP[target] in setting.groups]
    p: dict[str, Mapping[int, float | None]] = {
        variant: _permutation(pairs, sets, variant) for variant in ("centroid", "corrected")
    }
    moments = [(one.moments, other.moments) for one, other in pairs]
    p["isotropic"] = isotropy_test(moments, sets, DRAWS, seed).p_values
    # A target without a p, or one that is left out, counts as no claim.
    small = {name: [(each.get(target) or 1) <= LEVEL for target in counted] for name, each in p.items()}
    taken = small["centroid" if setting.samples[0] == setting.samples[1] else "corrected"]  # as in `lskd eta`
    together = isotropy_test(moments, {target: sets[target] for target in counted}, DRAWS, seed).p_together
    both = [a and b for a, b in zip(taken, small["isotropic"], strict=True)]
    return small | {"both": both, "together": [(together or 1) <= LEVEL]}


def _permutation(pairs: Sequence[Pair], sets: Mapping[int, ClassSets], variant: str) -> dict[int, float]:
    """The permutation p of each target, for mean changes over the pairs, as in `lskd eta`."""
    kept, _ = usable_sets(pairs, sets, variant)
    found = [diffusion_indices(*pair, kept, variant) for pair in pairs]
    return {
        each[0].target: permutation_p(np.mean([one.changes for one in each], axis=0), len(kept[each[0].target].similar))
        for each in zip(*found, strict=True)
    }


def _pair(setting: Setting, means: Means, shape: Means, generator: np.random.Generator) -> Pair:
    moved = [
        means + length * generator.normal(size=means.shape) / math.sqrt(DIMENSION)
        for means, length in zip((means, setting.change(means, generator)), setting.noise, strict=True)
    ]
    labels = [np.repeat(np.arange(len(GROUP)), samples) for samples in setting.samples]
    shared = generator.normal(size=(max(map(len, labels)), len(shape)))
    students = []
    for place, (at, label) in enumerate(zip(moved, labels, strict=True)):
        noise = math.sqrt(0.8) * shared[: len(label)] + math.sqrt(0.2) * generator.normal(size=(len(label), len(shape)))
        features = at[label] + noise @ shape
        if place:
            features = features + setting.feature_noise * generator.normal(size=features.shape)
        students.append(collect(features, label, NAMES))
    return students[0], students[1]


def _sets(
    setting: Setting, means: Means, students: dict[str, Representations], generator: np.random.Generator
) -> dict[int, ClassSets]:
    if setting.chosen_in:
        another = means + setting.noise[0] * generator.normal(size=means.shape) / math.sqrt(DIMENSION)
        chosen = students.get(setting.chosen_in)
        return sets_by_distance(another if chosen is None else chosen.moments.centroids(), None, 2, 5)
    together = {target: np.flatnonzero(GROUP[target] == GROUP).tolist() for target in range(len(GROUP))}
    return {
        target: ClassSets(
            [label for label in group if label != target], np.flatnonzero(GROUP[target] != GROUP).tolist()
        )
        for target, group in together.items()
        if len(group) > 1
    }


TESTS = ("centroid", "corrected", "isotropic", "both", "together")
COLUMNS = (
    Column("setting", "setting"),
    Column("p", "centroid_percent", ".1f"),
    Column("p, corrected", "corrected_percent", ".1f"),
    Column("p iso", "isotropic_percent", ".1f"),
    Column("both", "both_percent", ".1f"),
    Column("together", "together_percent", ".1f"),
    Column("n", "simulations"),
)


def rates(setting: Setting, simulations: int, seed: int) -> dict[str, float]:
    """The share of targets, or of simulations, with p ≤ .05, in %."""
    claims: dict[str, list[bool]] = {name: [] for name in TESTS}
    for simulation in tqdm(range(simulations), setting.name, leave=False, disable=None):
        generator = np.random.default_rng([seed, simulation])
        for name, each in simulate(setting, generator, simulation).items():
            claims[name] += each
    return {f"{name}_percent": 100 * float(np.mean(each)) for name, each in claims.items()}


def main(arguments: argparse.Namespace) -> None:
    """Simulate, write after each setting, print the tables; settings with an effect have half of the simulations."""
    settings = {each.name: each for each in (*NULLS, *EFFECTS)}
    numbers = {False: arguments.simulations, True: (arguments.simulations + 1) // 2}
    given = [
        {"setting": name, "effect": each in EFFECTS, "simulations": numbers[each in EFFECTS], "seed": arguments.seed}
        for name, each in settings.items()
    ]
    rows = simulated(
        given, lambda row: rates(settings[row["setting"]], row["simulations"], row["seed"]), arguments.output
    )
    for title, effect in (("no effect", False), ("an effect", True)):
        print(f"\n{title}\n" + show([row for row in rows if row["effect"] == effect], COLUMNS))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return command_line(__file__, __doc__ or "", "simulations", number=400, seed=20261128)


if __name__ == "__main__":
    run_command(parser(), main)
