"""AlterPartition: what a leader asks the controllers for, and what their answer does to its partition (KIP-497).

A change that was committed is taken up only with the metadata before it. A raised min.insync.replicas may have been
committed just before the ISR was made smaller: who took the smaller ISR first could still move the high watermark past
a replica that the controllers count as holding all that is committed, and may elect (KIP-966). So an answer that is
ahead of the metadata is left to the metadata, which says the same a moment later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from ...cluster.clock import Clock
from ...proto.command_pb2 import (
    AlterPartitionCommand,
    AlterPartitionEntry,
    AlterPartitionOutcome,
    BrokerState,
    Command,
    CommandResponse,
)
from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID, BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch
from ...proto.metadata_pb2 import RECOVERED
from .isr import IsrAnswer, IsrProposal, Verdict

if TYPE_CHECKING:
    from ..leader_replica import LeaderReplica
    from ..partition import Partition

logger = logging.getLogger(__name__)


class _Asked(NamedTuple):
    partition: Partition
    leader: LeaderReplica
    proposal: IsrProposal


class IsrChanges:
    """The kind of command that changes an ISR."""

    def __init__(self, broker_id: BrokerId, clock: Clock, metadata_end_offset: Callable[[], int]) -> None:
        """`metadata_end_offset` tells how far this broker's settings are those of the metadata log."""
        self._broker_id = broker_id
        self._clock = clock
        self._metadata_end_offset = metadata_end_offset

    def build(self, partitions: Sequence[Partition], broker_epoch: BrokerEpoch) -> tuple[Command, list[object]]:
        alter = AlterPartitionCommand(broker_id=self._broker_id, broker_epoch=broker_epoch)
        asked: list[object] = []
        for partition in partitions:
            leader = partition.leader
            proposal = None if leader is None else leader.pending_proposal()
            if leader is None or proposal is None:
                continue
            alter.partitions.append(self._entry(partition, proposal, broker_epoch))
            asked.append(_Asked(partition, leader, proposal))
            logger.info(
                "isr_change_proposed partition=%s epoch=%d partition_epoch=%d isr=%s",
                partition,
                proposal.leader_epoch,
                proposal.partition_epoch,
                sorted(proposal.isr),
            )
        return Command(alter_partition=alter), asked

    def _entry(self, partition: Partition, proposal: IsrProposal, broker_epoch: BrokerEpoch) -> AlterPartitionEntry:
        topic_id, number = partition.key
        epochs: dict[BrokerId, BrokerEpoch | None] = {self._broker_id: broker_epoch, **dict(proposal.broker_epochs)}
        return AlterPartitionEntry(
            topic_id=topic_id,
            partition=number,
            leader_epoch=proposal.leader_epoch,
            partition_epoch=proposal.partition_epoch,
            new_isr=[
                BrokerState(broker_id=member, broker_epoch=NONE_ID if epoch is None else epoch)
                for member, epoch in sorted(epochs.items())
            ],
            leader_recovery_state=RECOVERED,
        )

    def answered(self, asked: list[object], response: CommandResponse) -> list[Partition]:
        outcomes = {(outcome.topic_id, outcome.partition): outcome for outcome in response.alter_partition.partitions}
        ahead = response.metadata_end_offset > self._metadata_end_offset()
        again = []
        for item in cast("list[_Asked]", asked):
            outcome = outcomes.get(item.partition.key)
            if ahead and outcome is not None and outcome.error_code == ErrorCode.NONE:
                continue
            verdict = self._take(item, outcome)
            if verdict is Verdict.RETRY:
                again.append(item.partition)
        return again

    def _take(self, item: _Asked, outcome: AlterPartitionOutcome | None) -> Verdict:
        answer = IsrAnswer(ErrorCode.UNKNOWN_SERVER_ERROR) if outcome is None else _answer_of(outcome)
        effects, verdict = item.leader.state.alter_partition_answered(item.proposal, answer, self._clock.monotonic_ms())
        logger.info(
            "isr_change_answered partition=%s epoch=%d isr=%s error=%s verdict=%s",
            item.partition,
            item.proposal.leader_epoch,
            sorted(item.leader.state.isr.committed),
            answer.error.name,
            verdict.name,
        )
        if item.partition.leader is item.leader:
            item.leader.carry_out(effects)
        return verdict


def _answer_of(outcome: AlterPartitionOutcome) -> IsrAnswer:
    error = ErrorCode.of(outcome.error_code)
    if error is not ErrorCode.NONE:
        return IsrAnswer(error)
    return IsrAnswer(
        error,
        LeaderEpoch(outcome.leader_epoch),
        PartitionEpoch(outcome.partition_epoch),
        frozenset(BrokerId(member) for member in outcome.isr),
    )
