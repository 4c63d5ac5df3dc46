"""KIP-455: replicas are added, catch up, and only then others are removed."""

from __future__ import annotations

import pytest
from harness.metadata_cluster import MetadataCluster, cluster_of
from klamm.proto import command_pb2 as pb
from klamm.proto.errors import ErrorCode


def four() -> MetadataCluster:
    cluster = cluster_of(1, 2, 3, 4)
    cluster.create_topic("a", assignments=[[1, 2]])
    return cluster


def test_a_partition_moves_when_the_last_target_replica_is_in_sync() -> None:
    cluster = four()
    assert cluster.reassign("a", 0, [3, 4]).error_code == 0
    partition = cluster.partition("a")
    assert (partition.replicas, partition.isr) == ((3, 4, 1, 2), (1, 2))
    assert (partition.adding_replicas, partition.removing_replicas) == ((3, 4), (1, 2))
    assert (partition.target_replicas, partition.leader_epoch) == ((3, 4), 0)
    assert partition.replication_factor == 2
    cluster.alter_isr("a", 0, [1, 2, 3])
    assert cluster.partition("a").reassigning
    outcome = cluster.alter_isr("a", 0, [1, 2, 3, 4])
    assert outcome.error_code == ErrorCode.NEW_LEADER_ELECTED
    partition = cluster.partition("a")
    assert (partition.replicas, partition.isr, partition.leader) == ((3, 4), (3, 4), 3)
    assert not partition.reassigning
    assert partition.target_replicas == ()
    assert partition.leader_epoch == 1


def test_rule_1_removing_a_replica_is_a_new_leader_epoch_under_the_same_leader() -> None:
    cluster = four()
    cluster.reassign("a", 0, [1, 3])
    assert cluster.partition("a").leader_epoch == 0
    outcome = cluster.alter_isr("a", 0, [1, 2, 3])
    assert (outcome.error_code, outcome.leader, outcome.leader_epoch) == (0, 1, 1)
    assert cluster.partition("a").replicas == (1, 3)


def test_more_and_fewer_replicas() -> None:
    cluster = four()
    cluster.reassign("a", 0, [1, 2, 3])
    assert cluster.partition("a").removing_replicas == ()
    cluster.alter_isr("a", 0, [1, 2, 3])
    assert cluster.partition("a").replicas == (1, 2, 3)
    assert cluster.partition("a").leader_epoch == 0
    cluster.reassign("a", 0, [2])  # in sync already: done at once
    partition = cluster.partition("a")
    assert (partition.replicas, partition.isr, partition.leader) == ((2,), (2,), 2)
    assert partition.eligible_leader_replicas == ()


def test_another_order_is_another_preferred_leader() -> None:
    cluster = four()
    cluster.reassign("a", 0, [2, 1])
    partition = cluster.partition("a")
    assert (partition.replicas, partition.leader, partition.leader_epoch) == ((2, 1), 1, 0)
    offset = cluster.image.end_offset
    assert cluster.reassign("a", 0, [2, 1]).error_code == 0
    assert cluster.image.end_offset == offset


def test_a_cancelled_reassignment_leaves_what_was_there() -> None:
    cluster = four()
    cluster.reassign("a", 0, [3, 4])
    cluster.alter_isr("a", 0, [1, 2, 3])
    assert cluster.reassign("a", 0, None).error_code == 0
    partition = cluster.partition("a")
    assert (partition.replicas, partition.isr) == ((1, 2), (1, 2))
    assert not partition.reassigning
    assert partition.leader_epoch == 1  # a replica was removed
    assert cluster.reassign("a", 0, None).error_code == ErrorCode.NO_REASSIGNMENT_IN_PROGRESS


def test_asked_anew_the_target_changes_and_what_was_being_added_goes_last() -> None:
    cluster = four()
    cluster.reassign("a", 0, [3])
    cluster.reassign("a", 0, [4])
    partition = cluster.partition("a")
    assert (partition.replicas, partition.target_replicas) == ((4, 3, 1, 2), (4,))
    assert (partition.adding_replicas, partition.removing_replicas) == ((4, 3), (3, 1, 2))
    assert partition.replication_factor == 2
    cluster.reassign("a", 0, None)
    assert cluster.partition("a").replicas == (1, 2)
    cluster.reassign("a", 0, [3])
    cluster.reassign("a", 0, [4])
    cluster.alter_isr("a", 0, [1, 2, 4])
    assert cluster.partition("a").replicas == (4,)


def test_a_cancellation_that_would_lose_data_is_refused() -> None:
    cluster = four()
    cluster.reassign("a", 0, [3, 4])
    cluster.alter_isr("a", 0, [1, 3])
    cluster.fence(1)
    assert cluster.partition("a").isr == (3,)
    outcome = cluster.reassign("a", 0, None)
    assert outcome.error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert "unclean" in outcome.error_message
    cluster.configure("a", unclean_leader_election_enable="true")
    assert cluster.reassign("a", 0, None).error_code == 0
    assert cluster.partition("a").leader == 2
    assert cluster.partition("a").recovering


@pytest.mark.parametrize(
    ("topic", "number", "replicas", "error"),
    [
        ("b", 0, [1], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("a", 1, [1], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("a", -1, [1], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("a", 0, [], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", 0, [1, 1], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", 0, [9], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("a", 0, None, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
    ],
)
def test_what_cannot_be_reassigned(topic: str, number: int, replicas: list[int] | None, error: ErrorCode) -> None:
    cluster = four()
    assert cluster.reassign(topic, number, replicas).error_code == error


def test_a_partition_named_twice_and_a_cancellation_with_replicas() -> None:
    cluster = four()
    entry = pb.ReassignablePartition(topic="a", partition=0, replicas=[3])
    command = pb.AlterPartitionReassignmentsCommand(partitions=[entry, entry])
    outcomes = cluster.run(alter_partition_reassignments=command).response.alter_partition_reassignments.partitions
    assert [outcome.error_code for outcome in outcomes] == [0, ErrorCode.INVALID_REQUEST]
    entry.cancel = True
    command = pb.AlterPartitionReassignmentsCommand(partitions=[entry])
    outcomes = cluster.run(alter_partition_reassignments=command).response.alter_partition_reassignments.partitions
    assert [outcome.error_code for outcome in outcomes] == [ErrorCode.INVALID_REQUEST]
