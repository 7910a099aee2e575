"""Did a higher temperature move classes towards their similar ones? The diffusion index η.

Compares students distilled at two temperatures, as Table 3: --first at the lower one, --second at the higher one. Each
is one representation file, or several of different seeds in the same order. The similar and dissimilar classes (S1, S2)
come from `lskd similar --output`, or from here with its defaults.
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np

from lskd.class_distances import VARIANTS
from lskd.class_sets import ClassSets, class_indices, members, read_groups, read_sets
from lskd.diffusion import DiffusionIndex, diffusion_indices, over_seeds, permutation_p
from lskd.errors import InputError, bad, positive
from lskd.representations import Representations, read_representations
from lskd.runs import look_up, teacher_smoothing
from lskd.similar_classes import sets_by_distance, sets_by_groups, sets_by_wordnet
from lskd.tables import Column, output_file, show, write
from lskd.wordnet import find_hierarchy, imagenet_classes

EXAMPLE = (
    "lskd eta --first T1.representations.safetensors --second T3.representations.safetensors --by wordnet "
    "--targets golden_retriever"
)
COUPLED = (
    "η(S1) and η(S2) are two views of the same changes: one target's relative distances sum to 1, so the changes,\n"
    "weighted by the distances at first, sum to 0. Opposite signs are forced only where both sets hold one class."
)
USED_BY = {
    "reference": ("distance",),
    "groups": ("groups",),
    "similar": ("wordnet", "distance"),
    "dissimilar": ("wordnet", "distance", "groups"),
}
Files = list[tuple[str, Representations]]


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
        default="centroid",
        help="which distance: of centroids (the paper's), the same corrected for the noise of few samples, or the mean "
        "over pairs of samples (Table K.1), which may be squared (default: centroid)",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="for the intervals of one pair of students; 0: none (default: 1000)",
    )
    parser.add_argument("--confidence", type=float, default=95, metavar="PERCENT", help="of intervals (default: 95)")
    parser.add_argument("--seed", type=int, default=1, help="of resampling, and of S2 at random (default: 1)")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="the table, .csv or .json")


def run(arguments: argparse.Namespace) -> None:
    """Print where the files come from, η of each target, and what the figures mean; write the table."""
    from tqdm import tqdm

    for name, value in (("--resamples", arguments.resamples), ("--seed", arguments.seed)):
        if value < 0:
            raise bad(name, value, "must be 0 or above")
    if not 0 < arguments.confidence < 100:
        raise bad("--confidence", arguments.confidence, "must be above 0 and below 100")
    first, second = ([(path, read_representations(path)) for path in paths] for paths in _paths(arguments))
    _check(first, second)
    names = first[0][1].class_names
    sets = _sets(arguments, names)
    pairs = list(zip(first, second, strict=True))
    why_none = _lacks_features(pairs[0], sets) if arguments.resamples and len(pairs) == 1 else None
    resamples = 0 if why_none or len(pairs) > 1 else arguments.resamples
    results: list[Sequence[DiffusionIndex]] = []
    with tqdm(total=len(pairs) * len(sets), desc="η", unit=" targets", disable=None, leave=False) as progress:
        for (first_path, one), (second_path, other) in pairs:
            results.append([])
            options = arguments.variant, resamples, arguments.confidence / 100, arguments.seed
            try:
                for index in diffusion_indices(one, other, sets, *options):
                    results[-1].append(index)
                    progress.update()
            except ValueError as error:
                message = str(error).replace("first:", f"{first_path}:").replace("second:", f"{second_path}:")
                raise InputError(message) from None
    rows = [_row(each, sets, names, arguments.seed) for each in zip(*results, strict=True)]
    if arguments.output:
        about = {"first": _origins(first), "second": _origins(second), "variant": arguments.variant}
        about |= {"resamples": resamples, "confidence_percent": arguments.confidence, "seed": arguments.seed}
        flat = arguments.output.suffix == ".csv"
        write(arguments.output, [_joined(row) for row in rows] if flat else rows, about)
    print("\n".join(_head(first, "first") + _head(second, "second")) + "\n")
    print(_table(rows, len(pairs)))
    print("\n" + _summary(rows))
    print("\n" + "\n".join([COUPLED, *_meaning(arguments, pairs, sets, resamples, why_none, rows)]))


def _paths(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    if len(arguments.first) != len(arguments.second):
        raise bad("--second", f"{len(arguments.second)} files", f"must be {len(arguments.first)}, one for each --first")
    for name, paths in (("--first", arguments.first), ("--second", arguments.second)):
        if len(set(paths)) < len(paths):
            raise bad(name, next(path for path in paths if paths.count(path) > 1), "must be given once")
    if same := set(arguments.first) & set(arguments.second):
        raise bad("--second", min(same), "must be another file than --first")
    return arguments.first, arguments.second


def _check(first: Files, second: Files) -> None:
    """Refuse files that are not about the same samples, and groups that are not students of one configuration."""
    path, expected = first[0]
    for argument, files in (("--first", first), ("--second", second)):
        alike = _configuration(files[0][1])
        for other_path, each in files:
            if each.class_names != expected.class_names:
                raise bad(argument, other_path, f"must have the classes of {path}, in their order")
            for what, a, b in zip(("split", "data"), _samples(expected), _samples(each), strict=True):
                if None not in (a, b) and a != b:
                    raise bad(argument, other_path, f"is of {what} {b}, must be of {a} as {path}")
            for what, value in _configuration(each).items():
                if value != alike[what]:
                    raise bad(argument, other_path, f"has {what} {value}, must be {alike[what]} as {files[0][0]}")
    seeds = [[each.provenance.get("seed") for _, each in files] for files in (first, second)]
    if seeds[0] != seeds[1] and sorted(map(str, seeds[0])) == sorted(map(str, seeds[1])):
        raise bad("--second", f"seeds {seeds[1]}", f"must be in the order of --first: {seeds[0]}")


def _samples(representations: Representations) -> tuple:
    """Split and data, as far as they are known."""
    provenance = representations.provenance
    data = provenance.get("data")
    return provenance.get("split"), data.get("fingerprint") if isinstance(data, dict) else data


def _configuration(representations: Representations) -> dict:
    """What students that differ by their seed have in common."""
    provenance = representations.provenance
    return {
        "model": provenance.get("model"),
        "temperature": look_up(provenance, "configuration", "temperature") if provenance.get("teacher") else None,
        "label smoothing": teacher_smoothing(provenance),
    }


def _sets(arguments: argparse.Namespace, names: list[str]) -> dict[int, ClassSets]:
    """S1 and S2 of each target, of a file or as `lskd similar` chooses them."""
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
        return sets
    similar, dissimilar = arguments.similar, arguments.dissimilar
    if arguments.by == "wordnet":
        return sets_by_wordnet(find_hierarchy(names), targets, similar or 4, dissimilar or 20, seed=arguments.seed)
    if arguments.by == "groups":
        if not arguments.groups:
            raise bad("--groups", "none", "must be a file of groups")
        return sets_by_groups(read_groups(arguments.groups, names), names, targets, dissimilar, arguments.seed)
    if not arguments.reference:
        raise bad("--reference", "none", "must be a representation file, whose centroids say what is near")
    reference = read_representations(arguments.reference)
    if reference.class_names != names:
        raise bad("--reference", arguments.reference, f"must have the classes of {arguments.first[0]}, in their order")
    if without := [label for label in targets or () if not reference.moments.counts[label]]:
        raise bad("--targets", names[without[0]], f"must have samples in {arguments.reference}")
    return sets_by_distance(reference.moments.centroids(), targets, similar or 0.01, dissimilar or 0.9)


def _lacks_features(pair: Sequence[tuple[str, Representations]], sets: dict[int, ClassSets]) -> str | None:
    """Why no samples can be drawn anew, or None where they can."""
    wanted = members(sets)
    for path, each in pair:
        kept = np.bincount(each.labels, minlength=len(each.class_names))[wanted]
        if (kept < 2).any():
            few = each.class_names[wanted[int(kept.argmin())]]
            return f"No intervals: {path} holds the features of {kept.min()} samples of {few}, at least 2 are needed."
    return None


def _row(indices: Sequence[DiffusionIndex], sets: dict[int, ClassSets], names: list[str], seed: int) -> dict:
    """One target; one index for each pair of students."""
    target = indices[0].target
    changes = np.mean([each.changes for each in indices], axis=0)
    row = {"target": names[target]}
    for name, kind in (("similar", "eta_similar"), ("dissimilar", "eta_dissimilar")):
        spread = over_seeds([100 * getattr(each, kind) for each in indices])
        interval = getattr(indices[0], f"{name}_interval") or (None, None)
        low, high = (None if bound is None or math.isnan(bound) else 100 * bound for bound in interval)
        row |= {f"{kind}_percent": spread.mean, f"{kind}_sd_percent": spread.sd}
        row |= {f"{kind}_low_percent": low, f"{kind}_high_percent": high}
    row["p_value"] = permutation_p(changes, len(sets[target].similar), seed)  # of the mean over pairs
    row["n"] = len(indices)
    row["similar"] = [names[k] for k in sets[target].similar]
    row["dissimilar"] = [names[k] for k in sets[target].dissimilar]
    return row


def _joined(row: dict) -> dict:
    """A row for csv: lists of classes as text."""
    return row | {name: "; ".join(row[name]) for name in ("similar", "dissimilar")}


def _table(rows: Sequence[dict], pairs: int) -> str:
    columns = [Column("target", "shown"), Column("η(S1) %", "eta_similar_percent", "+.2f")]
    columns += [Column("interval" if pairs == 1 else "±", "spread_similar"), Column("p", "p_value", ".3g")]
    columns += [Column("η(S2) %", "eta_dissimilar_percent", "+.2f")]
    columns += [Column("interval" if pairs == 1 else "±", "spread_dissimilar")]
    columns += [Column("n", "n")] if pairs > 1 else []
    shown = [row | {"shown": imagenet_classes().get(row["target"], row["target"])} for row in rows]
    for row in shown:
        for name in ("similar", "dissimilar"):
            sd, low, high = (row[f"eta_{name}_{what}_percent"] for what in ("sd", "low", "high"))
            interval = None if low is None else f"{low:+.2f} to {high:+.2f}"
            row[f"spread_{name}"] = interval if sd is None else f"{sd:.2f}"
    mean = {"shown": "mean"}
    for key in ("eta_similar_percent", "eta_dissimilar_percent"):
        mean[key] = math.fsum(row[key] for row in rows) / len(rows)
    return show([*shown, mean] if len(rows) > 1 else shown, columns)


def _summary(rows: Sequence[dict]) -> str:
    parts = []
    for name, key in (("η(S1)", "eta_similar_percent"), ("η(S2)", "eta_dissimilar_percent")):
        parts.append(f"{name} is negative for {sum(row[key] < 0 for row in rows)} of {len(rows)} targets")
    return ", ".join(parts) + "."


def _head(files: Files, name: str) -> list[str]:
    lines = []
    for path, each in files:
        configuration, provenance = _configuration(each), each.provenance
        role = "student" if provenance.get("teacher") else "model"
        temperature, smoothing = (configuration[key] for key in ("temperature", "label smoothing"))
        facts = [f"{role} {provenance.get('model') or ''}".rstrip()]
        facts += [f"T = {temperature:g}"] if temperature is not None else []
        facts += [f"α = {smoothing:.3g}" if smoothing is not None else "α unknown"]
        facts += [f"split {provenance.get('split', 'unknown')}", f"seed {provenance.get('seed', 'unknown')}"]
        lines.append(f"{name:<8}{', '.join(facts)}: {path}")
    return lines


def _origins(files: Files) -> list[dict]:
    return [{"file": path, "provenance": each.provenance} for path, each in files]


def _meaning(arguments, pairs, sets, resamples: int, why_none: str | None, rows: Sequence[dict]) -> list[str]:
    """What p, the intervals and the spread are of, in a sentence each."""
    lines = ["p: the share of all ways to call |S1| of these classes similar that have a mean change as low as S1's."]
    if len(pairs) > 1:
        lines.append(
            f"±: standard deviation over {len(pairs)} pairs of students of different seeds, on the same samples."
        )
    elif resamples:
        whole = all(each.complete for _, each in pairs[0])
        kept = "" if whole else ", the kept features standing for all" if arguments.variant != "pairwise" else ""
        lines.append(
            f"Intervals: {arguments.confidence:g} %, over samples ({resamples} resamples within each class{kept}): of "
            "other samples\nseen by these two students. They say nothing about students of other seeds."
        )
        if any(row["eta_similar_low_percent"] is None for row in rows):
            lines.append("No interval (–): with so few samples a resampled distance can be 0.")
    elif why_none:
        lines.append(why_none)
    if arguments.variant == "pairwise" and not all(each.complete for pair in pairs for _, each in pair):
        lines.append("Pairwise distances are of the samples whose features were kept.")
    return lines
