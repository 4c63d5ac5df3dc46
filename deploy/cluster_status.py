"""The state of a local cluster as values: nodes, quorum, brokers, topics in trouble. For tables and for --json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .cluster_processes import ClusterProcesses
from .layout import CONTROLLER, ClusterLayout, NodeSpec
from .node_process import ProcessState

if TYPE_CHECKING:
    from ..proto.broker_pb2 import BrokerDescription, DescribeClusterResponse, MetadataResponse, TopicDescription
    from ..proto.controller_pb2 import DescribeQuorumResponse
    from .cluster_observer import ClusterObserver


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node's process and, where it is known, what the cluster says of it."""

    node: str
    role: str
    node_id: int
    pid: int | None
    address: str
    data_folder: str
    log: str
    process: str  # running, paused, down
    lag: int | None = None  # controllers: Raft entries behind the leader
    is_leader: bool = False  # controllers: it is the active one
    fenced: bool | None = None  # brokers; None: not registered, or nobody answers
    broker_epoch: int | None = None
    kafka_address: str | None = None  # brokers; `address` is where they serve gRPC

    @property
    def state(self) -> str:
        """All of it in two or three words."""
        if self.process != ProcessState.RUNNING.value:
            return self.process
        if self.role == CONTROLLER:
            return "running, leader" if self.is_leader else "running"
        return "running, fenced" if self.fenced else "running"


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A topic's partitions that lack a replica or a leader."""

    topic: str
    partitions: int
    under_replicated: tuple[int, ...]
    offline: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Everything that `klamm status` tells."""

    cluster_id: str | None
    bootstrap_servers: str
    controller_epoch: int | None
    active_controller: str | None
    nodes: tuple[NodeStatus, ...]
    topics: tuple[TopicStatus, ...] | None  # None: no broker answers
    kafka_bootstrap_servers: str = ""  # "" for a cluster without Kafka listeners

    @property
    def nodes_down(self) -> tuple[NodeStatus, ...]:
        """Nodes that do not run."""
        return tuple(node for node in self.nodes if node.process == ProcessState.DOWN.value)

    @property
    def healthy(self) -> bool:
        """All run, there is an active controller, every broker is unfenced, every partition has all its replicas."""
        return (
            all(node.process == ProcessState.RUNNING.value and not node.fenced for node in self.nodes)
            and all(node.fenced is False for node in self.nodes if node.role != CONTROLLER)
            and self.active_controller is not None
            and self.topics is not None
            and not any(topic.under_replicated or topic.offline for topic in self.topics)
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "healthy": self.healthy}


def process_status(layout: ClusterLayout, processes: ClusterProcesses) -> ClusterStatus:
    """What can be told without asking the nodes."""
    nodes = tuple(_node_status(spec, processes, None, None) for spec in layout.nodes)
    return ClusterStatus(
        None, layout.bootstrap_servers, None, None, nodes, None, kafka_bootstrap_servers=layout.kafka_bootstrap_servers
    )


def cluster_status(layout: ClusterLayout, processes: ClusterProcesses, observer: ClusterObserver) -> ClusterStatus:
    """The whole, as far as the nodes answer."""
    quorum = observer.quorum()
    cluster = observer.cluster()
    metadata = observer.metadata()
    active = quorum.active_controller_id if quorum is not None and quorum.active_controller_id >= 0 else None
    return ClusterStatus(
        cluster_id=(quorum.cluster_id if quorum is not None else "") or None,
        bootstrap_servers=layout.bootstrap_servers,
        controller_epoch=quorum.controller_epoch if quorum is not None else None,
        active_controller=None if active is None else f"{CONTROLLER}-{active}",
        nodes=tuple(_node_status(spec, processes, quorum, cluster) for spec in layout.nodes),
        topics=_topics(metadata),
        kafka_bootstrap_servers=layout.kafka_bootstrap_servers,
    )


def _node_status(
    spec: NodeSpec,
    processes: ClusterProcesses,
    quorum: DescribeQuorumResponse | None,
    cluster: DescribeClusterResponse | None,
) -> NodeStatus:
    broker = None if spec.role == CONTROLLER else _broker(spec, cluster)
    lag, is_leader = _raft(spec, quorum) if spec.role == CONTROLLER else (None, False)
    return NodeStatus(
        node=spec.name,
        role=spec.role,
        node_id=spec.node_id,
        pid=processes.pid(spec),
        address=spec.address,
        data_folder=str(spec.data_folder),
        log=str(spec.log_path),
        process=processes.state(spec).value,
        lag=lag,
        is_leader=is_leader,
        fenced=None if broker is None else broker.fenced,
        broker_epoch=None if broker is None else broker.broker_epoch,
        kafka_address=spec.kafka_address,
    )


def _raft(spec: NodeSpec, quorum: DescribeQuorumResponse | None) -> tuple[int | None, bool]:
    for node in quorum.nodes if quorum is not None else ():
        if node.controller_id == spec.node_id:
            return (node.lag if node.lag >= 0 else None), node.is_leader
    return None, False


def _broker(spec: NodeSpec, cluster: DescribeClusterResponse | None) -> BrokerDescription | None:
    for broker in cluster.brokers if cluster is not None else ():
        if broker.broker_id == spec.node_id:
            return broker
    return None


def _topics(metadata: MetadataResponse | None) -> tuple[TopicStatus, ...] | None:
    if metadata is None:
        return None
    return tuple(_topic(topic) for topic in sorted(metadata.topics, key=lambda topic: topic.name))


def _topic(topic: TopicDescription) -> TopicStatus:
    return TopicStatus(
        topic=topic.name,
        partitions=len(topic.partitions),
        under_replicated=tuple(p.partition for p in topic.partitions if len(p.isr) < len(p.replicas)),
        offline=tuple(p.partition for p in topic.partitions if p.leader_id < 0),
    )
