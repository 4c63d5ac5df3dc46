"""A clock that stands still until it is told to move."""

from __future__ import annotations


class FakeClock:
    """See `klamm.cluster.clock.Clock`."""

    def __init__(self, wall_ms: int = 1_700_000_000_000) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ms = 0

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def wall_ms(self) -> int:
        return self._wall_ms

    def advance(self, milliseconds: int) -> None:
        """Time passes."""
        self._monotonic_ms += milliseconds
        self._wall_ms += milliseconds

    def jump(self, milliseconds: int) -> None:
        """Somebody sets the wall clock, forward or back."""
        self._wall_ms += milliseconds
