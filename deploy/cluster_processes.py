"""The processes of a cluster's nodes together: start several at once, and kill, pause, resume and stop each.

It knows nothing of quorums and brokers' states; that is asked over gRPC (cluster_observer.py).
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from .errors import NodeStartError, NodeStateError
from .layout import CONTROLLER, ClusterLayout, NodeSpec
from .node_process import Command, NodeProcess, ProcessIdentity, ProcessState, await_ready, node_command, spawn_node
from .quorum_formation import is_formed, mark_formed

POLL_SECONDS: Final = 0.005


class ClusterProcesses:
    """Which process each node is, and what can be done to it."""

    def __init__(
        self,
        layout: ClusterLayout,
        *,
        command: Command = node_command,
        environment: Mapping[str, str] | None = None,
        on_spawn: Callable[[NodeProcess], None] = lambda _: None,
        identities: Mapping[str, ProcessIdentity] | None = None,
    ) -> None:
        """`identities` are those of processes that an earlier launcher started, by node name."""
        self._layout = layout
        self._command = command
        self._environment = dict(environment or {})
        self._on_spawn = on_spawn
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.identities: dict[str, ProcessIdentity] = dict(identities or {})

    def state(self, spec: NodeSpec) -> ProcessState:
        """What the node's process is doing; DOWN if it never started."""
        identity = self.identities.get(spec.name)
        if identity is None:
            return ProcessState.DOWN
        state = identity.state()
        child = self._children.get(spec.name)
        if state is ProcessState.DOWN and child is not None:
            child.wait()  # it has ended: take its exit code, so that no zombie stays
        return state

    def pid(self, spec: NodeSpec) -> int | None:
        """The node's pid while it lives."""
        return None if self.state(spec) is ProcessState.DOWN else self.identities[spec.name].pid

    def spawn(self, specs: Sequence[NodeSpec]) -> list[NodeProcess]:
        """Starts these nodes' processes, all at once, and returns without waiting for them.

        :raises NodeStateError: one of them is running.
        """
        for spec in specs:
            if self.state(spec) is not ProcessState.DOWN:
                raise NodeStateError(f"{spec.name} is {self.state(spec).value} already (pid {self.pid(spec)})")
        for spec in specs:
            spec.folder.mkdir(parents=True, exist_ok=True)
            spec.config_path.write_text(self._layout.config_text(spec), encoding="utf-8")
        started = []
        for spec in specs:
            new_quorum = spec.role == CONTROLLER and not is_formed(self._layout.folder)
            command = self._command(spec, new_quorum=new_quorum)
            node = spawn_node(spec, command, extra_environment=self._environment)
            self.identities[spec.name], self._children[spec.name] = node.identity, node.popen
            started.append(node)
            self._on_spawn(node)
        return started

    def await_ready(self, started: Sequence[NodeProcess], *, timeout_s: float) -> None:
        """Waits until all of them serve; where one does not, kills those that were started with it.

        :raises NodeStartError: one did not come to serve.
        """
        try:
            await_ready(started, timeout_s=timeout_s)
        except NodeStartError:
            for node in started:
                node.popen.kill()
                node.popen.wait()
                if node.popen.stdout is not None:
                    node.popen.stdout.close()
            raise
        if {spec.name for spec in self._layout.controllers} <= {node.spec.name for node in started}:
            mark_formed(self._layout.folder)

    def kill(self, spec: NodeSpec) -> None:
        """SIGKILL, and waits until the process is gone.

        :raises NodeStateError: it is down.
        """
        self._signal(spec, signal.SIGKILL)
        self.wait_down(spec, timeout_s=10.0)

    def pause(self, spec: NodeSpec) -> None:
        """SIGSTOP: it keeps its connections and does nothing.

        :raises NodeStateError: it is not running.
        """
        if self.state(spec) is ProcessState.PAUSED:
            raise NodeStateError(f"{spec.name} is paused already")
        self._signal(spec, signal.SIGSTOP)
        self._wait(lambda: self.state(spec) is not ProcessState.RUNNING, timeout_s=10.0)

    def resume(self, spec: NodeSpec) -> None:
        """SIGCONT.

        :raises NodeStateError: it is not paused.
        """
        if self.state(spec) is ProcessState.RUNNING:
            raise NodeStateError(f"{spec.name} is not paused")
        self._signal(spec, signal.SIGCONT)

    def stop(self, spec: NodeSpec, *, timeout_s: float) -> bool:
        """Asks the node to stop in good order and waits; kills it after the time-out.

        Returns False if it had to be killed; True also if it was down.
        """
        identity = self.identities.get(spec.name)
        if identity is None or not identity.send(signal.SIGTERM):
            return True
        identity.send(signal.SIGCONT)  # a paused process takes no SIGTERM
        if self.wait_down(spec, timeout_s=timeout_s):
            return True
        identity.send(signal.SIGKILL)
        self.wait_down(spec, timeout_s=10.0)
        return False

    def stop_all(self, *, timeout_s: float, on_progress: Callable[[str], None] = lambda _: None) -> list[str]:
        """Controlled shutdown of the whole: brokers one after another, each moving its leaderships, then controllers.

        Tells what it is about to do; returns the names of the nodes that had to be killed.
        """
        killed = []
        for spec in self._layout.brokers:
            if self.state(spec) is not ProcessState.DOWN:
                on_progress(f"stopping {spec.name}")
                if not self.stop(spec, timeout_s=timeout_s):
                    killed.append(spec.name)
        controllers = [spec for spec in self._layout.controllers if self.state(spec) is not ProcessState.DOWN]
        if controllers:
            on_progress(f"stopping {', '.join(spec.name for spec in controllers)}")
        for spec in controllers:  # all at once: one after another, the last ones would only elect leaders
            identity = self.identities.get(spec.name)
            if identity is not None and identity.send(signal.SIGTERM):
                identity.send(signal.SIGCONT)
        return killed + [spec.name for spec in controllers if not self.stop(spec, timeout_s=timeout_s)]

    def wait_down(self, spec: NodeSpec, *, timeout_s: float) -> bool:
        """Waits until the process is gone; False if it is not by then."""
        return self._wait(lambda: self.state(spec) is ProcessState.DOWN, timeout_s=timeout_s)

    def _signal(self, spec: NodeSpec, signal_number: int) -> None:
        identity = self.identities.get(spec.name)
        if identity is None or not identity.send(signal_number):
            raise NodeStateError(f"{spec.name} is down")

    @staticmethod
    def _wait(condition: Callable[[], bool], *, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True
