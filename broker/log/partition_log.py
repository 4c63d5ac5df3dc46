"""One partition's log: append, read, truncate. All calls come from one thread; writes and reads go to the page cache
in line.

A log is a row of segments, without gaps unless it was compacted (`offset_gaps.py`). It knows nothing of leaders,
followers or the high watermark: who may append what is decided in `replication/`. It holds what must stay in step with
the batches: the epoch cache (rule 14) and the producers' last sequences (rule 17). Only `flush` and `replace_segments`
wait for the disk, and they do so in a thread (see `flusher.py`, `old_segments.py`).

    log_start_offset <= recovery_point <= log_end_offset, but that a truncation or a new log start may pass the
    recovery point
    cleaned_to <= log_end_offset: compaction has seen all below it (Kafka's cleaner checkpoint)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from ...proto.errors import (
    CorruptRecordError,
    KafkaStorageError,
    OffsetOutOfRangeError,
    RecordListTooLargeError,
)
from ...proto.identifiers import LeaderEpoch, Offset, TopicId, TopicPartition
from ...proto.record_batch import (
    Buffer,
    RecordBatchHeader,
    parse_header,
    set_log_append_time,
    set_offset_and_epoch,
)
from .descriptor_pool import DescriptorPool
from .epoch_cache import EpochCache
from .errors import LogCorruptError
from .file_system import FileSystem
from .flusher import Flusher
from .follower_run import LogEnd, checked_headers
from .leader_epochs import LeaderEpochs
from .log_config import LogConfig
from .log_reader import LogReader
from .offset_gaps import OffsetGaps, lacks_records
from .old_segments import OldSegments
from .producer_snapshots import ProducerSnapshots
from .producer_state import ProducerStates
from .segment import RELATIVE_OFFSET_MAX, Segment
from .segment_list import SegmentList

logger = logging.getLogger(__name__)


class AppendedBatch(NamedTuple):
    """Where a leader's batch stands in the log."""

    base_offset: Offset
    last_offset: Offset
    duplicate: bool  # it was there already; these are its first offsets
    log_append_time_ms: int | None  # None: records keep the producer's timestamps


class LogParts(NamedTuple):
    """What a loaded or new log consists of; recovery.py puts it together."""

    segments: SegmentList
    epoch_cache: EpochCache
    producer_states: ProducerStates
    snapshots: ProducerSnapshots
    log_start_offset: Offset
    log_end_offset: Offset
    recovery_point: Offset
    gaps: OffsetGaps
    is_cut: bool = False  # recovery took more away than a batch that was not written to its end


