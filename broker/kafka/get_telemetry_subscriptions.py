"""GetTelemetrySubscriptions (key 71), version 0 (KIP-714): an empty one; a client without an id is given one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from ...proto.errors import ErrorCode
from .client_telemetry import (
    COMPRESSION_TYPES,
    PUSH_INTERVAL_MS,
    TELEMETRY_BYTES_MAX,
    is_client_instance_id,
    subscription_id,
)
from .messages import NO_THROTTLE
from .rooms import RequestContext


def handle(request: Any, context: RequestContext) -> Any:
    """No metric is asked for."""
    known = request.client_instance_id
    client_instance_id = known if is_client_instance_id(known) else uuid4()
    return context.schema.GetTelemetrySubscriptionsResponse(
        throttle_time=NO_THROTTLE,
        error_code=ErrorCode.NONE,
        client_instance_id=client_instance_id,
        subscription_id=subscription_id(client_instance_id),
        accepted_compression_types=COMPRESSION_TYPES,
        push_interval=timedelta(milliseconds=PUSH_INTERVAL_MS),
        telemetry_max_bytes=TELEMETRY_BYTES_MAX,
        delta_temporality=True,
        requested_metrics=(),
    )
