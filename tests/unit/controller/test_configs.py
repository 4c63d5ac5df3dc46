"""Configuration changes, and what two of the keys do to partitions."""

from __future__ import annotations

from typing import Any

import pytest
from harness.metadata_cluster import cluster_of
from klamm.proto import command_pb2 as pb
from klamm.proto import metadata_pb2
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId

TOPIC = metadata_pb2.CONFIG_RESOURCE_TOPIC
BROKER = metadata_pb2.CONFIG_RESOURCE_BROKER


def test_keys_are_set_changed_and_deleted() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1, retention_ms="1")
    assert cluster.configure("a", retention_ms="2", segment_bytes="1000").error_code == 0
    assert cluster.image.topic_overrides("a") == {"retention.ms": "2", "segment.bytes": "1000"}
    assert cluster.configure("a", retention_ms=None).error_code == 0
    assert cluster.image.topic_overrides("a") == {"segment.bytes": "1000"}
    offset = cluster.image.end_offset
    assert cluster.configure("a", segment_bytes="1000", retention_ms=None).error_code == 0
    assert cluster.image.end_offset == offset


@pytest.mark.parametrize(
    ("resource", "error", "words"),
    [
        ({"resource_type": TOPIC, "resource_name": "b"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "does not exist"),
        ({"resource_type": TOPIC, "resource_name": "a b"}, ErrorCode.INVALID_TOPIC_EXCEPTION, "only ASCII"),
        ({"resource_type": BROKER, "resource_name": "2"}, ErrorCode.BROKER_ID_NOT_REGISTERED, "No broker with id 2"),
        ({"resource_type": BROKER, "resource_name": "01"}, ErrorCode.INVALID_REQUEST, "must be an integer"),
        ({"resource_type": BROKER, "resource_name": "9" * 5000}, ErrorCode.INVALID_REQUEST, "must be an integer"),
        ({"resource_type": 0, "resource_name": "a"}, ErrorCode.INVALID_REQUEST, "resource type"),
        ({"resource_type": 9, "resource_name": "a"}, ErrorCode.INVALID_REQUEST, "resource type"),
    ],
)
def test_what_has_no_configuration(resource: dict[str, Any], error: ErrorCode, words: str) -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    command = pb.IncrementalAlterConfigsCommand(resources=[pb.AlterConfigsResource(**resource)])
    outcome = cluster.run(incremental_alter_configs=command).response.incremental_alter_configs.resources[0]
    assert ErrorCode.of(outcome.error_code) is error
    assert words in outcome.error_message


@pytest.mark.parametrize(
    ("configs", "error", "words"),
    [
        ([{"name": "retention.ms", "value": "soon"}], ErrorCode.INVALID_CONFIG, "whole number"),
        ([{"name": "retention.ms"}], ErrorCode.INVALID_REQUEST, "has no value"),
        (
            [{"name": "min.compaction.lag.ms", "value": "2"}, {"name": "max.compaction.lag.ms", "value": "1"}],
            ErrorCode.INVALID_CONFIG,
            "conflict",
        ),
        ([{"name": "retention.msx", "value": "1"}], ErrorCode.INVALID_CONFIG, "did you mean retention.ms?"),
        ([{"name": "retention.msx", "operation": 1}], ErrorCode.INVALID_CONFIG, "did you mean retention.ms?"),
        ([{"name": "retention.ms", "value": "1", "operation": 2}], ErrorCode.INVALID_CONFIG, "not a list"),
        ([{"name": "retention.ms", "value": "1", "operation": 9}], ErrorCode.INVALID_REQUEST, "operation 9"),
        ([{"name": "retention.ms", "value": "1"}] * 2, ErrorCode.INVALID_REQUEST, "more than once"),
        (
            [{"name": "segment.ms", "value": "1"}, {"name": "retention.ms", "value": "x"}],
            ErrorCode.INVALID_CONFIG,
            "retention.ms",
        ),
    ],
)
def test_a_resource_is_changed_whole_or_not_at_all(configs: list[dict[str, Any]], error: ErrorCode, words: str) -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    entries = [pb.AlterableConfig(**config) for config in configs]
    resource = pb.AlterConfigsResource(resource_type=TOPIC, resource_name="a", configs=entries)
    applied = cluster.run(incremental_alter_configs=pb.IncrementalAlterConfigsCommand(resources=[resource]))
    outcome = applied.response.incremental_alter_configs.resources[0]
    assert ErrorCode.of(outcome.error_code) is error
    assert words in outcome.error_message
    assert applied.records == ()


def test_validate_only_changes_nothing_and_a_resource_may_be_named_once() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    cluster.create_topic("b", 1, 1)
    config = pb.AlterableConfig(name="retention.ms", value="1")
    a, b = (pb.AlterConfigsResource(resource_type=TOPIC, resource_name=name, configs=[config]) for name in "ab")
    command = pb.IncrementalAlterConfigsCommand(resources=[a, b, a], validate_only=True)
    applied = cluster.run(incremental_alter_configs=command)
    outcomes = applied.response.incremental_alter_configs.resources
    assert [outcome.error_code for outcome in outcomes] == [ErrorCode.INVALID_REQUEST, 0, ErrorCode.INVALID_REQUEST]
    assert applied.records == ()


def altered(cluster: Any, resource: dict[str, Any], *configs: dict[str, Any]) -> pb.AlterConfigsOutcome:
    entries = [pb.AlterableConfig(**config) for config in configs]
    command = pb.IncrementalAlterConfigsCommand(resources=[pb.AlterConfigsResource(configs=entries, **resource)])
    outcome: pb.AlterConfigsOutcome = cluster.run(
        incremental_alter_configs=command
    ).response.incremental_alter_configs.resources[0]
    return outcome


def test_words_are_appended_to_lists_and_subtracted_from_them() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    topic = {"resource_type": TOPIC, "resource_name": "a"}
    for operation, value, policy in (
        (2, "compact", "delete,compact"),
        (2, "compact", "delete,compact"),
        (3, "delete", "compact"),
    ):
        assert not altered(
            cluster, topic, {"name": "cleanup.policy", "value": value, "operation": operation}
        ).error_code
        assert cluster.image.topic_overrides("a") == {"cleanup.policy": policy}
    outcome = altered(cluster, topic, {"name": "cleanup.policy", "value": "compact", "operation": 3})
    assert outcome.error_code == ErrorCode.INVALID_CONFIG  # none is left


def test_a_resource_can_be_replaced_as_a_whole() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1, retention_ms="1", segment_bytes="1000")
    topic = {"resource_type": TOPIC, "resource_name": "a", "replace": True}
    assert not altered(cluster, topic, {"name": "retention.ms", "value": "2"}).error_code
    assert cluster.image.topic_overrides("a") == {"retention.ms": "2"}
    assert altered(cluster, topic, {"name": "retention.ms", "value": "x"}).error_code == ErrorCode.INVALID_CONFIG
    assert not altered(cluster, topic).error_code
    assert cluster.image.topic_overrides("a") == {}


