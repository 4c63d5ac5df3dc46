"""The clock as an argument: who needs the time is given one of these, so that a test can hold it still."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two readings of time; neither sleeps."""

    def monotonic_ms(self) -> int:
        """Milliseconds from some fixed point; never goes back. For time-outs, lag and every order of events."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC; may jump. For timestamps and retention only (rule 28)."""
