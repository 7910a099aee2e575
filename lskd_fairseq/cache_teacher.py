"""Cache a teacher's outputs for every target token, so that its students train without running it.

    lskd nmt cache --data data-bin/help.en-de --path teacher.pt --dest teacher-cache
    fairseq-train data-bin/help.en-de --user-dir lskd_fairseq --criterion kd --teacher-cache teacher-cache …

Format ``features``: the inputs of the teacher's output projection, d numbers a token. Students project them to the
whole vocabulary, at any temperature. Format ``topk``: the k largest logits, and for each temperature the normaliser
over the whole vocabulary; smaller if k is far below d, and no longer exact.

If it is killed or interrupted, the same command resumes after the last complete file and writes the same bytes.
"""

import argparse
import contextlib
import dataclasses
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

from fairseq import utils
from fairseq.tasks.translation import TranslationTask
from torch import nn

from lskd.io.argument_types import joinable_path, number, positive
from lskd.io.errors import OneLineParser, help_texts, input_error, run_command
from lskd.io.files import check_writable, sha256
from lskd.io.locks import try_lock
from lskd.io.tensor_files import write_tensors
from lskd.measure.representation_command import check_one_process
from lskd.measure.teacher_smoothing import with_estimate
from lskd.records.fingerprints import weights_fingerprint
from lskd.records.provenance import versions
from lskd_fairseq import representations
from lskd_fairseq.cache import manifest as cache_manifest
from lskd_fairseq.cache.manifest import DTYPES, MANIFEST, PROJECTION, File, Manifest
from lskd_fairseq.cache.rows import shards
from lskd_fairseq.checkpoints import read_checkpoint, smoothing_of_training
from lskd_fairseq.run_record import data_fingerprint
from lskd_fairseq.score import load, start_command
from lskd_fairseq.splits import load_split
from lskd_fairseq.task import estimate_smoothing
from lskd_fairseq.teacher_checks import dictionary_fingerprint
from lskd_fairseq.translate import validate_limits

TOPK, TEMPERATURES = 64, (1.0, 2.0, 3.0, 64.0)  # the temperatures are the paper's
LOCK = "cache.lock"


def main(arguments: argparse.Namespace) -> None:
    """Write the cache, or its missing files."""
    device = start_command(arguments)
    topk, temperatures = topk_options(arguments)
    dest = arguments.dest
    check_writable("--dest", dest)
    model, task = load(arguments.path, arguments.data)
    model.eval().requires_grad_(False)
    splits = arguments.split + load_splits(task, arguments)
    for split in splits:
        validate_limits([model], task, split)
    pad = task.target_dictionary.pad()
    layer = representations.check_decoder(model, task.dataset(splits[0]), pad, arguments.path)
    wanted = planned(arguments, splits, topk, temperatures, task, layer)
    if (manifest := begun(dest, wanted)).finished:
        print(f"{dest}: is finished, nothing to do")
        return
    model.to(device)
    with locked(dest):
        manifest = begun(dest, wanted)  # another process may have written files in the meantime
        if not manifest.files and manifest.teacher["label_smoothing"]["alpha"] is None:
            split = "valid" if "valid" in splits else splits[-1]
            teacher = manifest.teacher.copy()
            estimate = estimate_smoothing([model], task, split)
            known: Any = with_estimate(dict(teacher["label_smoothing"]), estimate)
            teacher["label_smoothing"] = known
            manifest = dataclasses.replace(manifest, teacher=teacher)
        manifest = write(dest, manifest, model, layer, task, arguments)
    size, tokens = manifest.bytes(), manifest.tokens()
    share = size / (tokens * manifest.vocabulary * 2)
    print(f"{dest}: {size / 1e6:.1f} MB, {tokens} target tokens, {share:.4f} of their logits in fp16")


def load_splits(task: TranslationTask, arguments: argparse.Namespace) -> list[str]:
    """Load the splits as training does; with several data directories, the training split of each.

    Returns:
        The names of the further training splits in the task.
    """
    directories, further = utils.split_paths(arguments.data), []
    if "train" in arguments.split:
        for number, directory in enumerate(directories[1:], 2):
            load_split(task, directory, "train", combine=True, epoch=number)
            further.append(f"train of directory {number}")
            task.datasets[further[-1]] = task.datasets.pop("train")
    for split in arguments.split:
        load_split(task, directories[0], split, combine=split == "train")
    return further


def topk_options(arguments: argparse.Namespace) -> tuple[int, list[float]]:
    """Check the options.

    Returns:
        k and the temperatures of the format ``topk``; 0 and an empty list for the format ``features``.

    Raises:
        InputError: an option is invalid, or there is more than one process.
    """
    check_one_process()
    if len(set(arguments.split)) < len(arguments.split):
        raise input_error("--split", " ".join(arguments.split), "must not repeat a split")
    if arguments.format == "features":
        for name in ("topk", "temperatures"):
            if getattr(arguments, name) is not None:
                raise input_error(f"--{name}", getattr(arguments, name), "must come with --format topk")
        return 0, []
    temperatures = arguments.temperatures or list(TEMPERATURES)
    return arguments.topk or TOPK, sorted(set(temperatures))


