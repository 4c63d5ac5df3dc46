"""How long to wait before a next try: short at first, since a new leader is elected within tens of ms, then longer."""

from __future__ import annotations

from random import Random
from typing import Final

INITIAL_MS: Final = 20.0
MAX_MS: Final = 500.0
PATIENCE: Final = 40


def wait_after_ms(
    failures: int,
    random: Random,
    *,
    initial_ms: float = INITIAL_MS,
    max_ms: float = MAX_MS,
    patience: int = PATIENCE,
) -> float:
    """The wait after so many failures in a row, one at least; see `Backoff`. `initial_ms` may be above `max_ms`."""
    doublings = min(16, max(0, failures - patience))
    return max(initial_ms, min(max_ms, initial_ms * (1 << doublings))) * random.uniform(0.8, 1.2)


class Backoff:
    """Waits between `initial_ms` and `max_ms`, doubling after the first `patience` ones, with jitter of a fifth.

    The first waits stay short on purpose: a failover takes a few hundred ms in all, and a doubling wait would
    sleep through its end.
    """

    __slots__ = ("_failures", "_initial_ms", "_max_ms", "_patience", "_random")

    def __init__(
        self, random: Random, *, initial_ms: float = INITIAL_MS, max_ms: float = MAX_MS, patience: int = PATIENCE
    ) -> None:
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
        return wait_after_ms(
            self._failures, self._random, initial_ms=self._initial_ms, max_ms=self._max_ms, patience=self._patience
        )

    def reset(self) -> None:
        """Counts a success: the next wait is short again."""
        self._failures = 0
