"""Listening sockets and connecting over the simulated network: what the kernel and the event loop do for asyncio."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from simulator.network import RESET, End, Network
from simulator.process import Process, current_process
from simulator.tcp import Factory, TcpTransport

if TYPE_CHECKING:
    from simulator.loop import SimulatedLoop


class ListeningSocket:
    """A bound socket: takes connections once it listens and a server has it."""

    def __init__(self, network: Network, process: Process) -> None:
        self.family = socket.AF_INET
        self._network = network
        self._process = process
        self._port = 0
        self._listens = False
        self.on_accept: Callable[[End], None] | None = None

    def setsockopt(self, *_: Any) -> None:
        """There is no kernel to be told."""

    def bind(self, address: tuple[str, int]) -> None:
        """:raises OSError: another process listens there."""
        self._port = address[1]
        if not self._port:
            self._process.next_port += 1
            self._port = self._process.next_port
        if self._network.listens(self._process.host, self._port):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def getsockname(self) -> tuple[str, int]:
        return self._process.host, self._port

    def listen(self, backlog: int = 0) -> None:
        """:raises OSError: another process was faster."""
        if not self._listens:
            self._network.listen(self._process, self._port, self._accept)
            self._listens = True

    def _accept(self, end: End) -> None:
        if self.on_accept is None:
            end.close(RESET)
        else:
            self.on_accept(end)

    def close(self) -> None:
        self.on_accept = None
        if self._listens:
            self._listens = False
            self._network.unlisten(self._process, self._port)


class SocketModule:
    """Stands in for the module `socket` where a server binds: every host is its own address, nothing is resolved."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

    def socket(self, *_: Any) -> ListeningSocket:
        return ListeningSocket(self._network, _process())


class TcpServer(asyncio.AbstractServer):
    """What `create_server` gives. Its connections outlive it."""

    def __init__(self, loop: SimulatedLoop, random: Random, factory: Factory, bound: ListeningSocket) -> None:
        self._loop = loop
        self._random = random
        self._factory = factory
        self._bound = bound
        self._serving = True
        bound.on_accept = self._accept
        bound.listen()

    def _accept(self, end: End) -> None:
        protocol = self._factory()
        transport = TcpTransport(self._loop, end, protocol, self._random)
        protocol.connection_made(transport)

    @property
    def sockets(self) -> tuple[ListeningSocket, ...]:
        return (self._bound,) if self._serving else ()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        """It does."""

    async def serve_forever(self) -> NoReturn:
        """Until it is cancelled."""
        await self._loop.create_future()
        raise AssertionError("nobody ends it")

    def close(self) -> None:
        if self._serving:
            self._serving = False
            self._bound.close()

    async def wait_closed(self) -> None:
        """As asyncio's: it does not wait for the connections."""


def create_server(
    network: Network, factory: Factory, host: str | None, port: int | None, bound: ListeningSocket | None
) -> TcpServer:
    """:raises OSError: the port is in use."""
    if bound is None:
        bound = ListeningSocket(network, _process())
        bound.bind((host or "", port or 0))
    return TcpServer(network.loop, network.tcp_random, factory, bound)


async def create_connection(
    network: Network, factory: Factory, host: str, port: int
) -> tuple[TcpTransport, asyncio.BaseProtocol]:
    """:raises OSError: it cannot be had."""
    end = await network.connect(_process(), host, port)
    protocol = factory()
    transport = TcpTransport(network.loop, end, protocol, network.tcp_random)
    protocol.connection_made(transport)
    return transport, protocol


def _process() -> Process:
    process = current_process.get()
    assert process is not None, "a socket outside of any process"
    return process
