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
        self._held_bytes = 0
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
            raise KafkaError(
                f"cannot listen on {listen}: {error.strerror or error}; "
                f"free the port, or choose another under `listeners`"
            ) from error
        return port

    def _bind_one(self, bound: socket.socket, address: tuple[object, ...]) -> int:
        self._sockets.append(bound)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        port: int = bound.getsockname()[1]
        return port

    async def serve(self, rooms: KafkaRooms) -> None:
        """Accepts connections from now on."""
        self.rooms = rooms
        for bound in self._sockets:
            self._servers.append(await self._loop.create_server(self._new_connection, sock=bound, backlog=_BACKLOG))
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
        while self._connections:
            await asyncio.sleep(0)

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
        self.held(connection, -connection.held_bytes)

    def held(self, connection: Connection, change: int) -> None:
        """A connection holds so many more bytes of requests."""
        self._held_bytes += change

    # --- idle connections ------------------------------------------------------------------------------------

    def _schedule_sweep(self) -> None:
        delay = min(self.config.connections_idle_ms_max / 4000, _SWEEP_SECONDS_MAX)
        self._sweep = self._loop.call_later(delay, self._close_idle)

    def _close_idle(self) -> None:
        idle_since = self.now() - self.config.connections_idle_ms_max / 1000
        for connection in tuple(self._connections):
            if connection.active_at < idle_since and connection.idle:
                connection.abort("connections.max.idle.ms have passed")
        self._schedule_sweep()
