"""What compaction takes away: rules 2 and 3, at each cleaning of a log and at each cut of one that was cleaned.

2   what it leaves is as it was: offsets, keys and values, and the batches' own bounds
3   a record goes only for a later one with its key that is committed; a tombstone goes only once its batch's delete
    horizon is over, and that is delete.retention.ms after it was first cleaned (KIP-534); and where what a record went
    for is cut off again, the record is back or something else that came after it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from klamm.broker.log.cleaning import CleanedBytes, Cleaning, SourceFile
from klamm.broker.log.offset_map import OffsetMap
from klamm.proto.identifiers import TopicIdPartition
from klamm.proto.record_batch import DELETE_HORIZON_FLAG, check_batch
from klamm.proto.record_codec import read_batch
from simulator.oracles.breach import Report
from simulator.oracles.hooks import Hooks


class Kept(NamedTuple):
    """One record."""

    offset: int
    key: bytes | None
    value: bytes | None


class CleanBatch(NamedTuple):
    """A batch of a log, before or after a cleaning."""

    base_offset: int
    last_offset: int
    horizon_ms: int | None  # from when on its tombstones may go
    records: tuple[Kept, ...]


Offsets = Mapping[bytes | None, Collection[int]]
"""Where the records of each key are."""
Context = tuple[int, TopicIdPartition, Offsets, int | None]
"""Broker, partition, what follows in its log, and the end of what is committed; None where that is not known."""


def batches_of(data: bytes) -> tuple[CleanBatch, ...]:
    """All batches of a segment's bytes. :raises CorruptRecordError: as `check_batch`."""
    found = []
    position = 0
    while position < len(data):
        header = check_batch(data, position)
        whole = data[position : position + header.size_bytes]
        position += header.size_bytes
        records: tuple[Kept, ...] = ()
        if header.record_count and not header.is_control:
            records = tuple(Kept(each.offset, each.key, each.value) for each in read_batch(whole))
        horizon_ms = header.base_timestamp if header.attributes & DELETE_HORIZON_FLAG else None
        found.append(CleanBatch(header.base_offset, header.last_offset, horizon_ms, records))
    return tuple(found)


