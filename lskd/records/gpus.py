"""The GPUs of this machine, without loading torch."""

import os
import subprocess


def visible_gpus() -> list[str]:
    """CUDA's identifiers of the GPUs that this process may use: those in ``CUDA_VISIBLE_DEVICES``, else all."""
    if chosen := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return chosen.split(",")
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return []
    return [line.partition(":")[0].removeprefix("GPU ") for line in listed.stdout.splitlines() if line[:4] == "GPU "]
