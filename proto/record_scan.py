"""Walks the records inside a batch, byte by byte: where each one lies is what the compiled codec does not tell. Pure.

Compaction copies the records that stay as they are, and looks at nothing but their keys. A record is (varints are
zigzag, as in protobuf):

    length varint | attributes 1, timestamp delta varlong, offset delta varint, key length varint, key,
    value length varint, value, header count varint, headers

The length counts all that follows it; -1 as a key's or value's length stands for null.
"""

from __future__ import annotations

from collections.abc import Iterator

from .errors import CorruptRecordError
from .record_batch import Buffer

ScannedRecord = tuple[int, int, int, bytes | None, bool]
"""Where it starts and ends in the records' bytes, its offset delta, its key, and whether it is a tombstone (no value).
A plain tuple: there are millions of them."""


def scan_records(data: bytes, count: int) -> Iterator[ScannedRecord]:
    """The `count` records in `data`, the uncompressed records of one batch.

    :raises CorruptRecordError: there are fewer or more, or one of them does not fit its length.
    """
    position, size = 0, len(data)
    try:
        for _ in range(count):
            start = position
            # Most numbers here are of one byte; a call for each would take most of the time.
            length = data[position]
            if length < 0x80:
                length, position = (length >> 1) ^ -(length & 1), position + 1
            else:
                length, position = read_varint(data, position)
            end = position + length
            position += 1
            while data[position] & 0x80:  # the timestamp delta
                position += 1
            position += 1
            delta = data[position]
            if delta < 0x80:
                delta, position = (delta >> 1) ^ -(delta & 1), position + 1
            else:
                delta, position = read_varint(data, position)
            length = data[position]
            if length < 0x80:
                length, position = (length >> 1) ^ -(length & 1), position + 1
            else:
                length, position = read_varint(data, position)
            key = None
            if length >= 0:
                key = data[position : position + length]
                position += length
            length = data[position]
            if length < 0x80:
                length, position = (length >> 1) ^ -(length & 1), position + 1
            else:
                length, position = read_varint(data, position)
            # A count of headers follows the value.
            if not (position if length < 0 else position + length) < end <= size:
                raise CorruptRecordError(f"the record with offset delta {delta} does not fit its length")
            yield start, end, delta, key, length < 0
            position = end
    except IndexError as error:
        raise CorruptRecordError(f"the records end before there were {count}") from error
    if position != size:
        raise CorruptRecordError(f"{size - position} bytes follow the {count} records that the header says")


def read_varint(data: Buffer, position: int) -> tuple[int, int]:
    """A zigzag varint at `position`, and the position after it.

    :raises CorruptRecordError: it is longer than that of any 64-bit number. :raises IndexError: the bytes end in it.
    """
    byte = data[position]
    position += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > 63:
            raise CorruptRecordError("a varint of more than ten bytes")


def write_varint(value: int) -> bytes:
    """The number as a zigzag varint, of up to 64 bits."""
    rest = (value << 1) ^ (value >> 63)
    data = bytearray()
    while rest >= 0x80:
        data.append(rest & 0x7F | 0x80)
        rest >>= 7
    data.append(rest)
    return bytes(data)


def with_base_timestamp_moved(data: bytes, start: int, end: int, by_ms: int) -> bytes:
    """The bytes of the record from `start` to `end` for a batch whose base timestamp is `by_ms` later."""
    _, body = read_varint(data, start)
    timestamp_delta, after = read_varint(data, body + 1)
    changed = data[body : body + 1] + write_varint(timestamp_delta - by_ms) + data[after:end]
    return write_varint(len(changed)) + changed


def timestamp_delta_at(data: bytes, start: int) -> int:
    """The timestamp delta of the record that begins at `start`."""
    return read_varint(data, read_varint(data, start)[1] + 1)[0]