def planned(
    arguments: argparse.Namespace,
    splits: list[str],
    topk: int,
    temperatures: list[float],
    task: TranslationTask,
    layer: nn.Linear,
) -> Manifest:
    """The manifest of the cache to be made, without files.

    Raises:
        InputError: k is larger than the vocabulary.
    """
    if topk > layer.out_features:
        raise input_error("--topk", topk, f"must be at most {layer.out_features}, the size of the vocabulary")
    state, directories = read_checkpoint(arguments.path), utils.split_paths(arguments.data)
    return Manifest(
        format=arguments.format,
        dtype=arguments.dtype,
        topk=topk,
        temperatures=temperatures,
        vocabulary=layer.out_features,
        dimension=layer.in_features,
        teacher={
            "paths": [os.path.abspath(arguments.path)],
            "weights_fingerprint": weights_fingerprint(state["model"]),
            "label_smoothing": smoothing_of_training(state, layer.out_features),
        },
        data={
            "path": ":".join(map(os.path.abspath, directories)),
            "fingerprint": data_fingerprint(directories),
            "pair": f"{task.cfg.source_lang}-{task.cfg.target_lang}",
            "dictionaries": {
                "source": dictionary_fingerprint(task.source_dictionary),
                "target": dictionary_fingerprint(task.target_dictionary),
            },
        },
        splits={split: len(task.dataset(split)) for split in splits},
        versions={**versions()},
        files=[],
    )


def begun(dest: Path, wanted: Manifest) -> Manifest:
    """The manifest of an existing cache, up to the first file that is damaged; ``wanted`` if there is none.

    Raises:
        InputError: the directory holds another cache, or something else.
    """
    if not (dest / MANIFEST).exists():
        others = [path for path in dest.glob("[!.]*") if path.name != LOCK]
        if others:
            raise input_error("--dest", dest, f"holds {others[0].name}; must be a new directory, or this cache's")
        return wanted
    manifest = cache_manifest.read_manifest(dest, "--dest")
    for name, value in wanted.identity().items():
        if manifest.identity()[name] != value:
            raise input_error("--dest", dest, f"holds another cache, its {name} differs; must be a new directory")
    if (found := cache_manifest.damage(dest, manifest.files)) is not None:
        return dataclasses.replace(manifest, files=manifest.files[: found[0]], finished=False)
    return manifest


@contextlib.contextmanager
def locked(dest: Path) -> Generator[None]:
    """Make a directory and lock it against other processes.

    Raises:
        InputError: another process has locked it.
    """
    dest.mkdir(parents=True, exist_ok=True)
    with open(dest / LOCK, "w") as lock:
        if not try_lock(lock):
            raise input_error("--dest", dest, "is in use: another process writes this cache")
        yield


def write(
    dest: Path,
    manifest: Manifest,
    model: nn.Module,
    layer: nn.Linear,
    task: TranslationTask,
    arguments: argparse.Namespace,
) -> Manifest:
    """Write the missing files one by one; returns the finished manifest."""
    for left in dest.glob(".*.partial"):  # of a process that was killed: the lock keeps out others
        left.unlink()
    cache_manifest.write_manifest(dest, manifest)
    pad = task.target_dictionary.pad()
    for split in manifest.splits:
        for shard in shards(manifest, split, model, layer, task.dataset(split), pad, arguments):
            number = sum(file.split is not None for file in manifest.files)
            name = f"{number:05d}-{re.sub('[^A-Za-z0-9_.]', '-', split)}.safetensors"
            write_tensors(dest / name, shard, {"split": split})
            manifest = with_file(dest, manifest, name, split, len(shard["hashes"]), int(shard["offsets"][-1]))
    if manifest.format == "features" and all(file.name != PROJECTION for file in manifest.files):
        parts = {"weight": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})
        tensors = {name: tensor.detach().float().cpu().numpy() for name, tensor in parts.items()}
        write_tensors(dest / PROJECTION, tensors, {})
        manifest = with_file(dest, manifest, PROJECTION)
    manifest = dataclasses.replace(manifest, finished=True)
    cache_manifest.write_manifest(dest, manifest)
    return manifest


def with_file(
    dest: Path, manifest: Manifest, name: str, split: str | None = None, sentences: int = 0, tokens: int = 0
) -> Manifest:
    """Add a written file to the manifest, and write the manifest."""
    file = File(name, (dest / name).stat().st_size, sha256(dest / name), split, sentences, tokens)
    manifest = dataclasses.replace(manifest, files=[*manifest.files, file])
    cache_manifest.write_manifest(dest, manifest)
    return manifest


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = OneLineParser(
        prog="lskd_fairseq.cache_teacher",
        **help_texts("--data DIR --path CHECKPOINT --dest DIR", __doc__),
    )
    command.set_defaults(resumes=True)
    command.add_argument("--data", required=True, help="data directory of the training; several, joined by ':'")
    command.add_argument(
        "--path", required=True, metavar="CHECKPOINT", help="of the teacher, a Transformer or lightconv"
    )
    command.add_argument(
        "--dest", required=True, type=joinable_path, metavar="DIR", help="directory to write, for --teacher-cache"
    )
    command.add_argument("--split", nargs="+", default=["train", "valid"], help="which splits (default train valid)")
    command.add_argument("--format", choices=("features", "topk"), default="features", help="default features")
    command.add_argument("--dtype", choices=DTYPES, default="fp16", help="of what is stored (default fp16)")
    command.add_argument("--topk", type=positive, metavar="K", help=f"of the format topk: k (default {TOPK})")
    command.add_argument(
        "--temperatures",
        type=number(0, above=True),
        nargs="+",
        metavar="T",
        help="of the format topk (default the paper's: 1 2 3 64)",
    )
    command.add_argument("--max-tokens", type=positive, default=4000, help="tokens of a batch (default 4000)")
    size = number(0, above=True)
    command.add_argument("--shard-mb", type=size, default=256, metavar="MB", help="of a file, about (default 256)")
    command.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return command


if __name__ == "__main__":
    run_command(parser(), main)
