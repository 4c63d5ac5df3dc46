"""IncrementalAlterConfigs (key 44), versions 0 and 1 (flexible): some keys of topics and brokers (KIP-339).

The rules are the controllers' (`controller/configs.py`). Loggers (KIP-412), client metrics and groups have no settings
here: INVALID_REQUEST.
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
            configs=[
                AlterableConfig(name=config.name, operation=config.config_operation, value=config.value)
                for config in resource.configs
            ],
        )
        for resource in request.resources
    ]
    responses = await alter(context, resources, validate_only=request.validate_only)
    return context.schema.IncrementalAlterConfigsResponse(throttle_time=NO_THROTTLE, responses=responses)
