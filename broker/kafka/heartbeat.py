"""Heartbeat (key 12), versions 0 to 4: a member of the classic protocol is alive, and asks whether to join again.

1    throttle time
3    group.instance.id (KIP-345)
4    flexible
"""

from __future__ import annotations

from typing import Any

from ..groups.group_request import HeartbeatRequest
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext


def handle(request: Any, context: RequestContext) -> Any:
    """Answered at once."""
    error = context.rooms.groups.heartbeat(
        HeartbeatRequest(
            group_id=request.group_id,
            generation_id=request.generation_id,
            member_id=request.member_id,
            group_instance_id=get(request, "group_instance_id", None),
        )
    )
    return make(context.schema.HeartbeatResponse, throttle_time=NO_THROTTLE, error_code=error)
