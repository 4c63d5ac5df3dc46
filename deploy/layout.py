"""Where the parts of a local cluster lie: nodes, their names, ports, folders and configuration text.

    <folder>/controller-1/{node.properties, log.txt, data/}     one folder per node, the same for a cluster in
    <folder>/broker-1/{node.properties, log.txt, data/}         a temporary folder and for the one of `klamm up`

Brokers are numbered from 1, controllers too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Role = Literal["controller", "broker"]
CONTROLLER: Final = "controller"
BROKER: Final = "broker"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of a cluster, running or not."""

    role: Role
    node_id: int
    host: str
    port: int
    folder: Path

    @property
    def name(self) -> str:
        """How users name it: "broker-1"."""
        return f"{self.role}-{self.node_id}"

    @property
    def address(self) -> str:
        """Where it serves gRPC: "127.0.0.1:9192"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def config_path(self) -> Path:
        """The properties file it is started with."""
        return self.folder / "node.properties"

    @property
    def log_path(self) -> Path:
        """What it logs, one start after the other."""
        return self.folder / "log.txt"

    @property
    def data_folder(self) -> Path:
        """A broker's partitions; a controller's Raft journal and snapshots."""
        return self.folder / "data"


@dataclass(frozen=True, slots=True)
class ClusterLayout:
    """All nodes of a cluster, controllers first, and what they are configured with beyond the necessary."""

    folder: Path
    nodes: tuple[NodeSpec, ...]
    broker_config: Mapping[str, str]
    controller_config: Mapping[str, str]
    quorum_id: str
    racks: tuple[str, ...] = ()

    @property
    def controllers(self) -> tuple[NodeSpec, ...]:
        """The controllers, by id."""
        return tuple(node for node in self.nodes if node.role == CONTROLLER)

    @property
    def brokers(self) -> tuple[NodeSpec, ...]:
        """The brokers, by id."""
        return tuple(node for node in self.nodes if node.role == BROKER)

    @property
    def bootstrap_servers(self) -> str:
        """Every broker's gRPC address, joined by commas, as clients take it."""
        return ",".join(node.address for node in self.brokers)

    @property
    def controller_addresses(self) -> tuple[str, ...]:
        """Every controller's address."""
        return tuple(node.address for node in self.controllers)

    def node(self, name: int | str) -> NodeSpec:
        """The node of this name; a number, or digits, is a broker's id.

        :raises KeyError: there is none.
        """
        wanted = f"{BROKER}-{name}" if isinstance(name, int) or name.isdigit() else name
        for node in self.nodes:
            if node.name == wanted:
                return node
        raise KeyError(f"no node {wanted!r}; there are {', '.join(node.name for node in self.nodes)}")

    def config_text(self, node: NodeSpec) -> str:
        """The properties text that a node of this cluster is started with."""
        config: dict[str, str] = {"node.id": str(node.node_id)}
        if node.role == CONTROLLER:
            config["controller.quorum.id"] = self.quorum_id
            config["controller.quorum.voters"] = ",".join(f"{c.node_id}@{c.address}" for c in self.controllers)
            config["listeners"] = f"CONTROLLER://{node.address}"
            config["metadata.log.dir"] = str(node.data_folder)
            config.update(self.controller_config)
        else:
            config["controller.quorum.bootstrap.servers"] = ",".join(self.controller_addresses)
            config["listeners"] = f"GRPC://{node.address}"
            config["log.dirs"] = str(node.data_folder)
            if self.racks:
                config["broker.rack"] = self.racks[(node.node_id - 1) % len(self.racks)]
            config.update(self.broker_config)
        return "".join(f"{key}={value}\n" for key, value in config.items())


def lay_out(
    folder: Path,
    *,
    host: str,
    controller_ports: Sequence[int],
    broker_ports: Sequence[int],
    quorum_id: str,
    broker_config: Mapping[str, str] | None = None,
    controller_config: Mapping[str, str] | None = None,
    racks: Sequence[str] = (),
) -> ClusterLayout:
    """A layout with one node per port."""
    ports: list[tuple[Role, Sequence[int]]] = [(CONTROLLER, controller_ports), (BROKER, broker_ports)]
    nodes = tuple(
        NodeSpec(role, node_id, host, port, folder / f"{role}-{node_id}")
        for role, role_ports in ports
        for node_id, port in enumerate(role_ports, start=1)
    )
    return ClusterLayout(
        folder, nodes, dict(broker_config or {}), dict(controller_config or {}), quorum_id, tuple(racks)
    )
