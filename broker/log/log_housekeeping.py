"""What is done for all logs in the background: flushes, retention, checkpoints, removals, forgetting idle producers.

One task wakes when something is due, which is every few seconds unless a topic asks for flushes by time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ...cluster.clock import Clock
from ...proto.errors import KafkaStorageError
from .file_system import FileSystem, remove_if_present
from .partition_log import PartitionLog

if TYPE_CHECKING:
    from .log_manager import LogManager, LogManagerConfig

logger = logging.getLogger(__name__)


class LogHousekeeping:
    """Started and stopped by the log manager, on its event loop."""

    def __init__(self, manager: LogManager, config: LogManagerConfig, clock: Clock, file_system: FileSystem) -> None:
        self._manager = manager
        self._config = config
        self._clock = clock
        self._file_system = file_system
        self._removals: list[tuple[int, str]] = []  # (when by the monotonic clock, file or folder), in no order
        self._flushes: set[asyncio.Task[None]] = set()
        self._flushing: set[PartitionLog] = set()
        self._flushed_ms: dict[PartitionLog, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._log_went = False  # since the last checkpoint

    def start(self) -> None:
        """Begins the work on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="log-housekeeping")
        for log in self._manager.logs.values():
            self.watch(log)

    def watch(self, log: PartitionLog) -> None:
        """A log was made, or its configuration changed."""
        if self._task is not None:
            log.on_flush_wanted = self._flush_if_due
            if log.config.flush_ms is not None:
                self._wake.set()

    def forget(self, log: PartitionLog) -> None:
        """A log is gone. If the process is killed before a checkpoint says so, the next start misses it (rule 19)."""
        self._flushed_ms.pop(log, None)
        if self._task is not None:
            self._log_went = True
            self._wake.set()

    async def stop(self) -> None:
        """Ends the work; a flush that runs is waited for."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._flushes, return_exceptions=True)
            self._task = None
        for log in self._manager.logs.values():
            log.on_flush_wanted = None

    async def _run(self) -> None:
        config = self._config
        work: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (config.producer_id_expiration_check_interval_ms, self._expire_producers),
            (config.retention_check_interval_ms, self._apply_retention),
            (config.checkpoint_interval_ms, self._checkpoint),
            (config.checkpoint_interval_ms, self.remove_due),
        ]
        due = [self._clock.monotonic_ms() + interval for interval, _ in work]
        while True:
            try:
                # Not wait_for: in Python 3.11 it swallows a cancellation that meets the event.
                async with asyncio.timeout(self._pause_ms() / 1000):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._log_went:
                await self._write_checkpoints()
            now = self._clock.monotonic_ms()
            self._flush_by_time(now)
            for index, (interval, do) in enumerate(work):
                if now >= due[index]:
                    due[index] = now + interval
                    await do()

    def _pause_ms(self) -> int:
        by_time = [log.config.flush_ms for log in self._manager.logs.values() if log.config.flush_ms is not None]
        config = self._config
        return max(20, min([config.checkpoint_interval_ms, config.retention_check_interval_ms, *by_time]))

    # -- flushes

    def _flush_by_time(self, now_ms: int) -> None:
        for log in self._manager.logs.values():
            interval = log.config.flush_ms
            if interval is None or log.failure is not None or log.recovery_point >= log.log_end_offset:
                continue
            if now_ms - self._flushed_ms.get(log, now_ms - interval) >= interval:
                self._flushed_ms[log] = now_ms
                self._start(log, log.flush())

    def _flush_if_due(self, log: PartitionLog) -> None:
        if log not in self._flushing:  # else the task that runs sees what is new
            self._flushing.add(log)
            self._start(log, self._flush_while_due(log))

    async def _flush_while_due(self, log: PartitionLog) -> None:
        try:
            while log.flush_due and not log.closed:
                await log.flush_if_due()
        finally:
            self._flushing.discard(log)

    def _start(self, log: PartitionLog, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"flush-{log.topic_partition}")
        self._flushes.add(task)
        task.add_done_callback(self._flush_ended)

    def _flush_ended(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # the log has marked itself as failed; its next append tells the replica manager
            logger.error("flush_failed task=%s error=%s", task.get_name(), error)

    # -- the rest

    async def _expire_producers(self) -> None:
        now = self._clock.monotonic_ms()
        for log in self._manager.logs.values():
            log.producer_states.expire(now, self._config.producer_id_expiration_ms)

    async def _apply_retention(self) -> None:
        self.apply_retention()

    def apply_retention(self) -> int:
        """Deletes old segments of every log, never past its high watermark; returns how many."""
        now_ms, count = self._clock.wall_ms(), 0
        for key, log in self._manager.logs.items():
            if log.failure is not None:
                continue
            try:
                count += log.delete_old_segments(now_ms, self._manager.high_watermark(key))
            except KafkaStorageError as error:
                logger.error("retention_failed partition=%s error=%s", log.topic_partition, error)
            for path in log.take_deleted_files():
                self.remove_later(path, log.config.file_delete_delay_ms)
        return count

    async def _checkpoint(self) -> None:
        for log in tuple(self._manager.logs.values()):
            try:
                await log.sync_epochs()
            except KafkaStorageError as error:  # the next round tries again, and so does the flush
                logger.error("epoch_checkpoint_sync_failed partition=%s error=%s", log.topic_partition, error)
        await self._write_checkpoints()

    async def _write_checkpoints(self) -> None:
        self._log_went = False
        try:
            await self._manager.checkpoint()
        except OSError as error:  # the next round tries again; until then a crash means a longer recovery
            logger.error("checkpoint_failed error=%s", error)

    def remove_later(self, path: str, delay_ms: int) -> None:
        """Removes a file or folder once whoever may still read from it is through."""
        self._removals.append((self._clock.monotonic_ms() + delay_ms, path))

    async def remove_due(self) -> None:
        """Removes what has waited long enough."""
        now = self._clock.monotonic_ms()
        due = [path for when, path in self._removals if when <= now]
        if due:
            self._removals = [entry for entry in self._removals if entry[0] > now]
            await asyncio.to_thread(self._remove, due)

    def _remove(self, paths: list[str]) -> None:
        for path in paths:
            try:
                if self._file_system.is_folder(path):
                    self._file_system.remove_tree(path)
                else:
                    remove_if_present(self._file_system, path)
            except OSError as error:  # the next start removes what has such a name
                logger.warning("removal_failed path=%s error=%s", path, error)
