"""How often `lskd advise` is right about label smoothing, on models of known α, half of which are held out.

    python scripts/smoothing_study.py train --dest logits       # about 25 minutes of one core; resumable
    python scripts/smoothing_study.py evaluate logits --half tuning test --output docs/benchmarks/smoothing_study.csv

The estimator was tuned only on the half "tuning"; the halves are drawn before training (`smoothed_models/settings.py`).
Runs are trained in a fixed order that mixes all kinds, so that `--runs` takes a share of each. A verdict is right if it
says correctly whether the labels were smoothed, by the training itself or by the teacher's.
"""

import argparse
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from smoothed_models.settings import MODELS, Setting, settings
from tqdm import tqdm

from lskd.io.argument_types import positive, table_file
from lskd.io.errors import input_error, run_command
from lskd.io.tables import Column, show, write
from lskd.measure.logit_blocks import validate_temperature
from lskd.measure.smoothing_estimate import SmoothingEstimate, estimate_label_smoothing, output_shape

COLUMNS = [
    Column("models", "family"),
    Column("n", "n"),
    Column("right", "right"),
    Column("wrong", "wrong"),
    Column("cannot tell", "untold"),
    Column("intervals", "intervals"),
    Column("that hold α", "held"),
]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the models and keep the logits of their validation samples")
    train.set_defaults(resumes=True)
    train.add_argument("--dest", type=Path, required=True, metavar="DIR", help="directory for the logits")
    train.add_argument("--runs", type=positive, metavar="N", help="only the first N (default: all)")
    evaluate = commands.add_parser("evaluate", help="estimate α from the logits, and compare")
    evaluate.add_argument("dest", type=Path, metavar="DIR", help="directory with the logits")
    evaluate.add_argument("--half", choices=["tuning", "test"], nargs="+", required=True)
    evaluate.add_argument("--temperature", type=float, default=1.0, metavar="T", help="divide the logits (default: 1)")
    evaluate.add_argument("--output", type=table_file, metavar="FILE", help="a row for each model, .csv or .json")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Train, or evaluate."""
    train(arguments) if arguments.command == "train" else evaluate(arguments)


def train(arguments: argparse.Namespace) -> None:
    """Train the missing runs. A run's logits appear together, in one file."""
    import torch
    from smoothed_models.training import snapshots

    torch.set_num_threads(1)
    arguments.dest.mkdir(parents=True, exist_ok=True)
    for setting in tqdm(in_order()[: arguments.runs], unit=" runs", disable=None):
        if (file := logits_file(arguments.dest, setting)).exists():
            continue
        partial = file.with_suffix(".partial")
        arrays: dict[str, Any] = dict(snapshots(setting))
        with partial.open("wb") as output:
            np.savez(output, **arrays)
        os.replace(partial, file)


def in_order() -> list[Setting]:
    """The runs in the order of training: any first part of them has all kinds."""
    return sorted(settings(), key=lambda each: each.digest // 7)


def logits_file(dest: Path, setting: Setting) -> Path:
    """The file with the logits of a run's snapshots."""
    return dest / f"{setting}.npz"


def evaluate(arguments: argparse.Namespace) -> None:
    """Print a line for each kind of model, and write a row for each model."""
    halves = {
        half: list(evaluated(arguments.dest, half, arguments.temperature)) for half in dict.fromkeys(arguments.half)
    }
    if not all(halves.values()):
        raise input_error("DIR", arguments.dest, "must be the --dest of a training, with models of this half")
    if arguments.output:
        write(arguments.output, [row for rows in halves.values() for row in rows])
    print("\n\n".join(f"{half} half\n{table(rows)}" for half, rows in halves.items()))


def evaluated(dest: Path, half: str, temperature: float) -> Iterator[dict[str, Any]]:
    """A row for each model of a half: how it was made, the estimate, and whether that is right."""
    for setting, its_half in settings().items():
        if its_half != half or not (file := logits_file(dest, setting)).exists():
            continue
        with np.load(file) as snapshots:
            for stage, logits in snapshots.items():
                logits = logits.astype(float) / validate_temperature(temperature)
                estimate, shape = estimate_label_smoothing(logits), output_shape(logits)
                found = {"floor": shape.floor, "ceiling": shape.ceiling, "irregularity": shape.irregularity}
                found |= {name: getattr(estimate, name) for name in ("verdict", "alpha", "low", "high")}
                found = {key: float(f"{each:.4g}") if isinstance(each, float) else each for key, each in found.items()}
                found |= {"right": right(setting.alpha, estimate), "held": held(setting.alpha, estimate)}
                made = dataclasses.asdict(setting) | {"true_alpha": setting.alpha, "stage": stage}
                del made["alpha"]
                yield {"half": half} | made | {"samples": len(logits), "classes": logits.shape[1]} | found


def right(alpha: float, estimate: SmoothingEstimate) -> bool | None:
    """Whether the verdict is right; None if it is "cannot tell"."""
    if estimate.verdict == "cannot tell":
        return None
    return (estimate.verdict == "smoothed") == (alpha > 0)


def held(alpha: float, estimate: SmoothingEstimate) -> bool | None:
    """Whether the interval contains the α of the training; None if there is no interval."""
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.low <= alpha <= estimate.high


def table(rows: list[dict[str, Any]]) -> str:
    """The table, by kind of model."""
    groups: dict[str, list[dict[str, Any]]] = {
        f"α {sign} 0, {stage}": [] for sign in ("=", ">") for stage in ("early", "converged", "long")
    }
    groups |= {model: [] for model in MODELS}
    for row in rows:
        how = "plain" if row["training"] == "plain" else f"{row['training']} {row['amount']:g}"
        if row["training"] == "plain":
            groups[f"α {'>' if row['true_alpha'] else '='} 0, {row['stage']}"].append(row)
        else:
            groups.setdefault(f"{how}, α {'>' if row['true_alpha'] else '='} 0", []).append(row)
        groups[row["model"]].append(row)
    groups["all"] = rows
    return show([summary(family, group) for family, group in groups.items() if group], COLUMNS)


def summary(family: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table."""
    verdicts = [row["right"] for row in rows if row["right"] is not None]
    intervals = [row["held"] for row in rows if row["held"] is not None]
    counts = {"right": sum(verdicts), "wrong": len(verdicts) - sum(verdicts), "untold": len(rows) - len(verdicts)}
    return {"family": family, "n": len(rows)} | counts | {"intervals": len(intervals), "held": sum(intervals)}


if __name__ == "__main__":
    run_command(parser(), main)
