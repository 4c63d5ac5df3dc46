"""The SDK against real brokers while they are killed and stopped: nothing acked is lost, doubled or out of order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from klamm.client import Admin, Consumer, DeliveryFuture, NewTopic, Producer, TopicPartition
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

PARTITIONS = 3


def test_rule_3_17_faults_under_load() -> None:
    with LocalCluster(brokers=3, controllers=1) as cluster, Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic("orders", PARTITIONS, 3)])
        stop = threading.Event()
        sent: list[list[DeliveryFuture]] = [[] for _ in range(PARTITIONS)]
        with Producer(bootstrap_servers=cluster.bootstrap_servers, batch_size=2000) as producer:
            load = threading.Thread(target=_load, args=(producer, sent, stop))
            load.start()
            try:
                for fault in (_kill_leader, _pause_leader, _kill_leader):
                    _wait_for_progress(sent)
                    fault(cluster)
                    _wait_for_progress(sent)
                    cluster.wait_until(lambda: _is_whole(cluster), timeout_s=30)
            finally:
                stop.set()
                load.join()
            producer.flush(30)
        for futures in sent:
            assert [future.get(0).offset for future in futures] == list(range(len(futures)))
        _read_back(cluster, [len(futures) for futures in sent])


def _load(producer: Producer, sent: list[list[DeliveryFuture]], stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        for partition in range(PARTITIONS):
            sent[partition].append(producer.send("orders", b"%d" % number, partition=partition))
        number += 1
        if number % 20 == 0:
            stop.wait(0.01)


def _wait_for_progress(sent: list[list[DeliveryFuture]]) -> None:
    """Until a record that was sent after now is acked in each partition."""
    marks = [len(futures) for futures in sent]
    _until(lambda: all(len(f) > mark and f[mark].is_done for f, mark in zip(sent, marks, strict=True)))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _kill_leader(cluster: LocalCluster) -> None:
    leader = cluster.wait_until(lambda: cluster.leader_of("orders", 0), what="a leader")
    cluster.kill(leader)
    cluster.wait_until(lambda: cluster.leader_of("orders", 0) not in (leader, None))
    cluster.restart(leader)


def _pause_leader(cluster: LocalCluster) -> None:
    leader = cluster.wait_until(lambda: cluster.leader_of("orders", 0), what="a leader")
    cluster.pause(leader)
    try:
        cluster.wait_until(lambda: cluster.leader_of("orders", 0) not in (leader, None))
    finally:
        cluster.resume(leader)


def _is_whole(cluster: LocalCluster) -> bool:
    found = [cluster.partition("orders", partition) for partition in range(PARTITIONS)]
    return all(partition is not None and len(partition.isr) == 3 for partition in found)


def _read_back(cluster: LocalCluster, counts: list[int]) -> None:
    seen: list[list[bytes]] = [[] for _ in counts]
    with Consumer(bootstrap_servers=cluster.bootstrap_servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("orders", partition) for partition in range(PARTITIONS)])
        ends = consumer.end_offsets(consumer.assignment())
        assert [ends[TopicPartition("orders", partition)] for partition in range(PARTITIONS)] == counts
        deadline = time.monotonic() + 30
        while sum(map(len, seen)) < sum(counts) and time.monotonic() < deadline:
            for partition, records in consumer.poll(500).items():
                seen[partition.partition] += [record.value for record in records]
    assert seen == [[b"%d" % number for number in range(count)] for count in counts]
