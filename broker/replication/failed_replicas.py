"""ReplicaFailed: a replica whose log failed or is corrupt asks to be taken out of the ISR, and to lead no longer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from ...proto.command_pb2 import Command, CommandResponse, FailedReplica, ReplicaFailedCommand
from ...proto.errors import ErrorCode
from ...proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch

if TYPE_CHECKING:
    from ..leader_replica import PartitionKey
    from ..partition import Partition

logger = logging.getLogger(__name__)


_ASK_AGAIN: Final = frozenset({ErrorCode.NOT_CONTROLLER, ErrorCode.UNKNOWN_SERVER_ERROR})


class MissingReplica:
    """A replica that this broker is to lead or follow, and for which the disk would not take a folder."""

    def __init__(self, name: str, key: PartitionKey, leader_epoch: LeaderEpoch) -> None:
        self.key = key
        self.leader_epoch = leader_epoch
        self._name = name

    def __str__(self) -> str:
        return self._name


FailingReplica: TypeAlias = "Partition | MissingReplica"


class _Asked(NamedTuple):
    replica: FailingReplica
    leader_epoch: LeaderEpoch


class FailedReplicas:
    """The kind of command that gives replicas up."""

    def __init__(self, broker_id: BrokerId) -> None:
        self._broker_id = broker_id

    def build(self, replicas: Sequence[FailingReplica], broker_epoch: BrokerEpoch) -> tuple[Command, list[object]]:
        failed = ReplicaFailedCommand(broker_id=self._broker_id, broker_epoch=broker_epoch)
        asked: list[object] = []
        for replica in replicas:
            if isinstance(replica, MissingReplica) or replica.failing:
                leader_epoch = replica.leader_epoch or LeaderEpoch(0)
                topic_id, number = replica.key
                failed.partitions.append(FailedReplica(topic_id=topic_id, partition=number, leader_epoch=leader_epoch))
                asked.append(_Asked(replica, leader_epoch))
        return Command(replica_failed=failed), asked

    def answered(self, asked: list[object], response: CommandResponse) -> list[FailingReplica]:
        outcomes = {
            (outcome.topic_id, outcome.partition): ErrorCode.of(outcome.error_code)
            for outcome in response.replica_failed.partitions
        }
        again: list[FailingReplica] = []
        for replica, leader_epoch in cast("list[_Asked]", asked):
            error = outcomes.get(replica.key, ErrorCode.UNKNOWN_SERVER_ERROR)
            logger.warning("replica_given_up partition=%s epoch=%d error=%s", replica, leader_epoch, error.name)
            if isinstance(replica, MissingReplica):
                continue  # it is tried again for as long as there is no folder
            if error is ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE:
                if replica.leader_epoch == leader_epoch and not replica.resume():  # nobody else can lead
                    again.append(replica)
            elif error in _ASK_AGAIN:
                again.append(replica)
            # Else the metadata that ends this leadership, or this partition, is on its way: what is known of the
            # log's state stays known until then.
        return again
