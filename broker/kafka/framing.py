"""Where one Kafka request ends and the next begins: four bytes of length, then the request. Pure.

Bytes go into a buffer that all connections share, so one that waits costs nothing; a request that does not end in one
read gets a buffer of its own, which grows with the bytes that came, never with the length that was claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .wire import WireError

LENGTH_BYTES: Final = 4
SHARED_BUFFER_BYTES: Final = 256 * 1024
_FIRST_BYTES: Final = 4096
_GROWTH: Final = 4


class FrameReader:
    """The requests of one connection: `received` says how many bytes were put where `buffer` said."""

    __slots__ = ("_begun", "_bytes_max", "_filled", "_frame", "_shared", "_size", "error")

    def __init__(self, shared: memoryview, bytes_max: int) -> None:
        """`shared` is written to between `buffer` and `received` alone."""
        self._shared = shared
        self._bytes_max = bytes_max
        self._begun = b""  # of a length of which not all bytes came yet
        self._frame: bytearray | None = None  # one that needs more reads; `_filled` bytes of `_size` are there
        self._filled = 0
        self._size = 0
        self.error: WireError | None = None  # after this no frame can be found any more

    @property
    def held_bytes(self) -> int:
        """Memory that an unfinished request holds."""
        return 0 if self._frame is None else len(self._frame)

    def buffer(self) -> memoryview:
        """Where the next bytes are to go."""
        if self._frame is not None:
            return memoryview(self._frame)[self._filled :]
        if self._begun:
            self._shared[: len(self._begun)] = self._begun
            return self._shared[len(self._begun) :]
        return self._shared

    def received(self, count: int) -> Sequence[bytearray]:
        """The requests that so many more bytes make whole, without their lengths.

        Once a length is impossible, `error` is set: what is returned is all there will ever be.
        """
        if self.error is not None:
            return ()
        if self._frame is None:
            return self._split(len(self._begun) + count)
        self._filled += count
        if self._filled == self._size:
            frame, self._frame = self._frame, None
            return (frame,)
        if self._filled == len(self._frame):
            self._grow(self._frame)
        return ()

    def _split(self, end: int) -> list[bytearray]:
        """What lies in the shared buffer up to `end`."""
        shared = self._shared
        frames: list[bytearray] = []
        position = 0
        while end - position >= LENGTH_BYTES:
            start = position + LENGTH_BYTES
            size = int.from_bytes(shared[position:start], "big", signed=True)
            if not 0 <= size <= self._bytes_max:
                self.error = WireError(f"a request of {size} bytes; socket.request.max.bytes is {self._bytes_max}")
                return frames
            position = start + size
            if position > end:
                self._begin(shared[start:end], size)
                return frames
            frames.append(bytearray(shared[start:position]))
        self._begun = bytes(shared[position:end])
        return frames

    def _begin(self, part: memoryview, size: int) -> None:
        self._begun = b""
        self._size = size
        self._filled = len(part)
        self._frame = bytearray(min(size, max(_GROWTH * len(part), _FIRST_BYTES)))
        self._frame[: len(part)] = part

    def _grow(self, frame: bytearray) -> None:
        # A new one: the event loop may still hold the old one, which then cannot change its size.
        self._frame = bytearray(min(self._size, _GROWTH * len(frame)))
        self._frame[: len(frame)] = frame
