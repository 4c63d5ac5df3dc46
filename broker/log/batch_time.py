"""The first record of a batch at or after a time: one of the few places where a broker looks into records.

Clients ask for offsets by timestamp seldom, and for one batch each time; almost everything else goes by headers.
"""

from __future__ import annotations

from ...proto.record_batch import DELETE_HORIZON_FLAG, LOG_APPEND_TIME_FLAG, parse_header
from ...proto.record_compression import records_of
from ...proto.record_scan import scan_records, timestamp_delta_at


def first_record_at(batch: bytes, timestamp_ms: int, offset_min: int) -> tuple[int, int] | None:
    """(timestamp, offset) of the first record from `offset_min` on that is at least as new; None if there is none.

    :raises CorruptRecordError, UnsupportedCompressionTypeError: the records cannot be read, though the batch passed its
    CRC.
    :raises InvalidRecordError: they would take too much memory.
    """
    header = parse_header(batch)
    if header.newest_timestamp < timestamp_ms:
        return None
    # What compaction has left of a batch need not begin with its first record, nor at its base timestamp.
    whole = header.record_count == header.last_offset_delta + 1 and not header.attributes & DELETE_HORIZON_FLAG
    if whole and header.attributes & LOG_APPEND_TIME_FLAG:
        return header.max_timestamp, max(header.base_offset, offset_min)
    if whole and header.base_timestamp >= timestamp_ms and header.base_offset >= offset_min:
        return header.base_timestamp, header.base_offset  # the base timestamp is the first record's
    records = records_of(batch, header)
    is_append_time = bool(header.attributes & LOG_APPEND_TIME_FLAG)
    for start, _, delta, _, _ in scan_records(records, header.record_count):
        offset = header.base_offset + delta
        if offset < offset_min:
            continue
        timestamp = (
            header.max_timestamp if is_append_time else header.base_timestamp + timestamp_delta_at(records, start)
        )
        if timestamp >= timestamp_ms:
            return timestamp, offset
    return None
