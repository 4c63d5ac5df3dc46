"""The machine's own clock."""

from __future__ import annotations

import time


class SystemClock:
    """`Clock` as the machine tells it."""

    def monotonic_ms(self) -> int:
        """Milliseconds from some fixed point; never goes back."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000
