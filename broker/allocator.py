"""glibc's allocator, told what a broker does: it receives and reads by the megabyte, many times a second.

By default glibc gives freed memory back to the kernel as soon as a few megabytes of it lie at the end of the heap, and
the next megabytes come back as pages that the kernel has to clear again: of the processor time that a broker spent on
consumers, half went there.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

KEPT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Freed memory at the end of the heap that stays with the process."""
FROM_HEAP_BYTES_MAX: Final = 8 * 1024 * 1024
"""What is larger comes from the kernel, and goes back to it, each time."""

_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_MMAP_THRESHOLD: Final = -3
_VARIABLES: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Returns whether it took effect: not where the C library is another, or the environment says how it is to be."""
    if any(name in os.environ for name in _VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES_MAX)) and bool(mallopt(_MMAP_THRESHOLD, FROM_HEAP_BYTES_MAX))
