"""Whether the offsets of a log may have gaps, and which records those that are missing went for.

Only compaction makes them: a batch of which no record is left goes, and the offsets of the others stay. In a log that
was never compacted each batch begins where the one before it ended, and whatever does not is damage (rule 18). So the
two are told apart by a file beside the segments, which is on the disk before the first gap is. It stays when the
topic's cleanup.policy changes: the gaps stay too.

Gaps lie between the batches of a segment, or before its first: each segment still ends where the next one begins.

A record is missing for the sake of a later one with its key. The file holds an offset below which all of these lie: a
log that is cut below it, as after an unclean election, lacks records that nothing took the place of. So does a log that
was copied up to a point below it only, and goes on with what a leader has who lost the rest: beside the offset stands a
leader epoch in which all below was there, by which a later leader can tell.
"""

from __future__ import annotations

from typing import Final

from ...proto.record_batch import RecordBatchHeader
from .file_system import FileSystem, read_file, write_file_atomically

OFFSET_GAPS: Final = "offset-gaps"
_ANYWHERE: Final = 2**63 - 1
"""For a file that is empty, as those of earlier versions are."""


class OffsetGaps:
    """Of one log."""

    def __init__(self, file_system: FileSystem, directory: str) -> None:
        self._file_system = file_system
        self._path = f"{directory}/{OFFSET_GAPS}"
        self._directory = directory
        self._cleaned_by: int | None = None  # as it is on the disk; None where there is no file
        self._epoch: int | None = None  # likewise; None where it is not known

    @property
    def allowed(self) -> bool:
        """True if there may be gaps."""
        return self._cleaned_by is not None

    @property
    def cleaned_by(self) -> int:
        """What is missing is so for the sake of records below this offset."""
        return 0 if self._cleaned_by is None else self._cleaned_by

    @property
    def cleaned_by_epoch(self) -> int | None:
        """A leader epoch in which all below `cleaned_by` was there; None where it is not known."""
        return self._epoch

    def load(self) -> None:
        """Reads the file, which is there. :raises OSError: the disk failed."""
        numbers = read_file(self._file_system, self._path).split()
        # What cannot be read promises nothing: then any cut may have taken the place of something.
        readable = 1 <= len(numbers) <= 2 and all(map(bytes.isdigit, numbers))
        self._cleaned_by = int(numbers[0]) if readable else _ANYWHERE
        self._epoch = int(numbers[1]) if readable and len(numbers) > 1 else None

    def allow(self, cleaned_by: int, epoch: int = 0) -> None:
        """Returns once it is on the disk that there may be gaps, for the sake of records below `cleaned_by`, all of
        which were there in this leader epoch. Blocks where that is not there yet.

        :raises OSError: the disk failed.
        """
        if self._cleaned_by is None or cleaned_by > self._cleaned_by:
            write_file_atomically(self._file_system, self._path, b"%d %d\n" % (cleaned_by, epoch))
            self._file_system.sync_folder(self._directory)
            self._cleaned_by, self._epoch = cleaned_by, epoch

    def log_was_emptied(self) -> None:
        """Nothing is missing any more, of what comes next. The file stays: what comes next may have gaps. Blocks.

        :raises OSError: the disk failed.
        """
        if self._cleaned_by:
            # Else a loss of power might bring the old segments back, and nobody knew what they lack.
            self._file_system.sync_folder(self._directory)
            self._cleaned_by = 0
            write_file_atomically(self._file_system, self._path, b"0\n")

    def fit(self, base_offset: int, expected: int) -> bool:
        """Whether a batch may begin at `base_offset` where the last one, or the segment's name, says `expected`."""
        return base_offset == expected or (self.allowed and base_offset > expected)


def lacks_records(header: RecordBatchHeader) -> bool:
    """True where compaction has left less of a batch than its offsets say."""
    return header.record_count <= header.last_offset_delta
