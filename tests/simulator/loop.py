"""The virtual event loop of a whole cluster: every callback is known to belong to a process, or to the simulation.

Tasks and futures have hashes that count up, so that sets of them are in the same order in every run.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
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

    _number: int

    def __hash__(self) -> int:
        # Numbered when it is first asked for, which is at the same point in every run: few futures are ever in a set.
        try:
            return self._number
        except AttributeError:
            self._number = next(_numbers)
            return self._number


class SimulatedFuture(asyncio.Future[Any]):
    """As `SimulatedTask`."""

    _number: int

    def __hash__(self) -> int:
        try:
            return self._number
        except AttributeError:
            self._number = next(_numbers)
            return self._number


class _Handle(list[Any]):
    """What `call_soon` gives: context, callback (None once it is cancelled), arguments, and when it is due if it is a
    timer. A list, for it is made tens of thousands of times in a run.
    """

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def cancel(self) -> None:
        self[1], self[2] = None, ()

    def cancelled(self) -> bool:
        return self[1] is None

    def when(self) -> float:
        """Of a timer."""
        return self[3]  # type: ignore[no-any-return]


class SimulatedLoop(VirtualLoop):
    """One for each run. Its turns are its own: asyncio's take a third of a run's time, and say nothing of ties."""

    network: Network  # where it connects and listens

    def __init__(self) -> None:
        restart_numbers()
        super().__init__()
        self._due: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._timer_numbers = itertools.count()
        self.tasks: list[SimulatedTask] = []  # those that are not done are kept: none may end by being forgotten
        self._tasks_at_most = 2_000
        self.set_task_factory(self._make_task)
        self.get_debug = False.__bool__  # type: ignore[method-assign]  # asked for each future: not to be Python code

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> SimulatedTask:
        task = SimulatedTask(coro, loop=loop, **options)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # a killed process' are never waited for
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
        handle = _Handle((copy_context() if context is None else context, callback, args))
        self._due.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        timer = _Handle((copy_context() if context is None else context, callback, args, when))
        heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        # Clocks tick: who waits for what rounding left of a pause would else wait for ever, at one point in time.
        when = self.now_s + (max(delay, _TICK_S) if delay > 0 else 0.0)
        timer = _Handle((copy_context() if context is None else context, callback, args, when))
        heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def _run_once(self) -> None:
        """Turns, until somebody stops the loop: asyncio looks for that after each call of this."""
        while not self._stopping:  # type: ignore[attr-defined]
            self._turn()

    def _turn(self) -> None:
        """All that is due now, and not what they make due. In its context each, unless that is of a process that is
        stopped or gone.
        """
        due, timers = self._due, self._timers
        while timers and timers[0][2][1] is None:
            heappop(timers)
        if not due:
            if not timers:
                raise Deadlock("everybody waits and no timer is set")
            self.now_s = max(self.now_s, timers[0][0])
        now_s = self.now_s
        while timers and timers[0][0] <= now_s:
            due.append(heappop(timers)[2])
        take = due.popleft
        for _ in range(len(due)):
            handle = take()
            callback = handle[1]
            if callback is None:
                continue
            context = handle[0]
            process = context.get(current_process)
            if process is not None:
                if not process.alive:
                    continue
                if process.paused:
                    process.held.append(handle)
                    continue
                process.has_run = True
            try:
                context.run(callback, *handle[2])
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio's handles do
                self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": error})

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
