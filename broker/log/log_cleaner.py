"""Compaction in the background: picks the log that needs it most, has it cleaned in a thread, swaps the result in.

One log is cleaned at a time; one that fails is tried again later, after the others. A cleaning goes from the front of
the log to where the map of keys was full or the dirty part ends; each run of segments that becomes one is swapped in by
itself, so a crash repeats work but loses none. A log whose records cannot be read is left as it is until the next
start: its old segments are still served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

from ...cluster.clock import Clock
from ...proto.errors import KafkaError, KafkaStorageError
from ...proto.identifiers import Offset, TopicIdPartition
from .cleanable import Cleanable, SegmentFacts, find_cleanable, group_segments
from .cleaner_config import LogCleanerConfig
from .file_system import FileSystem
from .offset_map import BYTES_PER_KEY, OffsetMap
from .partition_log import PartitionLog
from .segment import Segment

if TYPE_CHECKING:
    from .cleaning import CleanedBytes, Cleaning
    from .log_manager import LogManager

logger = logging.getLogger(__name__)

T = TypeVar("T")
_TIME_ENTRY_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class _Candidate:
    key: TopicIdPartition
    log: PartitionLog
    cleanable: Cleanable


class LogCleaner:
    """Started and stopped by the log manager, on its event loop."""

    def __init__(
        self,
        manager: LogManager,
        config: LogCleanerConfig,
        clock: Clock,
        file_system: FileSystem,
        remove_later: Callable[[str, int], None],
    ) -> None:
        self._manager = manager
        self._config = config
        self._clock = clock
        self._file_system = file_system
        self._remove_later = remove_later
        self._task: asyncio.Task[None] | None = None
        self._running: tuple[PartitionLog, Cleaning] | None = None
        self._chosen: PartitionLog | None = None
        self._failed: list[PartitionLog] = []  # since the last pause

    def start(self) -> None:
        """Begins the work on the running loop."""
        if self._config.enable:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="log-cleaner")

    async def stop(self) -> None:
        """Ends the work; returns once no thread reads or writes any more."""
        task, self._task = self._task, None
        if task is not None:
            if self._running is not None:
                self._running[1].abort = True
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def forget(self, log: PartitionLog) -> None:
        """A log is gone."""
        if self._running is not None and self._running[0] is log:
            self._running[1].abort = True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._config.backoff_ms / 1000)
            self._failed.clear()
            failures = -1
            while failures < len(self._failed):
                failures = len(self._failed)
                try:
                    while await self.clean_filthiest(but=self._failed):
                        pass
                except Exception as error:  # the outermost loop of the task: say it, and go on
                    logger.exception("log_cleaner_failed error=%r", error)
                    self._blame(error)

    def _blame(self, error: Exception) -> None:
        """Nobody knows what went wrong with the log that was chosen, so it is not chosen again."""
        log, self._chosen = self._chosen, None
        if log is not None:
            log.uncleanable = repr(error)
            self._failed.append(log)

    # -- choosing

    async def clean_filthiest(self, *, but: Collection[PartitionLog] = ()) -> bool:
        """Cleans the log with the largest dirty ratio of those that are due; False if none was, or it failed."""
        due = [each for each in self._candidates() if each.log not in but and each.cleanable.is_due(each.log.config)]
        if not due:
            return False
        filthiest = max(due, key=lambda each: (each.cleanable.overdue, each.cleanable.dirty_ratio))
        return await self._clean_or_say_why_not(filthiest)

    def _candidates(self) -> list[_Candidate]:
        found = []
        for key, log in self._manager.logs.items():
            if log.config.compacted and log.failure is None and log.uncleanable is None:
                if log.flush_due and log.on_flush_wanted is not None:  # as after a restart, where nothing is appended
                    log.on_flush_wanted(log)
                cleanable = self.cleanable(key, log)
                if cleanable is not None:
                    found.append(_Candidate(key, log, cleanable))
        return found

    def cleanable(self, key: TopicIdPartition, log: PartitionLog) -> Cleanable | None:
        """What of this log can be cleaned now, if anything."""
        return find_cleanable(
            [facts for facts, _ in _facts(log)],
            first_dirty_offset=_first_dirty_offset(log),
            # What a power cut may take back must not be what older records were dropped for.
            limit_offset=min(self._manager.high_watermark(key), log.recovery_point),
            config=log.config,
            now_ms=self._clock.wall_ms(),
        )

    # -- cleaning

    async def _clean_or_say_why_not(self, candidate: _Candidate) -> bool:
        log = self._chosen = candidate.log
        try:
            cleaned = await self._clean(log, candidate.cleanable)
            self._chosen = None
            return cleaned
        except KafkaStorageError as error:
            logger.error("log_cleaning_failed partition=%s error=%s", log.topic_partition, error)
        except KafkaError as error:
            log.uncleanable = str(error)
            logger.error(
                "log_uncleanable partition=%s error_type=%s error=%s", log.topic_partition, type(error).__name__, error
            )
        except OSError as error:
            logger.error("log_cleaning_failed partition=%s error=%s", log.topic_partition, error)
        self._chosen = None
        self._failed.append(log)
        return False

    async def _clean(self, log: PartitionLog, cleanable: Cleanable) -> bool:
        """True if the log was cleaned, in part at least. :raises KafkaError, OSError: see `Cleaning`."""
        # Loaded when it is first needed, and in a thread: the codec of records takes the event loop too long.
        await asyncio.to_thread(import_module, ".cleaning", __package__)
        from .cleaning import Cleaning, CleaningAborted, Pace, SourceFile

        if log.closed:
            return False
        began_ms, truncations = self._clock.monotonic_ms(), log.truncations
        parts = [each for each in _facts(log) if each[0].base_offset < cleanable.end_offset]
        sources = [SourceFile(segment.path, segment.size, segment.base_offset) for _, segment in parts]
        dirty = [
            source
            for source, (facts, _) in zip(sources, parts, strict=True)
            if facts.end_offset > cleanable.first_dirty_offset
        ]
        pace = Pace(self._config.io_max_bytes_per_second)
        cleaning = Cleaning(self._file_system, log.directory, log.config, pace, self._clock.wall_ms())
        self._running = (log, cleaning)
        needed = [segment for _, segment in parts]
        try:
            keys_max = self._config.dedupe_buffer_size // BYTES_PER_KEY
            offsets = await _to_the_end(
                asyncio.to_thread(
                    cleaning.map_offsets, dirty, cleanable.first_dirty_offset, cleanable.end_offset, keys_max
                )
            )
            of_segment = {segment: source for (_, segment), source in zip(parts, sources, strict=True)}
            wanted = [each for each in parts if each[0].base_offset < offsets.end_offset]
            totals: list[CleanedBytes] = []
            # Once, for it takes its time: what producers send from now on is no concern of this cleaning.
            producer_batches = log.producer_states.last_offsets()
            log.will_be_cleaned_by(Offset(offsets.end_offset))
            for group in group_segments(wanted, log.config):
                needed = group
                run = [of_segment[segment] for segment in group]
                work = asyncio.to_thread(cleaning.clean, run, offsets, producer_batches)
                cleaned = await self._replace(log, group, await _to_the_end(work), truncations)
                if cleaned is None:
                    return False
                totals.append(cleaned)
        except CleaningAborted:
            return False
        except (KafkaError, OSError):
            if log.closed or log.truncations != truncations or not log.segments.holds(needed):
                return False  # files were cut or removed under the reader
            raise
        finally:
            self._running = None
        if log.truncations != truncations:
            return False
        log.cleaned_to = Offset(offsets.end_offset)
        _log_cleaned(log, cleanable, offsets, totals, self._clock.monotonic_ms() - began_ms)
        return offsets.end_offset > cleanable.first_dirty_offset

    async def _replace(
        self, log: PartitionLog, group: list[Segment], cleaned: CleanedBytes, truncations: int
    ) -> CleanedBytes | None:
        """None if the log has changed meanwhile."""
        new = cleaned.segment
        if new is not None:
            if not await _to_the_end(log.replace_segments(group, new, truncations)):
                await asyncio.to_thread(_remove_unwanted, new)
                return None
            for path in log.take_deleted_files():
                self._remove_later(path, log.config.file_delete_delay_ms)
        return cleaned


def _remove_unwanted(segment: Segment) -> None:
    try:
        segment.remove()
    except OSError as error:  # the next start removes what has such a name
        logger.warning("removal_failed path=%s error=%s", segment.path, error)


async def _to_the_end(work: Awaitable[T]) -> T:
    """What the work gives; if the caller is cancelled it is waited for all the same, for it may be in a thread."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.gather(future, return_exceptions=True)
        raise


