"""A thousand topics: how long they take to create, and to go on after one broker of three is killed. No goal is set."""

from __future__ import annotations

import time

from klamm.client import Admin, NewTopic, Producer
from klamm.deploy.local import LocalCluster
from measurement import Measurement

TOPICS = 1000
PARTITIONS = 3
TOPICS_PER_REQUEST = 100


def create_and_fail_over(kills: int = 3) -> list[Measurement]:
    """Every partition takes a record before and after each kill, so none may be left behind."""
    names = [f"topic-{number:04}" for number in range(TOPICS)]
    failovers = []
    with (
        LocalCluster() as cluster,
        Admin(bootstrap_servers=cluster.bootstrap_servers) as admin,
        Producer(bootstrap_servers=cluster.bootstrap_servers, acks="all") as producer,
    ):
        began = time.monotonic()
        for first in range(0, TOPICS, TOPICS_PER_REQUEST):
            batch = names[first : first + TOPICS_PER_REQUEST]
            admin.create_topics([NewTopic(name, PARTITIONS, 3) for name in batch])
        created = time.monotonic() - began
        began = time.monotonic()
        _write_to_all(producer, names)
        first_records = time.monotonic() - began
        for run in range(kills):
            killed = 1 + run % 3
            cluster.wait_until(lambda: cluster.describe().healthy, timeout_s=120, what="full ISRs")
            _write_to_all(producer, names)
            began = time.monotonic()
            cluster.kill(killed)
            _write_to_all(producer, names)
            failovers.append(time.monotonic() - began)
            cluster.start_node(killed)
    count = f"{TOPICS * PARTITIONS} partitions, RF 3"
    return [
        Measurement(f"create {TOPICS} topics, {count}", "s", "-", (created,), None),
        Measurement(f"a first acks=all record in each of {count}", "s", "-", (first_records,), None),
        Measurement(f"kill -9 of a broker to an acks=all record in each of {count}", "s", "-", tuple(failovers), None),
    ]


def _write_to_all(producer: Producer, names: list[str]) -> None:
    futures = [producer.send(name, b"record", partition=number) for name in names for number in range(PARTITIONS)]
    for future in futures:
        future.get(timeout=120)
