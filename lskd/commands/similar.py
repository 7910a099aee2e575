"""Choose similar and dissimilar classes of target classes: by WordNet, by feature distance, or by groups.

By WordNet: the nearest in its hierarchy, and far ones at random. By distance: the closest 1 % and the farthest 90 % of
the classes, by the centroids or the last layer in FILE. By groups: those that share a group with the target, and those
that share none. `lskd eta --sets` reads what --output writes, which includes the model whose distances were used.
Classes other than those of ImageNet-1K are looked up in WordNet with nltk.
"""

import argparse
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lskd.io.argument_types import output_file, positive, table_file, whole
from lskd.io.errors import input_error
from lskd.io.output import shown_anyway
from lskd.io.schema import read_json
from lskd.io.tables import Column, show, write
from lskd.measure.class_sets import ClassSets, class_indices, read_groups, write_sets
from lskd.measure.representations import Representations, read_representations
from lskd.measure.similar_classes import (
    agreement,
    chance_agreement,
    frequent_word_tokens,
    mean_agreement,
    sets_by_distance,
    sets_by_groups,
    sets_by_wordnet,
)
from lskd.measure.student_pairs import identity
from lskd.measure.wordnet import find_hierarchy, imagenet_classes, imagenet_hypernyms, readable_name

EXAMPLE = "lskd similar --by wordnet --targets golden_retriever 'king snake' 267 --output sets.json"
METHODS = ("wordnet", "distance", "groups")
SHOWN = 24  # classes printed of a set; the file has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lskd similar``."""
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="representations of the classes; without it they are ImageNet-1K's"
    )
    parser.add_argument("--by", choices=METHODS, required=True, help="how classes are chosen")
    parser.add_argument("--targets", nargs="+", metavar="CLASS", help="names, wnids or indices (default: all)")
    parser.add_argument("--agree-with", choices=METHODS, help="show how far a second method agrees, as in Table G.1")
    parser.add_argument(
        "--agreement", type=table_file, metavar="FILE", help="with --agree-with: also write the table, .csv or .json"
    )
    parser.add_argument("--output", type=output_file(".json"), metavar="FILE.json", help="write the sets")
    parser.add_argument("--seed", type=whole, default=1, help="of the random draws (default: 1)")
    wordnet = parser.add_argument_group("by wordnet")
    wordnet.add_argument("--similar", type=positive, default=4, metavar="N", help="how many are similar (default: 4)")
    wordnet.add_argument(
        "--dissimilar", type=positive, metavar="N", help="how many are not (default: 20; by groups: all others)"
    )
    wordnet.add_argument(
        "--apart",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="dissimilar classes have only ancestors of more than this share of the classes in common with the target "
        "(default: 0.25)",
    )
    wordnet.add_argument(
        "--synsets", metavar="FILE.json", help="the synsets of classes: {class name: wnid or 'crane.n.05'}"
    )
    wordnet.add_argument(
        "--wordnet", metavar="DIRECTORY", help="WordNet's data.noun and index.noun, such as /usr/share/wordnet"
    )
    distance = parser.add_argument_group("by distance")
    distance.add_argument("--from", dest="points", choices=("centroids", "templates"), default="centroids")
    distance.add_argument(
        "--rates",
        nargs=2,
        type=_rate,
        default=(0.01, 0.9),
        metavar=("CLOSEST", "FARTHEST"),
        help="shares of the other classes, or whole numbers (default: 0.01 0.9)",
    )
    distance.add_argument(
        "--least",
        type=positive,
        metavar="N",
        help="only classes with at least this many samples (default: 1; all if FILE has no samples)",
    )
    distance.add_argument("--words", action="store_true", help="only tokens that start a word and have letters only")
    groups = parser.add_argument_group("by groups")
    groups.add_argument("--groups", metavar="FILE.json", help='{"footwear": ["Sandal", "Sneaker", …], …}')


def run(arguments: argparse.Namespace) -> None:
    """Print the sets, or the agreement of two methods, and write them."""
    if arguments.agreement and not arguments.agree_with:
        raise input_error("--agreement", arguments.agreement, "needs a second method: --agree-with")
    representations = read_representations(arguments.file) if arguments.file else None
    names = representations.class_names if representations else list(imagenet_classes())
    targets = class_indices(arguments.targets, names, "--targets") if arguments.targets else None
    sets = choose(arguments.by, arguments, names, representations, targets)
    rows: list[dict[str, Any]] = []
    if arguments.agree_with:
        other = choose(arguments.agree_with, arguments, names, representations, list(sets))
        rows = agreement_rows(sets, other, names)
    with shown_anyway(_agreement_table(rows) if arguments.agree_with else _sets_shown(sets, names)):
        if arguments.output:
            write_sets(arguments.output, sets, names, origin(arguments, representations))
        if arguments.agreement:
            about = {"by": arguments.by, "agree_with": arguments.agree_with, "file": arguments.file}
            about |= {"provenance": representations.provenance} if representations else {}
            write(arguments.agreement, rows, about | {"from": arguments.points, "seed": arguments.seed})


