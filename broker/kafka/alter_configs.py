"""AlterConfigs (key 33), versions 0 to 2 (flexible): all keys of topics and brokers; those not named are unset.

Its successor is IncrementalAlterConfigs (KIP-339). The rules are the controllers' (`controller/configs.py`).
"""

from __future__ import annotations

from typing import Any

from ...proto.command_pb2 import AlterableConfig, AlterConfigsResource
from .config_changes import alter
from .messages import NO_THROTTLE
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """Each resource is changed whole or not at all; answered when this broker has taken up the change."""
    resources = [
        AlterConfigsResource(
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            configs=[AlterableConfig(name=config.name, value=config.value) for config in resource.configs],
            replace=True,
        )
        for resource in request.resources
    ]
    responses = await alter(context, resources, validate_only=request.validate_only)
    return context.schema.AlterConfigsResponse(throttle_time=NO_THROTTLE, responses=responses)
