"""Compacted logs on a fake disk: batches with keys, a cleaner to be called by hand, and what is in a log by record."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from klamm.broker.log.cleaner_config import LogCleanerConfig
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.log_manager import LogManager, LogManagerConfig
from klamm.broker.log.partition_log import AppendedBatch, PartitionLog
from klamm.proto.identifiers import BrokerId, LeaderEpoch, Offset, TopicIdPartition
from klamm.proto.record_batch import batches, check_batch, set_offset_and_epoch
from klamm.proto.record_codec import build_batch, new_builder, read_batch, set_producer

from .fake_clock import FakeClock
from .fake_file_system import FakeFileSystem
from .virtual_loop import VirtualLoop

TOPIC_ID = UUID(int=7)
KEY = TopicIdPartition(TOPIC_ID, 0)
DIRECTORY = "/data/topic-0"
COMPACTED = LogConfig(
    segment_bytes=600,
    index_interval_bytes=100,
    segment_index_bytes=4096,
    retention_ms=None,
    compacted=True,
    min_cleanable_dirty_ratio=0.0,
)

T = TypeVar("T")
Pair = tuple[bytes | None, bytes | None]


class Record(NamedTuple):
    """One record of a log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def keyed_batch(
    pairs: Sequence[Pair],
    *,
    timestamp: int = 1_000,
    producer_id: int = -1,
    sequence: int = -1,
    compression: int = 0,
    base_offset: int = 0,
    leader_epoch: int = 0,
    headers: Sequence[tuple[str, bytes]] = (),
) -> bytearray:
    """One batch of these records, a millisecond apart."""
    builder = new_builder(1 << 24)
    for index, (key, value) in enumerate(pairs):
        builder.append(index, timestamp + index, key, value, list(headers))
    batch = build_batch(builder, compression)
    if producer_id >= 0:
        set_producer(batch, producer_id, 0, sequence)
    set_offset_and_epoch(batch, base_offset, leader_epoch)
    return batch


def append_keyed(log: PartitionLog, *pairs: Pair, epoch: int = 0, **batch: Any) -> AppendedBatch:
    """Appends one batch as a leader would."""
    return log.append_as_leader(keyed_batch(pairs, **batch), leader_epoch=LeaderEpoch(epoch), now_ms=1_000)


def records(log: PartitionLog) -> list[Record]:
    """Every record from the log start on."""
    found = []
    offset: int = log.log_start_offset
    while offset < log.log_end_offset:
        data = log.read(Offset(offset), max_bytes=1 << 20, end_offset=log.log_end_offset)
        if not data:
            break
        for position, _ in batches(data):
            header = check_batch(data, position)
            assert header.next_offset > offset
            offset = header.next_offset
            whole = data[position : position + header.size_bytes]
            found += [Record(r.offset, r.timestamp, r.key, r.value) for r in read_batch(whole)]
    return [record for record in found if record.offset >= log.log_start_offset]


def table(log: PartitionLog) -> dict[bytes | None, bytes | None]:
    """The last value of each key, without those whose last record is a tombstone."""
    last = {record.key: record.value for record in records(log)}
    return {key: value for key, value in last.items() if value is not None}


def run_in_line(work: Coroutine[Any, Any, T]) -> T:
    """Runs what would use threads without any."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


class CleanedDisk:
    """A log manager with one compacted log, on a disk that outlives it. The high watermark is the log end."""

    def __init__(
        self,
        disk: FakeFileSystem | None = None,
        *,
        config: LogConfig = COMPACTED,
        clock: FakeClock | None = None,
        dedupe_buffer_size: int = 1 << 20,
    ) -> None:
        self.disk = disk or FakeFileSystem()
        self.clock = clock or FakeClock()
        self.config = config
        self.manager = LogManager.open(
            "/data",
            node_id=BrokerId(1),
            clock=self.clock,
            config=LogManagerConfig(cleaner=LogCleanerConfig(dedupe_buffer_size=dedupe_buffer_size)),
            log_config_of=lambda _: config,
            file_system=self.disk,
        )
        self.high_watermark: int | None = None
        self.log: PartitionLog = self.manager.create("topic", TOPIC_ID, 0, config)
        self.manager._high_watermark_of = lambda _: (
            self.log.log_end_offset if self.high_watermark is None else Offset(self.high_watermark)
        )

    def flush(self) -> None:
        self.log._flusher.flush_now(self.log.log_end_offset)

    def clean(self) -> bool:
        """Flushes, and cleans what is due."""
        self.flush()
        return run_in_line(self.manager.cleaner.clean_filthiest())

    def checkpoint(self) -> None:
        run_in_line(self.manager.checkpoint())

    def restarted(self, *, clean: bool = False) -> CleanedDisk:
        """The next process on this disk."""
        if clean:
            assert run_in_line(self.manager.shutdown())
        else:
            self.disk.crash()
        return CleanedDisk(self.disk, config=self.config, clock=self.clock)
