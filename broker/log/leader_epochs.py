"""The leader epochs of one log, in memory and on the disk: whatever changes the cache writes its checkpoint (rule 14).

Every method that changes something raises OSError where the disk fails.
"""

from __future__ import annotations

from ...proto.identifiers import LeaderEpoch, Offset
from .checkpoints import LEADER_EPOCH_CHECKPOINT, write_epochs
from .epoch_cache import EpochCache
from .file_system import FileSystem
from .flusher import Flusher


class LeaderEpochs:
    """`latest` is the cache's, at the price of an attribute: every append looks at it."""

    def __init__(self, cache: EpochCache, file_system: FileSystem, directory: str, flusher: Flusher) -> None:
        self._cache = cache
        self._file_system = file_system
        self._path = f"{directory}/{LEADER_EPOCH_CHECKPOINT}"
        self._flusher = flusher
        self.latest: LeaderEpoch | None = cache.latest_epoch

    def assign(self, epoch: LeaderEpoch, start_offset: Offset) -> None:
        """Notes that `epoch` begins at `start_offset`."""
        before = self._cache.entries
        if self._cache.assign(epoch, start_offset):
            try:
                # Thousands of partitions may get a leader at once, so the disk is not waited for here, but by the flush
                # that vouches for batches of this epoch. After a loss of power before that, recovery cuts the log
                # where the batches contradict the checkpoint, or believes them where it is torn. They may only not be
                # believed where a truncated tail may still be on the disk.
                self._write(sync=self._flusher.truncation_pending)
            except OSError:
                # In the file the batch must never come before its epoch: forget it again, the next append tries anew.
                self._cache.clear()
                for entry in before:
                    self._cache.assign(*entry)
                raise
        self.latest = self._cache.latest_epoch

    def truncate_from_end(self, end_offset: Offset) -> None:
        """Forgets every epoch that begins at or past `end_offset`."""
        if self._cache.truncate_from_end(end_offset):
            self.latest = self._cache.latest_epoch
            self._write()

    def truncate_from_start(self, start_offset: Offset) -> None:
        """Forgets every epoch that ended before `start_offset`."""
        if self._cache.truncate_from_start(start_offset):
            self._write()

    def clear(self) -> None:
        """Forgets them all."""
        if self._cache.clear():
            self._write()
        self.latest = None

    def _write(self, *, sync: bool = True) -> None:
        write_epochs(self._file_system, self._path, self._cache.entries, sync=sync)
        self._flusher.epochs_written(synced=sync)
