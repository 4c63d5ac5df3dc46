"""LocalCluster: a cluster of real processes on this machine, for tests, demos and trying things out.

    with LocalCluster(brokers=3, controllers=3) as cluster:
        producer = Producer(bootstrap_servers=cluster.bootstrap_servers)
        ...
        cluster.kill(cluster.leader_of("orders", 0))

It leaves no process and no folder behind: leaving the block ends the nodes, and if this very process is killed, a small
reaper process does it (reaper.py). The cluster that outlives its command is standing_cluster.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from . import reaper
from .cluster_processes import ClusterProcesses
from .cluster_status import ClusterStatus, NodeStatus, cluster_status, process_status
from .errors import ClusterStateError, WaitTimeoutError
from .layout import CONTROLLER, ClusterLayout, NodeSpec, lay_out
from .node_process import Command, NodeProcess, ProcessState, node_command
from .ports import PortReservation
from .quorum_formation import load_or_draw_quorum_id
from .readiness import await_cluster, await_unfenced

if TYPE_CHECKING:
    from ..proto.broker_pb2 import PartitionDescription
    from .cluster_observer import ClusterObserver

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 30.0
WAIT_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.01

T = TypeVar("T")


class LocalCluster:
    """Brokers 1..n and controllers 1..m, each a process of its own, on ports that the kernel picks.

    Where a method takes a node, 2 and "broker-2" are a broker, "controller-1" is a controller.
    """

    def __init__(
        self,
        brokers: int = 3,
        controllers: int = 3,
        *,
        data_folder: str | Path | None = None,
        broker_config: Mapping[str, str] | None = None,
        controller_config: Mapping[str, str] | None = None,
        racks: Sequence[str] = (),
        host: str = "127.0.0.1",
        command: Command = node_command,
    ) -> None:
        """`data_folder` is kept when the cluster ends; without one, a temporary folder is made and removed.

        `broker_config` and `controller_config` go into each node's properties; the brokers get the `racks` in turn.
        """
        if brokers < 0 or controllers < 1:
            raise ValueError(f"a cluster has at least one controller; asked for {controllers}, with {brokers} brokers")
        self._token = uuid.uuid4().hex
        self._is_temporary = data_folder is None
        folder = Path(tempfile.gettempdir()) / f"klamm-{self._token[:12]}" if data_folder is None else Path(data_folder)
        quorum_id = self._token if data_folder is None else load_or_draw_quorum_id(folder)
        self._reservations = [PortReservation(host) for _ in range(controllers + 2 * brokers)]
        ports = [reservation.port for reservation in self._reservations]
        self._layout = lay_out(
            folder.absolute(),
            host=host,
            controller_ports=ports[:controllers],
            broker_ports=ports[controllers : controllers + brokers],
            kafka_ports=ports[controllers + brokers :],
            broker_config=broker_config,
            controller_config=controller_config,
            quorum_id=quorum_id,
            racks=racks,
        )
        self._processes = ClusterProcesses(
            self._layout,
            command=command,
            environment={reaper.TOKEN_VARIABLE: self._token},
            on_spawn=self._tell_reaper,
        )
        self._reaper: subprocess.Popen[bytes] | None = None
        self._observer: ClusterObserver | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._is_temporary:
                self.stop()
        finally:
            self.close()

    # --- the whole -----------------------------------------------------------------------------------------------

    @property
    def layout(self) -> ClusterLayout:
        """Names, addresses and folders of all nodes."""
        return self._layout

    @property
    def data_folder(self) -> Path:
        """The folder that holds a folder per node."""
        return self._layout.folder

    @property
    def bootstrap_servers(self) -> str:
        """Every broker's gRPC address, joined by commas, for Klamm's own Producer, Consumer and Admin."""
        return self._layout.bootstrap_servers

    @property
    def kafka_bootstrap_servers(self) -> str:
        """Every broker's Kafka address, joined by commas, for any Kafka client."""
        return self._layout.kafka_bootstrap_servers

    @property
    def controller_addresses(self) -> tuple[str, ...]:
        """Every controller's address."""
        return self._layout.controller_addresses

    @property
    def observer(self) -> ClusterObserver:
        """Asks the nodes over gRPC."""
        if self._observer is None:
            from .cluster_observer import ClusterObserver  # here: it imports grpc, while the nodes start

            self._observer = ClusterObserver(self._layout, self.is_running)
        return self._observer

    def start(self, *, wait: bool = True, timeout_s: float = START_SECONDS_MAX) -> Self:
        """Starts all nodes that are down, at once; waits until the quorum has a leader and all brokers are unfenced.

        With `wait=False` it returns when every node serves.

        :raises NodeStartError: a node did not come to serve; all nodes are ended.
        :raises WaitTimeoutError: the quorum or a broker was not ready in time.
        """
        if self._closed:
            raise ClusterStateError("this cluster was closed; make a new one")
        deadline = time.monotonic() + timeout_s
        self._start_reaper()
        self._layout.folder.mkdir(parents=True, exist_ok=True)
        try:
            down = [spec for spec in self._layout.nodes if self._processes.state(spec) is ProcessState.DOWN]
            started = self._processes.spawn(down)
            observer = self.observer
            self._processes.await_ready(started, timeout_s=timeout_s)
            if wait:
                await_cluster(self._layout, observer, deadline=deadline)
        except BaseException:
            self.close()
            raise
        return self

    def stop(self, *, timeout_s: float = STOP_SECONDS_MAX) -> None:
        """Controlled shutdown: brokers one after another, then controllers. Data stays; `start` brings all back.

        :raises ClusterStateError: a node did not stop in time and was killed.
        """
        self._forget_connections()
        killed = self._processes.stop_all(timeout_s=timeout_s)
        if killed:
            raise ClusterStateError(f"did not stop within {timeout_s:g} s and had to be killed: {', '.join(killed)}")

    def close(self) -> None:
        """Ends all nodes at once, gives up the ports and removes the folder if it is temporary. May be called twice.

        :raises ClusterStateError: something could not be removed.
        """
        if self._closed:
            return
        self._closed = True
        self._forget_connections()
        for spec in self._layout.nodes:
            if self._processes.state(spec) is not ProcessState.DOWN:
                self._processes.kill(spec)
        for reservation in self._reservations:
            reservation.close()
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            if self._reaper.wait() != 0:
                raise ClusterStateError(f"not all of the cluster could be removed; see {self._layout.folder}")

    # --- one node ------------------------------------------------------------------------------------------------

    def kill(self, node: int | str) -> None:
        """SIGKILL; returns when the process is gone."""
        spec = self._layout.node(node)
        self._processes.kill(spec)
        self.observer.forget(spec.name)

    def pause(self, node: int | str) -> None:
        """SIGSTOP: the process keeps its connections and does nothing."""
        self._processes.pause(self._layout.node(node))

    def resume(self, node: int | str) -> None:
        """SIGCONT after `pause`."""
        self._processes.resume(self._layout.node(node))

    def stop_node(self, node: int | str, *, timeout_s: float = STOP_SECONDS_MAX) -> None:
        """Controlled shutdown of one node.

        :raises ClusterStateError: it did not stop in time and was killed.
        """
        spec = self._layout.node(node)
        self.observer.forget(spec.name)
        if not self._processes.stop(spec, timeout_s=timeout_s):
            raise ClusterStateError(f"{spec.name} did not stop within {timeout_s:g} s and had to be killed")

    def start_node(self, node: int | str, *, wait: bool = True, timeout_s: float = START_SECONDS_MAX) -> None:
        """Starts a node that is down; waits until it serves, and for a broker until it is unfenced.

        :raises NodeStartError: it did not come to serve.
        """
        deadline = time.monotonic() + timeout_s
        spec = self._layout.node(node)
        self.observer.forget(spec.name)
        self._processes.await_ready(self._processes.spawn([spec]), timeout_s=timeout_s)
        if wait and spec.role != CONTROLLER:
            await_unfenced(spec, self.observer, deadline=deadline)

    def restart(self, node: int | str, *, timeout_s: float = START_SECONDS_MAX) -> None:
        """Controlled shutdown if it runs, then start."""
        if self._processes.state(self._layout.node(node)) is not ProcessState.DOWN:
            self.stop_node(node, timeout_s=timeout_s)
        self.start_node(node, timeout_s=timeout_s)

    def is_running(self, node: int | str | NodeSpec) -> bool:
        """True if its process runs and is not paused."""
        spec = node if isinstance(node, NodeSpec) else self._layout.node(node)
        return self._processes.state(spec) is ProcessState.RUNNING

    def pid_of(self, node: int | str) -> int | None:
        """The node's pid; None if it is down."""
        return self._processes.pid(self._layout.node(node))

    # --- what it says --------------------------------------------------------------------------------------------

    def nodes(self) -> tuple[NodeStatus, ...]:
        """A row per node: name, role, pid, address, data folder, state of its process."""
        return process_status(self._layout, self._processes).nodes

    def describe(self) -> ClusterStatus:
        """Nodes, quorum, brokers and topics in trouble, as far as the nodes answer."""
        return cluster_status(self._layout, self._processes, self.observer)

    def partition(self, topic: str, partition: int = 0) -> PartitionDescription | None:
        """Leader, epochs, replicas and ISR of a partition; None if it is not known (yet)."""
        description = self.observer.topic(topic)
        found = [p for p in description.partitions if p.partition == partition] if description else []
        return found[0] if found else None

    def leader_of(self, topic: str, partition: int = 0) -> int | None:
        """The broker that leads the partition; None if none does."""
        description = self.partition(topic, partition)
        return None if description is None or description.leader_id < 0 else description.leader_id

    def active_controller(self) -> str | None:
        """The name of the controller that leads the quorum; None if none does."""
        quorum = self.observer.quorum()
        if quorum is None or quorum.active_controller_id < 0:
            return None
        return f"{CONTROLLER}-{quorum.active_controller_id}"

    def wait_until(
        self, condition: Callable[[], T | None], *, timeout_s: float = WAIT_SECONDS_MAX, what: str = ""
    ) -> T:
        """Asks until the answer is true in Python's sense, and returns it.

        :raises WaitTimeoutError: it was not, within the time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            answer = condition()
            if answer:
                return answer
            if time.monotonic() >= deadline:
                wanted = what or getattr(condition, "__qualname__", "the condition")
                raise WaitTimeoutError(f"waited {timeout_s:g} s in vain for: {wanted}")
            time.sleep(POLL_SECONDS)

    # --- the reaper ----------------------------------------------------------------------------------------------

    def _start_reaper(self) -> None:
        if self._reaper is not None:
            return
        arguments = [str(os.getpid()), self._token, *([str(self._layout.folder)] if self._is_temporary else [])]
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _tell_reaper(self, node: NodeProcess) -> None:
        assert self._reaper is not None and self._reaper.stdin is not None  # start() came first
        self._reaper.stdin.write(f"{node.identity.pid} {node.identity.start_time}\n".encode())
        self._reaper.stdin.flush()

    def _forget_connections(self) -> None:
        if self._observer is not None:
            self._observer.close()
