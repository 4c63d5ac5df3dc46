"""A client and a server over grpc.aio on loopback, or over the simulated gRPC: both are held to one expectation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from simulator.grpc_channel import SimulatedChannel
from simulator.grpc_server import SimulatedServer
from simulator.loop import SimulatedLoop
from simulator.network import Network
from simulator.process import Process

HOST: Final = "127.0.0.1"
_PORT: Final = 9092


class Pair(Protocol):
    """A channel to a server that answers with `handlers`; `problems` are what its handlers failed with."""

    channel: Any
    server: Any

    def unreachable(self) -> Any:
        """A channel to where nobody listens."""

    async def kill(self) -> None:
        """The server's process is gone, and its connections."""

    async def break_connections(self) -> None:
        """Both ends hear of it."""


Scenario = Callable[[Pair], Awaitable[None]]


def run_real(handlers: dict[str, Any], scenario: Scenario) -> None:
    """Over the kernel's loopback; a relay in between can break connections as a kill does."""

    async def main() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
        port = server.add_insecure_port(f"{HOST}:0")
        await server.start()
        relay = _Relay(port)
        await relay.start()
        pair = _RealPair(server, relay)
        try:
            async with asyncio.timeout(20):
                await scenario(pair)
        finally:
            await pair.channel.close()
            await relay.stop()
            await server.stop(None)

    asyncio.run(main())


class _RealPair:
    def __init__(self, server: Any, relay: _Relay) -> None:
        self.server = server
        self._relay = relay
        self.channel: Any = grpc.aio.insecure_channel(f"{HOST}:{relay.port}")

    def unreachable(self) -> Any:
        return grpc.aio.insecure_channel(f"{HOST}:{self._relay.free_port}")

    async def kill(self) -> None:
        await self._relay.stop()

    async def break_connections(self) -> None:
        await self._relay.stop()


class _Relay:
    """Passes bytes on, until it breaks all connections."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0
        self.free_port = 0

    async def start(self) -> None:
        unused = await asyncio.start_server(lambda *_: None, HOST, 0)
        self._server = await asyncio.start_server(self._pass_on, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.free_port = unused.sockets[0].getsockname()[1]
        unused.close()
        await unused.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(HOST, self._target_port)
        self._writers += [writer, there_writer]
        for source, target in ((reader, there_writer), (there_reader, writer)):
            self._tasks.append(asyncio.create_task(self._copy(source, target)))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                target.write(data)
        target.close()

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


def run_simulated(handlers: dict[str, Any], scenario: Scenario) -> None:
    """Over a simulated network, in simulated time."""
    loop = SimulatedLoop()
    asyncio.set_event_loop(loop)
    problems: list[str] = []
    loop.set_exception_handler(lambda _, context: problems.append(str(context)))
    network = loop.network = Network(loop, Random(1))
    pair = _SimulatedPair(network, handlers)

    async def main() -> None:
        async with asyncio.timeout(20):
            await pair.start()
            await scenario(pair)
            await pair.channel.close()

    try:
        loop.run_until_complete(pair.client.run(lambda: loop.create_task(main())))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert not problems, problems


class _SimulatedPair:
    def __init__(self, network: Network, handlers: dict[str, Any]) -> None:
        self._network = network
        self.client = Process("client", "10.0.0.1")
        self._process = Process("server", "10.0.0.2")
        self.server = SimulatedServer(network, self._process, lambda *_: None)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
        self.server.add_insecure_port(f"10.0.0.2:{_PORT}")
        self.channel: Any = SimulatedChannel(network, self.client, f"10.0.0.2:{_PORT}")

    async def start(self) -> None:
        await self._process.run(lambda: asyncio.ensure_future(self.server.start()))

    def unreachable(self) -> Any:
        return SimulatedChannel(self._network, self.client, "10.0.0.2:9")

    async def kill(self) -> None:
        self._process.alive = False
        self._network.died(self._process)

    async def break_connections(self) -> None:
        for end in self._network.connections():
            self._network.reset(end)
