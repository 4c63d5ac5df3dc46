"""The sparse map from timestamp to offset in a segment: Kafka's `.timeindex`, 12 bytes an entry.

An entry is (timestamp int64, offset minus the segment's base int32): no batch up to that offset is newer than the
timestamp. Both grow from entry to entry, although the batches' own timestamps need not.
"""

from __future__ import annotations

import struct

from .index_file import IndexFile


class TimeIndex(IndexFile):
    """Grows together with the offset index, whenever the largest timestamp has grown."""

    entry = struct.Struct(">qi")

    def maybe_append(self, timestamp_ms: int, offset: int) -> None:
        """Notes the largest timestamp so far and the last offset of its batch, unless that is known already."""
        entries = self.loaded
        if entries and timestamp_ms <= self.entry.unpack_from(entries, len(entries) - self.entry.size)[0]:
            return
        if timestamp_ms >= 0:
            entries.extend(self.entry.pack(timestamp_ms, offset - self.base_offset))

    def last(self) -> tuple[int, int]:
        """(largest timestamp noted, offset); (-1, base offset) if there is none."""
        last = self.last_entry()
        return (-1, self.base_offset) if last is None else (last[0], self.base_offset + last[1])

    def lookup(self, timestamp_ms: int) -> int:
        """An offset such that no batch before it is as new as `timestamp_ms`."""
        entries, size = self.loaded, self.entry.size
        low, high = 0, len(entries) // size
        while low < high:
            middle = (low + high) // 2
            if self.entry.unpack_from(entries, middle * size)[0] < timestamp_ms:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return self.base_offset
        return int(self.base_offset + self.entry.unpack_from(entries, (low - 1) * size)[1])

    def truncate_to(self, offset: int) -> None:
        """Drops the entries at or past `offset`."""
        entries, size = self.loaded, self.entry.size
        count = len(entries) // size
        while count and self.base_offset + self.entry.unpack_from(entries, (count - 1) * size)[1] >= offset:
            count -= 1
        self.keep(count)
