"""PushTelemetry (key 72), version 0 (KIP-714): metrics that nobody asked for are checked, and dropped."""

from __future__ import annotations

from typing import Any

from ...proto.errors import ErrorCode
from .client_telemetry import COMPRESSION_TYPES, TELEMETRY_BYTES_MAX, is_client_instance_id, subscription_id
from .messages import NO_THROTTLE
from .rooms import RequestContext


def handle(request: Any, context: RequestContext) -> Any:
    """In Kafka's order of checks."""
    client_instance_id = request.client_instance_id
    if not is_client_instance_id(client_instance_id):
        error = ErrorCode.INVALID_REQUEST
    elif request.subscription_id != subscription_id(client_instance_id):
        error = ErrorCode.UNKNOWN_SUBSCRIPTION_ID
    elif request.compression_type not in (0, *COMPRESSION_TYPES):
        error = ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    elif len(request.metrics) > TELEMETRY_BYTES_MAX:
        error = ErrorCode.TELEMETRY_TOO_LARGE
    else:
        error = ErrorCode.NONE
    return context.schema.PushTelemetryResponse(throttle_time=NO_THROTTLE, error_code=error)
