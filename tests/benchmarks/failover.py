"""How long a killed leader and a killed active controller keep users waiting."""

from __future__ import annotations

import time

from klamm.client import Admin, NewTopic, Producer
from klamm.deploy.local import LocalCluster
from measurement import Measurement

TOPIC = "failover"


def leader(runs: int = 20) -> list[Measurement]:
    """kill -9 of a leader to the next acked acks=all record on that partition."""
    samples = []
    with LocalCluster() as cluster, Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        _create(cluster)
        for _ in range(runs):
            cluster.wait_until(lambda: _in_sync(cluster) == 3, what="a full ISR")
            producer.send(TOPIC, b"before").get(timeout=30)
            killed = cluster.wait_until(lambda: cluster.leader_of(TOPIC), what="a leader")
            began = time.monotonic()
            cluster.kill(killed)
            producer.send(TOPIC, b"after").get(timeout=60)
            samples.append(time.monotonic() - began)
            cluster.start_node(killed)
    what = "kill -9 of a leader to the next acked acks=all record"
    return [Measurement(what, "s", "median 1 s, worst 3 s", tuple(samples), lambda m: m.median <= 1 and m.worst <= 3)]


def active_controller(runs: int = 20) -> list[Measurement]:
    """kill -9 of the active controller to the next committed metadata change."""
    samples = []
    with LocalCluster() as cluster, Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        for run in range(runs):
            cluster.wait_until(lambda: _quorum_is_whole(cluster), what="all controllers")
            killed = cluster.wait_until(cluster.active_controller, what="an active controller")
            began = time.monotonic()
            cluster.kill(killed)
            admin.create_topics([NewTopic(f"topic-{run}", 1, 3)])
            samples.append(time.monotonic() - began)
            cluster.start_node(killed)
    what = "kill -9 of the active controller to the next committed metadata change"
    return [Measurement(what, "s", "median 1 s, worst 3 s", tuple(samples), lambda m: m.median <= 1 and m.worst <= 3)]


def _create(cluster: LocalCluster) -> None:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(TOPIC, 1, 3)])


def _in_sync(cluster: LocalCluster) -> int:
    partition = cluster.partition(TOPIC)
    return len(partition.isr) if partition is not None else 0


def _quorum_is_whole(cluster: LocalCluster) -> bool:
    quorum = cluster.observer.quorum()
    return quorum is not None and len(quorum.nodes) == 3 and all(n.reachable and 0 <= n.lag <= 1 for n in quorum.nodes)
