"""kafka-python's KafkaConsumer: topics, positions, committed offsets, restart and resume."""

from __future__ import annotations

import json

import pytest
from harness.kafka_clients import create_topic, poll_all_until, read
from harness.waiting import wait_for
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition

pytestmark = pytest.mark.integration


def produce(servers: str, topic: str, count: int, *, first: int = 0, partition: int | None = None) -> None:
    producer = KafkaProducer(bootstrap_servers=servers)
    for number in range(first, first + count):
        producer.send(topic, b"%d" % number, partition=partition, timestamp_ms=1_000 * (number + 1))
    producer.flush()
    producer.close()


def values(records: list) -> list[int]:
    return [int(record.value) for record in records]


def test_one_topic_with_a_group_and_a_deserializer(servers: str, name: str) -> None:
    produce(servers, name, 20)
    consumer = KafkaConsumer(
        name,
        bootstrap_servers=servers,
        group_id=name,
        auto_offset_reset="earliest",
        value_deserializer=lambda value: json.loads(value.decode()),
    )
    records = []
    for record in consumer:
        records.append(record)
        if len(records) == 20:
            break
    assert [record.value for record in records] == list(range(20))
    assert consumer.topics() >= {name}
    assert consumer.subscription() == {name}
    assert consumer.assignment() == {TopicPartition(name, 0)}
    consumer.close()


def test_several_topics_and_a_pattern(servers: str, name: str) -> None:
    topics = [f"{name}-{letter}" for letter in "abc"]
    for topic in topics:
        produce(servers, topic, 5)
    consumer = KafkaConsumer(*topics, bootstrap_servers=servers, group_id=name, auto_offset_reset="earliest")
    assert {record.topic for record in read(consumer, 15)} == set(topics)
    consumer.close()
    consumer = KafkaConsumer(bootstrap_servers=servers, group_id=f"{name}-pattern", auto_offset_reset="earliest")
    consumer.subscribe(pattern=f"^{name}-[ab]$")
    assert {record.topic for record in read(consumer, 10)} == set(topics[:2])
    consumer.close()


def test_latest_sees_what_comes_afterwards(servers: str, name: str) -> None:
    produce(servers, name, 10)
    consumer = KafkaConsumer(name, bootstrap_servers=servers, group_id=name, auto_offset_reset="latest")
    partition = TopicPartition(name, 0)
    poll_all_until([consumer], lambda: consumer.assignment() == {partition})
    assert consumer.position(partition) == 10
    produce(servers, name, 5, first=10)
    assert values(read(consumer, 5)) == [10, 11, 12, 13, 14]
    consumer.close()


def test_assign_position_seek_and_end(servers: str, name: str) -> None:
    create_topic(servers, name, 2)
    produce(servers, name, 10, partition=1)
    partition = TopicPartition(name, 1)
    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    consumer.assign([partition])
    assert values(read(consumer, 3)) == [0, 1, 2]
    assert consumer.position(partition) == 3
    consumer.seek(partition, 8)
    assert values(read(consumer, 2)) == [8, 9]
    consumer.seek_to_beginning(partition)
    assert values(read(consumer, 1)) == [0]
    consumer.seek_to_end(partition)
    assert consumer.position(partition) == 10
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition, TopicPartition(name, 0)]) == {partition: 10, TopicPartition(name, 0): 0}
    found = consumer.offsets_for_times({partition: 5_500})[partition]
    assert (found.offset, found.timestamp) == (5, 6_000)
    assert consumer.offsets_for_times({partition: 50_000})[partition] is None
    consumer.pause(partition)
    consumer.seek_to_beginning(partition)
    assert consumer.poll(timeout_ms=200) == {}
    consumer.resume(partition)
    assert values(read(consumer, 10)) == list(range(10))
    consumer.close()


def test_an_offset_out_of_range_is_reset(servers: str, name: str) -> None:
    produce(servers, name, 5)
    partition = TopicPartition(name, 0)
    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    consumer.assign([partition])
    consumer.seek(partition, 1_000)
    assert values(read(consumer, 5)) == [0, 1, 2, 3, 4]
    consumer.close()


def test_commit_restart_and_resume(servers: str, name: str) -> None:
    produce(servers, name, 10)
    partition = TopicPartition(name, 0)
    options = {
        "bootstrap_servers": servers,
        "group_id": name,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
    }
    consumer = KafkaConsumer(name, **options)
    assert values(read(consumer, 4)) == [0, 1, 2, 3]
    consumer.commit()
    assert values(read(consumer, 2)) == [4, 5]  # not committed
    assert consumer.committed(partition) == 4
    consumer.close()
    consumer = KafkaConsumer(name, **options)
    assert values(read(consumer, 3)) == [4, 5, 6]
    consumer.commit({partition: OffsetAndMetadata(6, "a note", -1)})
    consumer.close()
    consumer = KafkaConsumer(name, **options)
    assert consumer.committed(partition, metadata=True).metadata == "a note"
    assert values(read(consumer, 1)) == [6]
    done: list[object] = []
    consumer.commit_async({partition: OffsetAndMetadata(9, "", -1)}, callback=lambda _, answer: done.append(answer))
    wait_for(lambda: (consumer.poll(timeout_ms=50, max_records=1), done)[1])
    consumer.close()
    again = KafkaConsumer(name, **{**options, "group_id": f"{name}-new"})
    assert values(read(again, 10)) == list(range(10)), "a new group reads everything again"
    again.close()


def test_auto_commit(servers: str, name: str) -> None:
    produce(servers, name, 10)
    options = {"bootstrap_servers": servers, "group_id": name, "auto_offset_reset": "earliest"}
    consumer = KafkaConsumer(name, auto_commit_interval_ms=100, **options)
    assert values(read(consumer, 10)) == list(range(10))
    consumer.close()  # commits
    produce(servers, name, 2, first=10)
    consumer = KafkaConsumer(name, **options)
    assert values(read(consumer, 2)) == [10, 11]
    consumer.close()


def test_committed_offsets_with_assigned_partitions(servers: str, name: str) -> None:
    """A group without members: partitions by hand, offsets in the group's name."""
    create_topic(servers, name, 2)
    produce(servers, name, 6, partition=0)
    partition = TopicPartition(name, 0)
    options = {"bootstrap_servers": servers, "group_id": name, "auto_offset_reset": "earliest"}
    consumer = KafkaConsumer(enable_auto_commit=False, **options)
    consumer.assign([partition])
    assert values(read(consumer, 3)) == [0, 1, 2]
    consumer.commit()
    consumer.close()
    consumer = KafkaConsumer(enable_auto_commit=False, **options)
    consumer.assign([partition, TopicPartition(name, 1)])
    assert values(read(consumer, 3)) == [3, 4, 5]
    assert consumer.committed(TopicPartition(name, 1)) is None
    consumer.close()
