"""Topics are created, deleted and given partitions over the Kafka listener; errors are told topic by topic."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from harness.kafka_rooms import Rooms, versions_of
from harness.metadata_cluster import cluster_of
from kio.schema.errors import ErrorCode

MINUTE = 60_000


def creatable(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "num_partitions": -1, "replication_factor": -1, **values}


@pytest.mark.parametrize("version", versions_of("create_topics"))
def test_topics_are_created_one_by_one(version: int) -> None:
    rooms = Rooms(cluster_of(1, 2))
    rooms.cluster.create_topic("taken", 1, 1)
    answer = rooms.ask(
        "create_topics",
        version,
        timeout=MINUTE,
        topics=[
            creatable("a", num_partitions=3, configs=[{"name": "retention.ms", "value": "7"}]),
            creatable("manual", assignments=[{"partition_index": 0, "broker_ids": [2, 1]}]),
            creatable("taken"),
            creatable("b d"),
            creatable("twice"),
            creatable("twice"),
            creatable("__cluster_metadata"),
            creatable("bad", configs=[{"name": "retention.ms", "value": None}]),
            creatable("worse", configs=[{"name": "retention.ms", "value": "x"}]),
            creatable("many", replication_factor=3),
        ],
    )
    outcomes = {topic.name: topic for topic in answer.topics}
    assert {name: topic.error_code.name for name, topic in outcomes.items()} == {
        "a": "none",
        "manual": "none",
        "taken": "topic_already_exists",
        "b d": "invalid_topic_exception",
        "twice": "invalid_request",
        "__cluster_metadata": "invalid_request",
        "bad": "invalid_config",
        "worse": "invalid_config",
        "many": "invalid_replication_factor",
    }
    assert [topic.name for topic in answer.topics] == list(dict.fromkeys(topic.name for topic in answer.topics))
    assert outcomes["a"].error_message is None
    assert all(topic.error_message for topic in answer.topics if topic.error_code is not ErrorCode.none)
    assert outcomes["twice"].error_message == "Duplicate topic name."
    image = rooms.image
    assert set(image.topics) == {"taken", "a", "manual"}
    assert image.topics["manual"].partitions[0].replicas == (2, 1)
    assert rooms.waits == [image.end_offset]
    if version >= 5:
        assert (outcomes["a"].num_partitions, outcomes["a"].replication_factor) == (3, 2)
        assert (outcomes["taken"].num_partitions, outcomes["taken"].replication_factor) == (-1, -1)
        settings = {config.name: config for config in outcomes["a"].configs}
        assert (settings["retention.ms"].value, settings["retention.ms"].config_source) == ("7", 1)
        assert (settings["segment.bytes"].value, settings["segment.bytes"].config_source) == (str(2**30), 5)
        assert outcomes["taken"].configs == ()
    if version >= 7:
        assert outcomes["a"].topic_id == image.topics["a"].topic_id
        assert outcomes["taken"].topic_id is None


@pytest.mark.parametrize("version", versions_of("create_topics"))
def test_validate_only_and_no_time(version: int) -> None:
    rooms = Rooms(cluster_of(1))
    answer = rooms.ask("create_topics", version, topics=[creatable("a")], timeout=MINUTE, validate_only=True)
    assert answer.topics[0].error_code is ErrorCode.none
    assert not rooms.image.topics
    for timeout in (0, -1):
        answer = rooms.ask("create_topics", version, topics=[creatable("a"), creatable("b")], timeout=timeout)
        assert [topic.error_code for topic in answer.topics] == [ErrorCode.request_timed_out] * 2
    assert rooms.ask("create_topics", version, topics=[], timeout=MINUTE).topics == ()


@pytest.mark.parametrize("version", versions_of("delete_topics"))
def test_topics_are_deleted_by_name(version: int) -> None:
    rooms = Rooms(cluster_of(1))
    for name in "abc":
        rooms.cluster.create_topic(name, 1, 1)
    wanted = ["a", "unknown", "c", "c", ""]
    topics = {"topic_names": wanted, "topics": [{"name": name} for name in wanted]}
    answer = rooms.ask("delete_topics", version, timeout=MINUTE, **topics)
    assert {topic.name: topic.error_code.name for topic in answer.responses} == {
        "a": "none",
        "unknown": "unknown_topic_or_partition",
        "c": "invalid_request",
        "": "unknown_topic_or_partition",
    }
    assert set(rooms.image.topics) == {"b", "c"}
    if version >= 5:
        assert [bool(topic.error_message) for topic in answer.responses] == [False, True, True, True]
    answer = rooms.ask("delete_topics", version, timeout=0, topic_names=["b"], topics=[{"name": "b"}])
    assert answer.responses[0].error_code is ErrorCode.request_timed_out


def test_topics_are_deleted_by_id() -> None:
    rooms = Rooms(cluster_of(1))
    for name in "abcd":
        rooms.cluster.create_topic(name, 1, 1)
    ids = {name: topic.topic_id for name, topic in rooms.image.topics.items()}
    unknown = uuid4()
    answer = rooms.ask(
        "delete_topics",
        6,
        timeout=MINUTE,
        topics=[
            {"name": None, "topic_id": ids["a"]},
            {"name": None, "topic_id": unknown},
            {"name": "b", "topic_id": ids["b"]},
            {"name": None, "topic_id": None},
            {"name": "c", "topic_id": None},
            {"name": None, "topic_id": ids["c"]},
            {"name": None, "topic_id": ids["d"]},
            {"name": None, "topic_id": ids["d"]},
        ],
    )
    outcomes = [(topic.name, topic.topic_id, topic.error_code.name) for topic in answer.responses]
    assert ("a", ids["a"], "none") in outcomes
    assert (None, unknown, "unknown_topic_id") in outcomes
    assert ("b", ids["b"], "invalid_request") in outcomes
    assert (None, None, "invalid_request") in outcomes
    assert ("c", ids["c"], "invalid_request") in outcomes  # also named by its id
    assert (None, ids["d"], "invalid_request") in outcomes
    assert len(outcomes) == 6
    assert set(rooms.image.topics) == {"b", "c", "d"}


def test_internal_topics_do_not_grow() -> None:
    """Groups find their coordinator by the number of partitions: with another one all their offsets were gone."""
    rooms = Rooms(cluster_of(1))
    rooms.cluster.create_topic("__consumer_offsets", 3, 1)
    topics = [{"name": "__consumer_offsets", "count": 7, "assignments": None}]
    for validate_only in (True, False):
        answer = rooms.ask("create_partitions", 3, topics=topics, timeout=MINUTE, validate_only=validate_only)
        [result] = answer.results
        assert result.error_code is ErrorCode.invalid_topic_exception
        assert "__consumer_offsets" in result.error_message
    assert len(rooms.image.topics["__consumer_offsets"].partitions) == 3


@pytest.mark.parametrize("version", versions_of("create_partitions"))
def test_topics_get_more_partitions(version: int) -> None:
    rooms = Rooms(cluster_of(1, 2))
    for name in ("placed", "assigned", "none", "full", "twice"):
        rooms.cluster.create_topic(name, 2, 1)
    answer = rooms.ask(
        "create_partitions",
        version,
        timeout=MINUTE,
        topics=[
            {"name": "placed", "count": 4},
            {"name": "assigned", "count": 4, "assignments": [{"broker_ids": [2]}, {"broker_ids": [1]}]},
            {"name": "none", "count": 3, "assignments": []},
            {"name": "full", "count": 2},
            {"name": "twice", "count": 3},
            {"name": "twice", "count": 4},
            {"name": "unknown", "count": 3},
        ],
    )
    assert {result.name: result.error_code.name for result in answer.results} == {
        "placed": "none",
        "assigned": "none",
        "none": "invalid_replica_assignment",
        "full": "invalid_partitions",
        "twice": "invalid_request",
        "unknown": "unknown_topic_or_partition",
    }
    assert [len(rooms.image.topics[name].partitions) for name in ("placed", "assigned", "twice")] == [4, 4, 2]
    assert [each.replicas for each in rooms.image.topics["assigned"].partitions[2:]] == [(2,), (1,)]
    wanted = [{"name": "full", "count": 9}]
    assert rooms.ask("create_partitions", version, topics=wanted, timeout=MINUTE, validate_only=True)
    assert len(rooms.image.topics["full"].partitions) == 2
    late = rooms.ask("create_partitions", version, topics=wanted, timeout=0)
    assert late.results[0].error_code is ErrorCode.request_timed_out
