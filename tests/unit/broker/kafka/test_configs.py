"""Settings over the Kafka listener: described with all their sources, and altered."""

from __future__ import annotations

from typing import Any

import pytest
from harness.kafka_rooms import Rooms, versions_of
from harness.metadata_cluster import cluster_of
from kio.schema.errors import ErrorCode
from klamm.broker.kafka.describe_configs import _TYPES
from klamm.cluster.topic_config import CLUSTER_CONFIG_KEYS, TOPIC_CONFIG_KEYS

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)


def resource(kind: int, name: str, keys: list[str] | None = None) -> dict[str, Any]:
    return {"resource_type": kind, "resource_name": name, "configuration_keys": keys}


def settings(result: Any) -> dict[str, Any]:
    assert result.error_code is ErrorCode.none, result
    return {config.name: config for config in result.configs}


def altered(*configs: tuple[str, int, str | None], kind: int = TOPIC, name: str = "a") -> dict[str, Any]:
    entries = [{"name": key, "config_operation": operation, "value": value} for key, operation, value in configs]
    return {"resource_type": kind, "resource_name": name, "configs": entries}


def rooms_with_topic() -> Rooms:
    rooms = Rooms(cluster_of(1, 2, 3))
    rooms.cluster.create_topic("a", 1, 3, retention_ms="1")
    rooms.cluster.configure(None, log_retention_ms="3", log_segment_bytes="77777")
    own = altered(("log.retention.ms", SET, "2"), kind=BROKER, name="1")
    answer = rooms.ask("incremental_alter_configs", resources=[own])
    assert answer.responses[0].error_code is ErrorCode.none
    return rooms


@pytest.mark.parametrize("version", versions_of("describe_configs"))
def test_each_setting_says_where_it_comes_from(version: int) -> None:
    rooms = rooms_with_topic()
    wanted = [resource(TOPIC, "a"), resource(BROKER, "1"), resource(BROKER, "")]
    answer = rooms.ask("describe_configs", version, resources=wanted, include_synonyms=True, include_documentation=True)
    topic, broker, cluster = (settings(result) for result in answer.results)
    assert set(topic) == set(TOPIC_CONFIG_KEYS)
    retention = topic["retention.ms"]
    assert (retention.value, retention.config_source, retention.read_only) == ("1", 1, False)
    assert [(synonym.name, synonym.value, synonym.source) for synonym in retention.synonyms] == [
        ("retention.ms", "1", 1),
        ("log.retention.ms", "2", 2),
        ("log.retention.ms", "3", 3),
        ("log.retention.ms", "1000000", 4),  # the broker's file
        ("log.retention.ms", "604800000", 5),
    ]
    assert (topic["segment.bytes"].value, topic["segment.bytes"].config_source) == ("77777", 3)
    assert (topic["min.insync.replicas"].value, topic["min.insync.replicas"].config_source) == ("2", 5)
    assert (broker["log.retention.ms"].value, broker["log.retention.ms"].config_source) == ("2", 2)
    assert (broker["node.id"].value, broker["node.id"].config_source, broker["node.id"].read_only) == ("1", 4, True)
    assert broker["advertised.listeners"].value == "GRPC://localhost:9192,KAFKA://localhost:9092"
    assert broker["auto.create.topics.enable"].value == "true"
    assert broker["default.replication.factor"].value == "3"
    assert int(broker["offsets.topic.num.partitions"].value) > 0
    assert broker["offsets.topic.replication.factor"].value == "3"
    assert {name: config.value for name, config in cluster.items()} == {
        "log.retention.ms": "3",
        "log.segment.bytes": "77777",
    }
    if version >= 3:
        assert (retention.config_type, topic["cleanup.policy"].config_type) == (_TYPES["long"], _TYPES["list"])
        assert broker["auto.create.topics.enable"].config_type == _TYPES["boolean"]
        assert all(config.documentation for config in (*topic.values(), *broker.values()))
        assert all(config.config_type for config in (*topic.values(), *broker.values()))


