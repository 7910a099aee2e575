"""Did a higher temperature move classes towards their similar ones? The diffusion index η.

Compares students distilled at two temperatures, as Table 3: --first at the lower one, --second at the higher one. Each
is one representation file, or several of different seeds in the same order. The similar and dissimilar classes (S1, S2)
are those of `lskd similar --output`, or chosen here with its defaults. Students must differ in T alone.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from lskd.commands.eta_table import head, joined, meaning, origins, summary, table, target_row
from lskd.commands.similar import sets_by_file_of_groups
from lskd.io.argument_types import percent, positive, table_file, whole
from lskd.io.errors import input_error, warn
from lskd.io.output import shown_anyway
from lskd.io.tables import write
from lskd.measure.class_distances import VARIANTS
from lskd.measure.class_sets import ClassSets, class_indices, members, read_origin, read_sets
from lskd.measure.eta import measure_eta, unequal_counts
from lskd.measure.representations import read_representations
from lskd.measure.similar_classes import sets_by_distance, sets_by_wordnet
from lskd.measure.student_pairs import DIFFERENCES, check_origin, check_students, identity, refuse_unless_allowed
from lskd.measure.wordnet import find_hierarchy

EXAMPLE = (
    "lskd eta --first T1.representations.safetensors --second T3.representations.safetensors --by wordnet "
    "--targets golden_retriever"
)
LEAST_RESAMPLES, MOST_RESAMPLES = 20, 100_000  # with fewer an interval is just the extremes; more take much memory
USED_BY = {
    "reference": ("distance",),
    "groups": ("groups",),
    "similar": ("wordnet", "distance"),
    "dissimilar": ("wordnet", "distance", "groups"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lskd eta``."""
    for name, which in (("--first", "lower"), ("--second", "higher")):
        parser.add_argument(
            name, nargs="+", required=True, metavar="FILE", help=f"students distilled at the {which} temperature"
        )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--sets", metavar="FILE.json", help='{target: {"similar": [classes], "dissimilar": [classes]}}')
    chosen.add_argument("--by", choices=("wordnet", "distance", "groups"), help="choose S1 and S2 as in `lskd similar`")
    parser.add_argument("--targets", nargs="+", metavar="CLASS", help="names, wnids or indices (default: all)")
    parser.add_argument("--reference", metavar="FILE", help="by distance: file with the centroids, as the teacher's")
    parser.add_argument("--groups", metavar="FILE.json", help='by groups: {"footwear": ["Sandal", "Sneaker"]}')
    parser.add_argument("--similar", type=positive, metavar="N", help="|S1| (default: by wordnet 4, by distance 1 %%)")
    parser.add_argument(
        "--dissimilar", type=positive, metavar="N", help="|S2| (default: by wordnet 20, by distance 90 %%, groups all)"
    )
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        help="which distance: of centroids (the paper's), the same corrected for the noise of few samples, or the mean "
        "over pairs of samples (Table K.1), which may be squared (default: centroid; corrected if the students have "
        "different numbers of samples of a class)",
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
    parser.add_argument("--seed", type=whole, default=1, help="of resampling, and of S2 at random (default: 1)")
    parser.add_argument("--output", type=table_file, metavar="FILE", help="the table, .csv or .json")


