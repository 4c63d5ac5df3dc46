"""SyncGroup (key 14), versions 0 to 5: the leader hands in the assignment, each member takes its part of it.

1    throttle time
3    group.instance.id (KIP-345)
4    flexible
5    protocol type and name, both of which must be told, and are in the answer (KIP-559)
"""

from __future__ import annotations

from typing import Any

from ...proto.errors import ErrorCode
from ..groups.group_request import SyncAnswer, SyncRequest
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext

_PROTOCOL_VERSION = 5


async def handle(request: Any, context: RequestContext) -> Any:
    """Answered when the leader's assignment is committed."""
    protocol_type, protocol_name = get(request, "protocol_type", None), get(request, "protocol_name", None)
    if context.api_version >= _PROTOCOL_VERSION and (protocol_type is None or protocol_name is None):
        return _response(SyncAnswer(ErrorCode.INCONSISTENT_GROUP_PROTOCOL), context)
    answer = await context.rooms.groups.sync(
        SyncRequest(
            group_id=request.group_id,
            generation_id=request.generation_id,
            member_id=request.member_id,
            group_instance_id=get(request, "group_instance_id", None),
            protocol_type=protocol_type,
            protocol_name=protocol_name,
            assignments={each.member_id: bytes(each.assignment) for each in request.assignments},
        )
    )
    return _response(answer, context)


def _response(answer: SyncAnswer, context: RequestContext) -> Any:
    return make(
        context.schema.SyncGroupResponse,
        throttle_time=NO_THROTTLE,
        error_code=answer.error,
        protocol_type=answer.protocol_type,
        protocol_name=answer.protocol_name,
        assignment=answer.assignment,
    )
