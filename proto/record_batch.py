"""Kafka's record batch, format v2: its header, the checks a broker makes, and the batches in a run of bytes.

A broker never decodes records: it reads and patches headers and passes the bytes on. Base offset and partition leader
epoch lie before the CRC, so a leader may set them without touching what the producer signed. The layout is Kafka's
(https://kafka.apache.org/documentation/#recordbatch):

    base offset 8, batch length 4, partition leader epoch 4, magic 1, CRC-32C 4 | attributes 2, last offset delta 4,
    base timestamp 8, max timestamp 8, producer id 8, producer epoch 2, base sequence 4, record count 4, records

The CRC covers everything from the attributes on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from .errors import CorruptRecordError, MessageSizeTooLargeError, UnsupportedForMessageFormatError

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_PREFIX: Final = struct.Struct(">qi")
_OFFSET_AND_LENGTH_AND_EPOCH: Final = struct.Struct(">qii")
_CRC: Final = struct.Struct(">I")
_ATTRIBUTES: Final = struct.Struct(">h")
_TIMESTAMP: Final = struct.Struct(">q")

HEADER_SIZE: Final = _HEADER.size  # 61
LENGTH_OVERHEAD: Final = 12
"""Bytes before those that the batch length counts."""
MAGIC_V2: Final = 2
_CRC_OFFSET: Final = 17
_CRC_START: Final = 21
_MAX_TIMESTAMP_OFFSET: Final = 35
_RECORD_SIZE_MIN: Final = 7
"""No encoded record is smaller: six one-byte varints and one byte of attributes."""

COMPRESSION_MASK: Final = 0x07
LOG_APPEND_TIME_FLAG: Final = 0x08
TRANSACTIONAL_FLAG: Final = 0x10
CONTROL_FLAG: Final = 0x20
DELETE_HORIZON_FLAG: Final = 0x40
"""The base timestamp is the time from which on compaction may drop the batch's tombstones."""
COMPRESSION_NAMES: Final = ("none", "gzip", "snappy", "lz4", "zstd")

Buffer = bytes | bytearray | memoryview


class RecordBatchHeader(NamedTuple):
    """The header's fields as they stand in the bytes (-1 for "none")."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole batch, header included."""
        return LENGTH_OVERHEAD + self.batch_length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record, wrapped as Kafka wraps it; -1 without a producer id."""
        return -1 if self.base_sequence < 0 else (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF

    @property
    def compression(self) -> int:
        """0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & COMPRESSION_MASK

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_FLAG)

    @property
    def newest_timestamp(self) -> int:
        """The largest timestamp of a record; -1 if none has one, or compaction has left no record."""
        return self.max_timestamp if self.record_count else -1

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_FLAG)


def parse_header(buffer: Buffer, position: int = 0) -> RecordBatchHeader:
    """The header of the batch that begins at `position`.

    Nothing is checked but that the bytes are there; :raises CorruptRecordError: if fewer than 61 are left.
    """
    if len(buffer) - position < HEADER_SIZE:
        raise CorruptRecordError(
            f"a record batch needs {HEADER_SIZE} bytes of header, {len(buffer) - position} are left"
        )
    return RecordBatchHeader._make(_HEADER.unpack_from(buffer, position))


