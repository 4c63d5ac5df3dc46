"""ListPartitionReassignments (key 46), version 0: partitions that are moving (KIP-455). Null stands for all topics."""

from __future__ import annotations

from typing import Any

from ...proto.errors import ErrorCode
from ...proto.identifiers import BrokerId
from ..description import list_reassignments
from .messages import NO_THROTTLE
from .rooms import RequestContext


def handle(request: Any, context: RequestContext) -> Any:
    """As the image of this broker says; partitions that are not moving, or do not exist, are left out."""
    wanted = None
    if request.topics is not None:
        wanted = [(topic.name, partition) for topic in request.topics for partition in topic.partition_indexes]
    topics: dict[str, list[Any]] = {}
    for moving in list_reassignments(context.rooms.image(), wanted):
        topics.setdefault(moving.topic, []).append(
            context.schema.OngoingPartitionReassignment(
                partition_index=moving.partition,
                replicas=tuple(map(BrokerId, moving.replicas)),
                adding_replicas=tuple(map(BrokerId, moving.adding_replicas)),
                removing_replicas=tuple(map(BrokerId, moving.removing_replicas)),
            )
        )
    return context.schema.ListPartitionReassignmentsResponse(
        throttle_time=NO_THROTTLE,
        error_code=ErrorCode.NONE,
        error_message=None,
        topics=tuple(
            context.schema.OngoingTopicReassignment(name=name, partitions=tuple(partitions))
            for name, partitions in topics.items()
        ),
    )
