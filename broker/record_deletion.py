"""Deletes the oldest records of partitions that this broker leads (DeleteRecords, KIP-107).

The log start moves on the leader at once. Followers hear of it and move theirs; the answer, the low watermark, waits
until every live replica has, or the time is up. Records are gone for readers at once in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..cluster.clock import Clock
from ..cluster.topic_config import is_internal_topic
from ..proto.errors import ErrorCode, KafkaStorageError
from ..proto.identifiers import Offset, TopicPartition

if TYPE_CHECKING:
    from .leader_replica import LeaderReplica
    from .partition import Partition

TO_HIGH_WATERMARK: Final = -1
"""In place of an offset: delete all that is committed."""
_LOOK_AGAIN_MS: Final = 200
"""A follower that died is waited for no longer than this after the metadata say so."""

FindLeading = Callable[[TopicPartition], "tuple[Partition, LeaderReplica] | ErrorCode"]


@dataclass(frozen=True, slots=True)
class RecordDeletion:
    """Delete what is below `before_offset`, or below the high watermark for -1."""

    topic_partition: TopicPartition
    before_offset: int


@dataclass(frozen=True, slots=True)
class RecordDeletionOutcome:
    """`low_watermark` is the least log start of all live replicas; with REQUEST_TIMED_OUT not yet what was wanted."""

    error: ErrorCode
    low_watermark: Offset | None = None


@dataclass(slots=True)
class _Waiting:
    index: int
    partition: Partition
    leader: LeaderReplica
    required: Offset


async def delete_records(
    deletions: Sequence[RecordDeletion], timeout_ms: int, find_leading: FindLeading, clock: Clock
) -> list[RecordDeletionOutcome]:
    """Each partition by itself, in the order of `deletions`."""
    outcomes: list[RecordDeletionOutcome] = []
    waiting: list[_Waiting] = []
    for index, deletion in enumerate(deletions):
        begun = _begin(deletion, find_leading)
        if isinstance(begun, ErrorCode):
            outcomes.append(RecordDeletionOutcome(begun))
            continue
        begun.index = index
        waiting.append(begun)
        # What is said unless the replicas come up to it in time.
        outcomes.append(RecordDeletionOutcome(ErrorCode.REQUEST_TIMED_OUT, begun.leader.low_watermark))
    deadline_ms = clock.monotonic_ms() + timeout_ms
    moved = asyncio.Event()
    try:
        while True:
            moved.clear()
            waiting = [each for each in waiting if not _finished(each, outcomes, moved.set)]
            remaining_ms = deadline_ms - clock.monotonic_ms()
            if not waiting or remaining_ms <= 0:
                return outcomes
            try:
                async with asyncio.timeout(min(remaining_ms, _LOOK_AGAIN_MS) / 1000):
                    await moved.wait()
            except TimeoutError:
                continue
    finally:
        for each in waiting:
            each.leader.low_watermark_listeners.pop(moved.set, None)


def _begin(deletion: RecordDeletion, find_leading: FindLeading) -> _Waiting | ErrorCode:
    """Moves the leader's log start; the error if it may not."""
    if is_internal_topic(deletion.topic_partition.topic):
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    found = find_leading(deletion.topic_partition)
    if isinstance(found, ErrorCode):
        return found
    partition, leader = found
    if "delete" not in partition.config.cleanup_policy.split(","):
        return ErrorCode.POLICY_VIOLATION  # of each key the last record is to be kept
    wanted = deletion.before_offset
    offset = partition.high_watermark if wanted == TO_HIGH_WATERMARK else Offset(wanted)
    if not 0 <= offset <= partition.high_watermark:
        return ErrorCode.OFFSET_OUT_OF_RANGE
    try:
        leader.advance_log_start_to(offset)
    except KafkaStorageError as error:
        partition.suspend(error)
        return error.error_code
    return _Waiting(0, partition, leader, offset)


def _finished(waiting: _Waiting, outcomes: list[RecordDeletionOutcome], listener: Callable[[], None]) -> bool:
    leader = waiting.partition.leader
    waiting.leader.low_watermark_listeners.pop(listener, None)
    if leader is None:
        outcomes[waiting.index] = RecordDeletionOutcome(waiting.partition.closed or ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return True
    waiting.leader = leader
    low_watermark = leader.low_watermark
    if low_watermark >= waiting.required:
        outcomes[waiting.index] = RecordDeletionOutcome(ErrorCode.NONE, low_watermark)
        return True
    leader.low_watermark_listeners[listener] = None
    return False
