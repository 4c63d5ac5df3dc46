"""One stream to a leader as the follower's broker sees it: what it asks for, and what it makes of the answers.

Each partition goes its own way: what one of them trips over delays only that one. Answers are held against the replica
as it is now, not as it was when it asked (rule 11); the replica itself does that (`follower.py`). Pure.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from ...proto.errors import CorruptRecordError, KafkaStorageError
from ...proto.identifiers import NONE_ID, BrokerEpoch, BrokerId
from ...proto.replication_pb2 import ReplicaFetchRequest, ReplicaFetchResponse, ReplicaPartitionData, ReplicaPosition
from .follower import BackOff, Discard

if TYPE_CHECKING:
    from ..leader_replica import PartitionKey
    from ..partition import Partition

logger = logging.getLogger(__name__)

CREDIT_BYTES: Final = 8 * 1024 * 1024
"""Record bytes that may be under way on one stream."""
_BACKOFF_MS: Final = 20
_BACKOFF_FOR_METADATA_MS: Final = 100
_BACKOFF_MS_MAX: Final = 1_000


class Received(NamedTuple):
    """What is to be done after one message: ask for these at once, and for those after so many milliseconds."""

    ask: list[PartitionKey]
    ask_later: list[tuple[PartitionKey, int]]
    credit_bytes: int


class FollowerSession:
    """The partitions that this broker follows on one leader."""

    def __init__(self, broker_id: BrokerId, leader_id: BrokerId, random: Random) -> None:
        self._broker_id = broker_id
        self._leader_id = leader_id
        self._random = random
        self.partitions: Final[dict[PartitionKey, Partition]] = {}

    def request(
        self, broker_epoch: BrokerEpoch, keys: Iterable[PartitionKey], credit_bytes: int = 0
    ) -> ReplicaFetchRequest:
        """Asks for these partitions from where they stand now; those no longer followed here are withdrawn."""
        request = ReplicaFetchRequest(broker_id=self._broker_id, broker_epoch=broker_epoch, credit_bytes=credit_bytes)
        for key in keys:
            position = request.positions.add(topic_id=key[0], partition=key[1])
            partition = self.partitions.get(key)
            if partition is None or partition.leader_epoch is None:
                position.remove = True
            else:
                _fill(position, partition)
        return request

    def receive(self, response: ReplicaFetchResponse) -> Received:
        """Carries out the leader's answers, one by one."""
        received = Received([], [], sum(len(data.records) for data in response.partitions))
        for data in response.partitions:
            key = (data.topic_id, data.partition)
            partition = self.partitions.get(key)
            if partition is None or partition.leader_id != self._leader_id or partition.leader is not None:
                continue
            self._receive_one(key, partition, data, received)
        return received

    def _receive_one(
        self, key: PartitionKey, partition: Partition, data: ReplicaPartitionData, received: Received
    ) -> None:
        try:
            action = partition.apply_leader_answer(data)
        except (CorruptRecordError, KafkaStorageError) as error:
            if isinstance(error, KafkaStorageError):
                partition.suspend(error)
            self._back_off(key, partition, _BACKOFF_FOR_METADATA_MS, f"{type(error).__name__}: {error}", received)
            return
        if isinstance(action, Discard):
            return
        if isinstance(action, BackOff):
            first_ms = _BACKOFF_FOR_METADATA_MS if action.for_metadata else _BACKOFF_MS
            self._back_off(key, partition, first_ms, action.error.name, received)
            return
        partition.retry_ms = 0
        partition.confirmed_round = max(partition.confirmed_round, data.confirm_round)
        received.ask.append(key)

    def _back_off(
        self, key: PartitionKey, partition: Partition, first_ms: int, reason: str, received: Received
    ) -> None:
        partition.retry_ms = min(partition.retry_ms * 2, _BACKOFF_MS_MAX) if partition.retry_ms else first_ms
        wait_ms = self._random.randint(partition.retry_ms // 2, partition.retry_ms)
        logger.warning(
            "replica_fetch_failed partition=%s epoch=%s leader=%d error=%s retry_in_ms=%d",
            partition,
            partition.leader_epoch,
            self._leader_id,
            reason,
            wait_ms,
        )
        received.ask_later.append((key, wait_ms))


def _fill(position: ReplicaPosition, partition: Partition) -> None:
    log = partition.log
    last_epoch = log.epoch_cache.latest_epoch
    position.current_leader_epoch = NONE_ID if partition.leader_epoch is None else partition.leader_epoch
    position.fetch_offset = log.log_end_offset
    # From the log, never from an answer: an empty one must not make us forget our last epoch (KAFKA-15510).
    position.last_fetched_epoch = NONE_ID if last_epoch is None else last_epoch
    position.log_start_offset = log.log_start_offset
    position.high_watermark = partition.high_watermark
    position.confirmed_round = partition.confirmed_round
    # Who may be elected holds all that is committed; see `Partition.apply_leader_answer`.
    if last_epoch is not None and log.cleaned_by > log.log_end_offset and not partition.electable:
        position.cleaned_by, position.cleaned_by_epoch = log.cleaned_by, log.cleaned_by_epoch