@pytest.mark.parametrize("version", versions_of("describe_configs"))
def test_some_keys_without_synonyms_and_what_has_no_settings(version: int) -> None:
    rooms = rooms_with_topic()
    wanted = [
        resource(TOPIC, "a", ["retention.ms", "unknown"]),
        resource(TOPIC, "a", []),
        resource(TOPIC, "b"),
        resource(TOPIC, "b d"),
        resource(BROKER, "2"),
        resource(BROKER, "x"),
        resource(LOGGER, "1"),
        resource(METRICS, "m"),
        resource(GROUP, "g"),
        resource(0, "z"),
        resource(-7, "z"),
    ]
    answer = rooms.ask("describe_configs", version, resources=wanted)
    some, everything, *others = answer.results
    assert list(settings(some)) == ["retention.ms"]
    assert some.configs[0].synonyms == ()
    assert set(settings(everything)) == set(TOPIC_CONFIG_KEYS)
    assert [result.error_code.name for result in others] == [
        "unknown_topic_or_partition",
        "invalid_topic_exception",
        *["invalid_request"] * 7,
    ]
    assert [(result.resource_type, result.resource_name) for result in answer.results] == [
        (each["resource_type"], each["resource_name"]) for each in wanted
    ]
    assert all(result.error_message and not result.configs for result in others)


@pytest.mark.parametrize("version", versions_of("incremental_alter_configs"))
def test_some_keys_are_altered(version: int) -> None:
    rooms = rooms_with_topic()
    rooms.cluster.create_topic("b", 1, 1)
    wanted = [
        altered(("retention.ms", DELETE, None), ("segment.ms", SET, "9"), ("cleanup.policy", APPEND, "compact")),
        altered(("segment.ms", SET, None), name="b"),
        altered(("log.retention.ms", DELETE, None), kind=BROKER, name="1"),
        altered(("log.retention.ms", SET, "4"), kind=BROKER, name=""),
        altered(("x", SET, "4"), name="unknown"),
        altered(("x", SET, "INFO"), kind=LOGGER, name="1"),
    ]
    offset = rooms.image.end_offset
    answer = rooms.ask("incremental_alter_configs", version, resources=wanted, validate_only=True)
    expected = ["none", "invalid_request", "none", "none", "unknown_topic_or_partition", "invalid_request"]
    assert [each.error_code.name for each in answer.responses] == expected
    assert rooms.image.end_offset == offset
    answer = rooms.ask("incremental_alter_configs", version, resources=wanted)
    assert [each.error_code.name for each in answer.responses] == expected
    assert [(each.resource_type, each.resource_name) for each in answer.responses] == [
        (each["resource_type"], each["resource_name"]) for each in wanted
    ]
    assert rooms.image.topic_overrides("a") == {"segment.ms": "9", "cleanup.policy": "delete,compact"}
    assert rooms.image.broker_config(rooms.rooms.broker_id)["log.retention.ms"] == "4"
    assert rooms.waits[-1] == rooms.image.end_offset


@pytest.mark.parametrize("version", versions_of("alter_configs"))
def test_all_keys_are_replaced(version: int) -> None:
    rooms = rooms_with_topic()
    wanted = [
        altered(("segment.ms", SET, "9")),
        altered(("segment.ms", SET, None), name="unknown"),
        altered(kind=BROKER, name=""),
    ]
    answer = rooms.ask("alter_configs", version, resources=wanted)
    errors = [each.error_code.name for each in answer.responses]
    assert errors == ["none", "unknown_topic_or_partition", "none"]
    assert rooms.image.topic_overrides("a") == {"segment.ms": "9"}
    assert rooms.image.cluster_config() == {}
    twice = [altered(("segment.ms", SET, "8")), altered(("segment.ms", SET, "7"))]
    answer = rooms.ask("alter_configs", version, resources=twice)
    assert [each.error_code for each in answer.responses] == [ErrorCode.invalid_request] * 2
    assert rooms.ask("alter_configs", version, resources=[]).responses == ()
    assert rooms.image.topic_overrides("a") == {"segment.ms": "9"}


def test_every_key_has_a_type_that_kafka_knows() -> None:
    for key in (*TOPIC_CONFIG_KEYS.values(), *CLUSTER_CONFIG_KEYS.values()):
        assert key.type in _TYPES, key
