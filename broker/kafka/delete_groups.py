"""DeleteGroups (key 42), versions 0 to 2: groups without members are removed, with their offsets (KIP-229).

0    throttle time
2    flexible
"""

from __future__ import annotations

from typing import Any

from .messages import NO_THROTTLE, make
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """One error for each group; one that is named twice is answered once."""
    names = tuple(dict.fromkeys(request.groups_names))
    errors = await context.rooms.groups.delete_groups(names)
    schema = context.schema
    return make(
        schema.DeleteGroupsResponse,
        throttle_time=NO_THROTTLE,
        results=tuple(
            schema.DeletableGroupResult(group_id=name, error_code=error)
            for name, error in zip(names, errors, strict=True)
        ),
    )
