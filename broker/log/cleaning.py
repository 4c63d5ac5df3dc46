"""One cleaning of one log: the part that reads and writes files, made to run in a thread beside the event loop.

It touches nothing that the event loop changes: it opens the files of inactive segments by itself, reads them as they
were when the cleaning began, and writes new ones under names that no log looks at. Whether the result still fits is
for the event loop to find out (`PartitionLog.replace_segments`).

It works in slices of a few milliseconds with pauses in between, so that the event loop never waits long for the
interpreter, and the disk is left to others for some of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Final, NamedTuple

from ...proto.errors import CorruptRecordError
from ...proto.record_batch import RecordBatchHeader, check_batch, parse_header
from .batch_filter import CleaningRules, empty_batch, filter_batch, record_keys
from .descriptor_pool import DescriptorPool
from .file_system import FileSystem, sync_file
from .log_config import LogConfig
from .offset_map import OffsetMap
from .segment import CLEANED_SUFFIX, Segment, scan_batches

_SLICE_S: Final = 0.002
_WRITE_BYTES: Final = 1 << 20
_PAUSE_MAX_S: Final = 0.1


class CleaningAborted(Exception):
    """The log is closed, or was changed: what was done so far is of no use."""


class SourceFile(NamedTuple):
    """A segment's file as it was when the cleaning began."""

    path: str
    size: int
    base_offset: int


class CleanedBytes(NamedTuple):
    """What became of a run of segments."""

    segment: Segment | None  # None: nothing can be left out of it
    bytes_read: int
    bytes_written: int
    records_read: int
    records_kept: int
    records_invalid: int


@dataclass
class Pace:
    """Pauses between slices of work, and longer ones where a rate is set."""

    bytes_per_second_max: float = float("inf")
    sleep: Callable[[float], object] = field(default_factory=lambda: Event().wait)  # libfaketime breaks time.sleep
    # Looked up when it is called: simulations have a clock of their own.
    _began_s: float = field(default_factory=lambda: time.monotonic())
    _bytes: int = 0

    def worked(self, size_bytes: int, is_over: Callable[[], bool]) -> None:
        """So many bytes were read or written since the last call. A long pause ends early once `is_over` says so."""
        self._bytes += size_bytes
        spent_s = time.monotonic() - self._began_s
        owed_s = self._bytes / self.bytes_per_second_max - spent_s
        if spent_s >= _SLICE_S or owed_s > _SLICE_S:
            left_s = max(owed_s, min(spent_s, 5 * _SLICE_S))
            while left_s > 0 and not is_over():
                self.sleep(min(left_s, _PAUSE_MAX_S))
                left_s -= _PAUSE_MAX_S
            self._bytes = 0
            self._began_s = time.monotonic()


class Cleaning:
    """The work on one log. `abort` may be set by any thread."""

    def __init__(self, file_system: FileSystem, directory: str, config: LogConfig, pace: Pace, now_ms: int) -> None:
        self._file_system = file_system
        self._directory = directory
        self._config = config
        self._pace = pace
        self._now_ms = now_ms
        self.abort = False

    def _batches(self, source: SourceFile) -> Iterator[tuple[bytes, RecordBatchHeader]]:
        """Every batch of a file, checked whole.

        :raises CleaningAborted: no more work is wanted. :raises CorruptRecordError: a batch is damaged.
        """
        descriptor = self._file_system.open(source.path)
        try:
            position = 0
            for data, at in scan_batches(
                lambda begin, size: self._file_system.pread(descriptor, size, begin), source.size
            ):
                if self.abort:
                    raise CleaningAborted
                header = check_batch(data, at)
                yield data[at : at + header.size_bytes], header
                position += header.size_bytes
                self._pace.worked(header.size_bytes, lambda: self.abort)
            if position < source.size:
                raise CorruptRecordError(f"{source.path} ends early, at position {position} of {source.size}")
        finally:
            self._file_system.close(descriptor)

    def map_offsets(
        self, sources: Sequence[SourceFile], start_offset: int, end_offset: int, keys_max: int
    ) -> OffsetMap:
        """The latest offset of each key from `start_offset` up to `end_offset`, or up to where the map is full.

        :raises OSError: the disk failed. :raises KafkaError: records cannot be read.
        """
        offsets = OffsetMap(start_offset, keys_max)
        for source in sources:
            for batch, header in self._batches(source):
                if header.next_offset <= start_offset or header.is_control:
                    continue
                for delta, key in record_keys(batch, header):
                    offset = header.base_offset + delta
                    if key is not None and offset >= start_offset and not offsets.put(key, offset):
                        offsets.end_offset = offset
                        return offsets
        offsets.end_offset = end_offset
        return offsets

    def clean(
        self, sources: Sequence[SourceFile], offsets: OffsetMap, producer_batches: frozenset[int]
    ) -> CleanedBytes:
        """Writes what stays of these segments into one new, synced segment under names of its own.

        :raises OSError: the disk failed. :raises KafkaError: records cannot be read.
        """
        rules = CleaningRules(offsets, self._now_ms, self._config.delete_retention_ms, producer_batches)
        pool = DescriptorPool(1)  # the log's own belongs to the event loop
        base_offset = sources[0].base_offset
        segment = Segment(
            self._file_system, pool, self._directory, base_offset, self._config, self._now_ms, suffix=CLEANED_SUFFIX
        )
        try:
            segment.create()
            cleaned = self._fill(segment, sources, rules)
            if len(sources) == 1 and cleaned.bytes_read == cleaned.bytes_written and not self._changed:
                segment.remove()
                return cleaned._replace(segment=None)
            segment.write_indexes(final=True)
            segment.sync_indexes()
            segment.close_file()
            self._keep_time(segment, sources[-1])
            sync_file(self._file_system, segment.path)
        except BaseException:
            segment.remove()
            raise
        segment.unload_indexes()
        return cleaned

    def _keep_time(self, segment: Segment, last: SourceFile) -> None:
        """Retention goes by the time of the last write where records have no timestamps."""
        status = self._file_system.status(last.path)
        if status is not None:
            self._file_system.set_modified(segment.path, status.modified_ms)

    def _fill(self, segment: Segment, sources: Sequence[SourceFile], rules: CleaningRules) -> CleanedBytes:
        writer = _Writer(segment)
        bytes_read = records_read = records_kept = records_invalid = 0
        self._changed = False
        last: RecordBatchHeader | None = None
        for source in sources:
            for batch, header in self._batches(source):
                cleaned = filter_batch(batch, header, rules)
                if cleaned.data:
                    writer.write(cleaned.data)
                self._changed = self._changed or cleaned.data is not batch
                bytes_read += len(batch)
                records_read += cleaned.records_read
                records_kept += cleaned.records_kept
                records_invalid += cleaned.records_invalid
                last = header
        if last is not None and writer.next_offset != last.next_offset:
            # A segment has to end where it ended: see `segment_swap.py`.
            writer.write(empty_batch(last))
        writer.flush()
        return CleanedBytes(segment, bytes_read, segment.size, records_read, records_kept, records_invalid)

    _changed = False


class _Writer:
    """Appends batches to a new segment, many at a time."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._data = bytearray()
        self._headers: list[RecordBatchHeader] = []
        self.next_offset = -1

    def write(self, batch: bytes) -> None:
        header = parse_header(batch)
        self._data += batch
        self._headers.append(header)
        self.next_offset = header.next_offset
        if len(self._data) >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        segment = self._segment
        segment.append(self._data, len(self._data))
        for header in self._headers:
            segment.note(segment.size, header.size_bytes, header.last_offset, header.newest_timestamp)
        self._data = bytearray()
        self._headers = []
