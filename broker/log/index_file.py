"""What the offset index and the time index share: fixed-size entries in memory, a file that follows behind.

Entries are kept in memory in the file's own form and written when the segment is rolled, flushed or closed: an append
costs no second system call. That is safe because a segment that was not flushed is scanned, and its indexes built
anew, after a crash; and an index is never trusted beyond what the log itself confirms.
"""

from __future__ import annotations

import struct

from .errors import CorruptFileError
from .file_system import FileSystem, remove_if_present, write_all


class IndexFile:
    """A sorted array of entries; loaded when it is first needed."""

    entry: struct.Struct

    def __init__(self, file_system: FileSystem, path: str, base_offset: int, size_bytes_max: int) -> None:
        self._file_system = file_system
        self.path = path
        self.base_offset = base_offset
        self.entries_max = size_bytes_max // self.entry.size
        self._entries: bytearray | None = None
        # Bytes of `_entries` that the file holds; it is never longer. -1: there is no file.
        self._written = -1
        self._last_in_file: tuple[int, ...] | None = None  # as long as nothing is loaded

    @property
    def loaded(self) -> bytearray:
        """The entries' bytes. :raises CorruptFileError: the file is missing or cannot be an index."""
        if self._entries is None:
            self._load()
        assert self._entries is not None
        return self._entries

    @property
    def count(self) -> int:
        return len(self.loaded) // self.entry.size

    @property
    def is_full(self) -> bool:
        """True if the segment has to be rolled; one place is kept for the entry that closing adds."""
        return self.count >= self.entries_max - 1

    def start_empty(self) -> None:
        """Begins without entries, whatever the file holds."""
        self._entries = bytearray()
        self._written = -1
        self._last_in_file = None
        if self._file_system.status(self.path) is not None:
            self._cut_file(0)
            self._written = 0

    def _load(self) -> None:
        try:
            descriptor = self._file_system.open(self.path)
        except FileNotFoundError as error:
            raise CorruptFileError(f"{self.path} is missing") from error
        try:
            data = bytearray()
            while part := self._file_system.pread(descriptor, 1 << 20, len(data)):
                data += part
        finally:
            self._file_system.close(descriptor)
        self._check(data)
        self._entries = data
        self._written = len(data)
        self._last_in_file = None

    def _check(self, data: bytearray) -> None:
        """Looks at the length and both ends; what lies between shows when it is used."""
        if len(data) % self.entry.size:
            raise CorruptFileError(f"{self.path} holds {len(data)} bytes, not a multiple of {self.entry.size}")
        if data and not self._ends_in_order(
            self.entry.unpack_from(data), self.entry.unpack_from(data, len(data) - self.entry.size), len(data)
        ):
            raise CorruptFileError(f"{self.path} is not in order")

    def _ends_in_order(self, first: tuple[int, ...], last: tuple[int, ...], size: int) -> bool:
        return min(first) >= 0 and (size == self.entry.size or (first[0] < last[0] and first[1] < last[1]))

    def check_file(self) -> None:
        """Looks at the file without loading it. :raises CorruptFileError: it is missing or cannot be an index."""
        status = self._file_system.status(self.path)
        if status is None:
            raise CorruptFileError(f"{self.path} is missing")
        size, width = status.size, self.entry.size
        if size % width:
            raise CorruptFileError(f"{self.path} holds {size} bytes, not a multiple of {width}")
        if size:
            descriptor = self._file_system.open(self.path)
            try:
                ends = self._file_system.pread(descriptor, width, 0) + self._file_system.pread(
                    descriptor, width, size - width
                )
            finally:
                self._file_system.close(descriptor)
            self._last_in_file = self.entry.unpack_from(ends, width)
            if not self._ends_in_order(self.entry.unpack_from(ends), self._last_in_file, size):
                raise CorruptFileError(f"{self.path} is not in order")

    def last_entry(self) -> tuple[int, ...] | None:
        """The last entry's two numbers; None if there is none. Does not load the file if it was checked."""
        if self._entries is None and self._last_in_file is not None:
            return self._last_in_file
        entries = self.loaded
        return self.entry.unpack_from(entries, len(entries) - self.entry.size) if entries else None

    def unload(self) -> None:
        """Gives the memory back, if the file holds everything."""
        if self._entries is not None and self._written == len(self._entries):
            self._entries = None

    def write_out(self) -> None:
        """Brings the file up to date. :raises OSError: the disk failed; calling it again is safe."""
        entries = self._entries
        if entries is None or self._written == len(entries):
            return
        descriptor = self._file_system.open(self.path, create=True)
        try:
            written = max(self._written, 0)
            write_all(self._file_system, descriptor, bytes(entries[written:]), written)
        finally:
            self._file_system.close(descriptor)
        self._written = len(entries)

    def keep(self, count: int) -> None:
        """Drops all but the first `count` entries."""
        size = count * self.entry.size
        del self.loaded[size:]
        if self._written > size:
            self._cut_file(size)
            self._written = size

    def _cut_file(self, size: int) -> None:
        descriptor = self._file_system.open(self.path)
        try:
            self._file_system.truncate(descriptor, size)
        finally:
            self._file_system.close(descriptor)

    def remove(self) -> None:
        """Removes the file; what is in memory stays."""
        remove_if_present(self._file_system, self.path)
        self._written = -1
