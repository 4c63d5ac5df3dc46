"""What follows from samples, and how they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.compare import results
from benchmarks.compare.results import Comparison, RowResult, Spread, number
from benchmarks.compare.row import Goal
from benchmarks.compare.systems import KAFKA, KLAMM

AT_LEAST = Goal(1.0)
AT_MOST = Goal(0.2, at_most=True)


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0, 4)
    assert Spread.of([]) is None
    assert str(Spread.of([1234.5, 1000, 2000.4])) == "1,234 (1,000 .. 2,000)"
    assert str(Spread.of([0.12345])) == "0.123 (once)"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0012345, "0.00123"), (1.5, "1.5"), (99.95, "100"), (123.4, "123"), (1e6, "1,000,000")],
)
def test_numbers_have_three_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("klamm", "kafka", "goal", "ratio", "verdict"),
    [
        ([2.0], [1.0], AT_LEAST, 2.0, "yes"),
        ([1.0], [1.0], AT_LEAST, 1.0, "yes"),
        ([0.9, 0.9, 5.0], [1.0], AT_LEAST, 0.9, "no"),
        ([0.2], [1.0], AT_MOST, 0.2, "yes"),
        ([0.3], [1.0], AT_MOST, 0.3, "no"),
        ([0.3], [1.0], None, 0.3, ""),
        ([0.3], [], AT_MOST, None, "not measured"),
        ([], [1.0], AT_MOST, None, "not measured"),
        ([1.0], [0.0], AT_MOST, None, "not measured"),
    ],
)
def test_the_ratio_of_the_medians_decides(
    klamm: list[float], kafka: list[float], goal: Goal | None, ratio: float | None, verdict: str
) -> None:
    compared = Comparison.of("it", {KLAMM: klamm, KAFKA: kafka}, goal)
    assert compared.ratio == ratio
    assert compared.verdict == verdict


def test_goals_say_what_they_want() -> None:
    assert str(AT_LEAST) == "at least 1.0"
    assert str(AT_MOST) == "at most 0.2"


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "compare.json"
    assert results.load(path) == {}
    first = RowResult("2026-01-01", 1.0, {"Python": "3"}, rounds=2)
    first.add("100 B", KLAMM, 1.0)
    first.add("100 B", KAFKA, 2.0)
    first.add("100 B", KLAMM, 3.0)
    second = RowResult("2026-01-02", 0.1, {}, missing={KAFKA: "there is no Java"}, errors=["klamm: it failed"])
    results.save(path, {"1": first, "2": second})
    assert results.load(path) == {"1": first, "2": second}
    assert first.figures == {"100 B": {KLAMM: [1.0, 3.0], KAFKA: [2.0]}}
    results.save(path, results.load(path) | {"2": first})
    assert results.load(path) == {"1": first, "2": first}
