"""Python clients as their documentation shows them, each in a process of its own, for the comparison's row 12.

python sdk_client.py produce CLIENT SERVERS TOPIC COUNT PARTITIONS SIZE
python sdk_client.py consume CLIENT SERVERS TOPIC COUNT PARTITIONS SIZE

`produce` sends COUNT / 10 records and then COUNT; `consume` reads all of them from the beginning. It prints the seconds
for the COUNT when it produces, for all when it consumes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

LINGER_MS = 5
POLLED_MAX = 5_000


def produce_klamm(servers: str, topic: str, count: int, value: bytes) -> float:
    """Klamm's SDK."""
    from klamm.client import Producer

    return _produce(Producer(bootstrap_servers=servers, linger_ms=LINGER_MS), topic, count, value)


def produce_kafka_python(servers: str, topic: str, count: int, value: bytes) -> float:
    """Its defaults are acks=all and idempotence."""
    from kafka import KafkaProducer  # type: ignore[import-untyped]

    return _produce(KafkaProducer(bootstrap_servers=servers, linger_ms=LINGER_MS), topic, count, value)


def _produce(producer: Any, topic: str, count: int, value: bytes) -> float:
    with producer:
        for _ in range(count // 10):
            producer.send(topic, value)
        producer.flush()
        began = time.monotonic()
        for _ in range(count):
            producer.send(topic, value)
        producer.flush()
        return time.monotonic() - began


def produce_aiokafka(servers: str, topic: str, count: int, value: bytes) -> float:
    """A task for each record would cost more: `send` is awaited, its future is not."""
    from aiokafka import AIOKafkaProducer

    async def main() -> float:
        producer = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=LINGER_MS, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            for _ in range(count // 10):
                await producer.send(topic, value)
            await producer.flush()
            began = time.monotonic()
            for _ in range(count):
                await producer.send(topic, value)
            await producer.flush()
            return time.monotonic() - began
        finally:
            await producer.stop()

    return asyncio.run(main())


def produce_confluent(servers: str, topic: str, count: int, value: bytes) -> float:
    """`poll` serves the delivery reports; a full queue is waited for."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": servers, "linger.ms": LINGER_MS, "enable.idempotence": True})

    def send(number: int) -> None:
        for _ in range(number):
            while True:
                try:
                    producer.produce(topic, value)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(120) == 0

    send(count // 10)
    began = time.monotonic()
    send(count)
    return time.monotonic() - began


def consume_klamm(servers: str, topic: str, count: int, partitions: int) -> float:
    """Klamm's SDK."""
    from klamm.client import Consumer, TopicPartition

    consumer = Consumer(bootstrap_servers=servers, max_poll_records=POLLED_MAX, enable_auto_commit=False)
    return _consume(consumer, [TopicPartition(topic, number) for number in range(partitions)], count)


def consume_kafka_python(servers: str, topic: str, count: int, partitions: int) -> float:
    """The same calls."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=servers, max_poll_records=POLLED_MAX, enable_auto_commit=False)
    return _consume(consumer, [TopicPartition(topic, number) for number in range(partitions)], count)


def _consume(consumer: Any, partitions: list[Any], count: int) -> float:
    with consumer:
        began = time.monotonic()
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        got = size = 0
        while got < count:
            for records in consumer.poll(timeout_ms=1000).values():
                got += len(records)
                for record in records:
                    size += len(record.value)
        assert got == count, got
        return time.monotonic() - began


def consume_aiokafka(servers: str, topic: str, count: int, partitions: int) -> float:
    """With `getmany`."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def main() -> float:
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
        await consumer.start()
        try:
            everything = [TopicPartition(topic, number) for number in range(partitions)]
            began = time.monotonic()
            consumer.assign(everything)
            await consumer.seek_to_beginning(*everything)
            got = size = 0
            while got < count:
                for records in (await consumer.getmany(timeout_ms=1000, max_records=POLLED_MAX)).values():
                    got += len(records)
                    for record in records:
                        size += len(record.value or b"")
            assert got == count, got
            return time.monotonic() - began
        finally:
            await consumer.stop()

    return asyncio.run(main())


def consume_confluent(servers: str, topic: str, count: int, partitions: int) -> float:
    """With `consume`."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": servers, "group.id": "sdk", "enable.auto.commit": False})
    began = time.monotonic()
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    got = size = 0
    while got < count:
        for message in consumer.consume(min(POLLED_MAX, count - got), timeout=1.0):
            assert message.error() is None, message.error()
            got += 1
            size += len(message.value() or b"")
    took = time.monotonic() - began
    consumer.close()
    return took


PRODUCE: dict[str, Callable[[str, str, int, bytes], float]] = {
    "klamm": produce_klamm,
    "kafka-python": produce_kafka_python,
    "aiokafka": produce_aiokafka,
    "confluent-kafka": produce_confluent,
}
CONSUME: dict[str, Callable[[str, str, int, int], float]] = {
    "klamm": consume_klamm,
    "kafka-python": consume_kafka_python,
    "aiokafka": consume_aiokafka,
    "confluent-kafka": consume_confluent,
}


def main() -> None:
    """Prints the seconds."""
    what, client, servers, topic, count, partitions, size = sys.argv[1:]
    if what == "produce":
        print(PRODUCE[client](servers, topic, int(count), b"x" * int(size)))
    else:
        print(CONSUME[client](servers, topic, int(count) + int(count) // 10, int(partitions)))


if __name__ == "__main__":
    main()
