"""What a program of one's own sets before it computes; a library in somebody else's process leaves these alone.

Memory: the activations of a net are a few megabytes each, freed and asked for again many times a second. glibc returns
blocks of that size to the system at once, which has to clear them anew when they are asked for: a ninth of the time of
a folder's pictures, and more than half of the time of training.

Kernels: oneDNN makes a kernel for every shape it meets and keeps the last 1024, which are used up by the pictures of
some fifteen sizes; a folder of a hundred sizes takes half as long again.
"""

from __future__ import annotations

import ctypes
import os
import sys

# <malloc.h>: what is fetched from the system by itself, what may lie free at the end, and what is fetched in advance.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
SETTINGS = {M_MMAP_THRESHOLD: 1 << 25, M_TRIM_THRESHOLD: 1 << 29, M_TOP_PAD: 1 << 26}
ENVIRONMENT = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "4096"}


def tune() -> None:
    """All of it, for the command line; before the first net is asked."""
    keep_freed_memory()
    for name, value in KERNELS.items():
        os.environ.setdefault(name, value)


def keep_freed_memory() -> bool:
    """Let this process keep up to half a gigabyte of what it frees, and use it again.

    Whoever has set glibc's environment variables is left alone, and so is any other C library or allocator.

    Returns:
        Whether the C library took the settings.
    """
    if sys.platform != "linux" or any(name in os.environ for name in ENVIRONMENT):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in SETTINGS.items())
