"""KIP-497, 841 and 903: every check of an ISR change, in Kafka's order."""

from __future__ import annotations

from typing import Any

import pytest
from harness.metadata_cluster import MetadataCluster, cluster_of
from klamm.proto import command_pb2 as pb
from klamm.proto import metadata_pb2
from klamm.proto.errors import ErrorCode


def three() -> MetadataCluster:
    """Topic a led by 1 with ISR 1 and 2 of 1, 2, 3, under leader epoch 1 and partition epoch 2."""
    cluster = cluster_of(1, 2, 3, 4)
    cluster.create_topic("a", assignments=[[2, 1, 3]])
    cluster.fence(2)
    cluster.register(2)
    cluster.unfence(2)
    cluster.alter_isr("a", 0, [1, 3, 2])
    cluster.alter_isr("a", 0, [1, 2])
    partition = cluster.partition("a")
    assert (partition.leader, partition.leader_epoch, partition.partition_epoch) == (1, 1, 3)
    return cluster


def test_a_leader_shrinks_and_expands() -> None:
    cluster = three()
    outcome = cluster.alter_isr("a", 0, [1, 2, 3])
    assert (outcome.error_code, list(outcome.isr), outcome.leader) == (0, [1, 2, 3], 1)
    assert (outcome.leader_epoch, outcome.partition_epoch) == (1, 4)
    assert list(cluster.partition("a").isr) == [1, 2, 3]


def test_the_isr_it_has_already_is_no_change() -> None:
    cluster = three()
    offset = cluster.image.end_offset
    outcome = cluster.alter_isr("a", 0, [1, 2])
    assert (outcome.error_code, outcome.partition_epoch) == (0, 3)
    assert cluster.image.end_offset == offset


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"topic_id": b"x" * 16}, ErrorCode.UNKNOWN_TOPIC_ID),
        ({"topic_id": b"x"}, ErrorCode.UNKNOWN_TOPIC_ID),
        ({"partition": 1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"partition": -1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"leader_epoch": 2}, ErrorCode.NOT_CONTROLLER),
        ({"leader_epoch": 0, "partition_epoch": 9}, ErrorCode.NOT_CONTROLLER),
        ({"leader_epoch": 0}, ErrorCode.FENCED_LEADER_EPOCH),
        ({"leader_epoch": 0, "sender": 2}, ErrorCode.FENCED_LEADER_EPOCH),
        ({"sender": 2}, ErrorCode.INVALID_REQUEST),
        ({"sender": 2, "partition_epoch": 2}, ErrorCode.INVALID_REQUEST),
        ({"partition_epoch": 2}, ErrorCode.INVALID_UPDATE_VERSION),
        ({"partition_epoch": 2, "isr": [1, 4]}, ErrorCode.INVALID_UPDATE_VERSION),
        ({"isr": [1, 4]}, ErrorCode.INVALID_REQUEST),
        ({"isr": [1, 1]}, ErrorCode.INVALID_REQUEST),
        ({"isr": []}, ErrorCode.INVALID_REQUEST),
        ({"isr": [2]}, ErrorCode.INVALID_REQUEST),
        ({"leader_recovery_state": metadata_pb2.RECOVERING}, ErrorCode.INVALID_REQUEST),
        ({"leader_recovery_state": metadata_pb2.RECOVERING, "isr": [1]}, ErrorCode.INVALID_REQUEST),
        ({"leader_recovery_state": 7}, ErrorCode.INVALID_REQUEST),
        ({"isr": [1, 2, 3]}, ErrorCode.NONE),
    ],
)
def test_rule_9_and_11_checks_stand_in_kafkas_order(fields: dict[str, Any], error: ErrorCode) -> None:
    cluster = three()
    isr = fields.pop("isr", [1, 2])
    before = cluster.partition("a")
    outcome = cluster.alter_isr("a", 0, isr, **fields)
    assert ErrorCode.of(outcome.error_code) is error
    if error is not ErrorCode.NONE:
        assert cluster.partition("a") == before
        assert (outcome.leader, outcome.leader_epoch, outcome.partition_epoch) == (-1, -1, -1)


