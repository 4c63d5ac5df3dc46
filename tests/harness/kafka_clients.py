"""Small things that tests do with kafka-python and confluent-kafka: make a topic, read so many records."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import Consumer, Message
from confluent_kafka.admin import AdminClient, NewTopic
from harness.waiting import wait_for
from kafka import KafkaConsumer
from klamm.deploy.local import LocalCluster

READ_SECONDS_MAX = 30.0


def create_topic(servers: str, topic: str, partitions: int = 1, **config: str) -> None:
    """Makes a topic with as many replicas as the cluster gives by default; returns when it is there."""
    admin = AdminClient({"bootstrap.servers": servers})
    new = NewTopic(topic, num_partitions=partitions, config=config)
    admin.create_topics([new], operation_timeout=20)[topic].result(timeout=30)


def wait_until_known_everywhere(cluster: LocalCluster) -> None:
    """Until every broker has replayed what any broker has: kafka-python, leading a group, does not ask again for the
    metadata of a topic that the broker it asked had not heard of yet."""
    target = max(_metadata_end_offsets(cluster))
    wait_for(lambda: min(_metadata_end_offsets(cluster)) >= target)


def _metadata_end_offsets(cluster: LocalCluster) -> list[int]:
    answers = [cluster.observer.ask_broker(spec) for spec in cluster.layout.brokers]
    return [-1 if answer is None else answer.metadata_end_offset for answer in answers]


def read(consumer: KafkaConsumer, count: int) -> list[Any]:
    """The next `count` records of a kafka-python consumer; fewer if they do not come."""
    records: list[Any] = []
    deadline = time.monotonic() + READ_SECONDS_MAX
    while len(records) < count and time.monotonic() < deadline:
        for some in consumer.poll(timeout_ms=500, max_records=count - len(records)).values():
            records += some
    return records


def read_confluent(consumer: Consumer, count: int) -> list[Message]:
    """The next `count` messages of a confluent-kafka consumer; fewer if they do not come."""
    messages: list[Message] = []
    deadline = time.monotonic() + READ_SECONDS_MAX
    while len(messages) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(messages), timeout=0.2):
            assert message.error() is None, message.error()
            messages.append(message)
    return messages


def poll_all_until(consumers: Sequence[Any], condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """Polls kafka-python and confluent-kafka consumers so that all take part in rebalances.

    Those of kafka-python in a thread each, for they forget that they joined when the time of a poll is up in the
    middle of it. Those of confluent-kafka in this thread, for their `assignment` holds Python's lock while it waits.
    """
    enough = threading.Event()
    ours = [consumer for consumer in consumers if isinstance(consumer, Consumer)]
    theirs = [consumer for consumer in consumers if not isinstance(consumer, Consumer)]

    def poll(consumer: KafkaConsumer) -> None:
        while not enough.is_set():
            consumer.poll(timeout_ms=500)

    def condition_after_polls() -> bool:
        for consumer in ours:
            consumer.poll(0.02)
        return condition()

    with ThreadPoolExecutor(max(1, len(theirs))) as threads:
        polls = [threads.submit(poll, consumer) for consumer in theirs]
        try:
            wait_for(condition_after_polls, timeout_s=timeout_s)
        finally:
            enough.set()
    for done in polls:
        done.result()
