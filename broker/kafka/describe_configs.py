"""DescribeConfigs (key 32), versions 1 to 4.

    1    sources of values and synonyms (KIP-226)
    3    types and documentation (KIP-569)
    4    flexible

Topics and brokers have settings. Loggers (KIP-412), client metrics (KIP-714) and groups (KIP-848) have none here:
INVALID_REQUEST.
"""

from __future__ import annotations

from typing import Any, Final

from ...proto.metadata_pb2 import CONFIG_RESOURCE_BROKER
from ..config_description import ConfigSource, DescribedConfig
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext

_TYPES: Final = {"boolean": 1, "string": 2, "int": 3, "short": 4, "long": 5, "double": 6, "list": 7}
"""Kafka's numbers."""


def handle(request: Any, context: RequestContext) -> Any:
    """The settings of each resource, as this broker sees them."""
    return context.schema.DescribeConfigsResponse(
        throttle_time=NO_THROTTLE, results=tuple(_answer(request, context, resource) for resource in request.resources)
    )


def _answer(request: Any, context: RequestContext, resource: Any) -> Any:
    rooms = context.rooms.admin
    kind, name = resource.resource_type, resource.resource_name
    keys = None if resource.configuration_keys is None else frozenset(resource.configuration_keys)
    described = rooms.configs.describe(rooms.image(), kind, name, keys)
    configs = described.configs
    if kind == CONFIG_RESOURCE_BROKER and not name:
        # Of the whole cluster Kafka tells what was set, and no defaults.
        configs = [config for config in configs if config.source is ConfigSource.CLUSTER]
    return context.schema.DescribeConfigsResult(
        error_code=described.error,
        error_message=described.message or None,
        resource_type=kind,
        resource_name=name,
        configs=tuple(_config(request, context, config) for config in configs),
    )


def _config(request: Any, context: RequestContext, config: DescribedConfig) -> Any:
    synonyms = config.synonyms if request.include_synonyms else ()
    return make(
        context.schema.DescribeConfigsResourceResult,
        name=config.name,
        value=config.value,
        read_only=config.read_only,
        config_source=config.source,
        is_sensitive=False,  # nothing that can be set is a secret yet
        synonyms=tuple(
            context.schema.DescribeConfigsSynonym(name=synonym.name, value=synonym.value, source=synonym.source)
            for synonym in synonyms
        ),
        config_type=_TYPES.get(config.type, 0),
        documentation=config.documentation if get(request, "include_documentation", False) else None,
    )
