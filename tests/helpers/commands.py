"""The commands as a user types them, for tests."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.forked_commands import Forked, can_fork, hand_over, run_forked

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--arch transformer --share-all-embeddings --encoder-embed-dim 32 --decoder-embed-dim 32 --encoder-layers 1"
SMALL += " --encoder-ffn-embed-dim 64 --decoder-ffn-embed-dim 64 --decoder-layers 1 --encoder-attention-heads 2"
SMALL += " --decoder-attention-heads 2 --optimizer adam --lr 3e-3 --max-tokens 1000 --cpu --num-workers 0"
SMALL += " --log-format json --log-interval 10 --required-batch-size-multiple 1"


def run(*command, cwd: Path = ROOT, status: int = 0, fresh: bool = False, **environment) -> subprocess.CompletedProcess:
    """Run a command of this environment, and check its exit status.

    It is forked from a process that has imported much of what it needs, unless it must be ``fresh`` or has environment
    variables of its own.
    """
    command = words_of(*command)
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    if fresh or environment or not can_fork(command):
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=variables)
    else:
        result = run_forked(command, cwd, variables)
    assert result.returncode == status, (
        f"{command}\nstatus {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    )
    return result


def words_of(*command) -> list[str]:
    """The words of a command of this environment: strings are split, but for those of several lines; paths are not."""
    words = [
        str(word)
        for part in command
        for word in (part.split() if isinstance(part, str) and "\n" not in part else [part])
    ]
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def start(*command, cwd: Path = ROOT, **options) -> Forked:
    """Start a command of this environment in the background, in a process group of its own, where Ctrl-C ends it."""
    return Forked(words_of(*command), cwd, os.environ | {"OMP_NUM_THREADS": "1"}, group=True, **options)


def last_line(result: subprocess.CompletedProcess) -> str:
    """The last line of standard error: what a user reads when a command has refused."""
    return result.stderr.strip().splitlines()[-1]


def prepare(dest: Path, *options, **keywords) -> Path:
    """A data directory of sample sentences."""
    with hand_over():  # it starts fairseq-preprocess
        run("python data_prep/libreoffice_help.py --dest", dest, *options, **keywords)
    return dest


def train(data: Path, save_dir: Path, *options: str, **keywords) -> subprocess.CompletedProcess:
    """``fairseq-train`` of a small Transformer."""
    return run("fairseq-train", data, "--save-dir", save_dir, SMALL, "--user-dir lskd_fairseq", *options, **keywords)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def distribution() -> str:
    """The options of ``fairseq-train`` that make it one of two processes on a CPU, beside its own rank."""
    port = free_port()
    options = f"--distributed-world-size 2 --distributed-init-method tcp://127.0.0.1:{port} --distributed-no-spawn"
    return options + " --distributed-backend gloo --ddp-backend legacy_ddp"


def two_processes(command: str) -> str:
    """Two processes of one training, as two machines start them; the output of the first."""
    processes = [start(f"{command} --distributed-rank {rank} --device-id {rank}") for rank in range(2)]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs[0][0]


def started_together(commands: list[list]) -> list[tuple[int, str]]:
    """The processes of one training as torchrun starts them, but each with its own words: status and output of each."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(commands))}
    with contextlib.ExitStack() as stack:
        processes, outputs = [], []
        for rank, command in enumerate(commands):
            environment = os.environ | {"OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)} | place
            outputs.append(stack.enter_context(tempfile.TemporaryFile("w+")))
            processes.append(Forked(list(map(str, command)), ROOT, environment, outputs[-1], outputs[-1]))
        found = [process.wait(timeout=300) for process in processes]
        for output in outputs:
            output.seek(0)
        return [(status, output.read()) for status, output in zip(found, outputs, strict=True)]


def weights(checkpoint: Path) -> "torch.Tensor":
    """All weights of a checkpoint in one vector; the loading is torch's safe one."""
    import torch

    import lskd_fairseq  # noqa: F401

    state = torch.load(checkpoint, weights_only=True)
    return torch.cat([tensor.flatten().double() for _, tensor in sorted(state["model"].items())])