def check_batch(buffer: Buffer, position: int = 0, *, size_bytes_max: int | None = None) -> RecordBatchHeader:
    """Checks one batch whole: length, magic, counts and CRC, from `position` on.

    :raises CorruptRecordError: the bytes end early, a length or a count cannot be true, or the CRC is wrong.
    :raises UnsupportedForMessageFormatError: the magic is that of formats v0 or v1.
    :raises MessageSizeTooLargeError: the batch is larger than `size_bytes_max`.
    """
    available = len(buffer) - position
    if available > 16:
        magic = buffer[position + 16]
        if magic in (0, 1):
            raise UnsupportedForMessageFormatError(f"record format v{magic}; only v2 (magic 2) is taken")
        if magic != MAGIC_V2:
            raise CorruptRecordError(f"record batch with magic {magic}; only 2 is known")
    header = parse_header(buffer, position)
    if header.batch_length < HEADER_SIZE - LENGTH_OVERHEAD:
        raise CorruptRecordError(f"record batch of impossible length {header.batch_length}")
    size_bytes = header.size_bytes
    if size_bytes_max is not None and size_bytes > size_bytes_max:
        raise MessageSizeTooLargeError(f"record batch of {size_bytes} bytes; max.message.bytes allows {size_bytes_max}")
    if size_bytes > available:
        raise CorruptRecordError(f"record batch of {size_bytes} bytes, of which {available} are there")
    if header.last_offset_delta < 0 or header.record_count < 0:
        raise CorruptRecordError("record batch with a negative count or offset delta")
    with memoryview(buffer) as view, view[position + _CRC_START : position + size_bytes] as signed:
        actual = crc32c(signed)
    if actual != header.crc:
        raise CorruptRecordError(f"record batch with CRC {header.crc:#010x}; its bytes give {actual:#010x}")
    return header


def check_produced_batch(buffer: Buffer, *, size_bytes_max: int) -> RecordBatchHeader:
    """As `check_batch`, and what a producer owes besides: exactly one batch, and a record count that can be true.

    :raises CorruptRecordError: also for bytes after the batch, no records, or a count that its other fields belie.
    """
    header = check_batch(buffer, size_bytes_max=size_bytes_max)
    if header.size_bytes != len(buffer):
        raise CorruptRecordError(f"{len(buffer) - header.size_bytes} bytes after the record batch; send one batch")
    if header.record_count < 1 or header.record_count != header.last_offset_delta + 1:
        raise CorruptRecordError(
            f"record batch says {header.record_count} records and last offset delta {header.last_offset_delta}"
        )
    if header.compression >= len(COMPRESSION_NAMES):
        raise CorruptRecordError(f"record batch with unknown compression {header.compression}")
    if header.compression == 0 and header.record_count * _RECORD_SIZE_MIN > header.size_bytes - HEADER_SIZE:
        raise CorruptRecordError(f"record batch says {header.record_count} records, more than its bytes can hold")
    return header


def batches(buffer: Buffer, position: int = 0) -> Iterator[tuple[int, RecordBatchHeader]]:
    """Each whole batch in `buffer` as (position, header); a part of one at the end is left out. Checks no CRC."""
    end = len(buffer)
    while end - position >= HEADER_SIZE:
        header = parse_header(buffer, position)
        if header.batch_length < HEADER_SIZE - LENGTH_OVERHEAD:
            raise CorruptRecordError(f"record batch of impossible length {header.batch_length}")
        if position + header.size_bytes > end:
            return
        yield position, header
        position += header.size_bytes


def set_offset_and_epoch(
    buffer: bytearray | memoryview, base_offset: int, leader_epoch: int, position: int = 0
) -> None:
    """Writes what the leader decides: base offset and partition leader epoch. The CRC does not cover them."""
    _OFFSET_AND_LENGTH_AND_EPOCH.pack_into(
        buffer, position, base_offset, _PREFIX.unpack_from(buffer, position)[1], leader_epoch
    )


def set_log_append_time(buffer: bytearray | memoryview, timestamp_ms: int, position: int = 0) -> None:
    """Stamps the batch with the broker's time (message.timestamp.type=LogAppendTime) and signs it anew."""
    header = parse_header(buffer, position)
    _ATTRIBUTES.pack_into(buffer, position + _CRC_START, header.attributes | LOG_APPEND_TIME_FLAG)
    _TIMESTAMP.pack_into(buffer, position + _MAX_TIMESTAMP_OFFSET, timestamp_ms)
    with memoryview(buffer) as view, view[position + _CRC_START : position + header.size_bytes] as signed:
        _CRC.pack_into(buffer, position + _CRC_OFFSET, crc32c(signed))
