"""What the two requests that alter settings have in common: their answers, resource by resource."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...proto.command_pb2 import AlterConfigsResource, Command, IncrementalAlterConfigsCommand
from ...proto.errors import ErrorCode
from .rooms import RequestContext

TIMEOUT_MS: Final = 30_000
"""The requests bring none."""


async def alter(context: RequestContext, resources: Sequence[AlterConfigsResource], *, validate_only: bool) -> Any:
    """The answers, in the order of the resources."""
    if not resources:
        return ()
    command = IncrementalAlterConfigsCommand(resources=resources, validate_only=validate_only)
    response = await context.rooms.admin.submit(Command(incremental_alter_configs=command), TIMEOUT_MS)
    if response.error_code:
        outcomes = [(response.error_code, response.error_message)] * len(resources)
    else:
        decided = response.incremental_alter_configs.resources
        outcomes = [(outcome.error_code, outcome.error_message) for outcome in decided]
    return tuple(
        context.schema.AlterConfigsResourceResponse(
            error_code=ErrorCode.of(error),
            error_message=(message or ErrorCode.of(error).message) if error else None,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource, (error, message) in zip(resources, outcomes, strict=True)
    )
