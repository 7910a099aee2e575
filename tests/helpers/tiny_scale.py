"""A scale at which every experiment takes seconds a job: does it run? Its figures mean nothing."""

from pathlib import Path

import yaml

from helpers.commands import ROOT


def write_tiny_scale(path: Path) -> Path:
    """The small scale with a fraction of its data and one epoch, as a YAML file of a user's own."""
    scale = yaml.safe_load((ROOT / "scripts" / "scales" / "mini.yaml").read_text(encoding="utf-8"))
    scale["slurm"] = {"train": {"minutes": 10, "memory_gb": 1}, "other": {"minutes": 10, "memory_gb": 1}}
    for settings in scale["data"].values():
        if settings["kind"] == "images":
            settings["prepare"] += ["--max-images", 200]
            settings["teacher"]["epochs"] = settings["student"]["epochs"] = 1
            settings["project"] = {"samples": 10, "validation-samples": 3}
        else:
            settings["prepare"] += ["--max-pairs", 500]
            settings["prepare"][settings["prepare"].index("--vocab-size") + 1] = 400
            settings["train"]["max-epoch"] = 1
    path.write_text(yaml.safe_dump(scale), encoding="utf-8")
    return path
