"""The batch on which a loss became no number, kept where the run's checkpoints are, so that it can be looked at.

from lskd.records.nonfinite_batch import NAME
from lskd.io.tensor_files import mapped_tensors, read_about

read_about(directory / NAME)  # {"ids": which samples, "settings": of the run, "loss": "nan"}
mapped_tensors(directory / NAME)  # target (N,), student_logits and teacher_logits (N, V), float32
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lskd.io.tensor_files import write_tensors

NAME = "nan-batch.safetensors"
LARGEST = 2**26  # numbers of one tensor: 256 MB
SHOWN = 4  # ids in the message


def keep_batch(
    directory: str | os.PathLike, ids: Sequence, loss: float, settings: dict, tensors: Mapping[str, Tensor]
) -> str:
    """Write the file; what to tell the user, without a name of the run.

    Args:
        directory: of the run's checkpoints.
        ids: of the batch's samples: numbers, or names of files.
        loss: what it is.
        settings: of the run, as JSON has them.
        tensors: each with N rows. Where they are too many, those with numbers that are not finite are kept, then the
            first of the others; ``rows`` in the file says which.
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
    except OSError as error:  # that the loss is no number is what has to be told
        where = f"its logits could not be kept: {error}"
    shown = ", ".join(map(str, ids[:SHOWN])) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
    taught = [tensor for name, tensor in tensors.items() if name.startswith("teacher_logits")]
    finite = all((tensor < math.inf).all() for tensor in taught)  # a symbol may be masked by -inf
    advice = "try a smaller learning rate" if finite else "it is the teacher whose logits are not finite"
    return f"the loss is {loss} on the batch of {shown} ({where}); {advice}"


def _plain(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
