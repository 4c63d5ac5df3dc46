"""confluent-kafka producing small records: what it brings to a broker, and what it can bring to any at all.

The same program sends the same records, in turn, to Klamm and to the mock broker of librdkafka, which is written in C,
lives in the client's process and keeps nothing: the client's ceiling on this machine. Who is the bound is told by the
ratio of the two, and by the processor time that client and broker take for a record.
"""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import psutil
from confluent_client import MOCK_PARTITIONS
from kafka_throughput import CLIENT, CLIENT_SECONDS_MAX
from klamm.client import Admin, Consumer, NewTopic, TopicPartition
from klamm.deploy.local import LocalCluster
from measurement import Measurement

SIZE = 100
ACKS = "1"
GOAL = 1_000_000


class Run(NamedTuple):
    """One run of the client."""

    rate: float  # records per second
    client_us: float  # processor time for each record
    broker_us: float = 0.0


def produce_small(runs: int = 7, records: int = 2_000_000) -> list[Measurement]:
    """100 B records to one broker and to the mock, in turn."""
    klamm, mock = [], []
    with LocalCluster(brokers=1, controllers=1) as cluster:
        (broker,) = (psutil.Process(node.pid) for node in cluster.nodes() if node.role == "broker")
        for run in range(runs):
            klamm.append(_to_klamm(cluster, broker, f"small-{run}", records))
            mock.append(_client("mock", "small", records))
    return _rows(klamm, mock)


def _rows(klamm: list[Run], mock: list[Run]) -> list[Measurement]:
    what = "confluent-kafka produce, one broker, acks=1, 100 B records"
    ratios = [one.rate / other.rate for one, other in zip(klamm, mock, strict=True)]
    return [
        Measurement(what, "records/s", f"{GOAL:,} records/s", _all(klamm, "rate"), lambda m: m.median >= GOAL),
        Measurement("  the same client to librdkafka's own mock broker", "records/s", "", _all(mock, "rate"), None),
        Measurement("  the broker's rate to the mock's, of each pair of runs", "", "", tuple(ratios), None),
        Measurement("  processor time of the client", "us/record", "", _all(klamm, "client_us"), None),
        Measurement("  processor time of the broker", "us/record", "", _all(klamm, "broker_us"), None),
        Measurement("  processor time of client and mock", "us/record", "", _all(mock, "client_us"), None),
    ]


def _all(runs: list[Run], what: str) -> tuple[float, ...]:
    return tuple(getattr(run, what) for run in runs)


def _to_klamm(cluster: LocalCluster, broker: psutil.Process, topic: str, records: int) -> Run:
    """In a topic of its own. That all are there is asked of the broker."""
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(topic, MOCK_PARTITIONS, 1)])
    before = sum(broker.cpu_times()[:2])
    run = _client("produce", cluster.kafka_bootstrap_servers, topic, records)
    used = sum(broker.cpu_times()[:2]) - before
    with Consumer(bootstrap_servers=cluster.bootstrap_servers) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(MOCK_PARTITIONS)]
        assert sum(consumer.end_offsets(partitions).values()) == records + 1
    return run._replace(broker_us=used / records * 1e6)


def _client(*arguments: object) -> Run:
    words = map(str, (*arguments, MOCK_PARTITIONS, SIZE, ACKS))
    command = [sys.executable, str(CLIENT), *words]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=CLIENT_SECONDS_MAX, check=True)
    used, times = done.stdout.splitlines()[-2:]
    began, ended = map(float, times.split())
    records = int(str(arguments[-1]))
    return Run(records / (ended - began), float(used) / records * 1e6)
