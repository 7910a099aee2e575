"""Shared code of both representation commands: options, one pass of features into a file, and its provenance.

The last layer is applied in float32 to the features as they are recorded, so that the accuracy and entropy in the file
are those of the logits computed from its features and its last layer.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lskd.io.argument_types import number, whole
from lskd.io.errors import InputError, input_error
from lskd.measure import class_sets
from lskd.measure.accuracy import ClassCounts
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import write_representations
from lskd.measure.smoothness import EntropySums
from lskd.records.inputs import SUFFIX
from lskd.records.provenance import hardware, now, source_revision, versions

SETTINGS = ("temperature", "student_temperature", "kd_weight", "label_smoothing", "teacher_topk")
SETTINGS += ("kd_loss_type", "nckd_weight", "kd_gradient_scale", "temperature_schedule", "final_temperature")
VALIDATION = ("validation", "valid", "val", "eval", "evaluation")
CHECKPOINT_SUFFIX = re.compile(r"(\.pth)?\.(tar|pth|pt|bin|safetensors)$")
CHUNK = 2**24  # logits computed at once
TOLERANCE = 1e-4  # of the largest logit, in float32


def add_options(options: argparse.ArgumentParser, temperatures: Sequence[float], keep_per_class: int | None) -> None:
    """Add the options for what is kept and where it is written, with the caller's defaults."""
    group = options.add_argument_group("what is recorded")
    group.add_argument("--keep-classes", nargs="+", metavar="NAME", help="keep features of these classes only")
    group.add_argument(
        "--keep-per-class",
        type=whole,
        default=keep_per_class,
        metavar="N",
        help=f"keep features of at most the first N samples of a class; 0: none (default {keep_per_class or 'all'})",
    )
    group.add_argument(
        "--temperatures",
        type=number(0, above=True),
        nargs="*",
        default=list(temperatures),
        metavar="T",
        help=f"measure the entropy of the soft outputs at these (default {' '.join(map(str, temperatures))})",
    )
    group.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of kept features (default float32)"
    )
    group.add_argument(
        "--output", type=Path, metavar="FILE", help="for one split: a file other than that beside CHECKPOINT"
    )


def check_options(arguments: argparse.Namespace) -> None:
    """Validate the options of :func:`add_options`.

    Raises:
        InputError: an option is not valid, or there is more than one process.
    """
    check_one_process()
    try:
        EntropySums(arguments.temperatures)
    except ValueError:
        values = " ".join(f"{each:g}" for each in arguments.temperatures)
        raise input_error("--temperatures", values, "must be finite, above 0 and all different") from None


