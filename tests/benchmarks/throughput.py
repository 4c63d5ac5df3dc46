"""Produce, consume, latency and topic creation, through the SDK, in one process against six others.

Each has a cluster of its own, so that none measures what another has left behind.
"""

from __future__ import annotations

import time

from klamm.client import Admin, Consumer, NewTopic, Producer, TopicPartition
from klamm.deploy.local import LocalCluster
from measurement import Measurement


def create_to_first_record(runs: int = 50) -> list[Measurement]:
    """Creates a topic and writes to it."""
    samples = []
    with (
        LocalCluster() as cluster,
        Admin(bootstrap_servers=cluster.bootstrap_servers) as admin,
        Producer(bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        for run in range(runs):
            began = time.monotonic()
            admin.create_topics([NewTopic(f"new-{run}", 1, 3)])
            producer.send(f"new-{run}", b"record").get(timeout=30)
            samples.append(1000 * (time.monotonic() - began))
    what = "create a topic (1 partition, RF 3) to first acked record"
    return [Measurement(what, "ms", "median 50 ms", tuple(samples), lambda m: m.median <= 50)]


def latency(records: int = 5000, rate: int = 500) -> list[Measurement]:
    """One record at a time, at a rate that leaves the cluster idle in between."""
    samples = []
    with LocalCluster() as cluster, Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        _create(cluster, "latency", 1, 3)
        producer.send("latency", b"x" * 100).get(timeout=30)
        due = time.monotonic()
        for _ in range(records):
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            producer.send("latency", b"x" * 100).get(timeout=30)
            samples.append(1000 * (time.monotonic() - began))
    what = f"acks=all latency at {rate} records/s, one at a time"
    target = "median 5 ms, p99 20 ms"
    return [
        Measurement(what, "ms", target, tuple(samples), lambda m: m.median <= 5 and m.quantile(0.99) <= 20),
    ]


def produce_large(runs: int = 7, megabytes: int = 100) -> list[Measurement]:
    """1 KB records to 6 partitions with three replicas."""
    with LocalCluster() as cluster:
        _create(cluster, "large", 6, 3)
        rates = [_produce(cluster, "large", 1000, megabytes * 1000, acks="all") / 1000 for _ in range(runs)]
    what = "SDK produce, RF 3, acks=all, 1 KB records, 6 partitions"
    return [Measurement(what, "MB/s", "40 MB/s", tuple(rates), lambda m: m.median >= 40)]


def produce_small(runs: int = 7, records: int = 1_000_000) -> list[Measurement]:
    """100 B records to one replica."""
    with LocalCluster() as cluster:
        _create(cluster, "small", 6, 1)
        rates = [_produce(cluster, "small", 100, records, acks=1) for _ in range(runs)]
    what = "SDK produce, RF 1, acks=1, 100 B records, 6 partitions"
    return [
        Measurement(what, "records/s", "300,000 records/s", tuple(rates), lambda m: m.median >= 300_000),
    ]


def consume_large(runs: int = 7, megabytes: int = 300) -> list[Measurement]:
    """1 KB records from 6 partitions, from the first to the last."""
    with LocalCluster() as cluster:
        _create(cluster, "large", 6, 3)
        _produce(cluster, "large", 1000, megabytes * 1000, acks="all")
        partitions = [TopicPartition("large", partition) for partition in range(6)]
        rates = [_consume(cluster, partitions) for _ in range(runs)]
    return [Measurement("SDK consume, 1 KB", "MB/s", "100 MB/s", tuple(rates), lambda m: m.median >= 100)]


def _create(cluster: LocalCluster, topic: str, partitions: int, replication_factor: int) -> None:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(topic, partitions, replication_factor)])


def _produce(cluster: LocalCluster, topic: str, size: int, records: int, *, acks: str | int) -> float:
    """Records per second, from the first send to the last ack. That all are there is asked of the brokers."""
    value = b"x" * size
    servers = cluster.bootstrap_servers
    with Producer(bootstrap_servers=servers, acks=acks, linger_ms=5, batch_size=256 * 1024) as producer:
        producer.send(topic, value).get(timeout=30)
        before = _records_in(cluster, topic)
        began = time.monotonic()
        for _ in range(records):
            producer.send(topic, value)
        producer.flush()
        seconds = time.monotonic() - began
    assert _records_in(cluster, topic) == before + records
    return records / seconds


def _records_in(cluster: LocalCluster, topic: str) -> int:
    with Consumer(bootstrap_servers=cluster.bootstrap_servers) as consumer:
        return sum(consumer.end_offsets([TopicPartition(topic, partition) for partition in range(6)]).values())


def _consume(cluster: LocalCluster, partitions: list[TopicPartition]) -> float:
    """Megabytes of values per second, from `assign` to the last record."""
    with Consumer(bootstrap_servers=cluster.bootstrap_servers, max_poll_records=5000) as consumer:
        left = sum(consumer.end_offsets(partitions).values())
        size, began = 0, time.monotonic()
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        while left > 0:
            for records in consumer.poll(timeout_ms=1000).values():
                left -= len(records)
                size += sum(record.serialized_value_size for record in records)
        return size / 1e6 / (time.monotonic() - began)
