"""One partition of __consumer_offsets as its coordinator reads and writes it, in one leader epoch.

Every append is made under that epoch, so it can only be appended while this very leadership lasts (rule 21). Reading is
cut into slices of a few milliseconds, so that a long log holds nobody up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ...cluster.clock import Clock
from ...proto.errors import ErrorCode, KafkaStorageError
from ...proto.identifiers import LeaderEpoch, Offset, TopicId, TopicPartition
from ..deadline_timer import DeadlineTimer
from ..leader_replica import LeaderReplica
from ..leadership import still_leads
from ..partition import Partition
from ..purgatory import WaitingProduce
from ..replica_manager import ACKS_ALL, PartitionProduce, ProduceOutcome, ReplicaManager
from .group import GroupRecord
from .offsets_topic import OFFSETS_TOPIC

logger = logging.getLogger(__name__)

_SLICE_MS: Final = 5
_RECORD_OVERHEAD: Final = 32
"""More than a record takes besides its key and value."""
_BATCH_OVERHEAD: Final = 61


class NotCoordinatingError(Exception):
    """The leadership under which the log was opened is over, or suspended."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as it stands in the log."""

    offset: Offset
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Appended:
    """The records are in the leader's log, before `end_offset`; `outcome` says what became of them.

    NONE: every replica in sync has them. Any other error: it is not known whether they stay (rule 16).
    """

    end_offset: Offset
    outcome: asyncio.Future[ErrorCode]


class GroupLog(Protocol):
    """What a coordinator needs of its partition; `PartitionGroupLog` is the real one."""

    @property
    def partition(self) -> int: ...

    @property
    def leader_epoch(self) -> LeaderEpoch: ...

    @property
    def max_batch_bytes(self) -> int:
        """The largest batch that is taken; `batch_size_bytes` tells the size."""

    def leads(self) -> bool:
        """True while this broker serves the partition under this leader epoch."""

    def high_watermark(self) -> Offset:
        """What every replica in sync has; the log start offset where that is not known."""

    def append(self, records: Sequence[GroupRecord], timeout_ms: int) -> Appended | ErrorCode:
        """Writes one batch; an error means that nothing was written."""

    async def committed(self, end_offset: Offset, timeout_ms: int) -> ErrorCode:
        """Waits for the high watermark to reach `end_offset`: NONE, REQUEST_TIMED_OUT, or why it cannot."""

    async def still_leads(self) -> bool:
        """True if no other broker, nor another epoch of this one, had begun to lead when this was called."""

    def read(self, slice_bytes: int) -> AsyncGenerator[list[LogRecord], None]:
        """All records up to the log's end, others having their turn between two slices.

        :raises NotCoordinatingError: the leadership is over. :raises KafkaStorageError: the log cannot be read.
        """

    def log_end_offset(self) -> Offset: ...


def batch_size_bytes(records: Sequence[GroupRecord]) -> int:
    """At most so many bytes will the batch have."""
    return _BATCH_OVERHEAD + sum(
        _RECORD_OVERHEAD + len(record.key) + (0 if record.value is None else len(record.value)) for record in records
    )


