"""Did a higher temperature move classes towards their similar ones? The diffusion index η.

Compares students distilled at two temperatures, as Table 3: --first at the lower one, --second at the higher one. Each
is one representation file, or several of different seeds in the same order. The similar and dissimilar classes (S1, S2)
come from `lskd similar --output`, or from here with its defaults. Students that differ in more than T are refused.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from lskd.class_distances import VARIANTS
from lskd.class_sets import ClassSets, class_indices, members, read_groups, read_origin, read_sets
from lskd.diffusion import DiffusionIndex, diffusion_indices
from lskd.errors import InputError, bad, percent, positive
from lskd.eta_table import head, joined, meaning, origins, summary, table, target_row
from lskd.isotropy import DRAWS, IsotropyTest, isotropy_test
from lskd.representations import Representations, read_representations
from lskd.similar_classes import sets_by_distance, sets_by_groups, sets_by_wordnet
from lskd.student_pairs import DIFFERENCES, check_counts, check_origin, check_students, identity
from lskd.tables import output_file, write
from lskd.usable_sets import usable_sets
from lskd.wordnet import find_hierarchy

EXAMPLE = (
    "lskd eta --first T1.representations.safetensors --second T3.representations.safetensors --by wordnet "
    "--targets golden_retriever"
)
USED_BY = {
    "reference": ("distance",),
    "groups": ("groups",),
    "similar": ("wordnet", "distance"),
    "dissimilar": ("wordnet", "distance", "groups"),
}
Pairs = list[tuple[Representations, Representations]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lskd eta``."""
    for name, which in (("--first", "lower"), ("--second", "higher")):
        parser.add_argument(
            name, nargs="+", required=True, metavar="FILE", help=f"students distilled at the {which} temperature"
        )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--sets", metavar="FILE.json", help='{target: {"similar": [classes], "dissimilar": [classes]}}')
    chosen.add_argument("--by", choices=("wordnet", "distance", "groups"), help="choose S1 and S2 as `lskd similar`")
    parser.add_argument("--targets", nargs="+", metavar="CLASS", help="names, wnids or indices (default: all)")
    parser.add_argument("--reference", metavar="FILE", help="by distance: of whose centroids, such as the teacher's")
    parser.add_argument("--groups", metavar="FILE.json", help='by groups: {"footwear": ["Sandal", "Sneaker"]}')
    parser.add_argument("--similar", type=positive, metavar="N", help="|S1| (default: by wordnet 4, by distance 1 %%)")
    parser.add_argument(
        "--dissimilar", type=positive, metavar="N", help="|S2| (default: by wordnet 20, by distance 90 %%, groups all)"
    )
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        help="which distance: of centroids (the paper's), the same corrected for the noise of few samples, or the mean "
        "over pairs of samples (Table K.1), which may be squared (default: centroid; corrected where the students have "
        "other numbers of samples of a class)",
    )
    parser.add_argument(
        "--allow",
        nargs="+",
        choices=DIFFERENCES,
        default=[],
        metavar="DIFFERENCE",
        help="compare the students although they differ in more than T, and say so: "
        + "; ".join(f"{word}: {what}" for word, what in DIFFERENCES.items()),
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="for the intervals of one pair of students; 0: none (default: 1000)",
    )
    parser.add_argument(
        "--confidence", type=percent, default=95, metavar="PERCENT", help="of intervals, 95 or 0.95 (default: 95)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of resampling, and of S2 at random (default: 1)")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="the table, .csv or .json")


def run(arguments: argparse.Namespace) -> None:
    """Print where the files come from, η of each target, and what the figures mean; write the table."""
    for name, value in (("--resamples", arguments.resamples), ("--seed", arguments.seed)):
        if value < 0:
            raise bad(name, value, "must be 0 or above")
    first, second = ([(path, read_representations(path)) for path in paths] for paths in _paths(arguments))
    warnings = check_students(first, second, arguments.allow)
    names = first[0][1].class_names
    sets, origin = _sets(arguments, names)
    argument = "--sets" if arguments.sets else "--reference"
    chosen_in = arguments.sets or arguments.reference
    warnings += check_origin(origin, argument, chosen_in, [*first, *second], arguments.allow)
    pairs = [(one, other) for (_, one), (_, other) in zip(first, second, strict=True)]
    sets, left_out = usable_sets(pairs, sets, arguments.variant or "centroid")
    warnings += left_out
    variant = _variant(arguments, pairs, members(sets), warnings)
    if variant != (arguments.variant or "centroid"):
        sets, left_out = usable_sets(pairs, sets, variant)
        warnings += left_out
    why_none = _lacks_features(pairs[0], sets) if arguments.resamples and len(pairs) == 1 else None
    resamples = 0 if why_none or len(pairs) > 1 else arguments.resamples
    results = _indices(pairs, sets, variant, resamples, arguments.confidence / 100, arguments.seed)
    isotropy = _isotropy(pairs, sets, arguments.seed) if variant in ("centroid", "corrected") else None
    rows = [
        target_row(each, sets[each[0].target], names, arguments.seed, isotropy) for each in zip(*results, strict=True)
    ]
    if arguments.output:
        about = {"first": origins(first), "second": origins(second), "variant": variant, "resamples": resamples}
        about |= {"confidence_percent": arguments.confidence, "seed": arguments.seed}
        about |= {"p_isotropic_together": isotropy and isotropy.p_together, "sets_origin": origin, "warnings": warnings}
        flat = arguments.output.suffix == ".csv"
        write(arguments.output, [joined(row) for row in rows] if flat else rows, about)
    for warning in warnings:
        print(f"lskd eta: warning: {warning}", file=sys.stderr)
    print("\n".join(head(first, "first") + head(second, "second")) + "\n")
    print(table(rows, len(pairs)))
    print("\n" + "\n".join(summary(rows, isotropy)))
    print("\n" + "\n".join(meaning(pairs, rows, variant, resamples, arguments.confidence, why_none)))


