"""Topics are created, deleted and given more partitions; everything that can be wrong with that."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from harness.metadata_cluster import cluster_of
from klamm.proto import command_pb2 as pb
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId


def test_a_topic_with_defaults_has_one_partition_and_three_replicas_or_as_many_as_there_are() -> None:
    for brokers, replication_factor in (((1,), 1), ((1, 2), 2), ((1, 2, 3), 3), ((1, 2, 3, 4), 3)):
        cluster = cluster_of(*brokers)
        created = cluster.create_topic("a")
        assert (created.error_code, created.num_partitions) == (0, 1)
        assert created.replication_factor == replication_factor
        partition = cluster.partition("a")
        assert partition.isr == partition.replicas
        assert partition.leader == partition.replicas[0]
        assert (partition.leader_epoch, partition.partition_epoch) == (0, 0)
        assert cluster.image.topics["a"].topic_id.bytes == created.topic_id


def test_defaults_can_be_set_cluster_wide() -> None:
    cluster = cluster_of(1, 2, 3)
    assert not cluster.configure(None, num_partitions="6", default_replication_factor="2").error_code
    created = cluster.create_topic("a")
    assert (created.num_partitions, created.replication_factor) == (6, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": ""}, ErrorCode.INVALID_TOPIC_EXCEPTION, "empty"),
        ({"name": "a b"}, ErrorCode.INVALID_TOPIC_EXCEPTION, "only ASCII"),
        ({"name": "x" * 250}, ErrorCode.INVALID_TOPIC_EXCEPTION, "250"),
        ({"name": "taken.name"}, ErrorCode.TOPIC_ALREADY_EXISTS, "already exists"),
        ({"name": "taken_name"}, ErrorCode.INVALID_TOPIC_EXCEPTION, "collides with existing topic: taken.name"),
        ({"partitions": 0}, ErrorCode.INVALID_PARTITIONS, "1 to 10000"),
        ({"partitions": -2}, ErrorCode.INVALID_PARTITIONS, "-2"),
        ({"partitions": 1_000_000}, ErrorCode.INVALID_PARTITIONS, "it was 1000000"),
        ({"partitions": 10_001}, ErrorCode.INVALID_PARTITIONS, "it was 10001"),
        ({"replication_factor": 0}, ErrorCode.INVALID_REPLICATION_FACTOR, "larger than 0"),
        ({"replication_factor": 4}, ErrorCode.INVALID_REPLICATION_FACTOR, "only 3 broker(s) are live"),
        ({"replication_factor": 32_000}, ErrorCode.INVALID_REPLICATION_FACTOR, "only 3 broker(s) are live"),
        ({"retention_ms": "soon"}, ErrorCode.INVALID_CONFIG, "retention.ms"),
        ({"retention_msec": "1"}, ErrorCode.INVALID_CONFIG, "did you mean retention.ms?"),
        ({"assignments": [[1]], "partitions": 1}, ErrorCode.INVALID_REQUEST, "-1"),
        ({"assignments": [[1], []]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "empty"),
        ({"assignments": [[1, 9]]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "broker 9"),
        ({"assignments": [[1, 1]]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "more than once"),
        ({"assignments": [[1], [1, 2]]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not consistent"),
        ({"assignments": [[4]]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "fenced or in controlled shutdown"),
    ],
)
def test_what_can_be_wrong_with_a_new_topic(arguments: dict[str, Any], error: ErrorCode, words: str) -> None:
    cluster = cluster_of(1, 2, 3, 4)
    cluster.fence(4)
    cluster.create_topic("taken.name", 1, 1)
    offset = cluster.image.end_offset
    created = cluster.create_topic(arguments.pop("name", "a"), **arguments)
    assert ErrorCode.of(created.error_code) is error
    assert words in created.error_message
    assert cluster.image.end_offset == offset


def test_no_live_broker_at_all() -> None:
    cluster = cluster_of(1)
    cluster.fence(1)
    created = cluster.create_topic("a")
    assert created.error_code == ErrorCode.INVALID_REPLICATION_FACTOR
    assert "fenced" in created.error_message


def test_assignments_leave_a_hole() -> None:
    cluster = cluster_of(1)
    assignments = [pb.ReplicaAssignment(partition=number, broker_ids=[1]) for number in (0, 2)]
    topic = pb.CreatableTopic(name="a", num_partitions=-1, replication_factor=-1, assignments=assignments)
    response = cluster.run(create_topics=pb.CreateTopicsCommand(topics=[topic])).response
    assert response.create_topics.topics[0].error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT


def test_replicas_that_are_not_live_start_outside_the_isr() -> None:
    cluster = cluster_of(1, 2)
    cluster.fence(1)
    cluster.create_topic("a", assignments=[[1, 2]])
    partition = cluster.partition("a")
    assert (partition.leader, partition.isr, partition.replicas) == (2, (2,), (1, 2))


def test_validate_only_says_what_would_be_and_makes_nothing() -> None:
    cluster = cluster_of(1, 2, 3)
    created = cluster.create_topic("a", 6, validate_only=True)
    assert (created.error_code, created.num_partitions, created.replication_factor) == (0, 6, 3)
    assert cluster.image.topics == {}
    assert cluster.create_topic("a", 0, validate_only=True).error_code == ErrorCode.INVALID_PARTITIONS


def test_topics_of_one_command_know_of_each_other() -> None:
    cluster = cluster_of(1)
    topics = [
        pb.CreatableTopic(name=name, num_partitions=1, replication_factor=1)
        for name in ("twice", "twice", "a.b", "a_b", "good")
    ]
    response = cluster.run(create_topics=pb.CreateTopicsCommand(topics=topics)).response
    assert [ErrorCode.of(topic.error_code) for topic in response.create_topics.topics] == [
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NONE,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.NONE,
    ]
    assert list(cluster.image.topics) == ["a.b", "good"]


def test_a_topic_id_is_taken_as_given_and_only_once() -> None:
    cluster = cluster_of(1)

    def create(name: str) -> pb.CreatedTopic:
        topic = pb.CreatableTopic(name=name, num_partitions=1, replication_factor=1, topic_id=b"t" * 16)
        command = pb.CreateTopicsCommand(topics=[topic])
        return cluster.run(create_topics=command).response.create_topics.topics[0]

    assert create("a").topic_id == b"t" * 16
    assert create("b").error_code == ErrorCode.INVALID_REQUEST


def test_the_largest_topic_fits_and_one_more_partition_in_the_same_command_does_not() -> None:
    cluster = cluster_of(1)
    big = pb.CreatableTopic(name="big", num_partitions=10_000, replication_factor=1)
    small = pb.CreatableTopic(name="small", num_partitions=1, replication_factor=1)
    response = cluster.run(create_topics=pb.CreateTopicsCommand(topics=[big, small])).response
    assert response.error_code == ErrorCode.POLICY_VIOLATION
    assert cluster.image.topics == {}
    assert not cluster.create_topic("big", 10_000, 1).error_code
    assert len(cluster.image.topics["big"].partitions) == 10_000


def test_more_topics_than_one_command_may_name() -> None:
    cluster = cluster_of(1)
    command = pb.CreateTopicsCommand(topics=[pb.CreatableTopic(name="a")] * 10_001)
    assert cluster.run(create_topics=command).response.error_code == ErrorCode.INVALID_REQUEST


# --- deleting ------------------------------------------------------------------------------------------------------


def test_a_topic_is_deleted_by_name_or_by_id() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 2, 1, retention_ms="1")
    cluster.create_topic("b", 2, 1)
    topic_id = cluster.image.topics["b"].topic_id
    assert cluster.delete_topic("a").error_code == 0
    outcome = cluster.delete_topic(topic_id=topic_id)
    assert (outcome.error_code, outcome.name, outcome.topic_id) == (0, "b", topic_id.bytes)
    assert cluster.image.topics == {}


@pytest.mark.parametrize(
    ("name", "topic_id", "error"),
    [
        ("missing", None, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("", UUID(int=9), ErrorCode.UNKNOWN_TOPIC_ID),
        ("", None, ErrorCode.INVALID_REQUEST),
        ("a", UUID(int=9), ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_cannot_be_deleted(name: str, topic_id: UUID | None, error: ErrorCode) -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    assert cluster.delete_topic(name, topic_id).error_code == error
    assert list(cluster.image.topics) == ["a"]


def test_a_topic_named_twice_is_deleted_once() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    command = pb.DeleteTopicsCommand(topics=[pb.TopicReference(name="a")] * 2)
    applied = cluster.run(delete_topics=command)
    assert [topic.error_code for topic in applied.response.delete_topics.topics] == [0, ErrorCode.INVALID_REQUEST]
    assert len(applied.records) == 1


# --- more partitions -----------------------------------------------------------------------------------------------


def test_new_partitions_have_the_topics_replication_factor() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", 1, 2)
    assert cluster.add_partitions("a", 6).error_code == 0
    partitions = cluster.image.topics["a"].partitions
    assert [len(partition.replicas) for partition in partitions] == [2] * 6
    assert sorted(partition.replicas[0] for partition in partitions) == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("topic", "count", "assignments", "error", "words"),
    [
        ("b", 3, {}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ""),
        ("a", 2, {}, ErrorCode.INVALID_PARTITIONS, "already has 2"),
        ("a", 1, {}, ErrorCode.INVALID_PARTITIONS, "would not be an increase"),
        ("a", 0, {}, ErrorCode.INVALID_PARTITIONS, "would not be an increase"),
        ("a", 10_001, {}, ErrorCode.INVALID_PARTITIONS, "10000"),
        ("a", 4, {2: [1, 2]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "add 2 additional"),
        ("a", 3, {2: [1]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not consistent"),
        ("a", 3, {0: [1, 2]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "from 2 on"),
        ("a", 3, {2: [1, 9]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT, "broker 9"),
    ],
)
def test_what_can_be_wrong_with_more_partitions(
    topic: str, count: int, assignments: dict[int, list[int]], error: ErrorCode, words: str
) -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", 2, 2)
    outcome = cluster.add_partitions(topic, count, assignments)
    assert ErrorCode.of(outcome.error_code) is error
    assert words in outcome.error_message
    assert len(cluster.image.topics["a"].partitions) == 2


def test_new_partitions_by_hand() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", 1, 1)
    assert cluster.add_partitions("a", 3, {2: [1], 1: [2]}).error_code == 0
    assert [partition.replicas for partition in cluster.image.topics["a"].partitions[1:]] == [(2,), (1,)]


def test_too_few_live_brokers_for_more_partitions() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", 1, 2)
    cluster.fence(2)
    outcome = cluster.add_partitions("a", 2)
    assert outcome.error_code == ErrorCode.INVALID_REPLICATION_FACTOR
    assert cluster.image.brokers[BrokerId(2)].fenced
