"""The cluster under test: real processes of Klamm, each on a host of its own, brokers each with a small disk.

It is started as deploy/ starts clusters, with its layout, its launcher and its observer; what differs is where the
nodes run, and that brokers may join later.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from chaos.clock_shift import ClockShift
from chaos.disk import SmallDisk
from chaos.network import Network, python_on
from klamm.deploy.cluster_observer import ClusterObserver
from klamm.deploy.cluster_processes import ClusterProcesses
from klamm.deploy.errors import ClusterStateError, NodeStartError, WaitTimeoutError
from klamm.deploy.layout import BROKER, CONTROLLER, ClusterLayout, NodeSpec, Role
from klamm.deploy.node_process import NodeProcess, ProcessState, await_ready
from klamm.deploy.ports import PortReservation
from klamm.deploy.readiness import await_cluster, await_unfenced
from klamm.deploy.reaper import TOKEN_VARIABLE
from klamm.proto.broker_pb2 import PartitionDescription

CONTROLLERS: Final = 3
BROKERS: Final = 3
BROKERS_MAX: Final = 5
"""Those past the first three join and leave while the campaign runs."""
START_SECONDS_MAX: Final = 90.0
STOP_SECONDS_MAX: Final = 45.0
START_TRIES: Final = 20
START_PAUSE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.1
BROKER_CONFIG: Final[Mapping[str, str]] = {
    "auto.create.topics.enable": "false",
    "replica.lag.time.max.ms": "4000",
    # A clock that is moved must not make records old: what is deleted by age is not lost by mistake.
    "log.retention.ms": "-1",
    # The offsets of groups are cleaned while the campaign runs, on each broker when it comes to it.
    "offsets.topic.num.partitions": "4",
    "offsets.topic.segment.bytes": "8192",
    "log.cleaner.min.cleanable.ratio": "0.1",
    "log.cleaner.backoff.ms": "1000",
}
CONTROLLER_CONFIG: Final[Mapping[str, str]] = {}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HostedNode(NodeSpec):
    """A node whose data is on a disk of its own, beside its log and its configuration."""

    @property
    def disk(self) -> Path:
        """Where its disk is mounted."""
        return self.folder / "disk"

    @property
    def data_folder(self) -> Path:
        """Its partitions, or its Raft journal."""
        return self.disk / "data"


class HostedCluster:
    """Controllers 1..3 and brokers 1..5, of which the first three run from the start."""

    def __init__(self, folder: Path, network: Network, *, token: str, disk_bytes: int) -> None:
        self._network = network
        self._reservations: list[PortReservation] = []
        names = [f"{CONTROLLER}-{n}" for n in range(1, CONTROLLERS + 1)]
        names += [f"{BROKER}-{n}" for n in range(1, BROKERS_MAX + 1)]
        self.layout = ClusterLayout(
            folder,
            tuple(self._node(folder, name) for name in names),
            BROKER_CONFIG,
            CONTROLLER_CONFIG,
            uuid.uuid4().hex,
        )
        self.disks = {spec.name: SmallDisk(spec.folder / "disk", disk_bytes) for spec in self.layout.brokers}
        self.clocks = ClockShift(folder / "clocks")
        self.processes = ClusterProcesses(self.layout, command=self._command, environment={TOKEN_VARIABLE: token})
        self.observer = ClusterObserver(self.layout, self.is_running)
        self.members: set[str] = {spec.name for spec in self.layout.controllers + self.layout.brokers[:BROKERS]}
        """Nodes that belong to the cluster now, up or down."""
        self._lock = threading.Lock()
        self._given_up = threading.Event()

    # --- the whole -----------------------------------------------------------------------------------------------

    @property
    def first_brokers(self) -> tuple[NodeSpec, ...]:
        """Those that are there from the start to the end; clients are told of these."""
        return self.layout.brokers[:BROKERS]

    @property
    def member_specs(self) -> tuple[NodeSpec, ...]:
        """The nodes that belong to the cluster now."""
        return tuple(spec for spec in self.layout.nodes if spec.name in self.members)

    def start(self) -> None:
        """Starts controllers and the first brokers; returns when all is ready.

        :raises DeployError: it did not come to that.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        for disk in self.disks.values():
            disk.mount()
        self.clocks.prepare([spec.name for spec in self.layout.nodes])
        first = replace(self.layout, nodes=self.member_specs)
        started = self.processes.spawn(first.nodes)
        self.processes.await_ready(started, timeout_s=START_SECONDS_MAX)
        await_cluster(first, self.observer, deadline=deadline)

    def stop(self) -> list[str]:
        """Stops all in good order; returns the names of those that had to be killed."""
        self.observer.close()
        return self.processes.stop_all(timeout_s=STOP_SECONDS_MAX)

    def give_up(self) -> None:
        """The campaign was stopped: kills all nodes, so that whoever waits for something of them stops waiting."""
        self._given_up.set()
        for spec in self.layout.nodes:
            self.kill(spec)

    def close(self) -> None:
        """Ends whatever still runs, takes the disks away."""
        self.observer.close()
        for spec in self.layout.nodes:
            if self.processes.state(spec) is not ProcessState.DOWN:
                self.processes.kill(spec)
        for disk in self.disks.values():
            disk.unmount()
        for reservation in self._reservations:
            reservation.close()

    # --- one node ------------------------------------------------------------------------------------------------

    def is_running(self, spec: NodeSpec) -> bool:
        """True if its process runs and is not paused."""
        return self.processes.state(spec) is ProcessState.RUNNING

    def kill(self, spec: NodeSpec) -> None:
        """SIGKILL; nothing happens to one that is down."""
        with self._lock:
            if self.processes.state(spec) is not ProcessState.DOWN:
                self.processes.kill(spec)
            self.observer.forget(spec.name)

    def spawn(self, specs: Sequence[NodeSpec]) -> None:
        """Starts those that are down, all at once, and waits until each says that it serves.

        One that gives up, since it finds no controllers for a minute or its disk is full, is started again, as a
        supervisor would.

        :raises NodeStartError: one has given up too often.
        """
        for tries_left in reversed(range(START_TRIES)):
            with self._lock:
                down = [spec for spec in specs if self.processes.state(spec) is ProcessState.DOWN]
                started = [] if self._given_up.is_set() else self.processes.spawn(down)
            for node in started:
                self.observer.forget(node.spec.name)
            # One by one: the launcher's own way ends all that were started with one that does not start.
            failures = [failure for node in started if (failure := _failure_to_serve(node)) is not None]
            if failures and not tries_left:
                raise failures[0]
            if not failures:
                return
            time.sleep(START_PAUSE_SECONDS)

    def await_unfenced(self, spec: NodeSpec) -> None:
        """Waits until the broker is in service. :raises WaitTimeoutError: it is not."""
        await_unfenced(spec, self.observer, deadline=time.monotonic() + START_SECONDS_MAX)

    def stop_node(self, spec: NodeSpec) -> None:
        """Controlled shutdown. :raises ClusterStateError: it did not end in time and was killed."""
        self.observer.forget(spec.name)
        if not self.processes.stop(spec, timeout_s=STOP_SECONDS_MAX):
            raise ClusterStateError(f"{spec.name} did not stop within {STOP_SECONDS_MAX:g} s and was killed")

    def remove_data(self, spec: NodeSpec) -> None:
        """What a broker leaves behind that has left the cluster for good."""
        shutil.rmtree(spec.data_folder, ignore_errors=True)

    # --- what it says --------------------------------------------------------------------------------------------

    def partitions(self) -> dict[tuple[str, int], PartitionDescription]:
        """Every partition as the broker sees it that knows most; none where no broker answers."""
        answer = self.observer.metadata()
        topics = answer.topics if answer is not None else ()
        return {(topic.name, one.partition): one for topic in topics for one in topic.partitions}

    def active_controller(self) -> str | None:
        """The name of the active controller; None if there is none."""
        quorum = self.observer.quorum()
        if quorum is None or quorum.active_controller_id < 0:
            return None
        return f"{CONTROLLER}-{quorum.active_controller_id}"

    def complaints(self) -> list[str]:
        """What keeps the cluster from being whole, in words; nothing if it is whole."""
        found = [f"{spec.name} does not run" for spec in self.member_specs if not self.is_running(spec)]
        quorum = self.observer.quorum()
        if quorum is None or quorum.active_controller_id < 0:
            found.append("there is no active controller")
        else:
            found += [
                f"controller-{node.controller_id} is unreachable or {node.lag} entries behind"
                for node in quorum.nodes
                if not node.reachable or not 0 <= node.lag <= 1
            ]
        cluster = self.observer.cluster()
        unfenced = {broker.broker_id for broker in cluster.brokers if not broker.fenced} if cluster else set()
        members = {spec.node_id for spec in self.member_specs if spec.role == BROKER}
        found += [f"broker-{broker} is fenced" for broker in sorted(members - unfenced)]
        partitions = self.partitions()
        if not partitions:
            found.append("no broker tells of any partition")
        for (topic, number), one in sorted(partitions.items()):
            if one.leader_id < 0 or len(one.isr) < len(one.replicas) or one.adding_replicas or one.removing_replicas:
                found.append(
                    f"{topic}-{number}: leader {one.leader_id}, replicas {list(one.replicas)}, ISR {list(one.isr)}, "
                    f"adding {list(one.adding_replicas)}, removing {list(one.removing_replicas)}"
                )
        return found

    def wait_until(self, condition: Callable[[], T | None], *, timeout_s: float, what: str) -> T:
        """Asks until the answer is true in Python's sense. :raises WaitTimeoutError: it was not, within the time."""
        deadline = time.monotonic() + timeout_s
        while not (answer := condition()):
            if time.monotonic() >= deadline or self._given_up.is_set():
                raise WaitTimeoutError(f"waited {timeout_s:g} s in vain for {what}")
            time.sleep(POLL_SECONDS)
        return answer

    # --- how it is laid out --------------------------------------------------------------------------------------

    def _node(self, folder: Path, name: str) -> HostedNode:
        role, _, number = name.partition("-")
        host = self._network.address(name)
        if self._network.can_cut:  # a host of its own has all its ports free
            port, kafka_port = (9292, None) if role == CONTROLLER else (9192, 9092)
        else:
            port, kafka_port = self._free_port(host), None if role == CONTROLLER else self._free_port(host)
        known: Role = CONTROLLER if role == CONTROLLER else BROKER
        return HostedNode(known, int(number), host, port, folder / name, kafka_port)

    def _free_port(self, host: str) -> int:
        self._reservations.append(PortReservation(host))
        return self._reservations[-1].port

    def _command(self, spec: NodeSpec, *, new_quorum: bool) -> Sequence[str]:
        arguments = ["-m", f"klamm.{spec.role}", "--config", str(spec.config_path)]
        command = python_on(self._network, spec.name, *arguments, *(["--new-quorum"] if new_quorum else []))
        return self.clocks.command(spec.name, command)


def _failure_to_serve(node: NodeProcess) -> NodeStartError | None:
    try:
        await_ready([node], timeout_s=START_SECONDS_MAX)
    except NodeStartError as error:
        node.popen.kill()
        node.popen.wait()
        if node.popen.stdout is not None:
            node.popen.stdout.close()
        return error
    return None
