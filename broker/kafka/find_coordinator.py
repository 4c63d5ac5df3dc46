"""FindCoordinator (key 10), versions 0 to 6: which broker coordinates a group.

1    key types: groups and transactions; an error message
3    flexible
4    many keys in one request (KIP-699)
6    key type 2, share groups (KIP-932)

Only groups have coordinators here. For transactions and share groups the answer is INVALID_REQUEST, as Apache Kafka's
is without a share coordinator: a client that would use them is told so at once, instead of asking again for ever.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext
from .topic_view import endpoint_of

KEYS_MAX: Final = 10_000
_GROUP: Final = 0
_BATCHED_VERSION: Final = 4


class _Coordinator(NamedTuple):
    error: ErrorCode
    message: str | None = None
    node_id: int = NONE_ID
    host: str = ""
    port: int = NONE_ID


async def handle(request: Any, context: RequestContext) -> Any:
    """Each key by itself; the topic __consumer_offsets is created when it is missing."""
    schema = context.schema
    key_type = get(request, "key_type", _GROUP)
    if context.api_version < _BATCHED_VERSION:
        found = await _find(request.key, key_type, context)
        return make(
            schema.FindCoordinatorResponse,
            throttle_time=NO_THROTTLE,
            error_code=found.error,
            error_message=found.message,
            node_id=found.node_id,
            host=found.host,
            port=found.port,
        )
    keys = request.coordinator_keys
    too_many = _Coordinator(ErrorCode.INVALID_REQUEST, f"{len(keys)} keys; a request may name {KEYS_MAX}")
    coordinators = []
    for key in keys:
        found = too_many if len(keys) > KEYS_MAX else await _find(key, key_type, context)
        coordinators.append(
            schema.Coordinator(
                key=key,
                node_id=found.node_id,
                host=found.host,
                port=found.port,
                error_code=found.error,
                error_message=found.message,
            )
        )
    return make(schema.FindCoordinatorResponse, throttle_time=NO_THROTTLE, coordinators=tuple(coordinators))


async def _find(key: str, key_type: int, context: RequestContext) -> _Coordinator:
    if key_type != _GROUP:
        return _Coordinator(ErrorCode.INVALID_REQUEST, f"Key type {key_type} has no coordinator here; groups (0) have")
    found = await context.rooms.groups.find(key)
    if isinstance(found, ErrorCode):
        return _Coordinator(found, found.message)
    endpoint = endpoint_of(context.rooms.image().brokers.get(found))
    if endpoint is None:
        error = ErrorCode.COORDINATOR_NOT_AVAILABLE
        return _Coordinator(error, error.message)
    return _Coordinator(ErrorCode.NONE, None, found, endpoint.host, endpoint.port)
