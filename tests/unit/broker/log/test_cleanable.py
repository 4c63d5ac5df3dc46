from __future__ import annotations

from dataclasses import replace

import pytest
from klamm.broker.log.cleanable import Cleanable, SegmentFacts, find_cleanable, group_segments
from klamm.broker.log.log_config import LogConfig

NOW_MS = 1_000_000
CONFIG = LogConfig(compacted=True, segment_bytes=250, segment_index_bytes=100)


def segments(*timestamps: int, first: int = -1) -> list[SegmentFacts]:
    """Of ten offsets and a hundred bytes each."""
    return [
        SegmentFacts(index * 10, index * 10 + 10, 100, 12, timestamp, first, NOW_MS - 5)
        for index, timestamp in enumerate(timestamps)
    ]


def find(facts: list[SegmentFacts], dirty: int = 0, limit: int = 1_000, config: LogConfig = CONFIG) -> Cleanable | None:
    return find_cleanable(facts, first_dirty_offset=dirty, limit_offset=limit, config=config, now_ms=NOW_MS)


OLD = (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("dirty", "limit", "end", "clean_bytes", "dirty_bytes"),
    [
        (0, 1_000, 40, 0, 400),
        (0, 40, 40, 0, 400),
        (0, 39, 30, 0, 300),
        (20, 40, 40, 200, 200),
        (25, 40, 40, 200, 200),  # dirty in part is dirty
        (29, 39, 30, 200, 100),
    ],
)
def test_what_is_cleanable_lies_below_the_limit(
    dirty: int, limit: int, end: int, clean_bytes: int, dirty_bytes: int
) -> None:
    assert find(segments(*OLD), dirty, limit) == Cleanable(dirty, end, clean_bytes, dirty_bytes, False)


@pytest.mark.parametrize(("dirty", "limit"), [(40, 1_000), (0, 9), (20, 29)])
def test_nothing_is_cleanable(dirty: int, limit: int) -> None:
    assert find(segments(*OLD), dirty, limit) is None
    assert find([], dirty, limit) is None


@pytest.mark.parametrize(
    ("newest", "end"),
    [
        (NOW_MS - 1_001, 40),
        (NOW_MS - 1_000, 40),
        (NOW_MS - 999, 20),
        (NOW_MS + 10**9, 20),  # rule 28: a time in the future is no age; the file was just written
        (-1, 20),
    ],
)
def test_a_segment_with_a_young_record_and_what_follows_it_wait(newest: int, end: int) -> None:
    found = find(segments(1, 2, newest, 4), config=replace(CONFIG, min_compaction_lag_ms=1_000))
    assert found is not None
    assert found.end_offset == end


@pytest.mark.parametrize(
    ("ratio", "dirty", "due"), [(0.5, 20, False), (0.5, 10, True), (0.49, 20, True), (0.0, 30, True), (1.0, 0, False)]
)
def test_a_log_is_due_when_more_than_the_ratio_is_dirty(ratio: float, dirty: int, due: bool) -> None:
    config = replace(CONFIG, min_cleanable_dirty_ratio=ratio)
    found = find(segments(*OLD), dirty, config=config)
    assert found is not None
    assert found.is_due(config) is due


@pytest.mark.parametrize(("first", "overdue"), [(NOW_MS - 101, True), (NOW_MS - 100, False), (-1, False)])
def test_a_log_is_due_when_its_oldest_dirty_record_is(first: int, overdue: bool) -> None:
    config = replace(CONFIG, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=100)
    found = find(segments(*OLD, first=first), 30, config=config)
    assert found is not None
    assert (found.overdue, found.is_due(config)) == (overdue, overdue)


def test_segments_are_merged_as_far_as_they_fit() -> None:
    named = [(facts, facts.base_offset) for facts in segments(*OLD)]
    assert group_segments(named, CONFIG) == [[0, 10], [20, 30]]
    assert group_segments(named, replace(CONFIG, segment_bytes=1)) == [[0], [10], [20], [30]]
    assert group_segments(named, replace(CONFIG, segment_bytes=10_000)) == [[0, 10, 20, 30]]
    assert group_segments(named, replace(CONFIG, segment_bytes=10_000, segment_index_bytes=36)) == [[0, 10, 20], [30]]
    assert group_segments([], CONFIG) == []
    far = [(facts._replace(end_offset=facts.base_offset + 2**31), name) for facts, name in named]
    assert group_segments(far, replace(CONFIG, segment_bytes=10_000)) == [[0], [10], [20], [30]]
