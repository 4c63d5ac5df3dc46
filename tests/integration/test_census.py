"""SIGUSR1: a node writes to its log what it is made of, and goes on."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

LINE = re.compile(r"census tasks=(\d+) blocks=(\d+) kinds=\S+:\d")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(brokers=1, controllers=1) as started:
        yield started


@pytest.mark.parametrize("node", ["broker-1", "controller-1"])
def test_a_node_that_is_asked_counts_its_tasks_and_objects(cluster: LocalCluster, node: str) -> None:
    pid = cluster.pid_of(node)
    assert pid is not None
    os.kill(pid, signal.SIGUSR1)
    log = cluster.layout.node(node).log_path
    tasks, blocks = cluster.wait_until(lambda: LINE.search(log.read_text()), what="a census").groups()
    assert int(tasks) > 1 and int(blocks) > 10_000
    assert cluster.pid_of(node) == pid and cluster.is_running(node)
