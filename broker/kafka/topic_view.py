"""Topics and brokers as clients of the Kafka listener are shown them; what Metadata and its kin have in common.

Only endpoints of the KAFKA listener are shown. A broker without one, or fenced, is not there for these clients, and its
replicas are offline to them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...cluster.image import BrokerRegistration, Endpoint, MetadataImage, PartitionImage
from ...proto.errors import ErrorCode
from ...proto.identifiers import KAFKA_LISTENER, NONE_ID, BrokerId


class LeaderView(NamedTuple):
    """Who leads a partition, for clients of this listener: -1 and an error where nobody does."""

    leader_id: int
    error: ErrorCode


def endpoint_of(broker: BrokerRegistration | None) -> Endpoint | None:
    """Where the broker's Kafka listener is; None if it has none."""
    return None if broker is None else broker.endpoints.get(KAFKA_LISTENER)


def alive_brokers(image: MetadataImage) -> dict[BrokerId, Endpoint]:
    """Brokers that are not fenced, by id in order, with their Kafka endpoint."""
    return {
        broker_id: broker.endpoints[KAFKA_LISTENER]
        for broker_id, broker in sorted(image.brokers.items())
        if not broker.fenced and KAFKA_LISTENER in broker.endpoints
    }


def controller_id(broker_id: BrokerId, alive: dict[BrokerId, Endpoint]) -> int:
    """A live broker, as KRaft brokers say: clients cannot reach the controllers, and any broker passes commands on."""
    if broker_id in alive:
        return broker_id
    return next(iter(alive), NONE_ID)


def leader_of(image: MetadataImage, partition: PartitionImage) -> LeaderView:
    """As `KRaftMetadataCache.getPartitionMetadata` finds it."""
    leader = partition.leader
    broker = None if leader is None else image.brokers.get(leader)
    if leader is None or broker is None:
        return LeaderView(NONE_ID, ErrorCode.LEADER_NOT_AVAILABLE)
    if KAFKA_LISTENER not in broker.endpoints:
        return LeaderView(NONE_ID, ErrorCode.LISTENER_NOT_FOUND)
    return LeaderView(leader, ErrorCode.NONE)


def offline_replicas(partition: PartitionImage, alive: dict[BrokerId, Endpoint]) -> tuple[BrokerId, ...]:
    """Those on brokers that are not alive, or have no Kafka listener."""
    # A loop: nearly always there is none, and then nothing is made.
    for replica in partition.replicas:
        if replica not in alive:
            return tuple(each for each in partition.replicas if each not in alive)
    return ()


def broker_fields(image: MetadataImage, broker_id: BrokerId, endpoint: Endpoint) -> dict[str, Any]:
    """Host, port and rack, as every answer spells them."""
    return {"host": endpoint.host, "port": endpoint.port, "rack": image.brokers[broker_id].rack}
