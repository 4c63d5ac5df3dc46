"""Answers written by hand, where kio's writer would cost more than all the rest of the request. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from .wire import Buffer

_INT8: Final = struct.Struct(">b")
_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")
_INT64: Final = struct.Struct(">q")
_ZERO_ID: Final = bytes(16)

NO_TAGS: Final[tuple[bytes, ...]] = ()


def uvarint(value: int) -> bytes:
    """An unsigned varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tagged(tag: int, data: bytes) -> bytes:
    """One tagged field, as `AnswerWriter.tags` takes it (KIP-482)."""
    return uvarint(tag) + uvarint(len(data)) + data


class AnswerWriter:
    """Kafka's primitive types, one after the other."""

    __slots__ = ("_data", "_flexible", "_parts")

    def __init__(self, flexible: bool) -> None:
        self._flexible = flexible
        self._data = bytearray()
        self._parts: list[Buffer] = []

    def pack(self, form: struct.Struct, *values: int) -> None:
        """Several numbers at once."""
        self._data += form.pack(*values)

    def int8(self, value: int) -> None:
        self._data += _INT8.pack(value)

    def int16(self, value: int) -> None:
        self._data += _INT16.pack(value)

    def int32(self, value: int) -> None:
        self._data += _INT32.pack(value)

    def int64(self, value: int) -> None:
        self._data += _INT64.pack(value)

    def raw(self, data: bytes) -> None:
        self._data += data

    def uuid(self, value: UUID | None) -> None:
        self._data += _ZERO_ID if value is None else value.bytes

    def count(self, value: int) -> None:
        """The number of elements of an array that follow; -1 for null."""
        self._data += uvarint(value + 1) if self._flexible else _INT32.pack(value)

    def string(self, value: str) -> None:
        data = value.encode()
        self._data += uvarint(len(data) + 1) if self._flexible else _INT16.pack(len(data))
        self._data += data

    def nullable_string(self, value: str | None) -> None:
        if value is None:
            self._data += b"\0" if self._flexible else b"\xff\xff"
        else:
            self.string(value)

    def records(self, data: Buffer) -> None:
        """Bytes that go out as they are, without a copy."""
        self._data += uvarint(len(data) + 1) if self._flexible else _INT32.pack(len(data))
        if data:
            self._parts += (self._data, data)
            self._data = bytearray()

    def tags(self, fields: Sequence[bytes]) -> None:
        """Tagged fields in the order of their tags; nothing in versions without."""
        if self._flexible:
            self._data += uvarint(len(fields))
            for field in fields:
                self._data += field

    def getvalue(self) -> bytes:
        """All of it, if there were no `records`."""
        return bytes(self._data)

    def parts(self) -> Sequence[Buffer]:
        """All of it, in pieces."""
        self._parts.append(self._data)
        return self._parts
