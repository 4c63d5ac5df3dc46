"""What becomes of the segments below the active one: they are dropped from the front, or replaced by cleaned ones.

The files that go are renamed at once and removed later, when whoever may still read from them is through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from ...proto.errors import KafkaStorageError
from ...proto.identifiers import Offset, TopicPartition
from .file_system import FileSystem
from .log_config import LogConfig
from .log_reader import LogReader
from .producer_snapshots import ProducerSnapshots
from .retention import SegmentAge, deletable_segments
from .segment import Segment
from .segment_list import SegmentList
from .segment_swap import SegmentSwap

logger = logging.getLogger(__name__)


class OldSegments:
    """Of one log; `fail` marks that log as not to be used until it is opened anew."""

    def __init__(
        self,
        topic_partition: TopicPartition,
        directory: str,
        segments: SegmentList,
        reader: LogReader,
        snapshots: ProducerSnapshots,
        file_system: FileSystem,
        fail: Callable[[str], None],
    ) -> None:
        self._topic_partition = topic_partition
        self._directory = directory
        self._segments = segments
        self._reader = reader
        self._snapshots = snapshots
        self._file_system = file_system
        self._fail = fail
        self._deleted_files: list[str] = []
        self._swap: SegmentSwap | None = None
        self._names_unsynced = False

    def count_deletable(
        self, config: LogConfig, now_ms: int, log_start_offset: Offset, log_end_offset: Offset, high_watermark: Offset
    ) -> int:
        """How many segments, from the front, have had their time; all of them may have."""
        ends = self._segments.ends(log_end_offset)
        ages = [
            SegmentAge(end, segment.size, segment.largest[0], segment.modified_ms)
            for segment, end in zip(self._segments, ends, strict=True)
        ]
        return deletable_segments(
            ages,
            now_ms=now_ms,
            log_start_offset=log_start_offset,
            high_watermark=high_watermark,
            retention_ms=config.retention_ms,
            retention_bytes=config.retention_bytes,
        )

    def drop(self, count: int) -> None:
        """Takes the first `count` segments out of the log. :raises OSError: the disk failed."""
        self.settle()
        self._reader.forget_positions()
        for _ in range(count):
            self._deleted_files += self._segments.take_first().rename_deleted()
        self._deleted_files += self._snapshots.rename_deleted(0, self._segments.base_offset)

    def take_deleted_files(self) -> list[str]:
        """Files renamed since the last call."""
        files, self._deleted_files = self._deleted_files, []
        return files

    # -- compaction

    async def replace(self, old: Sequence[Segment], new: Segment) -> bool:
        """Puts a cleaned segment, whose files are synced, in the place of `old`; see `segment_swap.py`.

        False if the log was changed meanwhile: then it is as it was, and what was cleaned is of no use any more.

        :raises KafkaStorageError: the disk failed. If that was half-way, the log is marked as failed; a restart, or
        opening it anew, ends what was begun.
        """
        if self._swap is not None or not self._segments.holds(old):
            return False
        swap = self._swap = SegmentSwap(self._file_system, self._directory, self._segments, old, new)
        snapshots_end = self._segments.end_of(old[-1])
        try:
            swap.prepare()
            await asyncio.to_thread(self._file_system.sync_folder, self._directory)
            if self._swap is not swap:
                return False
            self._reader.forget_positions()
            self._deleted_files += swap.switch()
            self._deleted_files += self._snapshots.rename_deleted(old[0].base_offset + 1, snapshots_end)
            await asyncio.to_thread(self._file_system.sync_folder, self._directory)
            if self._swap is swap:
                self._deleted_files += swap.finish()
                self._swap = None
                self._names_unsynced = True
        except OSError as error:
            if self._swap is not swap:
                return swap.switched  # the log was closed, and its folder is gone
            self._give_up(swap, error)
            raise KafkaStorageError(f"{self._topic_partition}: segments not replaced: {error}") from error
        return True

    def _give_up(self, swap: SegmentSwap, error: OSError) -> None:
        self._swap = None
        reason = f"segments were not replaced: {error}"
        if not swap.switched:
            try:
                swap.settle()
            except OSError as second:
                reason += f"; and {second}"
            else:
                return
        self._fail(reason)

    def settle(self) -> None:
        """Ends a swap that is under way, before the log is changed otherwise. :raises OSError: the disk failed."""
        swap, self._swap = self._swap, None
        if swap is not None:
            try:
                self._deleted_files += swap.settle()
            except OSError as error:  # half-way: only the next start can end it
                self._fail(f"segments were not replaced: {error}")
                raise
            self._names_unsynced = True

    def sync_names(self) -> None:
        """For a clean stop: the names of replaced segments are on the disk. :raises OSError: the disk failed."""
        self.settle()
        if self._names_unsynced:
            self._file_system.sync_folder(self._directory)
            self._names_unsynced = False

    def abandon(self) -> None:
        """The files are closed without another word to the disk: a swap is left to the next start."""
        self._swap = None
