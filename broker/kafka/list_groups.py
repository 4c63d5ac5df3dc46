"""ListGroups (key 16), versions 0 to 5: the groups that this broker coordinates.

1    throttle time
3    flexible
4    filter by state, and the state of each (KIP-518)
5    filter by type, and the type of each (KIP-848)
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from ..groups.group_request import GroupState, GroupType
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """A filter that names no state or type at all lets everything pass, one that names unknown ones nothing."""
    states = _words(get(request, "states_filter", ()), GroupState)
    types = _words(get(request, "types_filter", ()), GroupType)
    error, groups = await context.rooms.groups.list_groups(states, types)
    schema = context.schema
    return make(
        schema.ListGroupsResponse,
        throttle_time=NO_THROTTLE,
        error_code=error,
        groups=tuple(
            make(
                schema.ListedGroup,
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=group.state.value,
                group_type=group.type.value,
            )
            for group in groups
        ),
    )


def _words(asked: Iterable[str], known: type[Enum]) -> tuple[str, ...]:
    """As they are spelled in `known`, whatever the case that the client wrote; others come as they are."""
    spelled = {str(word.value).lower(): str(word.value) for word in known}
    return tuple(dict.fromkeys(spelled.get(word.strip().lower(), word) for word in asked))
