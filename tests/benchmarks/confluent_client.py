"""confluent-kafka in a process of its own, for kafka_throughput.py and compare/.

python confluent_client.py produce SERVERS TOPIC COUNT PARTITIONS SIZE ACKS [CLIENTS]
python confluent_client.py mock TOPIC COUNT PARTITIONS SIZE ACKS
python confluent_client.py consume SERVERS TOPIC FIRST END [CLIENTS]

It prints "ready", waits for a line (or the end of its input) and does the work. Then it prints when it began and when
it ended, by the clock that all processes of the machine share, and when it consumes how many records and bytes it got.
When it produces, the line before that says how much processor time it took.

`mock` does the same as `produce`, to the mock broker that librdkafka has: one more thread of this process, in C, which
forgets what it is sent. So its rate is all that this client can do on this machine.
"""

from __future__ import annotations

import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

AT_ONCE = 1_000
TO_ONE_PARTITION = 20_000  # as a sticky partitioner does, without librdkafka's second queue for records that have none
QUEUED_MAX = 200_000
CONSUMED_AT_ONCE = 10_000
QUEUE_FULL_MS = 10


MOCK: dict[str, str | int] = {"bootstrap.servers": "is ignored", "test.mock.num.brokers": 1}
MOCK_PARTITIONS = 4  # of a topic that the mock broker makes


def produce(
    broker: dict[str, str | int], topic: str, count: int, partitions: int, size: int, acks: str, clients: int = 1
) -> None:
    """As many records as asked for, from the first to the last ack. Whoever called counts what is in the topic.

    Each client sends one more before, which does not count.
    """
    options = {"delivery.report.only.error": True, "queue.buffering.max.messages": 2 * QUEUED_MAX, "log_level": 4}
    producers = [Producer({**broker, "acks": acks, **options}) for _ in range(clients)]
    for producer in producers:
        producer.produce(topic, b"warm")
    for producer in producers:
        assert producer.flush(30) == 0
    queued_max = max(AT_ONCE, QUEUED_MAX // clients)
    at_once = min(AT_ONCE, max(1, count // max(clients, partitions)))
    to_one_partition = max(at_once, min(TO_ONE_PARTITION, count // partitions) // at_once * at_once)
    batch = [{"value": b"x" * size}] * at_once
    began = _begin()
    used = time.process_time()
    for number, sent in enumerate(range(0, count, at_once)):
        producer = producers[number % clients]
        while len(producer) > queued_max:
            producer.poll(0.01)
        partition = sent // to_one_partition % partitions
        some = batch[: count - sent]
        assert producer.produce_batch(topic, some, partition=partition) == len(some)
    for producer in producers:
        assert producer.flush(120) == 0
    ended = time.monotonic()
    print(time.process_time() - used)
    print(began, ended)


def consume(servers: str, topic: str, first: int, end: int, clients: int = 1) -> None:
    """All records of the partitions from `first` to before `end`; the clients share the partitions."""
    options = {
        "bootstrap.servers": servers,
        "group.id": "reader",
        "enable.auto.commit": False,
        # A client that had more than it could hold sleeps for a second by default, however much it has used up since.
        "fetch.queue.backoff.ms": QUEUE_FULL_MS,
    }
    consumers = [Consumer(options) for _ in range(clients)]
    shares = [
        [TopicPartition(topic, number, 0) for number in range(first, end)][each::clients] for each in range(clients)
    ]
    left = []
    for consumer, share in zip(consumers, shares, strict=True):
        left.append(sum(consumer.get_watermark_offsets(partition, timeout=30)[1] for partition in share))
    count, size = sum(left), 0
    patience = 1.0 if clients == 1 else 0.01
    began = _begin()
    for consumer, share in zip(consumers, shares, strict=True):
        consumer.assign(share)
    while any(left):
        for number, consumer in enumerate(consumers):
            if left[number]:
                for message in consumer.consume(min(CONSUMED_AT_ONCE, left[number]), timeout=patience):
                    assert message.error() is None, message.error()
                    size += len(message)
                    left[number] -= 1
    print(began, time.monotonic(), count, size)
    for consumer in consumers:
        consumer.close()


def _begin() -> float:
    print("ready", flush=True)
    sys.stdin.readline()
    return time.monotonic()


def main() -> None:
    """What the first argument says."""
    what, *rest = sys.argv[1:]
    if what == "consume":
        servers, topic, *numbers = rest
        consume(servers, topic, *map(int, numbers))
        return
    broker: dict[str, str | int] = MOCK if what == "mock" else {"bootstrap.servers": rest.pop(0)}
    topic, count, partitions, size, acks, *clients = rest
    assert what == "produce" or int(partitions) <= MOCK_PARTITIONS
    produce(broker, topic, int(count), int(partitions), int(size), acks, *map(int, clients))


if __name__ == "__main__":
    main()
