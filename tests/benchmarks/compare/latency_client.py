"""The two ends of the comparison's latency row, each in a process of its own, with confluent-kafka.

python latency_client.py send SERVERS TOPIC PARTITIONS COUNT RATE
python latency_client.py receive SERVERS TOPIC PARTITIONS COUNT RATE

Each prints "ready" and waits for a line. A record bears the time at which it was handed to the producer, by the clock
that all processes of the machine share. The first RATE records, those of the first second, count for nothing; the
receiver prints median, 99th and 99.9th percentile of the COUNT after them, in ms.
"""

from __future__ import annotations

import struct
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

PADDING = b"x" * 92
PATIENCE_SECONDS = 30.0


def send(servers: str, topic: str, partitions: int, count: int, rate: int) -> None:
    """At the times that are due; if it falls behind, at once."""
    failures: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "acks": "all",
            "linger.ms": 0,
            "max.in.flight": 5,
            "on_delivery": lambda error, _: failures.append(error) if error is not None else None,
        }
    )
    producer.list_topics(topic, timeout=30)
    _begin()
    due = time.monotonic()
    for number in range(count + rate):
        due += 1 / rate
        while (early := due - time.monotonic()) > 0:
            producer.poll(0)
            time.sleep(min(early, 0.001))
        producer.produce(topic, struct.pack(">q", time.monotonic_ns()) + PADDING, partition=number % partitions)
        producer.poll(0)
    assert producer.flush(PATIENCE_SECONDS) == 0
    assert not failures, failures[:3]
    print(count + rate)


def receive(servers: str, topic: str, partitions: int, count: int, rate: int) -> None:
    """All of them, from the beginning."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "latency", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    consumer.poll(0.5)
    _begin()
    sent: list[int] = []
    took: list[int] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(took) < count + rate:
        message = consumer.poll(1.0)
        now = time.monotonic_ns()
        assert now / 1e9 < deadline, f"{len(took)} records arrived"
        if message is not None:
            assert message.error() is None, message.error()
            (at,) = struct.unpack_from(">q", message.value() or b"")
            sent.append(at)
            took.append(now - at)
            deadline = now / 1e9 + PATIENCE_SECONDS
    consumer.close()
    by_time = [nanoseconds for _, nanoseconds in sorted(zip(sent, took, strict=True))]
    ordered = sorted(by_time[rate:])
    print(*(ordered[min(count - 1, int(fraction * count))] / 1e6 for fraction in (0.5, 0.99, 0.999)))


def _begin() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    """What the first argument says."""
    what, servers, topic, *numbers = sys.argv[1:]
    {"send": send, "receive": receive}[what](servers, topic, *map(int, numbers))


if __name__ == "__main__":
    main()
