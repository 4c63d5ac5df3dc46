"""The Kafka listener: the port, the connections that it accepted, and the limits over all of them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections import Counter
from typing import Final

from ...proto.errors import KafkaError
from ..config import KafkaListenerConfig
from .connection import Connection
from .framing import SHARED_BUFFER_BYTES
from .rooms import KafkaRooms

logger = logging.getLogger(__name__)

_SWEEP_SECONDS_MAX: Final = 10.0
_ROOM_AGAIN: Final = 0.75
_FAVOURED_SECONDS_MAX: Final = 10.0
"""A request that others wait for must come within this time."""
_BACKLOG: Final = 1024
_DRAIN_STEP_SECONDS: Final = 0.01


class KafkaListener:
    """Lives on one event loop: `bind`, then `serve`, then `stop`."""

    def __init__(self, config: KafkaListenerConfig) -> None:
        self.config = config
        self.shared_buffer = memoryview(bytearray(SHARED_BUFFER_BYTES))
        self.rooms: KafkaRooms
        self.full = False  # requests hold so many bytes that nobody is read from
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections: dict[Connection, str] = {}
        self._per_ip: Counter[str] = Counter()
        self._all_closed = asyncio.Event()
        self._held_bytes = 0
        self._favoured: Connection | None = None  # the one that is read from while `full`
        self._favoured_at = 0.0
        self._ids = itertools.count(1)
        self._sweep: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return self._loop.time()

    # --- life ------------------------------------------------------------------------------------------------

    def bind(self) -> int:
        """Takes the port, without answering at it yet; returns it. :raises KafkaError: it cannot be had."""
        listen = self.config.listen
        try:
            addresses = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            port = listen.port
            for family, kind, protocol, _, address in dict.fromkeys(addresses):
                port = self._bind_one(socket.socket(family, kind, protocol), (address[0], port, *address[2:]))
        except OSError as error:
            self._close_sockets()
            raise self._refused(error) from error
        return port

    def _refused(self, error: OSError) -> KafkaError:
        return KafkaError(
            f"cannot listen on {self.config.listen}: {error.strerror or error}; "
            f"free the port, or choose another under `listeners`"
        )

    def _bind_one(self, bound: socket.socket, address: tuple[object, ...]) -> int:
        self._sockets.append(bound)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        port: int = bound.getsockname()[1]
        return port

    async def serve(self, rooms: KafkaRooms) -> None:
        """Accepts connections from now on. :raises KafkaError: somebody else has bound the port too, and was faster."""
        self.rooms = rooms
        try:
            for bound in self._sockets:
                bound.listen(_BACKLOG)  # uvloop would keep to itself that it cannot
                server = await self._loop.create_server(self._new_connection, sock=bound, backlog=_BACKLOG)
                self._servers.append(server)
        except OSError as error:
            raise self._refused(error) from error
        self._sockets = []
        self._schedule_sweep()

    def _new_connection(self) -> Connection:
        return Connection(self, next(self._ids))

    async def stop(self, grace_seconds: float) -> None:
        """Accepts nobody any more, answers what has begun if that takes no longer than so, and closes."""
        self._close_sockets()
        for server in self._servers:
            server.close()
        if self._sweep is not None:
            self._sweep.cancel()
        deadline = self.now() + grace_seconds
        while self._connections:
            drained = [connection.drain() for connection in tuple(self._connections)]
            if (all(drained) and not self._connections) or self.now() >= deadline:
                break
            await asyncio.sleep(_DRAIN_STEP_SECONDS)
        for connection in tuple(self._connections):
            connection.abort("the broker stops")
        if self._connections:
            self._all_closed.clear()
            await self._all_closed.wait()

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            bound.close()
        self._sockets = []

    # --- what connections tell -------------------------------------------------------------------------------

    def opened(self, connection: Connection, host: str) -> str | None:
        """Why the connection cannot stay, if so."""
        self._connections[connection] = host
        self._per_ip[host] += 1
        if len(self._connections) > self.config.connections_max:
            return f"max.connections is {self.config.connections_max}"
        if self._per_ip[host] > self.config.connections_per_ip_max:
            return f"max.connections.per.ip is {self.config.connections_per_ip_max}"
        return None

    def closed(self, connection: Connection) -> None:
        host = self._connections.pop(connection)
        self._per_ip[host] -= 1
        if not self._per_ip[host]:
            del self._per_ip[host]
        if not self._connections:
            self._all_closed.set()
        if connection is self._favoured:
            self._favoured = None
            self._favour_one()
        self.held(connection, -connection.held_bytes)

    def unsent(self, change: int) -> None:
        """So many more bytes of answers wait for clients to take them."""
        if change:
            self.rooms.unsent_answers.bytes += change

    # --- memory for requests ---------------------------------------------------------------------------------

    def held(self, connection: Connection, change: int) -> None:
        """A connection holds so many more bytes of requests."""
        self._held_bytes += change
        limit = self.config.queued_request_bytes_max
        if not self.full:
            if self._held_bytes > limit:
                logger.warning("kafka_requests_full bytes=%d queued.max.request.bytes=%d", self._held_bytes, limit)
                self.full = True
                self._favour_one()
        elif self._held_bytes <= limit * _ROOM_AGAIN:
            self.full = False
            self._favoured = None
            for each in tuple(self._connections):
                each.control_reading()
        elif self._favoured is not None and not self._favoured.unfinished_bytes:
            self._favour_one()

    def may_read(self, connection: Connection) -> bool:
        """While there is no room: whether this is the one connection that may go on."""
        return connection is self._favoured

    def _favour_one(self) -> None:
        """Unfinished requests may fill all the memory there is: one at a time goes on, so that some end."""
        self._favoured = max(self._connections, key=lambda each: each.unfinished_bytes, default=None)
        for each in tuple(self._connections):
            if each.unfinished_bytes:
                each.control_reading()
        self._favoured_at = self.now()

    # --- idle connections ------------------------------------------------------------------------------------

    def _schedule_sweep(self) -> None:
        delay = min(self.config.connections_idle_ms_max / 4000, _SWEEP_SECONDS_MAX)
        self._sweep = self._loop.call_later(delay, self._close_idle)

    def _close_idle(self) -> None:
        idle_since = self.now() - self.config.connections_idle_ms_max / 1000
        for connection in tuple(self._connections):
            if connection.active_at < idle_since and connection.is_idle() and connection.active_at < idle_since:
                connection.abort("connections.max.idle.ms have passed")
        stalls = self._favoured is not None and self._favoured.unfinished_bytes > 0
        if self._favoured is not None and stalls and self._favoured_at < self.now() - _FAVOURED_SECONDS_MAX:
            self._favoured.abort("its request takes too long to come, while memory for requests is scarce")
        self._schedule_sweep()
