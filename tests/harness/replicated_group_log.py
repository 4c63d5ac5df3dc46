"""One partition of __consumer_offsets with all its replicas, as a model: what group coordinators stand on in tests.

Each broker has a copy of the log, a high watermark and an idea of who leads, in which epoch. Appends go to the copy of
the broker that makes them, if it believes that it leads; they are committed when every replica in sync has them. With
`auto` that is at once. Whoever was wrong about the leadership loses what the new leader does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from klamm.broker.groups.group import GroupRecord
from klamm.broker.groups.group_log import Appended, LogRecord, NotCoordinatingError, batch_size_bytes
from klamm.cluster.image import MetadataImage, TopicImage
from klamm.cluster.partition import PartitionImage
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId, LeaderEpoch, MetadataOffset, Offset, PartitionEpoch, TopicId

OFFSETS_TOPIC_ID = TopicId(int=1)
OFFSETS_TOPIC = "__consumer_offsets"


@dataclass
class Batch:
    epoch: int
    records: tuple[GroupRecord, ...]


@dataclass
class Replica:
    """One broker's copy, and what the broker believes."""

    batches: list[Batch] = field(default_factory=list)
    high_watermark: int = 0  # in batches, which are the offsets of this model
    leads_in: int | None = None
    epoch: int = -1  # the newest that it has heard of
    waiting: list[tuple[int, asyncio.Future[ErrorCode]]] = field(default_factory=list)


