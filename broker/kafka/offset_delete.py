"""OffsetDelete (key 47), version 0: an administrator removes single offsets of a group (KIP-496)."""

from __future__ import annotations

from typing import Any

from ...proto.errors import ErrorCode
from .messages import NO_THROTTLE, make
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """One error for each partition, or one for the group as a whole and no partitions."""
    partitions = [(topic.name, each.partition_index) for topic in request.topics for each in topic.partitions]
    answer = await context.rooms.groups.delete_offsets(request.group_id, partitions)
    schema = context.schema
    errors = iter(answer.errors)
    topics = request.topics if answer.error is ErrorCode.NONE else ()
    return make(
        schema.OffsetDeleteResponse,
        throttle_time=NO_THROTTLE,
        error_code=answer.error,
        topics=tuple(
            schema.OffsetDeleteResponseTopic(
                name=topic.name,
                partitions=tuple(
                    schema.OffsetDeleteResponsePartition(partition_index=each.partition_index, error_code=next(errors))
                    for each in topic.partitions
                ),
            )
            for topic in topics
        ),
    )