class PartitionLog:
    """The log of one replica on this broker."""

    def __init__(
        self,
        topic_partition: TopicPartition,
        topic_id: TopicId,
        directory: str,
        config: LogConfig,
        parts: LogParts,
        file_system: FileSystem,
        pool: DescriptorPool,
    ) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.directory = directory
        self.config = config
        self.epoch_cache = parts.epoch_cache
        self.producer_states = parts.producer_states
        self.log_start_offset = parts.log_start_offset
        self.log_end_offset = parts.log_end_offset
        self.is_cut = parts.is_cut
        self.failure: str | None = None  # why nothing can be appended any more, until the log is opened anew
        self.closed = False
        self.truncations = 0  # how often batches were cut off: whoever works on the side looks whether it has changed
        self.cleaned_to = Offset(0)
        # What was left out was so for the sake of records below this offset, which were there in this leader epoch. It
        # may be past the log end while what is there is copied, and where what was there is lost.
        known = parts.gaps.cleaned_by_epoch is not None
        self.cleaned_by = Offset(parts.gaps.cleaned_by if known else min(parts.gaps.cleaned_by, parts.log_end_offset))
        self.cleaned_by_epoch = LeaderEpoch(parts.gaps.cleaned_by_epoch or 0)
        self.uncleanable: str | None = None  # why compaction leaves it alone until the next start
        self.checkpoint_now: Callable[[PartitionLog], None] | None = None  # what a restart must know of it; blocks
        self.on_failure: Callable[[], None] | None = None  # nobody knows any more what of it is on the disk
        self.on_flush_wanted: Callable[[PartitionLog], None] | None = None
        self._file_system = file_system
        self._pool = pool
        self._segments = parts.segments
        self._gaps = parts.gaps
        self._reader = LogReader(topic_partition, parts.segments, parts.epoch_cache, parts.gaps)
        self._snapshots = parts.snapshots
        self._old_segments = OldSegments(
            topic_partition, directory, parts.segments, self._reader, parts.snapshots, file_system, self.fail
        )
        self._flusher = Flusher(self, parts.segments, file_system, parts.recovery_point)
        self._epochs = LeaderEpochs(parts.epoch_cache, file_system, directory, self._flusher)
        self._flush_at = self._next_flush_offset()

    def __repr__(self) -> str:
        return f"PartitionLog({self.topic_partition}, {self.log_start_offset}..{self.log_end_offset})"

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return self._segments.size_bytes

    @property
    def recovery_point(self) -> Offset:
        """All below it is known to be on disk; recovery after an unclean stop begins here."""
        return min(self._flusher.recovery_point, self.log_end_offset)

    @property
    def offset_gaps(self) -> OffsetGaps:
        """Whether there may be gaps in the offsets."""
        return self._gaps

    @property
    def segments(self) -> SegmentList:
        """To be looked at, not to be changed."""
        return self._segments

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    # -- append

    def append_as_leader(
        self,
        batch: bytearray | memoryview,
        *,
        leader_epoch: LeaderEpoch,
        now_ms: int,
        log_append_time: bool = False,
        header: RecordBatchHeader | None = None,
    ) -> AppendedBatch:
        """Appends one batch that `check_produced_batch` has passed; its header may come along. `batch` is patched in
        place.

        :raises OutOfOrderSequenceNumberError, InvalidProducerEpochError, InvalidRecordError: see
        `ProducerStates.check`.
        :raises RecordListTooLargeError: the batch is larger than a segment.
        :raises KafkaStorageError: the disk failed; nothing was appended.
        """
        if header is None:
            header = parse_header(batch)
        has_producer = header.producer_id >= 0
        if has_producer and not header.is_control:
            duplicate = self.producer_states.check(header, leader_epoch)
            if duplicate is not None:
                append_time = duplicate.timestamp_ms if log_append_time else None
                first, last = Offset(duplicate.first_offset), Offset(duplicate.last_offset)
                return AppendedBatch(first, last, True, append_time)
        size = len(batch)
        if size > self.config.segment_bytes:
            raise RecordListTooLargeError(f"batch of {size} bytes; segment.bytes is {self.config.segment_bytes}")
        max_timestamp = header.max_timestamp
        if log_append_time:
            set_log_append_time(batch, now_ms)
            max_timestamp = now_ms
        base_offset = self.log_end_offset
        last_offset = base_offset + header.last_offset_delta
        set_offset_and_epoch(batch, base_offset, leader_epoch)
        if self.failure is not None:
            raise KafkaStorageError(f"{self.topic_partition}: {self.failure}")
        segment = self._segments.active
        try:
            if leader_epoch != self._epochs.latest:
                self._epochs.assign(leader_epoch, base_offset)
            if segment.must_roll(size, max_timestamp, last_offset, now_ms, self.config):
                segment = self._roll(base_offset, now_ms)
            segment.append(batch, size)
        except OSError as error:
            self._append_failed(error)
        segment.note(segment.size, size, last_offset, max_timestamp)
        if has_producer:
            self.producer_states.record(header, base_offset, max_timestamp)
        self._advance_to(last_offset + 1)
        return AppendedBatch(base_offset, Offset(last_offset), False, now_ms if log_append_time else None)

    def append_as_follower(
        self,
        records: bytes | memoryview,
        *,
        now_ms: int = 0,
        gaps: bool = False,
        high_watermark: int = 0,
        leader_epoch: LeaderEpoch | None = None,
    ) -> None:
        """Appends batches as the leader wrote them. Each is checked whole before the first byte is written. `gaps`:
        the leader's log was compacted, so offsets may be missing, for the sake of others below its `high_watermark`.
        It leads in `leader_epoch`; None: that of the last batch.

        An epoch is taken to begin where the batch before its first one ends. If there is a gap it may have begun
        later; but who asks where the one before it ends must not be told that it may keep what it has in the gap.

        :raises CorruptRecordError: a batch fails its checks, or does not begin where the log ends; nothing was
        appended.
        :raises KafkaStorageError: the disk failed; what was appended before is a run of whole batches.
        """
        if self.failure is not None:
            raise KafkaStorageError(f"{self.topic_partition}: {self.failure}")
        epoch = self.epoch_cache.epoch_for_offset(self.log_end_offset - 1) or 0
        try:
            end_of_log = LogEnd(self.log_end_offset, epoch, self._segments.is_empty)
            headers, has_gap = checked_headers(records, end_of_log, gaps=gaps)
        except CorruptRecordError as error:
            raise CorruptRecordError(f"{self.topic_partition}: {error}") from error
        if not headers:
            return
        if headers[0].base_offset < self.log_end_offset:
            # A log that begins in the middle of a batch (its leader's log start is there) is still empty: take the
            # batch.
            log_start_offset = self.log_start_offset
            self.truncate_fully_and_start_at(Offset(headers[0].base_offset))
            self.log_start_offset = log_start_offset
        view = memoryview(records)
        begin = end = 0
        run: list[RecordBatchHeader] = []
        try:
            if has_gap or (gaps and any(map(lacks_records, headers))):
                self.producer_states.batch_missing()
                cleaned_by = Offset(max(high_watermark, headers[-1].next_offset))
                of_last = LeaderEpoch(headers[-1].partition_leader_epoch)
                self.will_be_cleaned_by(cleaned_by, of_last if leader_epoch is None else leader_epoch)
            for header in headers:
                size, pending = header.size_bytes, end - begin
                segment = self._segments.active
                new_epoch = header.partition_leader_epoch != self._epochs.latest
                if new_epoch or segment.must_roll(
                    size, header.max_timestamp, header.last_offset, now_ms, self.config, pending=pending
                ):
                    self._append_run(view[begin:end], run)
                    begin, run = end, []
                    if new_epoch:
                        self._epochs.assign(LeaderEpoch(header.partition_leader_epoch), self.log_end_offset)
                    if segment.must_roll(size, header.max_timestamp, header.last_offset, now_ms, self.config):
                        # A segment begins where the one before it ends, but where it cannot count so far.
                        far = header.last_offset - self.log_end_offset > RELATIVE_OFFSET_MAX
                        self._roll(header.base_offset if far else self.log_end_offset, now_ms)
                run.append(header)
                end += size
            self._append_run(view[begin:end], run)
        except OSError as error:
            self._append_failed(error)

    def _append_run(self, data: memoryview, run: list[RecordBatchHeader]) -> None:
        if not run:
            return
        segment = self._segments.active
        segment.append(data, len(data))
        for header in run:
            segment.note(segment.size, header.size_bytes, header.last_offset, header.newest_timestamp)
            if header.producer_id >= 0:
                self.producer_states.record(header, header.base_offset, header.max_timestamp)
        self._advance_to(run[-1].next_offset)

    def _advance_to(self, log_end_offset: int) -> None:
        self.log_end_offset = Offset(log_end_offset)
        self.producer_states.end_offset = log_end_offset
        if log_end_offset >= self._flush_at:
            self._want_flush()

    def _append_failed(self, error: OSError) -> NoReturn:
        """Rule 27: nothing torn stays behind, and the caller gives up the leadership."""
        segment = self._segments.active
        logger.error("log_append_failed partition=%s path=%s error=%s", self.topic_partition, segment.path, error)
        try:
            segment.cut_back()
        except OSError as second:
            self.fail(f"a failed append could not be cut off: {second}")
        raise KafkaStorageError(f"{self.topic_partition}: append to {segment.path} failed: {error}") from error

    def fail(self, reason: str) -> None:
        """Marks the log as not to be appended to until it is opened, and thereby recovered, anew."""
        logger.error("log_failed partition=%s directory=%s reason=%s", self.topic_partition, self.directory, reason)
        self.failure = reason
        if self.on_failure is not None:
            self.on_failure()

    def _roll(self, base_offset: int, now_ms: int) -> Segment:
        """Begins a new segment. :raises OSError: the disk failed; the old one stays active."""
        old = self._segments.active
        old.write_indexes(final=True)
        self.producer_states.end_offset = base_offset
        self._snapshots.write(self.producer_states, sync=False)
        segment = self._new_segment(base_offset, now_ms)
        try:
            segment.create()
        except OSError:
            self._remove_stillborn(segment)
            raise
        self._segments.add(segment)
        old.unload_indexes()
        self._want_flush()
        return segment

    def _remove_stillborn(self, segment: Segment) -> None:
        """The old segment may grow past this one's base offset, so this one must not be found at the next start."""
        try:
            segment.remove()
        except OSError as error:
            self.fail(f"a segment that could not be made could not be removed: {error}")

    def _new_segment(self, base_offset: int, now_ms: int) -> Segment:
        return Segment(self._file_system, self._pool, self.directory, base_offset, self.config, now_ms)

    # -- leader epochs

    def assign_epoch(self, epoch: LeaderEpoch, start_offset: Offset) -> None:
        """A new leader notes where its epoch begins, before its first append (rule 13).

        :raises KafkaStorageError: the disk failed.
        """
        try:
            self._epochs.assign(epoch, start_offset)
        except OSError as error:
            raise KafkaStorageError(f"{self.topic_partition}: cannot write the epoch checkpoint: {error}") from error

    def end_offset_for_epoch(self, epoch: LeaderEpoch) -> tuple[LeaderEpoch | None, Offset]:
        """The largest epoch known that is not above `epoch`, and its end offset; see `EpochCache.end_offset_for`."""
        return self.epoch_cache.end_offset_for(epoch, self.log_end_offset)

    # -- read

    def read(self, offset: Offset, *, max_bytes: int, end_offset: Offset, min_one_batch: bool = True) -> bytes:
        """As `view`, as bytes of its own. :raises KafkaError: as `view`."""
        found = self.view(offset, max_bytes=max_bytes, end_offset=end_offset, min_one_batch=min_one_batch)
        return found if type(found) is bytes else bytes(found)

    def view(self, offset: Offset, *, max_bytes: int, end_offset: Offset, min_one_batch: bool = True) -> Buffer:
        """Whole batches from the one that holds `offset` on, all below `end_offset`, about `max_bytes` at most.

        Every batch is checked, so that a flipped bit on the disk is never served. The first batch is given even if it
        alone is larger than `max_bytes`, unless `min_one_batch` is false. b"" at or past `end_offset`.

        It may be a part of what was read, and hold up to twice its size.

        :raises OffsetOutOfRangeError: `offset` is below the log start or past the log end.
        :raises LogCorruptError: the batch at `offset` is damaged (batches before it are given out first).
        :raises KafkaStorageError: the disk failed.
        """
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise OffsetOutOfRangeError(
                f"{self.topic_partition}: offset {offset} is not in {self.log_start_offset}..{self.log_end_offset}"
            )
        if offset >= end_offset or offset == self.log_end_offset:
            return b""
        try:
            return self._reader.read(offset, max_bytes, end_offset, min_one_batch)
        except OSError as error:
            raise KafkaStorageError(f"{self.topic_partition}: read at offset {offset} failed: {error}") from error

    def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, Offset] | None:
        """(timestamp, offset) of the first record at least as new as `timestamp_ms`; None if there is none.

        :raises LogCorruptError, KafkaStorageError: as `read`.
        """
        try:
            return self._reader.offset_for_timestamp(timestamp_ms, self.log_start_offset, self.log_end_offset)
        except OSError as error:
            raise KafkaStorageError(f"{self.topic_partition}: look-up by timestamp failed: {error}") from error

    def max_timestamp(self) -> tuple[int, Offset] | None:
        """(timestamp, offset) of the newest record from the log start on; None if none has a timestamp (KIP-734).

        :raises LogCorruptError, KafkaStorageError: as `read`.
        """
        newest = max(segment.largest[0] for segment in self._segments)
        found = None if newest < 0 else self.offset_for_timestamp(newest)
        if found is None and newest >= 0:  # it lies below the log start
            newest = self._reader.newest_batch_from(self.log_start_offset)
            found = self.offset_for_timestamp(max(newest, 0))
            # Newer yet may be what is left of a batch in which the log starts.
            while found is not None and (newer := self.offset_for_timestamp(found[0] + 1)) is not None:
                found = newer
        return found

    # -- truncate and delete

    def will_be_cleaned_by(self, offset: Offset, leader_epoch: LeaderEpoch | None = None) -> None:
        """Records may be left out from now on for the sake of others below `offset`; on the disk before they are, for
        a process that is killed comes back with less than it had cleaned in its checkpoint. These others are in the log
        of who leads in `leader_epoch`; None: they are in this one. Blocks.

        :raises OSError: the disk failed.
        """
        epoch = LeaderEpoch(self.epoch_cache.latest_epoch or 0) if leader_epoch is None else leader_epoch
        self._gaps.allow(offset, epoch)
        if max(self.cleaned_to, offset) > self.cleaned_by:
            self.cleaned_by = Offset(max(self.cleaned_to, offset))
            self.cleaned_by_epoch = epoch

    def is_whole_below(self, offset: Offset) -> bool:
        """False if records below `offset` may be missing for the sake of others from there on, as these replaced them.

        False does not say that any is: a follower is told of no offset, so it takes the end of the chunk in which it
        finds a gap, and what that ends with need not be committed.
        """
        return offset >= max(self.cleaned_to, self.cleaned_by)

    def truncate_to(self, offset: Offset) -> None:
        """Removes `offset` and all after it (a batch that holds it goes whole). The epoch cache is cut in any case
        (rule 14).

        :raises KafkaStorageError: the disk failed; the log must be opened anew.
        """
        try:
            self._old_segments.settle()
            if offset >= self.log_end_offset:
                self._epochs.truncate_from_end(self.log_end_offset)
            elif offset < self._segments.base_offset:
                self._restart_at(offset)
            else:
                self._truncate_to(offset)
        except (OSError, LogCorruptError) as error:
            self.fail(f"truncation to {offset} failed: {error}")
            raise KafkaStorageError(f"{self.topic_partition}: truncation to {offset} failed: {error}") from error

    def _truncate_to(self, offset: int) -> None:
        self._reader.forget_positions()
        segment, position, base_offset = self._reader.locate_cut(offset)
        end_offset = Offset(base_offset)
        if self._gaps.allowed:
            # The end of what is left, for a restart finds no other; but what lies below the log start is not missing.
            end_offset = Offset(max(segment.end_before(position, base_offset), min(self.log_start_offset, offset)))
        self._flusher.truncated_to(end_offset)
        self._segments.remove_after(segment)
        segment.cut_at(position, base_offset)
        self.truncations += 1
        self.log_end_offset = end_offset
        self.log_start_offset = min(self.log_start_offset, end_offset)
        self._epochs.truncate_from_end(end_offset)
        self.producer_states = self._snapshots.state_at(self._segments, end_offset, trusted=end_offset)
        self._flush_at = self._next_flush_offset()
        self._uncleaned_from(end_offset)
        logger.info("log_truncated partition=%s epoch=%s end=%d", self.topic_partition, self._epochs.latest, end_offset)

    def _uncleaned_from(self, offset: Offset) -> None:
        if offset < self.cleaned_to:
            self.cleaned_to = offset
            if self.checkpoint_now is not None:
                self.checkpoint_now(self)

    def truncate_fully_and_start_at(self, offset: Offset) -> None:
        """Empties the log; the next batch goes to `offset`. A log that had failed is as good as new after it.

        :raises KafkaStorageError: the disk failed.
        """
        try:
            self._old_segments.settle()
            self._restart_at(offset)
            self.uncleanable = None
            self.failure = None  # all that was in doubt is gone
        except OSError as error:
            self.fail(f"starting anew at {offset} failed: {error}")
            raise KafkaStorageError(f"{self.topic_partition}: starting anew at {offset} failed: {error}") from error

    def _restart_at(self, offset: Offset) -> None:
        self._reader.forget_positions()
        self._flusher.truncated_to(offset)
        self.truncations += 1
        self.log_start_offset = self.log_end_offset = offset
        self._segments.replace_all(self._new_segment(offset, 0))
        self._snapshots.remove_all()
        self.producer_states.clear(offset)
        self._epochs.clear()
        self._gaps.log_was_emptied()
        self.cleaned_by = Offset(0)
        self._flush_at = self._next_flush_offset()
        self._uncleaned_from(Offset(0))
        logger.info("log_restarted partition=%s start_offset=%d", self.topic_partition, offset)

    def advance_log_start_to(self, offset: Offset, *, at_once: bool = False) -> bool:
        """Hides what is below `offset` (DeleteRecords, or the leader's log start); True if the log start moved.
        `at_once`: a process that is killed now comes back with it too. That blocks.

        :raises OffsetOutOfRangeError: `offset` is past the log end. :raises KafkaStorageError: the disk failed.
        """
        if offset > self.log_end_offset:
            raise OffsetOutOfRangeError(f"{self.topic_partition}: log start {offset} would pass {self.log_end_offset}")
        if offset <= self.log_start_offset:
            return False
        self.log_start_offset = offset
        try:
            self._epochs.truncate_from_start(offset)
            if at_once and self.checkpoint_now is not None:
                self.checkpoint_now(self)
        except OSError as error:
            raise KafkaStorageError(f"{self.topic_partition}: cannot write a checkpoint: {error}") from error
        return True

    def delete_old_segments(self, now_ms: int, high_watermark: Offset) -> int:
        """Applies retention; returns how many segments went. Their files are renamed, see `take_deleted_files`.

        :raises KafkaStorageError: the disk failed.
        """
        count = self._old_segments.count_deletable(
            self.config, now_ms, self.log_start_offset, self.log_end_offset, high_watermark
        )
        if not count:
            return 0
        try:
            end = self._segments.ends(self.log_end_offset)[count - 1]
            if count == len(self._segments):
                self._roll(self.log_end_offset, now_ms)
            self.advance_log_start_to(max(end, self.log_start_offset))
            self._old_segments.drop(count)
        except OSError as error:
            raise KafkaStorageError(f"{self.topic_partition}: deleting old segments failed: {error}") from error
        logger.info(
            "log_segments_deleted partition=%s count=%d log_start_offset=%d",
            self.topic_partition,
            count,
            self.log_start_offset,
        )
        return count

    async def replace_segments(self, old: Sequence[Segment], new: Segment, truncations: int) -> bool:
        """Compaction: puts `new`, which was made of `old` when so many truncations had been, in their place.

        False if the log has changed so that they do not fit any more; the files of `new` are then to be removed.

        :raises KafkaStorageError: the disk failed; see `OldSegments.replace`.
        """
        if self.closed or self.failure is not None or truncations != self.truncations:
            return False
        new.adopt(self._pool)
        return await self._old_segments.replace(old, new)

    def take_deleted_files(self) -> list[str]:
        """Files renamed since the last call, to be removed after file.delete.delay.ms."""
        return self._old_segments.take_deleted_files()

    # -- flush and close

    @property
    def flush_due(self) -> bool:
        """True if flush.messages records, or a rolled segment, wait to be flushed."""
        return self.log_end_offset >= self._flush_at or self._segments.active.base_offset > self._flusher.recovery_point

    def _next_flush_offset(self) -> int:
        limit = self.config.flush_messages
        return 2**63 if limit is None else self._flusher.recovery_point + limit

    def _want_flush(self) -> None:
        if self.on_flush_wanted is not None:
            self.on_flush_wanted(self)

    async def flush(self) -> None:
        """Returns once all that is in the log now is on disk; the recovery point moves then, not before.

        :raises KafkaStorageError: the disk failed; the log is marked as failed, for nobody knows what it has kept.
        """
        await self._flusher.flush(self.log_end_offset)
        self._flush_at = self._next_flush_offset()

    async def sync_epochs(self) -> None:
        """Returns once the epoch checkpoint is on disk. :raises KafkaStorageError: the disk failed.

        That of a new log is left to the flush: without it, the epoch is taken from the batches.
        """
        if self._flusher.epochs_unsynced and len(self.epoch_cache.entries) > 1 and not self.closed:
            await self._flusher.sync_epochs()

    async def flush_if_due(self) -> None:
        """Flushes what must be: all after flush.messages records, else the segments that were rolled."""
        if self.log_end_offset >= self._flush_at:
            await self.flush()
        elif self._segments.active.base_offset > self._flusher.recovery_point:
            await self._flusher.flush(Offset(self._segments.active.base_offset))

    def update_config(self, config: LogConfig) -> None:
        """Takes a new configuration; it holds from the next append and the next retention run on."""
        self.config = config
        self._flush_at = self._next_flush_offset()

    def close(self) -> None:
        """Flushes everything, writes indexes and a producer snapshot, and closes the files. Blocks.

        :raises KafkaStorageError: the disk failed; the stop was not a clean one.
        """
        try:
            if self.failure is None:
                for segment in self._segments:
                    segment.write_indexes(final=segment is self._segments.active)
                if self._snapshots.latest_offset != self.log_end_offset:
                    self._snapshots.write(self.producer_states, sync=True)
                self._old_segments.sync_names()
                self._flusher.flush_now(self.log_end_offset)
        except OSError as error:
            raise KafkaStorageError(f"{self.topic_partition}: closing failed: {error}") from error
        finally:
            self.close_files()
        if self.failure is not None:
            raise KafkaStorageError(f"{self.topic_partition}: {self.failure}")

    def close_files(self) -> None:
        """Closes the files without another word to the disk: the log is to be deleted, or the process gives up."""
        self.closed = True
        self._old_segments.abandon()
        for segment in self._segments:
            segment.close_file()
