"""One node as an operating-system process: start it, know that it serves, signal it, know it again later.

A process is known by its pid and its start time together, so that a pid that was used again is never taken for the
node. That also works from another process than the one that started it (`klamm up`, then `klamm down`).
"""

from __future__ import annotations

import enum
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from .errors import NodeStartError
from .layout import NodeSpec
from .reaper import process_is_stopped, process_start_time, signal_process

LOG_TAIL_LINES: Final = 20
READY_PREFIX: Final = b"READY "
READY_OUTPUT_BYTES_MAX: Final = 65536


class Command(Protocol):
    """How a node's process is started; `new_quorum` is true for a controller of a quorum that never was."""

    def __call__(self, spec: NodeSpec, *, new_quorum: bool) -> Sequence[str]: ...


class ProcessState(enum.Enum):
    """What a node's process is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process for good: its pid, and when it started."""

    pid: int
    start_time: str

    def state(self) -> ProcessState:
        """RUNNING, PAUSED (SIGSTOP), or DOWN: it has ended, whoever has its pid now."""
        if process_start_time(self.pid) != self.start_time:
            return ProcessState.DOWN
        return ProcessState.PAUSED if process_is_stopped(self.pid) else ProcessState.RUNNING

    def send(self, signal_number: int) -> bool:
        """Signals the process; False if it is gone."""
        return signal_process(self.pid, self.start_time, signal_number)


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """A node's process that this one started."""

    spec: NodeSpec
    popen: subprocess.Popen[bytes]
    identity: ProcessIdentity


def node_command(spec: NodeSpec, *, new_quorum: bool) -> list[str]:
    """How a node is started. -P: whatever lies in the working folder is not imported."""
    command = [sys.executable, "-P", "-m", f"klamm.{spec.role}", "--config", str(spec.config_path)]
    return [*command, "--new-quorum"] if new_quorum else command


def spawn_node(spec: NodeSpec, command: Sequence[str], *, extra_environment: Mapping[str, str]) -> NodeProcess:
    """Starts the node's process in a session of its own; its folder and configuration are there already."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment.update(extra_environment)
    with spec.log_path.open("ab") as log:
        popen = subprocess.Popen(
            command,
            cwd=spec.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C and a closed terminal are for the launcher to handle
        )
    # Between fork and wait a child keeps its pid, so this is its own start time; "" if it has ended already.
    return NodeProcess(spec, popen, ProcessIdentity(popen.pid, process_start_time(popen.pid) or ""))


def await_ready(nodes: Sequence[NodeProcess], *, timeout_s: float) -> None:
    """Waits until every one of the nodes has printed its READY line.

    :raises NodeStartError: one ended instead, or kept silent for too long.
    """
    deadline = time.monotonic() + timeout_s
    received: dict[int, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for node in nodes:
            assert node.popen.stdout is not None  # for mypy: spawn_node always makes the pipe
            selector.register(node.popen.stdout, selectors.EVENT_READ, node)
        while selector.get_map():
            events = selector.select(max(0.0, deadline - time.monotonic()))
            if not events:
                late: NodeProcess = next(iter(selector.get_map().values())).data
                raise _start_error(late.spec, f"it did not say that it serves within {timeout_s:g} s")
            for key, _ in events:
                node = key.data
                chunk = os.read(key.fd, READY_OUTPUT_BYTES_MAX)
                received[key.fd] = received.get(key.fd, b"") + chunk
                if not chunk:
                    raise _start_error(node.spec, f"it ended with exit code {node.popen.wait()}")
                if any(line.startswith(READY_PREFIX) for line in received[key.fd].split(b"\n")[:-1]):
                    selector.unregister(key.fileobj)
                    node.popen.stdout.close()  # a node says nothing more on it; its log is on stderr


def log_tail(spec: NodeSpec, lines: int = LOG_TAIL_LINES) -> str:
    """The end of the node's log."""
    try:
        with spec.log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 65536))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _start_error(spec: NodeSpec, reason: str) -> NodeStartError:
    return NodeStartError(spec.name, reason, spec.log_path, log_tail(spec))
