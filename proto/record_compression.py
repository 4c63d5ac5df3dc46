"""Decompresses the records of a batch without ever taking more memory than was allowed.

Brokers do so for compacted topics alone, with bytes from anybody: a megabyte of the right bytes would unfold to
gigabytes. The compressors are imported on first use: a broker that never needs them is the smaller by their size.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from .errors import CorruptRecordError, InvalidRecordError, UnsupportedCompressionTypeError
from .record_batch import HEADER_SIZE, RecordBatchHeader

DECOMPRESSED_BYTES_MAX: Final = 64 * 1024 * 1024
"""What the records of one batch may come to; clients make batches of some megabytes before they compress them."""

_GZIP_MEMBERS_MAX: Final = 64
"""Clients write one. Each costs a copy of what follows it, so a megabyte of empty ones would take seconds."""
_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_SIZE: Final = 16
_BLOCK_SIZE: Final = struct.Struct(">i")
_FIRST_GUESS_MIN: Final = 64 * 1024


def records_of(batch: bytes, header: RecordBatchHeader, size_bytes_max: int = DECOMPRESSED_BYTES_MAX) -> bytes:
    """The uncompressed records of a whole batch.

    :raises InvalidRecordError: they would come to more than `size_bytes_max`.
    :raises CorruptRecordError: they cannot be decompressed.
    :raises UnsupportedCompressionTypeError: with a codec that nobody knows.
    """
    data = batch[HEADER_SIZE : header.size_bytes]
    if not header.compression or not header.record_count:
        return data
    return decompress(data, header.compression, size_bytes_max)


def decompress(data: bytes, compression: int, size_bytes_max: int) -> bytes:
    """As `records_of`, for the bytes behind the header."""
    if compression == 1:
        return _gunzip(data, size_bytes_max)
    if compression == 2:
        return _unsnappy(data, size_bytes_max)
    if compression == 3:
        return _unlz4(data, size_bytes_max)
    if compression == 4:
        return _unzstd(data, size_bytes_max)
    raise UnsupportedCompressionTypeError(f"compression {compression} is unknown")


def _too_much(size_bytes_max: int) -> InvalidRecordError:
    return InvalidRecordError(f"the records of the batch come to more than {size_bytes_max} bytes uncompressed")


def _gunzip(data: bytes, size_bytes_max: int) -> bytes:
    parts: list[bytes] = []
    left = size_bytes_max
    while data:  # a stream may have several members
        if len(parts) >= _GZIP_MEMBERS_MAX:
            raise CorruptRecordError(f"the records are more than {_GZIP_MEMBERS_MAX} gzip members")
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(data, left + 1)
        except zlib.error as error:
            raise CorruptRecordError(f"the records are not gzip: {error}") from error
        left -= len(part)
        if left < 0:
            raise _too_much(size_bytes_max)
        if not member.eof:
            raise CorruptRecordError("the gzip stream of the records ends early")
        parts.append(part)
        data = member.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unsnappy(data: bytes, size_bytes_max: int) -> bytes:
    from cramjam import DecompressionError, snappy

    blocks = [data]
    if data.startswith(_XERIAL_MAGIC):  # the Java client's framing
        blocks, position = [], _XERIAL_HEADER_SIZE
        while position < len(data):
            if len(data) - position < _BLOCK_SIZE.size:
                raise CorruptRecordError("the snappy blocks of the records end early")
            (size,) = _BLOCK_SIZE.unpack_from(data, position)
            position += _BLOCK_SIZE.size
            if not 0 <= size <= len(data) - position:
                raise CorruptRecordError(f"a snappy block of the records has the impossible length {size}")
            blocks.append(data[position : position + size])
            position += size
    try:
        if sum(snappy.decompress_raw_len(block) for block in blocks) > size_bytes_max:
            raise _too_much(size_bytes_max)
        return b"".join(bytes(snappy.decompress_raw(block)) for block in blocks)
    except (DecompressionError, ValueError) as error:
        raise CorruptRecordError(f"the records are not snappy: {error}") from error


def _unlz4(data: bytes, size_bytes_max: int) -> bytes:
    from lz4.frame import LZ4FrameDecompressor

    frame = LZ4FrameDecompressor()
    try:
        records = bytes(frame.decompress(data, max_length=size_bytes_max + 1))
    except (RuntimeError, ValueError) as error:
        raise CorruptRecordError(f"the records are not lz4: {error}") from error
    if len(records) > size_bytes_max:
        raise _too_much(size_bytes_max)
    if not frame.eof:
        raise CorruptRecordError("the lz4 frame of the records ends early")
    return records


def _unzstd(data: bytes, size_bytes_max: int) -> bytes:
    from cramjam import DecompressionError, zstd

    # The library has no bound of its own, but it writes into a buffer of ours and says when that is too small.
    size = min(max(len(data) * 8, _FIRST_GUESS_MIN), size_bytes_max)
    while True:
        buffer = bytearray(size)
        try:
            written = zstd.decompress_into(data, buffer)
        except (DecompressionError, ValueError) as error:
            if "whole buffer" not in str(error):
                raise CorruptRecordError(f"the records are not zstd: {error}") from error
        else:
            return bytes(memoryview(buffer)[:written])
        if size >= size_bytes_max:
            raise _too_much(size_bytes_max)
        size = min(size * 4, size_bytes_max)
