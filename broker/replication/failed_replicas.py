"""ReplicaFailed: a replica whose log failed or is corrupt asks to be taken out of the ISR, and to lead no longer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from ...proto.command_pb2 import Command, CommandResponse, FailedReplica, ReplicaFailedCommand
from ...proto.errors import ErrorCode
from ...proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch

if TYPE_CHECKING:
    from ..partition import Partition

logger = logging.getLogger(__name__)


class _Asked(NamedTuple):
    partition: Partition
    leader_epoch: LeaderEpoch


class FailedReplicas:
    """The kind of command that gives replicas up."""

    def __init__(self, broker_id: BrokerId) -> None:
        self._broker_id = broker_id

    def build(self, partitions: Sequence[Partition], broker_epoch: BrokerEpoch) -> tuple[Command, list[object]]:
        failed = ReplicaFailedCommand(broker_id=self._broker_id, broker_epoch=broker_epoch)
        asked: list[object] = []
        for partition in partitions:
            if partition.failure is None or partition.leader_epoch is None or partition.closed is not None:
                continue
            topic_id, number = partition.key
            failed.partitions.append(
                FailedReplica(topic_id=topic_id, partition=number, leader_epoch=partition.leader_epoch)
            )
            asked.append(_Asked(partition, partition.leader_epoch))
        return Command(replica_failed=failed), asked

    def answered(self, asked: list[object], response: CommandResponse) -> list[Partition]:
        outcomes = {
            (outcome.topic_id, outcome.partition): ErrorCode.of(outcome.error_code)
            for outcome in response.replica_failed.partitions
        }
        for partition, leader_epoch in cast("list[_Asked]", asked):
            error = outcomes.get(partition.key, ErrorCode.UNKNOWN_SERVER_ERROR)
            logger.warning("replica_given_up partition=%s epoch=%d error=%s", partition, leader_epoch, error.name)
            if error is not ErrorCode.NONE and partition.leader_epoch == leader_epoch:
                # Nobody else can lead. Without an error the metadata that ends this leadership is on its way.
                partition.resume()
        return []