class CompactionOracle:
    """`listen` has it hear of cleanings; it has to be told of cuts."""

    def __init__(
        self, report: Report, read: Callable[[str, int], bytes], context: Callable[[str], Context | None]
    ) -> None:
        """`read(path, size)` is the begin of a file of the broker whose code runs; `context(directory)` is what else
        must be known of the log there."""
        self._report = report
        self._read = read
        self._context = context
        self._dropped: dict[tuple[int, TopicIdPartition], dict[bytes | None, list[int]]] = {}
        self._expired: dict[tuple[int, TopicIdPartition], dict[bytes | None, int]] = {}

    def listen(self, hooks: Hooks) -> None:
        """To cleanings."""
        hooks.around(Cleaning, "clean", self._clean)

    def _clean(
        self,
        clean: Callable[..., CleanedBytes],
        cleaning: Cleaning,
        sources: Sequence[SourceFile],
        offsets: OffsetMap,
        producer_batches: Any,
    ) -> CleanedBytes:
        context = self._context(cleaning._directory)
        old = [batch for source in sources for batch in batches_of(self._read(source.path, source.size))]
        cleaned = clean(cleaning, sources, offsets, producer_batches)
        if cleaned.segment is not None and context is not None:
            new = batches_of(self._read(cleaned.segment.path, cleaned.segment.size))
            self.cleaned(context, old, new, now_ms=cleaning._now_ms, retention_ms=cleaning._config.delete_retention_ms)
        return cleaned

    def cleaned(
        self, context: Context, old: Sequence[CleanBatch], new: Sequence[CleanBatch], *, now_ms: int, retention_ms: int
    ) -> None:
        """A run of segments was `old` and is `new`."""
        broker_id, partition, later, committed_end = context
        where = f"broker {broker_id} cleaned {partition}"
        self._check_bounds(where, old, new)
        left = {record.offset: record for batch in new for record in batch.records}
        places: dict[bytes | None, list[int]] = {key: list(offsets) for key, offsets in later.items()}
        for batch in old:
            for record in batch.records:
                places.setdefault(record.key, []).append(record.offset)
        before = {batch.base_offset: batch.horizon_ms for batch in old}
        for batch in old:
            for record in batch.records:
                kept = left.pop(record.offset, None)
                if kept is not None and kept != record:
                    self._report(2, f"{where}, and {record} has become {kept}")
                elif kept is None:
                    self._check_dropped(context, record, batch, places.get(record.key, ()), committed_end, now_ms)
        if left:
            self._report(2, f"{where}, and has {next(iter(left.values()))}, which was not there")
        for batch in new:
            horizon_ms = batch.horizon_ms
            if horizon_ms is not None and before.get(batch.base_offset) is None and horizon_ms < now_ms + retention_ms:
                self._report(
                    3,
                    f"{where}, and tombstones from offset {batch.base_offset} on may go {horizon_ms - now_ms} ms later",
                )

    def _check_bounds(self, where: str, old: Sequence[CleanBatch], new: Sequence[CleanBatch]) -> None:
        known = {(batch.base_offset, batch.last_offset) for batch in old}
        for batch in new:
            if (batch.base_offset, batch.last_offset) not in known:
                self._report(
                    2,
                    f"{where}: there was no batch from {batch.base_offset} to {batch.last_offset} before",
                )

    def _check_dropped(
        self,
        context: Context,
        record: Kept,
        batch: CleanBatch,
        places: Collection[int],
        committed_end: int | None,
        now_ms: int,
    ) -> None:
        broker_id, partition, _, _ = context
        if record.key is None:
            return  # nothing can be compacted without a key: it goes
        successors = [offset for offset in places if offset > record.offset]
        where = f"broker {broker_id} cleaned {partition} and dropped {record}"
        if record.value is None and batch.horizon_ms is not None and batch.horizon_ms <= now_ms:
            expired = self._expired.setdefault((broker_id, partition), {})  # it may go, whatever comes after it
            expired[record.key] = max(record.offset, expired.get(record.key, -1))
            return
        if not successors:
            if record.value is not None:
                self._report(3, f"{where}, which was the newest of its key")
            else:
                self._report(3, f"{where}, a tombstone whose time is not over: {batch.horizon_ms}, and it is {now_ms}")
            return
        if committed_end is not None and min(successors) >= committed_end:
            self._report(
                3,
                f"{where} for the one at offset {min(successors)}; what is committed ends at {committed_end}",
            )
        self._dropped.setdefault((broker_id, partition), {}).setdefault(record.key, []).append(record.offset)

    # --- cuts ------------------------------------------------------------------------------------------------

    def was_cleaned(self, broker_id: int, partition: TopicIdPartition) -> bool:
        """True if records of this replica were dropped for others."""
        return bool(self._dropped.get((broker_id, partition)))

    def truncated(self, broker_id: int, partition: TopicIdPartition, end_offset: int, present: Offsets) -> None:
        """A log was cut and holds these records now."""
        expired = self._expired.get((broker_id, partition), {})
        for key, dropped in self._dropped.get((broker_id, partition), {}).items():
            below = [offset for offset in dropped if offset < end_offset]
            if not below:
                continue
            newest = max((*present.get(key, ()), expired[key] if expired.get(key, end_offset) < end_offset else -1))
            if newest < max(below):
                self._report(
                    3,
                    f"broker {broker_id} truncated {partition} to {end_offset}; the record of {key!r} at offset "
                    f"{max(below)} was dropped for the sake of what is cut off",
                )
                return

    def forget(self, broker_id: int, partition: TopicIdPartition) -> None:
        """The log was emptied or deleted."""
        self._dropped.pop((broker_id, partition), None)
        self._expired.pop((broker_id, partition), None)
