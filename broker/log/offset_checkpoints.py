"""The three checkpoints of a data folder: recovery points, log starts and high watermarks of all its logs.

A torn one says nothing, and nothing is lost by it: recovery begins at 0, a log at its first segment, a high watermark
at its log start. They are written every few seconds if anything changed, and at a clean stop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ...proto.identifiers import Offset, TopicPartition
from .checkpoints import (
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
    """What the three files say, by partition."""

    recovery_points: Offsets
    log_starts: Offsets
    high_watermarks: Offsets


class OffsetCheckpoints:
    """The files of one data folder."""

    def __init__(self, file_system: FileSystem, folder: str) -> None:
        self._file_system = file_system
        self._folder = folder
        self._written: dict[str, Offsets] = {}

    def read(self) -> CheckpointedOffsets:
        """What the last process wrote. :raises OSError: the disk failed."""
        return CheckpointedOffsets(
            self._read(RECOVERY_POINT_CHECKPOINT),
            self._read(LOG_START_CHECKPOINT),
            self._read(HIGH_WATERMARK_CHECKPOINT),
        )

    def _read(self, name: str) -> Offsets:
        try:
            return read_offsets(self._file_system, f"{self._folder}/{name}")
        except CorruptFileError as error:
            logger.warning("checkpoint_torn folder=%s name=%s error=%s", self._folder, name, error)
            return {}

    def write(self, offsets: CheckpointedOffsets) -> None:
        """Writes those that have changed since the last call. :raises OSError: the disk failed."""
        changed = False
        for name, values in (
            # Log starts before recovery points: a crash in between must not make recovery read what retention removed.
            (LOG_START_CHECKPOINT, offsets.log_starts),
            (RECOVERY_POINT_CHECKPOINT, offsets.recovery_points),
            (HIGH_WATERMARK_CHECKPOINT, offsets.high_watermarks),
        ):
            if self._written.get(name) != values:
                write_offsets(self._file_system, f"{self._folder}/{name}", values)
                self._written[name] = dict(values)
                changed = True
        if changed:
            self._file_system.sync_folder(self._folder)