def test_a_broker_has_settings_of_its_own_but_for_what_controllers_use() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", 1, 2)
    cluster.configure(None, log_retention_ms="3")
    broker = {"resource_type": BROKER, "resource_name": "2"}
    assert not altered(cluster, broker, {"name": "log.retention.ms", "value": "2"}).error_code
    retention = [cluster.image.topic_config("a", None, BrokerId(number)).retention_ms for number in (1, 2)]
    assert retention == [3, 2]
    outcome = altered(cluster, broker, {"name": "min.insync.replicas", "value": "2"})
    assert outcome.error_code == ErrorCode.INVALID_REQUEST
    assert "whole cluster" in outcome.error_message


def test_cluster_wide_defaults() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    assert cluster.configure(None, log_retention_ms="77").error_code == 0
    assert cluster.image.topic_config("a").retention_ms == 77
    outcome = cluster.configure(None, retention_ms="77")
    assert outcome.error_code == ErrorCode.INVALID_CONFIG
    assert "log.retention.ms" in outcome.error_message


@pytest.mark.parametrize("cluster_wide", [False, True])
def test_rule_6_another_min_isr_clears_who_was_eligible_before_the_new_value_is_seen(cluster_wide: bool) -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3], [2, 3, 1]])
    cluster.fence(2, 3)
    assert cluster.partition("a").eligible_leader_replicas == (2, 3)
    cluster.configure(None if cluster_wide else "a", min_insync_replicas="1")
    assert cluster.partition("a").eligible_leader_replicas == ()
    # The leader may commit alone from now on: what says so comes last.
    assert [record.WhichOneof("record") for record in cluster.last_records] == ["partition", "partition", "config"]


def test_who_is_eligible_stays_so_where_there_is_no_leader() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2, 3]])
    cluster.fence(1, 2, 3)
    offset = cluster.image.end_offset
    cluster.configure("a", min_insync_replicas="1")
    assert cluster.image.end_offset == offset + 1
    assert cluster.partition("a").eligible_leader_replicas == (1, 2, 3)


def test_unclean_election_enabled_brings_partitions_back() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1, 2]])
    cluster.create_topic("b", assignments=[[1, 2]])
    for name in ("a", "b"):
        cluster.alter_isr(name, 0, [1])
    cluster.fence(1)
    assert cluster.partition("a").leader is None
    cluster.configure("a", unclean_leader_election_enable="true")
    assert (cluster.partition("a").leader, cluster.partition("b").leader) == (2, None)
    cluster.configure(None, unclean_leader_election_enable="true")
    assert cluster.partition("b").leader == 2
    assert cluster.partition("b").recovering
