"""Export a clean student from a training checkpoint: the model and its configuration, without the training state.

    lskd nmt export runs/student/checkpoint_best.pt student.pt

Stock fairseq generates from the exported file with torch's safe loading, without this package and the teacher.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from fairseq.tasks.translation import TranslationConfig
from omegaconf import DictConfig

from lskd.io import torch_files
from lskd.io.errors import OneLineParser, help_texts, input_error, run_command
from lskd.io.files import replacing
from lskd_fairseq.checkpoints import State, checkpoint_config, made_with, read_checkpoint
from lskd_fairseq.run_record import plain
from lskd_fairseq.supported import OUR_TASKS, check_checkpoint


def export(checkpoint: str, out: str | Path) -> None:
    """Write the clean student of ``checkpoint`` to ``out`` atomically.

    Its provenance (α, T, β, teacher, data) is kept as plain values under ``lskd``.

    Raises:
        InputError: not a fairseq checkpoint, or ``out`` exists.
    """
    out = Path(out)
    state = read_checkpoint(checkpoint)
    check_checkpoint("checkpoint", checkpoint, state)
    if out.exists():
        raise input_error("OUT", out, "exists; name a new file")
    if not out.parent.is_dir():
        raise input_error("OUT", out, f"{out.parent} must be a directory")
    cfg = checkpoint_config(state)
    try:
        clean = _clean(state, cfg)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise input_error("checkpoint", checkpoint, f"must have the complete state of a training: {error}") from None
    with replacing(out) as beside:
        torch_files.save(clean, beside)
    torch.load(out, map_location="cpu", weights_only=True, mmap=True)


def _clean(state: State, cfg: DictConfig) -> State:
    return {
        "args": None,
        "cfg": {"task": _stock_task(cfg.task), "model": _stock_model(cfg.model)},
        "model": {name: tensor.clone() for name, tensor in state["model"].items()},
        # fairseq's loader reads the number of updates here, and treats a file without it as one of a very old version.
        "optimizer_history": [
            {key: state["optimizer_history"][-1][key] for key in ("criterion_name", "optimizer_name", "num_updates")}
            | {"lr_scheduler_state": {}}
        ],
        "extra_state": {"train_iterator": {"epoch": state["extra_state"]["train_iterator"]["epoch"]}},
        "lskd": made_with(state),
    }


def _stock_task(section: DictConfig | argparse.Namespace) -> dict[str, Any]:
    values = plain(section)
    if values.get("_name") in OUR_TASKS:
        values = {key: value for key, value in values.items() if key in TranslationConfig.__dataclass_fields__}
        values["_name"] = "translation"
    return values


def _stock_model(section: DictConfig | argparse.Namespace) -> dict[str, Any]:
    values = plain(section)
    # fairseq repeats a list of one kernel size by `sizes * layers`, which fails for the OmegaConf list that it loads.
    # bytes support `*`, and are a sequence of numbers too.
    for name in ("encoder_kernel_size_list", "decoder_kernel_size_list"):
        if isinstance(sizes := values.get(name), list) and len(sizes) == 1:
            values[name] = bytes(sizes)
    return values


def main(arguments: argparse.Namespace) -> None:
    """Export the student and print a command that uses it."""
    export(arguments.checkpoint, arguments.out)
    print(f"{arguments.out}: fairseq-generate DATA-BIN --path {arguments.out} --required-batch-size-multiple 1 …")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = OneLineParser(prog="python -m lskd_fairseq.export", **help_texts("CHECKPOINT DEST", __doc__))
    options.add_argument("checkpoint", help="checkpoint of a training run")
    options.add_argument("out", type=Path, help="file to write; must be new")
    return options


if __name__ == "__main__":
    run_command(parser(), main)
