"""The commands as a user types them, for tests."""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
SMALL = "--arch transformer --share-all-embeddings --encoder-embed-dim 32 --decoder-embed-dim 32 --encoder-layers 1"
SMALL += " --encoder-ffn-embed-dim 64 --decoder-ffn-embed-dim 64 --decoder-layers 1 --encoder-attention-heads 2"
SMALL += " --decoder-attention-heads 2 --optimizer adam --lr 3e-3 --max-tokens 1000 --cpu --num-workers 0"
SMALL += " --log-format json --log-interval 10 --required-batch-size-multiple 1"


def run(*command, cwd: Path = ROOT, status: int = 0, **environment) -> subprocess.CompletedProcess:
    """Run a command, ``python`` and ``fairseq-*`` being this environment's, and check its exit status."""
    command = [
        str(word)
        for part in command
        for word in (part.split() if isinstance(part, str) and "\n" not in part else [part])
    ]
    command[0] = str(Path(sys.executable).parent / command[0])
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment
    )
    assert result.returncode == status, (
        f"{command}\nstatus {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    )
    return result


def last_line(result: subprocess.CompletedProcess) -> str:
    """The last line of standard error: what a user reads when a command has refused."""
    return result.stderr.strip().splitlines()[-1]


def prepare(dest: Path, *options, **keywords) -> Path:
    """A data directory of sample sentences."""
    run("python data_prep/libreoffice_help.py --dest", dest, *options, **keywords)
    return dest


def train(data: Path, save_dir: Path, *options: str, **keywords) -> subprocess.CompletedProcess:
    """``fairseq-train`` of a small Transformer."""
    return run("fairseq-train", data, "--save-dir", save_dir, SMALL, "--user-dir lskd_fairseq", *options, **keywords)


def weights(checkpoint: Path) -> torch.Tensor:
    """All weights of a checkpoint in one vector; the loading is torch's safe one."""
    import lskd_fairseq  # noqa: F401

    state = torch.load(checkpoint, weights_only=True)
    return torch.cat([tensor.flatten().double() for _, tensor in sorted(state["model"].items())])
