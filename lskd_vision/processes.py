"""What the processes of a training have to agree on before the first step."""

import socket
from collections.abc import Callable

from torch import distributed
from torch.utils.data import Dataset

from lskd.io.errors import InputError, input_error


def same_in_all_processes(load: Callable[[], Dataset], fingerprint: Callable[[Dataset], str], value: object) -> Dataset:
    """``load()``, when all processes have loaded the same; they may run on machines whose disks differ.

    Args:
        load: called once, in every process.
        fingerprint: of the images and labels that it returns.
        value: what an error calls them.

    Raises:
        InputError: in every process, where one cannot load or has loaded something else than the first.
    """
    if not distributed.is_initialized():
        return load()
    loaded, found, problem = None, None, None
    try:
        loaded = load()
        found = fingerprint(loaded)
    except (InputError, OSError) as error:
        problem = str(error)
    outcomes: list = [None] * distributed.get_world_size()
    distributed.all_gather_object(outcomes, (socket.gethostname(), found, problem))
    if problem and all(theirs == problem for _, _, theirs in outcomes):
        raise InputError(problem)
    first_host, expected, _ = outcomes[0]
    for rank, (host, theirs, their_problem) in enumerate(outcomes):
        if their_problem:
            raise InputError(f"process {rank} on {host}: {their_problem}")
        if theirs != expected:
            difference = f"process {rank} on {host} differs from process 0 on {first_host}"
            raise input_error(
                "--data-dir", value, f"must hold the same images and labels in all processes: {difference}"
            )
    return loaded
