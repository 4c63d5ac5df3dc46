"""CreatePartitions (key 37), versions 0 to 3.

    2    flexible
    3    THROTTLING_QUOTA_EXCEEDED (KIP-599), which there is none of here

The rules are the controllers' (`controller/partitions.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...proto.command_pb2 import Command, CreatePartitionsCommand, CreatePartitionsTopic, ReplicaAssignment
from ...proto.errors import ErrorCode
from .fields import milliseconds
from .messages import NO_THROTTLE
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """Each topic is decided by itself; answered when this broker knows of the new partitions."""
    times_named = Counter(topic.name for topic in request.topics)
    answers = {
        name: _answer(context, name, ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        for name, times in times_named.items()
        if times > 1
    }
    growing = [topic for topic in request.topics if topic.name not in answers]
    if growing:
        image = context.rooms.image()
        sizes = {name: len(topic.partitions) for name in times_named if (topic := image.topics.get(name))}
        topics = [_growing(topic, sizes.get(topic.name, 0)) for topic in growing]
        command = CreatePartitionsCommand(topics=topics, validate_only=request.validate_only)
        response = await context.rooms.admin.submit(Command(create_partitions=command), milliseconds(request.timeout))
        for topic in growing if response.error_code else ():
            error = ErrorCode.of(response.error_code)
            answers[topic.name] = _answer(context, topic.name, error, response.error_message)
        for outcome in response.create_partitions.topics:
            error = ErrorCode.of(outcome.error_code)
            answers[outcome.name] = _answer(context, outcome.name, error, outcome.error_message)
    return context.schema.CreatePartitionsResponse(
        throttle_time=NO_THROTTLE, results=tuple(answers[name] for name in times_named)
    )


def _growing(topic: Any, first_partition: int) -> CreatePartitionsTopic:
    """Kafka's request gives the new partitions no numbers: they go on from those that there are."""
    return CreatePartitionsTopic(
        name=topic.name,
        count=topic.count,
        manual=topic.assignments is not None,
        assignments=[
            ReplicaAssignment(partition=number, broker_ids=assignment.broker_ids)
            for number, assignment in enumerate(topic.assignments or (), first_partition)
        ],
    )


def _answer(context: RequestContext, name: str, error: ErrorCode, message: str) -> Any:
    return context.schema.CreatePartitionsTopicResult(
        name=name, error_code=error, error_message=(message or error.message) if error else None
    )
