"""Run directories as trainings leave them, written directly: records, and representation files of random features."""

from pathlib import Path

import numpy as np

from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import write_representations
from lskd.measure.teacher_smoothing import temperature_warnings
from lskd.records.runs import RunRecord, write_run

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Coat", "Bag"]
TEMPERATURES = (1.0, 3.0)
FIXED = {
    "command": ["train.py", "--data-dir", "a b"],
    "versions": {"python": "3.11.0", "lskd": "0.1.0"},
    "hardware": {"processor": "a processor", "cores": 2, "gpus": []},
    "revision": "0123abc",
    "started": "2026-01-01T00:00:00+00:00",
}


def write_record(directory: Path, metrics: dict, **fields) -> Path:
    """A run's directory with its record."""
    directory.mkdir(parents=True)
    history = [{"epoch": 1, "updates": 10, "seconds": 90.0}]
    write_run(RunRecord(**(FIXED | {"metrics": metrics, "history": history} | fields)), directory)
    return directory


def image_run(
    place: Path,
    alpha: float | None = 0.1,
    temperature: float | None = None,
    seed: int = 1,
    top1: float = 80.0,
    top5: float = 95.0,
    classwise: dict | None = None,
    **options,
) -> Path:
    """A teacher (no temperature) or a student of it; ``options``: others of a record."""
    student = temperature is not None
    names = options.get("classes", CLASSES)
    model = options.get("model", "student_net" if student else "teacher_net")
    taught = f"_T{temperature:g}" if student else ""
    name = f"{model}_a{alpha}{taught}_s{seed}"
    metrics = {"top1": top1, "top5": top5, "nll_loss": 0.5, "samples": 2000}
    metrics["classwise"] = classwise or {each: top1 + place for place, each in enumerate(names)}
    teacher = {
        "paths": [f"/elsewhere/data/teacher_net_a{alpha}_s1/last.pth.tar"],
        "model": options.get("teacher", "teacher_net"),
        "fingerprint": options.get("fingerprint", f"weights of {alpha}"),
        "label_smoothing": {"alpha": alpha, "source": "the teacher's configuration"},
        "valid": options.get("valid", {"top1": 70.0, "top5": 90.0}),
    }
    configuration = {
        "temperature": temperature,
        "student_temperature": temperature,
        "kd_weight": 1.0 if student else 0.0,
        "label_smoothing": 0.0 if student else alpha,
        "teacher_topk": 0,
        "model": model,
        "host": {"epochs": 3, "seed": seed, "kd_temperature": temperature} | options.get("host", {}),
    }
    return write_record(
        place / "data" / name,
        {"valid": {"last.pth.tar": metrics, "model_best.pth.tar": metrics | {"top1": 99.99}}},
        configuration=configuration,
        seed=seed,
        data={
            "path": "/data",
            "dataset": options.get("dataset", "torch/clothes"),
            "classes": names,
            "fingerprint": "d",
        },
        teacher=teacher if student else None,
        history=[{"epoch": options.get("host", {}).get("epochs", 3), "updates": 10, "seconds": 90.0}],
        warnings=options.get("warnings", temperature_warnings({"alpha": alpha}, temperature) if student else []),
    )


def translation_run(place: Path, temperature: float | None = None, bleu: float = 20.0, seed: int = 1) -> Path:
    """A teacher (no temperature) or a student of it."""
    student = temperature is not None
    name = f"student_a0.1_T{temperature:g}_s{seed}" if student else f"teacher_a0.1_s{seed}"
    scores = {"bleu": bleu, "bleu_signature": "nrefs:1|case:mixed", "tokenised_lowercased_bleu": bleu + 1}
    teacher = {
        "paths": ["/elsewhere/en-de/teacher_a0.1_s1/checkpoint_best.pt"],
        "fingerprint": "weights",
        "label_smoothing": {"alpha": 0.10005, "epsilon": 0.1, "source": "the teacher's configuration"},
    }
    model = {"arch": "transformer", "encoder_layers": 2, "decoder_layers": 1 if student else 2}
    configuration = {
        "temperature": temperature,
        "student_temperature": temperature,
        "kd_weight": 1.0 if student else 0.0,
        "label_smoothing": 0.0 if student else 0.10005,
        "teacher_topk": 0,
        "host": {"task": {"_name": "translation"}, "model": model | {"decoder_embed_dim": 128 if student else 192}},
    }
    return write_record(
        place / "en-de" / name,
        {"valid": {"checkpoint_last.pt": {"loss": 1.0}}, "test": {"checkpoint_best.pt": scores}},
        configuration=configuration,
        seed=seed,
        data={"path": "/bin/help.en-de", "fingerprint": "t", "pair": "en-de"},
        teacher=teacher if student else None,
    )


def add_representations(
    run: Path, alpha: float, temperature: float | None = None, seed: int = 1, keep: int | None = None
) -> None:
    """Files of both splits beside a run: five classes around fixed centres, 30 samples each, ``keep`` with features."""
    generator = np.random.default_rng([seed, round(100 * alpha), round(temperature or 0)])
    centres = np.random.default_rng(0).normal(size=(len(CLASSES), 8)) * 3 + generator.normal(size=(1, 8)) * 0.1
    centres = centres + generator.normal(size=centres.shape) * 0.3
    labels = np.repeat(np.arange(len(CLASSES)), 30)
    for split in ("train", "validation"):
        features = (centres[labels] + generator.normal(size=(len(labels), 8))).astype(np.float32)
        provenance = {
            "kind": "vision",
            "model": "student_net" if temperature else "teacher_net",
            "checkpoint": str(run / "last.pth.tar"),
            "split": split,
            "data": {"fingerprint": "d"},
            "seed": seed,
            "configuration": {"temperature": temperature, "label_smoothing": 0.0 if temperature else alpha},
            "teacher": {"label_smoothing": {"alpha": alpha}} if temperature else None,
        }
        weight = centres.astype(np.float32)
        collected = RepresentationCollector(CLASSES, 8, keep_per_class=keep)
        collected.add(features, labels)
        others = {"weight": weight, "bias": np.zeros(5, np.float32), "provenance": provenance}
        made = collected.result(**others)
        if keep == 0:  # at T = 1 and 3 on average .2 and .6 nats, with a standard deviation of .1
            made.entropy = np.array([[T, 150 * mean, 149 * 0.01] for T, mean in ((3, 0.6), (1, 0.2))])
        write_representations(run / f"last.{split}.representations.safetensors", made)


def write_runs(place: Path) -> None:
    """Two teachers of images, two students of each, all with representations; a teacher and two students of text."""
    for alpha in (0.0, 0.1):
        add_representations(image_run(place, alpha, top1=82.0 + alpha), alpha)
        for temperature in TEMPERATURES:
            run = image_run(place, alpha, temperature, top1=80.0 + 10 * alpha - temperature / 10)
            add_representations(run, alpha, temperature)
    translation_run(place, bleu=22.05)
    translation_run(place, 1.0, 16.86)
    translation_run(place, 3.0, 12.17)
