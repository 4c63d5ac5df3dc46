"""The real clock, behind the two readings that the rest of Klamm takes for time."""

from __future__ import annotations

import time


class SystemClock:
    """See `cluster.clock.Clock`; the client imports nothing of cluster, so the shape is repeated here."""

    def monotonic_ms(self) -> int:
        """Milliseconds from some fixed point; never goes back."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC; may jump."""
        return time.time_ns() // 1_000_000
