"""AlterPartitionReassignments (key 45), versions 0 and 1: partitions move to other brokers (KIP-455).

    1    the number of replicas may be held to what it is (KIP-860)

Null replicas cancel a reassignment. The rules are the controllers' (`controller/reassignment.py`).
"""

from __future__ import annotations

from typing import Any

from ...proto.command_pb2 import AlterPartitionReassignmentsCommand, Command, ReassignablePartition
from ...proto.errors import ErrorCode
from .fields import milliseconds
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """Each partition by itself; answered when this broker knows of the changes."""
    entries = [
        ReassignablePartition(
            topic=topic.name,
            partition=partition.partition_index,
            replicas=partition.replicas or (),
            cancel=partition.replicas is None,
        )
        for topic in request.topics
        for partition in topic.partitions
    ]
    may_change = get(request, "allow_replication_factor_change", True)
    if not entries:
        return _answer(request, context, ErrorCode.NONE, "", [])
    command = AlterPartitionReassignmentsCommand(partitions=entries, keep_replication_factor=not may_change)
    response = await context.rooms.admin.submit(
        Command(alter_partition_reassignments=command), milliseconds(request.timeout)
    )
    outcomes = [
        (ErrorCode.of(outcome.error_code), outcome.error_message)
        for outcome in response.alter_partition_reassignments.partitions
    ]
    return _answer(request, context, ErrorCode.of(response.error_code), response.error_message, outcomes)


def _answer(
    request: Any, context: RequestContext, error: ErrorCode, message: str, outcomes: list[tuple[ErrorCode, str]]
) -> Any:
    schema, remaining = context.schema, iter(outcomes)
    topics = [
        schema.ReassignableTopicResponse(
            name=topic.name,
            partitions=tuple(
                _partition(schema, partition.partition_index, remaining) for partition in topic.partitions
            ),
        )
        for topic in (request.topics if not error else ())
    ]
    return make(
        schema.AlterPartitionReassignmentsResponse,
        throttle_time=NO_THROTTLE,
        allow_replication_factor_change=get(request, "allow_replication_factor_change", True),
        error_code=error,
        error_message=(message or error.message) if error else None,
        responses=tuple(topics),
    )


def _partition(schema: Any, partition: int, remaining: Any) -> Any:
    error, message = next(remaining)
    return schema.ReassignablePartitionResponse(
        partition_index=partition,
        error_code=error,
        error_message=(message or error.message) if error else None,
    )
