"""Do WordNet and a model's last layer agree on which of ImageNet-1K's classes are similar? Table G.1, for all classes.

    python scripts/wordnet_agreement.py --model resnet50.tv_in1k                    # timm's pretrained weights
    python scripts/wordnet_agreement.py --model tf_efficientnet_lite0 --checkpoint efficientnet-lite0-57934424.pth

By WordNet (G.1) the nearest classes are similar to a target, and 20 far ones, drawn at random, dissimilar; by distance
(G.2) the 1 % with the closest templates and the 90 % with the farthest. Templates stand in for the paper's centroids,
so that no images are needed; `lskd similar FILE --by wordnet --agree-with distance` uses the centroids of a file.

The table has, in %: the share of WordNet's S1 among the closest 1 %, its share among equally many of the closest, the
share of WordNet's S2 among the farthest 90 %, and the shares for a random distance.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from lskd.io.argument_types import table_file
from lskd.io.errors import OneLineParser, input_error, run_command
from lskd.io.tables import Column, show, write
from lskd.measure.class_sets import ClassSets, read_groups
from lskd.measure.similar_classes import (
    agreement,
    chance_agreement,
    mean_agreement,
    sets_by_distance,
    sets_by_groups,
    sets_by_wordnet,
)
from lskd.measure.wordnet import find_hierarchy, imagenet_classes

GROUPS = Path(__file__).resolve().parent.parent / "data_prep" / "samples" / "imagenet_groups.json"
SIMILAR = (1, 2, 4, 8, 16)


def templates(name: str, checkpoint: Path | None) -> NDArray[np.float64]:
    """The weight (1000, d) of the last layer of a timm model.

    A checkpoint with other parameter names is read in their order if all shapes are the same.

    Raises:
        InputError: the model has no such layer, or the checkpoint is of another model.
    """
    if not timm.is_model(name):
        raise input_error("--model", name, "must be a timm model")
    model: Any = timm.create_model(name, pretrained=checkpoint is None)
    if checkpoint is not None:
        model.load_state_dict(_state(checkpoint, model.state_dict()))
    weight = getattr(model.get_classifier(), "weight", None)
    if weight is None or weight.ndim != 2 or len(weight) != len(imagenet_classes()):
        raise input_error("--model", name, "must end in a linear layer of ImageNet-1K's 1000 classes")
    return weight.detach().double().numpy()


def _state(checkpoint: Path, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types
        raise input_error("--checkpoint", checkpoint, f"must be tensors that torch loads safely: {error}") from None
    state = state.get("state_dict", state)
    if state.keys() == expected.keys():
        return state
    shapes, known = ([tuple(getattr(each, "shape", ())) for each in both.values()] for both in (state, expected))
    if shapes != known:
        raise input_error("--checkpoint", checkpoint, "must have the model's parameters")
    return dict(zip(expected, state.values(), strict=True))


def table(points: NDArray[np.float64], seeds: int) -> list[dict[str, Any]]:
    """The rows: by targets, by the method that is compared with distance, and by the size of its S1."""
    names = list(imagenet_classes())
    hierarchy = find_hierarchy(names)
    ten = sets_by_groups(read_groups(GROUPS, names), names, dissimilar=20)
    rows = []
    for title, targets in (("all 1000", range(len(names))), ("the paper's ten", list(ten))):
        closest = sets_by_distance(points, targets)
        ranked = sets_by_distance(points, targets, similar=max(SIMILAR))
        drawn = [sets_by_wordnet(hierarchy, targets, max(SIMILAR), seed=seed) for seed in range(1, seeds + 1)]
        for number in SIMILAR:
            chosen = [nearest(each, number) for each in drawn]
            rows.append({"targets": title, "by": "WordNet"} | row(chosen, closest, nearest(ranked, number)))
    rows.append({"targets": title, "by": "groups"} | row([ten], closest, nearest(ranked, 4)))
    return rows


def row(
    chosen: list[dict[int, ClassSets]], closest: dict[int, ClassSets], as_many: dict[int, ClassSets]
) -> dict[str, Any]:
    """The agreement in % of the ``chosen`` sets with those by distance: a mean over targets and draws."""
    similar, dissimilar = np.mean([mean_agreement(agreement(each, closest)) for each in chosen], 0).tolist()
    same = np.mean([mean_agreement(agreement(each, as_many)) for each in chosen], 0).tolist()[0]
    chance = chance_agreement(closest, len(imagenet_classes()))
    return {
        "similar": len(next(iter(as_many.values())).similar),
        "S1": 100 * similar,
        "S1 by chance": 100 * chance.similar,
        "S1, as many": 100 * same,
        "S2": 100 * dissimilar,
        "S2 by chance": 100 * chance.dissimilar,
    }


def nearest(sets: dict[int, ClassSets], number: int) -> dict[int, ClassSets]:
    """The same sets with only the first ``number`` of S1, the nearest ones."""
    return {target: ClassSets(each.similar[:number], each.dissimilar) for target, each in sets.items()}


def main(arguments: argparse.Namespace) -> None:
    """Print the table."""
    rows = table(templates(arguments.model, arguments.checkpoint), arguments.seeds)
    columns = [Column("targets", "targets"), Column("S1, S2 by", "by"), Column("|S1|", "similar")]
    columns += [Column(f"{key} %", key, ".1f") for key in list(rows[0])[3:]]
    print(show(rows, columns))
    if arguments.output:
        write(arguments.output, rows, {"model": arguments.model, "seeds": arguments.seeds})


if __name__ == "__main__":
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50.tv_in1k", help="a timm model (default: resnet50.tv_in1k)")
    parser.add_argument("--checkpoint", type=Path, help="its weights (default: timm's pretrained ones)")
    parser.add_argument("--seeds", type=int, default=5, help="draws of S2 and of ties to average over (default: 5)")
    parser.add_argument("--output", type=table_file, metavar="FILE.csv|FILE.json")
    run_command(parser, main)
