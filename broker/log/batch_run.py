"""Runs of record batches as they lie in a segment: walking, checking and trimming them. Pure.

Where a log was never compacted its offsets have no gaps, so each batch must begin where the one before it ended. That,
the CRC and the epoch cache together cover every bit of a batch: the CRC all from the attributes on and itself, the
length by way of the CRC, the base offset by continuity, the epoch by the cache. Where it was compacted a batch may
also begin later, but never earlier.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from crc32c import crc32c

from ...proto.record_batch import HEADER_SIZE, LENGTH_OVERHEAD, MAGIC_V2
from .epoch_cache import EpochCache

# base offset, batch length, leader epoch, magic, CRC, attributes, last offset delta: what a read has to look at
_READ_FIELDS: Final = struct.Struct(">qiibIhi")
_CRC_START: Final = 21
_BATCH_LENGTH_MIN: Final = HEADER_SIZE - LENGTH_OVERHEAD


class Trimmed(NamedTuple):
    """The part of a run that may be served."""

    start: int  # position of the first batch that holds the wanted offset
    end: int  # position past the last whole batch
    next_offset: int  # offset that follows it
    bytes_missing: int  # if the run ended inside a batch: how many more bytes show it, or its header, whole
    flaw: str  # why the walk stopped at `end`, "" if nothing is wrong


def trim_run(
    data: bytes,
    *,
    wanted_offset: int,
    expected_offset: int,
    end_offset: int,
    size_left: int,
    epochs: EpochCache | None,
    gaps: bool = False,
) -> Trimmed:
    """Walks the batches in `data` and finds those from `wanted_offset` up to `end_offset`, each checked whole.

    `expected_offset` is where the first batch must begin or, with `gaps`, may not begin before; `size_left` are the
    bytes from the start of `data` to the end of the segment: a batch that claims more cannot be.
    """
    position = start = 0
    length = len(data)
    expected = expected_offset
    next_offset = wanted_offset
    epoch: int | None = None
    epoch_end: int | None = -1
    view = memoryview(data)
    while length - position >= HEADER_SIZE:
        base, batch_length, batch_epoch, magic, crc, _, delta = _READ_FIELDS.unpack_from(data, position)
        batch_end = position + LENGTH_OVERHEAD + batch_length
        if magic != MAGIC_V2 or batch_length < _BATCH_LENGTH_MIN or batch_end > size_left or delta < 0:
            return Trimmed(start, position, next_offset, 0, "it is not a record batch")
        if base >= end_offset and (base == expected or gaps):
            break
        if batch_end > length:
            return Trimmed(start, position, next_offset, batch_end - length, "")
        if crc32c(view[position + _CRC_START : batch_end]) != crc:
            return Trimmed(start, position, next_offset, 0, "its CRC is wrong")
        if base != expected and not (gaps and base > expected):
            return Trimmed(start, position, next_offset, 0, f"its base offset is {base}, not {expected}")
        if epochs is not None:
            if epoch_end is not None and base >= epoch_end:
                epoch, epoch_end = epochs.span_at(base)
            if epoch is not None and batch_epoch != epoch:
                return Trimmed(start, position, next_offset, 0, f"its leader epoch is {batch_epoch}, not {epoch}")
        expected = base + delta + 1
        if expected > end_offset:
            break
        if expected <= wanted_offset:
            start = batch_end
        else:
            next_offset = expected
        position = batch_end
    else:
        if size_left - position >= HEADER_SIZE:
            return Trimmed(start, position, next_offset, HEADER_SIZE - (length - position), "")
        if size_left > position:
            return Trimmed(start, position, next_offset, 0, "it ends inside its header")
    return Trimmed(start, position, next_offset, 0, "")
