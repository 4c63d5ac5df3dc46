"""Produce, consume, latency and topic creation, through the SDK, in one process against six others."""

from __future__ import annotations

import time

from klamm.client import Admin, Consumer, NewTopic, Producer, TopicPartition
from klamm.deploy.local import LocalCluster
from measurement import Measurement


def all_of_it() -> list[Measurement]:
    """One cluster for all rows."""
    with LocalCluster() as cluster, Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        rows = [create_to_first_record(cluster, admin), latency(cluster, admin)]
        rows += [produce_large(cluster, admin), consume_large(cluster), produce_small(cluster, admin)]
    return rows


def create_to_first_record(cluster: LocalCluster, admin: Admin, runs: int = 30) -> Measurement:
    """Creates a topic and writes to it."""
    samples = []
    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        for run in range(runs):
            began = time.monotonic()
            admin.create_topics([NewTopic(f"new-{run}", 1, 3)])
            producer.send(f"new-{run}", b"record").get(timeout=30)
            samples.append(1000 * (time.monotonic() - began))
    what = "create a topic (1 partition, RF 3) to first acked record"
    return Measurement(what, "ms", "median 50 ms", tuple(samples), lambda m: m.median <= 50)


def latency(cluster: LocalCluster, admin: Admin, records: int = 3000, rate: int = 500) -> Measurement:
    """One record at a time, at a rate that leaves the cluster idle in between."""
    admin.create_topics([NewTopic("latency", 1, 3)])
    samples = []
    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        producer.send("latency", b"x" * 100).get(timeout=30)
        due = time.monotonic()
        for _ in range(records):
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            producer.send("latency", b"x" * 100).get(timeout=30)
            samples.append(1000 * (time.monotonic() - began))
    what = f"acks=all latency at {rate} records/s, one at a time"
    return Measurement(
        what, "ms", "median 5 ms, p99 20 ms", tuple(samples), lambda m: m.median <= 5 and m.quantile(0.99) <= 20
    )


def produce_large(cluster: LocalCluster, admin: Admin, runs: int = 5, megabytes: int = 100) -> Measurement:
    """1 KB records to 6 partitions with three replicas."""
    admin.create_topics([NewTopic("large", 6, 3)])
    samples = [_produce(cluster, "large", 1000, megabytes * 1000, acks="all") for _ in range(runs)]
    what = "SDK produce, RF 3, acks=all, 1 KB records, 6 partitions"
    return Measurement(what, "MB/s", "40 MB/s", tuple(rate / 1000 for rate in samples), lambda m: m.median >= 40)


def produce_small(cluster: LocalCluster, admin: Admin, runs: int = 5, records: int = 1_000_000) -> Measurement:
    """100 B records to one replica."""
    admin.create_topics([NewTopic("small", 6, 1)])
    samples = [_produce(cluster, "small", 100, records, acks=1) for _ in range(runs)]
    what = "SDK produce, RF 1, acks=1, 100 B records"
    return Measurement(what, "records/s", "300,000 records/s", tuple(samples), lambda m: m.median >= 300_000)


def consume_large(cluster: LocalCluster, runs: int = 5) -> Measurement:
    """Reads what `produce_large` wrote."""
    samples = []
    partitions = [TopicPartition("large", partition) for partition in range(6)]
    for _ in range(runs):
        with Consumer(bootstrap_servers=cluster.bootstrap_servers, max_poll_records=5000) as consumer:
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            left = sum(consumer.end_offsets(partitions).values())
            size, began = 0, time.monotonic()
            while left > 0:
                for records in consumer.poll(timeout_ms=1000).values():
                    left -= len(records)
                    size += sum(record.serialized_value_size for record in records)
            samples.append(size / 1e6 / (time.monotonic() - began))
    return Measurement("SDK consume, 1 KB", "MB/s", "100 MB/s", tuple(samples), lambda m: m.median >= 100)


def _produce(cluster: LocalCluster, topic: str, size: int, records: int, *, acks: str | int) -> float:
    """Records per second, from the first send to the last ack."""
    value = b"x" * size
    with Producer(
        bootstrap_servers=cluster.bootstrap_servers, acks=acks, linger_ms=5, batch_size=256 * 1024
    ) as producer:
        producer.send(topic, value).get(timeout=30)
        began = time.monotonic()
        futures = [producer.send(topic, value) for _ in range(records)]
        producer.flush()
        seconds = time.monotonic() - began
        assert all(future.succeeded() for future in futures)
        return records / seconds