class PartitionGroupLog:
    """A `GroupLog` of the replica manager."""

    def __init__(
        self,
        replica_manager: ReplicaManager,
        clock: Clock,
        timer: DeadlineTimer[WaitingProduce],
        *,
        topic_id: TopicId,
        partition: int,
        leader_epoch: LeaderEpoch,
    ) -> None:
        self._replica_manager = replica_manager
        self._clock = clock
        self._timer = timer
        self._topic_id = topic_id
        self._partition = partition
        self._leader_epoch = leader_epoch

    def __str__(self) -> str:
        return str(TopicPartition(OFFSETS_TOPIC, self._partition))

    @property
    def partition(self) -> int:
        return self._partition

    @property
    def leader_epoch(self) -> LeaderEpoch:
        return self._leader_epoch

    @property
    def max_batch_bytes(self) -> int:
        replica = self._replica_manager.get(OFFSETS_TOPIC, self._partition)
        return 0 if replica is None else replica.config.max_message_bytes

    def _led(self) -> tuple[Partition, LeaderReplica] | None:
        replica = self._replica_manager.get(OFFSETS_TOPIC, self._partition)
        if (
            replica is None
            or replica.leader is None
            or replica.failure is not None
            or replica.leader_epoch != self._leader_epoch
            or replica.topic_id_partition.topic_id != self._topic_id
        ):
            return None
        return replica, replica.leader

    def leads(self) -> bool:
        return self._led() is not None

    def high_watermark(self) -> Offset:
        led = self._led()
        return Offset(0) if led is None else led[0].high_watermark

    def log_end_offset(self) -> Offset:
        led = self._led()
        if led is None:
            raise NotCoordinatingError
        return led[0].log.log_end_offset

    # --- writing ---

    def append(self, records: Sequence[GroupRecord], timeout_ms: int) -> Appended | ErrorCode:
        led = self._led()
        if led is None:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        request = PartitionProduce(
            topic=OFFSETS_TOPIC,
            topic_id=self._topic_id,
            partition=self._partition,
            current_leader_epoch=self._leader_epoch,
            records=encode_batch(records, self._clock.wall_ms()),
        )
        future = asyncio.ensure_future(self._replica_manager.produce([request], ACKS_ALL, timeout_ms))
        if future.done() and (error := future.result()[0].error) is not ErrorCode.NONE:
            return error
        outcome: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        if future.done():
            outcome.set_result(ErrorCode.NONE)
        else:
            future.add_done_callback(lambda done: _hand_on(done, outcome))
        return Appended(led[0].log.log_end_offset, outcome)

    async def committed(self, end_offset: Offset, timeout_ms: int) -> ErrorCode:
        led = self._led()
        if led is None:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        replica, leader = led
        if replica.high_watermark >= end_offset:
            return ErrorCode.NONE
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()

        def complete(waiting: WaitingProduce) -> None:
            self._timer.discard(waiting)
            if not future.done():
                future.set_result(waiting.errors[0] or ErrorCode.NONE)

        waiting = WaitingProduce(1, complete)
        leader.produces.add(end_offset, waiting, 0)
        self._timer.add(waiting, timeout_ms)
        error = await future
        return error if error is not ErrorCode.NONE or self.leads() else ErrorCode.NOT_LEADER_OR_FOLLOWER

    async def still_leads(self) -> bool:
        led = self._led()
        return led is not None and await still_leads(led[1], self._replica_manager.in_touch)

    # --- reading ---

    async def read(self, slice_bytes: int) -> AsyncGenerator[list[LogRecord], None]:
        from ...proto.record_batch import batches  # with its reader, imported when there is something to read

        led = self._led()
        if led is None:
            raise NotCoordinatingError
        offset = led[0].log.log_start_offset
        while True:
            led = self._led()
            if led is None:
                raise NotCoordinatingError
            log = led[0].log
            if offset >= log.log_end_offset:
                return
            try:
                data = log.read(offset, max_bytes=slice_bytes, end_offset=log.log_end_offset, min_one_batch=True)
            except KafkaStorageError as error:
                led[0].suspend(error)  # another replica may be able to read what this one cannot (rule 27)
                raise
            if not data:
                raise KafkaStorageError(f"{self}: nothing to read at offset {offset} of {log.log_end_offset}")
            for position, header in batches(data):
                if not header.is_control and header.record_count:
                    batch = data[position : position + header.size_bytes]
                    async for records in self._records(batch, offset):
                        yield records
                offset = max(offset, Offset(header.next_offset))
            await asyncio.sleep(0)

    async def _records(self, batch: bytes, from_offset: Offset) -> AsyncGenerator[list[LogRecord], None]:
        from ...proto.record_codec import decode_errors, read_batch

        began_ms = self._clock.monotonic_ms()
        records: list[LogRecord] = []
        try:
            for record in read_batch(batch):
                if record.offset < from_offset or record.key is None:
                    continue
                records.append(LogRecord(Offset(record.offset), record.key, record.value))
                if self._clock.monotonic_ms() - began_ms >= _SLICE_MS:
                    yield records
                    records = []
                    await asyncio.sleep(0)
                    began_ms = self._clock.monotonic_ms()
        except decode_errors() as error:
            # Its CRC was right when it was taken: somebody wrote it so. What can be read of it counts.
            logger.error("group_record_batch_unreadable partition=%s offset=%d error=%s", self, from_offset, error)
        yield records


def _hand_on(done: asyncio.Future[list[ProduceOutcome]], outcome: asyncio.Future[ErrorCode]) -> None:
    if not outcome.done():
        outcome.set_result(done.result()[0].error)


def encode_batch(records: Sequence[GroupRecord], wall_ms: int) -> bytes:
    """One uncompressed record batch."""
    from ...proto.record_codec import NO_HEADERS, build_batch, new_builder

    builder = new_builder(batch_size_bytes(records))
    for index, record in enumerate(records):
        builder.append(index, wall_ms, record.key, record.value, NO_HEADERS)
    return bytes(build_batch(builder, 0))


class ReplicaGroupLogs:
    """Opens the logs of one broker's replicas."""

    def __init__(self, replica_manager: ReplicaManager, clock: Clock) -> None:
        self._replica_manager = replica_manager
        self._clock = clock
        self._timer: DeadlineTimer[WaitingProduce] = DeadlineTimer(clock, WaitingProduce.time_out)

    def open(self, topic_id: TopicId, partition: int, leader_epoch: LeaderEpoch) -> GroupLog:
        """The partition as this broker leads it in that epoch."""
        return PartitionGroupLog(
            self._replica_manager,
            self._clock,
            self._timer,
            topic_id=topic_id,
            partition=partition,
            leader_epoch=leader_epoch,
        )

    def close(self) -> None:
        """Whoever waits is told that the time is up."""
        self._timer.close()
