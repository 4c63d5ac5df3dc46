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

SMALL_CLUSTER_CONFIG: Final[Mapping[str, str]] = {"offsets.topic.num.partitions": "5"}
"""What suits brokers on one machine better than the defaults. 50 partitions of __consumer_offsets would make the first
consumer of a group wait for 150 replicas."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of a cluster, running or not."""

    role: Role
    node_id: int
    host: str
    port: int
    folder: Path
    kafka_port: int | None = None  # brokers; None in clusters that older versions made

    @property
    def name(self) -> str:
        """How users name it: "broker-1"."""
        return f"{self.role}-{self.node_id}"

    @property
    def address(self) -> str:
        """Where it serves gRPC: "127.0.0.1:9192"."""
        return self._at(self.port)

    @property
    def kafka_address(self) -> str | None:
        """Where it serves Kafka's protocol: "127.0.0.1:9092"; None if it does not."""
        return None if self.kafka_port is None else self._at(self.kafka_port)

    @property
    def ports(self) -> tuple[int, ...]:
        """All that it listens on."""
        return (self.port,) if self.kafka_port is None else (self.port, self.kafka_port)

    def _at(self, port: int) -> str:
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

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
    def kafka_bootstrap_servers(self) -> str:
        """Every broker's Kafka address, joined by commas, as Kafka's clients take it."""
        return ",".join(node.kafka_address for node in self.brokers if node.kafka_address is not None)

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
            kafka = "" if node.kafka_address is None else f",KAFKA://{node.kafka_address}"
            config["listeners"] = f"GRPC://{node.address}{kafka}"
            config["log.dirs"] = str(node.data_folder)
            if self.racks:
                config["broker.rack"] = self.racks[(node.node_id - 1) % len(self.racks)]
            config.update({**SMALL_CLUSTER_CONFIG, **self.broker_config})
        return "".join(f"{key}={value}\n" for key, value in config.items())


def lay_out(
    folder: Path,
    *,
    host: str,
    controller_ports: Sequence[int],
    broker_ports: Sequence[int],
    quorum_id: str,
    kafka_ports: Sequence[int] = (),
    broker_config: Mapping[str, str] | None = None,
    controller_config: Mapping[str, str] | None = None,
    racks: Sequence[str] = (),
) -> ClusterLayout:
    """A layout with one node per port. Each broker has one of the Kafka ports, or there are none."""
    controllers = tuple(
        NodeSpec(CONTROLLER, node_id, host, port, folder / f"{CONTROLLER}-{node_id}")
        for node_id, port in enumerate(controller_ports, start=1)
    )
    kafka: Sequence[int | None] = kafka_ports or [None] * len(broker_ports)
    brokers = tuple(
        NodeSpec(BROKER, node_id, host, port, folder / f"{BROKER}-{node_id}", kafka_port)
        for node_id, (port, kafka_port) in enumerate(zip(broker_ports, kafka, strict=True), start=1)
    )
    nodes = controllers + brokers
    return ClusterLayout(
        folder, nodes, dict(broker_config or {}), dict(controller_config or {}), quorum_id, tuple(racks)
    )
