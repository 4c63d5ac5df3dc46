"""All logs of a broker: the data folder, its lock and owner, and the work in the background.

Order at start: take the lock, check whose data this is, read the clean-shutdown marker and remove it, recover every
log. Order at a clean stop: close every log, write the checkpoints, write the marker last. Whatever happens in
between, the next start sees a marker only if everything under it is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from ...cluster.clock import Clock
from ...proto.errors import KafkaStorageError
from ...proto.identifiers import BrokerEpoch, BrokerId, Offset, TopicId, TopicIdPartition, TopicPartition
from .checkpoints import (
    HIGH_WATERMARK_CHECKPOINT,
    LOG_START_CHECKPOINT,
    RECOVERY_POINT_CHECKPOINT,
    read_clean_shutdown,
    read_offsets,
    remove_clean_shutdown,
    write_clean_shutdown,
    write_offsets,
)
from .descriptor_pool import DescriptorPool
from .errors import CorruptFileError, LogDirectoryError
from .file_system import FileSystem, RealFileSystem, remove_if_present
from .log_config import LogConfig
from .log_folders import FoundLog, deleted_name, scan_folders, stray_name
from .meta_properties import FolderLock, MetaProperties, check_owner, read_meta_properties, write_meta_properties
from .partition_log import PartitionLog
from .recovery import LogPlace, create_log, load_log

logger = logging.getLogger(__name__)

HighWatermarkOf = Callable[[TopicIdPartition], Offset | None]


@dataclass(frozen=True, slots=True)
class LogManagerConfig:
    """How often the background work is done, and how much may be open."""

    checkpoint_interval_ms: int = 5_000
    retention_check_interval_ms: int = 300_000
    producer_id_expiration_ms: int = 86_400_000
    producer_id_expiration_check_interval_ms: int = 600_000
    recovery_threads: int = 4
    open_segments_max: int | None = None  # None: half of what the process may have open


class LogManager:
    """Use `open`. All methods are called from one thread, the event loop's once there is one."""

    def __init__(
        self,
        folder: str,
        lock: FolderLock,
        properties: MetaProperties,
        clock: Clock,
        config: LogManagerConfig,
        file_system: FileSystem,
        previous_broker_epoch: BrokerEpoch | None,
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._properties = properties
        self._clock = clock
        self._config = config
        self._file_system = file_system
        self._pool = DescriptorPool(config.open_segments_max or _open_segments_max())
        self._logs: dict[TopicIdPartition, PartitionLog] = {}
        self._high_watermarks: dict[TopicPartition, Offset] = {}
        self._high_watermark_of: HighWatermarkOf | None = None
        self._written: dict[str, dict[TopicPartition, Offset]] = {}
        self._removals: list[tuple[int, str]] = []  # (when by the monotonic clock, file or folder), in no order
        self._folder_changed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._housekeeping: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._last_flush_ms: dict[PartitionLog, int] = {}
        self.previous_broker_epoch = previous_broker_epoch
        """The epoch under which the last clean stop was; None if the last stop was not clean (KIP-966)."""

    @classmethod
    def open(
        cls,
        log_dir: Path | str,
        *,
        node_id: BrokerId,
        clock: Clock,
        cluster_id: str | None = None,
        config: LogManagerConfig | None = None,
        log_config_of: Callable[[str], LogConfig] | None = None,
        file_system: FileSystem | None = None,
    ) -> LogManager:
        """Takes the folder and recovers every log in it; blocks until that is done.

        `log_config_of` gives a topic's configuration by its name, where it is known already; `update_config` corrects
        it.

        :raises LogDirectoryError: the folder is in use, belongs to another node or cluster, or cannot be read.
        """
        file_system = file_system or RealFileSystem()
        folder = str(log_dir)
        try:
            file_system.make_folder(folder)
            lock = FolderLock(folder)
        except OSError as error:
            raise LogDirectoryError(f"{folder} cannot be used: {error}") from error
        try:
            properties = _claim(file_system, folder, node_id, cluster_id)
            previous_broker_epoch = read_clean_shutdown(file_system, folder)
            remove_clean_shutdown(file_system, folder)
            manager = cls(
                folder, lock, properties, clock, config or LogManagerConfig(), file_system, previous_broker_epoch
            )
            manager._load(log_config_of or (lambda _: LogConfig()))
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                raise LogDirectoryError(f"{folder} cannot be read: {error}") from error
            raise
        return manager

    # -- who this is

    @property
    def log_dir_id(self) -> UUID:
        """Made once for the folder: a new one tells the controller that the disk is another."""
        return self._properties.directory_id

    @property
    def cluster_id(self) -> str | None:
        """None until `assign_cluster_id`."""
        return self._properties.cluster_id

    @property
    def was_clean(self) -> bool:
        """True if the last stop was a clean one."""
        return self.previous_broker_epoch is not None

    def assign_cluster_id(self, cluster_id: str) -> None:
        """Binds the folder to its cluster, at the first contact. :raises LogDirectoryError: it belongs to another."""
        check_owner(self._folder, self._properties, self._properties.node_id, cluster_id)
        if self._properties.cluster_id is None:
            self._properties = replace(self._properties, cluster_id=cluster_id)
            write_meta_properties(self._file_system, self._folder, self._properties)

    # -- the logs

    @property
    def logs(self) -> Mapping[TopicIdPartition, PartitionLog]:
        """Every log that this broker has, hosted or not."""
        return MappingProxyType(self._logs)

    def get(self, topic_id_partition: TopicIdPartition) -> PartitionLog | None:
        """The log, if there is one."""
        return self._logs.get(topic_id_partition)

    def create(self, topic: str, topic_id: TopicId, partition: int, config: LogConfig) -> PartitionLog:
        """The log of this partition: the one that is there, or a new, empty one.

        :raises KafkaStorageError: the disk failed.
        """
        key = TopicIdPartition(topic_id, partition)
        found = self._logs.get(key)
        if found is not None:
            found.update_config(config)
            return found
        topic_partition = TopicPartition(topic, partition)
        directory = f"{self._folder}/{topic_partition}"
        for other_key, other in list(self._logs.items()):
            if other.directory == directory:  # a topic of this name that was deleted while this broker was away
                self.set_aside(other_key)
        try:
            place = LogPlace(topic_partition, topic_id, directory)
            log = create_log(self._file_system, self._pool, place, config, self._clock.wall_ms())
        except OSError as error:
            raise KafkaStorageError(f"{topic_partition}: cannot create {directory}: {error}") from error
        self._folder_changed = True
        self._adopt(key, log)
        return log

    def _adopt(self, key: TopicIdPartition, log: PartitionLog) -> None:
        self._logs[key] = log
        if self._housekeeping is not None:
            log.on_flush_wanted = self._start_flush
            self._wake.set()

    def update_config(self, topic_id_partition: TopicIdPartition, config: LogConfig) -> None:
        """Takes a topic's new configuration."""
        log = self._logs[topic_id_partition]
        if log.config != config:
            log.update_config(config)
            self._wake.set()

    def delete(self, topic_id_partition: TopicIdPartition) -> None:
        """Takes the log away: its folder is renamed now and removed after file.delete.delay.ms.

        :raises KafkaStorageError: the disk failed.
        """
        log = self._logs[topic_id_partition]
        path = self._rename(topic_id_partition, deleted_name(log.topic_partition, uuid4().hex))
        self._removals.append((self._clock.monotonic_ms() + log.config.file_delete_delay_ms, path))
        logger.info("log_deleted partition=%s folder=%s", log.topic_partition, path)

    def set_aside(self, topic_id_partition: TopicIdPartition) -> None:
        """Rule 24: a log of an unknown topic id is kept under another name; whoever knows better may remove it.

        :raises KafkaStorageError: the disk failed.
        """
        log = self._logs[topic_id_partition]
        path = self._rename(topic_id_partition, stray_name(log.topic_partition, uuid4().hex))
        logger.warning("log_set_aside partition=%s topic_id=%s folder=%s", log.topic_partition, log.topic_id, path)

    def _rename(self, key: TopicIdPartition, name: str) -> str:
        log = self._logs[key]
        log.close_files()
        path = f"{self._folder}/{name}"
        try:
            self._file_system.replace(log.directory, path)
        except OSError as error:
            raise KafkaStorageError(f"{log.topic_partition}: cannot rename {log.directory}: {error}") from error
        del self._logs[key]
        self._last_flush_ms.pop(log, None)
        self._high_watermarks.pop(log.topic_partition, None)
        self._folder_changed = True
        return path

    def high_watermark(self, topic_id_partition: TopicIdPartition) -> Offset:
        """The high watermark of this log as far as it is known here: the replica manager's, or the last
        checkpoint's.
        """
        log = self._logs[topic_id_partition]
        known = None if self._high_watermark_of is None else self._high_watermark_of(topic_id_partition)
        if known is None:
            known = self._high_watermarks.get(log.topic_partition, log.log_start_offset)
        return max(log.log_start_offset, min(known, log.log_end_offset))

    # -- start

    def _load(self, log_config_of: Callable[[str], LogConfig]) -> None:
        recovery_points = self._read_checkpoint(RECOVERY_POINT_CHECKPOINT)
        log_starts = self._read_checkpoint(LOG_START_CHECKPOINT)
        self._high_watermarks = self._read_checkpoint(HIGH_WATERMARK_CHECKPOINT)
        found, removable = scan_folders(self._file_system, self._folder)
        self._removals = [(self._clock.monotonic_ms(), path) for path in removable]
        began_ms, now_ms = self._clock.monotonic_ms(), self._clock.wall_ms()

        def load(each: FoundLog) -> tuple[TopicIdPartition, PartitionLog]:
            name = each.topic_partition
            log = load_log(
                self._file_system,
                self._pool,
                LogPlace(name, each.topic_id, each.directory),
                log_config_of(name.topic),
                now_ms=now_ms,
                clean=self.was_clean,
                recovery_point=recovery_points.get(name, Offset(0)),
                log_start_offset=log_starts.get(name),
            )
            return TopicIdPartition(each.topic_id, name.partition), log

        with ThreadPoolExecutor(self._config.recovery_threads, "log-recovery") as executor:
            for key, log in executor.map(load, found):
                self._logs[key] = log
        logger.info(
            "logs_loaded folder=%s logs=%d clean=%s took_ms=%d",
            self._folder,
            len(self._logs),
            self.was_clean,
            self._clock.monotonic_ms() - began_ms,
        )

    def _read_checkpoint(self, name: str) -> dict[TopicPartition, Offset]:
        """A torn one says nothing: recovery begins at 0, log starts at the first segment, high watermarks at log
        starts.
        """
        try:
            return read_offsets(self._file_system, f"{self._folder}/{name}")
        except CorruptFileError as error:
            logger.warning("checkpoint_torn folder=%s name=%s error=%s", self._folder, name, error)
            return {}

    def start(self, high_watermark_of: HighWatermarkOf | None = None) -> None:
        """Begins the background work on the running event loop: flushes, checkpoints, retention, removals."""
        self._high_watermark_of = high_watermark_of
        self._housekeeping = asyncio.get_running_loop().create_task(self._keep_house(), name="log-housekeeping")
        for log in self._logs.values():
            log.on_flush_wanted = self._start_flush

    # -- background

    async def _keep_house(self) -> None:
        now = self._clock.monotonic_ms()
        next_checkpoint = now + self._config.checkpoint_interval_ms
        next_retention = now + self._config.retention_check_interval_ms
        next_expiry = now + self._config.producer_id_expiration_check_interval_ms
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), self._pause_ms() / 1000)
            except TimeoutError:
                pass
            self._wake.clear()
            now = self._clock.monotonic_ms()
            self._flush_by_time(now)
            if now >= next_expiry:
                next_expiry = now + self._config.producer_id_expiration_check_interval_ms
                self._expire_producers(now)
            if now >= next_retention:
                next_retention = now + self._config.retention_check_interval_ms
                self.apply_retention()
            if now >= next_checkpoint:
                next_checkpoint = now + self._config.checkpoint_interval_ms
                await self._checkpoint_and_remove()

    def _pause_ms(self) -> int:
        """Until the next thing is due: seconds, unless a topic asks for flushes by time."""
        by_time = [log.config.flush_ms for log in self._logs.values() if log.config.flush_ms is not None]
        return max(20, min([self._config.checkpoint_interval_ms, *by_time]))

    def _flush_by_time(self, now_ms: int) -> None:
        for log in self._logs.values():
            interval = log.config.flush_ms
            if interval is None or log.failure is not None or log.recovery_point >= log.log_end_offset:
                continue
            if now_ms - self._last_flush_ms.get(log, -interval) >= interval:
                self._last_flush_ms[log] = now_ms
                self._start_task(log, log.flush())

    def _start_flush(self, log: PartitionLog) -> None:
        self._start_task(log, log.flush_if_due())

    def _start_task(self, log: PartitionLog, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"flush-{log.topic_partition}")
        self._tasks.add(task)
        task.add_done_callback(self._flush_ended)

    def _flush_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # the log has marked itself as failed; its next append tells the replica manager
            logger.error("flush_failed task=%s error=%s", task.get_name(), error)

    def _expire_producers(self, now_ms: int) -> None:
        for log in self._logs.values():
            log.producer_states.expire(now_ms, self._config.producer_id_expiration_ms)

    def apply_retention(self) -> int:
        """Deletes old segments of every log, never past its high watermark; returns how many."""
        now_ms, count = self._clock.wall_ms(), 0
        for key, log in self._logs.items():
            if log.failure is not None:
                continue
            try:
                count += log.delete_old_segments(now_ms, self.high_watermark(key))
            except KafkaStorageError as error:
                logger.error("retention_failed partition=%s error=%s", log.topic_partition, error)
            due = self._clock.monotonic_ms() + log.config.file_delete_delay_ms
            self._removals += [(due, path) for path in log.take_deleted_files()]
        return count

    async def _checkpoint_and_remove(self) -> None:
        try:
            await asyncio.to_thread(self._write_checkpoints, self._checkpoints())
            now = self._clock.monotonic_ms()
            due = [path for when, path in self._removals if when <= now]
            self._removals = [entry for entry in self._removals if entry[0] > now]
            if due:
                await asyncio.to_thread(self._remove, due)
        except OSError as error:
            logger.error("checkpoint_failed folder=%s error=%s", self._folder, error)

    async def checkpoint(self) -> None:
        """Writes what has changed of the three checkpoints. :raises OSError: the disk failed."""
        await asyncio.to_thread(self._write_checkpoints, self._checkpoints())

    def _checkpoints(self) -> dict[str, dict[TopicPartition, Offset]]:
        for key, log in self._logs.items():
            self._high_watermarks[log.topic_partition] = self.high_watermark(key)
        logs = self._logs.values()
        return {
            RECOVERY_POINT_CHECKPOINT: {log.topic_partition: log.recovery_point for log in logs},
            LOG_START_CHECKPOINT: {log.topic_partition: log.log_start_offset for log in logs},
            HIGH_WATERMARK_CHECKPOINT: dict(self._high_watermarks),
        }

    def _write_checkpoints(self, checkpoints: dict[str, dict[TopicPartition, Offset]]) -> None:
        changed, self._folder_changed = self._folder_changed, False
        for name, offsets in checkpoints.items():
            if self._written.get(name) != offsets:
                write_offsets(self._file_system, f"{self._folder}/{name}", offsets)
                self._written[name] = offsets
                changed = True
        if changed:
            self._file_system.sync_folder(self._folder)

    def _remove(self, paths: list[str]) -> None:
        for path in paths:
            try:
                if self._file_system.is_folder(path):
                    self._file_system.remove_tree(path)
                else:
                    remove_if_present(self._file_system, path)
            except OSError as error:
                logger.warning("removal_failed path=%s error=%s", path, error)

    # -- stop

    async def shutdown(self, *, clean: bool = True, broker_epoch: BrokerEpoch | None = None) -> bool:
        """Ends the background work and lets the folder go; True if the clean-shutdown marker was written.

        A clean stop flushes everything. If that fails for any log there is no marker: the next start recovers.
        """
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.gather(self._housekeeping, *self._tasks, return_exceptions=True)
        try:
            return clean and await asyncio.to_thread(self._close_all, broker_epoch)
        finally:
            for log in self._logs.values():
                log.close_files()
            self._lock.release()

    def _close_all(self, broker_epoch: BrokerEpoch | None) -> bool:
        epoch = broker_epoch if broker_epoch is not None else self.previous_broker_epoch

        def close(log: PartitionLog) -> bool:
            try:
                log.close()
            except KafkaStorageError as error:
                logger.error("log_close_failed partition=%s error=%s", log.topic_partition, error)
                return False
            return True

        with ThreadPoolExecutor(self._config.recovery_threads, "log-close") as executor:
            all_closed = all(list(executor.map(close, self._logs.values())))
        try:
            self._write_checkpoints(self._checkpoints())
            if all_closed:
                write_clean_shutdown(self._file_system, self._folder, BrokerEpoch(-1) if epoch is None else epoch)
        except OSError as error:
            logger.error("shutdown_not_clean folder=%s error=%s", self._folder, error)
            return False
        return all_closed


def _claim(file_system: FileSystem, folder: str, node_id: BrokerId, cluster_id: str | None) -> MetaProperties:
    found = read_meta_properties(file_system, folder)
    if found is None:
        found = MetaProperties(node_id, uuid4(), cluster_id)
        write_meta_properties(file_system, folder, found)
        return found
    check_owner(folder, found, node_id, cluster_id)
    if cluster_id is not None and found.cluster_id is None:
        found = replace(found, cluster_id=cluster_id)
        write_meta_properties(file_system, folder, found)
    return found


def _open_segments_max() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(64, soft // 2)
