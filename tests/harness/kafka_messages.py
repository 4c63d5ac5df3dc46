"""Some message of any of kio's classes, and what a hostile client may make of its bytes."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

_BITS = {"i8": 7, "i16": 15, "i32": 31, "i64": 63, "BrokerId": 31, "ProducerId": 63}
_TEXTS = ("", "a", "t", "\u00fc\u20ac\U0001f600", "x" * 200)


def message_of(kind: Any, random: Random, *, times_ms: int = 2**31) -> Any:
    """A message whose fields are mostly at their limits; times are below `times_ms`."""
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: _value(hints[field.name], random, times_ms) for field in dataclasses.fields(kind)})


def _value(hint: Any, random: Random, times_ms: int) -> Any:
    arguments = typing.get_args(hint)
    if type(None) in arguments:
        kind = next(part for part in arguments if part is not type(None))
        return None if random.random() < 0.3 else _value(kind, random, times_ms)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(arguments[0], random, times_ms) for _ in range(random.choice((0, 1, 2))))
    if dataclasses.is_dataclass(hint):
        return message_of(hint, random, times_ms=times_ms)
    if hint is bool:
        return random.random() < 0.5
    if hint is UUID:
        return UUID(int=random.getrandbits(128) | 1)
    if "edelta" in hint.__name__:
        return timedelta(milliseconds=random.randrange(-(2**31), times_ms))
    if issubclass(hint, str):
        return random.choice(_TEXTS)
    if issubclass(hint, bytes):
        return random.randbytes(random.choice((0, 1, 300)))
    bits = _BITS[hint.__name__]
    return random.choice((-(2**bits), -1, 0, 1, 2**bits - 1))


def hostile(data: bytes, random: Random, count: int) -> Iterator[bytes]:
    """Cut short, with bytes changed, with lengths and counts that lie, with garbage behind."""
    for _ in range(count):
        place = random.randrange(len(data) + 1)
        match random.randrange(5):
            case 0:
                yield data[:place]
            case 1:
                yield data[:place] + random.randbytes(1) + data[place + 1 :]
            case 2:
                lie = random.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\x80\0\0\0"))
                yield data[:place] + lie + data[place + len(lie) :]
            case 3:
                yield data[:place] + random.randbytes(random.randrange(20))
            case 4:
                yield data + random.randbytes(random.randrange(1, 50))
