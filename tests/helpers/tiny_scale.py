"""A scale at which every experiment takes seconds a job: does it run? Its results mean nothing."""

from pathlib import Path

import yaml

from helpers.commands import ROOT

CLASSES = ROOT / "data_prep" / "samples" / "letters_185_classes.tsv"
GROUPS = ("small_e", "small_z", "small_o", "capital_u", "capital_z")  # have all classes that the scale names


def write_tiny_scale(path: Path) -> Path:
    """The small scale with a fraction of its data and one epoch, as a YAML file of a user's own."""
    scale = yaml.safe_load((ROOT / "scripts" / "scales" / "mini.yaml").read_text(encoding="utf-8"))
    scale["slurm"] = {"train": {"minutes": 10, "memory_gb": 1}, "other": {"minutes": 10, "memory_gb": 1}}
    for settings in scale["data"].values():
        settings.pop("seeds", None)
        if settings["kind"] == "images":
            case = {"upper": "capital", "lower": "small"}.get(settings["prepare"][2], "")
            groups = [name for name in GROUPS if name.startswith(case)]
            settings["prepare"] = ["letters.py", "--fonts", 10, "--classes", str(write_classes(path, groups))]
            settings["teacher"]["epochs"] = 1
            settings.get("student", {})["epochs"] = 1
            settings["project"] = {"samples": 10, "validation-samples": 3}
        else:
            settings["prepare"] += ["--max-pairs", 500]
            settings["prepare"][settings["prepare"].index("--vocab-size") + 1] = 400
            settings["train"]["max-epoch"] = 1
    path.write_text(yaml.safe_dump(scale), encoding="utf-8")
    return path


def write_classes(beside: Path, groups: list[str]) -> Path:
    """A file with the classes of these groups, beside another file."""
    rows = [line.split("\t") for line in CLASSES.read_text(encoding="utf-8").splitlines()]
    path = beside.with_name("+".join(groups) + ".txt")
    path.write_text("\n".join(row[1] for row in rows if row[3] in groups), encoding="utf-8")
    return path
