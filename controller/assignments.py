"""Replica assignments that users write by hand, and new partitions from replicas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..cluster.image import MetadataImage, PartitionImage
from ..proto.command_pb2 import ReplicaAssignment
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId, LeaderEpoch, PartitionEpoch, TopicId
from .result import ItemError


def replicas_error(
    image: MetadataImage, replicas: Sequence[int], replication_factor: int | None = None
) -> ItemError | None:
    """Why these cannot be the replicas of a partition (Kafka's validateManualPartitionAssignment)."""
    if not replicas:
        return _invalid("The manual partition assignment includes an empty replica list.")
    for broker_id in sorted(replicas):
        if BrokerId(broker_id) not in image.brokers:
            return _invalid(
                f"The manual partition assignment includes broker {broker_id}, but no such broker is registered."
            )
    if len(set(replicas)) != len(replicas):
        return _invalid("The manual partition assignment includes a broker more than once.")
    if replication_factor is not None and len(replicas) != replication_factor:
        return _invalid(
            f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but this is not "
            f"consistent with previous partitions, which have {replication_factor} replica(s)."
        )
    return None


def assignments_error(
    image: MetadataImage,
    assignments: Sequence[ReplicaAssignment],
    first_partition: int,
    replication_factor: int | None,
) -> ItemError | None:
    """Why these cannot be the assignments of the partitions from `first_partition` on."""
    seen: set[int] = set()
    for assignment in assignments:
        if assignment.partition in seen:
            return _invalid(f"Found multiple manual partition assignments for partition {assignment.partition}")
        seen.add(assignment.partition)
        error = replicas_error(image, assignment.broker_ids, replication_factor)
        if error is not None:
            return error
        replication_factor = len(assignment.broker_ids)
        if not any(image.is_active(BrokerId(broker_id)) for broker_id in assignment.broker_ids):
            return _invalid(
                "All brokers specified in the manual partition assignment for partition "
                f"{assignment.partition} are fenced or in controlled shutdown."
            )
    if seen != set(range(first_partition, first_partition + len(assignments))):
        return _invalid(f"partitions should be a consecutive integer sequence from {first_partition} on")
    return None


def assigned_replicas(assignments: Iterable[ReplicaAssignment]) -> list[tuple[BrokerId, ...]]:
    """Replicas in the order of their partitions."""
    ordered = sorted(assignments, key=lambda assignment: assignment.partition)
    return [tuple(BrokerId(broker_id) for broker_id in assignment.broker_ids) for assignment in ordered]


def new_partition(
    image: MetadataImage, topic_id: TopicId, partition: int, replicas: Sequence[BrokerId]
) -> PartitionImage:
    """A new partition; every active replica is in sync, as there is nothing to copy. One must be active."""
    isr = tuple(replica for replica in replicas if image.is_active(replica))
    return PartitionImage(
        topic_id=topic_id,
        partition=partition,
        replicas=tuple(replicas),
        isr=isr,
        leader=isr[0],
        leader_epoch=LeaderEpoch(0),
        partition_epoch=PartitionEpoch(0),
    )


def _invalid(message: str) -> ItemError:
    return ItemError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
