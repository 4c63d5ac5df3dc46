"""Every key, its default, and the words for what is wrong."""

from __future__ import annotations

from dataclasses import fields

import pytest
from klamm.cluster.topic_config import (
    CLUSTER_CONFIG_KEYS,
    TOPIC_CONFIG_KEYS,
    TopicConfig,
    collision_key,
    conflict,
    topic_name_error,
    validate,
    validate_cluster,
)
from klamm.proto.identifiers import RECORD_BATCH_BYTES_MAX


def test_each_key_is_an_attribute_and_has_a_synonym_and_words() -> None:
    assert [field.name for field in fields(TopicConfig)] == [key.replace(".", "_") for key in TOPIC_CONFIG_KEYS]
    for key in TOPIC_CONFIG_KEYS.values():
        assert key.documentation.endswith(".")
        assert key.broker_synonym in CLUSTER_CONFIG_KEYS
        assert key.default is None or key.check(key.default) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retention.ms", "-1"),
        ("retention.ms", " 86400000 "),
        ("retention.bytes", "0"),
        ("segment.bytes", "14"),
        ("max.message.bytes", str(RECORD_BATCH_BYTES_MAX)),
        ("min.insync.replicas", "3"),
        ("cleanup.policy", "delete"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "delete, compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.cleanable.dirty.ratio", "1"),
        ("min.cleanable.dirty.ratio", " 1e-3 "),
        ("max.compaction.lag.ms", "9223372036854775807"),
        ("message.timestamp.type", "LogAppendTime"),
        ("unclean.leader.election.enable", "TRUE"),
        ("flush.messages", "9223372036854775807"),
    ],
)
def test_good_values(key: str, value: str) -> None:
    assert validate(key, value) is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("retention.ms", "-2", "at least -1"),
        ("retention.ms", "a week", "whole number"),
        ("retention.ms", "1e3", "whole number"),
        ("retention.ms", "", "whole number"),
        ("retention.ms", "\u0661", "whole number"),
        ("flush.messages", "9223372036854775808", "at most 9223372036854775807"),
        ("flush.messages", "9" * 5000, "longer than 1000"),
        ("segment.bytes", "2147483648", "at most 2147483647"),
        ("max.message.bytes", str(RECORD_BATCH_BYTES_MAX + 1), f"at most {RECORD_BATCH_BYTES_MAX}"),
        ("min.insync.replicas", "0", "at least 1"),
        ("cleanup.policy", "shred", "delete, compact, or both"),
        ("cleanup.policy", "", "delete, compact, or both"),
        ("cleanup.policy", "compact,", "delete, compact, or both"),
        ("min.cleanable.dirty.ratio", "1.1", "from 0 to 1"),
        ("min.cleanable.dirty.ratio", "-0.1", "from 0 to 1"),
        ("min.cleanable.dirty.ratio", ".", "from 0 to 1"),
        ("min.cleanable.dirty.ratio", "nan", "from 0 to 1"),
        ("max.compaction.lag.ms", "0", "at least 1"),
        ("compression.type", "brotli", "producer"),
        ("message.timestamp.type", "createtime", "CreateTime or LogAppendTime"),
        ("unclean.leader.election.enable", "yes", "true or false"),
        ("retention.mss", "1", "did you mean retention.ms?"),
        ("min.isr", "1", "known keys are cleanup.policy"),
        ("x" * 500, "1", "..."),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(key: str, value: str, words: str) -> None:
    message = validate(key, value)
    assert message is not None
    assert words in message
    assert key[:80] in message
    assert len(message) < 700


def test_cluster_wide_keys_have_the_brokers_names() -> None:
    assert validate_cluster("log.retention.ms", "5") is None
    assert validate_cluster("num.partitions", "6") is None
    assert "did you mean log.retention.ms?" in str(validate_cluster("log.retention.m", "5"))
    assert "at most 10000" in str(validate_cluster("num.partitions", "10001"))


def test_defaults_are_kafkas() -> None:
    config = TopicConfig.resolve()
    assert config.segment_bytes == 2**30
    assert config.max_message_bytes == 1_048_588
    assert config.retention_bytes == -1
    assert not config.unclean_leader_election_enable
    assert not config.log_append_time


@pytest.mark.parametrize(
    ("setting", "replication_factor", "effective"),
    [(None, 1, 1), (None, 2, 1), (None, 3, 2), (None, 5, 2), ("2", 3, 2), ("3", 2, 2), ("1", 3, 1), ("9", 3, 3)],
)
def test_min_insync_replicas_is_two_of_three_and_never_more_than_there_are(
    setting: str | None, replication_factor: int, effective: int
) -> None:
    config = TopicConfig.resolve({"min.insync.replicas": setting} if setting else {})
    assert config.effective_min_insync_replicas(replication_factor) == effective


def test_a_topic_overrides_the_cluster_and_a_bad_stored_value_is_passed_over() -> None:
    cluster = {"log.retention.ms": "2", "log.segment.bytes": "many"}
    assert TopicConfig.resolve({}, cluster).retention_ms == 2
    assert TopicConfig.resolve({"retention.ms": "1"}, cluster).retention_ms == 1
    assert TopicConfig.resolve({"retention.ms": "soon"}, cluster).retention_ms == 2
    assert TopicConfig.resolve({}, cluster).segment_bytes == 2**30


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 249, "...", "__consumer_offsets"])
def test_good_names(name: str) -> None:
    assert topic_name_error(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        (".", "cannot be"),
        ("..", "cannot be"),
        ("x" * 250, "250 characters"),
        ("a b", "only ASCII letters"),
        ("a/b", "only ASCII letters"),
        ("caf\u00e9", "only ASCII letters"),
        ("a\n", "only ASCII letters"),
    ],
)
def test_bad_names(name: str, words: str) -> None:
    assert words in str(topic_name_error(name))


def test_dots_and_underscores_collide() -> None:
    assert collision_key("a.b_c") == collision_key("a_b.c") != collision_key("a-b-c")


def test_keys_that_cannot_stand_together_are_named() -> None:
    assert conflict({"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "5"}) is None
    assert conflict({"max.compaction.lag.ms": "1"}) is None
    words = conflict({"min.compaction.lag.ms": "6", "max.compaction.lag.ms": "5"})
    assert words is not None
    assert "min.compaction.lag.ms (6) > max.compaction.lag.ms (5)" in words


def test_the_cleanup_policy_is_a_list() -> None:
    for text, policy, compacted, deleted in (
        ("delete", "delete", False, True),
        ("compact", "compact", True, False),
        (" delete,compact ", "compact,delete", True, True),
        ("compact, compact", "compact", True, False),
    ):
        config = TopicConfig.resolve({"cleanup.policy": text})
        assert (config.cleanup_policy, config.compacted, config.deleted) == (policy, compacted, deleted)
