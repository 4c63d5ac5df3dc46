"""The `.snapshot` files of a log: producer state as it was at an offset, which is the file's name.

One is written for the start of each segment when the log rolls, and one for the log end at a clean stop. To know the
state at any offset, take the latest snapshot not past it and the headers of the batches between.
"""

from __future__ import annotations

import logging
from typing import Final

from ...proto.identifiers import Offset
from .errors import CorruptFileError
from .file_system import FileSystem, read_file, remove_if_present, write_all
from .offset_gaps import lacks_records
from .producer_state import ProducerStates
from .segment import DELETED_SUFFIX, file_name
from .segment_list import SegmentList

logger = logging.getLogger(__name__)

SNAPSHOT_SUFFIX: Final = ".snapshot"


class ProducerSnapshots:
    """The files, by offset."""

    def __init__(self, file_system: FileSystem, folder: str, offsets: list[int]) -> None:
        self._file_system = file_system
        self._folder = folder
        self._offsets = sorted(offsets)

    @property
    def latest_offset(self) -> int | None:
        """Where the latest one was taken."""
        return self._offsets[-1] if self._offsets else None

    def path(self, offset: int) -> str:
        """The file of the snapshot at `offset`."""
        return f"{self._folder}/{file_name(offset, SNAPSHOT_SUFFIX)}"

    def write(self, states: ProducerStates, *, sync: bool) -> None:
        """Writes a snapshot at `states.end_offset`. :raises OSError: the disk failed."""
        offset = states.end_offset
        path = self.path(offset)
        descriptor = self._file_system.open(path, create=True)
        try:
            self._file_system.truncate(descriptor, 0)
            write_all(self._file_system, descriptor, states.encode(), 0)
            if sync:
                self._file_system.sync(descriptor)
        finally:
            self._file_system.close(descriptor)
        if offset not in self._offsets:
            self._offsets.append(offset)
            self._offsets.sort()

    def load_latest(self, start_offset: int, end_offset: int) -> ProducerStates:
        """The latest good snapshot not past `end_offset`; an empty state at `start_offset` if there is none.

        Those that are past it, or cannot be read, are removed: they describe a log that is no more.
        """
        while self._offsets:
            offset = self._offsets[-1]
            if offset < start_offset:
                break
            if offset <= end_offset:
                try:
                    return ProducerStates.decode(read_file(self._file_system, self.path(offset)), Offset(offset))
                except CorruptFileError as error:
                    logger.warning("producer_snapshot_corrupt path=%s error=%s", self.path(offset), error)
            self._offsets.pop()
            remove_if_present(self._file_system, self.path(offset))
        return ProducerStates(Offset(start_offset))

    def state_at(self, segments: SegmentList, end_offset: Offset, trusted: Offset) -> ProducerStates:
        """Producer state at the log end: the latest snapshot not past `trusted`, and the headers after it."""
        first = segments.base_offset
        states = self.load_latest(first, min(max(trusted, first), end_offset))
        expected: int = states.end_offset
        for segment in segments.from_offset(states.end_offset):
            for _, header in segment.headers():
                if header.base_offset < states.end_offset:
                    continue
                if header.base_offset != expected or lacks_records(header):
                    states.batch_missing()  # compaction took it, when its producer was forgotten
                if header.producer_id >= 0:
                    states.record(header, header.base_offset, header.max_timestamp)
                expected = header.next_offset
        if expected != end_offset:
            states.batch_missing()
        states.end_offset = end_offset
        return states

    def remove_all(self) -> None:
        """Removes every snapshot."""
        while self._offsets:
            remove_if_present(self._file_system, self.path(self._offsets.pop()))

    def keep_only(self, offsets: set[int]) -> None:
        """Removes those that belong to no segment, but for the latest of all: a clean stop wrote it."""
        for offset in self._offsets[:-1]:
            if offset not in offsets:
                self._offsets.remove(offset)
                remove_if_present(self._file_system, self.path(offset))

    def rename_deleted(self, begin: int, end: int) -> list[str]:
        """Takes those from `begin` up to `end` out by their names; returns the new ones, to be removed later."""
        renamed = []
        for offset in [offset for offset in self._offsets if begin <= offset < end]:
            self._offsets.remove(offset)
            path = self.path(offset)
            if self._file_system.status(path) is not None:
                self._file_system.replace(path, path + DELETED_SUFFIX)
                renamed.append(path + DELETED_SUFFIX)
        return renamed
