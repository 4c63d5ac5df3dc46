"""What is written through gRPC is read through Kafka's protocol, and the other way round."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import Producer as ConfluentProducer
from confluent_kafka import TopicPartition as ConfluentPartition
from harness.kafka_clients import read, read_confluent
from harness.metadata_everywhere import wait_until_known_everywhere
from kafka import KafkaConsumer
from klamm.client import Admin, Consumer, NewTopic, Producer, TopicPartition
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

COUNT = 300


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_from_grpc_to_kafka(klamm_cluster: LocalCluster, name: str, compression: str) -> None:
    chosen = None if compression == "none" else compression
    with Producer(bootstrap_servers=klamm_cluster.bootstrap_servers, compression_type=chosen) as producer:
        for number in range(COUNT):
            producer.send(name, b"%d" % number, key=b"k", headers=[("h", b"1")], timestamp_ms=1_700_000_000_000)
    servers = klamm_cluster.kafka_bootstrap_servers
    wanted = [b"%d" % number for number in range(COUNT)]
    reader = KafkaConsumer(name, bootstrap_servers=servers, auto_offset_reset="earliest")
    records = read(reader, COUNT)
    reader.close()
    assert [record.value for record in records] == wanted
    assert (records[0].key, records[0].timestamp, list(records[0].headers)) == (b"k", 1_700_000_000_000, [("h", b"1")])
    confluent = ConfluentConsumer({"bootstrap.servers": servers, "group.id": name})
    confluent.assign([ConfluentPartition(name, 0, 0)])
    assert [message.value() for message in read_confluent(confluent, COUNT)] == wanted
    confluent.close()


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_from_kafka_to_grpc(klamm_cluster: LocalCluster, name: str, compression: str) -> None:
    servers = klamm_cluster.kafka_bootstrap_servers
    producer = ConfluentProducer({"bootstrap.servers": servers, "compression.type": compression})
    for number in range(COUNT):
        producer.produce(name, b"%d" % number, key=b"k", headers={"h": b"1"}, timestamp=1_700_000_000_000)
    assert producer.flush(30) == 0
    with Consumer(bootstrap_servers=klamm_cluster.bootstrap_servers, consumer_timeout_ms=20_000) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        consumer.seek(TopicPartition(name, 0), 0)
        records = [record for _, record in zip(range(COUNT), consumer, strict=False)]
    assert [record.value for record in records] == [b"%d" % number for number in range(COUNT)]
    assert (records[0].key, records[0].timestamp, list(records[0].headers)) == (b"k", 1_700_000_000_000, [("h", b"1")])


def test_topics_and_committed_offsets_are_the_same_behind_both(cluster: LocalCluster, name: str) -> None:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(name, 2)])
    wait_until_known_everywhere(cluster)
    options = {"bootstrap.servers": cluster.kafka_bootstrap_servers, "group.id": name}
    confluent = ConfluentConsumer(options)
    assert len(confluent.list_topics(name, timeout=10).topics[name].partitions) == 2
    confluent.commit(offsets=[ConfluentPartition(name, 1, 42)], asynchronous=False)
    confluent.close()
    with Consumer(bootstrap_servers=cluster.bootstrap_servers, group_id=name) as consumer:
        assert consumer.committed(TopicPartition(name, 1)) == 42
