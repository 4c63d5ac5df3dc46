"""ConsumerGroupHeartbeat (key 68), versions 0 and 1: join, stay in and leave a consumer group of KIP-848.

    0    a member that joins may leave its member id to the broker
    1    the client makes its member id (KIP-1082); subscription by regular expression

The rules are in `groups/consumer_group.py`. Topic ids and partition numbers that are not known are no error: what a
member says it owns counts only where it was given it.
"""

from __future__ import annotations

import base64
import uuid
from datetime import timedelta
from typing import Any, Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import TopicId
from ..groups.consumer_group_member import JOIN_EPOCH
from ..groups.group_request import ConsumerGroupHeartbeatAnswer, ConsumerGroupHeartbeatRequest, Partitions
from .messages import NO_THROTTLE, get
from .rooms import RequestContext

_CLIENT_MAKES_MEMBER_ID: Final = 1
_UNCHANGED_MS: Final = -1


async def handle(request: Any, context: RequestContext) -> Any:
    """The answer of the group; an error is one for the whole request."""
    answer = await context.rooms.groups.consumer_group_heartbeat(_asked(request, context))
    schema = context.schema
    return schema.ConsumerGroupHeartbeatResponse(
        throttle_time=NO_THROTTLE,
        error_code=answer.error,
        error_message=answer.message or None,
        member_id=answer.member_id,
        member_epoch=answer.member_epoch,
        heartbeat_interval=timedelta(milliseconds=answer.heartbeat_interval_ms),
        assignment=_assignment(answer, schema),
    )


def _asked(request: Any, context: RequestContext) -> ConsumerGroupHeartbeatRequest:
    names = request.subscribed_topic_names
    rebalance_timeout_ms = round(request.rebalance_timeout / timedelta(milliseconds=1))
    member_id = request.member_id
    if not member_id and request.member_epoch == JOIN_EPOCH and context.api_version < _CLIENT_MAKES_MEMBER_ID:
        member_id = _new_member_id()
    return ConsumerGroupHeartbeatRequest(
        group_id=request.group_id,
        member_id=member_id,
        member_epoch=request.member_epoch,
        group_instance_id=request.instance_id,
        rack_id=request.rack_id,
        rebalance_timeout_ms=None if rebalance_timeout_ms == _UNCHANGED_MS else rebalance_timeout_ms,
        subscribed_topic_names=None if names is None else tuple(names),
        subscribed_topic_regex=get(request, "subscribed_topic_regex", None),
        server_assignor=request.server_assignor,
        owned_partitions=_owned(request.topic_partitions),
        client_id=context.client_id,
        client_host=context.client_host,
    )


def _new_member_id() -> str:
    """In the form of Kafka's Uuid: 22 characters of Base64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _owned(topics: Any) -> Partitions | None:
    """A topic that is named twice owns what is said in both places; the null topic id is no topic's."""
    if topics is None:
        return None
    owned: dict[TopicId, set[int]] = {}
    for topic in topics:
        owned.setdefault(topic.topic_id or uuid.UUID(int=0), set()).update(topic.partitions)
    return {topic_id: tuple(sorted(partitions)) for topic_id, partitions in owned.items()}


def _assignment(answer: ConsumerGroupHeartbeatAnswer, schema: Any) -> Any:
    if answer.assignment is None or answer.error is not ErrorCode.NONE:
        return None
    return schema.Assignment(
        topic_partitions=tuple(
            schema.TopicPartitions(topic_id=topic_id, partitions=partitions)
            for topic_id, partitions in answer.assignment.items()
        )
    )
