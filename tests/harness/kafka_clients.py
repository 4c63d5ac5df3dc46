"""Small things that tests do with kafka-python and confluent-kafka: make a topic, read so many records."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import Consumer, Message
from confluent_kafka.admin import AdminClient, NewTopic
from harness.kafka_client import KafkaClient, part
from harness.waiting import wait_for
from kafka import KafkaConsumer, TopicPartition
from kio.schema.errors import ErrorCode

READ_SECONDS_MAX = 30.0
_POLL_MS = 100


def create_topic(servers: str, topic: str, partitions: int = 1, **config: str) -> None:
    """Makes a topic with as many replicas as the cluster gives by default; returns when every broker knows it."""
    admin = AdminClient({"bootstrap.servers": servers})
    new = NewTopic(topic, num_partitions=partitions, config=config)
    admin.create_topics([new], operation_timeout=20)[topic].result(timeout=30)
    asyncio.run(_wait_until_known(servers, topic))


async def _wait_until_known(servers: str, topic: str) -> None:
    """The broker that made it has it; the client under test may ask any other."""
    version = 12
    for server in servers.split(","):
        host, _, port = server.rpartition(":")
        async with asyncio.timeout(20), KafkaClient.connect(host, int(port)) as client:
            wanted = part("metadata", version, "MetadataRequestTopic", topic_id=None, name=topic)
            code = None
            while code is not ErrorCode.none:
                answer = await client.call(
                    "metadata",
                    version,
                    topics=(wanted,),
                    allow_auto_topic_creation=False,
                    include_topic_authorized_operations=False,
                )
                code = answer.topics[0].error_code


def poll_patiently(consumer: KafkaConsumer, max_records: int | None = None) -> dict[TopicPartition, list[Any]]:
    """A short poll of kafka-python that two faults of its release 3.0.12 do not bring to a stop.

    A join that began because the metadata had changed, and is cut short by the end of a poll, is never looked at
    again, whatever the broker answered: it is told to go on with it. And a wish for the metadata of new topics is
    lost when it meets an answer that was under way: it is told to ask again.
    """
    coordinator, metadata = consumer._coordinator, consumer._cluster
    if coordinator._join_task is not None:
        coordinator.request_rejoin()
    if any(metadata.partitions_for_topic(topic) is None for topic in consumer.subscription() or ()):
        metadata.request_update()
    records: dict[TopicPartition, list[Any]] = consumer.poll(timeout_ms=_POLL_MS, max_records=max_records)
    return records


def forget_committed(consumer: KafkaConsumer) -> None:
    """Makes kafka-python ask anew what its group has committed; to be called at each assignment.

    Release 3.0.12 keeps an OffsetFetch for which a poll did not wait long enough, by its set of partitions and for
    ever: the next assignment of just these partitions begins with that answer, however old it is by then.
    """
    consumer._coordinator._offset_fetch_futures.clear()


def read(consumer: KafkaConsumer, count: int) -> list[Any]:
    """The next `count` records of a kafka-python consumer; fewer if they do not come."""
    records: list[Any] = []
    deadline = time.monotonic() + READ_SECONDS_MAX
    while len(records) < count and time.monotonic() < deadline:
        for some in poll_patiently(consumer, max_records=count - len(records)).values():
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

    Those of kafka-python in a thread each, for a join waits for the other members. Those of confluent-kafka in this
    thread, for their `assignment` holds Python's lock while it waits.
    """
    enough = threading.Event()
    ours = [consumer for consumer in consumers if isinstance(consumer, Consumer)]
    theirs = [consumer for consumer in consumers if not isinstance(consumer, Consumer)]

    def poll(consumer: KafkaConsumer) -> None:
        while not enough.is_set():
            poll_patiently(consumer)

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
