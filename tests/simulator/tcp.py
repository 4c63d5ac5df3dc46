"""TCP over the simulated network, as the transports of asyncio give it: bytes in order, split and joined at will.

Who does not read holds the sender up: no more than `WINDOW_BYTES` are under way or unread, the rest waits in the
transport's buffer, and the protocol is told to pause writing. There is no keepalive: while a way is cut bytes wait, and
it is for the protocols to give up. tests/unit/test_simulated_tcp.py holds it and the kernel's to the same expectations.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from simulator.network import FIN, RESET, End

if TYPE_CHECKING:
    from simulator.loop import SimulatedLoop

WINDOW_BYTES: Final = 64 * 1024
_READ_BYTES_MAX: Final = 256 * 1024
_SPLITS: Final = 0.1
"""How many of the writes, and of the readings, end in the middle."""
_SHORT_BYTES: Final = 8
_WRITE_BUFFER_BYTES: Final = 64 * 1024

Factory = Callable[[], asyncio.BaseProtocol]


class TcpTransport(asyncio.Transport):
    """One process' end of a connection. On the wire: bytes, how many of them were read (a number), None for EOF."""

    def __init__(self, loop: SimulatedLoop, end: End, protocol: asyncio.BaseProtocol, random: Random) -> None:
        here, there = (end.host, end.port), (end.peer.host, end.peer.port)
        super().__init__({"sockname": here, "peername": there, "socket": ConnectedSocket(here, there)})
        self._loop = loop
        self._end = end
        self._random = random
        self._unsent = bytearray()
        self._under_way = 0  # bytes sent that the peer has not said to have read
        self._received = bytearray()
        self._read_bytes = 0  # since the peer was told
        self._ended: str | None = None if end.open else FIN  # behind what was received: how it ends
        self._eof = False  # behind what was received, the peer sends no more
        self._eof_told = False
        self._eof_wanted = False
        self._read_all = False  # and the protocol knows
        self._paused = False
        self._reading = False  # a reading is due
        self._writing_paused = False
        self._closing = False
        self._lost = False  # connection_lost was called, or is about to be
        self._high = _WRITE_BUFFER_BYTES
        self._low = _WRITE_BUFFER_BYTES // 4
        self.set_protocol(protocol)
        end.patient = True
        end.on_message, end.on_close = self._arrived, self._broken
        self._read_soon()

    def __repr__(self) -> str:
        return f"<TcpTransport {self._end.host}:{self._end.port} {self._end.peer.host}:{self._end.peer.port}>"

    # --- as asyncio.Transport --------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        return self._closing or self._end.network.closed

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        if not self._closing:
            self._paused = True

    def resume_reading(self) -> None:
        if not self._closing and self._paused:
            self._paused = False
            self._read_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _WRITE_BUFFER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._look_at_buffer()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._lost or not data:
            return
        if not self._end.open:  # what arrives at a closed end is answered with a reset
            self._loop.call_soon(self._give_up, BrokenPipeError(errno.EPIPE, "Broken pipe"))
            return
        self._unsent += data
        self._send()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._closing and not self._eof_wanted:
            self._eof_wanted = True
            self._send()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        """Once all is sent."""
        if not self._closing:
            self._closing = True
            self._send()

    def abort(self) -> None:
        """At once."""
        self._give_up(None)

    # --- sending ---------------------------------------------------------------------------------------------

    def _send(self) -> None:
        room = WINDOW_BYTES - self._under_way
        if self._unsent and room > 0:
            segment = bytes(self._unsent[:room])
            del self._unsent[:room]
            self._under_way += len(segment)
            cut = self._cut(len(segment))
            self._end.send(segment[:cut])
            if cut < len(segment):
                self._end.send(segment[cut:])
        if not self._unsent:
            if self._eof_wanted and not self._eof_told:
                self._eof_told = True
                self._end.send(None)
            if self._closing and not self._lost:
                self._lost = True
                self._loop.call_soon(self._say_goodbye, None)
        self._look_at_buffer()

    def _cut(self, size: int) -> int:
        """After how many of so many bytes there is a pause."""
        if size < 2 or self._random.random() >= _SPLITS:
            return size
        return self._random.randrange(1, min(size, _SHORT_BYTES) if self._random.random() < 0.5 else size)

    def _look_at_buffer(self) -> None:
        size = len(self._unsent)
        if size > self._high and not self._writing_paused:
            self._writing_paused = True
            self._tell("pause_writing")
        elif self._writing_paused and size <= self._low:
            self._writing_paused = False
            self._tell("resume_writing")

    def _tell(self, what: str) -> None:
        try:
            getattr(self._protocol, what)()
        except Exception as error:  # noqa: BLE001 - as asyncio does: told, and on we go
            self._complain(f"protocol.{what}() failed", error)

    # --- receiving -------------------------------------------------------------------------------------------

    def _arrived(self, message: bytes | int | None) -> None:
        if self._lost:
            return
        if isinstance(message, bytes):
            self._received += message
            self._read_soon()
        elif message is None:
            self._eof = True
            self._read_soon()
        else:
            self._under_way -= message
            self._send()

    def _broken(self, reason: str) -> None:
        """The other end is closed, or the connection broken: what came before it is read first."""
        if self._lost:
            return
        self._ended = reason
        self._read_soon()
        if self._unsent:
            self._loop.call_soon(self._give_up, ConnectionResetError(errno.ECONNRESET, reason))

    def _read_soon(self) -> None:
        due = self._received or self._ended is not None or self._eof
        if due and not (self._reading or self._paused or self._closing or self._read_all):
            self._reading = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._reading = False
        if self._paused or self._closing:
            return
        if self._received:
            try:
                self._give()
            except Exception as error:  # noqa: BLE001 - as asyncio does: the protocol is broken, the connection ends
                self._complain("Fatal error: protocol failed to take what was received", error)
                self._give_up(error)
            self._read_soon()
        elif self._ended is not None and self._ended != FIN:
            self._give_up(ConnectionResetError(errno.ECONNRESET, self._ended))
        else:
            self._end_of_input()

    def _give(self) -> None:
        size = self._cut(min(len(self._received), _READ_BYTES_MAX))
        if self._buffered:
            buffer = self._protocol.get_buffer(-1)
            size = min(size, len(buffer))
            if not size:
                raise RuntimeError("get_buffer() returned an empty buffer")
            buffer[:size] = self._received[:size]
            del self._received[:size]
            self._take_note(size)
            self._protocol.buffer_updated(size)
        else:
            data = bytes(self._received[:size])
            del self._received[:size]
            self._take_note(size)
            self._protocol.data_received(data)

    def _take_note(self, size: int) -> None:
        """Tells the peer now and then how much was read."""
        self._read_bytes += size
        if self._read_bytes >= WINDOW_BYTES // 2:
            self._end.send(self._read_bytes)
            self._read_bytes = 0

    def _end_of_input(self) -> None:
        self._read_all = True
        if not self._protocol.eof_received():
            self.close()

    # --- the end ---------------------------------------------------------------------------------------------

    def _give_up(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._unsent.clear()
            self._loop.call_soon(self._say_goodbye, error, RESET)

    def _say_goodbye(self, error: Exception | None, reason: str = FIN) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._end.close(RESET if self._received else reason)

    def _complain(self, message: str, error: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )


class ConnectedSocket:
    """What `get_extra_info("socket")` gives: options go nowhere."""

    def __init__(self, here: tuple[str, int], there: tuple[str, int]) -> None:
        self.family = socket.AF_INET
        self.type = socket.SOCK_STREAM
        self._here, self._there = here, there

    def getsockname(self) -> tuple[str, int]:
        return self._here

    def getpeername(self) -> tuple[str, int]:
        return self._there

    def setsockopt(self, *_: Any) -> None:
        """There is no kernel to be told."""
