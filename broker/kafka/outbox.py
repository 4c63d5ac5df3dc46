"""Answers of one connection on their way to the kernel: those of one reading go out together."""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from .route import Parts
from .wire import Buffer

TOGETHER_BYTES_MAX: Final = 128 * 1024
"""Answers up to so many bytes wait for others of the same reading."""
_JOINED_BYTES_MAX: Final = 16 * 1024
"""Up to here they are copied into one piece; more goes out in its pieces, without a copy."""

_HEADER: Final = struct.Struct(">ii")
_TAGGED_HEADER: Final = struct.Struct(">iib")


class Outbox:
    """`add` answers in the order of their requests; `flush` when there are no more for now."""

    __slots__ = ("_bytes", "_parts", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[Buffer] = []
        self._bytes = 0

    def add(self, correlation_id: int, tagged: bool, parts: Parts) -> None:
        """An answer's body; `tagged`: its header has tagged fields (KIP-482)."""
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        if tagged:
            self._parts.append(_TAGGED_HEADER.pack(size + 5, correlation_id, 0))
        else:
            self._parts.append(_HEADER.pack(size + 4, correlation_id))
        self._parts.extend(parts)
        self._bytes += size
        if self._bytes > TOGETHER_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Hands everything to the transport."""
        if not self._parts:
            return
        parts, self._parts = self._parts, []
        size, self._bytes = self._bytes, 0
        if self._transport.is_closing():
            return
        if size > _JOINED_BYTES_MAX:
            self._transport.writelines(parts)
        else:
            self._transport.write(b"".join(parts))
