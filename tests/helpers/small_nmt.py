"""A translation task, Transformers and checkpoints that are made in a moment, inside one process."""

from argparse import Namespace
from pathlib import Path

import torch
from fairseq import models
from fairseq.tasks import setup_task
from omegaconf import OmegaConf

import lskd_fairseq  # noqa: F401 (registers)
from lskd_fairseq import cache_teacher
from lskd_fairseq.options import KDConfig
from lskd_fairseq.task import KDTaskConfig

SHAPE = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {"embed_dim": 16, "ffn_embed_dim": 32, "layers": 1, "attention_heads": 2}.items()
}


def make_task(data: Path, name: str = "label_smoothed_kd", **options):
    """A task on a prepared data directory, with its validation split."""
    options = {
        "data": str(data),
        "train_subset": "train",
        "dataset_impl": None,
        "required_seq_len_multiple": 1,
    } | options
    task = setup_task(OmegaConf.structured(KDTaskConfig(**options, _name=name)))
    task.load_dataset("valid")
    return task


def make_model(
    task, seed: int = 0, dropout: float = 0.1, scale: float = 3.0, arch: str = "transformer", positions=256, **options
):
    """A model with random weights that takes ``positions`` tokens; ``scale`` spreads its logits."""
    torch.manual_seed(seed)
    args = Namespace(
        arch=arch, criterion="kd", dropout=dropout, share_all_embeddings=arch == "transformer", **(SHAPE | options)
    )
    models.ARCH_CONFIG_REGISTRY[arch](args)
    args.max_source_positions = args.max_target_positions = positions
    model = task.build_model(args)
    model.args = args
    if arch == "transformer":
        model.decoder.output_projection.weight.data.mul_(scale)
    return model


def save_checkpoint(path: Path, model, task, criterion: dict | None = None, **state) -> Path:
    """A checkpoint file in fairseq's format."""
    task_cfg = OmegaConf.to_container(task.cfg, resolve=True, enum_to_str=True)
    torch.save(
        {
            "args": None,
            "cfg": {
                "task": {**task_cfg, "_name": "translation"},
                "model": model.args,
                "criterion": criterion or {"_name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
            },
            "model": model.state_dict(),
            "optimizer_history": [
                {"criterion_name": "C", "optimizer_name": "O", "lr_scheduler_state": {}, "num_updates": 1}
            ],
            "extra_state": {"train_iterator": {"epoch": 1}},
            "task_state": {},
        }
        | state,
        path,
    )
    return path


def make_criterion(task, teacher_path=None, **options):
    """The criterion, as fairseq builds it."""
    options = {"teacher_path": None if teacher_path is None else str(teacher_path), "sentence_avg": False} | options
    return task.build_criterion(OmegaConf.structured(KDConfig(**options, _name="kd")))


def make_cache(dest: Path, data: Path, checkpoint: Path, options: str = "") -> Path:
    """The directory of a cached teacher, as the command makes it."""
    words = ["--data", str(data), "--path", str(checkpoint), "--dest", str(dest), "--cpu", *options.split()]
    cache_teacher.main(cache_teacher.parser().parse_args(words))
    return dest


def batch_of(task, indices: list[int], split: str = "valid") -> dict:
    """A batch of these sentences."""
    dataset = task.dataset(split)
    return dataset.collater([dataset[index] for index in indices])
