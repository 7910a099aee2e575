"""Save the batch on which the loss became non-finite, beside the run's checkpoints, for inspection.

from lskd.records.nonfinite_batch import NAME
from lskd.io.tensor_files import mapped_tensors, read_about

read_about(directory / NAME)  # {"ids": of the samples, "settings": of the run, "loss": "nan"}
mapped_tensors(directory / NAME)  # target (N,), student_logits and teacher_logits (N, V), float32
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lskd.io.errors import shortened
from lskd.io.tensor_files import write_tensors

NAME = "nan-batch.safetensors"
LARGEST = 2**26  # numbers of one tensor: 256 MB
SHOWN = 4  # ids in the message


def keep_batch(
    directory: str | os.PathLike[str],
    ids: Sequence[object],
    loss: float,
    settings: dict[str, Any],
    tensors: Mapping[str, Tensor],
) -> str:
    """Write the batch to a file, and return a message for the user, which does not name the run.

    Args:
        directory: directory of the run's checkpoints.
        ids: ids of the batch's samples: numbers, or file names.
        loss: the non-finite value.
        settings: settings of the run, as JSON can hold them.
        tensors: tensors with N rows each. If there are too many rows, those with non-finite numbers are kept first; the
            tensor ``rows`` in the file has the indices of those kept.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    finite = torch.stack([each.isfinite().reshape(len(each), -1).all(1) for each in tensors.values()]).all(0)
    most = LARGEST // max(each[:1].numel() or 1 for each in tensors.values())
    rows = torch.argsort(finite, stable=True)[: max(1, most)].sort().values
    kept = {name: _plain(tensor[rows]) for name, tensor in tensors.items()} | {"rows": rows.numpy()}
    path = Path(directory) / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, kept, {"ids": list(ids), "loss": str(loss), "settings": settings})
        where = f"its logits: {path}"
    except OSError as error:  # the non-finite loss is what has to be reported
        where = f"its logits could not be kept: {error}"
    taught = [tensor for name, tensor in tensors.items() if name.startswith("teacher_logits")]
    finite_teacher = all((tensor < math.inf).all() for tensor in taught)  # -inf masks a class
    advice = "try a smaller learning rate" if finite_teacher else "it is the teacher whose logits are not finite"
    return f"the loss is {loss} on the batch of {shortened(ids, SHOWN)} ({where}); {advice}"


def _plain(tensor: Tensor) -> np.ndarray:
    """A tensor as an array; floating-point tensors become float32."""
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
