"""A bound on open files: ten thousand partitions must not need ten thousand descriptors.

Whoever holds a descriptor registers it here. When there are too many, the pool closes those that were not used since
it last looked (second chance): the hot path pays one attribute, not a move in a list.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Protocol


class DescriptorHolder(Protocol):
    """Something with one open file that it can open again."""

    recently_used: bool

    def release_descriptor(self) -> bool:
        """Closes it; False if that cannot be done just now."""


class DescriptorPool:
    """At most `limit` holders have their file open, except while more than that are busy with it."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 1)
        self._open: deque[DescriptorHolder] = deque()
        self._lock = Lock()

    @property
    def open_count(self) -> int:
        """How many have their file open."""
        return len(self._open)

    def opened(self, holder: DescriptorHolder) -> None:
        """`holder` has opened its file; another may lose its own."""
        with self._lock:
            self._open.append(holder)
            chances = 2 * len(self._open)
            while len(self._open) > self._limit and chances:
                chances -= 1
                candidate = self._open.popleft()
                if candidate is holder or candidate.recently_used or not candidate.release_descriptor():
                    candidate.recently_used = False
                    self._open.append(candidate)

    def closed(self, holder: DescriptorHolder) -> None:
        """`holder` closed its file by itself."""
        with self._lock:
            if holder in self._open:
                self._open.remove(holder)
