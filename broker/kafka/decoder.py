"""Decoders of requests, made from the dataclasses that kio generated from Kafka's schemas.

One is made per message and version when it is first met. They take the place of kio's own reader, which trusts the
counts that it reads (see `wire.py`). Bytes after the message are left alone, as Apache Kafka does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from types import NoneType
from typing import Any, Final, get_args, get_origin

from .wire import Buffer, Cursor, WireError

Read = Callable[[Cursor], Any]

_NUMBERS: Final[dict[str, Read]] = {
    "bool": Cursor.boolean,
    "int8": Cursor.int8,
    "int16": Cursor.int16,
    "uint16": Cursor.uint16,
    "int32": Cursor.int32,
    "int64": Cursor.int64,
    "float64": Cursor.float64,
    "uuid": Cursor.uuid,
    "timedelta_i32": lambda cursor: timedelta(milliseconds=cursor.int32()),
    "timedelta_i64": lambda cursor: _long_time(cursor.int64()),
}


def decode(kind: type, buffer: Buffer, position: int = 0) -> tuple[Any, int]:
    """The message of kio's class `kind` at `position`, and how many bytes it has.

    :raises WireError: the bytes are not such a message.
    """
    cursor = Cursor(buffer, position)
    return _entity_reader(kind)(cursor), cursor.position - position


@cache
def _entity_reader(kind: type) -> Read:
    flexible: bool = kind.__flexible__  # type: ignore[attr-defined]
    plain: list[tuple[str, Read]] = []
    tagged: dict[int, tuple[str, Read]] = {}
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        tag = field.metadata.get("tag")
        entry = field.name, _field_reader(field, flexible)
        if tag is None:
            plain.append(entry)
        else:
            tagged[tag] = entry
            defaults[field.name] = field.default

    def read(cursor: Cursor) -> Any:
        values = {name: read_field(cursor) for name, read_field in plain}
        if flexible:
            if tagged:
                _read_tags(cursor, tagged, values)
                return kind(**{**defaults, **values})
            cursor.skip_tags()
        return kind(**values)

    return read


def _read_tags(cursor: Cursor, tagged: dict[int, tuple[str, Read]], values: dict[str, Any]) -> None:
    for _ in range(cursor.uvarint()):
        tag, size = cursor.uvarint(), cursor.uvarint()
        entry = tagged.get(tag)
        if entry is None:
            cursor.view(size)
            continue
        end = cursor.position + size
        values[entry[0]] = entry[1](cursor)
        if cursor.position != end:
            raise WireError(f"tagged field {tag} does not have the {size} bytes that it says")


def _field_reader(field: dataclasses.Field[Any], flexible: bool) -> Read:
    kind, nullable = _without_none(field.type)
    is_array = get_origin(kind) is tuple
    if is_array:
        kind, _ = _without_none(get_args(kind)[0])
    if dataclasses.is_dataclass(kind):
        read = _entity_reader(kind)  # type: ignore[arg-type]
        if nullable and not is_array:
            return _nullable_entity(read)
    else:
        read = _primitive_reader(field.metadata["kafka_type"], flexible, nullable and not is_array)
    return _array_reader(read, flexible, nullable) if is_array else read


def _without_none(kind: Any) -> tuple[Any, bool]:
    """The type, and whether it may be None."""
    parts = get_args(kind)
    if NoneType not in parts:
        return kind, False
    return next(part for part in parts if part is not NoneType), True


def _primitive_reader(kafka_type: str, flexible: bool, nullable: bool) -> Read:
    if kafka_type == "string":
        return _nullable_string_reader(flexible) if nullable else _string_reader(flexible)
    if kafka_type in ("bytes", "records"):
        return _bytes_reader(flexible, nullable)
    return _NUMBERS[kafka_type]


def _string_reader(flexible: bool) -> Read:
    return lambda cursor: cursor.string(flexible)


def _nullable_string_reader(flexible: bool) -> Read:
    return lambda cursor: cursor.nullable_string(flexible)


def _bytes_reader(flexible: bool, nullable: bool) -> Read:
    def read(cursor: Cursor) -> bytes | None:
        length = cursor.length(flexible)
        return None if nullable and length == -1 else cursor.raw(length)

    return read


def _array_reader(read: Read, flexible: bool, nullable: bool) -> Read:
    def read_array(cursor: Cursor) -> tuple[Any, ...] | None:
        count = cursor.count(flexible)
        if count < 0:
            if nullable:
                return None
            raise WireError("a null array where there must be one")
        return tuple([read(cursor) for _ in range(count)])

    return read_array


def _nullable_entity(read: Read) -> Read:
    """A byte says whether it is there."""
    return lambda cursor: None if cursor.int8() < 0 else read(cursor)


def _long_time(milliseconds: int) -> timedelta:
    try:
        return timedelta(milliseconds=milliseconds)
    except OverflowError as error:
        raise WireError(f"{milliseconds} ms is longer than any time here") from error
