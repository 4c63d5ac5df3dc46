"""CreateTopics (key 19), versions 2 to 7.

    4    -1 partitions or replicas: the broker's default (KIP-464)
    5    flexible; the answer tells partitions, replicas and settings (KIP-525)
    6    THROTTLING_QUOTA_EXCEEDED (KIP-599), which there is none of here
    7    topic ids in the answer (KIP-516)

The rules are the controllers' (`controller/topics.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...proto.command_pb2 import Command, CreatableTopic, CreatedTopic, CreateTopicsCommand, ReplicaAssignment
from ...proto.errors import ErrorCode
from ...proto.identifiers import TopicId
from .fields import CLUSTER_METADATA_TOPIC, milliseconds
from .messages import NO_THROTTLE, make
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """Each topic is decided by itself; answered when this broker has them."""
    times_named = Counter(topic.name for topic in request.topics)
    answers: dict[str, Any] = {}
    creatable: dict[str, Any] = {}
    for topic in request.topics:
        error = _error(topic, times_named[topic.name])
        if error is None:
            creatable[topic.name] = topic
        else:
            answers[topic.name] = _refused(context, topic.name, *error)
    if creatable:
        command = CreateTopicsCommand(topics=map(_creatable, creatable.values()), validate_only=request.validate_only)
        response = await context.rooms.admin.submit(Command(create_topics=command), milliseconds(request.timeout))
        for name in creatable if response.error_code else ():
            answers[name] = _refused(context, name, ErrorCode.of(response.error_code), response.error_message)
        for created in response.create_topics.topics:
            answers[created.name] = _answer(context, created, creatable[created.name])
    return context.schema.CreateTopicsResponse(
        throttle_time=NO_THROTTLE, topics=tuple(answers[name] for name in times_named)
    )


def _error(topic: Any, times_named: int) -> tuple[ErrorCode, str] | None:
    """What a broker says before the controllers are asked."""
    if times_named > 1:
        return ErrorCode.INVALID_REQUEST, "Duplicate topic name."
    if topic.name == CLUSTER_METADATA_TOPIC:
        return ErrorCode.INVALID_REQUEST, f"Creation of internal topic {topic.name} is prohibited."
    without_value = [config.name for config in topic.configs if config.value is None]
    if without_value:
        return ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(without_value)}"
    return None


def _creatable(topic: Any) -> CreatableTopic:
    return CreatableTopic(
        name=topic.name,
        num_partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        assignments=[
            ReplicaAssignment(partition=assignment.partition_index, broker_ids=assignment.broker_ids)
            for assignment in topic.assignments
        ],
        configs={config.name: config.value for config in topic.configs},
    )


def _refused(context: RequestContext, name: str, error: ErrorCode, message: str) -> Any:
    return make(
        context.schema.CreatableTopicResult,
        name=name,
        topic_id=None,
        error_code=error,
        error_message=message or error.message,
        configs=(),
    )


def _answer(context: RequestContext, created: CreatedTopic, topic: Any) -> Any:
    if created.error_code:
        return _refused(context, created.name, ErrorCode.of(created.error_code), created.error_message)
    rooms = context.rooms.admin
    overrides = {config.name: config.value for config in topic.configs}
    settings: tuple[Any, ...] = ()
    if context.api_version >= 5:
        settings = tuple(
            context.schema.CreatableTopicConfigs(
                name=config.name,
                value=config.value,
                read_only=config.read_only,
                config_source=config.source,
                is_sensitive=False,
            )
            for config in rooms.configs.of_topic(rooms.image(), overrides, created.replication_factor)
        )
    return make(
        context.schema.CreatableTopicResult,
        name=created.name,
        topic_id=TopicId(bytes=created.topic_id),
        error_code=ErrorCode.NONE,
        error_message=None,
        num_partitions=created.num_partitions,
        replication_factor=created.replication_factor,
        configs=settings,
    )
