"""Opens a log that is on disk, whatever state a crash has left it in, and makes new ones.

After a clean stop the files are trusted, and only what cannot be right is made anew. After any other stop, everything
from the recovery point on is in doubt (rule 18): batches are read one after the other, each must pass its CRC, begin
where the last one ended (or later, see `offset_gaps.py`) and bear the leader epoch that the epoch cache has for its
offset. The log ends at the first that does not; what follows it is gone. Indexes, producer state and epoch cache are
made anew from what is left.

What lies below the recovery point was synced and is not cut: a flaw there is damage to the disk, which
`PartitionLog.read` finds when it comes upon it, so that the replica is fetched anew while others still have the data.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ...proto.errors import CorruptRecordError, KafkaError
from ...proto.identifiers import LeaderEpoch, Offset, TopicId, TopicPartition
from ...proto.record_batch import HEADER_SIZE, RecordBatchHeader, check_batch, parse_header
from .checkpoints import LEADER_EPOCH_CHECKPOINT, read_epochs, write_epochs, write_topic_id
from .descriptor_pool import DescriptorPool
from .epoch_cache import EpochCache
from .errors import CorruptFileError
from .file_system import FileSystem, remove_if_present
from .log_config import LogConfig
from .offset_gaps import OFFSET_GAPS, OffsetGaps
from .partition_log import LogParts, PartitionLog
from .producer_snapshots import SNAPSHOT_SUFFIX, ProducerSnapshots
from .producer_state import ProducerStates
from .segment import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    RELATIVE_OFFSET_MAX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    Segment,
)
from .segment_list import SegmentList
from .segment_swap import complete_swaps

logger = logging.getLogger(__name__)

_LEFTOVER_SUFFIXES = (DELETED_SUFFIX, ".tmp", CLEANED_SUFFIX, SWAP_SUFFIX)


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Which log, and where."""

    topic_partition: TopicPartition
    topic_id: TopicId
    directory: str


def create_log(
    file_system: FileSystem, pool: DescriptorPool, place: LogPlace, config: LogConfig, now_ms: int
) -> PartitionLog:
    """Makes an empty log. The topic id is written first: a folder without one was never a log (rule 24).

    :raises OSError: the disk failed.
    """
    file_system.make_folder(place.directory)
    write_topic_id(file_system, place.directory, place.topic_id)
    segment = Segment(file_system, pool, place.directory, 0, config, now_ms)
    segment.create()
    start = Offset(0)
    snapshots = ProducerSnapshots(file_system, place.directory, [])
    gaps = OffsetGaps(file_system, place.directory)
    parts = LogParts(SegmentList([segment]), EpochCache(), ProducerStates(), snapshots, start, start, start, gaps)
    return PartitionLog(place.topic_partition, place.topic_id, place.directory, config, parts, file_system, pool)


def load_log(
    file_system: FileSystem,
    pool: DescriptorPool,
    place: LogPlace,
    config: LogConfig,
    *,
    now_ms: int,
    clean: bool,
    recovery_point: Offset,
    log_start_offset: Offset | None,
) -> PartitionLog:
    """The log in `place.directory`; `clean` says whether the last stop was one.

    :raises OSError: the disk failed.
    """
    loader = _Loader(file_system, pool, place, config, now_ms)
    parts = loader.load(clean, recovery_point, log_start_offset)
    return PartitionLog(place.topic_partition, place.topic_id, place.directory, config, parts, file_system, pool)


