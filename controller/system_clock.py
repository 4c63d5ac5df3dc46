"""The real clock."""

from __future__ import annotations

import time


class SystemClock:
    """`Clock` over the operating system's clocks."""

    __slots__ = ()

    def monotonic_ms(self) -> int:
        """Milliseconds of CLOCK_MONOTONIC: never goes back, is not moved by NTP steps or by hand."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000
