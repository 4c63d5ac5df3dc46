"""Builds and reads record batches: the one file that knows aiokafka's compiled codec and the compressors.

The codec writes and reads records at some millions per second, where pure Python does a tenth of that. What it leaves
to us: compression (its gzip and lz4 levels are the slowest there are) and the producer's id, epoch and sequence, which
are known only when a batch is sent and may change before it is sent again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, Protocol

import cramjam
from aiokafka.codec import snappy_encode
from aiokafka.errors import KafkaError as CodecError
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from crc32c import crc32c

from .errors import CorruptRecordError, UnsupportedCompressionTypeError
from .record_batch import (
    COMPRESSION_MASK,
    COMPRESSION_NAMES,
    HEADER_SIZE,
    LENGTH_OVERHEAD,
    Buffer,
    RecordBatchHeader,
)
from .record_scan import scan_records

_LENGTH: Final = struct.Struct(">i")
_CRC: Final = struct.Struct(">I")
_ATTRIBUTES: Final = struct.Struct(">h")
_PRODUCER: Final = struct.Struct(">qhi")
_LENGTH_OFFSET: Final = 8
_CRC_OFFSET: Final = 17
_CRC_START: Final = 21
_PRODUCER_OFFSET: Final = 43

RECORD_OVERHEAD_MAX: Final = 21
"""Most bytes that a record takes besides key, value and headers and their lengths."""
NO_HEADERS: Final[list[tuple[str, bytes | None]]] = []


class DecodedRecord(Protocol):
    """What the codec yields for each record."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def _gzip(data: bytes) -> bytes:
    return zlib.compress(data, 6, wbits=31)


def _snappy(data: bytes) -> bytes:
    return bytes(snappy_encode(data))  # in xerial's framing, which the Java client asks for


def _lz4(data: bytes) -> bytes:
    import lz4.frame

    # KIP-57: blocks must not be linked.
    compressed: bytes = lz4.frame.compress(data, block_linked=False, store_size=False)
    return compressed


def _zstd(data: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(data, level=3))


_COMPRESSORS: Final[Mapping[int, Callable[[bytes], bytes]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}


def compression_number(name: str | None) -> int:
    """The codec's number in the batch header.

    :raises UnsupportedCompressionTypeError: for a name that Kafka does not have.
    """
    try:
        return COMPRESSION_NAMES.index(name or "none")
    except ValueError:
        known = ", ".join(COMPRESSION_NAMES)
        raise UnsupportedCompressionTypeError(f"compression {name!r}; known are {known}") from None


def new_builder(size_bytes_max: int) -> Any:
    """The codec's own builder: `append(offset, timestamp, key, value, headers)` gives None once the batch is full.

    The first record is taken whatever its size. Used bare by the accumulator: a layer around it would cost as much
    as the work itself.
    """
    return DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, size_bytes_max)


def build_batch(builder: Any, compression: int) -> bytearray:
    """The finished batch without a producer id, compressed if that makes it smaller."""
    data: bytearray = builder.build()
    if compression:
        with memoryview(data) as view:
            compressed = _COMPRESSORS[compression](bytes(view[HEADER_SIZE:]))
        if len(compressed) < len(data) - HEADER_SIZE:
            data = data[:HEADER_SIZE] + compressed
            _LENGTH.pack_into(data, _LENGTH_OFFSET, len(data) - LENGTH_OVERHEAD)
            _ATTRIBUTES.pack_into(data, _CRC_START, compression)
            _sign(data)
    return data


def compress(data: bytes, compression: int) -> bytes:
    """Records as the codec of that number writes them."""
    return _COMPRESSORS[compression](data)


def set_producer(data: bytearray, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
    """Writes what makes the batch idempotent, and signs it anew."""
    _PRODUCER.pack_into(data, _PRODUCER_OFFSET, producer_id, producer_epoch, base_sequence)
    _sign(data)


def _sign(data: bytearray) -> None:
    with memoryview(data) as view, view[_CRC_START:] as signed:
        _CRC.pack_into(data, _CRC_OFFSET, crc32c(signed))


def crc_is_right(buffer: Buffer, position: int, header: RecordBatchHeader) -> bool:
    """True if the bytes of the batch at `position` are those that its CRC was made from."""
    with memoryview(buffer) as view, view[position + _CRC_START : position + header.size_bytes] as signed:
        return bool(crc32c(signed) == header.crc)


def read_batch(data: bytes) -> Iterator[DecodedRecord]:
    """The records of one whole batch, decompressed here and decoded as they are taken.

    :raises CorruptRecordError: here or while iterating, where the bytes are not what the header says.
    """
    if len(data) < HEADER_SIZE:
        raise CorruptRecordError(f"a record batch needs {HEADER_SIZE} bytes of header, {len(data)} are left")
    try:
        # Iterating over the codec's batch may begin only once; over a chain it may be taken up again.
        batch: Iterator[DecodedRecord] = chain(iter(DefaultRecordBatch(data)))
    except _DECODE_ERRORS as error:
        raise CorruptRecordError(f"record batch cannot be decompressed: {error}") from error
    return batch


def keys_of(batch: bytes, header: RecordBatchHeader, records: bytes) -> Iterator[tuple[int, bytes | None, bool]]:
    """For each record of a whole batch: offset delta, key, and whether it is a tombstone. `records` are its records
    uncompressed, so that this uncompresses nothing.

    :raises CorruptRecordError: here or while iterating, where the bytes are not what the header says.
    """
    if not header.record_count:
        if records:
            raise CorruptRecordError(f"{len(records)} bytes of records in a batch that says it has none")
        return
    data = batch
    if header.compression:
        plain = _ATTRIBUTES.pack(header.attributes & ~COMPRESSION_MASK)
        data = batch[:_CRC_START] + plain + batch[_CRC_START + 2 : HEADER_SIZE] + records
    done = 0
    try:
        for record in DefaultRecordBatch(data):
            yield record.offset - header.base_offset, record.key, record.value is None
            done += 1
    except UnicodeDecodeError:
        # A header's key is not text: nobody reads it here, and other clients than ours may write such.
        for index, (_, _, delta, key, is_tombstone) in enumerate(scan_records(records, header.record_count)):
            if index >= done:
                yield delta, key, is_tombstone
    except _DECODE_ERRORS as error:
        raise CorruptRecordError(f"the records of the batch cannot be read: {error}") from error


_DECODE_ERRORS: Final = (
    CorruptRecordError,
    CodecError,
    ValueError,
    IndexError,
    EOFError,
    RuntimeError,
    OSError,
    zlib.error,
    struct.error,
    cramjam.DecompressionError,
)


def decode_errors() -> tuple[type[Exception], ...]:
    """What iterating over `read_batch` may raise besides; foreign to our users, to be made a CorruptRecordError."""
    return _DECODE_ERRORS
