"""LocalCluster with real nodes: start, produce, kill, pause, restart, stop, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.waiting import wait_for
from klamm.client import Admin, Consumer, NewTopic, Producer, TopicPartition
from klamm.deploy.errors import NodeStartError
from klamm.deploy.local import LocalCluster
from klamm.deploy.reaper import process_start_time

pytestmark = pytest.mark.integration

TOPIC = "events"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as started:
        with Admin(bootstrap_servers=started.bootstrap_servers) as admin:
            admin.create_topics([NewTopic(TOPIC, 1, 3)])
        yield started


def _produce(cluster: LocalCluster, *values: bytes) -> list[int]:
    with Producer(bootstrap_servers=cluster.bootstrap_servers, acks="all") as producer:
        return [future.get(timeout=20).offset for future in [producer.send(TOPIC, value) for value in values]]


def _consume(cluster: LocalCluster, first: int, last: int) -> list[bytes]:
    partition = TopicPartition(TOPIC, 0)
    with Consumer(bootstrap_servers=cluster.bootstrap_servers, consumer_timeout_ms=20_000) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, first)
        values = []
        for record in consumer:
            values.append(record.value)
            if record.offset >= last:
                break
        return values


def _is_whole(cluster: LocalCluster) -> bool:
    partition = cluster.partition(TOPIC)
    return partition is not None and len(partition.isr) == 3


def _leader(cluster: LocalCluster) -> int:
    return cluster.wait_until(lambda: cluster.leader_of(TOPIC), what="a leader")


def test_what_is_up_is_described(cluster: LocalCluster) -> None:
    cluster.wait_until(lambda: cluster.describe().healthy, what="a healthy cluster")
    status = cluster.describe()
    assert [node.node for node in status.nodes] == [f"{r}-{n}" for r in ("controller", "broker") for n in (1, 2, 3)]
    assert status.active_controller in {"controller-1", "controller-2", "controller-3"}
    assert sum(node.is_leader for node in status.nodes) == 1
    assert [node.fenced for node in status.nodes[3:]] == [False] * 3
    assert TOPIC in [topic.topic for topic in status.topics or ()]


def test_leader_is_killed_and_comes_back(cluster: LocalCluster) -> None:
    before = _produce(cluster, b"1", b"2")
    leader = _leader(cluster)
    cluster.kill(leader)
    assert cluster.pid_of(leader) is None
    after = _produce(cluster, b"3")
    assert _consume(cluster, before[0], after[0]) == [b"1", b"2", b"3"]
    assert cluster.leader_of(TOPIC) not in (leader, None)
    cluster.start_node(leader)
    cluster.wait_until(lambda: _is_whole(cluster), what="a full ISR")


def test_leader_is_paused_and_resumed(cluster: LocalCluster) -> None:
    leader = _leader(cluster)
    cluster.pause(leader)
    (offset,) = _produce(cluster, b"while it was paused")
    cluster.wait_until(lambda: cluster.leader_of(TOPIC) not in (leader, None), what="another leader")
    cluster.resume(leader)
    cluster.wait_until(lambda: _is_whole(cluster), what="a full ISR")
    assert _consume(cluster, offset, offset) == [b"while it was paused"]


def test_active_controller_is_killed(cluster: LocalCluster) -> None:
    active = cluster.wait_until(cluster.active_controller, what="an active controller")
    cluster.kill(active)
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(f"after-{active}", 1, 3)])
    cluster.wait_until(lambda: cluster.active_controller() not in (active, None), what="another active controller")
    cluster.start_node(active)
    cluster.wait_until(lambda: cluster.describe().healthy, what="a healthy cluster")


def test_rule_26_restart_of_a_broker_fails_no_write(cluster: LocalCluster) -> None:
    leader = _leader(cluster)
    with Producer(bootstrap_servers=cluster.bootstrap_servers, acks="all") as producer:
        futures = [producer.send(TOPIC, b"%d" % number) for number in range(100)]
        cluster.restart(leader)
        futures += [producer.send(TOPIC, b"%d" % number) for number in range(100, 200)]
        offsets = [future.get(timeout=20).offset for future in futures]
    assert offsets == list(range(offsets[0], offsets[0] + 200))
    assert _consume(cluster, offsets[0], offsets[-1]) == [b"%d" % number for number in range(200)]
    cluster.wait_until(lambda: _is_whole(cluster), what="a full ISR")


def test_kept_data_is_there_again_after_stop_and_start(tmp_path: Path) -> None:
    with LocalCluster(brokers=1, controllers=1, data_folder=tmp_path) as cluster:
        _produce(cluster, b"kept")
        cluster.stop()
        assert {node.process for node in cluster.nodes()} == {"down"}
        cluster.start()
        assert _consume(cluster, 0, 0) == [b"kept"]
    with LocalCluster(brokers=1, controllers=1, data_folder=tmp_path) as cluster:
        assert _consume(cluster, 0, 0) == [b"kept"]


def test_wrong_configuration_is_shown() -> None:
    with pytest.raises(NodeStartError, match=r"(?s)exit code 2.*replica\.lag\.time"):
        LocalCluster(1, 1, broker_config={"replica.lag.tim.max.ms": "1"}).start()


def test_start_to_first_acked_record_waits_for_no_time_out() -> None:
    brokers = {"broker.heartbeat.interval.ms": "60000", "replica.lag.time.max.ms": "600000"}
    cluster = LocalCluster(broker_config=brokers, controller_config={"broker.session.timeout.ms": "600000"})
    cluster.start(timeout_s=40)  # gives up before the second heartbeat
    try:
        _produce(cluster, b"first")
    finally:
        cluster.close()


OWNER = """
import sys
from klamm.deploy.local import LocalCluster
cluster = LocalCluster().start()
print(cluster.data_folder, *(node.pid for node in cluster.nodes()), flush=True)
sys.stdin.read()
"""


def test_owner_killed_leaves_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as owner:
        assert owner.stdout is not None
        folder, *pids = owner.stdout.readline().split()
        assert len(pids) == 6
        owner.kill()
        owner.wait()
        wait_for(lambda: not any(process_start_time(int(pid)) for pid in pids) and not Path(folder).exists())
