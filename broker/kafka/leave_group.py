"""LeaveGroup (key 13), versions 0 to 5: members leave a group, or an administrator takes them out.

1    throttle time
3    many members at once, each by member id, by group.instance.id, or both; an error for each (KIP-345)
4    flexible
5    reason (KIP-800)
"""

from __future__ import annotations

from typing import Any

from ...proto.errors import ErrorCode
from ..groups.group_request import LeaveAnswer, LeaveRequest, LeavingMember
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext

_MANY_MEMBERS_VERSION = 3


async def handle(request: Any, context: RequestContext) -> Any:
    """Answered when it is done."""
    if context.api_version >= _MANY_MEMBERS_VERSION:
        members = tuple(
            LeavingMember(member.member_id, member.group_instance_id, get(member, "reason", None))
            for member in request.members
        )
    else:
        members = (LeavingMember(request.member_id, None),)
    return _response(await context.rooms.groups.leave(LeaveRequest(request.group_id, members)), context)


def _response(answer: LeaveAnswer, context: RequestContext) -> Any:
    schema = context.schema
    if context.api_version < _MANY_MEMBERS_VERSION:
        errors = [answer.error, *(error for _, error in answer.members)]
        first = next((error for error in errors if error is not ErrorCode.NONE), ErrorCode.NONE)
        return make(schema.LeaveGroupResponse, throttle_time=NO_THROTTLE, error_code=first)
    return make(
        schema.LeaveGroupResponse,
        throttle_time=NO_THROTTLE,
        error_code=answer.error,
        members=tuple(
            schema.MemberResponse(
                member_id=member.member_id, group_instance_id=member.group_instance_id, error_code=error
            )
            for member, error in answer.members
        ),
    )