def _paths(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    if len(arguments.first) != len(arguments.second):
        raise bad("--second", f"{len(arguments.second)} files", f"must be {len(arguments.first)}, one for each --first")
    for name, paths in (("--first", arguments.first), ("--second", arguments.second)):
        if len(set(paths)) < len(paths):
            raise bad(name, next(path for path in paths if paths.count(path) > 1), "must be given once")
    if same := set(arguments.first) & set(arguments.second):
        raise bad("--second", min(same), "must be another file than --first")
    return arguments.first, arguments.second


def _variant(arguments: argparse.Namespace, pairs: Pairs, classes: Sequence[int], warnings: list[str]) -> str:
    """The distance to take: the paper's, unless unequal numbers of samples would tell in it."""
    unequal = check_counts(pairs, classes) if arguments.variant in (None, "centroid") else None
    if unequal is None:
        return arguments.variant or "centroid"
    if arguments.variant is None:
        warnings.append(f"The students have {unequal}: distances are corrected for that (--variant corrected).")
        return "corrected"
    if "counts" not in arguments.allow:
        raise bad("--variant", "centroid", f"must be corrected: {unequal}; --allow counts takes it as it is")
    warnings.append(f"--variant centroid: {unequal}, their noise is in η (allowed).")
    return "centroid"


def _sets(arguments: argparse.Namespace, names: list[str]) -> tuple[dict[int, ClassSets], dict | None]:
    """S1 and S2 of each target, of a file or as `lskd similar` chooses them, and how they were chosen."""
    for option, methods in USED_BY.items():
        if getattr(arguments, option) and arguments.by not in methods:
            chosen = f"--by {arguments.by}" if arguments.by else "--sets"
            raise bad(
                f"--{option}", getattr(arguments, option), f"is for --by {' or '.join(methods)}, not for {chosen}"
            )
    targets = class_indices(arguments.targets, names, "--targets") if arguments.targets else None
    if arguments.sets:
        sets = read_sets(arguments.sets, names)
        if targets is not None and (missing := [target for target in targets if target not in sets]):
            raise bad("--targets", names[missing[0]], f"must have its sets in {arguments.sets}")
        sets = {target: sets[target] for target in targets} if targets else sets
        if not sets:
            raise bad("--sets", arguments.sets, "must hold at least one target")
        return sets, read_origin(arguments.sets)
    similar, dissimilar = arguments.similar, arguments.dissimilar
    origin = {"by": arguments.by}
    if arguments.by == "wordnet":
        hierarchy = find_hierarchy(names)
        return sets_by_wordnet(hierarchy, targets, similar or 4, dissimilar or 20, seed=arguments.seed), origin
    if arguments.by == "groups":
        if not arguments.groups:
            raise bad("--groups", "none", "must be a file of groups")
        groups = read_groups(arguments.groups, names)
        return sets_by_groups(groups, names, targets, dissimilar, arguments.seed), origin
    if not arguments.reference:
        raise bad("--reference", "none", "must be a representation file, whose centroids say what is near")
    reference = read_representations(arguments.reference)
    if reference.class_names != names:
        raise bad("--reference", arguments.reference, f"must have the classes of {arguments.first[0]}, in their order")
    if without := [label for label in targets or () if not reference.moments.counts[label]]:
        raise bad("--targets", names[without[0]], f"must have samples in {arguments.reference}")
    sets = sets_by_distance(reference.moments.centroids(), targets, similar or 0.01, dissimilar or 0.9)
    return sets, origin | {"from": "centroids"} | identity(reference)


def _lacks_features(pair: Sequence[Representations], sets: dict[int, ClassSets]) -> str | None:
    """Why no samples can be drawn anew, or None where they can."""
    wanted = members(sets)
    for each in pair:
        kept = np.bincount(each.labels, minlength=len(each.class_names))[wanted]
        if (kept < 2).any():
            few = each.class_names[wanted[int(kept.argmin())]]
            return (
                f"No intervals: {each.path} holds the features of {kept.min()} samples of {few}, at least 2 are needed."
            )
    return None


def _indices(
    pairs: Pairs, sets: dict[int, ClassSets], variant: str, resamples: int, confidence: float, seed: int
) -> list[list[DiffusionIndex]]:
    """η of each target, for each pair of students."""
    from tqdm import tqdm

    results: list[list[DiffusionIndex]] = []
    with tqdm(total=len(pairs) * len(sets), desc="η", unit=" targets", disable=None, leave=False) as progress:
        for one, other in pairs:
            results.append([])
            try:
                for index in diffusion_indices(one, other, sets, variant, resamples, confidence, seed):
                    results[-1].append(index)
                    progress.update()
            except ValueError as error:
                message = str(error).replace("first:", f"{one.path}:").replace("second:", f"{other.path}:")
                raise InputError(message) from None
    return results


def _isotropy(pairs: Pairs, sets: dict[int, ClassSets], seed: int) -> IsotropyTest:
    """The test against isotropic change, with its progress."""
    from tqdm import tqdm

    total = DRAWS * len(pairs)
    with tqdm(total=total, desc="isotropic change", unit=" draws", disable=None, leave=False) as progress:
        moments = [(one.moments, other.moments) for one, other in pairs]
        return isotropy_test(moments, sets, DRAWS, seed, progress.update)
