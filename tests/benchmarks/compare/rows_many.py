"""Row 10: five thousand partitions."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Final

from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic

from . import loads
from .row import Sample, Work

TOPICS: Final = 50
PARTITIONS: Final = 100
ACK_SECONDS_MAX: Final = 900.0
QUICK_TOPICS: Final = 2

Partition = tuple[str, int]


def many_partitions(work: Work) -> Iterator[Sample]:
    """A new cluster of three brokers; 50 topics of 100 partitions with 3 replicas each, 15,000 replicas. Create: from
    the first of 50 requests, one after the other, until a record with acks=all is acked in every partition. Failover:
    kill -9 of a broker (for Kafka one that is not the active controller), until a record is acked in every partition
    that it led, by a producer that wrote to all of them before. Restart: the broker is back and all replicas are in
    sync, all nodes have been stopped in order; from the start of their processes until a record is acked in every
    partition. Every acked record must be there in the end."""
    topics = max(QUICK_TOPICS, round(TOPICS * work.scale))
    names = [f"many-{number}" for number in range(topics)]
    every = [(name, number) for name in names for number in range(PARTITIONS)]
    yield Sample("create", _create(work, names, every))
    took, led = _fail_over(work, names)
    yield Sample("failover", took)
    work.note(f"{led} partitions failed over")
    _await_in_sync(work, names)
    work.cluster.stop()
    began = time.monotonic()
    work.cluster.start()
    _record_in_each(_producer(work), every)
    yield Sample("restart", time.monotonic() - began)
    acked = 2 * len(every) + 2 * led
    found = sum(sum(loads.end_offsets(work.servers, name, range(PARTITIONS))) for name in names)
    if found != acked:
        raise loads.ClientError(f"{acked} records were acked, {found} are there")


def _fail_over(work: Work, names: list[str]) -> tuple[float, int]:
    """Seconds, and how many partitions the broker led. It is started again, but not waited for."""
    admin, producer, active = loads.admin(work.servers), _producer(work), work.cluster.active_controller()
    killed = max(broker for broker in work.cluster.addresses if broker != active)
    led = [(name, number) for name in names for number, who in loads.leaders(admin, name).items() if who == killed]
    if not led:
        raise loads.ClientError(f"broker {killed} leads nothing")
    _record_in_each(producer, led)
    began = time.monotonic()
    work.cluster.kill(killed)
    _record_in_each(producer, led)
    took = time.monotonic() - began
    work.cluster.start_node(killed)
    return took, len(led)


def _create(work: Work, names: list[str], every: list[Partition]) -> float:
    admin = loads.admin(work.servers)
    began = time.monotonic()
    for name in names:
        wanted = NewTopic(name, num_partitions=PARTITIONS, replication_factor=3)
        admin.create_topics([wanted], request_timeout=60, operation_timeout=60)[name].result()
    _record_in_each(_producer(work), every)
    took = time.monotonic() - began
    _await_in_sync(work, names)
    return took


def _await_in_sync(work: Work, names: list[str]) -> None:
    admin = loads.admin(work.servers)
    loads.wait_until(lambda: loads.in_sync(admin, names, PARTITIONS, 3), what="all replicas in sync", each_s=0.5)


def _producer(work: Work) -> Producer:
    patience_ms = int(1000 * ACK_SECONDS_MAX)
    # Apache Kafka's brokers may need longer than librdkafka's 30 s until they know a topic that was created.
    patient = {"message.timeout.ms": patience_ms, "topic.metadata.propagation.max.ms": patience_ms}
    return Producer({"bootstrap.servers": work.servers, "acks": "all"} | patient | loads.IMPATIENT)


def _record_in_each(producer: Producer, partitions: Collection[Partition]) -> None:
    """Returns when a record is acked in each of them. :raises ClientError: one was not."""
    failures: list[object] = []
    for topic, number in partitions:
        producer.produce(
            topic,
            b"record",
            partition=number,
            on_delivery=lambda error, _: failures.append(error) if error is not None else None,
        )
    left = producer.flush(ACK_SECONDS_MAX)
    if left or failures:
        raise loads.ClientError(f"{left} records got no answer, {len(failures)} failed: {failures[:3]}")
