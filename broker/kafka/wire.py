"""Kafka's primitive types read from a request's bytes, with every length and count held against what is there.

kio's own reader allocates for the count that an array claims before it looks for the elements: eight bytes of a liar
end the process. Here nothing is allocated that the bytes received do not pay for. Pure.
"""

from __future__ import annotations

import struct
from typing import Any, Final
from uuid import UUID

_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")
_INT64: Final = struct.Struct(">q")
_UINT16: Final = struct.Struct(">H")
_FLOAT64: Final = struct.Struct(">d")

ELEMENTS_MAX: Final = 500_000
"""Of all arrays of one request together. An element of two bytes becomes a Python object of a hundred."""
UVARINT_BYTES_MAX: Final = 5

Buffer = bytes | bytearray | memoryview


class WireError(Exception):
    """The bytes are not the message that they should be."""


class Cursor:
    """A place in the bytes of one request; each method reads one value and moves behind it.

    All of them :raise WireError: the bytes end early, or a length or count cannot be true.
    """

    __slots__ = ("_elements_left", "buffer", "position")

    def __init__(self, buffer: Buffer, position: int = 0) -> None:
        self.buffer = buffer
        self.position = position
        self._elements_left = ELEMENTS_MAX

    def _skip(self, size: int) -> int:
        """Moves `size` bytes on; returns where they begin."""
        position = self.position
        if size < 0 or size > len(self.buffer) - position:
            raise WireError(f"{size} bytes wanted at {position} of {len(self.buffer)}")
        self.position = position + size
        return position

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        """Several numbers at once."""
        return form.unpack_from(self.buffer, self._skip(form.size))

    # --- numbers ---------------------------------------------------------------------------------------------

    def int8(self) -> int:
        value = self.buffer[self._skip(1)]
        return value - 256 if value > 127 else value

    def boolean(self) -> bool:
        return self.buffer[self._skip(1)] != 0

    def int16(self) -> int:
        value: int = _INT16.unpack_from(self.buffer, self._skip(2))[0]
        return value

    def uint16(self) -> int:
        value: int = _UINT16.unpack_from(self.buffer, self._skip(2))[0]
        return value

    def int32(self) -> int:
        value: int = _INT32.unpack_from(self.buffer, self._skip(4))[0]
        return value

    def int64(self) -> int:
        value: int = _INT64.unpack_from(self.buffer, self._skip(8))[0]
        return value

    def float64(self) -> float:
        value: float = _FLOAT64.unpack_from(self.buffer, self._skip(8))[0]
        return value

    def uvarint(self) -> int:
        value = shift = 0
        for _ in range(UVARINT_BYTES_MAX):
            byte = self.buffer[self._skip(1)]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise WireError(f"a varint of more than {UVARINT_BYTES_MAX} bytes")

    def uuid(self) -> UUID | None:
        """None for the zero id, which stands for none."""
        start = self._skip(16)
        data = bytes(self.buffer[start : start + 16])
        return UUID(bytes=data) if any(data) else None

    # --- strings and bytes -----------------------------------------------------------------------------------

    def length(self, flexible: bool, *, short: bool = False) -> int:
        """Of a string, bytes or an array; -1 for null. `short`: strings of the older form have two bytes of length."""
        if flexible:
            return self.uvarint() - 1
        return self.int16() if short else self.int32()

    def text(self, length: int) -> str:
        start = self._skip(length)
        try:
            return str(self.buffer[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"a string at {start} is not UTF-8") from error

    def raw(self, length: int) -> bytes:
        start = self._skip(length)
        return bytes(self.buffer[start : start + length])

    def view(self, length: int) -> memoryview:
        """The bytes themselves, not a copy."""
        start = self._skip(length)
        return memoryview(self.buffer)[start : start + length]

    def extent(self, flexible: bool) -> tuple[int, int]:
        """Where bytes begin and end, and moves behind them; (-1, -1) for null."""
        length = self.length(flexible)
        if length == -1:
            return -1, -1
        start = self._skip(length)
        return start, start + length

    def string(self, flexible: bool) -> str:
        return self.text(self.length(flexible, short=True))

    def nullable_string(self, flexible: bool) -> str | None:
        length = self.length(flexible, short=True)
        return None if length == -1 else self.text(length)

    # --- arrays and tagged fields ----------------------------------------------------------------------------

    def count(self, flexible: bool) -> int:
        """Of an array's elements; -1 for null. No element is smaller than a byte."""
        count = self.length(flexible)
        if count < -1 or count > len(self.buffer) - self.position:
            raise WireError(f"an array of {count} elements in {len(self.buffer) - self.position} bytes")
        self._elements_left -= count
        if self._elements_left < 0:
            raise WireError(f"more than {ELEMENTS_MAX} elements in one request")
        return count

    def full_count(self, flexible: bool) -> int:
        """Of an array that may not be null."""
        count = self.count(flexible)
        if count < 0:
            raise WireError("a null array where there must be one")
        return count

    def skip_tags(self) -> None:
        """Passes over tagged fields (KIP-482)."""
        for _ in range(self.uvarint()):
            self.uvarint()
            self._skip(self.uvarint())
