"""Sources of nondeterminism: why a run, repeated with the same seeds on the same machine, may give other results.

On a CPU there are none: with the same number of threads a run is bitwise reproducible, with any number of loader
processes. A different number of threads or another processor rounds differently; a record's ``hardware`` has both. On a
GPU it depends on torch's settings; a record has the causes, a sentence each, as ``nondeterminism``.
"""

import os
from dataclasses import dataclass

REPEATABLE_WORKSPACES = (":4096:8", ":16:8")  # according to NVIDIA's documentation of cuBLAS


@dataclass(frozen=True)
class Switches:
    """The settings that decide whether a GPU computes deterministically, with torch's defaults.

    Attributes:
        deterministic_algorithms: ``torch.use_deterministic_algorithms``.
        cudnn_deterministic: ``torch.backends.cudnn.deterministic``.
        cudnn_benchmark: ``torch.backends.cudnn.benchmark``.
        cublas_workspace: the environment's ``CUBLAS_WORKSPACE_CONFIG``.
        compile_disabled: the environment's ``TORCH_COMPILE_DISABLE``.
    """

    deterministic_algorithms: bool = False
    cudnn_deterministic: bool = False
    cudnn_benchmark: bool = False
    cublas_workspace: str | None = None
    compile_disabled: bool = False


def switches() -> Switches:
    """The settings of this process."""
    import torch

    return Switches(
        deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
        cudnn_deterministic=torch.backends.cudnn.deterministic,
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        cublas_workspace=os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        compile_disabled=os.environ.get("TORCH_COMPILE_DISABLE", "0") == "1",
    )


def nondeterminism(
    device: str, processes: int = 1, compiled: bool = False, switches: Switches | None = None
) -> list[str]:
    """A sentence for each cause that may make a repeated run differ; none on a CPU.

    Args:
        device: torch's device type, ``cpu`` or ``cuda``.
        processes: the number of processes whose gradients are summed.
        compiled: whether any part of training is compiled.
        switches: the settings that decide on a GPU; torch's defaults if None.

    >>> nondeterminism("cpu", processes=2)
    []
    >>> strict = Switches(deterministic_algorithms=True, cublas_workspace=":4096:8")
    >>> nondeterminism("cuda", switches=strict)
    []
    >>> nondeterminism("cuda", processes=2, switches=strict)
    ['NCCL chooses the order in which the gradients of 2 processes are summed.']
    """
    if device == "cpu":
        return []
    on = switches or Switches()
    causes: list[str] = []
    if not on.deterministic_algorithms:
        causes.append(
            "Kernels of the backward pass (of embeddings, indexing, interpolation, pooling, attention) may sum in an "
            "order that varies: torch.use_deterministic_algorithms is off."
        )
        if not on.cudnn_deterministic:
            causes.append("cuDNN may choose algorithms whose order of summation varies: its deterministic mode is off.")
    if on.cudnn_benchmark:
        causes.append("cuDNN times its algorithms anew in each run and takes the fastest: benchmark is on.")
    if on.cublas_workspace not in REPEATABLE_WORKSPACES:
        causes.append(
            "cuBLAS may sum in another order when several streams run: CUBLAS_WORKSPACE_CONFIG is neither "
            f"{' nor '.join(REPEATABLE_WORKSPACES)}."
        )
    if compiled and not on.compile_disabled:
        causes.append("torch.compile times its kernels whenever its cache is empty and takes the fastest.")
    if processes > 1:
        causes.append(f"NCCL chooses the order in which the gradients of {processes} processes are summed.")
    return causes
