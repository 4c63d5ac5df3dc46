"""DeleteTopics (key 20), versions 1 to 6.

    3    TOPIC_DELETION_DISABLED, which is never said: topics can always be deleted
    4    flexible
    5    error messages (KIP-599)
    6    by id (KIP-516)

The rules are the controllers' (`controller/topics.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from ...proto.command_pb2 import Command, DeleteTopicsCommand, TopicReference
from ...proto.errors import ErrorCode
from ...proto.identifiers import TopicId
from .fields import milliseconds, topic_id
from .messages import NO_THROTTLE, make
from .rooms import RequestContext


class _Named(NamedTuple):
    """A topic as the request names it: by name or by id."""

    name: str | None
    topic_id: TopicId | None


async def handle(request: Any, context: RequestContext) -> Any:
    """Each topic is decided by itself; answered when this broker has forgotten them."""
    named = _named(request, context.api_version)
    times_named = Counter(named)
    answers: dict[_Named, Any] = {}
    deletable = []
    both_ways = _named_both_ways(context, times_named)
    for topic in times_named:
        error = _error(topic, times_named[topic])
        if error is not None:
            answers[topic] = _answer(context, topic, ErrorCode.INVALID_REQUEST, error)
        elif topic in both_ways:
            if topic.name is not None:  # one answer for the two
                message = "The provided topic name maps to an ID that was already supplied."
                answers[topic] = _answer(context, both_ways[topic], ErrorCode.INVALID_REQUEST, message)
        elif topic.name == "":
            answers[topic] = _answer(context, topic, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "")
        else:
            deletable.append(topic)
    if deletable:
        command = DeleteTopicsCommand(topics=map(_reference, deletable))
        names = context.rooms.image().topic_names  # afterwards the names are gone
        response = await context.rooms.admin.submit(Command(delete_topics=command), milliseconds(request.timeout))
        for topic in deletable if response.error_code else ():
            answers[topic] = _answer(context, topic, ErrorCode.of(response.error_code), response.error_message)
        for topic, outcome in zip(deletable, response.delete_topics.topics, strict=False):
            found = TopicId(bytes=outcome.topic_id) if outcome.topic_id else None
            name = topic.name
            if name is None:
                name = outcome.name or (None if found is None else names.get(found))
            error_code = ErrorCode.of(outcome.error_code)
            answers[topic] = _answer(context, _Named(name, found), error_code, outcome.error_message)
    return context.schema.DeleteTopicsResponse(
        throttle_time=NO_THROTTLE, responses=tuple(answers[topic] for topic in times_named if topic in answers)
    )


def _named(request: Any, version: int) -> list[_Named]:
    if version >= 6:
        return [_Named(topic.name, topic_id(topic.topic_id)) for topic in request.topics]
    return [_Named(name, None) for name in request.topic_names]


def _named_both_ways(context: RequestContext, times_named: Counter[_Named]) -> dict[_Named, _Named]:
    """Topics whose name and id are both in the request: neither is deleted, as one of the two may be a mistake."""
    topics = context.rooms.image().topics
    both_ways = {}
    for topic, times in times_named.items():
        found = None if topic.name is None or topic.topic_id is not None else topics.get(topic.name)
        if found is not None and times == 1:
            by_id = _Named(None, found.topic_id)
            if by_id in times_named:
                both_ways[topic] = both_ways[by_id] = _Named(topic.name, found.topic_id)
    return both_ways


def _error(topic: _Named, times_named: int) -> str | None:
    if topic.name is None and topic.topic_id is None:
        return "Neither topic name nor id were specified."
    if topic.name is not None and topic.topic_id is not None:
        return "You may not specify both topic name and topic id."
    if times_named > 1:
        return "Duplicate topic name." if topic.topic_id is None else "Duplicate topic id."
    return None


def _reference(topic: _Named) -> TopicReference:
    if topic.topic_id is not None:
        return TopicReference(topic_id=topic.topic_id.bytes)
    return TopicReference(name=topic.name or "")


def _answer(context: RequestContext, topic: _Named, error: ErrorCode, message: str) -> Any:
    return make(
        context.schema.DeletableTopicResult,
        name=topic.name,
        topic_id=topic.topic_id,
        error_code=error,
        error_message=(message or error.message) if error else None,
    )
