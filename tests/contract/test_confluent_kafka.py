"""confluent-kafka (librdkafka): producers with callbacks, consumers of both group protocols, and their offsets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec
from harness.kafka_clients import create_topic, poll_all_until, read_confluent

pytestmark = pytest.mark.integration


def produce(servers: str, topic: str, count: int, *, partition: int = 0, **options: Any) -> list[Message]:
    delivered: list[Message] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        delivered.append(message)

    producer = Producer({"bootstrap.servers": servers, **options})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=partition, on_delivery=on_delivery)
        producer.poll(0)
    assert producer.flush(30) == 0
    return delivered


def consumer_of(servers: str, group: str, **options: Any) -> Consumer:
    return Consumer({"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest", **options})


def values(messages: list[Message]) -> list[int]:
    return [int(message.value() or b"-1") for message in messages]


@pytest.fixture
def admin(servers: str) -> Iterator[AdminClient]:
    yield AdminClient({"bootstrap.servers": servers})


def test_delivery_callbacks_and_a_topic_that_comes_to_be(servers: str, name: str) -> None:
    delivered: list[Message] = []
    producer = Producer({"bootstrap.servers": servers})
    for number in range(100):
        producer.produce(
            name,
            key=b"key",
            value=b"%d" % number,
            timestamp=1_700_000_000_000 + number,
            headers={"header": b"1"},
            on_delivery=lambda error, message: delivered.append((error, message)),
        )
        producer.poll(0)
    assert producer.flush(30) == 0
    assert [error for error, _ in delivered] == [None] * 100
    assert sorted(message.offset() for _, message in delivered) == list(range(100))
    consumer = consumer_of(servers, name)
    consumer.subscribe([name])
    messages = read_confluent(consumer, 100)
    consumer.close()
    assert values(messages) == list(range(100))
    assert messages[5].key() == b"key"
    assert messages[5].headers() == [("header", b"1")]
    assert messages[5].timestamp() == (TIMESTAMP_CREATE_TIME, 1_700_000_000_005)


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_idempotent_producer_with_each_compression(three_servers: str, name: str, compression: str) -> None:
    create_topic(three_servers, name)
    options = {"enable.idempotence": True, "compression.type": compression, "linger.ms": 5}
    delivered = produce(three_servers, name, 2000, **options)
    assert [message.offset() for message in delivered] == list(range(2000))
    consumer = consumer_of(three_servers, name)
    consumer.assign([TopicPartition(name, 0, 1990)])
    assert values(read_confluent(consumer, 10)) == list(range(1990, 2000))
    consumer.close()


def test_list_topics(servers: str, name: str) -> None:
    create_topic(servers, name, 3)
    consumer = consumer_of(servers, name)
    metadata = consumer.list_topics(timeout=10)
    assert name in metadata.topics
    assert sorted(metadata.topics[name].partitions) == [0, 1, 2]
    assert len(metadata.brokers) == len(servers.split(","))
    one = consumer.list_topics(name, timeout=10).topics[name].partitions[0]
    assert one.leader in metadata.brokers
    assert set(one.isrs) == set(one.replicas)
    missing = consumer.list_topics(f"{name}-missing", timeout=10).topics[f"{name}-missing"]
    assert missing.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    consumer.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_commit_restart_and_resume(servers: str, name: str, protocol: str) -> None:
    create_topic(servers, name)
    produce(servers, name, 10)
    options = {"group.protocol": protocol, "enable.auto.commit": False}
    consumer = consumer_of(servers, name, **options)
    consumer.subscribe([name])
    messages = read_confluent(consumer, 4)
    assert values(messages) == [0, 1, 2, 3]
    (committed,) = consumer.commit(message=messages[2], asynchronous=False)
    assert committed.offset == 3
    assert consumer.position([TopicPartition(name, 0)])[0].offset == 4
    assert consumer.get_watermark_offsets(TopicPartition(name, 0)) == (0, 10)
    consumer.close()
    consumer = consumer_of(servers, name, **options)
    consumer.subscribe([name])
    assert values(read_confluent(consumer, 7)) == [3, 4, 5, 6, 7, 8, 9]
    consumer.commit(offsets=[TopicPartition(name, 0, 5, "a note")], asynchronous=False)
    (found,) = consumer.committed([TopicPartition(name, 0)], timeout=10)
    assert (found.offset, found.metadata) == (5, "a note")
    consumer.close()


def test_two_members_and_one_leaves(servers: str, name: str) -> None:
    """The same under KIP-848, whose heartbeats the broker paces, is in test_consumer_group_protocol.py."""
    create_topic(servers, name, 2)
    options = {"heartbeat.interval.ms": 300}
    first, second = (consumer_of(servers, name, **options) for _ in range(2))
    for consumer in (first, second):
        consumer.subscribe([name])
    both = (first, second)
    poll_all_until(both, lambda: sorted(len(each.assignment()) for each in both) == [1, 1])
    second.close()
    poll_all_until([first], lambda: len(first.assignment()) == 2)
    first.close()


def test_cooperative_sticky_keeps_what_stays(servers: str, name: str) -> None:
    create_topic(servers, name, 4)
    revoked: list[int] = []
    options = {"partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": 300}
    first, second = (consumer_of(servers, name, **options) for _ in range(2))
    first.subscribe([name], on_revoke=lambda _, partitions: revoked.extend(p.partition for p in partitions))
    poll_all_until([first], lambda: len(first.assignment()) == 4)
    second.subscribe([name])
    poll_all_until([first, second], lambda: len(first.assignment()) == len(second.assignment()) == 2)
    assert len(revoked) == 2
    first.close()
    second.close()


def test_offsets_for_times_and_latest(three_servers: str, name: str) -> None:
    create_topic(three_servers, name)
    producer = Producer({"bootstrap.servers": three_servers})
    for number in range(10):
        producer.produce(name, b"%d" % number, timestamp=1_700_000_000_000 + 1_000 * number)
    producer.flush(30)
    consumer = consumer_of(three_servers, name)
    asked = [TopicPartition(name, 0, 1_700_000_004_500)]
    assert consumer.offsets_for_times(asked, timeout=10)[0].offset == 5
    consumer.close()


def test_an_unknown_partition_is_an_error_of_the_message(three_servers: str, name: str) -> None:
    create_topic(three_servers, name)
    errors: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": three_servers, "message.timeout.ms": 5_000})
    producer.produce(name, b"value", partition=7, on_delivery=lambda error, _: errors.append(error))
    producer.flush(10)
    assert errors[0] is not None
    assert errors[0].code() == KafkaError._UNKNOWN_PARTITION


def test_groups_and_their_offsets_in_the_admin_client(admin: AdminClient, servers: str, name: str) -> None:
    create_topic(servers, name, 2)
    produce(servers, name, 10)
    consumer = consumer_of(servers, name, **{"enable.auto.commit": False})
    consumer.subscribe([name])
    read_confluent(consumer, 10)
    consumer.commit(asynchronous=False)
    listed = {group.group_id: group for group in admin.list_consumer_groups().result(10).valid}
    assert listed[name].state == ConsumerGroupState.STABLE
    described = admin.describe_consumer_groups([name])[name].result(10)
    (member,) = described.members
    assert {p.partition for p in member.assignment.topic_partitions} == {0, 1}
    with pytest.raises(KafkaException) as refused:
        admin.delete_consumer_groups([name])[name].result(10)
    assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    consumer.close()
    asked = ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0)])
    found = admin.list_consumer_group_offsets([asked])[name].result(10)
    assert [p.offset for p in found.topic_partitions] == [10]
    wanted = ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0, 2)])
    admin.alter_consumer_group_offsets([wanted])[name].result(10)
    found = admin.list_consumer_group_offsets([asked])[name].result(10)
    assert [p.offset for p in found.topic_partitions] == [2]
    admin.delete_consumer_groups([name])[name].result(10)
    assert name not in {group.group_id for group in admin.list_consumer_groups().result(10).valid}


def test_list_offsets_and_delete_records(admin: AdminClient, servers: str, name: str) -> None:
    create_topic(servers, name)
    produce(servers, name, 10)
    partition = TopicPartition(name, 0)
    deleted = admin.delete_records([TopicPartition(name, 0, 4)])
    assert next(iter(deleted.values())).result(10).low_watermark == 4
    specs = {"earliest": OffsetSpec.earliest(), "latest": OffsetSpec.latest(), "max": OffsetSpec.max_timestamp()}
    offsets = {}
    for what, spec in specs.items():
        answer = admin.list_offsets({partition: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED)
        offsets[what] = answer[partition].result(10).offset
    assert offsets["earliest"] == 4
    assert offsets["latest"] == 10
    assert 4 <= offsets["max"] < 10
