"""What a benchmark gives back: its samples, and what was to be reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """The samples of one row of the table."""

    what: str
    unit: str
    target: str
    samples: tuple[float, ...]
    reached: Callable[[Measurement], bool]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def worst(self) -> float:
        """The largest sample: only for rows where less is better."""
        return max(self.samples)

    def quantile(self, fraction: float) -> float:
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]

    def row(self) -> tuple[str, ...]:
        """what, target, median, spread, runs, reached."""
        return (
            self.what,
            self.target,
            f"{self.median:,.4g} {self.unit}",
            f"{min(self.samples):,.4g} .. {self.quantile(0.99):,.4g} (p99) .. {max(self.samples):,.4g}",
            str(len(self.samples)),
            "yes" if self.reached(self) else "NO",
        )
