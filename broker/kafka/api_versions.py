"""ApiVersions: what this broker serves, read from the table; but for Produce, see there.

Versions 0 to 4. 1 adds the throttle time; 2 is the same; 3 is flexible, tells the client's software (KIP-511) and the
features (KIP-584); 4 may name features whose lowest level is 0.

Of Kafka's features there is group.version, by which clients see that the consumer protocol of KIP-848 is on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from ...proto.errors import ErrorCode
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext
from .table import APIS, Api

API_VERSIONS_KEY: Final = 18
GROUP_VERSION: Final = "group.version"
GROUP_VERSION_LEVEL: Final = 1
_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(request: Any, context: RequestContext) -> Any:
    """INVALID_REQUEST, without any API, for a name or a version of the client's software that is none."""
    if context.api_version >= 3:
        software = get(request, "client_software_name", ""), get(request, "client_software_version", "")
        if not all(map(_SOFTWARE.fullmatch, software)):
            return _answer(context, ErrorCode.INVALID_REQUEST, ())
    return _answer(context, ErrorCode.NONE, APIS.values())


def unsupported_version(context: RequestContext) -> Any:
    """The answer to a version that is not served: version 0, with the versions of this very API (KIP-511)."""
    return _answer(context, ErrorCode.UNSUPPORTED_VERSION, (APIS[API_VERSIONS_KEY],))


def _answer(context: RequestContext, error: ErrorCode, apis: Iterable[Api]) -> Any:
    schema = context.schema
    return make(
        schema.ApiVersionsResponse,
        error_code=error,
        throttle_time=NO_THROTTLE,
        api_keys=tuple(
            make(schema.ApiVersion, api_key=api.key, min_version=_min_version(api), max_version=api.max_version)
            for api in apis
        ),
        **({} if error or context.api_version < 3 else _features(context)),
    )


def _min_version(api: Api) -> int:
    return api.min_version if api.advertised_min_version is None else api.advertised_min_version


def _features(context: RequestContext) -> dict[str, Any]:
    schema = context.schema
    # A client that knows version 3 alone takes a lowest level of 0 for an error.
    supported = make(schema.SupportedFeatureKey, name=GROUP_VERSION, min_version=0, max_version=GROUP_VERSION_LEVEL)
    return {
        "supported_features": (supported,) if context.api_version >= 4 else (),
        "finalized_features_epoch": context.rooms.image().end_offset,
        "finalized_features": (
            make(
                schema.FinalizedFeatureKey,
                name=GROUP_VERSION,
                min_version_level=GROUP_VERSION_LEVEL,
                max_version_level=GROUP_VERSION_LEVEL,
            ),
        ),
    }
