"""The Transformers of the translation demo, and the fairseq commands that train them."""

import sys
from dataclasses import dataclass
from pathlib import Path

from demos import ROOT

CACHE = "teacher-cache"  # directory of a teacher's cache, in its run


@dataclass(frozen=True)
class Shape:
    """The dimensions of a Transformer, and how long it is trained."""

    encoder_layers: int
    decoder_layers: int
    embed_dim: int
    ffn_embed_dim: int
    epochs: int


@dataclass(frozen=True)
class Training:
    """A model to be trained and scored."""

    seed: int
    criterion: list[str]
    directory: Path
    shape: Shape


TEACHER = Shape(encoder_layers=2, decoder_layers=2, embed_dim=192, ffn_embed_dim=384, epochs=6)
STUDENT = Shape(encoder_layers=2, decoder_layers=1, embed_dim=128, ffn_embed_dim=256, epochs=5)


def train_command(data: Path, training: Training) -> list[str]:
    """The fairseq command that trains a model; students differ only in the criterion."""
    model, shape = training.shape, []
    for side, layers in (("encoder", model.encoder_layers), ("decoder", model.decoder_layers)):
        shape += [f"--{side}-layers", layers, f"--{side}-embed-dim", model.embed_dim]
        shape += [f"--{side}-ffn-embed-dim", model.ffn_embed_dim, f"--{side}-attention-heads", 4]
    command = ["fairseq-train", data, "--user-dir", ROOT / "lskd_fairseq", *training.criterion]
    command += ["--arch", "transformer", "--share-all-embeddings", *shape, "--dropout", 0.1]
    command += ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--clip-norm", 1, "--lr", 3e-3]
    command += ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", 300, "--warmup-init-lr", 1e-7]
    command += ["--max-tokens", 1600, "--max-epoch", model.epochs, "--required-batch-size-multiple", 1]
    command += ["--seed", training.seed, "--save-dir", training.directory, "--no-epoch-checkpoints", "--cpu"]
    command += ["--num-workers", 0]
    command += ["--log-format", "json", "--log-interval", 5]
    return [sys.executable, "-m", "fairseq_cli.train", *map(str, command[1:])]


def distil(teacher: Path, temperature: float) -> list[str]:
    """The options for distillation from the cache of a teacher, see :func:`store`."""
    return ["--criterion", "kd", "--temperature", f"{temperature:g}", "--teacher-cache", str(teacher / CACHE)]


def smooth(alpha: float) -> list[str]:
    """The options for training on smoothed labels."""
    return ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", f"{alpha:g}"]