def _first_dirty_offset(log: PartitionLog) -> int:
    return max(log.cleaned_to, log.log_start_offset)


def _facts(log: PartitionLog) -> list[tuple[SegmentFacts, Segment]]:
    """The segments below the active one. What costs a look at the disk is looked up only where it counts."""
    config, segments = log.config, list(log.segments)
    wants_first, wants_modified = config.max_compaction_lag_ms is not None, bool(config.min_compaction_lag_ms)
    return [
        (
            SegmentFacts(
                base_offset=segment.base_offset,
                end_offset=following.base_offset,
                size_bytes=segment.size,
                # An upper bound, without loading the indexes: one entry for each so many bytes.
                index_bytes=(segment.size // max(config.index_interval_bytes, 1) + 1) * _TIME_ENTRY_BYTES,
                max_timestamp_ms=segment.largest[0],
                first_timestamp_ms=segment.first_timestamp if wants_first else -1,
                modified_ms=segment.modified_ms if wants_modified else 0,
            ),
            segment,
        )
        for segment, following in pairwise(segments)
    ]


def _log_cleaned(
    log: PartitionLog, cleanable: Cleanable, offsets: OffsetMap, totals: Sequence[CleanedBytes], took_ms: int
) -> None:
    logger.info(
        "log_cleaned partition=%s epoch=%s from=%d to=%d keys=%d segments=%d bytes_read=%d bytes_written=%d "
        "records_read=%d records_kept=%d took_ms=%d",
        log.topic_partition,
        log.epoch_cache.latest_epoch,
        cleanable.first_dirty_offset,
        offsets.end_offset,
        len(offsets),
        len(totals),
        sum(each.bytes_read for each in totals),
        sum(each.bytes_written for each in totals),
        sum(each.records_read for each in totals),
        sum(each.records_kept for each in totals),
        took_ms,
    )
    invalid = sum(each.records_invalid for each in totals)
    if invalid:
        logger.warning("log_cleaned_of_records_without_key partition=%s records=%d", log.topic_partition, invalid)
