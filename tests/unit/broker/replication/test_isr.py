"""The ISR's table of moves."""

from __future__ import annotations

import pytest
from klamm.broker.replication.isr import IsrAnswer, IsrProposal, IsrState, Verdict
from klamm.cluster.invariant import InvariantError
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId, LeaderEpoch, PartitionEpoch


def members(*numbers: int) -> frozenset[BrokerId]:
    return frozenset(BrokerId(number) for number in numbers)


def proposal(*numbers: int, partition_epoch: int = 3) -> IsrProposal:
    return IsrProposal(LeaderEpoch(1), PartitionEpoch(partition_epoch), members(*numbers), ())


SETTLED = IsrState.settled(members(1, 2), PartitionEpoch(3))


def test_rule_9_the_larger_set_counts_while_a_change_is_pending() -> None:
    assert SETTLED.propose(proposal(1, 2, 3)).maximal == members(1, 2, 3)
    assert SETTLED.propose(proposal(1)).maximal == members(1, 2)


def test_rule_9_a_second_change_is_a_bug() -> None:
    pending = SETTLED.propose(proposal(1, 2, 3))
    with pytest.raises(InvariantError):
        pending.propose(proposal(1))
    with pytest.raises(InvariantError):
        SETTLED.propose(proposal(1, 3))  # neither grows nor shrinks
    with pytest.raises(InvariantError):
        SETTLED.propose(proposal(1, 2, 3, partition_epoch=2))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ErrorCode.INELIGIBLE_REPLICA, Verdict.REVERTED),
        (ErrorCode.FENCED_LEADER_EPOCH, Verdict.WAITS_FOR_METADATA),
        (ErrorCode.INVALID_UPDATE_VERSION, Verdict.WAITS_FOR_METADATA),
        (ErrorCode.NEW_LEADER_ELECTED, Verdict.WAITS_FOR_METADATA),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, Verdict.WAITS_FOR_METADATA),
        (ErrorCode.REQUEST_TIMED_OUT, Verdict.RETRY),
        (ErrorCode.NOT_CONTROLLER, Verdict.RETRY),
        (ErrorCode.UNKNOWN_SERVER_ERROR, Verdict.RETRY),
    ],
)
def test_refusals(error: ErrorCode, verdict: Verdict) -> None:
    asked = proposal(1, 2, 3)
    pending = SETTLED.propose(asked)
    after, found = pending.answered(asked, IsrAnswer(error))
    assert found is verdict
    assert after == (SETTLED if verdict is Verdict.REVERTED else pending)


def test_a_newer_partition_epoch_ends_what_is_pending() -> None:
    pending = SETTLED.propose(proposal(1, 2, 3))
    assert pending.replaced(members(1), PartitionEpoch(3)) is pending
    assert pending.replaced(members(1), PartitionEpoch(4)) == IsrState.settled(members(1), PartitionEpoch(4))
