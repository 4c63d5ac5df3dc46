"""What a consumer reads of a log: batches that hold records.

Compaction leaves batches without any, by which producers are known or which show where a segment ends. A consumer has
no use for them, and some stumble: kafka-go, given nothing else, asks for the same offset for ever, and breaks on two of
them in a row. Apache Kafka passes its own on, but has fewer: its segments need not show where they end. Followers take
everything, by `PartitionLog.read`.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from ...proto.identifiers import Offset
from ...proto.record_batch import HEADER_SIZE, LENGTH_OVERHEAD, Buffer, batches
from .partition_log import PartitionLog

SKIPPED_READS_MAX: Final = 100
"""So many reads in a row that bring nothing are made for one consumer before the others have their turn."""
_EMPTY_LENGTH: Final = (HEADER_SIZE - LENGTH_OVERHEAD).to_bytes(4, "big")


def read_for_consumer(
    log: PartitionLog, offset: Offset, *, max_bytes: int, end_offset: Offset, min_one_batch: bool = True
) -> Buffer:
    """As `PartitionLog.view`, without batches that hold no record, unless there is nothing else up to `end_offset`:
    then they tell the consumer that it may go on behind them.

    :raises KafkaError: as `PartitionLog.view`.
    """
    read = partial(log.view, max_bytes=max_bytes, end_offset=end_offset, min_one_batch=min_one_batch)
    data = read(offset)
    if not log.offset_gaps.allowed:
        return data  # only compaction makes such batches
    for _ in range(SKIPPED_READS_MAX):
        data = bytes(data)
        if _EMPTY_LENGTH not in data:
            break
        kept, next_offset = _with_records(data)
        more = b"" if kept or next_offset >= end_offset else read(next_offset)
        if not more:
            return kept or data
        data = more
    return data


def _with_records(data: bytes) -> tuple[bytes, Offset]:
    """The batches that hold records, and the offset behind the last batch."""
    kept: list[bytes] = []
    start = next_offset = 0
    for position, header in batches(data):
        next_offset = header.next_offset
        if not header.record_count:
            kept.append(data[start:position])
            start = position + header.size_bytes
    kept.append(data[start:])
    return b"".join(kept) if start else data, Offset(next_offset)
