"""Find the temperature that gives one teacher the mean entropy of another (Appendix H).

In the paper, a ResNet-50 trained on CUB200-2011 without label smoothing has at T = 1.481375 the entropy that the one
with α = .1 has at T = 1. Equal entropy does not make equal students, as the paper's Tables H.2 to H.4 show. Both files
must be of the same samples; if one of them did not keep all features, the kept ones are compared.
"""

import argparse
import math

import numpy as np

from lskd.commands.file_logits import FileLogits, entropy_sums
from lskd.io.argument_types import number, table_file
from lskd.io.errors import error_context, input_error
from lskd.io.output import shown_anyway
from lskd.io.tables import Column, show, write
from lskd.io.temperatures import check_different
from lskd.measure.representations import Representations, read_representations
from lskd.measure.smoothness import EntropySums, match_temperature

EXAMPLE = "lskd match-temperature a0.1.train.representations.safetensors a0.train.representations.safetensors"
COLUMNS = (
    Column("T of reference", "reference_temperature", ".7g"),
    Column("T of other", "temperature", ".7g"),
    Column("entropy (nats)", "entropy_nats", ".4f"),
    Column("ln K", "largest_entropy_nats", ".4f"),
    Column("samples", "samples"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lskd match-temperature``."""
    parser.add_argument("reference", metavar="REFERENCE", help="representations of the teacher with the wanted entropy")
    parser.add_argument("other", metavar="OTHER", help="representations of the teacher whose temperature to find")
    parser.add_argument(
        "--temperature",
        type=number(0, above=True),
        nargs="+",
        default=[1.0],
        metavar="T",
        help="of REFERENCE (default: 1)",
    )
    parser.add_argument("--output", type=table_file, metavar="FILE", help="the table, .csv or .json")


def run(arguments: argparse.Namespace) -> None:
    """Find the temperatures, print the table, write it."""
    check_different("--temperature", arguments.temperature)
    reference, other = read_representations(arguments.reference), read_representations(arguments.other)
    _check(arguments, reference, other)
    logits = FileLogits(arguments.other, other)
    if _all_samples(reference, other):
        sums = entropy_sums(arguments.reference, reference, arguments.temperature)
    else:
        sums = EntropySums(arguments.temperature)
        with error_context(arguments.reference):
            sums.update(FileLogits(arguments.reference, reference))
    rows = []
    for temperature, target in zip(arguments.temperature, sums.mean().tolist(), strict=True):
        with error_context(arguments.other):
            matching = match_temperature(logits, target)
        rows.append(
            {
                "reference": arguments.reference,
                "other": arguments.other,
                "reference_temperature": temperature,
                "temperature": matching,
                "entropy_nats": target,
                "largest_entropy_nats": math.log(len(reference.class_names)),
                "samples": sums.n,
            }
        )
    with shown_anyway(f"reference  {arguments.reference}\nother      {arguments.other}", show(rows, COLUMNS)):
        if arguments.output:
            write(arguments.output, rows)


def _check(arguments: argparse.Namespace, reference: Representations, other: Representations) -> None:
    """Check that both files have the same classes and samples, as far as their provenance says."""
    if reference.class_names != other.class_names:
        raise input_error("OTHER", arguments.other, f"must have the classes of {arguments.reference}, in their order")
    splits = [each.provenance.get("split") for each in (reference, other)]
    if None not in splits and splits[0] != splits[1]:
        raise input_error(
            "OTHER", arguments.other, f"is of split {splits[1]}, must be of {splits[0]} as {arguments.reference}"
        )
    if not _all_samples(reference, other) and not np.array_equal(reference.index, other.index):
        raise input_error(
            "OTHER", arguments.other, f"must have kept the features of the samples that {arguments.reference} has"
        )


def _all_samples(reference: Representations, other: Representations) -> bool:
    """Whether the mean can be over all samples: OTHER has kept them all; REFERENCE may have only the sums."""
    return other.complete and np.array_equal(reference.moments.counts, other.moments.counts)
