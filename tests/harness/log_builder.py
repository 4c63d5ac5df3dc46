"""Logs on a fake disk, ready to use."""

from __future__ import annotations

from uuid import UUID

from klamm.broker.log.descriptor_pool import DescriptorPool
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.partition_log import AppendedBatch, PartitionLog
from klamm.broker.log.recovery import LogPlace, create_log, load_log
from klamm.proto.identifiers import LeaderEpoch, Offset, TopicPartition
from klamm.proto.record_batch import batches, check_batch

from .fake_file_system import FakeFileSystem
from .record_batches import record_batch

TOPIC_ID = UUID(int=7)
DIRECTORY = "/data/topic-0"
PLACE = LogPlace(TopicPartition("topic", 0), TOPIC_ID, DIRECTORY)
NOW_MS = 1_000_000
SMALL = LogConfig(segment_bytes=400, index_interval_bytes=100, segment_index_bytes=4096)


def new_log(disk: FakeFileSystem, config: LogConfig = SMALL, *, pool: DescriptorPool | None = None) -> PartitionLog:
    """An empty log."""
    return create_log(disk, pool or DescriptorPool(100), PLACE, config, NOW_MS)


def reopened(
    disk: FakeFileSystem,
    config: LogConfig = SMALL,
    *,
    clean: bool = False,
    recovery_point: int = 0,
    log_start_offset: int | None = None,
) -> PartitionLog:
    """The log as the next process finds it."""
    return load_log(
        disk,
        DescriptorPool(100),
        PLACE,
        config,
        now_ms=NOW_MS,
        clean=clean,
        recovery_point=Offset(recovery_point),
        log_start_offset=None if log_start_offset is None else Offset(log_start_offset),
    )


def append(log: PartitionLog, *values: bytes, epoch: int = 0, timestamp: int = 1_000, **batch: int) -> AppendedBatch:
    """Appends one batch as a leader would."""
    return log.append_as_leader(
        record_batch(values or (b"value",), timestamps=timestamp, **batch),
        leader_epoch=LeaderEpoch(epoch),
        now_ms=NOW_MS,
    )


def content(log: PartitionLog, offset: int | None = None, end: int | None = None) -> bytes:
    """All batches from the log start (or `offset`) to the log end (or `end`), read in small steps."""
    offset = log.log_start_offset if offset is None else offset
    end_offset = log.log_end_offset if end is None else Offset(end)
    parts = []
    while offset < end_offset:
        part = log.read(Offset(offset), max_bytes=300, end_offset=end_offset)
        if not part:
            break
        parts.append(part)
        offset = offsets(part)[-1][1]
    return b"".join(parts)


def offsets(data: bytes) -> list[tuple[int, int]]:
    """(base offset, next offset) of each batch, each checked by its CRC."""
    found = []
    for position, _ in batches(data):
        header = check_batch(data, position)
        found.append((header.base_offset, header.next_offset))
    return found
