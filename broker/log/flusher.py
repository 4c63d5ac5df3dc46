"""Brings a log to the disk without holding up the event loop: fdatasync in a thread, one at a time per log.

The recovery point moves only after the sync, and never past a truncation that happened meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ...proto.errors import KafkaStorageError
from ...proto.identifiers import Offset
from .checkpoints import LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA
from .file_system import FileSystem, sync_file
from .segment import Segment
from .segment_list import SegmentList

if TYPE_CHECKING:
    from .partition_log import PartitionLog

logger = logging.getLogger(__name__)


class Flusher:
    """Owns the recovery point of one log."""

    def __init__(
        self, log: PartitionLog, segments: SegmentList, file_system: FileSystem, recovery_point: Offset
    ) -> None:
        self._log = log
        self._segments = segments
        self._file_system = file_system
        self.recovery_point = recovery_point
        self._epochs_written = 0  # how often the epoch checkpoint was, without waiting for the disk
        self._epochs_synced = 0  # how many of these are on the disk
        self._own_name_synced = False
        self._running: asyncio.Future[None] | None = None
        # The lowest truncation that no sync has followed yet: on disk the old tail may still be there.
        self._truncation: int | None = None

    @property
    def truncation_pending(self) -> bool:
        """On the disk there may still be a tail that the log no longer has."""
        return self._truncation is not None

    @property
    def epochs_unsynced(self) -> bool:
        """The epoch checkpoint was written, and the disk may not have it."""
        return self._epochs_synced < self._epochs_written

    def epochs_written(self, *, synced: bool) -> None:
        """The epoch checkpoint was written; one that is not synced is so before the recovery point moves."""
        self._epochs_written += 1
        if synced:
            self._epochs_synced = self._epochs_written

    async def sync_epochs(self) -> None:
        """Returns once the epoch checkpoint is on the disk. :raises KafkaStorageError: the disk failed."""
        written = self._epochs_written
        try:
            await asyncio.to_thread(self._sync_epoch_checkpoint)
        except OSError as error:
            if not self._log.closed:
                raise KafkaStorageError(f"{self._log.topic_partition}: epoch checkpoint not synced: {error}") from error
        else:
            self._epochs_synced = max(self._epochs_synced, written)

    def _sync_epoch_checkpoint(self) -> None:
        sync_file(self._file_system, f"{self._log.directory}/{LEADER_EPOCH_CHECKPOINT}")

    def truncated_to(self, offset: int) -> None:
        """What was on disk from `offset` on is not any more."""
        self.recovery_point = min(self.recovery_point, Offset(offset))
        if self._truncation is None or offset < self._truncation:
            self._truncation = offset

    async def flush(self, target: Offset) -> None:
        """Returns once all below `target` is on disk. :raises KafkaStorageError: the disk failed."""
        while self._is_needed(target) and not self._log.closed:
            if self._running is not None:
                await asyncio.wait([self._running])
                if self._log.failure is not None:
                    raise KafkaStorageError(f"{self._log.topic_partition}: {self._log.failure}")
                continue
            self._running = asyncio.ensure_future(self._flush_once(target))
            await asyncio.shield(self._running)

    def _is_needed(self, target: Offset) -> bool:
        return self._truncation is not None or self.recovery_point < min(target, self._log.log_end_offset)

    async def _flush_once(self, target: Offset) -> None:
        self._truncation = None
        target = min(target, self._log.log_end_offset)
        segments = [s for s in self._segments.from_offset(self.recovery_point) if s.base_offset <= target]
        try:
            for segment in segments:
                await self._sync(segment)
            epochs_written = self._epochs_written
            await asyncio.to_thread(self._sync_folders, self.epochs_unsynced)
        except OSError as error:
            if self._log.closed:  # deleted while the sync ran
                logger.info("flush_of_closed_log partition=%s error=%s", self._log.topic_partition, error)
                return
            # After a failed sync the kernel may have dropped the pages: only a new recovery can tell what is there.
            self._log.fail(f"flush failed: {error}")
            raise KafkaStorageError(f"{self._log.topic_partition}: flush failed: {error}") from error
        finally:
            self._running = None
        self._epochs_synced = max(self._epochs_synced, epochs_written)
        if self._truncation is not None:
            target = min(target, Offset(self._truncation))
        self.recovery_point = max(self.recovery_point, target)

    async def _sync(self, segment: Segment) -> None:
        if segment.removed:  # while another one was synced
            return
        try:
            segment.write_indexes(final=False)
            descriptor = segment.pin()
            try:
                await asyncio.to_thread(self._file_system.sync, descriptor)
            finally:
                segment.unpin()
            if segment is not self._segments.active and not segment.removed:
                await asyncio.to_thread(segment.sync_indexes)
        except FileNotFoundError:
            if not segment.removed:
                raise

    def flush_now(self, target: Offset) -> None:
        """The same in line, for closing, with all indexes. :raises OSError: the disk failed."""
        if not self._is_needed(target) and not self.epochs_unsynced:
            return
        for segment in self._segments.from_offset(self.recovery_point):
            segment.write_indexes(final=False)
            self._file_system.sync(segment.descriptor())
            segment.sync_indexes()
        self._sync_folders(self.epochs_unsynced)
        self._epochs_synced = self._epochs_written
        self._truncation = None
        self.recovery_point = target

    def _sync_folders(self, epochs: bool) -> None:
        """The names of the segments; the epochs of what is in them, where asked; once for each log, what it is called
        and the id of its topic.
        """
        directory = self._log.directory
        if epochs:
            self._sync_epoch_checkpoint()
        self._file_system.sync_folder(directory)
        if not self._own_name_synced:
            sync_file(self._file_system, f"{directory}/{PARTITION_METADATA}")
            self._file_system.sync_folder(directory.rpartition("/")[0])
            self._own_name_synced = True
