"""Does a series trend up? Pure: points in, a verdict out.

The slope is Theil and Sen's (the median of the slopes between all pairs), which a few wild points do not move, with
the lower bound that Kendall's tau gives it: a slope counts if even that bound is above zero. Besides, the rise over the
whole time must be more than a tolerance, and must be left when its single largest step is taken out: a heap that grows
once is no leak, one that grows again and again is.

What a random walk does cannot be told from a leak by any test. What rises by less than the tolerance is not seen: the
longer the run, the slower the leak that is found.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Point = tuple[float, float]
"""Seconds, value."""

POINTS_MIN: Final = 6
BLOCKS_MAX: Final = 24
IN_A_BLOCK_MIN: Final = 3
QUANTILE: Final = 3.09
"""One-sided, 99.9 %: some hundred series are looked at in one run."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A rise over the time looked at that counts as none: the greater of the two."""

    absolute: float
    relative: float = 0.0  # to the level

    def at(self, level: float) -> float:
        """In the series' own unit."""
        return max(self.absolute, self.relative * abs(level))


@dataclass(frozen=True, slots=True)
class Trend:
    """What was found of one series. Slopes are per second."""

    level: float
    slope: float
    slope_low: float
    span_s: float
    rises: bool

    @property
    def rise(self) -> float:
        """Over the time looked at, in the series' own unit."""
        return self.slope * self.span_s


def trend(points: Sequence[Point], tolerance: Tolerance) -> Trend | None:
    """The verdict on points as they are, in any order; None if they are too few for one."""
    ordered = sorted(points)
    if len(ordered) < POINTS_MIN or ordered[0][0] == ordered[-1][0]:
        return None
    level = statistics.median(value for _, value in ordered)
    span_s = ordered[-1][0] - ordered[0][0]
    slope, low = theil_sen(ordered)
    least = tolerance.at(level)
    rises = low > 0 and slope * span_s > least
    if rises:
        slope_without, low_without = theil_sen(_without_largest_step(ordered))
        rises = low_without > 0 and slope_without * span_s > least
    return Trend(level, slope, low, span_s, rises)


def theil_sen(points: Sequence[Point]) -> tuple[float, float]:
    """The slope, and what it is at least with 99.9 % of certainty if the noise of the points is independent."""
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(points)
        for later in points[index + 1 :]
        if later[0] != earlier[0]
    )
    count = len(points)
    spread = QUANTILE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return statistics.median(slopes), slopes[max(0, math.floor((len(slopes) - spread) / 2))]


def block_medians(points: Sequence[Point]) -> list[Point]:
    """At most 24 blocks of equal length, and the median of each: neighbours in time are no independent witnesses."""
    ordered = sorted(points)
    blocks = min(BLOCKS_MAX, len(ordered) // IN_A_BLOCK_MIN)
    if blocks < 1 or ordered[0][0] == ordered[-1][0]:
        return list(ordered)
    began, span = ordered[0][0], ordered[-1][0] - ordered[0][0]
    groups: list[list[Point]] = [[] for _ in range(blocks)]
    for point in ordered:
        groups[min(blocks - 1, int(blocks * (point[0] - began) / span))].append(point)
    return [
        (statistics.median(second for second, _ in group), statistics.median(value for _, value in group))
        for group in groups
        if group
    ]


def at_same_age(incarnations: Sequence[Sequence[Point]], ages_s: tuple[float, float]) -> list[Point]:
    """One point for each process that lived through these ages: when it started, and its median meanwhile.

    A process that is restarted again and again is compared with its own earlier lives. Its points begin at its start.
    """
    first, last = ages_s
    points = []
    for lived in incarnations:
        if not lived or lived[-1][0] - lived[0][0] < last:
            continue
        values = [value for second, value in lived if first <= second - lived[0][0] <= last]
        if values:
            points.append((lived[0][0], statistics.median(values)))
    return points


def _without_largest_step(points: Sequence[Point]) -> list[Point]:
    steps = [later[1] - earlier[1] for earlier, later in itertools.pairwise(points)]
    largest = max(steps)
    after = steps.index(largest) + 1
    return [(second, value - (largest if index >= after else 0.0)) for index, (second, value) in enumerate(points)]
