"""What a follower checks of the batches that its leader sent, before the first byte of them is written. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ...proto.errors import CorruptRecordError
from ...proto.record_batch import RecordBatchHeader, check_batch


class LogEnd(NamedTuple):
    """Where the log stands that the batches are to continue."""

    offset: int
    epoch: int  # of the last batch; 0 if there is none
    is_empty: bool


def checked_headers(records: bytes | memoryview, end: LogEnd, *, gaps: bool) -> tuple[list[RecordBatchHeader], bool]:
    """The headers of the batches, and whether there is a gap before any of them.

    Each batch begins where the one before it ended, or, with `gaps` (the leader's log was compacted), later, but never
    earlier. Only in an empty log, which begins where the leader's does, the first batch may reach over that beginning.

    :raises CorruptRecordError: a batch fails its checks, or the batches do not continue the log.
    """
    headers: list[RecordBatchHeader] = []
    position, expected, epoch, has_gap = 0, end.offset, end.epoch, False
    while position < len(records):
        header = check_batch(records, position)
        base_offset = header.base_offset
        if base_offset != expected:
            reaches_over = not headers and end.is_empty and base_offset < expected <= header.last_offset
            if base_offset > expected and gaps:
                has_gap = True
            elif not reaches_over:
                raise CorruptRecordError(f"batch at offset {base_offset} does not follow {expected}")
        if header.partition_leader_epoch < epoch:
            raise CorruptRecordError(
                f"batch of epoch {header.partition_leader_epoch} at offset {base_offset} after epoch {epoch}"
            )
        headers.append(header)
        epoch = header.partition_leader_epoch
        expected = header.next_offset
        position += header.size_bytes
    return headers, has_gap
