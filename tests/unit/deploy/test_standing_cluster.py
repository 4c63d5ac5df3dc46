"""The cluster of `klamm up` as a folder and processes, over fake nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.fake_cluster import fake_command
from klamm.deploy.errors import ClusterStateError, NodeStartError, NodeStateError, PortInUseError
from klamm.deploy.node_process import ProcessState
from klamm.deploy.ports import PortReservation
from klamm.deploy.standing_cluster import ClusterPlan, StandingCluster, lock, remove, state_path


class Clusters:
    """Makes and loads clusters of fake nodes in one folder, and ends their processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[StandingCluster] = []

    def create(self) -> StandingCluster:
        held = [PortReservation() for _ in range(3)]  # free ports; one node each
        broker, controller, kafka = (reservation.port for reservation in held)
        plan = ClusterPlan(1, 1, first_broker_port=broker, first_controller_port=controller, first_kafka_port=kafka)
        for reservation in held:
            reservation.close()
        self._all.append(StandingCluster.create(self.folder, plan, command=fake_command))
        return self._all[-1]

    def load(self) -> StandingCluster:
        self._all.append(StandingCluster.load(self.folder, command=fake_command))
        return self._all[-1]

    def kill_all(self) -> None:
        for cluster in self._all:
            for spec in cluster.layout.nodes:
                if cluster.processes.state(spec) is not ProcessState.DOWN:
                    cluster.processes.kill(spec)
        for cluster in self._all:
            cluster.states()  # takes the exit codes of those that another object has killed


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[Clusters]:
    clusters = Clusters(tmp_path / ".klamm")
    yield clusters
    clusters.kill_all()


def _start(cluster: StandingCluster) -> None:
    cluster._start_nodes(cluster.layout.nodes, timeout_s=10)


def test_it_is_found_again_with_its_processes(clusters: Clusters) -> None:
    first = clusters.create()
    _start(first)
    again = clusters.load()
    assert again.layout == first.layout
    assert again.states() == {"controller-1": ProcessState.RUNNING, "broker-1": ProcessState.RUNNING}
    assert [again.processes.pid(spec) for spec in again.layout.nodes] == [
        first.processes.pid(spec) for spec in first.layout.nodes
    ]


def test_stop_tells_what_it_stops_and_start_keeps_the_ports(clusters: Clusters) -> None:
    cluster = clusters.create()
    _start(cluster)
    told: list[str] = []
    again = clusters.load()
    assert again.stop(timeout_s=10, on_progress=told.append) == []
    assert told == ["stopping broker-1", "stopping controller-1"]
    _start(again)
    assert clusters.load().layout.bootstrap_servers == cluster.layout.bootstrap_servers


def test_port_in_use_starts_nothing(clusters: Clusters) -> None:
    cluster = clusters.create()
    reservation = PortReservation(port=cluster.layout.brokers[0].port)
    reservation._socket.listen()
    with pytest.raises(PortInUseError, match=str(reservation.port)):
        _start(cluster)
    reservation.close()
    assert set(cluster.states().values()) == {ProcessState.DOWN}


def test_kafka_port_in_use_starts_nothing(clusters: Clusters) -> None:
    cluster = clusters.create()
    reservation = PortReservation(port=cluster.layout.brokers[0].kafka_port or 0)
    reservation._socket.listen()
    with pytest.raises(PortInUseError, match=str(reservation.port)):
        _start(cluster)
    reservation.close()


def test_a_cluster_of_an_older_version_gets_kafka_ports_once_it_is_down(clusters: Clusters) -> None:
    clusters.create()
    state = json.loads(state_path(clusters.folder).read_text(encoding="utf-8"))
    del state["kafka_ports"]
    state_path(clusters.folder).write_text(json.dumps(state), encoding="utf-8")
    old = clusters.load()
    _start(old)  # as it is, it starts without
    assert clusters.load().layout.kafka_bootstrap_servers == ""
    old.stop(timeout_s=10, on_progress=lambda _: None)
    new = clusters.load().with_kafka_ports()
    assert new.layout.brokers[0].kafka_port is not None
    assert clusters.load().layout == new.layout
    assert new.layout.bootstrap_servers == old.layout.bootstrap_servers
    _start(clusters.load())


def test_kafka_ports_that_are_asked_for_and_in_use_are_an_error(clusters: Clusters) -> None:
    cluster = clusters.create()
    reservation = PortReservation()
    reservation._socket.listen()
    with pytest.raises(PortInUseError, match=str(reservation.port)):
        cluster.with_kafka_ports(reservation.port)
    reservation.close()


def test_failed_start_leaves_nothing_running(clusters: Clusters) -> None:
    cluster = clusters.create()
    state = json.loads(state_path(clusters.folder).read_text(encoding="utf-8"))
    state["broker_config"] = {"fake.exit": "1"}
    state_path(clusters.folder).write_text(json.dumps(state), encoding="utf-8")
    cluster = clusters.load()
    with pytest.raises(NodeStartError, match="broker-1"):
        cluster.start()
    assert set(cluster.states().values()) == {ProcessState.DOWN}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 99}', '{"version": 1, "processes": 3}'])
def test_unreadable_state_is_an_error_that_says_the_way_out(clusters: Clusters, content: str) -> None:
    clusters.create()
    state_path(clusters.folder).write_text(content, encoding="utf-8")
    with pytest.raises(ClusterStateError, match=r"cannot be read.*klamm clean|version 99"):
        clusters.load()
    remove(clusters.folder)
    assert not clusters.folder.exists()


def test_what_runs_is_not_removed(clusters: Clusters) -> None:
    _start(clusters.create())
    with pytest.raises(ClusterStateError, match="broker-1 still up"):
        remove(clusters.folder)


def test_where_there_is_none(clusters: Clusters) -> None:
    for action in (StandingCluster.load, remove, lambda folder: lock(folder).__enter__()):
        with pytest.raises(ClusterStateError, match="klamm up"):
            action(clusters.folder)
    assert not clusters.folder.exists()


def test_one_command_at_a_time(clusters: Clusters) -> None:
    clusters.create()
    with lock(clusters.folder), pytest.raises(ClusterStateError, match="another klamm command"), lock(clusters.folder):
        pass
    with lock(clusters.folder):
        pass


def test_running_controller_is_not_readmitted(clusters: Clusters) -> None:
    cluster = clusters.create()
    _start(cluster)
    with pytest.raises(NodeStateError, match="is up"):
        cluster.readmit(cluster.layout.controllers[0], set_aside=False)
