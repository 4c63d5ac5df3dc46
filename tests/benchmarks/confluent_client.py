"""confluent-kafka in a process of its own, for kafka_throughput.py: prints seconds and, when it consumes, bytes.

python confluent_client.py produce SERVERS TOPIC COUNT PARTITIONS SIZE ACKS
python confluent_client.py consume SERVERS TOPIC COUNT PARTITIONS
"""

from __future__ import annotations

import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

AT_ONCE = 1_000
TO_ONE_PARTITION = 20  # as a sticky partitioner does, without librdkafka's second queue for records that have none yet
QUEUED_MAX = 200_000


def produce(servers: str, topic: str, count: int, partitions: int, size: int, acks: str) -> None:
    """As many records as asked for, from the first to the last ack. Whoever called counts what is in the topic."""
    options = {"delivery.report.only.error": True, "queue.buffering.max.messages": 2 * QUEUED_MAX, "log_level": 4}
    producer = Producer({"bootstrap.servers": servers, "acks": acks, **options})
    producer.produce(topic, b"warm")
    assert producer.flush(30) == 0
    batch = [{"value": b"x" * size}] * AT_ONCE
    began = time.monotonic()
    for number in range(count // AT_ONCE):
        while len(producer) > QUEUED_MAX:
            producer.poll(0.01)
        partition = number // TO_ONE_PARTITION % partitions
        assert producer.produce_batch(topic, batch, partition=partition) == AT_ONCE
    assert producer.flush(120) == 0
    print(time.monotonic() - began)


def consume(servers: str, topic: str, count: int, partitions: int) -> None:
    """As many records as asked for, from the beginning of every partition."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    left, size, began = count, 0, time.monotonic()
    while left > 0:
        for message in consumer.consume(10_000, timeout=1.0):
            assert message.error() is None, message.error()
            size += len(message)
            left -= 1
    print(time.monotonic() - began, size)
    consumer.close()


def main() -> None:
    """What the first argument says."""
    what, servers, topic, *rest = sys.argv[1:]
    if what == "produce":
        produce(servers, topic, int(rest[0]), int(rest[1]), int(rest[2]), rest[3])
    else:
        consume(servers, topic, int(rest[0]), int(rest[1]))


if __name__ == "__main__":
    main()
