"""The first record of a batch at or after a time: the one place where a broker looks into records.

Clients ask for offsets by timestamp seldom, and for one batch each time; everything else goes by headers.
"""

from __future__ import annotations

from ...proto.errors import CorruptRecordError, UnsupportedCompressionTypeError
from ...proto.record_batch import DELETE_HORIZON_FLAG, LOG_APPEND_TIME_FLAG, parse_header


def first_record_at(batch: bytes, timestamp_ms: int, offset_min: int) -> tuple[int, int] | None:
    """(timestamp, offset) of the first record from `offset_min` on that is at least as new; None if there is none.

    :raises CorruptRecordError: the records cannot be read, though the batch passed its CRC.
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
    # Imported on first use: most brokers never need it, and it costs memory.
    from aiokafka.errors import KafkaError as CodecError
    from aiokafka.record.default_records import DefaultRecordBatch

    try:
        for record in DefaultRecordBatch(batch):
            if record.timestamp >= timestamp_ms and record.offset >= offset_min:
                return record.timestamp, record.offset
    except CodecError as error:
        raise UnsupportedCompressionTypeError(str(error)) from error
    except (ValueError, IndexError) as error:
        raise CorruptRecordError(f"records of the batch at {header.base_offset} cannot be read: {error}") from error
    return None
