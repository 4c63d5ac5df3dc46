"""Looks up offsets in one replica: by time, by one of Kafka's special timestamps, and the end of a leader epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..proto.errors import ErrorCode, KafkaError, KafkaStorageError
from ..proto.identifiers import LeaderEpoch, Offset
from .partition_request import (
    EARLIEST_LOCAL_TIMESTAMP,
    EARLIEST_PENDING_UPLOAD_TIMESTAMP,
    EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    EpochEndOffsetOutcome,
    ListOffsetOutcome,
)

if TYPE_CHECKING:
    from .partition import Partition

_FROM_LOG_START: Final = frozenset({EARLIEST_TIMESTAMP, EARLIEST_LOCAL_TIMESTAMP})
_IN_TIERED_STORAGE: Final = frozenset({LATEST_TIERED_TIMESTAMP, EARLIEST_PENDING_UPLOAD_TIMESTAMP})
_NOTHING: Final = ListOffsetOutcome(ErrorCode.NONE)


def list_offset(partition: Partition, timestamp: int, *, committed_only: bool) -> ListOffsetOutcome:
    """Earliest, latest, that of the newest record, or the first at or after a time.

    With `committed_only` nothing at or past the high watermark is told, as consumers may not know of it.
    """
    if timestamp in _FROM_LOG_START:
        return _outcome(partition, None, partition.log.log_start_offset)
    if timestamp in _IN_TIERED_STORAGE:
        return _NOTHING  # there is no tiered storage
    end_offset = partition.high_watermark if committed_only else partition.log.log_end_offset
    leader = partition.leader
    unsure = committed_only and leader is not None and partition.high_watermark < leader.state.leader_epoch_start_offset
    if timestamp == LATEST_TIMESTAMP:
        return _not_available(partition) if unsure else _outcome(partition, None, end_offset)
    if timestamp < MAX_TIMESTAMP:
        return ListOffsetOutcome(ErrorCode.INVALID_REQUEST, f"timestamp {timestamp} has no meaning")
    log = partition.log
    try:
        entry = log.max_timestamp() if timestamp == MAX_TIMESTAMP else log.offset_for_timestamp(timestamp)
    except KafkaStorageError as error:
        partition.suspend(error)
        return ListOffsetOutcome(error.error_code, str(error))
    except KafkaError as error:  # the records of a batch cannot be looked into
        return ListOffsetOutcome(error.error_code, str(error))
    if entry is not None and entry[1] < end_offset:
        return _outcome(partition, *entry)
    return (
        _not_available(partition) if unsure else ListOffsetOutcome(ErrorCode.NONE, leader_epoch=partition.leader_epoch)
    )


def epoch_end_offset(partition: Partition, epoch: int) -> EpochEndOffsetOutcome:
    """Where the largest known epoch that is not above `epoch` ends (KIP-320); nothing for an epoch yet to come."""
    latest = partition.log.epoch_cache.latest_epoch
    if epoch < 0 or latest is None or epoch > latest:
        return EpochEndOffsetOutcome(ErrorCode.NONE)
    found, end_offset = partition.log.end_offset_for_epoch(LeaderEpoch(epoch))
    return EpochEndOffsetOutcome(ErrorCode.NONE, found, end_offset)


def _outcome(partition: Partition, timestamp: int | None, offset: Offset) -> ListOffsetOutcome:
    epoch = partition.log.epoch_cache.epoch_for_offset(offset)
    return ListOffsetOutcome(ErrorCode.NONE, "", timestamp, offset, partition.leader_epoch if epoch is None else epoch)


def _not_available(partition: Partition) -> ListOffsetOutcome:
    """A new leader may know less than its predecessor told (KIP-207): say so rather than go back."""
    error = ErrorCode.OFFSET_NOT_AVAILABLE
    return ListOffsetOutcome(error, error.message, leader_epoch=partition.leader_epoch)
