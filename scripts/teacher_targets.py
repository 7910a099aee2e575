"""The error of compressed teacher targets in the gradient, compared with the full vocabulary, and their size.

    python scripts/teacher_targets.py --data data-bin/help.en-de --teacher teacher.pt --student student.pt

For the target tokens of the validation split, the gradient of the distillation loss with respect to the student's
logits is compared with that from the teacher's logits over the whole vocabulary, in float64:

- features: as stored by ``lskd_fairseq.cache_teacher``, in fp16 and fp32, and projected again;
- top k, renormalised: as with ``--teacher-topk k``, and in most published distillation of translation;
- top k, rest shared: as with ``--format topk``, whose exact log-normaliser gives the total probability of the others.

The error is ‖g − g_full‖ / ‖g_full‖ over all tokens; the size is relative to dense logits in fp16.
"""

import argparse
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from side_by_side import origin, show
from torch import Tensor
from torch.nn.functional import linear
from tqdm import tqdm

from lskd.io.argument_types import positive
from lskd.io.errors import run_command
from lskd.loss.distillation import TopkLogits, distillation_loss
from lskd_fairseq import representations
from lskd_fairseq.batch import collate
from lskd_fairseq.score import load
from lskd_fairseq.splits import load_split

TEMPERATURES = (1.0, 3.0, 64.0)
KEPT = (4, 8, 64)
Targets = Tensor | TopkLogits


def targets(features: Tensor, layer: torch.nn.Linear, temperature: float) -> dict[str, tuple[Targets, int]]:
    """The teacher's targets in each form, with their size in bytes per token."""

    def project(rows: Tensor) -> Tensor:
        return linear(rows, layer.weight, layer.bias)

    width = features.size(1)
    forms: dict[str, tuple[Targets, int]] = {
        "features, fp32": (project(features), 4 * width),
        "features, fp16": (project(features.half().float()), 2 * width),
    }
    logits = project(features)
    offset = logits.amax(1, keepdim=True)
    normaliser = torch.logsumexp((logits - offset).double() / temperature, 1).float()
    for k in KEPT:
        values, symbols = (logits - offset).topk(k, 1)
        stored = values.half().float()
        forms[f"top {k}, renormalised"] = TopkLogits(stored, symbols), 4 * k
        forms[f"top {k}, rest shared"] = TopkLogits(stored, symbols, normaliser), 4 * k + 4
    return forms


def gradient(student: Tensor, teacher: Targets, temperature: float) -> Tensor:
    """The gradient of the loss with respect to the student's logits (N, V)."""
    leaf = student.clone().requires_grad_()
    target = torch.zeros(len(leaf), dtype=torch.long)
    distillation_loss(leaf, teacher, target, temperature=temperature, compiled=False).loss.backward()
    assert leaf.grad is not None
    return leaf.grad.double()


def full_gradient(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T·(p_s(T) - p_t(T)) in float64."""
    soft = [torch.softmax(logits.double() / temperature, 1) for logits in (student, teacher)]
    return temperature * (soft[0] - soft[1])


def main(arguments: argparse.Namespace) -> None:
    """Measure, print the table, and draw it."""
    logging.disable()
    warnings.simplefilter("ignore")
    models = []
    for path in (arguments.teacher, arguments.student):
        model, task = load(str(path), str(arguments.data))
        load_split(task, str(arguments.data), "valid")
        pad = task.target_dictionary.pad()
        layer = representations.check_decoder(model.eval(), task.dataset("valid"), pad, str(path))
        models.append((model, layer))
    (teacher, layer), (student, student_layer) = models
    dataset = task.dataset("valid")
    numbers = representations.batches(dataset, range(min(arguments.sentences, len(dataset))), 2000)
    errors: dict[tuple[str, float], float] = {}
    sizes: dict[str, float] = {}
    norms, tokens = dict.fromkeys(TEMPERATURES, 0.0), 0
    with torch.no_grad():
        for sentences in tqdm(list(numbers), desc="batches", disable=None):
            batch = collate(dataset, sentences)
            features = representations.decoder_features(teacher, batch, pad)
            logits = student_layer(representations.decoder_features(student, batch, pad))
            tokens += len(features)
            for temperature in TEMPERATURES:
                full = full_gradient(logits, layer(features), temperature)
                norms[temperature] += full.square().sum().item()
                for form, (compressed, size) in targets(features, layer, temperature).items():
                    with torch.enable_grad():
                        error = (gradient(logits, compressed, temperature) - full).square().sum().item()
                    errors[form, temperature] = errors.get((form, temperature), 0.0) + error
                    sizes[form] = size / (2 * len(task.target_dictionary))
    about = f"{tokens} target tokens of {arguments.data.name}, {len(task.target_dictionary)} symbols, "
    about += (
        f"d = {layer.in_features}; teacher {arguments.teacher.parent.name}, student {arguments.student.parent.name}"
    )
    columns = [f"error at T = {temperature:g}" for temperature in TEMPERATURES]
    lines = [*origin(about), ",".join(["targets", "size over dense fp16 logits", *columns])]
    for form, size in sizes.items():
        found = [(errors[form, temperature] / norms[temperature]) ** 0.5 for temperature in TEMPERATURES]
        lines.append(",".join([f'"{form}"', f"{size:.4f}", *(f"{error:.2e}" for error in found)]))
    show(lines, arguments.output)
    if arguments.figure:
        draw(arguments.figure, {form: [(errors[form, T] / norms[T]) ** 0.5 for T in TEMPERATURES] for form in sizes})


def draw(path: Path, errors: dict[str, list[float]]) -> None:
    """Draw the errors as bars, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure((8, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(TEMPERATURES)
    for number, temperature in enumerate(TEMPERATURES):
        place = np.arange(len(errors)) + (number - 1) * width
        axes.bar(place, [error[number] for error in errors.values()], width, label=f"T = {temperature:g}")
    axes.set_yscale("log")
    axes.set_ylabel("relative error of the gradient")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(errors)), errors, rotation=30, ha="right")
    axes.legend()
    figure.savefig(path)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="teacher_targets.py", description=__doc__.split("\n")[0])
    command.add_argument("--data", type=Path, required=True, help="a prepared data directory")
    command.add_argument("--teacher", type=Path, required=True, help="checkpoint of a Transformer")
    command.add_argument("--student", type=Path, required=True, help="checkpoint of a Transformer")
    command.add_argument("--sentences", type=positive, default=500, help="of validation (default 500)")
    command.add_argument("--output", type=Path, help="also write the table here, as CSV")
    command.add_argument("--figure", type=Path, help="also draw it here")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
