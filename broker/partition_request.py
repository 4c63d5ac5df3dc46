"""What is asked of the replica manager for one partition, and what comes of it: values, whatever door they came by.

An outcome with an error other than NONE has None where a number has no meaning. Those that are made for every request
are named tuples: they cost a third of a frozen dataclass. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId, LeaderEpoch, Offset, TopicId
from ..proto.record_batch import Buffer, batches

LATEST_TIMESTAMP: Final = -1
EARLIEST_TIMESTAMP: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL_TIMESTAMP: Final = -4
LATEST_TIERED_TIMESTAMP: Final = -5
EARLIEST_PENDING_UPLOAD_TIMESTAMP: Final = -6
"""Kafka's special timestamps of ListOffsets: the end, the start, the record with the highest timestamp (KIP-734); the
first offset on this disk, the last one in tiered storage, and the first that is not there yet (KIP-405)."""


class PartitionProduce(NamedTuple):
    """Append `records`, exactly one record batch; a writable memoryview may be patched in place."""

    topic: str
    topic_id: TopicId | None  # None: whichever topic has the name now
    partition: int
    current_leader_epoch: LeaderEpoch | None  # None: not checked
    records: Buffer


class ProduceOutcome(NamedTuple):
    """With REQUEST_TIMED_OUT and NOT_ENOUGH_REPLICAS_AFTER_APPEND it is not known whether the batch stays (rule 16)."""

    error: ErrorCode
    message: str = ""
    base_offset: Offset | None = None
    log_append_time_ms: int | None = None  # None: records bear the producer's time
    log_start_offset: Offset | None = None
    # Which records of the batch are at fault, by their place in it, and why (KIP-467); none where the whole batch is.
    record_errors: tuple[tuple[int, str], ...] = ()


class PartitionFetch(NamedTuple):
    """Read whole batches from `fetch_offset` on."""

    topic: str
    topic_id: TopicId | None
    partition: int
    current_leader_epoch: LeaderEpoch | None
    fetch_offset: Offset
    partition_max_bytes: int
    last_fetched_epoch: LeaderEpoch | None = None  # set: tell where the reader's history leaves this log (KIP-320)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Reads of several partitions, in the order of their importance."""

    partitions: Sequence[PartitionFetch]
    max_wait_ms: int
    min_bytes: int
    max_bytes: int  # over all; the first batch is read however large it is
    read_committed: bool = False
    from_any_replica: bool = False  # followers may answer too, up to what they know to be committed (KIP-392)
    rack: str = ""  # set: say so where a replica in this rack should be read instead
    # Partitions, with the leader epoch, that this broker was found to lead still; filled in while the fetch waits.
    confirmed: set[tuple[str, int, LeaderEpoch]] = field(default_factory=set)


class FetchOutcome(NamedTuple):
    """`records` may begin below the offset asked for, with the batch that holds it."""

    error: ErrorCode
    message: str = ""
    high_watermark: Offset | None = None
    last_stable_offset: Offset | None = None
    log_start_offset: Offset | None = None
    records: Buffer = b""
    diverging_epoch: tuple[LeaderEpoch, Offset] | None = None  # largest epoch not above the reader's, and its end
    preferred_read_replica: BrokerId | None = None  # set: nothing was read, this replica is nearer (KIP-392)
    to_be_confirmed: bool = False  # the offset is past the end, if this broker leads still

    @property
    def is_urgent(self) -> bool:
        """There is something to tell, records or not."""
        return bool(self.error) or self.diverging_epoch is not None or self.preferred_read_replica is not None

    @property
    def stops_short(self) -> bool:
        """More is there, which the limits of the fetch or the end of a segment left out: waiting would not bring it."""
        if not self.records or self.high_watermark is None:
            return False
        *_, (_, last) = batches(self.records)
        return last.next_offset < self.high_watermark


@dataclass(frozen=True, slots=True)
class ListOffsetOutcome:
    """`offset` is None if no record is at or after the time asked for."""

    error: ErrorCode
    message: str = ""
    timestamp: int | None = None
    offset: Offset | None = None
    leader_epoch: LeaderEpoch | None = None


@dataclass(frozen=True, slots=True)
class EpochEndOffsetOutcome:
    """Both None if no epoch is known that is not above the one asked for."""

    error: ErrorCode
    leader_epoch: LeaderEpoch | None = None
    end_offset: Offset | None = None
