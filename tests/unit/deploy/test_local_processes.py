"""What LocalCluster does with processes, ports and folders, over fake nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from harness.fake_cluster import fake_cluster
from klamm.deploy.errors import ClusterStateError, NodeStartError, NodeStateError, WaitTimeoutError
from klamm.deploy.local import LocalCluster


@contextmanager
def _started(cluster: LocalCluster) -> Iterator[LocalCluster]:
    try:
        yield cluster.start(wait=False)
    finally:
        cluster.close()


def _alive(pids: list[int | None]) -> list[int]:
    return [pid for pid in pids if pid is not None and psutil.pid_exists(pid)]


def test_starts_all_and_leaves_nothing() -> None:
    with _started(fake_cluster(brokers=3, controllers=3)) as cluster:
        folder = cluster.data_folder
        pids = [node.pid for node in cluster.nodes()]
        assert len(_alive(pids)) == 6
        assert [node.process for node in cluster.nodes()] == ["running"] * 6
        assert folder.exists()
    assert _alive(pids) == []
    assert not folder.exists()


def test_kill_pause_resume_start() -> None:
    with _started(fake_cluster()) as cluster:
        first_pid = cluster.pid_of(1)
        cluster.pause(1)
        assert cluster.nodes()[1].process == "paused"
        assert not cluster.is_running(1)
        cluster.resume(1)
        cluster.wait_until(lambda: cluster.is_running(1), timeout_s=5)
        cluster.kill("broker-1")
        assert cluster.pid_of(1) is None
        cluster.start_node(1, wait=False)
        assert cluster.pid_of(1) not in (None, first_pid)


def test_a_killed_paused_node_is_gone() -> None:
    with _started(fake_cluster()) as cluster:
        cluster.pause(2)
        cluster.kill(2)
        assert cluster.nodes()[2].process == "down"


def test_what_does_not_fit_the_state_is_an_error() -> None:
    with _started(fake_cluster()) as cluster:
        with pytest.raises(NodeStateError, match="not paused"):
            cluster.resume(1)
        with pytest.raises(NodeStateError, match="running already"):
            cluster.start_node(1)
        cluster.pause(1)
        with pytest.raises(NodeStateError, match="paused already"):
            cluster.pause(1)
        cluster.kill(1)
        for action in (cluster.kill, cluster.pause, cluster.resume):
            with pytest.raises(NodeStateError, match="is down"):
                action(1)


def test_stop_keeps_data_and_start_brings_it_back(tmp_path: Path) -> None:
    with _started(fake_cluster(data_folder=tmp_path / "kept")) as cluster:
        ports = [node.address for node in cluster.nodes()]
        kept = cluster.data_folder / "broker-1" / "kept"
        kept.write_text("x", encoding="utf-8")
        cluster.pause(1)  # a paused node is resumed, or it could not stop
        cluster.stop(timeout_s=10)
        assert [node.process for node in cluster.nodes()] == ["down"] * 3
        cluster.start(wait=False)
        assert [node.address for node in cluster.nodes()] == ports
    assert kept.exists()


def test_a_node_that_ignores_sigterm_is_killed_and_named() -> None:
    with (
        _started(fake_cluster(broker_config={"fake.ignore.sigterm": "true"})) as cluster,
        pytest.raises(ClusterStateError, match="broker-1, broker-2"),
    ):
        cluster.stop(timeout_s=0.05)


def test_a_node_that_fails_is_shown_with_the_end_of_its_log() -> None:
    cluster = fake_cluster(broker_config={"fake.exit": "3"})
    with pytest.raises(NodeStartError, match=r"(?s)broker-\d did not start.*exit code 3.*fake_node_failed") as caught:
        cluster.start(wait=False)
    assert caught.value.log_path.name == "log.txt"
    assert [node.process for node in cluster.nodes()] == ["down"] * 3
    assert not cluster.data_folder.exists()


def test_a_silent_node_is_given_up() -> None:
    cluster = fake_cluster(controller_config={"fake.ready": "false"})
    with pytest.raises(NodeStartError, match="controller-1 did not start"):
        cluster.start(wait=False, timeout_s=0.5)


def test_a_closed_cluster_does_not_start() -> None:
    cluster = fake_cluster()
    cluster.close()
    with pytest.raises(ClusterStateError, match="closed"):
        cluster.start()


def test_wait_until_names_what_it_waited_for() -> None:
    with _started(fake_cluster()) as cluster:
        assert cluster.wait_until(lambda: 7) == 7
        with pytest.raises(WaitTimeoutError, match="pigs to fly"):
            cluster.wait_until(lambda: False, timeout_s=0.01, what="pigs to fly")


def test_nodes_that_answer_no_call_are_described_as_unknown() -> None:
    with _started(fake_cluster(brokers=1)) as cluster:
        cluster.kill(1)
        cluster.kill("controller-1")
        status = cluster.describe()
        assert not cluster.observer._channels, "a node that is down was asked: each such call may take seconds"
        assert status.topics is None
        assert status.active_controller is None
        assert not status.healthy
        assert cluster.leader_of("t") is None


def _told_new_quorum(cluster: LocalCluster) -> set[str]:
    processes = {node.node: psutil.Process(node.pid) for node in cluster.nodes() if node.pid is not None}
    return {name for name, process in processes.items() if "--new-quorum" in process.cmdline()}


def test_controllers_are_told_once_that_their_quorum_is_new(tmp_path: Path) -> None:
    with _started(fake_cluster(controllers=3, data_folder=tmp_path)) as cluster:
        assert _told_new_quorum(cluster) == {"controller-1", "controller-2", "controller-3"}
        quorum_id = cluster.layout.quorum_id
        cluster.kill("controller-1")
        cluster.start_node("controller-1")
        assert _told_new_quorum(cluster) == {"controller-2", "controller-3"}
    with _started(fake_cluster(controllers=3, data_folder=tmp_path)) as cluster:
        assert _told_new_quorum(cluster) == set()
        assert cluster.layout.quorum_id == quorum_id


def test_a_quorum_that_never_came_up_is_still_new(tmp_path: Path) -> None:
    with pytest.raises(NodeStartError):
        fake_cluster(controllers=1, data_folder=tmp_path, controller_config={"fake.exit": "1"}).start(wait=False)
    with _started(fake_cluster(controllers=1, data_folder=tmp_path)) as cluster:
        assert _told_new_quorum(cluster) == {"controller-1"}
