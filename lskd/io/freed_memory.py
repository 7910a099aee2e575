"""Keep freed memory for the next training step, which asks for blocks of the same sizes."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt, in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let malloc keep what this process frees, from now on, and not return it to the system.

    On a CPU torch has no allocator of its own. A training step frees its activations, and the next asks the system
    for as much again, page by page, which fills each page with zeros first. The peak of memory stays the same, but the
    process holds it until it ends.

    Returns:
        Whether the C library can; without glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
