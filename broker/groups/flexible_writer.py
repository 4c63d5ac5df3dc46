"""Writes the wire types of Kafka's flexible messages (KIP-482), for the few records that are coded by hand. Pure.

Strings, arrays and byte strings are "compact": an unsigned varint of length + 1, where 0 is null. Each structure ends
in tagged fields. What reads them back is `RecordReader` (`records.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar
from uuid import UUID

_T = TypeVar("_T")


class FlexibleWriter:
    """Appends to `data`."""

    def __init__(self) -> None:
        self.data = bytearray()

    def int8(self, value: int) -> None:
        self.data += struct.pack(">b", value)

    def int16(self, value: int) -> None:
        self.data += struct.pack(">h", value)

    def int32(self, value: int) -> None:
        self.data += struct.pack(">i", value)

    def int64(self, value: int) -> None:
        self.data += struct.pack(">q", value)

    def uuid(self, value: UUID) -> None:
        self.data += value.bytes

    def uvarint(self, value: int) -> None:
        while value > 0x7F:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def string(self, value: str) -> None:
        """The old form: a length of 16 bits."""
        encoded = value.encode()
        self.int16(len(encoded))
        self.data += encoded

    def compact_bytes(self, value: bytes) -> None:
        self.uvarint(len(value) + 1)
        self.data += value

    def compact_string(self, value: str | None) -> None:
        if value is None:
            self.uvarint(0)
        else:
            self.compact_bytes(value.encode())

    def compact_array(self, values: Iterable[_T], write: Callable[[_T], None]) -> None:
        values = tuple(values)
        self.uvarint(len(values) + 1)
        for value in values:
            write(value)

    def tagged_fields(self, fields: Mapping[int, bytes] | None = None) -> None:
        fields = fields or {}
        self.uvarint(len(fields))
        for tag in sorted(fields):
            self.uvarint(tag)
            self.uvarint(len(fields[tag]))
            self.data += fields[tag]
