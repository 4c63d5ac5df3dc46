"""Two processes that talk TCP by asyncio's transports: through the kernel, or over the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, Protocol

from simulator.loop import SimulatedLoop
from simulator.network import Network
from simulator.process import Process

_PORT: Final = 9092
Factory = Callable[[], Any]


class Hosts(Protocol):
    """`listen` and `connect` as the event loop has them; `problems` are what its exception handler was told."""

    port: int
    problems: list[dict[str, Any]]

    async def listen(self, factory: Factory) -> Any: ...

    async def connect(self, factory: Factory) -> tuple[Any, Any]: ...


Scenario = Callable[[Any], Awaitable[None]]


class RealHosts:
    """On the loopback interface."""

    def __init__(self) -> None:
        self.port = 0
        self.problems: list[dict[str, Any]] = []

    async def listen(self, factory: Factory) -> Any:
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def connect(self, factory: Factory) -> tuple[Any, Any]:
        return await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", self.port)


class SimulatedHosts:
    """Each a process of its own; the scenario runs in the client's."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.client = Process("client", "10.0.0.1")
        self.server = Process("server", "10.0.0.2")
        self.port = _PORT
        self.problems: list[dict[str, Any]] = []

    async def listen(self, factory: Factory) -> Any:
        listening = self.network.loop.create_server(factory, self.server.host, self.port)
        return await self.server.run(lambda: asyncio.ensure_future(listening))

    async def connect(self, factory: Factory) -> tuple[Any, Any]:
        return await self.network.loop.create_connection(factory, self.server.host, self.port)

    def kill(self, process: Process) -> None:
        process.alive = False
        self.network.died(process)


def run_real(scenario: Scenario) -> None:
    """Through the kernel."""

    async def main() -> None:
        hosts = RealHosts()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: hosts.problems.append(context))
        async with asyncio.timeout(30):
            await scenario(hosts)

    asyncio.run(main())


def run_simulated(scenario: Scenario, seed: int = 1) -> None:
    """Over a simulated network, in simulated time."""
    loop = SimulatedLoop()
    asyncio.set_event_loop(loop)
    network = loop.network = Network(loop, Random(seed))
    hosts = SimulatedHosts(network)
    loop.set_exception_handler(lambda _, context: hosts.problems.append(context))

    async def main() -> None:
        async with asyncio.timeout(30):
            await scenario(hosts)

    try:
        loop.run_until_complete(hosts.client.run(lambda: loop.create_task(main())))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
