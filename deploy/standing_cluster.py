"""The cluster of `klamm up`: it outlives the command that started it and is found again through a folder.

    .klamm/cluster.json     ports, configuration, and which process each node is (pid and start time)
    .klamm/lock             held by a klamm command while it changes something
    .klamm/broker-1/...     as layout.py says

The state file is written anew after each change, by rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from .cluster_processes import ClusterProcesses
from .cluster_status import ClusterStatus, cluster_status
from .errors import ClusterStateError, DeployError, NodeStateError, PortInUseError
from .layout import CONTROLLER, ClusterLayout, NodeSpec, lay_out
from .node_process import Command, NodeProcess, ProcessIdentity, ProcessState, node_command
from .ports import PortReservation
from .quorum_formation import load_or_draw_quorum_id
from .readiness import await_cluster, await_unfenced

STATE_VERSION: Final = 1
FIRST_BROKER_PORT: Final = 9192
FIRST_CONTROLLER_PORT: Final = 9292
FIRST_KAFKA_PORT: Final = 9092
START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 45.0  # more than controlled.shutdown.timeout.ms: the broker gives up first


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What a new standing cluster is to be."""

    brokers: int = 3
    controllers: int = 3
    host: str = "127.0.0.1"
    first_broker_port: int = FIRST_BROKER_PORT
    first_controller_port: int = FIRST_CONTROLLER_PORT
    first_kafka_port: int = FIRST_KAFKA_PORT

    def lay_out(self, folder: Path) -> ClusterLayout:
        """Consecutive ports from the first ones on."""
        return lay_out(
            folder,
            host=self.host,
            controller_ports=range(self.first_controller_port, self.first_controller_port + self.controllers),
            broker_ports=range(self.first_broker_port, self.first_broker_port + self.brokers),
            kafka_ports=range(self.first_kafka_port, self.first_kafka_port + self.brokers),
            quorum_id=load_or_draw_quorum_id(folder),
        )


