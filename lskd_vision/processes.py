"""What the processes of a training have to agree on before the first step."""

import socket
from collections.abc import Callable
from typing import TypeVar

from torch import distributed

from lskd.errors import InputError, bad

T = TypeVar("T")


def same_in_all_processes(load: Callable[[], T], fingerprint: Callable[[T], str], argument: str, value: object) -> T:
    """``load()``, when all processes have loaded the same; they may run on machines whose disks differ.

    Args:
        load: called once, in every process.
        fingerprint: of what it returns.
        argument: what an error calls it.
        value: what was given for it.

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
    (first_host, expected, _), *_ = outcomes
    if problem and all(each == problem for _, _, each in outcomes):
        raise InputError(problem)
    for rank, (host, theirs, their_problem) in enumerate(outcomes):
        if their_problem:
            raise InputError(f"process {rank} on {host}: {their_problem}")
        if theirs != expected:
            raise bad(argument, value, f"differs between process 0 on {first_host} and process {rank} on {host}")
    return loaded
