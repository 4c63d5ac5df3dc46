"""A whole cluster in one thread: real controllers, real brokers and real clients, as their programs put them together.

What is simulated is what is outside of them: the clock, the network under gRPC, the disks, the kernel that kills and
stops processes, and every source of chance, all drawn from one seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random as global_random
import sys
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar
from unittest.mock import MagicMock, patch

import grpc.aio
from harness.fake_file_system import FakeFileSystem
from harness.memory_disk import MemoryDisk
from klamm.broker.config import BROKER_DEFINITION, BrokerConfig
from klamm.broker.server import BrokerServer
from klamm.cluster.node_config import parse_properties
from klamm.controller.config import ControllerConfig
from klamm.controller.quorum_folder import format_new
from klamm.controller.server import ControllerServer
from klamm.controller.system_clock import SystemClock
from simulator.grpc_channel import SimulatedChannel
from simulator.grpc_server import SimulatedServer
from simulator.ledger import Ledger
from simulator.loop import SimulatedLoop
from simulator.network import Network
from simulator.ordered_set import aiokafka_in_order
from simulator.process import Process, current_process
from simulator.sockets import SocketModule
from simulator.transcript import Transcript

T = TypeVar("T")

WALL_BEGIN_MS: Final = 1_700_000_000_000
GRPC_PORT: Final = 9092
KAFKA_PORT: Final = 9192
CONTROLLER_PORT: Final = 9093
_RANDOM_MODULES: Final = ("klamm.broker.replica_manager", "klamm.controller.raft_node", "klamm.client.cluster_client")
_NO_HANDLE: Final = MagicMock()


class Node:
    """A machine with its disk, and the process on it while there is one."""

    def __init__(self, world: World, name: str, host: str) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.process: Process | None = None
        self.exit_error: BaseException | None = None
        self._stop: asyncio.Event | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """A new process."""
        assert not self.running, self.name
        self.world.transcript.note(f"start {self.name}")
        process = self.process = Process(self.name, self.host)
        process.run(lambda: self.world.loop.create_task(self._main(process), name=self.name))

    async def _main(self, process: Process) -> None:
        self._stop = asyncio.Event()
        try:
            await self._run(self._stop)
            self.world.transcript.note(f"exit {self.name}")
        except Exception as error:
            self.world.transcript.note(f"exit {self.name} error={error!r}")
            self.exit_error = error
            logging.getLogger(__name__).info("exit %s", self.name, exc_info=error)
            self.world.failures.append((self.name, error))
        finally:
            self._ended(process)

    async def _run(self, stop: asyncio.Event) -> None:
        raise NotImplementedError

    def request_stop(self) -> None:
        """SIGTERM."""
        self.world.transcript.note(f"stop {self.name}")
        if self._stop is not None and self.process is not None:
            self.process.run(self._stop.set)

    def kill(self) -> None:
        """kill -9: what was written stays in the page cache; nothing else is done."""
        if self.process is not None and self.process.alive:
            self.world.transcript.note(f"kill {self.name}")
            self._ended(self.process)

    def _ended(self, process: Process) -> None:
        process.alive = False
        process.paused = False
        process.held.clear()
        self.world.network.died(process)
        self.disk_closes()

    def disk_closes(self) -> None:
        """The kernel closes what the process had open."""

    def pause(self) -> None:
        """SIGSTOP."""
        if self.process is not None and self.process.alive and not self.process.paused:
            self.world.transcript.note(f"pause {self.name}")
            self.process.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        if self.process is not None and self.process.paused:
            self.world.transcript.note(f"resume {self.name}")
            self.process.paused = False
            self.world.loop.resume(self.process.held)


class ControllerNode(Node):
    """One controller of the quorum."""

    def __init__(self, world: World, node_id: int) -> None:
        super().__init__(world, f"controller-{node_id}", f"10.0.0.{node_id}")
        self.node_id = node_id
        self.disk = MemoryDisk(Random(world.random.getrandbits(64)))
        self.server: ControllerServer | None = None
        format_new(Path("/simulated/controller"), "simulated", file_system=self.disk)

    async def _run(self, stop: asyncio.Event) -> None:
        failures: list[Exception] = []

        def fail(error: Exception) -> None:
            failures.append(error)
            stop.set()

        config = ControllerConfig.parse(self.world.controller_properties(self.node_id))
        self.server = ControllerServer(config, SystemClock(), fail, file_system=self.disk)
        await self.server.start()
        await stop.wait()
        await self.server.stop()
        if failures:
            raise failures[0]

    def disk_closes(self) -> None:
        self.disk.kill()
        self.server = None

    def cut_power(self) -> None:
        """As `kill`, and what was not synced may be gone."""
        self.kill()
        self.world.transcript.note(f"power {self.name}")
        self.disk.lose_power()


class BrokerNode(Node):
    """One broker."""

    def __init__(self, world: World, broker_id: int) -> None:
        super().__init__(world, f"broker-{broker_id}", f"10.0.1.{broker_id}")
        self.broker_id = broker_id
        self.disk = FakeFileSystem()
        self.server: BrokerServer | None = None
        self.serving = False
        self.lost_data_in_epoch = -1  # the last incarnation that a power cut ended

    async def _run(self, stop: asyncio.Event) -> None:
        server = self.server = BrokerServer(self.world.broker_config(self.broker_id), file_system=self.disk)
        start = asyncio.create_task(server.start())
        told = asyncio.create_task(stop.wait())
        failed = asyncio.create_task(server.wait_for_stop())
        await asyncio.wait({start, told, failed}, return_when=asyncio.FIRST_COMPLETED)
        if start.done() and start.exception() is None:
            self.serving = True
            await asyncio.wait({told, failed}, return_when=asyncio.FIRST_COMPLETED)
        elif not start.done():
            start.cancel()
            await asyncio.wait({start})
        self.serving = False
        told.cancel()
        if not failed.done():
            failed.cancel()
        await server.stop()
        if start.done() and not start.cancelled() and (error := start.exception()) is not None:
            raise error
        if server.failure is not None:
            raise server.failure

    def disk_closes(self) -> None:
        self.disk.crash()
        self.server = None
        self.serving = False

    @property
    def epoch(self) -> int:
        """Of the running incarnation; -1 before it is registered."""
        server = self.server
        epoch = None if server is None or not server._has_rooms else server._lifecycle._broker_epoch
        return -1 if epoch is None else epoch

    def cut_power(self) -> None:
        """As `kill`, and what was not synced may be gone."""
        # Epochs are offsets of metadata: a registration that it has not heard of yet counts too.
        known = [node.server._machine.image.end_offset for node in self.world.controllers.values() if node.server]
        self.lost_data_in_epoch = max(self.epoch, self.lost_data_in_epoch, *known)
        self.kill()
        self.world.transcript.note(f"power {self.name}")
        self.disk.power_cut(self.world.disk_random)


class World:
    """Make it inside `simulate`. Controllers have ids 1.., brokers 1.. as well."""

    def __init__(self, loop: SimulatedLoop, seed: int, *, controllers: int = 3, brokers: int = 3) -> None:
        self.loop = loop
        self.seed = seed
        self.random = Random(seed)
        self.disk_random = Random(self.random.getrandbits(64))
        self.network = loop.network = Network(loop, Random(self.random.getrandbits(64)))
        self.transcript = Transcript(loop)
        self.ledger = Ledger(loop)
        self.failures: list[tuple[str, BaseException]] = []
        self.buried = False
        self.crash_client: Callable[[Random], None] = lambda _: None
        self.add_client: Callable[[Random], None] = lambda _: None
        self.clients: Callable[[], list[Process]] = list
        self.tasks: list[asyncio.Task[Any]] = []
        self.broker_properties = {"offsets.topic.num.partitions": "2"}
        self.controller_settings: dict[str, str] = {}
        self.controllers = {number: ControllerNode(self, number) for number in range(1, controllers + 1)}
        self.brokers = {number: BrokerNode(self, number) for number in range(1, brokers + 1)}

    @property
    def nodes(self) -> list[Node]:
        return [*self.controllers.values(), *self.brokers.values()]

    def start(self) -> None:
        """All nodes."""
        for node in self.nodes:
            node.start()

    def add_broker(self) -> BrokerNode:
        """One more, with the next id; start it."""
        node = BrokerNode(self, max(self.brokers) + 1)
        self.brokers[node.broker_id] = node
        return node

    # --- configuration ---------------------------------------------------------------------------------------

    def controller_properties(self, node_id: int) -> str:
        voters = ",".join(f"{number}@10.0.0.{number}:{CONTROLLER_PORT}" for number in self.controllers)
        return "\n".join(
            (
                f"node.id={node_id}",
                "controller.quorum.id=simulated",
                f"controller.quorum.voters={voters}",
                f"listeners=CONTROLLER://10.0.0.{node_id}:{CONTROLLER_PORT}",
                "metadata.log.dir=/simulated/controller",
                *(f"{key}={value}" for key, value in self.controller_settings.items()),
            )
        )

    def broker_config(self, broker_id: int) -> BrokerConfig:
        host = f"10.0.1.{broker_id}"
        bootstrap = ",".join(f"10.0.0.{number}:{CONTROLLER_PORT}" for number in self.controllers)
        properties = {
            "node.id": str(broker_id),
            "listeners": f"GRPC://{host}:{GRPC_PORT},KAFKA://{host}:{KAFKA_PORT}",
            "controller.quorum.bootstrap.servers": bootstrap,
            "log.dirs": "/simulated/broker",
            **self.broker_properties,
        }
        text = "\n".join(f"{key}={value}" for key, value in properties.items())
        properties = dict(parse_properties(text))
        return BrokerConfig._from_values(BROKER_DEFINITION.resolve(properties), properties)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{broker.host}:{GRPC_PORT}" for broker in self.brokers.values())

    @property
    def kafka_bootstrap_servers(self) -> str:
        return ",".join(f"{broker.host}:{KAFKA_PORT}" for broker in self.brokers.values())

    # --- for tests and workloads -----------------------------------------------------------------------------

    def client(self, name: str, number: int) -> Process:
        """A client's process, on a machine of its own."""
        return Process(name, f"10.0.2.{number}")

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Waits, in simulated time."""
        deadline = self.loop.time() + timeout_s
        while not condition():
            assert self.loop.time() < deadline, f"waited {timeout_s} s in vain: {what}"
            await asyncio.sleep(0.01)

    def note_error(self, where: str, error: BaseException) -> None:
        """A handler failed with something that it does not foresee."""
        if self.buried:
            return
        process = current_process.get()
        self.transcript.note(f"error {process} {where} {error!r}")
        self.failures.append((f"{process} {where}", error))

    def note_problem(self, context: dict[str, Any]) -> None:
        """A callback or an unwatched task failed."""
        error = context.get("exception")
        self.note_error(str(context.get("message")), error if error is not None else RuntimeError(str(context)))


def simulate(seed: int, main: Callable[[World], Coroutine[Any, Any, T]], **shape: int) -> T:
    """Runs `main` over a world that nothing outside has a say in."""
    loop = SimulatedLoop()
    asyncio.set_event_loop(loop)
    was_collecting = gc.isenabled()
    gc.disable()  # what a collection ends would end at another point in every run
    try:
        with _chance_and_time(loop, seed), aiokafka_in_order(), _threads_in_line():
            world = World(loop, seed, **shape)
            loop.set_exception_handler(lambda _, context: world.note_problem(context))
            with _grpc(world):
                try:
                    return loop.run_until_complete(main(world))
                finally:
                    _bury(world)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        if was_collecting:
            gc.enable()


def _bury(world: World) -> None:
    """Nothing of any process runs again; its tasks end here, and what they would say of it nobody hears."""
    world.buried = True
    world.network.closed = True
    loop = world.loop
    disabled = logging.root.manager.disable
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging.disable(logging.CRITICAL)
    filters = warnings.filters[:]
    warnings.simplefilter("ignore", RuntimeWarning)  # coroutines that nobody waits for any more
    asyncio._set_running_loop(loop)
    loop.call_soon = _do_nothing  # type: ignore[method-assign]
    loop.call_at = _do_nothing  # type: ignore[method-assign]
    try:
        for task in [each for each in loop.tasks if not each.done()]:
            coroutine = task.get_coro()
            with contextlib.suppress(BaseException):
                coroutine.close()
        gc.collect()
    finally:
        asyncio._set_running_loop(None)
        loop._due.clear()
        loop._timers.clear()
        warnings.filters[:] = filters  # type: ignore[index]
        logging.disable(disabled)
        sys.unraisablehook = hook


def _do_nothing(*_: Any, **__: Any) -> MagicMock:
    """For those who still ask a loop whose world is over."""
    return _NO_HANDLE


class _InLine(Executor):
    """As a pool of threads whose work is done when it is asked for."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Whatever the pool's size and name."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it is the caller's, as it would be from a thread
            future.set_exception(error)
        return future


