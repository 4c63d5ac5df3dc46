"""Series made up for the purpose: what rises is found, what only moves is not."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from soak.trend import Tolerance, at_same_age, block_medians, theil_sen, trend

MEGABYTE = 1e6
TOLERANCE = Tolerance(1 * MEGABYTE, 0.01)
SECONDS = range(0, 900, 2)

Series = Callable[[int, Random], float]


def verdict(series: Series, seed: int = 1, tolerance: Tolerance = TOLERANCE) -> bool:
    random = Random(seed)
    found = trend(block_medians([(float(second), series(second, random)) for second in SECONDS]), tolerance)
    assert found is not None
    return found.rises


NOT_RISING: dict[str, Series] = {
    "flat": lambda _, __: 100 * MEGABYTE,
    "noise": lambda _, random: 100 * MEGABYTE + random.gauss(0, 3 * MEGABYTE),
    "spikes": lambda second, random: (400 if second % 60 == 0 else 100) * MEGABYTE + random.gauss(0, MEGABYTE),
    "a sawtooth, as a snapshot or retention makes it": lambda second, random: (
        (100 + second % 90 / 10) * MEGABYTE + random.gauss(0, MEGABYTE)
    ),
    "one step": lambda second, random: (100 if second < 400 else 130) * MEGABYTE + random.gauss(0, 0.2 * MEGABYTE),
    "falling": lambda second, random: 100 * MEGABYTE - 50_000 * second + random.gauss(0, MEGABYTE),
    "less than the tolerance": lambda second, _: 100 * MEGABYTE + 1000 * second,
}

RISING: dict[str, Series] = {
    "a slow leak": lambda second, random: 100 * MEGABYTE + 10_000 * second + random.gauss(0, MEGABYTE),
    "a slow leak without noise": lambda second, _: 100 * MEGABYTE + 3000 * second,
    "a staircase, as arenas make it": lambda second, random: (
        (100 + second // 150 * 4) * MEGABYTE + random.gauss(0, 1e5)
    ),
    "a leak under a sawtooth": lambda second, random: (
        (100 + second % 60 / 20 + second / 100) * MEGABYTE + random.gauss(0, MEGABYTE)
    ),
    "a leak under spikes": lambda second, random: (
        (400 if second % 50 == 0 else 100) * MEGABYTE + 20_000 * second + random.gauss(0, MEGABYTE)
    ),
}


@pytest.mark.parametrize("name", NOT_RISING)
def test_what_does_not_rise(name: str) -> None:
    assert [seed for seed in range(50) if verdict(NOT_RISING[name], seed)] == []


def test_growth_that_has_levelled_off_before_the_warm_up_was_over() -> None:
    def warming(second: int, random: Random) -> float:
        return (100 + 30 * min(second, 200) / 200) * MEGABYTE + random.gauss(0, MEGABYTE)

    assert not verdict(lambda second, random: warming(second + 200, random))


@pytest.mark.parametrize("name", RISING)
def test_what_rises(name: str) -> None:
    assert [seed for seed in range(50) if not verdict(RISING[name], seed)] == []


def test_counts_of_descriptors_and_tasks() -> None:
    tolerance = Tolerance(2)
    assert not verdict(lambda _, random: 40 + random.choice((0, 0, 0, 1, 5)), tolerance=tolerance)
    assert not verdict(lambda second, _: 40 + (second > 500), tolerance=tolerance)
    assert verdict(lambda second, random: 40 + second // 100 + random.choice((0, 0, 3)), tolerance=tolerance)


def test_the_slope_is_that_of_the_line_whatever_a_few_points_do() -> None:
    points = [(float(second), 5.0 + 2.0 * second) for second in range(30)]
    points[3], points[20] = (3.0, 1000.0), (20.0, -1000.0)
    slope, low = theil_sen(points)
    assert slope == pytest.approx(2.0)
    assert low == pytest.approx(2.0)


def test_too_few_points_get_no_verdict() -> None:
    assert trend([(float(second), 1.0) for second in range(5)], TOLERANCE) is None
    assert trend([(1.0, float(value)) for value in range(50)], TOLERANCE) is None
    assert trend([], TOLERANCE) is None


def test_blocks_are_of_equal_length_and_take_the_median() -> None:
    points = [(float(second), 1.0) for second in range(72)]
    points[10] = (10.0, 99.0)
    medians = block_medians(points)
    assert len(medians) == 24
    assert {value for _, value in medians} == {1.0}
    assert block_medians([(0.0, 1.0), (1.0, 2.0)]) == [(0.0, 1.0), (1.0, 2.0)]


def lives(count: int, value: Callable[[int, int], float], length: int = 50) -> list[list[tuple[float, float]]]:
    return [[(60.0 * life + age, value(life, age)) for age in range(length)] for life in range(count)]


def test_lives_are_compared_at_the_same_age() -> None:
    """Every life grows as it warms up: between them that is no trend."""
    warming = lives(15, lambda _, age: 50 * MEGABYTE + age * MEGABYTE)
    points = at_same_age(warming, (20, 40))
    assert points == [(60.0 * life, 80 * MEGABYTE) for life in range(15)]
    found = trend(points, TOLERANCE)
    assert found is not None and not found.rises
    heavier = lives(15, lambda life, age: (50 + age + 0.3 * life) * MEGABYTE)
    found = trend(at_same_age(heavier, (20, 40)), TOLERANCE)
    assert found is not None and found.rises
    assert found.slope * 60 == pytest.approx(0.3 * MEGABYTE)


def test_a_life_that_was_too_short_is_left_out() -> None:
    mixed = [*lives(3, lambda _, __: 1.0), *lives(1, lambda _, __: 1.0, length=20), []]
    assert len(at_same_age(mixed, (20, 40))) == 3
