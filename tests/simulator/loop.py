"""The virtual event loop of a whole cluster: every callback is known to belong to a process, or to the simulation.

Tasks and futures have hashes that count up, so that sets of them are in the same order in every run.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, TypeVar

from harness.virtual_loop import Deadlock, VirtualLoop
from simulator.process import current_process
from simulator.sockets import ListeningSocket, TcpServer, create_connection, create_server
from simulator.tcp import TcpTransport

if TYPE_CHECKING:
    from simulator.network import Network

T = TypeVar("T")

_TICK_S: Final = 1e-9

_numbers = itertools.count(1)


def restart_numbers() -> None:
    """Before a run: its tasks and futures are to have the numbers of every other run of the seed."""
    global _numbers
    _numbers = itertools.count(1)


class SimulatedTask(asyncio.Task[Any]):
    """A task whose place in a set is the same in every run."""

    def __init__(self, coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = next(_numbers)
        super().__init__(coro, **options)
        self._log_destroy_pending = False  # those of a killed process are never waited for

    def __hash__(self) -> int:
        return self._number


class SimulatedFuture(asyncio.Future[Any]):
    """As `SimulatedTask`."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        self._number = next(_numbers)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class _Handle:
    """What `call_soon` gives; runs in its context, unless that is of a process that is stopped or gone."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context")

    def __init__(self, callback: Callable[..., Any], args: Any, context: Context | None) -> None:
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = _nothing, ()

    def cancelled(self) -> bool:
        return self._cancelled

    def run(self) -> None:
        process = self._context.get(current_process)
        if process is None or (process.alive and not process.paused):
            try:
                self._context.run(self._callback, *self._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio's handles do
                context = {"message": f"Exception in callback {self._callback!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
        elif process.alive:
            process.held.append(self)


class _TimerHandle(_Handle):
    """What `call_at` gives."""

    __slots__ = ("_when",)

    def __init__(self, when: float, callback: Callable[..., Any], args: Any, context: Context | None) -> None:
        super().__init__(callback, args, context)
        self._when = when

    def when(self) -> float:
        return self._when


def _nothing() -> None:
    """Of a handle that was cancelled."""


class SimulatedLoop(VirtualLoop):
    """One for each run. Its turns are its own: asyncio's take a third of a run's time, and say nothing of ties."""

    network: Network  # where it connects and listens

    def __init__(self) -> None:
        restart_numbers()
        super().__init__()
        self._due: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _TimerHandle]] = []
        self._timer_numbers = itertools.count()
        self.tasks: list[SimulatedTask] = []  # those that are not done are kept: none may end by being forgotten
        self._tasks_at_most = 2_000
        self.set_task_factory(self._make_task)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> SimulatedTask:
        task = SimulatedTask(coro, loop=loop, **options)
        self.tasks.append(task)
        if len(self.tasks) > self._tasks_at_most:
            self.tasks = [each for each in self.tasks if not each.done()]
            self._tasks_at_most = 2 * len(self.tasks) + 1_000
        return task

    def create_future(self) -> asyncio.Future[Any]:
        return SimulatedFuture(loop=self)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context)
        self._due.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _TimerHandle:
        timer = _TimerHandle(when, callback, args, context)
        heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _TimerHandle:
        # Clocks tick: who waits for what rounding left of a pause would else wait for ever, at one point in time.
        pause_s = max(delay, _TICK_S) if delay > 0 else 0.0
        return self.call_at(self.now_s + pause_s, callback, *args, context=context)

    def _run_once(self) -> None:
        due, timers = self._due, self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not due:
            if not timers:
                raise Deadlock("everybody waits and no timer is set")
            self.now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= self.now_s:
            due.append(heappop(timers)[2])
        for _ in range(len(due)):
            handle = due.popleft()
            if not handle._cancelled:
                handle.run()

    def resume(self, handles: list[Any]) -> None:
        """What was held while a process was stopped runs, in order."""
        self._due.extend(handle for handle in handles if not handle.cancelled())
        handles.clear()

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        *,
        sock: ListeningSocket | None = None,
        backlog: int = 100,
    ) -> TcpServer:
        return create_server(self.network, protocol_factory, host, port, sock)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, ssl: None = None
    ) -> tuple[TcpTransport, asyncio.BaseProtocol]:
        return await create_connection(self.network, protocol_factory, host, port)
