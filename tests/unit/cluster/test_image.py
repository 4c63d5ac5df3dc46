"""The image shares what did not change, keeps its order, and gives itself back from its own records."""

from __future__ import annotations

from uuid import UUID

import pytest
from harness.metadata_cluster import cluster_of
from klamm.cluster.image import MetadataImage
from klamm.cluster.invariant import InvariantError
from klamm.cluster.records import (
    broker_change_record,
    config_record,
    remove_topic_record,
    topic_record,
    unregister_broker_record,
)
from klamm.proto.identifiers import BrokerEpoch, BrokerId, TopicId
from klamm.proto.metadata_pb2 import MetadataRecord, PartitionRecord

TOPIC_ID = TopicId(int=7)


def test_an_empty_image_has_no_records() -> None:
    image = MetadataImage.empty()
    assert list(image.to_records()) == []
    assert image.partition(TOPIC_ID, 0) is None
    assert image.topic_by_id(TOPIC_ID) is None
    assert image.topic_config("none").retention_ms == 7 * 24 * 3600 * 1000


def test_replay_shares_what_did_not_change_and_leaves_the_old_image_alone() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", 3, 3)
    cluster.create_topic("b", 1, 3)
    before = cluster.image
    cluster.alter_isr("a", 1, before.topics["a"].partitions[1].isr[:2])
    after = cluster.image
    assert after.topics["b"] is before.topics["b"]
    assert after.topics["a"].partitions[0] is before.topics["a"].partitions[0]
    assert after.topics["a"].partitions[1] is not before.topics["a"].partitions[1]
    assert len(before.topics["a"].partitions[1].isr) == 3
    assert after.brokers is before.brokers
    assert after.configs is before.configs
    assert after.topic_names is before.topic_names


def test_records_of_an_image_make_it_again_in_the_same_order() -> None:
    cluster = cluster_of(3, 1, 2)
    for name in ("z", "a", "m"):
        cluster.create_topic(name, 2, 2, retention_ms="1000")
    cluster.delete_topic("z")
    cluster.create_topic("z", 1, 1)
    cluster.configure(None, log_retention_bytes="5")
    image = cluster.image
    again = MetadataImage.empty().replay(image.to_records(), image.end_offset)
    assert again == image
    assert list(again.topics) == list(image.topics) == ["a", "m", "z"]
    assert list(again.brokers) == [3, 1, 2]


def test_a_deleted_topic_takes_its_configuration_and_partitions_along() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 3, 1, retention_ms="1000")
    topic_id = cluster.image.topics["a"].topic_id
    assert cluster.image.partition_count == 3
    cluster.delete_topic("a")
    assert cluster.image.topics == {} == cluster.image.configs == cluster.image.topic_names
    assert cluster.image.partition(topic_id, 0) is None
    assert cluster.image.partition_count == 0


def test_a_partition_out_of_range_is_not_found() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 2, 1)
    topic_id = cluster.image.topics["a"].topic_id
    assert cluster.image.partition(topic_id, 1) is cluster.image.topics["a"].partitions[1]
    assert cluster.image.partition(topic_id, 2) is None
    assert cluster.image.partition(topic_id, -1) is None


def test_settings_come_from_topic_then_cluster_then_the_brokers_file() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    file = {"log.retention.ms": "3", "log.segment.bytes": "1000"}
    assert cluster.image.topic_config("a", file).retention_ms == 3
    cluster.configure(None, log_retention_ms="2")
    assert cluster.image.topic_config("a", file).retention_ms == 2
    cluster.configure("a", retention_ms="1")
    config = cluster.image.topic_config("a", file)
    assert (config.retention_ms, config.segment_bytes) == (1, 1000)
    assert cluster.image.broker_config(BrokerId(1)) == {"log.retention.ms": "2"}


def _partition(number: int, topic_id: UUID = TOPIC_ID) -> MetadataRecord:
    return MetadataRecord(
        partition=PartitionRecord(
            topic_id=topic_id.bytes, partition=number, replicas=[1], isr=[1], leader=1, last_known_leader=-1
        )
    )


@pytest.mark.parametrize(
    "records",
    [
        [_partition(0)],
        [topic_record("a", TOPIC_ID), _partition(1)],
        [topic_record("a", TOPIC_ID), topic_record("a", TopicId(int=8))],
        [topic_record("a", TOPIC_ID), topic_record("b", TOPIC_ID)],
        [remove_topic_record(TOPIC_ID)],
        [unregister_broker_record(BrokerId(1), BrokerEpoch(1))],
        [broker_change_record(BrokerId(1), BrokerEpoch(1), fenced=True, in_controlled_shutdown=False)],
        [MetadataRecord()],
    ],
)
def test_records_that_contradict_the_image_are_a_bug(records: list[MetadataRecord]) -> None:
    image = MetadataImage.empty()
    with pytest.raises(InvariantError):
        image.replay(records, len(records))
    assert image == MetadataImage.empty()


def test_a_topic_may_be_made_filled_and_removed_in_one_go() -> None:
    records = [
        topic_record("a", TOPIC_ID),
        config_record(2, "a", "retention.ms", "1"),
        _partition(0),
        remove_topic_record(TOPIC_ID),
        topic_record("a", TopicId(int=8)),
        _partition(0, TopicId(int=8)),
    ]
    image = MetadataImage.empty().replay(records, len(records))
    assert image.topics["a"].topic_id == TopicId(int=8)
    assert image.configs == {}
    assert image.partition_count == 1


def test_a_key_without_a_value_goes_back_to_the_default() -> None:
    image = MetadataImage.empty().replay([config_record(2, "a", "retention.ms", "1")], 1)
    assert image.topic_overrides("a") == {"retention.ms": "1"}
    image = image.replay([config_record(2, "a", "retention.ms", None)], 2)
    assert image.configs == {}
