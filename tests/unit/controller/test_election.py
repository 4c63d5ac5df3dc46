"""Who leads next."""

from __future__ import annotations

from typing import Any

import pytest
from harness.metadata_cluster import cluster_of
from klamm.cluster.image import LeaderRecoveryState, PartitionImage
from klamm.cluster.topic_config import TopicConfig
from klamm.controller.election import Election, LiveBrokers, PartitionChange
from klamm.proto import command_pb2 as pb
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId, LeaderEpoch, PartitionEpoch, TopicId


def ids(*numbers: int) -> tuple[BrokerId, ...]:
    return tuple(BrokerId(number) for number in numbers)


def partition(leader: int | None, isr: tuple[int, ...], elr: tuple[int, ...] = (), **fields: Any) -> PartitionImage:
    return PartitionImage(
        topic_id=TopicId(int=1),
        partition=0,
        replicas=ids(1, 2, 3),
        isr=ids(*isr),
        leader=None if leader is None else BrokerId(leader),
        leader_epoch=LeaderEpoch(5),
        partition_epoch=PartitionEpoch(10),
        eligible_leader_replicas=ids(*elr),
        **fields,
    )


def live(active: tuple[int, ...], leaving: tuple[int, ...] = ()) -> LiveBrokers:
    return LiveBrokers(frozenset(ids(*active)), frozenset(ids(*leaving)))


@pytest.mark.parametrize(
    ("before", "election", "alive", "isr", "leader", "isr_after", "elr_after"),
    [
        # the leader stays while it is fit
        (partition(2, (1, 2, 3)), Election.ONLINE, live((1, 2, 3)), (2, 3), 2, (2, 3), ()),
        (partition(2, (1, 2, 3)), Election.UNCLEAN, live((1, 2, 3)), (2, 3), 2, (2, 3), ()),
        # the preferred one only where it is in sync and alive
        (partition(2, (1, 2, 3)), Election.PREFERRED, live((1, 2, 3)), (1, 2), 1, (1, 2), ()),
        (partition(2, (2, 3)), Election.PREFERRED, live((1, 2, 3)), (2,), 2, (2,), (3,)),
        (partition(2, (1, 2, 3)), Election.PREFERRED, live((2, 3)), (2, 3), 2, (2, 3), ()),
        # else the first in the order of the assignment that is in sync and alive
        (partition(1, (3, 2, 1)), Election.ONLINE, live((2, 3)), (3, 2), 2, (3, 2), ()),
        (partition(1, (3, 2, 1)), Election.ONLINE, live((3,)), (3,), 3, (3,), (1, 2)),
        # an empty ISR: the eligible ones
        (partition(None, (), (2, 3)), Election.ONLINE, live((1, 3)), (), 3, (3,), (2,)),
        (partition(None, (), (2, 3)), Election.PREFERRED, live((1, 3)), (), 3, (3,), (2,)),
        # nobody, unless asked for at any price
        (partition(1, (1,), (2,)), Election.ONLINE, live((3,)), (), None, (), (1, 2)),
        (partition(1, (1,), (2,)), Election.UNCLEAN, live((3,)), (), 3, (3,), ()),
        (partition(None, (), (2,)), Election.UNCLEAN, live((2, 3)), (), 2, (2,), ()),
        # unclean: who led last, then the order of the assignment
        (partition(None, (), (), last_known_leader=BrokerId(3)), Election.UNCLEAN, live((1, 2, 3)), (), 3, (3,), ()),
        (partition(None, (), (), last_known_leader=BrokerId(3)), Election.UNCLEAN, live((2,)), (), 2, (2,), ()),
        # one that is leaving leads on where there is nobody else
        (partition(2, (2,)), Election.PREFERRED, live((1, 3), (2,)), (2,), 2, (2,), ()),
    ],
)
def test_elections(
    before: PartitionImage,
    election: Election,
    alive: LiveBrokers,
    isr: tuple[int, ...],
    leader: int | None,
    isr_after: tuple[int, ...],
    elr_after: tuple[int, ...],
) -> None:
    change = PartitionChange(before, alive, TopicConfig.resolve(), election=election, isr=ids(*isr))
    after = change.build() or before
    assert (after.leader, after.isr, after.eligible_leader_replicas) == (leader, isr_after, elr_after)
    after.check()
    if after is not before:
        after.check_follows(before)
    unclean = leader is not None and leader not in (*isr, *before.isr, *before.eligible_leader_replicas)
    assert after.recovering is unclean


