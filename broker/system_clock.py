"""The real clock of a broker process."""

from __future__ import annotations

import time


class SystemClock:
    """Reads the machine's clocks (see `cluster/clock.py`)."""

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
