"""The pass that makes ImageNet's class centroids, from 1.28 million × 2048 half-precision features on the disk.

    python scripts/bench_moments.py --dest /scratch          # writes and removes 5.2 GB there

Each of five things reads the same file in a process of its own, round after round, the file's pages dropped from the
system's cache before where it says cold:

- read, cold: the bytes of the features, read and thrown away;
- moments, cold: ``ClassMoments.update`` on the features of the representation file: counts, sums, squared norms;
- moments, warm: the same with the file in memory;
- torch sum, warm: what one would write without this project, on the same chunks: half → float → sum, of no class;
- torch sum of 64 rows, warm: the same on smaller chunks.

torch is imported before the clock starts. Memory is what a process holds of its own at most (RssAnon), torch's
libraries with it, the file's mapped pages apart.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from lskd.half_sums import BLOCK
from tqdm import tqdm

from lskd.errors import positive, run_command
from lskd.files import write_text
from lskd.moments import ClassMoments
from lskd.representations import SUFFIX, Representations, read_representations, write_representations
from lskd.runs import hardware, now, source_revision, versions

CLASSES = 1000
KINDS = ("read, cold", "moments, cold", "moments, warm", "torch sum, warm", "torch sum of 64 rows, warm")


def make(path: Path, samples: int, dimension: int) -> None:
    """A representation file of random features; labels in random order, the worst for memory access."""
    random = np.random.default_rng(1)
    block = random.standard_normal((4096, dimension), dtype=np.float32).astype(np.float16)
    features = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", dtype=np.float16, shape=(samples, dimension))
    for start in tqdm(range(0, samples, len(block)), desc="writing", unit="block"):
        features[start : start + len(block)] = np.roll(block, start // len(block), 1)[: samples - start]
    labels = random.integers(0, CLASSES, samples)
    names = [f"class {label}" for label in range(CLASSES)]
    empty = ClassMoments(CLASSES, dimension)  # not what is measured
    write_representations(path, Representations(names, empty, features, labels, np.arange(samples)))
    path.with_suffix(".npy").unlink()
    os.sync()


def forget(path: Path) -> None:
    """Drop the file's pages from the system's cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(kind: str, path: Path) -> dict:
    """Seconds, and this process's own memory at most, in MiB, of one kind."""
    held = [0]

    def watch() -> None:
        while held:
            status = Path("/proc/self/status").read_text()
            held[0] = max(held[0], int(status.partition("RssAnon:")[2].split()[0]) // 1024)
            time.sleep(0.05)

    found = read_representations(path)
    before = resource.getrusage(resource.RUSAGE_SELF)
    threading.Thread(target=watch, daemon=True).start()
    begin = time.monotonic()
    if kind.startswith("read"):
        with open(path, "rb", buffering=0) as file:
            buffer = bytearray(2**22)
            while file.readinto(buffer):
                pass
    elif kind.startswith("moments"):
        moments = ClassMoments(CLASSES, found.features.shape[1])
        moments.update(found.features, found.labels)
        assert moments.counts.sum() == len(found.labels)
    else:
        rows = 64 if "64" in kind else BLOCK // found.features.shape[1]
        total = torch.zeros(found.features.shape[1])
        for start in range(0, len(found.features), rows):
            total += torch.from_numpy(np.asarray(found.features[start : start + rows])).float().sum(0)
    seconds = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "memory_mib": held[0]}


def main(arguments: argparse.Namespace) -> None:
    """Measure and print the table."""
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.dest)))
        return
    path = arguments.dest / f"bench{SUFFIX}"
    rows = {kind: [] for kind in KINDS}
    try:
        make(path, arguments.samples, arguments.dimension)
        for _ in tqdm(range(arguments.rounds), desc="measuring", unit="round"):
            for kind in KINDS:
                if "cold" in kind:
                    forget(path)
                command = [sys.executable, __file__, "--measure", kind, "--dest", str(path)]
                found = subprocess.run(command, capture_output=True, text=True, check=True)
                rows[kind].append(json.loads(found.stdout))
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".npy").unlink(missing_ok=True)
    gigabytes = arguments.samples * arguments.dimension * 2 / 1e9
    lines = ["kind,seconds,cpu_seconds,gb_per_second,memory_mib,ratio_to_reading_cold,ratio_to_torch_sum"]
    for kind in KINDS:
        seconds = statistics.median(row["seconds"] for row in rows[kind])
        ratios = [
            statistics.median(
                row["seconds"] / other["seconds"] for row, other in zip(rows[kind], rows[base], strict=True)
            )
            for base in ("read, cold", "torch sum, warm")
        ]
        cpu = statistics.median(row["cpu_seconds"] for row in rows[kind])
        memory = max(row["memory_mib"] for row in rows[kind])
        lines.append(
            f'"{kind}",{seconds:.2f},{cpu:.2f},{gigabytes / seconds:.2f},{memory},{ratios[0]:.2f},{ratios[1]:.2f}'
        )
    about = f"# {arguments.samples} × {arguments.dimension} float16 ({gigabytes:.2f} GB), {CLASSES} classes, "
    about += f"median of {arguments.rounds} rounds, {torch.get_num_threads()} threads; {now()}; {source_revision()}; "
    about += f"{hardware()}; {versions()}"
    print("\n".join([about, *lines]))
    if arguments.output:
        write_text(arguments.output, "\n".join([about, *lines]) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="scripts/bench_moments.py", description=__doc__.split("\n")[0])
    options.add_argument("--dest", type=Path, required=True, help="a directory with 11 GB free for the samples")
    options.add_argument("--samples", type=positive, default=1_281_167, help="default: ImageNet's training images")
    options.add_argument("--dimension", type=positive, default=2048, help="of ResNet-50's features by default")
    options.add_argument("--rounds", type=positive, default=3, help="default 3")
    options.add_argument("--output", type=Path, help="also write the table to this file")
    options.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    return options


if __name__ == "__main__":
    run_command(parser(), main)
