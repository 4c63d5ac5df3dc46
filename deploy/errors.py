"""What can go wrong when a cluster is started and handled.

DeployError                 what to say to the user, in one or two sentences; exit code 1
├── PortInUseError          a port that a node needs is another program's
├── NodeStartError          a node ended or kept silent instead of saying that it serves; shows the end of its log
├── NodeStateError          that cannot be done to a node in this state (a dead one paused, a running one started)
├── ClusterStateError       the cluster as a whole is not where the command needs it
└── WaitTimeoutError        what was waited for did not come in time; also a TimeoutError
"""

from __future__ import annotations

from pathlib import Path


class DeployError(Exception):
    """Something about a local cluster failed; the message says what and what to do."""


class PortInUseError(DeployError):
    """A port that a node needs belongs to another program."""

    def __init__(self, host: str, port: int, owner: str | None) -> None:
        super().__init__(f"port {port} on {host} is in use by {owner or 'another program'}")
        self.port = port
        self.owner = owner


class NodeStartError(DeployError):
    """A node did not come to serve."""

    def __init__(self, node: str, reason: str, log_path: Path, log_tail: str) -> None:
        shown = log_tail.rstrip() or "(the log is empty)"
        super().__init__(f"{node} did not start: {reason}\nlast lines of {log_path}:\n{shown}")
        self.node = node
        self.log_path = log_path


class NodeStateError(DeployError):
    """The node is not in a state in which this can be done to it."""


class ClusterStateError(DeployError):
    """The cluster is not in a state in which this can be done."""


class WaitTimeoutError(DeployError, TimeoutError):
    """What was waited for did not happen in time."""
