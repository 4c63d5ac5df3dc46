"""kafka-python's KafkaProducer, as the tutorials use it."""

from __future__ import annotations

import json

import pytest
from harness.kafka_clients import create_topic, read
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

pytestmark = pytest.mark.integration


def read_from_start(servers: str, topic: str, count: int, **options: object) -> list[object]:
    consumer = KafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest", **options)
    try:
        return read(consumer, count)
    finally:
        consumer.close()


def test_json_to_a_topic_that_comes_to_be_on_first_use(servers: str, name: str) -> None:
    producer = KafkaProducer(bootstrap_servers=servers, value_serializer=lambda v: json.dumps(v).encode())
    futures = [producer.send(name, {"number": number}) for number in range(100)]
    producer.flush()
    assert [future.get(timeout=10).offset for future in futures] == list(range(100))
    assert futures[0].get().topic == name
    producer.close()
    records = read_from_start(servers, name, 100, value_deserializer=lambda v: json.loads(v.decode()))
    assert [record.value for record in records] == [{"number": number} for number in range(100)]


def test_partitions_keys_timestamps_and_headers(servers: str, name: str) -> None:
    create_topic(servers, name, 3)
    producer = KafkaProducer(bootstrap_servers=servers, key_serializer=str.encode, value_serializer=str.encode)
    sent = producer.send(name, "value", key="key", partition=2, timestamp_ms=1_700_000_000_000, headers=[("h", b"1")])
    assert (sent.get(timeout=10).partition, sent.get().timestamp) == (2, 1_700_000_000_000)
    assert producer.partitions_for(name) == {0, 1, 2}
    assert len({producer.send(name, str(n), key="same").get(timeout=10).partition for n in range(10)}) == 1
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(name, 2)])
    first = read(consumer, 1)[0]
    consumer.close()
    assert (first.key, first.value, first.timestamp, first.timestamp_type) == (b"key", b"value", 1_700_000_000_000, 0)
    assert list(first.headers) == [("h", b"1")]


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compression(three_servers: str, name: str, compression: str) -> None:
    producer = KafkaProducer(bootstrap_servers=three_servers, compression_type=compression, linger_ms=20)
    values = [b"%d " % number * 100 for number in range(200)]
    for value in values:
        producer.send(name, value)
    producer.flush()
    producer.close()
    assert [record.value for record in read_from_start(three_servers, name, 200)] == values


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_acks(servers: str, name: str, acks: int | str) -> None:
    create_topic(servers, name)
    producer = KafkaProducer(bootstrap_servers=servers, acks=acks, enable_idempotence=False)
    futures = [producer.send(name, b"%d" % number) for number in range(50)]
    producer.flush()
    if acks != 0:
        assert [future.get(timeout=10).offset for future in futures] == list(range(50))
    producer.close()
    assert [record.value for record in read_from_start(servers, name, 50)] == [b"%d" % n for n in range(50)]


def test_idempotent_producer(servers: str, name: str) -> None:
    producer = KafkaProducer(
        bootstrap_servers=servers, enable_idempotence=True, max_in_flight_requests_per_connection=5
    )
    futures = [producer.send(name, b"%d" % number) for number in range(500)]
    producer.flush()
    assert [future.get(timeout=10).offset for future in futures] == list(range(500))
    producer.close()


def test_log_append_time(three_servers: str, name: str) -> None:
    create_topic(three_servers, name, **{"message.timestamp.type": "LogAppendTime"})
    producer = KafkaProducer(bootstrap_servers=three_servers)
    sent = producer.send(name, b"value", timestamp_ms=1_000).get(timeout=10)
    producer.close()
    assert sent.timestamp > 1_000_000_000_000
    record = read_from_start(three_servers, name, 1)[0]
    assert (record.timestamp, record.timestamp_type) == (sent.timestamp, 1)


def test_a_record_that_is_too_large_is_refused(three_servers: str, name: str) -> None:
    from kafka.errors import MessageSizeTooLargeError

    create_topic(three_servers, name, **{"max.message.bytes": "1000"})
    producer = KafkaProducer(bootstrap_servers=three_servers, retries=0, enable_idempotence=False)
    with pytest.raises(MessageSizeTooLargeError):
        producer.send(name, b"x" * 2000).get(timeout=10)
    assert producer.send(name, b"x").get(timeout=10).offset == 0
    producer.close()


@pytest.mark.parametrize("version", [(0, 11), (1, 0), (2, 0), (2, 6), (2, 8), (3, 9), (4, 0)])
def test_settings_for_the_version_of_a_broker(three_servers: str, name: str, version: tuple[int, ...]) -> None:
    """Programs name the broker's version; api_version=(2, 13) of the tutorials is no version of Kafka."""
    producer = KafkaProducer(bootstrap_servers=three_servers, api_version=version)
    assert producer.send(name, b"value").get(timeout=10).offset == 0
    producer.close()
    assert read_from_start(three_servers, name, 1, api_version=version, group_id=name)[0].value == b"value"


def test_api_version_of_the_tutorials(servers: str, name: str) -> None:
    producer = KafkaProducer(bootstrap_servers=servers, api_version=(2, 13))
    assert producer.send(name, b"value").get(timeout=10).offset == 0
    producer.close()
    assert read_from_start(servers, name, 1, api_version=(2, 13))[0].value == b"value"