def run(arguments: argparse.Namespace) -> None:
    """Print the files' provenance, η of each target, and what it means; write the table."""
    if arguments.resamples and not LEAST_RESAMPLES <= arguments.resamples <= MOST_RESAMPLES:
        valid = f"must be 0, for no intervals, or from {LEAST_RESAMPLES} to {MOST_RESAMPLES}"
        raise input_error("--resamples", arguments.resamples, valid)
    first, second = ([(path, read_representations(path)) for path in paths] for paths in _paths(arguments))
    warnings = check_students(first, second, arguments.allow)
    names = first[0][1].class_names
    sets, origin = _sets(arguments, names)
    argument = "--sets" if arguments.sets else "--reference"
    chosen_in = arguments.sets or arguments.reference
    warnings += check_origin(origin, argument, chosen_in, [*first, *second], arguments.allow)
    pairs = [(one, other) for (_, one), (_, other) in zip(first, second, strict=True)]
    if arguments.variant == "centroid" and (unequal := unequal_counts(pairs, members(sets))):
        warnings += refuse_unless_allowed(
            "counts", "--variant", "centroid", f"must be corrected: {unequal}", arguments.allow
        )
    confidence = arguments.confidence / 100
    measured = measure_eta(pairs, sets, arguments.variant, arguments.resamples, confidence, arguments.seed)
    warnings += measured.notes
    rows = [target_row(each, measured, names, arguments.seed) for each in measured.targets]
    warn("lskd eta", warnings)
    with shown_anyway(
        "\n".join(head(first, "first") + head(second, "second")),
        table(rows, len(pairs)),
        "\n".join(summary(rows, measured.isotropy)),
        "\n".join(meaning(pairs, rows, measured, arguments.confidence)),
    ):
        if arguments.output:
            about = {"first": origins(first), "second": origins(second), "variant": measured.variant}
            about |= {
                "resamples": measured.resamples,
                "confidence_percent": arguments.confidence,
                "seed": arguments.seed,
            }
            together = measured.isotropy and measured.isotropy.p_together
            about |= {"p_isotropic_together": together, "sets_origin": origin, "warnings": warnings}
            flat = arguments.output.suffix == ".csv"
            write(arguments.output, [joined(row) for row in rows] if flat else rows, about)


def _paths(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    if len(arguments.first) != len(arguments.second):
        raise input_error(
            "--second", f"{len(arguments.second)} files", f"must be {len(arguments.first)}, one for each --first"
        )
    return arguments.first, arguments.second


def _sets(arguments: argparse.Namespace, names: Sequence[str]) -> tuple[dict[int, ClassSets], dict[str, Any] | None]:
    """S1 and S2 of each target, from a file or as `lskd similar` chooses them, and how they were chosen."""
    for option, methods in USED_BY.items():
        if getattr(arguments, option) and arguments.by not in methods:
            chosen = f"--by {arguments.by}" if arguments.by else "--sets"
            raise input_error(
                f"--{option}", getattr(arguments, option), f"is for --by {' or '.join(methods)}, not for {chosen}"
            )
    targets = class_indices(arguments.targets, names, "--targets") if arguments.targets else None
    if arguments.sets:
        sets = read_sets(arguments.sets, names)
        if targets is not None and (missing := [target for target in targets if target not in sets]):
            raise input_error("--targets", names[missing[0]], f"must have its sets in {arguments.sets}")
        sets = {target: sets[target] for target in targets} if targets else sets
        if not sets:
            raise input_error("--sets", arguments.sets, "must hold at least one target")
        return sets, read_origin(arguments.sets)
    sizes = {name: size for name in ("similar", "dissimilar") if (size := getattr(arguments, name))}
    origin = {"by": arguments.by}
    if arguments.by == "wordnet":
        hierarchy = find_hierarchy(names)
        return sets_by_wordnet(hierarchy, targets, **sizes, seed=arguments.seed), origin
    if arguments.by == "groups":
        return sets_by_file_of_groups(arguments, names, targets), origin
    if not arguments.reference:
        raise input_error("--reference", "none", "must be a representation file, for the distances of its centroids")
    reference = read_representations(arguments.reference)
    if reference.class_names != names:
        raise input_error(
            "--reference", arguments.reference, f"must have the classes of {arguments.first[0]}, in their order"
        )
    if without := [label for label in targets or () if not reference.moments.counts[label]]:
        raise input_error("--targets", names[without[0]], f"must have samples in {arguments.reference}")
    sets = sets_by_distance(reference.moments.centroids(), targets, **sizes)
    return sets, origin | {"from": "centroids"} | identity(reference)
