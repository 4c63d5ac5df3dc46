"""Whether the offsets of a log may have gaps, and which records those that are missing went for.

Only compaction makes them: a batch of which no record is left goes, and the offsets of the others stay. In a log that
was never compacted each batch begins where the one before it ended, and whatever does not is damage (rule 18). So the
two are told apart by a file beside the segments, which is on the disk before the first gap is. It stays when the
topic's cleanup.policy changes: the gaps stay too.

Gaps lie between the batches of a segment, or before its first: each segment still ends where the next one begins.

A record is missing for the sake of a later one with its key. The file holds an offset below which all of these lie: a
log that is cut below it, as after an unclean election, lacks records that nothing took the place of.
"""

from __future__ import annotations

from typing import Final

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

    @property
    def allowed(self) -> bool:
        """True if there may be gaps."""
        return self._cleaned_by is not None

    @property
    def cleaned_by(self) -> int:
        """What is missing is so for the sake of records below this offset."""
        return 0 if self._cleaned_by is None else self._cleaned_by

    def load(self) -> None:
        """Reads the file, which is there. :raises OSError: the disk failed."""
        data = read_file(self._file_system, self._path).strip()
        # What cannot be read promises nothing: then any cut may have taken the place of something.
        self._cleaned_by = int(data) if data.isdigit() else _ANYWHERE

    def allow(self, cleaned_by: int) -> None:
        """Returns once it is on the disk that there may be gaps, for the sake of records below `cleaned_by`. Blocks
        where that is not there yet.

        :raises OSError: the disk failed.
        """
        if self._cleaned_by is None or cleaned_by > self._cleaned_by:
            write_file_atomically(self._file_system, self._path, b"%d\n" % cleaned_by)
            self._file_system.sync_folder(self._directory)
            self._cleaned_by = cleaned_by

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