def choose(
    method: str,
    arguments: argparse.Namespace,
    names: list[str],
    representations: Representations | None,
    targets: list[int] | None,
) -> dict[int, ClassSets]:
    """Choose the sets of ``targets`` by a method, with the options of the command line."""
    if method == "wordnet":
        synsets = read_json(arguments.synsets, dict[str, str]) if arguments.synsets else None
        hierarchy = find_hierarchy(names, synsets, arguments.wordnet)
        if not set(hierarchy.synsets) <= imagenet_hypernyms().keys():
            senses = ", ".join(f"{name}: {synset}" for name, synset in zip(names, hierarchy.synsets, strict=True))
            print(f"read in WordNet as (others with --synsets): {senses}", file=sys.stderr)
        return sets_by_wordnet(
            hierarchy, targets, arguments.similar, arguments.dissimilar or 20, arguments.apart, arguments.seed
        )
    if method == "groups":
        return sets_by_file_of_groups(arguments, names, targets)
    if not representations:
        raise input_error("FILE", "none", "must be a representation file, for distances")
    counts = representations.moments.counts
    if arguments.points == "centroids":
        if not counts.any():
            raise input_error("--from", "centroids", f"must be templates: {arguments.file} has no samples")
        points = representations.moments.centroids()
    elif (points := representations.weight) is None:
        raise input_error("--from", "templates", f"must be centroids: {arguments.file} has no last layer")
    least = arguments.least or int(counts.any())
    candidates = np.flatnonzero(counts >= least).tolist()
    if arguments.words:
        candidates = frequent_word_tokens(names, counts.tolist(), least)
    if without := [label for label in targets or () if not np.isfinite(points[label]).all()]:
        raise input_error("--targets", names[without[0]], f"must have samples in {arguments.file}")
    closest, farthest = arguments.rates
    return sets_by_distance(points, targets, closest, farthest, candidates)


def sets_by_file_of_groups(
    arguments: argparse.Namespace, names: Sequence[str], targets: Sequence[int] | None
) -> dict[int, ClassSets]:
    """Choose the sets by ``--groups``, with ``--dissimilar`` and ``--seed``, here and in ``lskd eta``."""
    if not arguments.groups:
        raise input_error("--groups", "none", "must be a file of groups")
    groups = read_groups(arguments.groups, names)
    return sets_by_groups(groups, names, targets, arguments.dissimilar, arguments.seed)


def origin(arguments: argparse.Namespace, representations: Representations | None) -> dict[str, str | None]:
    """How the sets were chosen, for their file: the method, and for distances the model in which they were measured."""
    if arguments.by != "distance" or representations is None:
        return {"by": arguments.by}
    return {"by": arguments.by, "from": arguments.points} | identity(representations)


def agreement_rows(
    first: Mapping[int, ClassSets], second: Mapping[int, ClassSets], names: list[str]
) -> list[dict[str, Any]]:
    """Rows like Table G.1: the agreement by target, its mean, and its expectation for a random second method.

    Returns:
        Rows of ``target``, the class's name; ``shown``, its readable name; ``similar`` and ``dissimilar``, shares of S1
        and S2 between 0 and 1.
    """
    found = agreement(first, second)
    rows = [
        {"target": names[target], "shown": readable_name(names[target])} | each._asdict()
        for target, each in found.items()
    ]
    for name, each in (("mean", mean_agreement(found)), ("by chance", chance_agreement(second, len(names)))):
        rows.append({"target": name, "shown": name} | each._asdict())
    return rows


def _agreement_table(rows: Sequence[Mapping[str, Any]]) -> str:
    return show(rows, [Column("target", "shown"), Column("S1", "similar", ".3f"), Column("S2", "dissimilar", ".3f")])


def _sets_shown(sets: Mapping[int, ClassSets], names: list[str]) -> str:
    lines = []
    for target, each in sets.items():
        lines += [readable_name(names[target]), _set("similar", each.similar, names)]
        lines.append(_set("dissimilar", each.dissimilar, names))
    return "\n".join(lines)


def _set(title: str, classes: list[int], names: list[str]) -> str:
    listed = ", ".join(readable_name(names[index]) for index in classes[:SHOWN])
    more = f", and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return textwrap.fill(listed + more, 110, initial_indent=f"  {title:<12}", subsequent_indent=" " * 14)


def _rate(text: str) -> float | int:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} (must be a share below 1 or a whole number)") from None
