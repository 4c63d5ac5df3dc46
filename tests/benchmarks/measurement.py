"""What a benchmark gives back: its samples, and what was to be reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """The samples of one row of the table. `reached` is None where no goal was set."""

    what: str
    unit: str
    target: str
    samples: tuple[float, ...]
    reached: Callable[[Measurement], bool] | None

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
        spread = f"{_number(min(self.samples))} .. {_number(max(self.samples))}"
        if len(self.samples) >= 100:
            spread += f", p99 {_number(self.quantile(0.99))}"
        verdict = "" if self.reached is None else "yes" if self.reached(self) else "NO"
        return self.what, self.target, f"{_number(self.median)} {self.unit}", spread, str(len(self.samples)), verdict


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