class ReplicatedGroupLog:
    """See the module. Offsets count batches."""

    def __init__(self, brokers: Sequence[int] = (1,), *, auto: bool = True, min_isr: int = 1) -> None:
        self.replicas = {broker: Replica() for broker in brokers}
        self.isr = set(brokers)
        self.leader: int = brokers[0]
        self.epoch = 0
        self.auto = auto
        self.min_isr = min_isr
        self.max_batch_bytes = 1_000_000
        self.append_errors: list[ErrorCode] = []  # of the next appends: nothing is written
        self.batches_appended = 0

    def image(self, topics: dict[str, int] | None = None, topic_ids: dict[str, TopicId] | None = None) -> MetadataImage:
        """The metadata as they are now, with these other topics and their numbers of partitions."""
        replicas = tuple(map(BrokerId, self.replicas))
        made = {
            OFFSETS_TOPIC: TopicImage(
                OFFSETS_TOPIC,
                OFFSETS_TOPIC_ID,
                (
                    PartitionImage(
                        OFFSETS_TOPIC_ID,
                        0,
                        replicas,
                        tuple(sorted(map(BrokerId, self.isr))),
                        BrokerId(self.leader),
                        LeaderEpoch(self.epoch),
                        PartitionEpoch(self.epoch),
                    ),
                ),
            )
        }
        for number, (name, partitions) in enumerate((topics or {"t": 8}).items(), start=2):
            topic_id = (topic_ids or {}).get(name) or UUID(int=number)
            made[name] = TopicImage(
                name,
                topic_id,
                tuple(
                    PartitionImage(topic_id, index, replicas, replicas, replicas[0], LeaderEpoch(0), PartitionEpoch(0))
                    for index in range(partitions)
                ),
            )
        empty = MetadataImage.empty()
        return MetadataImage(
            end_offset=MetadataOffset(self.epoch + 1),
            cluster_id="c",
            controller_id=None,
            controller_epoch=empty.controller_epoch,
            brokers={},
            topics=made,
            topic_names={topic.topic_id: topic.name for topic in made.values()},
            configs={},
            next_producer_id=empty.next_producer_id,
            partition_count=sum(len(topic.partitions) for topic in made.values()),
        )

    # --- what the controllers do ---

    def elect(self, broker: int) -> None:
        """A new leader, in a new epoch; nobody knows it yet."""
        assert broker in self.isr
        self.leader = broker
        self.epoch += 1

    def tell(self, broker: int) -> None:
        """The broker hears who leads: it gives up, follows, or takes over."""
        replica = self.replicas[broker]
        if replica.epoch == self.epoch:
            return
        replica.epoch = self.epoch
        replica.leads_in = None
        waiting, replica.waiting = replica.waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_result(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if broker == self.leader:
            replica.leads_in = self.epoch
            self.advance()

    # --- replication ---

    def fetch(self, broker: int) -> None:
        """A follower that knows the leader takes its log: what is not there is cut off, one batch more is copied."""
        replica, leader = self.replicas[broker], self.replicas[self.leader]
        if broker == self.leader or replica.epoch != self.epoch or leader.leads_in != self.epoch:
            return
        same = _common(replica, leader)
        assert same >= replica.high_watermark or broker not in self.isr, "a committed batch was cut off"
        del replica.batches[same:]
        replica.batches.extend(leader.batches[same : same + 1])
        replica.high_watermark = min(leader.high_watermark, len(replica.batches))
        self.advance()

    def advance(self) -> None:
        """The leader's high watermark follows the replicas in sync that it knows to be following it."""
        leader = self.replicas[self.leader]
        if leader.leads_in != self.epoch or len(self.isr) < self.min_isr:
            return
        ends = []
        for broker in self.isr:
            replica = self.replicas[broker]
            same = len(leader.batches) if replica is leader else _common(replica, leader)
            ends.append(same if replica.epoch == self.epoch else min(same, leader.high_watermark))
        leader.high_watermark = max(leader.high_watermark, min(ends))
        waiting, leader.waiting = leader.waiting, []
        for end, future in waiting:
            if end > leader.high_watermark:
                leader.waiting.append((end, future))
            elif not future.done():
                future.set_result(ErrorCode.NONE)

    def time_out(self, broker: int) -> None:
        """Whoever waits for the replicas at this broker waits no longer: what will come of it is not known."""
        replica = self.replicas[broker]
        waiting, replica.waiting = replica.waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_result(ErrorCode.REQUEST_TIMED_OUT)

    def replicate(self) -> None:
        """Everybody hears everything and copies everything."""
        for broker in self.replicas:
            self.tell(broker)
        for broker in self.replicas:
            for _ in range(len(self.replicas[self.leader].batches) + 1):
                self.fetch(broker)
        self.advance()

    # --- where coordinators get their logs (GroupLogs) ---

    def logs(self, broker: int) -> FakeGroupLogs:
        return FakeGroupLogs(self, broker)


def _common(replica: Replica, leader: Replica) -> int:
    """How many batches the two have in common; what the replica knows to be committed is the same everywhere."""
    same = min(replica.high_watermark, len(leader.batches))
    shorter = min(len(replica.batches), len(leader.batches))
    while same < shorter and replica.batches[same] is leader.batches[same]:
        same += 1
    return same


class FakeGroupLogs:
    def __init__(self, replicated: ReplicatedGroupLog, broker: int) -> None:
        self._replicated = replicated
        self._broker = broker

    def open(self, topic_id: TopicId, partition: int, leader_epoch: LeaderEpoch) -> FakeGroupLog:
        return FakeGroupLog(self._replicated, self._broker, leader_epoch)

    def close(self) -> None:
        pass


class FakeGroupLog:
    """A `GroupLog` of the model."""

    def __init__(self, replicated: ReplicatedGroupLog, broker: int, leader_epoch: LeaderEpoch) -> None:
        self._replicated = replicated
        self._replica = replicated.replicas[broker]
        self._epoch = leader_epoch

    def __str__(self) -> str:
        return f"{OFFSETS_TOPIC}-0"

    @property
    def partition(self) -> int:
        return 0

    @property
    def leader_epoch(self) -> LeaderEpoch:
        return self._epoch

    @property
    def max_batch_bytes(self) -> int:
        return self._replicated.max_batch_bytes

    def leads(self) -> bool:
        return self._replica.leads_in == self._epoch

    def high_watermark(self) -> Offset:
        return Offset(self._replica.high_watermark if self.leads() else 0)

    def log_end_offset(self) -> Offset:
        if not self.leads():
            raise NotCoordinatingError
        return Offset(len(self._replica.batches))

    def append(self, records: Sequence[GroupRecord], timeout_ms: int) -> Appended | ErrorCode:
        model = self._replicated
        if not self.leads():
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if model.append_errors:
            return model.append_errors.pop(0)
        if batch_size_bytes(records) > model.max_batch_bytes:
            return ErrorCode.MESSAGE_TOO_LARGE
        self._replica.batches.append(Batch(self._epoch, tuple(records)))
        model.batches_appended += 1
        end_offset = len(self._replica.batches)
        outcome: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        self._replica.waiting.append((end_offset, outcome))
        if model.auto:
            model.replicate()
        if not outcome.done():
            asyncio.get_running_loop().call_later(timeout_ms / 1000, _give_up, outcome)
        return Appended(Offset(end_offset), outcome)

    async def still_leads(self) -> bool:
        return self.leads() and all(replica.epoch <= self._epoch for replica in self._replicated.replicas.values())

    async def committed(self, end_offset: Offset, timeout_ms: int) -> ErrorCode:
        if not self.leads():
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if self._replica.high_watermark >= end_offset:
            return ErrorCode.NONE
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        self._replica.waiting.append((end_offset, future))
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await future
        except TimeoutError:
            return ErrorCode.REQUEST_TIMED_OUT

    async def read(self, slice_bytes: int) -> AsyncGenerator[list[LogRecord], None]:
        position = 0
        while True:
            if not self.leads():
                raise NotCoordinatingError
            if position >= len(self._replica.batches):
                return
            batch = self._replica.batches[position]
            yield [LogRecord(Offset(position), record.key, record.value) for record in batch.records]
            position += 1
            await asyncio.sleep(0)


def _give_up(outcome: asyncio.Future[ErrorCode]) -> None:
    if not outcome.done():
        outcome.set_result(ErrorCode.REQUEST_TIMED_OUT)
