"""Kafka's messages by kio: each version of each message is imported when it is first met.

Importing all of kio's schemas would cost a second and megabytes; a client uses some twenty of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from types import ModuleType
from typing import Any, Final

from .decoder import decode
from .kio_import import import_kio

NO_THROTTLE: Final = timedelta(0)
"""There are no quotas: every throttle_time is this."""


@cache
def request_schema(name: str, version: int) -> ModuleType:
    """kio's module of a request, such as ("list_offsets", 7)."""
    return import_kio(f"kio.schema.{name}.v{version}.request")


@cache
def response_schema(name: str, version: int) -> ModuleType:
    """kio's module of a response; holds the classes of its nested parts too."""
    return import_kio(f"kio.schema.{name}.v{version}.response")


def class_name(name: str, suffix: str) -> str:
    """kio's class for an API: ("list_offsets", "Request") is "ListOffsetsRequest"."""
    return "".join(part.capitalize() for part in name.split("_")) + suffix


@cache
def request_class(name: str, version: int) -> type:
    """kio's class of a request."""
    kind: type = getattr(request_schema(name, version), class_name(name, "Request"))
    return kind


@cache
def request_reader(name: str, version: int) -> Callable[[Any, int], tuple[Any, int]]:
    """A function from (buffer, position) to (message, bytes read); :raises WireError: see `decoder.decode`."""
    return partial(decode, request_class(name, version))


@cache
def response_writer(name: str, version: int) -> Callable[[io.BytesIO, Any], None]:
    """A function that writes one response to a buffer."""
    kind = getattr(response_schema(name, version), class_name(name, "Response"))
    writer: Callable[[io.BytesIO, Any], None] = import_kio("kio.serial").entity_writer(kind)
    return writer


@cache
def _fields(kind: type) -> frozenset[str]:
    return frozenset(kind.__dataclass_fields__)  # type: ignore[attr-defined]


def make(kind: type, /, **values: Any) -> Any:
    """A message of kio's `kind` with those of the values that this version of it has.

    Handlers say all that they know, whatever the version; a version that lacks a field does not get it. A value of
    None stands for "leave it at its default" only where the field has one: use it where the schema allows null.
    """
    known = _fields(kind)
    return kind(**{name: value for name, value in values.items() if name in known})


def get(message: Any, field: str, default: Any) -> Any:
    """A field of a request, or `default` in versions that lack it."""
    return getattr(message, field, default)