@contextmanager
def _threads_in_line() -> Iterator[None]:
    """No threads; and asyncio's own list of tasks, of weak references, is not kept: the loop has one."""
    with (
        patch("klamm.broker.log.log_manager.ThreadPoolExecutor", _InLine),
        patch.object(asyncio.tasks._all_tasks, "add", lambda _: None),  # type: ignore[attr-defined]
    ):
        yield


@contextmanager
def _grpc(world: World) -> Iterator[None]:
    def process() -> Process:
        found = current_process.get()
        assert found is not None, "gRPC outside of any process"
        return found

    def channel(target: str, *_: Any, **__: Any) -> SimulatedChannel:
        return SimulatedChannel(world.network, process(), target)

    def server(*_: Any, **__: Any) -> SimulatedServer:
        return SimulatedServer(world.network, process(), world.note_error)

    with (
        patch.object(grpc.aio, "insecure_channel", channel),
        patch.object(grpc.aio, "server", server),
        patch("klamm.broker.kafka.listener.socket", SocketModule(world.network)),
    ):
        yield


@contextmanager
def _chance_and_time(loop: SimulatedLoop, seed: int) -> Iterator[None]:
    """The clocks and the dice that modules reach for by themselves."""
    chance = Random(seed ^ 0x5EED)

    def wall_ns() -> int:
        process = current_process.get()
        offset_ms = 0 if process is None else process.wall_offset_ms
        return int((WALL_BEGIN_MS + offset_ms) * 1_000_000 + loop.now_s * 1e9)

    def seeded(*arguments: Any) -> Random:
        return Random(*arguments) if arguments else Random(chance.getrandbits(64))

    with ExitStack() as patches:
        for name, stand_in in (
            ("monotonic", lambda: loop.now_s),
            ("monotonic_ns", lambda: int(loop.now_s * 1e9)),
            ("perf_counter", lambda: loop.now_s),
            ("time", lambda: wall_ns() / 1e9),
            ("time_ns", wall_ns),
            ("sleep", lambda _: None),  # of a thread, which runs in line here
        ):
            patches.enter_context(patch.object(time, name, stand_in))
        patches.enter_context(patch("klamm.client.producer_core._time_ns", wall_ns))
        patches.enter_context(patch.object(os, "urandom", chance.randbytes))
        patches.enter_context(patch.object(global_random, "_urandom", chance.randbytes))
        for module in _RANDOM_MODULES:
            patches.enter_context(patch(f"{module}.Random", seeded))
        state = global_random.getstate()
        global_random.seed(seed)
        try:
            yield
        finally:
            global_random.setstate(state)