class _Loader:
    def __init__(
        self, file_system: FileSystem, pool: DescriptorPool, place: LogPlace, config: LogConfig, now_ms: int
    ) -> None:
        self._file_system = file_system
        self._pool = pool
        self._place = place
        self._config = config
        self._now_ms = now_ms
        self._epochs = EpochCache()
        self._epochs_known = False  # the checkpoint could be read, and so is ahead of every batch
        self._end_offset = 0
        self._is_cut = False
        self._gaps = OffsetGaps(file_system, place.directory)

    def load(self, clean: bool, recovery_point: Offset, log_start_offset: Offset | None) -> LogParts:
        directory = self._place.directory
        found = self._file_system.list_folder(directory)
        if complete_swaps(self._file_system, directory, found, self._config, self._now_ms):
            found = self._file_system.list_folder(directory)
        names = self._tidy(found)
        if OFFSET_GAPS in names:
            self._gaps.load()
        segments = [self._segment(base) for base in _offsets(names, LOG_SUFFIX)]
        snapshots = ProducerSnapshots(self._file_system, directory, _offsets(names, SNAPSHOT_SUFFIX))
        self._read_epochs()
        if not segments:
            segments = [self._new_segment(log_start_offset or Offset(0))]
        if not clean:
            self._recover(segments, recovery_point, log_start_offset or 0)
        elif not self._trust(segments):
            clean = False
            self._recover(segments, Offset(segments[-1].base_offset), log_start_offset or 0)
        start = Offset(max(log_start_offset or 0, segments[0].base_offset))
        if start > self._end_offset:
            # All that is left lies below the log start, and may not be shown.
            logger.warning("log_below_start partition=%s end=%d start=%d", self._name, self._end_offset, start)
            for segment in reversed(segments):
                segment.remove()
            segments = [self._new_segment(start)]
            self._end_offset = start
            self._is_cut = True
        end = Offset(self._end_offset)
        self._settle_epochs(segments, start, end)
        rows = SegmentList(segments)
        producers = snapshots.state_at(rows, end, trusted=end if clean else recovery_point)
        snapshots.keep_only({segment.base_offset for segment in segments})
        return LogParts(
            rows,
            self._epochs,
            producers,
            snapshots,
            start,
            end,
            end if clean else min(recovery_point, end),
            self._gaps,
            self._is_cut,
        )

    @property
    def _name(self) -> TopicPartition:
        return self._place.topic_partition

    def _segment(self, base_offset: int) -> Segment:
        segment = Segment(self._file_system, self._pool, self._place.directory, base_offset, self._config, self._now_ms)
        status = self._file_system.status(segment.path)
        segment.size = status.size if status is not None else 0
        return segment

    def _new_segment(self, base_offset: Offset) -> Segment:
        segment = self._segment(base_offset)
        segment.create()
        segment.size = 0
        self._end_offset = base_offset
        return segment

    def _tidy(self, names: Sequence[str]) -> list[str]:
        """Removes what was on its way out, half written, or an index without a log."""
        kept = []
        for name in names:
            stem, _, _ = name.rpartition(".")
            is_orphan = name.endswith((INDEX_SUFFIX, TIME_INDEX_SUFFIX)) and stem + LOG_SUFFIX not in names
            if name.endswith(_LEFTOVER_SUFFIXES) or is_orphan:
                remove_if_present(self._file_system, f"{self._place.directory}/{name}")
            else:
                kept.append(name)
        return kept

    # -- after a clean stop

    def _trust(self, segments: list[Segment]) -> bool:
        """Takes the segments as they are, with new indexes where the old are not fit; False if the log's end is
        torn.
        """
        for segment in segments:
            self._check_indexes(segment)
        last = segments[-1]
        indexed = last.offset_index.last()
        expected, position = last.base_offset, 0
        try:
            for data, at in last.scan(0 if indexed is None else indexed[1]):
                header = check_batch(data, at)
                if indexed is not None:
                    expected, position = header.base_offset, indexed[1]
                    if header.last_offset != indexed[0]:
                        raise CorruptRecordError(f"it ends with {header.last_offset}, the index says {indexed[0]}")
                    indexed = None
                if not self._gaps.fit(header.base_offset, expected):
                    raise CorruptRecordError(f"its base offset is {header.base_offset}, not {expected}")
                expected = header.next_offset
                position += header.size_bytes
        except KafkaError as error:
            logger.warning("log_tail_corrupt partition=%s path=%s error=%s", self._name, last.path, error)
            return False
        if position != last.size:
            logger.warning("log_tail_torn partition=%s path=%s position=%d", self._name, last.path, position)
            return False
        last.unload_indexes()
        self._end_offset = expected
        return True

    def _check_indexes(self, segment: Segment) -> None:
        try:
            segment.check_index_ends()
            segment.load_largest()
        except CorruptFileError as error:
            logger.warning("log_index_rebuilt partition=%s path=%s error=%s", self._name, segment.path, error)
            segment.rebuild_indexes(self._gaps)
            segment.write_indexes(final=True)

    # -- after any other stop

    def _recover(self, segments: list[Segment], recovery_point: Offset, log_start_offset: int) -> None:
        """Scans from the segment that holds the recovery point; drops what follows the first flaw."""
        first = max((i for i, segment in enumerate(segments) if segment.base_offset <= recovery_point), default=0)
        for segment in segments[:first]:
            self._check_indexes(segment)
        expected = segments[first].base_offset
        for index in range(first, len(segments)):
            segment = segments[index]
            flaw = "" if self._may_begin(segment, expected, log_start_offset) else f"base offset is not {expected}"
            if not flaw:
                expected, flaw = self._recover_segment(segment)
            elif index:
                index -= 1
            if flaw:
                self._drop_after(segments, index, flaw)
                break
        self._end_offset = expected
        self._is_cut = self._is_cut or expected < recovery_point

    def _may_begin(self, segment: Segment, expected: int, log_start_offset: int) -> bool:
        """Segments follow one another without a gap, also where batches do not: after a loss of power the name of one
        may be there, and nothing of those before it. But below the log start nothing is missed, and an offset that a
        segment cannot count to begins the next.
        """
        base_offset = segment.base_offset
        if base_offset == expected or not self._gaps.fit(base_offset, expected):
            return base_offset == expected
        first = next((header for _, header in segment.headers()), None)
        far = (
            first is not None
            and first.base_offset == base_offset
            and first.last_offset - expected > RELATIVE_OFFSET_MAX
        )
        return base_offset <= log_start_offset or far

    def _drop_after(self, segments: list[Segment], index: int, flaw: str) -> None:
        dropped = segments[index + 1 :]
        self._is_cut = self._is_cut or bool(dropped)
        logger.warning(
            "log_cut_by_recovery partition=%s path=%s size=%d segments_dropped=%d reason=%s",
            self._name,
            segments[index].path,
            segments[index].size,
            len(dropped),
            flaw,
        )
        for segment in reversed(dropped):
            segment.remove()
        del segments[index + 1 :]

    def _recover_segment(self, segment: Segment) -> tuple[int, str]:
        """(end offset, what is wrong with the batch there or "") after cutting the file at that point."""
        segment.start_indexes()
        size, expected, flaw = segment.size, segment.base_offset, ""
        position = 0
        for data, at in segment.scan():
            try:
                header = check_batch(data, at)
            except KafkaError as error:
                flaw = str(error)
                break
            flaw = self._flaw(header, expected)
            if flaw:
                break
            if header.last_offset - segment.base_offset > RELATIVE_OFFSET_MAX:
                flaw = "its offset is too far from the segment's"
                break
            segment.note(position, header.size_bytes, header.last_offset, header.newest_timestamp)
            position += header.size_bytes
            expected = header.next_offset
        segment.size = position
        if position < size:
            flaw = flaw or "it ends early"
            self._is_cut = self._is_cut or not _is_torn(segment, position, size)
            segment.cut_back()
        segment.write_indexes(final=True)
        return expected, flaw

    def _flaw(self, header: RecordBatchHeader, expected: int) -> str:
        if not self._gaps.fit(header.base_offset, expected):
            return f"its base offset is {header.base_offset}, not {expected}"
        epoch = header.partition_leader_epoch
        if epoch < 0:
            return f"its leader epoch is {epoch}"
        if self._epochs_known:
            known = self._epochs.epoch_for_offset(header.base_offset)
            if known is None and self._epochs.latest_epoch is None:
                self._epochs.assign(LeaderEpoch(epoch), Offset(expected))
            elif known is not None and epoch != known:
                # The checkpoint is written before the first batch of an epoch, so this is damage, or a truncation
                # that the crash cut short.
                return f"its leader epoch is {epoch}, not {known}"
            return ""
        latest = self._epochs.latest_epoch
        if latest is not None and epoch < latest:
            return f"its leader epoch is {epoch}, after {latest}"
        self._epochs.assign(LeaderEpoch(epoch), Offset(expected))
        return ""

    # -- what goes with the batches

    def _read_epochs(self) -> None:
        try:
            entries = read_epochs(self._file_system, f"{self._place.directory}/{LEADER_EPOCH_CHECKPOINT}")
        except CorruptFileError as error:
            logger.warning("epoch_checkpoint_rebuilt partition=%s error=%s", self._name, error)
            return
        if entries is not None:
            self._epochs = EpochCache(entries)
            self._epochs_known = True

    def _settle_epochs(self, segments: Sequence[Segment], start: Offset, end: Offset) -> None:
        """The epoch cache for exactly what is in the log."""
        before = self._epochs.entries if self._epochs_known else None
        if not self._epochs_known:
            self._epochs = EpochCache()
            for segment in segments:
                before_end = segment.base_offset
                for _, header in segment.headers():
                    epoch = header.partition_leader_epoch
                    if epoch != self._epochs.latest_epoch and epoch >= 0:
                        # Whose the offsets of a gap were is not known: see `PartitionLog.append_as_follower`.
                        self._epochs.assign(LeaderEpoch(epoch), Offset(before_end))
                    before_end = header.next_offset
        self._epochs.truncate_from_end(end)
        self._epochs.truncate_from_start(start)
        if self._epochs.entries != (before or ()):
            write_epochs(self._file_system, f"{self._place.directory}/{LEADER_EPOCH_CHECKPOINT}", self._epochs.entries)


def _is_torn(segment: Segment, position: int, size: int) -> bool:
    """True if what is left is the begin of a batch that was not written to its end, as kill -9 leaves it."""
    rest = segment.pread(position, min(HEADER_SIZE, size - position))
    return len(rest) < HEADER_SIZE or parse_header(rest).size_bytes > size - position


def _offsets(names: Sequence[str], suffix: str) -> list[int]:
    return sorted(
        int(stem) for stem in (name.removesuffix(suffix) for name in names if name.endswith(suffix)) if stem.isdecimal()
    )
