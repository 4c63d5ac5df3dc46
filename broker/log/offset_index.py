"""The sparse map from offset to position in a segment: Kafka's `.index`, 8 bytes an entry.

An entry is (last offset of a batch minus the segment's base offset, position of that batch), both int32, big endian.
"""

from __future__ import annotations

import struct

from .index_file import IndexFile


class OffsetIndex(IndexFile):
    """Grows by one entry each index.interval.bytes."""

    entry = struct.Struct(">ii")

    def append(self, last_offset: int, position: int) -> None:
        """Notes that the batch at `position` ends with `last_offset`."""
        self.loaded.extend(self.entry.pack(last_offset - self.base_offset, position))

    def lookup(self, offset: int) -> tuple[int | None, int]:
        """Where to start looking for `offset`: (last offset of the batch there, its position); (None, 0) is the very
        start.
        """
        slot = self._slot(offset)
        if slot < 0:
            return None, 0
        relative, position = self.entry.unpack_from(self.loaded, slot * self.entry.size)
        return self.base_offset + relative, position

    def last(self) -> tuple[int, int] | None:
        """The last entry, as (last offset of the batch, its position)."""
        last = self.last_entry()
        return None if last is None else (self.base_offset + last[0], last[1])

    def truncate_to(self, offset: int) -> None:
        """Drops the entries for batches that reach `offset`."""
        self.keep(self._slot(offset - 1) + 1)

    def _slot(self, offset: int) -> int:
        """The last entry whose offset is not above `offset`; -1 if there is none."""
        entries, size = self.loaded, self.entry.size
        relative = offset - self.base_offset
        low, high = 0, len(entries) // size
        while low < high:
            middle = (low + high) // 2
            if self.entry.unpack_from(entries, middle * size)[0] <= relative:
                low = middle + 1
            else:
                high = middle
        return low - 1