def check_one_process() -> None:
    """Raise InputError if this is not the only process."""
    if (processes := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise input_error("WORLD_SIZE", processes, "must be 1: one process records, start it without torchrun")


def output_files(arguments: argparse.Namespace, checkpoint: Path, splits: Sequence[str]) -> dict[str, Path]:
    """The output file of each split.

    Raises:
        InputError: a file that cannot be written, or the same one for two splits.
    """
    if arguments.output is None:
        stem = CHECKPOINT_SUFFIX.sub("", checkpoint.name) + "_ema" * getattr(arguments, "use_ema", False)
        files = {split: checkpoint.with_name(f"{stem}.{split_name(split)}{SUFFIX}") for split in splits}
    else:
        files = dict.fromkeys(splits, arguments.output)
        if len(splits) > 1:
            raise input_error("--output", arguments.output, f"must be left out for several splits: {' '.join(splits)}")
    if len(set(files.values())) < len(splits):
        raise input_error("--split", " ".join(splits), "must not repeat a split")
    for file in files.values():
        if not file.name.endswith(SUFFIX) or not os.access(file.parent, os.W_OK) or file.is_dir():
            raise input_error(
                "--output", file, f"must end in {SUFFIX}, in a directory that exists and can be written to"
            )
    return files


def split_name(split: str) -> str:
    """``train``, ``validation``, or another name of a split, for use in a file name.

    >>> split_name("valid"), split_name("training"), split_name("real/v2")
    ('validation', 'train', 'real-v2')
    """
    if split in VALIDATION:
        return "validation"
    return "train" if split == "training" else split.replace("/", "-")


def class_indices(chosen: Sequence[str] | None, class_names: Sequence[str]) -> list[int] | None:
    """The indices of the chosen classes; None if ``chosen`` is None.

    Raises:
        InputError: there is no such class.

    >>> class_indices(["dog"], ["cat", "dog"])
    [1]
    """
    if chosen is None:
        return None
    return class_sets.class_indices(chosen, class_names, "--keep-classes")


def check_last_layer(layer: object, features: Tensor, logits: Tensor, argument: str, path: object) -> None:
    """Check that a model's logits equal its last layer applied to its features, for the same samples on the CPU.

    Args:
        layer: the model's last layer.
        features: (N, d) float32.
        logits: (N, K) float32, the model's own.
        argument: the option that named the model, for error messages.
        path: path of its checkpoint.

    Raises:
        InputError: the layer is not linear, or the logits differ.
    """
    if not isinstance(layer, nn.Linear):
        raise input_error(argument, path, f"has a last layer that is not linear: {type(layer).__name__}")
    shapes = (features.dim(), features.shape[-1]), logits.shape
    if shapes != ((2, layer.in_features), (len(features), layer.out_features)):
        raise input_error(
            argument, path, f"has features of shape {tuple(features.shape)} before a layer {tuple(layer.weight.shape)}"
        )
    expected = nn.functional.linear(*(t if t is None else t.double() for t in (features, layer.weight, layer.bias)))
    if (expected - logits).abs().max() > TOLERANCE * logits.abs().max():
        raise input_error(
            argument, path, "has logits that are not its last layer's of its features, and must be linear in them"
        )


class Recording:
    """Record one pass of features, with the last layer, in a representation file.

    Args:
        class_names: K different names.
        layer: the last layer, d to K, on the device of the features.
        arguments: the parsed options of :func:`add_options`.
        keep_classes: labels of the classes whose features are kept; all when None.

    Raises:
        InputError: class names that are not unique.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        layer: nn.Linear,
        arguments: argparse.Namespace,
        keep_classes: Sequence[int] | None = None,
    ) -> None:
        self.layer, self.dtype = layer, np.dtype(arguments.dtype)
        self.counts = ClassCounts(len(class_names), layer.weight.device)
        self.entropy = EntropySums(arguments.temperatures)
        try:
            self.collector = RepresentationCollector(
                class_names, layer.in_features, keep_classes, arguments.keep_per_class, self.dtype.type
            )
        except ValueError as error:
            raise InputError(str(error)) from None

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add samples, in the order of the split.

        Args:
            features: (N, d), any floating dtype, on the device of the last layer.
            labels: (N,) int64, likewise.

        Raises:
            InputError: a feature that is not finite, or too large for the dtype.
        """
        rows = max(1, CHUNK // self.layer.out_features)
        for chunk, chunk_labels in zip(features.float().split(rows), labels.split(rows), strict=True):
            # Must not run under autocast; inference tensors are allowed.
            logits = nn.functional.linear(chunk, self.layer.weight, self.layer.bias)
            on_host = chunk.cpu().numpy()
            try:
                self.collector.add(on_host, chunk_labels.cpu().numpy())
                self.counts.update(logits, chunk_labels)
                if len(self.entropy.temperatures):
                    self.entropy.update(logits.cpu().numpy())
            except ValueError as error:
                raise InputError(str(error)) from None

    def write(self, path: Path, provenance: dict[str, Any]) -> None:
        """Write the file atomically, and print a line about it."""
        weight, bias = (
            None if t is None else t.detach().float().cpu().numpy() for t in (self.layer.weight, self.layer.bias)
        )
        representations = self.collector.result(
            weight=weight,
            bias=bias,
            correct=self.counts.correct().numpy(),
            entropy=self.entropy.rows(),
            provenance=provenance | {"samples": self.counts.samples()},
        )
        write_representations(path, representations)
        kept = len(representations.labels)
        print(f"{path}: {self.counts.samples()} samples, features of {kept} kept, top-1 {self.counts.top1():.2f} %")


def provenance(made: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """The provenance of a representation file.

    Args:
        made: this project's metadata in the checkpoint; {} for checkpoints of other programs.
        facts: ``kind``, ``layer``, ``model``, ``checkpoint``, ``fingerprint`` of the weights, ``split``, ``data``, and
            ``seed``, ``label_smoothing`` and ``mixed_labels`` as known from other sources than ``made``.
    """
    configuration = made.get("configuration", {})
    smoothing, mixed = facts.pop("label_smoothing"), facts.pop("mixed_labels", False)
    configuration = {name: configuration[name] for name in SETTINGS if name in configuration}
    if smoothing is not None:
        configuration.setdefault("label_smoothing", smoothing)
    if mixed:
        configuration["mixed_labels"] = True
    return facts | {
        "split": split_name(facts["split"]),
        "checkpoint": str(facts["checkpoint"]),
        "configuration": configuration,
        "seed": made.get("seed", facts["seed"]),
        "teacher": made.get("teacher"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": versions(),
        "hardware": hardware(),
        "revision": source_revision(),
        "made": now(),
    }
