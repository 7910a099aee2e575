"""Export a model as a folder in Hugging Face's layout: weights, configuration and a model card.

    lskd vision export runs/cub200/resnet18_a0.1_T1_s1/last.pth.tar resnet18-cub
    python -c "import timm; timm.create_model('local-dir:resnet18-cub', pretrained=True)"

The card says how the model was made, from the run record beside the checkpoint if there is one.
"""

import argparse
from pathlib import Path
from typing import Any

from timm.models import save_for_hf

from lskd.io.errors import OneLineParser, help_texts, input_error, run_command
from lskd.io.files import building, write_text
from lskd.records.runs import RunRecord, data_name, look_up
from lskd_vision.data import data_config
from lskd_vision.run_record import own_record, plain
from lskd_vision.validate import Loaded, add_checkpoint, load


def main(arguments: argparse.Namespace) -> None:
    """Write the folder."""
    dest = arguments.dest
    if dest.exists():
        raise input_error("DIR", dest, "exists; name a new directory")
    if not dest.parent.is_dir():
        raise input_error("DIR", dest, f"{dest.parent} must be a directory")
    loaded = load(arguments)
    record = own_record(loaded.checkpoint)
    inputs = plain(data_config(loaded.config.input, loaded.model))
    with building(dest) as beside:
        save_for_hf(
            loaded.model,
            str(beside),
            model_config={"label_names": loaded.class_names} if loaded.class_names else {},
            model_args=dict(loaded.checkpoint.args.get("model_kwargs") or {}),
            safe_serialization=True,
            data_config=inputs,
        )
        write_text(beside / "README.md", model_card(dest.name, loaded, record, inputs, arguments.model))
    print(f"{dest}: timm.create_model('local-dir:{dest}', pretrained=True)")


def model_card(
    name: str, loaded: Loaded, record: RunRecord | None, inputs: dict[str, Any], model: str | None = None
) -> str:
    """The README of the folder: what the model is, how it was trained, its scores and how to load it."""
    checkpoint = loaded.checkpoint
    lines = ["---", "library_name: timm", "pipeline_tag: image-classification", "tags:", "- image-classification"]
    lines += ["- timm", *(["- knowledge-distillation"] if record and record.teacher else []), "---", f"# {name}", ""]
    weights = "the moving average of the weights of " if checkpoint.ema else ""
    lines += [f"`{checkpoint.arch or model or 'a model'}`, {weights}`{checkpoint.path.name}`.", ""]
    lines += ["```python", "import timm", f'model = timm.create_model("local-dir:{name}", pretrained=True)', "```", ""]
    facts = {
        "classes": loaded.model.num_classes,
        "input": "×".join(map(str, inputs["input_size"])) + f", mean {inputs['mean']}, std {inputs['std']}",
    }
    if record is not None:
        facts |= _training(record, len(checkpoint.provenance.get("history", [])))
        facts |= _scores(record, checkpoint.path.name, "_ema" if checkpoint.ema else "")
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items())]
    return "\n".join([*lines, "", "Made with lskd; its licence is for the author of the model to name."]) + "\n"


def _training(record: RunRecord, epochs: int) -> dict[str, Any]:
    """How the model was trained; ``epochs`` is the number of epochs before the checkpoint was saved."""
    own, teacher = record.configuration, record.teacher or {}
    facts: dict[str, Any] = {"data": data_name(record.data) or "unknown", "epochs trained": epochs}
    facts["seed"] = record.seed
    if not teacher:
        return facts | {"label smoothing α": own.get("label_smoothing")}
    alpha = look_up(teacher, "label_smoothing", "alpha")
    facts["teacher"] = (
        f"{teacher.get('model') or 'unknown'}, label smoothing α = {'unknown' if alpha is None else alpha}"
    )
    if own.get("kd_loss_type") == "feature":
        return facts | {"distilled": f"features before the last layer, mean squared error, β = {own.get('kd_weight')}"}
    facts["distilled at"] = f"T = {own.get('temperature')}, β = {own.get('kd_weight')}"
    facts["loss"] = f"{own.get('kd_loss_type', 'kl')}, gradient scale {own.get('kd_gradient_scale', 't2')}"
    return facts


def _scores(record: RunRecord, name: str, suffix: str) -> dict[str, str]:
    """The scores of the checkpoint, by split."""
    return {
        f"top-1, {split}": f"{found[name][f'top1{suffix}']:.2f} %"
        for split, found in record.metrics.items()
        if found.get(name, {}).get(f"top1{suffix}") is not None
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = OneLineParser(prog="lskd_vision.export", **help_texts("CHECKPOINT DIR", __doc__))
    add_checkpoint(command)
    command.add_argument("dest", type=Path, metavar="DIR", help="the folder to make; must be new")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
