"""From API key and version to the code that serves it, found when it is first asked for.

Importing all handlers and all of kio's messages would cost the broker's start a second, and its memory megabytes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

from . import messages
from .table import APIS, Api
from .wire import Buffer, WireError

API_VERSIONS_KEY: Final = 18
PLAIN_REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of requests that carry no bytes of programs: decoded they take many times their size."""

Parts = Sequence[Buffer]
"""An answer's body, in pieces."""


class Deferred(NamedTuple):
    """An answer by hand that must wait: `finish` makes it of what `future` brings."""

    future: Any  # asyncio.Future[T]
    finish: Callable[[Any], Parts | None]  # takes a T; None: the request wants no answer


class UnsupportedVersionError(WireError):
    """The API is served, but not in this version."""


@dataclass(frozen=True, slots=True)
class Route:
    """How one version of one API is served."""

    api: Api
    version: int
    flexible: bool  # the request's header has tagged fields (KIP-482)
    tagged_answer: bool  # the answer's has
    handle: Callable[..., Any]
    schema: Any = None  # kio's module of the answer; None where it is made by hand
    read: Callable[[Any, int], tuple[Any, int]] | None = None
    write: Callable[[Any, Any], None] | None = None


@cache
def find_route(key: int, version: int) -> Route:
    """:raises UnsupportedVersionError, WireError: it is not served."""
    api = APIS.get(key)
    if api is None:
        raise WireError(f"API key {key} is not served")
    if not api.min_version <= version <= api.max_version:
        raise UnsupportedVersionError(
            f"{api.name} version {version} is not served; {api.min_version} to {api.max_version} are"
        )
    handle = _handler(api.name)
    flexible: bool = messages.request_class(api.name, version).__flexible__  # type: ignore[attr-defined]
    # Clients ask ApiVersions before they know what the broker can: its answer's header is always the first (KIP-511).
    tagged_answer = flexible and key != API_VERSIONS_KEY
    if api.by_hand:
        return Route(api, version, flexible, tagged_answer, handle)
    return Route(
        api,
        version,
        flexible,
        tagged_answer,
        handle,
        messages.response_schema(api.name, version),
        messages.request_reader(api.name, version),
        messages.response_writer(api.name, version),
    )


def _handler(name: str) -> Callable[..., Any]:
    package = __package__ or ""
    try:
        module = importlib.import_module(f".{name}", package)
    except ModuleNotFoundError as error:
        if error.name != f"{package}.{name}":
            raise
        raise WireError(f"{name} is not served yet") from error
    handle: Callable[..., Any] = module.handle
    return handle
