"""Reading a log: from an offset or a timestamp to whole, checked batches."""

from __future__ import annotations

import logging
from typing import Final

from ...proto.identifiers import Offset, TopicPartition
from ...proto.record_batch import Buffer
from .batch_run import Trimmed, trim_run
from .batch_time import first_record_at
from .epoch_cache import EpochCache
from .errors import CorruptFileError, LogCorruptError
from .offset_gaps import OffsetGaps
from .segment import Segment
from .segment_list import SegmentList

logger = logging.getLogger(__name__)

_HINTS_MAX: Final = 32


def _part(data: bytes, start: int, end: int) -> Buffer:
    """Without a copy, unless much would be held for the sake of little."""
    if start == 0 and end == len(data):
        return data
    return memoryview(data)[start:end] if end - start > len(data) // 2 else data[start:end]


class LogReader:
    """Knows where recent reads ended: the next one of the same consumer or follower needs no index."""

    def __init__(
        self, topic_partition: TopicPartition, segments: SegmentList, epoch_cache: EpochCache, gaps: OffsetGaps
    ) -> None:
        self._topic_partition = topic_partition
        self._segments = segments
        self._epoch_cache = epoch_cache
        self._gaps = gaps
        self._hints: dict[int, tuple[Segment, int]] = {}

    def forget_positions(self) -> None:
        """To be called when segments are cut or removed."""
        self._hints.clear()

    def read(self, offset: int, max_bytes: int, end_offset: int, min_one_batch: bool) -> Buffer:
        """See `PartitionLog.view`; `offset` is in the log and below `end_offset`. :raises OSError: the disk failed."""
        hint = self._hints.pop(offset, None)
        if hint is not None and hint[1] < hint[0].size:
            segment, position = hint
            base_offset = offset
        else:
            segment, position, base_offset = self.locate(offset)
        size_left = segment.size - position
        data = segment.pread(position, min(max(max_bytes, 0), size_left))

        def trim() -> Trimmed:
            return trim_run(
                data,
                wanted_offset=offset,
                expected_offset=base_offset,
                end_offset=end_offset,
                size_left=size_left,
                epochs=self._epoch_cache,
                gaps=self._gaps.allowed,
            )

        trimmed = trim()
        while not trimmed.end and trimmed.bytes_missing and min_one_batch:
            more = segment.pread(position + len(data), trimmed.bytes_missing)
            if not more:
                raise LogCorruptError(self._topic_partition, segment.path, Offset(offset), "the file was cut short")
            data += more
            trimmed = trim()
        if trimmed.flaw and trimmed.end == trimmed.start:
            raise LogCorruptError(self._topic_partition, segment.path, Offset(offset), trimmed.flaw)
        if trimmed.end > trimmed.start:
            self._remember(trimmed.next_offset, segment, position + trimmed.end)
        elif base_offset == offset:
            self._remember(offset, segment, position)
        return _part(data, trimmed.start, trimmed.end)

    def _remember(self, next_offset: int, segment: Segment, position: int) -> None:
        hints = self._hints
        if len(hints) >= _HINTS_MAX and next_offset not in hints:
            del hints[next(iter(hints))]
        hints[next_offset] = (segment, position)

    def locate(self, offset: int) -> tuple[Segment, int, int]:
        """(segment, position, base offset) of the batch that holds `offset`, or of the next one where there is a gap;
        with a new index if the old one misleads.

        :raises LogCorruptError: the way there is damaged. :raises OSError: the disk failed.
        """
        for segment in self._segments.from_offset(offset):
            found = self._locate_in(segment, offset)
            if found is not None:
                return segment, *found
            if not self._gaps.allowed:
                break
        raise LogCorruptError(self._topic_partition, segment.path, Offset(offset), "the segment ends before it")

    def locate_cut(self, offset: int) -> tuple[Segment, int, int]:
        """(segment, position, base offset) of what is first to go if all from `offset` on goes, in the segment that is
        the last to stay. Where that has nothing from `offset` on, the position is its end.

        :raises LogCorruptError: the way there is damaged. :raises OSError: the disk failed.
        """
        segment = self._segments.containing(offset)
        found = self._locate_in(segment, offset)
        if found is None:
            if not self._gaps.allowed:
                raise LogCorruptError(self._topic_partition, segment.path, Offset(offset), "the segment ends before it")
            found = segment.size, offset
        return segment, *found

    def _locate_in(self, segment: Segment, offset: int) -> tuple[int, int] | None:
        try:
            return segment.locate(offset, self._gaps)
        except CorruptFileError as error:
            logger.warning(
                "log_index_rebuilt partition=%s path=%s error=%s", self._topic_partition, segment.path, error
            )
            segment.rebuild_indexes(self._gaps)
            try:
                return segment.locate(offset, self._gaps)
            except CorruptFileError as second:
                raise LogCorruptError(self._topic_partition, segment.path, Offset(offset), str(second)) from second

    def newest_batch_from(self, start: Offset) -> int:
        """The newest timestamp of all batches that begin at `start` or after it; -1 if none has one."""
        first, *others = self._segments.from_offset(start)
        _, position = first.offset_index.lookup(start)
        newest = [header.newest_timestamp for _, header in first.headers(position) if header.base_offset >= start]
        return max([-1, *newest, *(segment.largest[0] for segment in others)])

    def offset_for_timestamp(self, timestamp_ms: int, start: Offset, end: Offset) -> tuple[int, Offset] | None:
        """(timestamp, offset) of the first record from `start` on that is at least as new as `timestamp_ms`."""
        for segment in self._segments:
            if segment.largest[0] < timestamp_ms:
                continue
            _, position = segment.offset_index.lookup(max(segment.time_index.lookup(timestamp_ms), start))
            for _, header in segment.headers(position):
                if header.newest_timestamp >= timestamp_ms and header.last_offset >= start:
                    batch = self.read(max(header.base_offset, start), 0, end, True)
                    found = first_record_at(bytes(batch), timestamp_ms, start)
                    if found is not None:
                        return found[0], Offset(found[1])
        return None
