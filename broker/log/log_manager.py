"""All logs of a broker: the data folder, its lock and owner, and the work in the background.

Order at start: take the lock, check whose data this is, read both markers (of a clean stop, and of the run) and remove
them, recover every log, put that of the run back if nothing is missing. Order at a clean stop: close every log, write
the checkpoints, write the marker last. Whatever happens in between, the next start sees a marker only if everything
under it is there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from uuid import UUID, uuid4

from ...cluster.clock import Clock
from ...proto.errors import KafkaStorageError
from ...proto.identifiers import BrokerEpoch, BrokerId, Offset, TopicId, TopicIdPartition, TopicPartition
from .checkpoints import read_clean_shutdown, remove_clean_shutdown, write_clean_shutdown
from .cleaner_config import LogCleanerConfig
from .descriptor_pool import DescriptorPool
from .errors import LogDirectoryError
from .file_system import FileSystem, RealFileSystem
from .log_cleaner import LogCleaner
from .log_config import LogConfig
from .log_folders import FoundLog, deleted_name, scan_folders, stray_name
from .log_housekeeping import LogHousekeeping
from .meta_properties import FolderLock, MetaProperties, check_owner, read_meta_properties, write_meta_properties
from .offset_checkpoints import CheckpointedOffsets, OffsetCheckpoints
from .partition_log import PartitionLog
from .recovery import LogPlace, create_log, load_log
from .run_marker import RunMarker

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
    cleaner: LogCleanerConfig = LogCleanerConfig()  # noqa: RUF009  # frozen


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
        run_marker: RunMarker,
        previous_broker_epoch: BrokerEpoch | None,
        killed_broker_epoch: BrokerEpoch | None,
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._properties = properties
        self._clock = clock
        self._config = config
        self._file_system = file_system
        self._pool = DescriptorPool(config.open_segments_max or _open_segments_max())
        self._logs: dict[TopicIdPartition, PartitionLog] = {}
        self._keys: dict[TopicPartition, TopicIdPartition] = {}  # of the same logs; a name is one folder
        self._high_watermarks: dict[TopicPartition, Offset] = {}
        self._high_watermark_of: HighWatermarkOf | None = None
        self._checkpoints = OffsetCheckpoints(file_system, folder)
        self._housekeeping = LogHousekeeping(self, config, clock, file_system)
        self.cleaner = LogCleaner(self, config.cleaner, clock, file_system, self._housekeeping.remove_later)
        self.run_marker = run_marker
        """Vouches for the logs after a kill, as long as none has failed."""
        self.previous_broker_epoch = previous_broker_epoch
        """The epoch under which the last clean stop was; None if the last stop was not clean (KIP-966)."""
        self.killed_broker_epoch = killed_broker_epoch
        """The epoch under which the last process was killed, if the machine went on and so nothing is missing."""

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
            lock = FolderLock(file_system, folder)
        except OSError as error:
            raise LogDirectoryError(f"{folder} cannot be used: {error}") from error
        try:
            properties = _claim(file_system, folder, node_id, cluster_id)
            previous_broker_epoch = read_clean_shutdown(file_system, folder)
            remove_clean_shutdown(file_system, folder)
            run_marker = RunMarker(file_system, folder)
            # Nobody vouches for the logs while recovery cuts them: what it finds must not be forgotten if it is killed.
            marked_epoch = run_marker.take()
            killed_broker_epoch = marked_epoch if previous_broker_epoch is None else None
            manager = cls(
                folder,
                lock,
                properties,
                clock,
                config or LogManagerConfig(),
                file_system,
                run_marker,
                previous_broker_epoch,
                killed_broker_epoch,
            )
            manager._load(log_config_of or (lambda _: LogConfig()))
            if marked_epoch is not None and (manager.was_clean or manager.killed_broker_epoch is not None):
                run_marker.write(marked_epoch)
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
        """None until `set_cluster_id`."""
        return self._properties.cluster_id

    @property
    def was_clean(self) -> bool:
        """True if the last stop was a clean one."""
        return self.previous_broker_epoch is not None

    def set_cluster_id(self, cluster_id: str) -> None:
        """Binds the folder to its cluster, at the first contact. :raises LogDirectoryError: it belongs to another."""
        check_owner(self._folder, self._properties, self._properties.node_id, cluster_id)
        if self._properties.cluster_id is None:
            self._properties = replace(self._properties, cluster_id=cluster_id)
            write_meta_properties(self._file_system, self._folder, self._properties)

    async def note_registered(self, broker_epoch: BrokerEpoch) -> None:
        """From now on this process writes, under this epoch. If that cannot be noted, its next start is less trusted,
        and that is all.
        """
        await asyncio.to_thread(self.run_marker.write, broker_epoch)

    # -- the folder

    @property
    def folder(self) -> str:
        """Where the logs are, as an absolute path."""
        return os.path.abspath(self._folder)

    def disk_space(self) -> tuple[int, int]:
        """Bytes of the disk that holds the folder, and how many of them can still be used; -1 where nobody knows."""
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError as error:
            logger.warning("disk_space_unknown folder=%s error=%s", self._folder, error)
            return -1, -1
        return usage.total, usage.free

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
        namesake = self._keys.get(topic_partition)
        if namesake is not None:  # a topic of this name that was deleted while this broker was away
            self.set_aside(namesake)
        try:
            if self._checkpoints.names(topic_partition):  # of a log that went, and is not this one
                self._high_watermarks.pop(topic_partition, None)
                self._checkpoints.write(self._offsets(), self._checkpoints.generation)
            place = LogPlace(topic_partition, topic_id, directory)
            log = create_log(self._file_system, self._pool, place, config, self._clock.wall_ms())
        except OSError as error:
            raise KafkaStorageError(f"{topic_partition}: cannot create {directory}: {error}") from error
        self._add(key, log)
        self._housekeeping.watch(log)
        return log

    def _add(self, key: TopicIdPartition, log: PartitionLog) -> None:
        self._logs[key] = log
        self._keys[log.topic_partition] = key
        log.checkpoint_now = self._write_checkpoints_now
        log.on_failure = self.run_marker.vouch_for_nothing

    def update_config(self, topic_id_partition: TopicIdPartition, config: LogConfig) -> None:
        """Takes a topic's new configuration."""
        log = self._logs[topic_id_partition]
        if log.config != config:
            log.update_config(config)
            self._housekeeping.watch(log)

    def delete(self, topic_id_partition: TopicIdPartition) -> None:
        """Takes the log away: its folder is renamed now and removed after file.delete.delay.ms.

        :raises KafkaStorageError: the disk failed.
        """
        log = self._logs[topic_id_partition]
        path = self._rename(topic_id_partition, deleted_name(log.topic_partition, uuid4().hex))
        self._housekeeping.remove_later(path, log.config.file_delete_delay_ms)
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
        del self._keys[log.topic_partition]
        self._housekeeping.forget(log)
        self.cleaner.forget(log)
        self._high_watermarks.pop(log.topic_partition, None)
        self._checkpoints.outdate()
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
        known = self._checkpoints.read()
        self._high_watermarks = dict(known.high_watermarks)
        found, removable = scan_folders(self._file_system, self._folder)
        for path in removable:
            self._housekeeping.remove_later(path, 0)
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
                recovery_point=known.recovery_points.get(name, Offset(0)),
                log_start_offset=known.log_starts.get(name),
            )
            return TopicIdPartition(each.topic_id, name.partition), log

        with ThreadPoolExecutor(self._config.recovery_threads, "log-recovery") as executor:
            for key, log in executor.map(load, found):
                self._add(key, log)
        self._take_cleaned(known)
        self._check_nothing_is_missing(known)
        logger.info(
            "logs_loaded folder=%s logs=%d clean=%s took_ms=%d",
            self._folder,
            len(self._logs),
            self.was_clean,
            self._clock.monotonic_ms() - began_ms,
        )

    def _take_cleaned(self, known: CheckpointedOffsets) -> None:
        """How far compaction has come; where that cannot be true any more, it begins anew."""
        for name, cleaned_to in known.cleaned.items():
            key = self._keys.get(name)
            if key is not None and cleaned_to <= self._logs[key].log_end_offset:
                self._logs[key].cleaned_to = cleaned_to
        if any(self._keys.get(name) and not self._logs[self._keys[name]].cleaned_to for name in known.cleaned):
            # Before the log can grow past it again: what it gets then is not clean.
            self._checkpoints.write(self._offsets(), self._checkpoints.generation)

    def _write_checkpoints_now(self, log: PartitionLog) -> None:
        """What was cleaned has been cut off: a restart may not take what will be there next for clean. Or what lies
        below a new log start may not be shown again. Blocks. :raises OSError: the disk failed.
        """
        self._checkpoints.outdate()
        self._checkpoints.write(self._offsets(), self._checkpoints.generation)

    def _check_nothing_is_missing(self, known: CheckpointedOffsets) -> None:
        """Rule 19: the markers vouch for what the checkpoint says was there, and for what recovery need not cut off.

        If less is there now, the stop counts as unclean, so that the controller takes this broker out of every ISR and
        elects it only where nobody else has the data.
        """
        nothing = 0 if self.was_clean else -1  # an empty log is not synced when it is closed: it may go with the power
        for name, recovery_point in known.recovery_points.items():
            key = self._keys.get(name)
            end = nothing if key is None else self._logs[key].log_end_offset
            if end < recovery_point:
                if self.was_clean or self.killed_broker_epoch is not None:
                    logger.error("log_is_shorter_than_it_was partition=%s end=%d was=%d", name, end, recovery_point)
                self.previous_broker_epoch = self.killed_broker_epoch = None
        if any(log.is_cut for log in self._logs.values()):
            self.killed_broker_epoch = None

    # -- background

    def start(self, high_watermark_of: HighWatermarkOf | None = None) -> None:
        """Begins the background work on the running event loop: flushes, checkpoints, retention, removals.

        `high_watermark_of` asks the replica manager; None from it means that it does not know the partition (yet).
        """
        self._high_watermark_of = high_watermark_of
        self._housekeeping.start()
        self.cleaner.start()

    def apply_retention(self) -> int:
        """Deletes old segments of every log, never past its high watermark; returns how many."""
        return self._housekeeping.apply_retention()

    async def checkpoint(self) -> None:
        """Writes what has changed of recovery points, log starts and high watermarks.

        :raises OSError: the disk failed.
        """
        await asyncio.to_thread(self._checkpoints.write, self._offsets(), self._checkpoints.generation)

    def _offsets(self) -> CheckpointedOffsets:
        for key, log in self._logs.items():
            self._high_watermarks[log.topic_partition] = self.high_watermark(key)
        logs = self._logs.values()
        return CheckpointedOffsets(
            recovery_points={log.topic_partition: log.recovery_point for log in logs},
            log_starts={log.topic_partition: log.log_start_offset for log in logs},
            high_watermarks=dict(self._high_watermarks),
            cleaned={log.topic_partition: log.cleaned_to for log in logs if log.cleaned_to},
        )

    # -- stop

    async def shutdown(self, *, clean: bool = True, broker_epoch: BrokerEpoch | None = None) -> bool:
        """Ends the background work and lets the folder go; True if the clean-shutdown marker was written.

        A clean stop flushes everything. If that fails for any log there is no marker: the next start recovers.
        """
        await self.cleaner.stop()
        await self._housekeeping.stop()
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
        if not all_closed:
            self.run_marker.vouch_for_nothing()
        try:
            self._checkpoints.write(self._offsets(), self._checkpoints.generation)
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
