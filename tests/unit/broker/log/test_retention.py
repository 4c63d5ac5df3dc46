"""Which segments go."""

from __future__ import annotations

import pytest
from klamm.broker.log.retention import SegmentAge, deletable_segments
from klamm.proto.identifiers import Offset

NOW = 1_000_000


def count(segments: list[tuple[int, int, int]], **limits: int | None) -> int:
    """Segments as (end offset, size, timestamp); the modification time is 500,000."""
    values: dict[str, int | None] = {
        "now_ms": NOW,
        "log_start_offset": 0,
        "high_watermark": 10**9,
        "retention_ms": None,
        "retention_bytes": None,
        **limits,
    }
    ages = [SegmentAge(Offset(end), size, timestamp, 500_000) for end, size, timestamp in segments]
    return deletable_segments(ages, **values)  # type: ignore[arg-type]


THREE = [(10, 100, 1000), (20, 100, 600_000), (30, 50, 900_000)]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 0),
        ({"retention_ms": 500_000}, 1),
        ({"retention_ms": 400_000}, 1),
        ({"retention_ms": 399_999}, 2),
        ({"retention_ms": 0}, 3),
        ({"retention_ms": 0, "high_watermark": 29}, 2),
        ({"retention_ms": 0, "high_watermark": 20}, 2),
        ({"retention_ms": 0, "high_watermark": 9}, 0),
        ({"retention_bytes": 250}, 0),
        ({"retention_bytes": 151}, 0),
        ({"retention_bytes": 150}, 1),
        ({"retention_bytes": 60}, 1),
        ({"retention_bytes": 50}, 2),
        ({"retention_bytes": 0}, 3),
        ({"log_start_offset": 9}, 0),
        ({"log_start_offset": 10}, 1),
        ({"log_start_offset": 30}, 2),  # the active segment stays
    ],
)
def test_reasons(limits: dict[str, int | None], expected: int) -> None:
    assert count(THREE, **limits) == expected


def test_an_empty_active_segment_stays() -> None:
    assert count([(10, 100, 1), (10, 0, -1)], retention_ms=0) == 1
    assert count([(10, 0, -1)], retention_ms=0) == 0


def test_rule_28_a_timestamp_in_the_future_does_not_keep_a_segment_for_ever() -> None:
    future = [(10, 100, NOW * 1000), (20, 100, 1)]
    assert count(future, retention_ms=499_999) == 2  # by the time of its last write
    assert count(future, retention_ms=500_000) == 0


def test_segments_without_timestamps_age_by_their_last_write() -> None:
    assert count([(10, 100, -1), (20, 100, -1)], retention_ms=500_001) == 0
    assert count([(10, 100, -1), (20, 100, -1)], retention_ms=499_999) == 2


def test_rule_28_a_clock_set_back_deletes_nothing() -> None:
    assert count(THREE, now_ms=500, retention_ms=100) == 0
