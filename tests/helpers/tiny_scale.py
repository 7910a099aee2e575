"""A scale at which every experiment takes seconds a job: does it run? Its results mean nothing."""

from pathlib import Path

import yaml

from helpers.commands import ROOT

# All that the scale shows, of six groups.
NAMES = {
    "small": ["e", "e_with_grave", "e_with_acute", "e_with_circumflex", "e_with_diaeresis", "o", "o_with_acute", "z"],
    "capital": ["u_with_grave", "u_with_acute", "u_with_tilde", "u_with_breve", "u_with_ring_above", "z"],
}
CLASSES = {case: [f"{case}_{name}" for name in [*names, "z_with_caron"]] for case, names in NAMES.items()}


def write_tiny_scale(path: Path) -> Path:
    """The small scale with a fraction of its data and one epoch, as a YAML file of a user's own."""
    scale = yaml.safe_load((ROOT / "scripts" / "scales" / "mini.yaml").read_text(encoding="utf-8"))
    scale["slurm"] = {"train": {"minutes": 10, "memory_gb": 1}, "other": {"minutes": 10, "memory_gb": 1}}
    for settings in scale["data"].values():
        settings.pop("seeds", None)
        if settings["kind"] == "images":
            cases = {"lower": ["small"], "upper": ["capital"]}.get(settings["prepare"][2], ["small", "capital"])
            classes = path.with_name(f"{settings['name']}.txt")
            classes.write_text("\n".join(name for case in cases for name in CLASSES[case]), encoding="utf-8")
            settings["prepare"] = ["letters.py", "--fonts", 20, "--classes", str(classes)]
            settings["teacher"]["epochs"] = 1
            settings.get("student", {})["epochs"] = 1
            settings["project"] = {"samples": 10, "validation-samples": 3}
            if "sets" in settings:
                settings["sets"]["targets"] = ["small_e", "capital_z"]
        else:
            settings["prepare"] += ["--max-pairs", 300]
            settings["prepare"][settings["prepare"].index("--vocab-size") + 1] = 200
            settings["train"]["max-epoch"] = 1
            settings["sets"]["least"] = 10
            for recipe in settings["recipes"].values():
                for shape in (recipe["teacher"], recipe["student"]):
                    shape |= {"dim": 8 * shape["layers"], "ffn": 16, "heads": 2}
    path.write_text(yaml.safe_dump(scale), encoding="utf-8")
    return path
