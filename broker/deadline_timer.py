"""One timer of the event loop for all deadlines of requests that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from ..cluster.clock import Clock
from .purgatory import Deadlines, Waiting

W = TypeVar("W", bound=Waiting)


class DeadlineTimer(Generic[W]):
    """Calls `expire` for each waiting request whose time is up, unless it was discarded before."""

    def __init__(self, clock: Clock, expire: Callable[[W], None]) -> None:
        self._clock = clock
        self._expire = expire
        self._deadlines: Deadlines[W] = Deadlines()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0

    def add(self, waiting: W, timeout_ms: int) -> None:
        """Gives `waiting` so much time."""
        self._deadlines.add(waiting, self._clock.monotonic_ms() + timeout_ms)
        self._set()

    def discard(self, waiting: W) -> None:
        """It waits no longer."""
        self._deadlines.discard(waiting)

    def close(self) -> None:
        """Expires everything, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiting in self._deadlines.expired(2**62):
            self._expire(waiting)

    def _set(self) -> None:
        next_ms = self._deadlines.next_ms()
        if next_ms is None or (self._timer is not None and self._timer_ms <= next_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        delay_ms = max(next_ms - self._clock.monotonic_ms(), 0)
        self._timer_ms = next_ms
        self._timer = asyncio.get_running_loop().call_later(delay_ms / 1000, self._fire)

    def _fire(self) -> None:
        self._timer = None
        for waiting in self._deadlines.expired(self._clock.monotonic_ms()):
            self._expire(waiting)
        self._set()
