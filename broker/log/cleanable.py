"""Which part of a log compaction may clean, whether it is worth it, and which segments become one. Pure.

As Kafka's LogCleanerManager decides it: never the active segment, nothing past the high watermark or what is surely
on the disk, no segment with a record younger than min.compaction.lag.ms. A log is cleaned when more than
min.cleanable.dirty.ratio of it is dirty, or when its oldest dirty record is older than max.compaction.lag.ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from .log_config import LogConfig

_RELATIVE_OFFSET_MAX = 2**31 - 1


class SegmentFacts(NamedTuple):
    """What has to be known of a segment; never of the active one."""

    base_offset: int
    end_offset: int  # the next one's base offset
    size_bytes: int
    index_bytes: int  # of the larger of its indexes
    max_timestamp_ms: int  # -1: no record has one
    first_timestamp_ms: int
    modified_ms: int


class Cleanable(NamedTuple):
    """The dirty part of a log, from `first_dirty_offset` up to `end_offset`, and its weight."""

    first_dirty_offset: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    overdue: bool  # max.compaction.lag.ms has passed

    @property
    def dirty_ratio(self) -> float:
        """How much of what would be rewritten is dirty."""
        return self.dirty_bytes / max(self.clean_bytes + self.dirty_bytes, 1)

    def is_due(self, config: LogConfig) -> bool:
        """Whether it is to be cleaned now."""
        return self.dirty_bytes > 0 and (self.overdue or self.dirty_ratio > config.min_cleanable_dirty_ratio)


def find_cleanable(
    segments: Sequence[SegmentFacts], *, first_dirty_offset: int, limit_offset: int, config: LogConfig, now_ms: int
) -> Cleanable | None:
    """What of these segments can be cleaned, if anything; nothing at or past `limit_offset` can."""
    clean_bytes = dirty_bytes = 0
    end_offset, oldest_ms = first_dirty_offset, now_ms
    for segment in segments:
        if segment.end_offset > limit_offset:
            break
        if segment.end_offset <= first_dirty_offset:
            clean_bytes += segment.size_bytes
            continue
        if config.min_compaction_lag_ms and _newest_ms(segment, now_ms) > now_ms - config.min_compaction_lag_ms:
            break
        dirty_bytes += segment.size_bytes
        end_offset = segment.end_offset
        if segment.first_timestamp_ms > 0:
            oldest_ms = min(oldest_ms, segment.first_timestamp_ms)
    if not dirty_bytes:
        return None
    lag_max = config.max_compaction_lag_ms
    overdue = lag_max is not None and oldest_ms < now_ms - lag_max
    return Cleanable(first_dirty_offset, end_offset, clean_bytes, dirty_bytes, overdue)


def _newest_ms(segment: SegmentFacts, now_ms: int) -> int:
    """As for retention: a time in the future is no age (rule 28), then the last write counts."""
    if 0 <= segment.max_timestamp_ms <= now_ms:
        return segment.max_timestamp_ms
    return segment.modified_ms


T = TypeVar("T")


def group_segments(segments: Sequence[tuple[SegmentFacts, T]], config: LogConfig) -> list[list[T]]:
    """The segments in runs, each of which becomes one: as many as surely fit into a segment."""
    groups: list[list[T]] = []
    size = index_bytes = first_offset = 0
    for facts, segment in segments:
        fits = (
            groups
            and size + facts.size_bytes <= config.segment_bytes
            and index_bytes + facts.index_bytes <= config.segment_index_bytes
            and facts.end_offset - first_offset <= _RELATIVE_OFFSET_MAX
        )
        if fits:
            groups[-1].append(segment)
        else:
            groups.append([segment])
            size, index_bytes, first_offset = 0, 0, facts.base_offset
        size += facts.size_bytes
        index_bytes += facts.index_bytes
    return groups