def test_rule_1_no_leader_is_a_new_epoch_too() -> None:
    before = partition(1, (1,))
    after = PartitionChange(before, live(()), TopicConfig.resolve(), isr=()).build()
    assert after is not None
    assert (after.leader, after.leader_epoch, after.last_known_leader) == (None, 6, 1)


def test_a_change_of_nothing_is_none() -> None:
    before = partition(1, (1, 2))
    assert PartitionChange(before, live((1, 2, 3)), TopicConfig.resolve()).build() is None


def test_with_a_min_isr_of_one_the_one_elected_leaves_nobody_eligible() -> None:
    config = TopicConfig.resolve({"min.insync.replicas": "1"})
    after = PartitionChange(partition(None, (), (2, 3)), live((2, 3)), config).build()
    assert after is not None
    assert (after.leader, after.isr, after.eligible_leader_replicas) == (2, (2,), ())


def test_recovering_stays_until_the_leader_says_otherwise() -> None:
    before = partition(1, (1,), leader_recovery_state=LeaderRecoveryState.RECOVERING)
    after = PartitionChange(before, live((2, 3)), TopicConfig.resolve(), isr=()).build()
    assert after is not None
    assert after.recovering


# --- the command (KIP-460) -----------------------------------------------------------------------------------------


def test_preferred_election_brings_the_first_replica_back() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    assert cluster.elect("a") is ErrorCode.ELECTION_NOT_NEEDED
    cluster.fence(1)
    assert cluster.elect("a") is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    cluster.unfence(1)
    assert cluster.elect("a") is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE  # alive, not in sync
    cluster.alter_isr("a", 0, [2, 3, 1])
    assert cluster.elect("a") is ErrorCode.NONE
    assert cluster.partition("a").leader == 1


def test_unclean_election_only_where_there_is_no_leader_and_somebody_alive() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]])
    assert cluster.elect("a", unclean=True) is ErrorCode.ELECTION_NOT_NEEDED
    cluster.alter_isr("a", 0, [1])
    cluster.fence(1)
    cluster.fence(2)
    assert cluster.elect("a", unclean=True) is ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
    assert cluster.elect("a") is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    cluster.unfence(2)
    assert cluster.partition("a").leader is None
    assert cluster.elect("a", unclean=True) is ErrorCode.NONE
    after = cluster.partition("a")
    assert (after.leader, after.isr, after.eligible_leader_replicas) == (2, (2,), ())
    assert after.recovering


def test_unknown_partitions_and_kinds() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    assert cluster.elect("b") is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert cluster.elect("a", 1) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert cluster.elect("a", -1) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    kind: Any = 7
    response = cluster.run(elect_leaders=pb.ElectLeadersCommand(election_type=kind, all_partitions=True)).response
    assert response.error_code == ErrorCode.INVALID_REQUEST


def test_all_partitions_are_balanced_and_only_changes_are_told() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2], [2, 1], [1, 2]])
    cluster.fence(1)
    cluster.unfence(1)
    for number in range(3):
        cluster.alter_isr("a", number, [2, 1])
    response = cluster.run(elect_leaders=pb.ElectLeadersCommand(all_partitions=True)).response
    outcomes = response.elect_leaders.partitions
    assert [(outcome.partition, outcome.error_code) for outcome in outcomes] == [(0, 0), (2, 0)]
    assert [cluster.partition("a", number).leader for number in range(3)] == [1, 2, 1]


def test_a_partition_named_twice_is_elected_once() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]])
    cluster.fence(1)
    cluster.unfence(1)
    cluster.alter_isr("a", 0, [2, 1])
    reference = pb.TopicPartitionReference(topic="a", partition=0)
    command = pb.ElectLeadersCommand(partitions=[reference, reference])
    assert len(cluster.run(elect_leaders=command).records) == 1
