"""Which segments have had their time. Pure.

Three reasons, as in Kafka's UnifiedLog.deleteOldSegments: the log start offset has passed the segment, the log is
larger than retention.bytes without it, or its newest record is older than retention.ms. Only whole segments from the
front go, and none that reaches past the high watermark: the log start never passes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...proto.identifiers import Offset


class SegmentAge(NamedTuple):
    """What retention needs to know of a segment. `end_offset` is the next segment's base, or the log end."""

    end_offset: Offset
    size_bytes: int
    max_timestamp_ms: int  # -1: no record has one
    modified_ms: int


def deletable_segments(
    segments: Sequence[SegmentAge],
    *,
    now_ms: int,
    log_start_offset: Offset,
    high_watermark: Offset,
    retention_ms: int | None,
    retention_bytes: int | None,
) -> int:
    """How many segments, counted from the front, are to be deleted; the last one (the active) may be among them."""
    excess = None if retention_bytes is None else sum(segment.size_bytes for segment in segments) - retention_bytes
    count = 0
    for index, segment in enumerate(segments):
        is_last = index == len(segments) - 1
        if segment.end_offset > high_watermark or (is_last and segment.size_bytes == 0):
            break
        below_start = segment.end_offset <= log_start_offset and not is_last
        too_much = excess is not None and excess - segment.size_bytes >= 0
        too_old = retention_ms is not None and now_ms - _newest_ms(segment, now_ms) > retention_ms
        if not (below_start or too_much or too_old):
            break
        if excess is not None:
            excess -= segment.size_bytes
        count += 1
    return count


def _newest_ms(segment: SegmentAge, now_ms: int) -> int:
    """The age that counts: the largest timestamp, or the last write if that is in the future.

    Kafka takes the largest timestamp alone, so that one record stamped in the year 3000 keeps its segment for a
    thousand years. A time in the future is no age (rule 28).
    """
    if 0 <= segment.max_timestamp_ms <= now_ms:
        return segment.max_timestamp_ms
    return segment.modified_ms
