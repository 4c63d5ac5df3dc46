"""Kafka's administrative calls as the admin clients of librdkafka and kafka-python make them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import ElectionType, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)
from harness.metadata_everywhere import wait_until_known_everywhere
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition as KafkaTopicPartition
from klamm.deploy.local import LocalCluster

SECONDS_MAX = 30


@pytest.fixture
def admin(servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": servers, "log_level": 0})


@pytest.fixture
def kafka_python(servers: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=servers)
    yield client
    client.close()


def done(futures: Any) -> list[Any]:
    """The results of a call on several things."""
    return [future.result(SECONDS_MAX) for future in futures.values()]


def produce(servers: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": servers, "log_level": 0, "enable.idempotence": True})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=0)
    assert producer.flush(SECONDS_MAX) == 0


def test_a_topic_from_its_creation_to_its_end(admin: AdminClient, cluster: LocalCluster, name: str) -> None:
    done(admin.create_topics([NewTopic(name, 2, config={"retention.ms": "99999"})], operation_timeout=SECONDS_MAX))
    wait_until_known_everywhere(cluster)  # the client asks now this broker, now that one
    with pytest.raises(KafkaException, match="already exists"):
        done(admin.create_topics([NewTopic(name, 2)]))
    done(admin.create_topics([NewTopic(name + "-not-made", 2)], validate_only=True))
    topics = admin.list_topics(timeout=SECONDS_MAX).topics
    assert len(topics[name].partitions) == 2
    assert name + "-not-made" not in topics
    done(admin.create_partitions([NewPartitions(name, 3)]))
    wait_until_known_everywhere(cluster)
    assert len(admin.list_topics(name, timeout=SECONDS_MAX).topics[name].partitions) == 3
    done(admin.delete_topics([name], operation_timeout=SECONDS_MAX))
    wait_until_known_everywhere(cluster)
    assert name not in admin.list_topics(timeout=SECONDS_MAX).topics


def test_settings_of_topics_and_brokers(admin: AdminClient, cluster: LocalCluster, name: str) -> None:
    done(admin.create_topics([NewTopic(name, 1, config={"retention.ms": "99999"})]))
    wait_until_known_everywhere(cluster)
    topic = ConfigResource(ConfigResource.Type.TOPIC, name)
    broker = ConfigResource(ConfigResource.Type.BROKER, "1")

    def described(resource: ConfigResource) -> dict[str, Any]:
        [settings] = done(admin.describe_configs([resource]))
        return dict(settings)

    retention = described(topic)["retention.ms"]
    assert (retention.value, retention.source) == ("99999", ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
    assert set(retention.synonyms) >= {"retention.ms", "log.retention.ms"}
    changes = [
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
    ]
    done(
        admin.incremental_alter_configs([ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=changes)])
    )
    wait_until_known_everywhere(cluster)
    changed = described(topic)
    assert changed["retention.ms"].is_default
    assert changed["cleanup.policy"].value.split(",") == ["delete", "compact"]
    wrong = ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)
    with pytest.raises(KafkaException, match=r"retention\.ms"):
        done(admin.incremental_alter_configs([ConfigResource(topic.restype, name, incremental_configs=[wrong])]))
    of_broker = described(broker)
    assert of_broker["node.id"].value == "1" and of_broker["node.id"].is_read_only
    assert "KAFKA://127.0.0.1:" in of_broker["advertised.listeners"].value
    assert int(of_broker["offsets.topic.num.partitions"].value) >= 1


def test_offsets_and_deleted_records(admin: AdminClient, servers: str, name: str) -> None:
    done(admin.create_topics([NewTopic(name, 1)]))
    produce(servers, name, 20)

    def offset(spec: OffsetSpec) -> int:
        [found] = done(admin.list_offsets({TopicPartition(name, 0): spec}))
        return int(found.offset)

    assert (offset(OffsetSpec.earliest()), offset(OffsetSpec.latest())) == (0, 20)
    assert offset(OffsetSpec.max_timestamp()) in range(20)
    assert offset(OffsetSpec.for_timestamp(0)) == 0
    [deleted] = done(admin.delete_records([TopicPartition(name, 0, 5)]))
    assert deleted.low_watermark == offset(OffsetSpec.earliest()) == 5
    with pytest.raises(KafkaException, match=r"(?i)range"):
        done(admin.delete_records([TopicPartition(name, 0, 21)]))


def test_the_cluster_and_elections(admin: AdminClient, cluster: LocalCluster, name: str) -> None:
    done(admin.create_topics([NewTopic(name, 1)]))
    wait_until_known_everywhere(cluster)
    described = admin.describe_cluster(include_authorized_operations=True).result(SECONDS_MAX)
    assert described.controller.id in {node.id for node in described.nodes}
    assert described.authorized_operations
    partition = TopicPartition(name, 0)
    [outcome] = admin.elect_leaders(ElectionType.PREFERRED, [partition]).result(SECONDS_MAX).values()
    assert outcome.name() == "ELECTION_NOT_NEEDED"
    # Of all partitions those are told whose leader changes, or cannot: none of ours.
    everything = admin.elect_leaders(ElectionType.PREFERRED).result(SECONDS_MAX)
    assert name not in {each.topic for each in everything}


def test_what_kafka_python_asks_of_logs_producers_and_controllers(
    kafka_python: KafkaAdminClient, cluster: LocalCluster, servers: str, name: str
) -> None:
    produce(servers, name, 3)  # the topic comes to be when it is first used
    wait_until_known_everywhere(cluster)
    folders = [folder for broker in kafka_python.describe_log_dirs() for folder in broker["log_dirs"]]
    sizes = [
        partition["partition_size"]
        for folder in folders
        for topic in folder["topics"]
        if topic["name"] == name
        for partition in topic["partitions"]
    ]
    assert sizes and all(size > 0 for size in sizes)
    assert all(folder["total_bytes"] >= folder["usable_bytes"] > 0 for folder in folders)
    partition = KafkaTopicPartition(name, 0)
    [state] = kafka_python.describe_producers([partition]).values()
    assert [producer.last_sequence for producer in state.active_producers] == [2]
    quorum = kafka_python.describe_metadata_quorum()
    [metadata] = quorum["topics"][0]["partitions"]
    assert metadata["leader_id"] in {voter["replica_id"] for voter in metadata["current_voters"]}
    assert partition not in kafka_python.list_partition_reassignments()
    leader = kafka_python.describe_topics([name])[0]["partitions"][0]["leader_id"]
    kafka_python.alter_partition_reassignments({partition: [leader]})
    wait_until_known_everywhere(cluster)
    [described] = kafka_python.describe_topic_partitions([name])["topics"]
    assert described["partitions"][0]["replica_nodes"] == [leader]
