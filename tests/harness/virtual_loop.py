"""An asyncio event loop whose time is a number: when nobody can run, it jumps to the next timer. No threads.

With everything else drawn from a seed, a run is the same every time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(AssertionError):
    """Everybody waits, and no timer is set."""


class _Selector(selectors.BaseSelector):
    """Sees no input; waiting is moving the clock."""

    def __init__(self) -> None:
        self.loop: VirtualLoop | None = None
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._map[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert self.loop is not None
        if timeout is None:
            raise Deadlock("everybody waits and no timer is set")
        if timeout > 0:
            self.loop.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Threads run in line: `to_thread` returns a finished future."""

    def __init__(self) -> None:
        selector = _Selector()
        self.now_s = 1_000.0
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # it is the caller's, as it would be from a thread
            future.set_exception(error)
        return future


class VirtualClock:
    """A broker's clock on the loop's time; its wall clock may be set."""

    def __init__(self, loop: VirtualLoop, wall_offset_ms: int = 1_700_000_000_000) -> None:
        self._loop = loop
        self.wall_offset_ms = wall_offset_ms

    def monotonic_ms(self) -> int:
        return int(self._loop.now_s * 1000)

    def wall_ms(self) -> int:
        return self.monotonic_ms() + self.wall_offset_ms


def run_virtual(make: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine to its end on a fresh virtual loop."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(make(loop))
    finally:
        try:
            pending = asyncio.all_tasks(loop)
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
