"""One follower's stream as the leader's broker sees it: which partitions are armed, and what to answer next.

An armed partition is answered once, as soon as there is something to say: records, an error, a diverging epoch, a round
of `confirmations.py`, or a high watermark that the follower has not heard of. The last waits a little for records to
ride on. A position that is ahead of this broker's metadata (newer leader epoch, unknown partition, replica not yet
assigned) stays armed until the metadata has caught up: refusing it would only make the follower ask again.

Bounded: positions hold no records, and records leave the log only when the stream takes the next message. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from ...cluster.clock import Clock
from ...proto.errors import ErrorCode, KafkaStorageError, OffsetOutOfRangeError
from ...proto.identifiers import NONE_ID, BrokerEpoch, BrokerId, LeaderEpoch, Offset
from ...proto.replication_pb2 import (
    EpochEndOffset,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaPartitionData,
    ReplicaPosition,
)

if TYPE_CHECKING:
    from ..leader_replica import LeaderReplica, PartitionKey
    from ..partition import Partition

RESPONSE_BYTES_MAX: Final = 1024 * 1024
"""Records of one message, all partitions together; the first batch goes out even when it is larger."""
RESPONSE_PARTITIONS_MAX: Final = 100
"""Partitions of one message. Its reader may open a file for each of them, and serves nobody else meanwhile: with
thousands not even its heartbeats go out."""
PARTITION_BYTES_MAX: Final = 1024 * 1024


class Position(NamedTuple):
    """Where the follower stands in one partition, and what it knows."""

    leader_epoch: int
    fetch_offset: Offset
    last_fetched_epoch: LeaderEpoch | None
    high_watermark: int
    log_start_offset: int
    cleaned_by: int = 0
    cleaned_by_epoch: LeaderEpoch = LeaderEpoch(0)
    confirmed_round: int = 0


class _State(Enum):
    """What there is to say to a position."""

    READY = auto()
    HIGH_WATERMARK = auto()
    NOTHING = auto()
    AHEAD_OF_US = auto()


class LeaderSession:
    """`wake` is called when a message can be made; `wake_later` when one is wanted within the lazy delay."""

    def __init__(
        self,
        broker_id: BrokerId,
        broker_epoch: BrokerEpoch,
        *,
        partitions: Mapping[PartitionKey, Partition],
        clock: Clock,
        wake: Callable[[], None],
        wake_later: Callable[[], None],
    ) -> None:
        self.broker_id: Final = broker_id
        self.broker_epoch: Final = broker_epoch
        self._partitions = partitions
        self._clock = clock
        self._wake = wake
        self._wake_later = wake_later
        self._positions: dict[PartitionKey, Position] = {}
        self._ready: dict[PartitionKey, None] = {}  # in the order in which they became so
        self._lazy: dict[PartitionKey, None] = {}
        self._ahead: dict[PartitionKey, None] = {}
        self._offered: dict[PartitionKey, tuple[int, int]] = {}  # leader epoch and round that were last sent
        self._credit_bytes = 0

    @property
    def armed_count(self) -> int:
        """Partitions that have not been answered."""
        return len(self._positions)

    # --- what comes in ---------------------------------------------------------------------------------------

    def receive(self, request: ReplicaFetchRequest) -> None:
        """Positions and credit from the follower."""
        self._credit_bytes += request.credit_bytes
        now_ms = self._clock.monotonic_ms()
        for position in request.positions:
            key = (position.topic_id, position.partition)
            self._forget(key)
            if position.remove:
                self._offered.pop(key, None)
            else:
                self._arm(key, position, now_ms)
        if self._ready and self._credit_bytes > 0:
            self._wake()

    def _arm(self, key: PartitionKey, asked: ReplicaPosition, now_ms: int) -> None:
        position = Position(
            asked.current_leader_epoch,
            Offset(asked.fetch_offset),
            None if asked.last_fetched_epoch == NONE_ID else LeaderEpoch(asked.last_fetched_epoch),
            asked.high_watermark,
            asked.log_start_offset,
            asked.cleaned_by,
            LeaderEpoch(asked.cleaned_by_epoch),
            asked.confirmed_round,
        )
        self._positions[key] = position
        self._look_at(key, position, now_ms)

    def _look_at(self, key: PartitionKey, position: Position, now_ms: int) -> None:
        """Takes note of the position, and finds out whether there is something to say to it."""
        partition = self._partitions.get(key)
        leader = None if partition is None else self._leader_for(partition, position)
        if partition is None or leader is None:
            ahead = (
                partition is None or partition.leader_epoch is None or partition.leader_epoch < position.leader_epoch
            )
            (self._ahead if ahead else self._ready)[key] = None
            return
        if self.broker_id not in leader.state.followers:
            self._ahead[key] = None
            return
        if _error_or_divergence(partition, position) is not None:
            self._ready[key] = None
            return
        leader.follower_log_start(self.broker_id, Offset(position.log_start_offset))
        leader.confirmed(self.broker_id, position.confirmed_round)
        leader.follower_fetched(self.broker_id, self.broker_epoch, position.fetch_offset, now_ms)
        if self._positions.get(key) is not position or key in self._ready:
            return  # carrying that out has told this very stream something
        if partition.log.log_end_offset > position.fetch_offset or self._owes_an_answer(key, leader):
            self._ready[key] = None
            return
        leader.armed[self] = None
        if (
            partition.high_watermark > position.high_watermark
            or partition.log.log_start_offset > position.log_start_offset
        ):
            self.high_watermark_ready(key)

    def _owes_an_answer(self, key: PartitionKey, leader: LeaderReplica) -> bool:
        """It has not been sent the round that it is to send back; once is enough until time has passed."""
        wanted = leader.wanted_from(self.broker_id)
        return wanted > 0 and (leader.leader_epoch, wanted) > self._offered.get(key, (-1, 0))

    @staticmethod
    def _leader_for(partition: Partition, position: Position) -> LeaderReplica | None:
        """The leadership that the position is meant for, if it is this broker's now (rule 11)."""
        if partition.failure is not None or partition.leader_epoch != position.leader_epoch:
            return None
        return partition.leader

    def _forget(self, key: PartitionKey) -> None:
        if self._positions.pop(key, None) is None:
            return
        self._ready.pop(key, None)
        self._lazy.pop(key, None)
        self._ahead.pop(key, None)
        partition = self._partitions.get(key)
        if partition is not None and partition.leader is not None:
            partition.leader.armed.pop(self, None)

    def metadata_changed(self) -> None:
        """Positions that were ahead of this broker's metadata may be understood now."""
        now_ms = self._clock.monotonic_ms()
        for key in tuple(self._ahead):
            del self._ahead[key]
            self._look_at(key, self._positions[key], now_ms)
        if self._ready:
            self._wake()

    def close(self) -> None:
        """The stream is gone."""
        for key in tuple(self._positions):
            self._forget(key)

    # --- what partitions report (ArmedStream) ----------------------------------------------------------------

    def data_ready(self, key: PartitionKey) -> None:
        if key in self._positions:
            self._ready[key] = None
            self._lazy.pop(key, None)
            if self._credit_bytes > 0:
                self._wake()

    def high_watermark_ready(self, key: PartitionKey) -> None:
        if key in self._positions and key not in self._ready:
            if not self._lazy:
                self._wake_later()
            self._lazy[key] = None

    # --- what goes out ---------------------------------------------------------------------------------------

    def release_lazy(self) -> None:
        """The lazy delay is over: high watermarks go out by themselves now."""
        for key in self._lazy:
            self._ready[key] = None
            partition = self._partitions.get(key)
            if partition is not None and partition.leader is not None:
                partition.leader.armed.pop(self, None)
        self._lazy.clear()
        if self._ready and self._credit_bytes > 0:
            self._wake()

    def next_response(self) -> ReplicaFetchResponse | None:
        """The next message, or None if there is nothing to say or no credit to say it with."""
        if not self._ready or self._credit_bytes <= 0:
            return None
        budget = min(RESPONSE_BYTES_MAX, self._credit_bytes)
        sent_bytes = 0
        response = ReplicaFetchResponse()
        while self._ready and sent_bytes < budget and len(response.partitions) < RESPONSE_PARTITIONS_MAX:
            key = next(iter(self._ready))
            del self._ready[key]
            position = self._positions.pop(key)
            partition = self._partitions.get(key)
            data = response.partitions.add(
                topic_id=key[0],
                partition=key[1],
                leader_epoch=position.leader_epoch,
                fetch_offset=position.fetch_offset,
            )
            if partition is None:
                data.error_code = ErrorCode.UNKNOWN_TOPIC_ID
            else:
                sent_bytes += self._fill(data, partition, position, budget - sent_bytes)
        self._credit_bytes -= sent_bytes
        return response

    def _fill(self, data: ReplicaPartitionData, partition: Partition, position: Position, max_bytes: int) -> int:
        """Answers one position; returns the bytes of records in the answer."""
        data.log_start_offset = partition.log.log_start_offset
        data.high_watermark = partition.high_watermark
        found = self._refusal(partition, position) or _error_or_divergence(partition, position)
        if isinstance(found, ErrorCode):
            data.error_code = found
            return 0
        if found is not None:
            data.diverging_epoch.CopyFrom(found)
            return 0
        if partition.leader is not None:
            data.confirm_round = partition.leader.wanted_from(self.broker_id)
            if data.confirm_round:
                self._offered[partition.key] = (position.leader_epoch, data.confirm_round)
        log = partition.log
        if position.fetch_offset >= log.log_end_offset:
            return 0
        data.offset_gaps = log.offset_gaps.allowed
        try:
            data.records = log.read(
                position.fetch_offset,
                max_bytes=min(max_bytes, PARTITION_BYTES_MAX),
                end_offset=log.log_end_offset,
                min_one_batch=True,
            )
        except OffsetOutOfRangeError:
            data.error_code = ErrorCode.OFFSET_OUT_OF_RANGE
        except KafkaStorageError as error:
            partition.suspend(error)
            data.error_code = ErrorCode.KAFKA_STORAGE_ERROR
        return len(data.records)

    def _refusal(self, partition: Partition, position: Position) -> ErrorCode | None:
        if partition.failure is not None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        epoch = partition.leader_epoch
        if epoch is None or epoch < position.leader_epoch:
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        if epoch > position.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        return None if partition.leader is not None else ErrorCode.NOT_LEADER_OR_FOLLOWER


def _error_or_divergence(partition: Partition, position: Position) -> ErrorCode | EpochEndOffset | None:
    """What keeps this position from being served: out of range, or a history that is not the leader's (KIP-320)."""
    log = partition.log
    if position.fetch_offset < log.log_start_offset:
        return ErrorCode.OFFSET_OUT_OF_RANGE
    if position.last_fetched_epoch is not None:
        epoch, end_offset = log.end_offset_for_epoch(position.last_fetched_epoch)
        if epoch is None:
            return ErrorCode.OFFSET_OUT_OF_RANGE
        if epoch < position.last_fetched_epoch or end_offset < position.fetch_offset:
            return EpochEndOffset(epoch=epoch, end_offset=end_offset)
        if position.cleaned_by > position.fetch_offset:
            # It lacks records for the sake of others that it would have copied next: an unclean election may have taken
            # these from this log. It must not be counted as in sync up to here: so it is told where the log went apart.
            epoch, end_offset = log.end_offset_for_epoch(position.cleaned_by_epoch)
            if epoch is not None and end_offset < position.cleaned_by:
                return EpochEndOffset(epoch=epoch, end_offset=end_offset)
    return ErrorCode.OFFSET_OUT_OF_RANGE if position.fetch_offset > log.log_end_offset else None
