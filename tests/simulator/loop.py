"""The virtual event loop of a whole cluster: every callback is known to belong to a process, or to the simulation.

Tasks and futures have hashes that count up, so that sets of them are in the same order in every run.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

from harness.virtual_loop import VirtualLoop
from simulator.process import current_process

T = TypeVar("T")

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


class _Handle(asyncio.Handle):
    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(current_process)  # type: ignore[attr-defined]
        if process is None or (process.alive and not process.paused):
            super()._run()  # type: ignore[misc]
        elif process.alive:
            process.held.append(self)


class _TimerHandle(asyncio.TimerHandle):
    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(current_process)  # type: ignore[attr-defined]
        if process is None or (process.alive and not process.paused):
            super()._run()  # type: ignore[misc]
        elif process.alive:
            process.held.append(self)


class SimulatedLoop(VirtualLoop):
    """One for each run."""

    def __init__(self) -> None:
        restart_numbers()
        super().__init__()
        self.tasks: list[SimulatedTask] = []
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> SimulatedTask:
        task = SimulatedTask(coro, loop=loop, **options)
        self.tasks.append(task)
        if len(self.tasks) > 2_000:
            self.tasks = [each for each in self.tasks if not each.done()]
        return task

    def create_future(self) -> asyncio.Future[Any]:
        return SimulatedFuture(loop=self)

    def _call_soon(self, callback: Callable[..., Any], args: Any, context: Context | None) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        import heapq

        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def resume(self, handles: list[asyncio.Handle]) -> None:
        """What was held while a process was stopped runs, in order."""
        self._ready.extend(handle for handle in handles if not handle.cancelled())  # type: ignore[attr-defined]
        handles.clear()
