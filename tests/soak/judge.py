"""Which series are looked at for a trend, how, and with what tolerance. Pure.

A process that lived from the beginning to the end is judged by itself, after the warm-up. One that was restarted again
and again is compared with its own earlier lives at the same age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from soak.trend import Point, Tolerance, Trend, at_same_age, block_medians, trend

WARM_UP_SHARE: Final = 0.3
WARM_UP_S_MAX: Final = 240.0
AGES_S: Final = (10.0, 35.0)

Lives = Sequence[Mapping[str, Sequence[Point]]]
"""Of one process under one name: for each life its series by metric."""

TOLERANCES: Final[Mapping[str, Tolerance]] = {
    "resident memory": Tolerance(2e6, 0.015),
    "anonymous memory": Tolerance(2e6, 0.015),
    "allocated blocks": Tolerance(3000, 0.015),
    "file descriptors": Tolerance(3),
    "tasks": Tolerance(3),
    "threads": Tolerance(2),
}
"""For the whole time that is looked at."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the summary. `trend` is None where there was too little to judge by."""

    process: str
    metric: str
    how: str
    trend: Trend | None
    points: Sequence[Point]  # that were judged

    @property
    def rises(self) -> bool:
        return self.trend is not None and self.trend.rises


def warm_up_s(duration_s: float) -> float:
    """How much of the beginning is not looked at."""
    return min(WARM_UP_SHARE * duration_s, WARM_UP_S_MAX)


def judge(processes: Mapping[str, Lives], duration_s: float) -> list[Verdict]:
    """A verdict for each process and metric that there is anything of."""
    verdicts = []
    for process, lives in processes.items():
        for metric, tolerance in TOLERANCES.items():
            series = [life[metric] for life in lives if life.get(metric)]
            if series:
                verdicts.append(_judge_one(process, metric, series, tolerance, duration_s))
    return verdicts


def _judge_one(
    process: str, metric: str, series: Sequence[Sequence[Point]], tolerance: Tolerance, duration_s: float
) -> Verdict:
    after = warm_up_s(duration_s)
    if len(series) == 1:
        began = series[0][0][0]
        points = block_medians([point for point in series[0] if point[0] >= began + after])
        how = "one life"
    else:
        points = [point for point in at_same_age(series, AGES_S) if point[0] >= after]
        how = f"{len(series)} lives"
    return Verdict(process, metric, how, trend(points, tolerance), points)
