"""Kafka's protocol: librdkafka (confluent-kafka) producing and consuming, and requests that carry one record each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from klamm.client import Admin, Consumer, NewTopic, TopicPartition
from klamm.deploy.local import LocalCluster
from measurement import Measurement

CLIENT = Path(__file__).with_name("confluent_client.py")
SINGLES = Path(__file__).with_name("one_record_requests.py")
CLIENT_SECONDS_MAX = 300
PARTITIONS = 6


def produce_large(runs: int = 7, records: int = 400_000) -> list[Measurement]:
    """1 KB records to one broker."""
    with LocalCluster(brokers=1, controllers=1) as cluster:
        rates = [_produce(cluster, 1000, records, acks="1", replication_factor=1, run=run) for run in range(runs)]
    what = "confluent-kafka produce, one broker, acks=1, 1 KB records"
    return [Measurement(what, "MB/s", "200 MB/s", tuple(r / 1000 for r in rates), lambda m: m.median >= 200)]


def produce_replicated(runs: int = 7, records: int = 150_000) -> list[Measurement]:
    """1 KB records to three brokers."""
    with LocalCluster() as cluster:
        rates = [_produce(cluster, 1000, records, acks="all", replication_factor=3, run=run) for run in range(runs)]
    what = "confluent-kafka produce, three brokers, RF 3, acks=all, 1 KB records"
    return [Measurement(what, "MB/s", "60 MB/s", tuple(r / 1000 for r in rates), lambda m: m.median >= 60)]


def consume(runs: int = 7, records: int = 500_000) -> list[Measurement]:
    """1 KB records from one broker, from the first to the last."""
    with LocalCluster(brokers=1, controllers=1) as cluster:
        _produce(cluster, 1000, records, acks="1", replication_factor=1, run=0)
        rates = []
        for _ in range(runs):
            began, ended, count, size = _client("consume", cluster, "topic-0", 0, PARTITIONS)
            assert count == records + 1
            rates.append(size / 1e6 / (ended - began))
    return [
        Measurement(
            "confluent-kafka consume, 1 KB records", "MB/s", "250 MB/s", tuple(rates), lambda m: m.median >= 250
        )
    ]


def single_records(
    runs: int = 7, requests: int = 60_000, connections: int = 4, in_flight: int = 32
) -> list[Measurement]:
    """A produce request for each record, acks=1, over plain sockets: what a broker does per request."""
    rates = []
    with LocalCluster(brokers=1, controllers=1) as cluster:
        _create(cluster, "singles", connections, 1)
        for _ in range(runs):
            arguments = (cluster.kafka_bootstrap_servers, "singles", requests, connections, in_flight)
            (seconds,) = _run(SINGLES, *arguments)
            rates.append(requests / seconds)
    what = f"one-record produce requests, acks=1, {in_flight} in flight over {connections} connections"
    return [Measurement(what, "requests/s", "15,000 requests/s", tuple(rates), lambda m: m.median >= 15_000)]


def _produce(cluster: LocalCluster, size: int, records: int, *, acks: str, replication_factor: int, run: int) -> float:
    """Records per second, in a topic of its own. That all are there is asked of the brokers."""
    topic = f"topic-{run}"
    _create(cluster, topic, PARTITIONS, replication_factor)
    began, ended = _client("produce", cluster, topic, records, PARTITIONS, size, acks)
    with Consumer(bootstrap_servers=cluster.bootstrap_servers) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        assert sum(consumer.end_offsets(partitions).values()) == records + 1
    return records / (ended - began)


def _create(cluster: LocalCluster, topic: str, partitions: int, replication_factor: int) -> None:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(topic, partitions, replication_factor)])


def _client(what: str, cluster: LocalCluster, topic: str, *arguments: object) -> tuple[float, ...]:
    return _run(CLIENT, what, cluster.kafka_bootstrap_servers, topic, *arguments)


def _run(program: Path, *arguments: object) -> tuple[float, ...]:
    """The numbers in the last line that it prints."""
    command, limit = [sys.executable, str(program), *map(str, arguments)], CLIENT_SECONDS_MAX
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=limit, check=True)
    return tuple(float(word) for word in done.stdout.splitlines()[-1].split())