def test_rule_7_no_fenced_leaving_or_stale_member_joins() -> None:
    cluster = three()

    def expand(member: pb.BrokerState) -> ErrorCode:
        members = [pb.BrokerState(broker_id=1, broker_epoch=cluster.epoch(1)), member]
        return ErrorCode.of(cluster.alter_isr("a", 0, [1, 3], new_isr=members).error_code)

    old_epoch = cluster.epoch(3)
    cluster.fence(3)
    assert expand(pb.BrokerState(broker_id=3, broker_epoch=old_epoch)) is ErrorCode.INELIGIBLE_REPLICA
    cluster.register(3)
    cluster.unfence(3)
    assert expand(pb.BrokerState(broker_id=3, broker_epoch=old_epoch)) is ErrorCode.INELIGIBLE_REPLICA
    cluster.shut_down(3)
    assert expand(pb.BrokerState(broker_id=3, broker_epoch=-1)) is ErrorCode.INELIGIBLE_REPLICA
    cluster.register(3)
    cluster.unfence(3)
    assert expand(pb.BrokerState(broker_id=3, broker_epoch=-1)) is ErrorCode.NONE


def test_rule_11_a_sender_under_an_old_epoch_is_refused_whole() -> None:
    cluster = three()
    entry = cluster.isr_entry(cluster.partition("a"), [1])
    for broker, epoch in ((1, 1), (9, 1)):
        command = pb.AlterPartitionCommand(broker_id=broker, broker_epoch=epoch, partitions=[entry])
        response = cluster.run(alter_partition=command).response
        assert response.error_code == ErrorCode.STALE_BROKER_EPOCH
        assert not response.HasField("alter_partition")


def test_rule_9_the_same_partition_twice_in_one_request_changes_once() -> None:
    cluster = three()
    partition = cluster.partition("a")
    entries = [cluster.isr_entry(partition, [1]), cluster.isr_entry(partition, [1, 2, 3])]
    command = pb.AlterPartitionCommand(broker_id=1, broker_epoch=cluster.epoch(1), partitions=entries)
    outcomes = cluster.run(alter_partition=command).response.alter_partition.partitions
    assert [outcome.error_code for outcome in outcomes] == [0, ErrorCode.INVALID_UPDATE_VERSION]
    assert list(cluster.partition("a").isr) == [1]


def test_one_bad_partition_does_not_fail_its_neighbours() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2], [1, 2]])
    entries = [
        cluster.isr_entry(cluster.partition("a", 0), [1], partition_epoch=9),
        cluster.isr_entry(cluster.partition("a", 1), [1]),
    ]
    command = pb.AlterPartitionCommand(broker_id=1, broker_epoch=cluster.epoch(1), partitions=entries)
    outcomes = cluster.run(alter_partition=command).response.alter_partition.partitions
    assert [outcome.error_code for outcome in outcomes] == [ErrorCode.NOT_CONTROLLER, 0]


def test_below_min_insync_replicas_who_leaves_stays_eligible_until_the_isr_is_large_enough() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    cluster.alter_isr("a", 0, [1, 2])
    assert cluster.partition("a").eligible_leader_replicas == ()
    cluster.alter_isr("a", 0, [1])
    assert cluster.partition("a").eligible_leader_replicas == (2,)
    cluster.alter_isr("a", 0, [1, 3])
    assert cluster.partition("a").eligible_leader_replicas == ()


def test_a_leader_that_was_elected_uncleanly_recovers() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]])
    cluster.alter_isr("a", 0, [1])
    cluster.fence(1)
    assert cluster.elect("a", unclean=True) is ErrorCode.NONE
    assert cluster.partition("a").recovering
    assert cluster.alter_isr("a", 0, [2], leader_recovery_state=metadata_pb2.RECOVERING).error_code == 0
    assert cluster.partition("a").recovering
    assert cluster.alter_isr("a", 0, [2], leader_recovery_state=metadata_pb2.RECOVERED).error_code == 0
    assert not cluster.partition("a").recovering
