"""ApiVersions: what this broker serves, read from the table.

Versions 0 to 4. 1 adds the throttle time; 2 is the same; 3 is flexible, tells the client's software (KIP-511) and the
features (KIP-584); 4 may name features whose lowest level is 0.
"""

from __future__ import annotations

from typing import Any

from ...proto.errors import ErrorCode
from .messages import NO_THROTTLE, make
from .rooms import RequestContext
from .table import APIS


def handle(request: Any, context: RequestContext) -> Any:
    return _answer(context, ErrorCode.NONE)


def unsupported_version(context: RequestContext) -> Any:
    """The answer to a version that is not served: version 0, with all that is (KIP-511)."""
    return _answer(context, ErrorCode.UNSUPPORTED_VERSION)


def _answer(context: RequestContext, error: ErrorCode) -> Any:
    schema = context.schema
    return make(
        schema.ApiVersionsResponse,
        error_code=error,
        throttle_time=NO_THROTTLE,
        api_keys=tuple(
            make(schema.ApiVersion, api_key=api.key, min_version=api.min_version, max_version=api.max_version)
            for api in APIS.values()
        ),
    )