class StandingCluster:
    """A cluster whose nodes run in the background, held by its folder."""

    def __init__(self, layout: ClusterLayout, identities: Mapping[str, ProcessIdentity], command: Command) -> None:
        self.layout = layout
        self._command = command
        self.processes = ClusterProcesses(layout, command=command, identities=identities, on_spawn=self._spawned)

    @classmethod
    def create(cls, folder: Path, plan: ClusterPlan, *, command: Command = node_command) -> Self:
        """A new one in a folder that holds none; nothing is started."""
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        cluster = cls(plan.lay_out(folder), {}, command)
        cluster._save()
        return cluster

    @classmethod
    def load(cls, folder: Path, *, command: Command = node_command) -> Self:
        """The one in this folder.

        :raises ClusterStateError: there is none, or its state file cannot be read.
        """
        path = state_path(folder)
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["version"] != STATE_VERSION:
                raise ClusterStateError(f"{path} is of version {state['version']}, this klamm knows {STATE_VERSION}")
            layout = lay_out(
                folder.absolute(),
                host=state["host"],
                controller_ports=state["controller_ports"],
                broker_ports=state["broker_ports"],
                kafka_ports=state.get("kafka_ports", ()),  # older versions had none
                quorum_id=load_or_draw_quorum_id(folder),
                broker_config=state["broker_config"],
                controller_config=state["controller_config"],
            )
            identities = {
                name: ProcessIdentity(int(process["pid"]), str(process["start_time"]))
                for name, process in state["processes"].items()
            }
        except FileNotFoundError as error:
            raise _no_cluster(folder) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClusterStateError(f"{path} cannot be read ({error!r}); `klamm clean` removes the cluster") from error
        return cls(layout, identities, command)

    def with_kafka_ports(self, first_port: int | None = None) -> Self:
        """The same cluster, which an older version made without Kafka listeners, with them; all its nodes are down.

        Without a first port they are the usual ones where all of those are free, else ones that the kernel picks.

        :raises PortInUseError: one of those asked for belongs to another program.
        """
        layout = self.layout
        ports = _kafka_ports(layout.brokers[0].host, len(layout.brokers), first_port)
        brokers = iter(ports)
        nodes = tuple(n if n.role == CONTROLLER else replace(n, kafka_port=next(brokers)) for n in layout.nodes)
        cluster = type(self)(replace(layout, nodes=nodes), {}, self._command)
        cluster._save()
        return cluster

    # --- the whole -----------------------------------------------------------------------------------------------

    def start(self, *, timeout_s: float = START_SECONDS_MAX) -> None:
        """Starts all nodes and waits until the quorum has a leader and every broker is unfenced.

        :raises PortInUseError: a port belongs to another program; nothing was started.
        :raises NodeStartError: a node did not come to serve; all are ended again.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._start_nodes(self.layout.nodes, timeout_s=timeout_s)
            with self._observer() as observer:
                await_cluster(self.layout, observer, deadline=deadline)
        except BaseException:
            for spec in self.layout.nodes:
                if self.processes.state(spec) is not ProcessState.DOWN:
                    self.processes.kill(spec)
            raise

    def stop(self, *, timeout_s: float = STOP_SECONDS_MAX, on_progress: Callable[[str], None]) -> list[str]:
        """Controlled shutdown; data stays. Returns the names of nodes that had to be killed."""
        return self.processes.stop_all(timeout_s=timeout_s, on_progress=on_progress)

    def status(self) -> ClusterStatus:
        """All that is known of it now."""
        with self._observer() as observer:
            return cluster_status(self.layout, self.processes, observer)

    def states(self) -> dict[str, ProcessState]:
        """Each node's process state by name."""
        return {spec.name: self.processes.state(spec) for spec in self.layout.nodes}

    # --- one node ------------------------------------------------------------------------------------------------

    def start_node(self, spec: NodeSpec, *, timeout_s: float = START_SECONDS_MAX) -> None:
        """Starts a node that is down and waits until it serves, for a broker until it is unfenced."""
        deadline = time.monotonic() + timeout_s
        self._start_nodes([spec], timeout_s=timeout_s)
        if spec.role != CONTROLLER:
            with self._observer() as observer:
                await_unfenced(spec, observer, deadline=deadline)

    def readmit(self, spec: NodeSpec, *, set_aside: bool) -> None:
        """Lets a controller that lost its data, and is down, join its quorum again with nothing.

        :raises NodeStateError: it runs. :raises ClusterStateError: its folder is not one to re-admit.
        """
        if self.processes.state(spec) is not ProcessState.DOWN:
            raise NodeStateError(f"{spec.name} is up; a controller that runs needs no re-admission")
        options = ["--set-aside"] if set_aside else []
        command = [sys.executable, "-P", "-m", "klamm.controller.format", "readmit", *options]
        done = subprocess.run(
            [*command, "--config", str(spec.config_path)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ClusterStateError(done.stderr.strip())

    # --- inside --------------------------------------------------------------------------------------------------

    def _start_nodes(self, specs: Sequence[NodeSpec], *, timeout_s: float) -> None:
        with contextlib.ExitStack() as reservations:
            for spec in specs:
                if self.processes.state(spec) is ProcessState.DOWN:
                    for port in spec.ports:
                        reservations.callback(PortReservation(spec.host, port).close)
            self.processes.await_ready(self.processes.spawn(specs), timeout_s=timeout_s)

    def _observer(self) -> contextlib.AbstractContextManager[Any]:
        from .cluster_observer import ClusterObserver  # here: it imports grpc

        return ClusterObserver(self.layout, lambda spec: self.processes.state(spec) is ProcessState.RUNNING)

    def _spawned(self, _: NodeProcess) -> None:
        self._save()  # at once: whatever happens next, the process can be found

    def _save(self) -> None:
        state = {
            "version": STATE_VERSION,
            "host": self.layout.nodes[0].host,
            "controller_ports": [spec.port for spec in self.layout.controllers],
            "broker_ports": [spec.port for spec in self.layout.brokers],
            "kafka_ports": [spec.kafka_port for spec in self.layout.brokers if spec.kafka_port is not None],
            "broker_config": dict(self.layout.broker_config),
            "controller_config": dict(self.layout.controller_config),
            "processes": {
                name: {"pid": identity.pid, "start_time": identity.start_time}
                for name, identity in self.processes.identities.items()
            },
        }
        path = state_path(self.layout.folder)
        written = path.with_suffix(".json.new")
        written.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        written.replace(path)


def state_path(folder: Path) -> Path:
    """Where a standing cluster's state is."""
    return folder / "cluster.json"


def exists(folder: Path) -> bool:
    """True if the folder holds a cluster."""
    return state_path(folder).exists()


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keeps other klamm commands from changing the same cluster at the same time.

    :raises ClusterStateError: one is at it, or there is no such folder.
    """
    if not folder.is_dir():
        raise _no_cluster(folder)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ClusterStateError(f"another klamm command is at work in {folder}") from error
        yield


def remove(folder: Path) -> None:
    """Removes a cluster with all its data.

    :raises ClusterStateError: there is none, or it runs.
    """
    if not exists(folder):
        raise _no_cluster(folder)
    try:
        running = [name for name, state in StandingCluster.load(folder).states().items() if state.value != "down"]
    except DeployError:
        running = []  # an unreadable state: removing it is what `klamm clean` is for
    if running:
        raise ClusterStateError(f"{', '.join(running)} still up; `klamm down` first")
    shutil.rmtree(folder)


def _kafka_ports(host: str, count: int, first_port: int | None) -> list[int]:
    first = FIRST_KAFKA_PORT if first_port is None else first_port
    with contextlib.ExitStack() as held:
        try:
            for port in range(first, first + count):
                held.callback(PortReservation(host, port).close)
            return list(range(first, first + count))
        except PortInUseError:
            if first_port is not None:
                raise
        reservations = [PortReservation(host) for _ in range(count)]
        for reservation in reservations:
            held.callback(reservation.close)
        return [reservation.port for reservation in reservations]


def _no_cluster(folder: Path) -> ClusterStateError:
    return ClusterStateError(f"there is no cluster in {folder}; `klamm up` starts one")
