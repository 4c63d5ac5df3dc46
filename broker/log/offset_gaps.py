"""Whether the offsets of a log may have gaps.

Only compaction makes them: a batch of which no record is left goes, and the offsets of the others stay. In a log that
was never compacted each batch begins where the one before it ended, and whatever does not is damage (rule 18). So the
two are told apart by an empty file beside the segments, which is on the disk before the first gap is. It stays when
the topic's cleanup.policy changes: the gaps stay too.

Gaps lie between the batches of a segment, or before its first: each segment still ends where the next one begins.
"""

from __future__ import annotations

from typing import Final

from .file_system import FileSystem, write_file_atomically

OFFSET_GAPS: Final = "offset-gaps"


class OffsetGaps:
    """Of one log."""

    def __init__(self, file_system: FileSystem, directory: str, *, allowed: bool) -> None:
        self._file_system = file_system
        self._directory = directory
        self.allowed = allowed

    def allow(self) -> None:
        """Returns once it is on the disk that there may be gaps; blocks, once in the life of a log.

        :raises OSError: the disk failed.
        """
        if not self.allowed:
            write_file_atomically(self._file_system, f"{self._directory}/{OFFSET_GAPS}", b"")
            self._file_system.sync_folder(self._directory)
            self.allowed = True

    def fit(self, base_offset: int, expected: int) -> bool:
        """Whether a batch may begin at `base_offset` where the last one, or the segment's name, says `expected`."""
        return base_offset == expected or (self.allowed and base_offset > expected)
