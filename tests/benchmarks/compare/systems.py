"""The two that are compared, behind one face: a cluster of so many brokers, of Klamm or of Apache Kafka."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from klamm.deploy.local import LocalCluster

from .apache_kafka import ApacheKafka

KLAMM: Final = "klamm"
KAFKA: Final = "kafka"


class Cluster(Protocol):
    """Made, it has folders and ports; `start` starts the processes, `close` ends them and removes the folders."""

    @property
    def name(self) -> str:
        """KLAMM or KAFKA."""

    @property
    def servers(self) -> str:
        """Addresses for Kafka clients, joined by commas."""

    @property
    def addresses(self) -> dict[int, tuple[str, int]]:
        """Host and port of each broker by its id."""

    def start(self) -> None:
        """Starts all that is down; returns when every node takes connections."""

    def stop(self) -> None:
        """Stops all in order; the data stays."""

    def kill(self, node: int | str) -> None:
        """SIGKILL for a broker by its id, or for what `active_controller` named."""

    def start_node(self, node: int | str) -> None:
        """Starts what was killed; returns when it takes connections."""

    def active_controller(self) -> int | str:
        """The node that decides on metadata."""

    def quorum_is_whole(self) -> bool:
        """True if every controller is there and has what the active one has."""

    def pids(self) -> list[int]:
        """Of every process of the cluster."""

    def close(self) -> None:
        """Ends everything. May be called twice."""


class Klamm:
    """A LocalCluster with its defaults: so many brokers, and beside them 3 controllers, or 1 beside 1 broker."""

    name = KLAMM

    def __init__(self, brokers: int) -> None:
        self._count = 3 if brokers > 1 else 1
        self.local = LocalCluster(brokers=brokers, controllers=self._count)

    @property
    def servers(self) -> str:
        """Addresses of the Kafka listeners."""
        return self.local.kafka_bootstrap_servers

    @property
    def addresses(self) -> dict[int, tuple[str, int]]:
        """Of the Kafka listeners."""
        found = {}
        for spec in self.local.layout.brokers:
            host, _, port = (spec.kafka_address or "").rpartition(":")
            found[spec.node_id] = host, int(port)
        return found

    def start(self) -> None:
        """Does not wait for the quorum and the brokers' registration: the clients see to that, as with Kafka."""
        self.local.start(wait=False)

    def stop(self) -> None:
        """Brokers, then controllers."""
        self.local.stop(timeout_s=120.0)

    def kill(self, node: int | str) -> None:
        """SIGKILL."""
        self.local.kill(node)

    def start_node(self, node: int | str) -> None:
        """Returns when it serves."""
        self.local.start_node(node, wait=False)

    def active_controller(self) -> str:
        """:raises WaitTimeoutError: there is none within 30 s."""
        return self.local.wait_until(self.local.active_controller, what="an active controller")

    def quorum_is_whole(self) -> bool:
        """True if all controllers are at the end of the log."""
        quorum = self.local.observer.quorum()
        if quorum is None or len(quorum.nodes) != self._count:
            return False
        return all(node.reachable and 0 <= node.lag <= 1 for node in quorum.nodes)

    def pids(self) -> list[int]:
        """Brokers and controllers."""
        return [node.pid for node in self.local.nodes() if node.pid is not None]

    def close(self) -> None:
        """Leaves nothing behind."""
        self.local.close()


SYSTEMS: Final[Mapping[str, Callable[[int], Cluster]]] = {KLAMM: Klamm, KAFKA: ApacheKafka}
