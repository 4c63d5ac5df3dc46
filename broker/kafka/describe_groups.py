"""DescribeGroups (key 15), versions 0 to 6: state, protocol and members of groups of the classic protocol.

1    throttle time
3    authorized operations (KIP-430)
4    group.instance.id of members (KIP-345)
5    flexible
6    error message; a group that is not there is GROUP_ID_NOT_FOUND, before it is in state Dead (KIP-1043)
"""

from __future__ import annotations

from typing import Any

from ...proto.errors import ErrorCode
from ..groups.group_request import DescribedGroup, GroupState
from . import authorized_operations
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext

_NOT_FOUND_VERSION = 6


async def handle(request: Any, context: RequestContext) -> Any:
    """One answer for each group, in the order asked for."""
    groups = await context.rooms.groups.describe_groups(tuple(request.groups))
    asked = get(request, "include_authorized_operations", False)
    return make(
        context.schema.DescribeGroupsResponse,
        throttle_time=NO_THROTTLE,
        groups=tuple(_group(group, asked, context) for group in groups),
    )


def _group(group: DescribedGroup, asked: bool, context: RequestContext) -> Any:
    schema = context.schema
    error, message = _error(group, context.api_version)
    state = "" if error not in (ErrorCode.NONE, ErrorCode.GROUP_ID_NOT_FOUND) else group.state.value
    may_tell = asked and error is ErrorCode.NONE
    return make(
        schema.DescribedGroup,
        error_code=error,
        error_message=message,
        group_id=group.group_id,
        group_state=state,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol_name,
        members=tuple(
            make(
                schema.DescribedGroupMember,
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in group.members
        ),
        authorized_operations=authorized_operations.GROUP if may_tell else authorized_operations.NOT_ASKED,
    )


def _error(group: DescribedGroup, version: int) -> tuple[ErrorCode, str | None]:
    """The error and its message; the same group that is not there is one or the other, by version."""
    absent = group.error is ErrorCode.GROUP_ID_NOT_FOUND
    absent = absent or (group.error is ErrorCode.NONE and group.state is GroupState.DEAD)
    if absent and version < _NOT_FOUND_VERSION:
        return ErrorCode.NONE, None
    if absent:
        return ErrorCode.GROUP_ID_NOT_FOUND, group.message or f"Group {group.group_id} not found."
    return group.error, group.message or group.error.message or None
