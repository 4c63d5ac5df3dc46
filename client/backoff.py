"""How long to wait before a next try: short at first, since a new leader is elected within tens of ms, then longer."""

from __future__ import annotations

from random import Random


class Backoff:
    """Waits between `initial_ms` and `max_ms`, doubling after the first `patience` ones, with jitter of a fifth.

    The first waits stay short on purpose: a failover takes a few hundred ms in all, and a doubling wait would
    sleep through its end.
    """

    __slots__ = ("_failures", "_initial_ms", "_max_ms", "_patience", "_random")

    def __init__(self, random: Random, *, initial_ms: float = 20.0, max_ms: float = 500.0, patience: int = 40) -> None:
        self._random = random
        self._initial_ms = initial_ms
        self._max_ms = max_ms
        self._patience = patience
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def next_ms(self) -> float:
        """Counts a failure and returns the wait after it."""
        self._failures += 1
        doublings = min(16, max(0, self._failures - self._patience))
        wait_ms: float = min(self._max_ms, self._initial_ms * (1 << doublings))
        return wait_ms * self._random.uniform(0.8, 1.2)

    def reset(self) -> None:
        """Counts a success: the next wait is short again."""
        self._failures = 0
