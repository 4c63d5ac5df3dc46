"""JoinGroup (key 11), versions 0 to 9: a member joins a group of the classic protocol, and waits for the others.

1    rebalance time-out (KIP-62); before, the session time-out stands for it
2    throttle time
4    MEMBER_ID_REQUIRED: a new member joins twice, so that a lost answer leaves nobody behind (KIP-394)
5    group.instance.id: static members (KIP-345)
6    flexible
7    protocol type in the answer; a protocol name that is not there is null, before it is empty (KIP-559)
8    reason (KIP-800)
9    a leader may be told to skip the assignment (KIP-814)
"""

from __future__ import annotations

from typing import Any

from ..groups.group_request import JoinAnswer, JoinRequest
from .fields import milliseconds
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext

_KNOWN_MEMBER_ID_VERSION = 4
_NULL_PROTOCOL_VERSION = 7
_SKIP_ASSIGNMENT_VERSION = 9


async def handle(request: Any, context: RequestContext) -> Any:
    """Answered when the rebalance is through."""
    answer = await context.rooms.groups.join(_request(request, context))
    return _response(answer, context)


def _request(request: Any, context: RequestContext) -> JoinRequest:
    session_timeout_ms = milliseconds(request.session_timeout)
    has_own = context.api_version >= 1
    return JoinRequest(
        group_id=request.group_id,
        member_id=request.member_id,
        group_instance_id=get(request, "group_instance_id", None),
        client_id=context.client_id,
        client_host=context.client_host,
        protocol_type=request.protocol_type,
        protocols=tuple((protocol.name, bytes(protocol.metadata)) for protocol in request.protocols),
        session_timeout_ms=session_timeout_ms,
        rebalance_timeout_ms=milliseconds(request.rebalance_timeout) if has_own else session_timeout_ms,
        require_known_member_id=context.api_version >= _KNOWN_MEMBER_ID_VERSION,
        supports_skipping_assignment=context.api_version >= _SKIP_ASSIGNMENT_VERSION,
        reason=get(request, "reason", None),
    )


def _response(answer: JoinAnswer, context: RequestContext) -> Any:
    schema = context.schema
    nothing = None if context.api_version >= _NULL_PROTOCOL_VERSION else ""
    return make(
        schema.JoinGroupResponse,
        throttle_time=NO_THROTTLE,
        error_code=answer.error,
        generation_id=answer.generation_id,
        protocol_type=answer.protocol_type,
        protocol_name=answer.protocol_name or nothing,
        leader=answer.leader,
        skip_assignment=answer.skip_assignment,
        member_id=answer.member_id,
        members=tuple(
            make(
                schema.JoinGroupResponseMember,
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                metadata=member.metadata,
            )
            for member in answer.members
        ),
    )
