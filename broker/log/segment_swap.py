"""Puts a cleaned segment into a log in place of the segments it was made from, so that no crash leaves half of it.

    step                                       on the disk                      what a restart makes of it
    the cleaner has written and synced it      .cleaned files                   they are removed
    `prepare`, and the folder is synced        .log.swap: the point of no       it is put in place: what it replaces
                                               return                           goes, it gets its name
    `switch`, and the folder is synced         the segments that it replaces    the same
                                               are .deleted, but for the
                                               first, whose name it will get
    `finish`                                   the first is .deleted too, and   nothing is left to do
                                               it has its name

A cleaned segment keeps its last batch, if need be without records, so it tells by itself which segments it replaces:
those that begin in it. Reads go to the old segments before `switch` and to the new one after it; both happen on the
event loop, between two reads. Only the syncs in between are waited for in a thread (see `PartitionLog`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from .descriptor_pool import DescriptorPool
from .file_system import FileSystem, remove_if_present
from .log_config import LogConfig
from .segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    Segment,
    file_name,
)
from .segment_list import SegmentList

logger = logging.getLogger(__name__)

_LOG_SWAP: Final = LOG_SUFFIX + SWAP_SUFFIX


class SegmentSwap:
    """One swap under way. Every method may raise OSError."""

    def __init__(
        self, file_system: FileSystem, directory: str, segments: SegmentList, old: Sequence[Segment], new: Segment
    ) -> None:
        self._file_system = file_system
        self._directory = directory
        self._segments = segments
        self._old = old
        self.new = new
        self.switched = False

    def prepare(self) -> None:
        """Renames the new files to .swap, the log file last."""
        self.new.rename_files(SWAP_SUFFIX)

    def switch(self) -> list[str]:
        """The new segment takes the place of the old; returns the files that may be removed later."""
        self.switched = True
        self._segments.replace(self._old, self.new)
        renamed = []
        for segment in self._old[1:]:
            renamed += segment.rename_deleted()
        self._old[0].removed = True
        self._old[0].close_file()
        return renamed

    def finish(self) -> list[str]:
        """Gives the new segment its name; returns the files of the segment that had it, to be removed later.

        Not simply over them: to let go of a large file takes the system longer than the event loop may wait.
        """
        renamed = self._old[0].rename_deleted()
        self.new.rename_files("")
        return renamed

    def settle(self) -> list[str]:
        """Ends the swap at once, one way or the other: the log is to be changed in some other way. As `finish`."""
        if self.switched:
            self._file_system.sync_folder(self._directory)
            return self.finish()
        self.new.remove()
        # From here on it may not come back, or a restart would undo what comes now.
        self._file_system.sync_folder(self._directory)
        return []


def complete_swaps(
    file_system: FileSystem, directory: str, names: Sequence[str], config: LogConfig, now_ms: int
) -> bool:
    """For recovery: ends every swap that was past the point of no return; True if there was one."""
    swaps = sorted(name for name in names if name.endswith(_LOG_SWAP))
    for name in swaps:
        _complete(file_system, directory, int(name.removesuffix(_LOG_SWAP)), names, config, now_ms)
    return bool(swaps)


def _complete(
    file_system: FileSystem, directory: str, base_offset: int, names: Sequence[str], config: LogConfig, now_ms: int
) -> None:
    new = Segment(file_system, DescriptorPool(1), directory, base_offset, config, now_ms, suffix=SWAP_SUFFIX)
    status = file_system.status(new.path)
    new.size = 0 if status is None else status.size
    end = base_offset
    for _, header in new.headers():
        end = header.next_offset
    new.close_file()
    if end == base_offset:  # it was synced before it got its name, so this is damage: keep what it would replace
        logger.error("segment_swap_empty path=%s", new.path)
        new.remove()
        return
    logger.info("segment_swap_completed path=%s base_offset=%d end_offset=%d", new.path, base_offset, end)
    for stem in {name.partition(".")[0] for name in names if name.endswith(LOG_SUFFIX)}:
        if stem.isdecimal() and base_offset < int(stem) < end:
            for suffix in (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX):
                remove_if_present(file_system, f"{directory}/{file_name(int(stem), suffix)}")
    file_system.sync_folder(directory)
    for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX):
        path = f"{directory}/{file_name(base_offset, suffix)}"
        # One that is not there is made anew; what has its name now belongs to the old segment.
        if file_system.status(path + SWAP_SUFFIX) is None:
            remove_if_present(file_system, path)
        else:
            file_system.replace(path + SWAP_SUFFIX, path)
    file_system.replace(new.path, f"{directory}/{file_name(base_offset, LOG_SUFFIX)}")
    file_system.sync_folder(directory)
