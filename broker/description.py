"""What a broker tells of the cluster: answers to GetMetadata, DescribeCluster and the like, from its image alone.

Pure. An answer may be behind the controller's truth by what has not been replayed yet; epochs let a client see that.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..cluster.image import BrokerRegistration, MetadataImage, PartitionImage, TopicImage
from ..cluster.topic_config import is_internal_topic, topic_name_error
from ..proto import broker_pb2, metadata_pb2
from ..proto.errors import ErrorCode
from ..proto.identifiers import GRPC_LISTENER, NONE_ID, BrokerId


def describe_broker(broker: BrokerRegistration) -> broker_pb2.BrokerDescription:
    grpc_endpoint = broker.endpoints.get(GRPC_LISTENER)
    return broker_pb2.BrokerDescription(
        broker_id=broker.broker_id,
        host=grpc_endpoint.host if grpc_endpoint else "",
        port=grpc_endpoint.port if grpc_endpoint else 0,
        rack=broker.rack or "",
        broker_epoch=broker.broker_epoch,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        endpoints=[
            metadata_pb2.Endpoint(name=name, host=endpoint.host, port=endpoint.port)
            for name, endpoint in sorted(broker.endpoints.items())
        ],
    )


def describe_partition(image: MetadataImage, partition: PartitionImage) -> broker_pb2.PartitionDescription:
    offline = [replica for replica in partition.replicas if not _is_alive(image, replica)]
    return broker_pb2.PartitionDescription(
        partition=partition.partition,
        error_code=ErrorCode.NONE if partition.leader is not None else ErrorCode.LEADER_NOT_AVAILABLE,
        leader_id=NONE_ID if partition.leader is None else partition.leader,
        leader_epoch=partition.leader_epoch,
        replicas=partition.replicas,
        isr=partition.isr,
        offline_replicas=offline,
        partition_epoch=partition.partition_epoch,
        adding_replicas=partition.adding_replicas,
        removing_replicas=partition.removing_replicas,
        eligible_leader_replicas=partition.eligible_leader_replicas,
    )


def describe_topic(image: MetadataImage, topic: TopicImage) -> broker_pb2.TopicDescription:
    return broker_pb2.TopicDescription(
        name=topic.name,
        topic_id=topic.topic_id.bytes,
        partitions=[describe_partition(image, partition) for partition in topic.partitions],
        is_internal=is_internal_topic(topic.name),
    )


def missing_topic_error(name: str) -> ErrorCode:
    """What is said of a name that no topic has; if none can have it, so that nobody waits for it."""
    valid = topic_name_error(name) is None
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if valid else ErrorCode.INVALID_TOPIC_EXCEPTION


def describe_missing_topic(name: str) -> broker_pb2.TopicDescription:
    """A name that no topic has, with its error."""
    return broker_pb2.TopicDescription(name=name, error_code=missing_topic_error(name))


def describe_brokers(image: MetadataImage) -> broker_pb2.MetadataResponse:
    """The answer to GetMetadata without topics: brokers that are not fenced, and who controls them."""
    return broker_pb2.MetadataResponse(
        cluster_id=image.cluster_id or "",
        controller_id=NONE_ID if image.controller_id is None else image.controller_id,
        brokers=[describe_broker(broker) for _, broker in sorted(image.brokers.items()) if not broker.fenced],
        metadata_end_offset=image.end_offset,
    )


def leader_hint(image: MetadataImage, topic: str, partition: int) -> broker_pb2.LeaderHint | None:
    """Who leads a partition as this broker knows it (KIP-951); None for a partition it does not know."""
    topic_image = image.topics.get(topic)
    if topic_image is None or not 0 <= partition < len(topic_image.partitions):
        return None
    state = topic_image.partitions[partition]
    hint = broker_pb2.LeaderHint(leader_id=NONE_ID, leader_epoch=state.leader_epoch)
    if state.leader is None:
        return hint
    hint.leader_id = state.leader
    broker = image.brokers.get(state.leader)
    endpoint = broker.endpoints.get(GRPC_LISTENER) if broker else None
    if endpoint is not None:
        hint.host, hint.port = endpoint.host, endpoint.port
    return hint


def list_reassignments(
    image: MetadataImage, wanted: Iterable[tuple[str, int]] | None
) -> list[broker_pb2.OngoingReassignment]:
    """Partitions that are moving (KIP-455), of those wanted (None: all)."""
    chosen = None if wanted is None else set(wanted)
    return [
        broker_pb2.OngoingReassignment(
            topic=name,
            partition=partition.partition,
            replicas=partition.replicas,
            adding_replicas=partition.adding_replicas,
            removing_replicas=partition.removing_replicas,
        )
        for name, topic in sorted(image.topics.items())
        for partition in topic.partitions
        if (partition.adding_replicas or partition.removing_replicas)
        and (chosen is None or (name, partition.partition) in chosen)
    ]


def _is_alive(image: MetadataImage, broker_id: BrokerId) -> bool:
    broker = image.brokers.get(broker_id)
    return broker is not None and not broker.fenced
