"""DescribeCluster (key 60), versions 0 to 2.

1    endpoint type (KIP-919): brokers, or the controllers, which are told by controllers alone
2    fenced brokers (KIP-1073)
"""

from __future__ import annotations

from typing import Any, Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID
from . import authorized_operations
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext
from .topic_view import alive_brokers, broker_fields, controller_id, endpoint_of

_BROKERS: Final = 1
_CONTROLLERS: Final = 2


def handle(request: Any, context: RequestContext) -> Any:
    """The brokers of the image that this broker has now."""
    endpoint_type = get(request, "endpoint_type", _BROKERS)
    if endpoint_type != _BROKERS:
        return _refused(context, endpoint_type)
    image = context.rooms.image()
    alive = alive_brokers(image)
    shown = dict(alive)
    if get(request, "include_fenced_brokers", False):
        for broker_id, broker in image.brokers.items():
            endpoint = endpoint_of(broker)
            if endpoint is not None:
                shown[broker_id] = endpoint
    asked = request.include_cluster_authorized_operations
    return make(
        context.schema.DescribeClusterResponse,
        throttle_time=NO_THROTTLE,
        error_code=ErrorCode.NONE,
        error_message=None,
        endpoint_type=_BROKERS,
        cluster_id=image.cluster_id or "",
        controller_id=controller_id(context.rooms.broker_id, alive),
        brokers=tuple(
            make(
                context.schema.DescribeClusterBroker,
                broker_id=broker_id,
                is_fenced=broker_id not in alive,
                **broker_fields(image, broker_id, endpoint),
            )
            for broker_id, endpoint in sorted(shown.items())
        ),
        cluster_authorized_operations=authorized_operations.CLUSTER if asked else authorized_operations.NOT_ASKED,
    )


def _refused(context: RequestContext, endpoint_type: int) -> Any:
    if endpoint_type == _CONTROLLERS:
        error, message = ErrorCode.MISMATCHED_ENDPOINT_TYPE, "The request was sent to an endpoint of type BROKER"
    else:
        error, message = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {endpoint_type}"
    return make(
        context.schema.DescribeClusterResponse,
        throttle_time=NO_THROTTLE,
        error_code=error,
        error_message=message,
        cluster_id="",
        controller_id=NONE_ID,
        brokers=(),
    )
