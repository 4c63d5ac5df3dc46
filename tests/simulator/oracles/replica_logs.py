"""What every replica's log holds, kept beside the code under test from what it appends and cuts off, batch by batch.

A log here outlives its broker's process, as the disk does. It keeps what retention has deleted and what compaction has
taken out: it is the history of the replica, and only a truncation takes something back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from klamm.proto.identifiers import TopicIdPartition
from klamm.proto.record_batch import RecordBatchHeader, batches


class Batch(NamedTuple):
    """One batch: where it stands, under which epoch, whose it is, and what its bytes come to."""

    base_offset: int
    next_offset: int
    leader_epoch: int
    digest: int
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    last_sequence: int = -1

    @classmethod
    def of(cls, header: RecordBatchHeader, data: bytes) -> Batch:
        """The batch of these bytes."""
        return cls(
            header.base_offset,
            header.next_offset,
            header.partition_leader_epoch,
            hash(data),
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence,
        )


def batches_in(data: bytes | memoryview) -> list[Batch]:
    """Each whole batch in a run of bytes."""
    return [
        Batch.of(header, bytes(data[position : position + header.size_bytes])) for position, header in batches(data)
    ]


class ReplicaLog:
    """The batches of one replica, in the order of their offsets."""

    def __init__(self, start_offset: int = 0) -> None:
        self.begins_at = start_offset  # nothing before it is known
        self.end_offset = start_offset
        self.deleted_below = 0  # the highest log start that it ever had: after a crash it may be forgotten
        self.intact = True  # False: the disk may have lost some of it, and nobody has looked yet
        self.batches: list[Batch] = []
        self._bases: list[int] = []
        self._sequences: dict[tuple[int, int, int], int] = {}
        self._last: dict[int, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def append(self, batch: Batch) -> None:
        """At the end."""
        self.batches.append(batch)
        self._bases.append(batch.base_offset)
        self.end_offset = batch.next_offset
        if batch.producer_id >= 0 and batch.base_sequence >= 0:
            self._sequences[batch.producer_id, batch.producer_epoch, batch.base_sequence] = batch.base_offset
            self._last[batch.producer_id] = (batch.producer_epoch, batch.last_sequence)

    def truncate(self, end_offset: int) -> list[Batch]:
        """Cuts off all that reaches past `end_offset`; returns it."""
        keep = len(self.batches)
        while keep and self.batches[keep - 1].next_offset > end_offset:
            keep -= 1
        cut = self.batches[keep:]
        if cut:
            self.replace(self.batches[:keep])
        self.end_offset = end_offset
        return cut

    def restart(self, offset: int) -> list[Batch]:
        """Nothing is left, and the next batch goes to `offset`; returns what was there."""
        cut = self.batches
        self.deleted_below = 0
        self.replace(())
        self.begins_at = self.end_offset = offset
        return cut

    def replace(self, kept: Iterable[Batch]) -> None:
        """Holds these batches and no others; the end stays behind the last one, if there is one."""
        end_offset = self.end_offset
        self.batches, self._bases, self._sequences, self._last = [], [], {}, {}
        for batch in kept:
            self.append(batch)
        if not self.batches:
            self.end_offset = end_offset

    def at(self, base_offset: int) -> Batch | None:
        """The batch that begins there."""
        index = bisect_left(self._bases, base_offset)
        return self.batches[index] if index < len(self.batches) and self._bases[index] == base_offset else None

    def between(self, begin: int, end: int) -> list[Batch]:
        """Batches that begin at `begin` or later and end at `end` or before."""
        found = self.batches[bisect_left(self._bases, begin) :]
        while found and found[-1].next_offset > end:
            found.pop()
        return found

    def offset_of(self, producer_id: int, producer_epoch: int, base_sequence: int) -> int | None:
        """Where a producer's batch of this sequence stands."""
        return self._sequences.get((producer_id, producer_epoch, base_sequence))

    def last_of(self, producer_id: int) -> tuple[int, int] | None:
        """Producer epoch and last sequence of a producer's newest batch."""
        return self._last.get(producer_id)


class ReplicaLogs:
    """All replicas of all brokers that there ever were."""

    def __init__(self) -> None:
        self._logs: dict[tuple[int, TopicIdPartition], ReplicaLog] = {}
        self.names: dict[TopicIdPartition, str] = {}
        self.compacted: set[TopicIdPartition] = set()  # batches may be rewritten and offsets missing

    def get(self, broker_id: int, partition: TopicIdPartition) -> ReplicaLog | None:
        """The log, if the broker ever had one."""
        return self._logs.get((broker_id, partition))

    def of(self, broker_id: int, partition: TopicIdPartition) -> ReplicaLog:
        """The log, a new one if need be."""
        log = self._logs.get((broker_id, partition))
        if log is None:
            log = self._logs[broker_id, partition] = ReplicaLog()
        return log

    def drop(self, broker_id: int, partition: TopicIdPartition) -> None:
        """The folder is gone."""
        self._logs.pop((broker_id, partition), None)

    def on(self, broker_id: int) -> list[tuple[TopicIdPartition, ReplicaLog]]:
        """All logs on one broker's disk."""
        return [(partition, log) for (owner, partition), log in self._logs.items() if owner == broker_id]

    def hold_producer(self, partition: TopicIdPartition, producer_id: int) -> bool:
        """True if a batch of it is in any of the partition's logs."""
        return any(log.last_of(producer_id) for (_, owned), log in self._logs.items() if owned == partition)

    def name(self, partition: TopicIdPartition) -> str:
        """Topic and number, for sentences."""
        return self.names.get(partition, str(partition))
