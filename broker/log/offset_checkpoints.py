"""The checkpoints of a data folder: recovery points, log starts and high watermarks of all its logs, and how far
compaction has come.

A torn one says nothing, and nothing is lost by it: recovery begins at 0, a log at its first segment, a high watermark
and compaction at its log start. They are written every few seconds if anything changed, and at a clean stop.

The files know logs by their names alone, as Kafka's do. So a log that takes the name of one that went must not find
the other's offsets there: an old log start would cut off what the new log holds. `names` tells whether it would.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from ...proto.identifiers import Offset, TopicPartition
from .checkpoints import (
    CLEANER_CHECKPOINT,
    HIGH_WATERMARK_CHECKPOINT,
    LOG_START_CHECKPOINT,
    RECOVERY_POINT_CHECKPOINT,
    read_offsets,
    write_offsets,
)
from .errors import CorruptFileError
from .file_system import FileSystem

logger = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, Offset]


@dataclass(frozen=True, slots=True)
class CheckpointedOffsets:
    """What the files say, by partition."""

    recovery_points: Offsets
    log_starts: Offsets
    high_watermarks: Offsets
    cleaned: Offsets  # of compacted logs: all below has been cleaned


class OffsetCheckpoints:
    """The files of one data folder."""

    def __init__(self, file_system: FileSystem, folder: str) -> None:
        self._file_system = file_system
        self._folder = folder
        self._written: dict[str, Offsets] = {}
        self._on_disk: set[TopicPartition] = set()  # in any of the files
        self._lock = threading.Lock()  # writes are done in a thread
        self.generation = 0

    def outdate(self) -> None:
        """A log went: what was collected before, and is not written yet, must not be written any more."""
        self.generation += 1

    def names(self, topic_partition: TopicPartition) -> bool:
        """True if a file on the disk speaks of a log of this name. Waits for a write under way."""
        with self._lock:
            return topic_partition in self._on_disk

    def read(self) -> CheckpointedOffsets:
        """What the last process wrote. :raises OSError: the disk failed."""
        found = CheckpointedOffsets(
            self._read(RECOVERY_POINT_CHECKPOINT),
            self._read(LOG_START_CHECKPOINT),
            self._read(HIGH_WATERMARK_CHECKPOINT),
            self._read(CLEANER_CHECKPOINT),
        )
        self._on_disk = {*found.recovery_points, *found.log_starts, *found.high_watermarks, *found.cleaned}
        if self._file_system.status(f"{self._folder}/{CLEANER_CHECKPOINT}") is None:
            self._written[CLEANER_CHECKPOINT] = {}  # most brokers have nothing to say there
        return found

    def _read(self, name: str) -> Offsets:
        try:
            return read_offsets(self._file_system, f"{self._folder}/{name}")
        except CorruptFileError as error:
            logger.warning("checkpoint_torn folder=%s name=%s error=%s", self._folder, name, error)
            return {}

    def write(self, offsets: CheckpointedOffsets, generation: int) -> None:
        """Writes those that have changed since the last call; nothing if `generation`, that of the time when they
        were collected, is over. :raises OSError: the disk failed.
        """
        with self._lock:
            if generation == self.generation:
                self._write(offsets)

    def _write(self, offsets: CheckpointedOffsets) -> None:
        changed = False
        self._on_disk.update(offsets.recovery_points, offsets.log_starts, offsets.high_watermarks, offsets.cleaned)
        for name, values in (
            # Log starts before recovery points: a crash in between must not make recovery read what retention removed.
            (LOG_START_CHECKPOINT, offsets.log_starts),
            (RECOVERY_POINT_CHECKPOINT, offsets.recovery_points),
            (HIGH_WATERMARK_CHECKPOINT, offsets.high_watermarks),
            (CLEANER_CHECKPOINT, offsets.cleaned),
        ):
            if self._written.get(name) != values:
                write_offsets(self._file_system, f"{self._folder}/{name}", values)
                self._written[name] = dict(values)
                changed = True
        if changed:
            self._file_system.sync_folder(self._folder)
        self._on_disk = {*offsets.recovery_points, *offsets.log_starts, *offsets.high_watermarks, *offsets.cleaned}
