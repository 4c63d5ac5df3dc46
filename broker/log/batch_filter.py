"""What compaction leaves of one record batch. Pure.

Offsets, timestamps and the order of records never change. Of a batch that loses records stay the base offset, the last
offset delta, producer id, epoch and sequence, the leader epoch and the codec; records that stay are copied as they are,
and it is signed anew. Kafka's Cleaner and MemoryRecords.filterTo are followed, but that the last five batches of each
producer are kept, not one: so many are told from duplicates (rule 17).

A record stays while there is no later one with its key. A tombstone (a record without a value) stays besides until
delete.retention.ms have passed since the batch was first cleaned: this delete horizon is written into the batch, in
the place of the base timestamp, with a flag that says so. A batch without records stays as an empty one if a producer
is known by it. Control batches stay.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from ...proto.errors import CorruptRecordError
from ...proto.record_batch import (
    DELETE_HORIZON_FLAG,
    HEADER_SIZE,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME_FLAG,
    RecordBatchHeader,
)
from ...proto.record_codec import compress, keys_of
from ...proto.record_compression import records_of
from ...proto.record_scan import scan_records, timestamp_delta_at, with_base_timestamp_moved
from .offset_map import OffsetMap

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_CRC: Final = struct.Struct(">I")
_CRC_OFFSET: Final = 17
_CRC_START: Final = 21
_KEPT_FLAGS: Final = 0x38  # timestamp type, transactional, control
_INT64_MAX: Final = 2**63 - 1


class CleaningRules(NamedTuple):
    """What holds for one cleaning of one log."""

    offsets: OffsetMap  # records past its end stay
    now_ms: int
    delete_retention_ms: int
    producer_batches: frozenset[int]  # last offsets of the batches by which producers are known


class Cleaned(NamedTuple):
    """A batch after cleaning."""

    data: bytes  # b"": it is gone
    records_read: int
    records_kept: int
    records_invalid: int  # without a key, and therefore dropped


def filter_batch(batch: bytes, header: RecordBatchHeader, rules: CleaningRules) -> Cleaned:
    """What stays of a whole, checked batch.

    :raises CorruptRecordError, InvalidRecordError, UnsupportedCompressionTypeError: its records cannot be read.
    """
    count = header.record_count
    if header.is_control or header.base_offset >= rules.offsets.end_offset:
        return Cleaned(batch, count, count, 0)
    records = records_of(batch, header)
    kept, invalid, has_tombstones = _choose(batch, records, header, rules)
    kept_count = kept.count(1)
    # A tombstone that this cleaning did not look at yet will get its horizon from the one that does, and so does the
    # whole batch: it has one horizon, and the time of a tombstone may not begin while what it deletes is still there.
    new_horizon = None
    looked_at_whole = header.last_offset < rules.offsets.end_offset
    if has_tombstones and looked_at_whole and not header.attributes & DELETE_HORIZON_FLAG:
        new_horizon = rules.now_ms + rules.delete_retention_ms
    if kept_count:
        if kept_count == count and new_horizon is None:
            return Cleaned(batch, count, count, 0)
        data = _rewritten(header, records, kept, new_horizon)
    elif header.producer_id >= 0 and header.last_offset in rules.producer_batches:
        data = empty_batch(header)
    else:
        data = b""
    return Cleaned(data, count, kept_count, invalid)


def record_keys(batch: bytes, header: RecordBatchHeader) -> Iterator[tuple[int, bytes | None]]:
    """Offset delta and key of each record of a whole, checked batch. :raises KafkaError: as `filter_batch`."""
    for delta, key, _ in keys_of(batch, header, records_of(batch, header)):
        yield delta, key


def _choose(
    batch: bytes, records: bytes, header: RecordBatchHeader, rules: CleaningRules
) -> tuple[bytearray, int, bool]:
    """For each record 1 if it stays; how many had no key; whether a tombstone is among those that stay."""
    has_horizon = bool(header.attributes & DELETE_HORIZON_FLAG)
    tombstones_go = has_horizon and rules.now_ms >= header.base_timestamp
    latest, end_offset = rules.offsets.latest, rules.offsets.end_offset
    base_offset = header.base_offset
    kept = bytearray()
    invalid, has_tombstones = 0, False
    for delta, key, is_tombstone in keys_of(batch, header, records):
        offset = base_offset + delta
        if offset >= end_offset:
            kept.append(1)
        elif key is None:
            invalid += 1
            kept.append(0)
        elif latest(key) > offset or (is_tombstone and tombstones_go):
            kept.append(0)
        else:
            has_tombstones = has_tombstones or is_tombstone
            kept.append(1)
    return kept, invalid, has_tombstones


def _rewritten(header: RecordBatchHeader, records: bytes, kept: bytearray, new_horizon: int | None) -> bytes:
    parts: list[bytes] = []
    base_timestamp = header.base_timestamp
    moved_ms = 0 if new_horizon is None else new_horizon - base_timestamp
    newest, oldest = -1, base_timestamp
    for start, end in _places(records, kept):
        timestamp = base_timestamp + timestamp_delta_at(records, start)
        newest, oldest = max(newest, timestamp), min(oldest, timestamp)
        if moved_ms:
            parts.append(with_base_timestamp_moved(records, start, end, moved_ms))
        else:
            parts.append(records[start:end])
    if newest > _INT64_MAX or oldest < -_INT64_MAX or oldest - base_timestamp - moved_ms < -_INT64_MAX:
        raise CorruptRecordError(f"timestamps {oldest} to {newest} do not fit into a batch")
    if header.attributes & LOG_APPEND_TIME_FLAG:
        newest = header.max_timestamp  # it is every record's
    data = b"".join(parts)
    if header.compression:
        data = compress(data, header.compression)
    horizon_flag = 0 if new_horizon is None else DELETE_HORIZON_FLAG
    return _signed(
        header._replace(
            attributes=header.attributes | horizon_flag,
            base_timestamp=base_timestamp if new_horizon is None else new_horizon,
            max_timestamp=newest,
            record_count=kept.count(1),
        ),
        data,
    )


def _places(records: bytes, kept: bytearray) -> Iterator[tuple[int, int]]:
    for index, (start, end, _, _, _) in enumerate(scan_records(records, len(kept))):
        if kept[index]:
            yield start, end


def empty_batch(header: RecordBatchHeader) -> bytes:
    """The batch without its records: offsets and producer stay (Kafka's DefaultRecordBatch.writeEmptyHeader)."""
    return _signed(header._replace(attributes=header.attributes & _KEPT_FLAGS, base_timestamp=-1, record_count=0), b"")


def _signed(header: RecordBatchHeader, records: bytes) -> bytes:
    length = HEADER_SIZE - LENGTH_OVERHEAD + len(records)
    data = bytearray(_HEADER.pack(*header._replace(batch_length=length)))
    data += records
    _CRC.pack_into(data, _CRC_OFFSET, crc32c(memoryview(data)[_CRC_START:]))
    return bytes(data)
