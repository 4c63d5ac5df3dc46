"""What `compression.type` of a topic asks of its leader: batches of another codec are written anew in the topic's own.

Where it is "producer", as by default, a leader passes a producer's bytes on untouched. Only the records' bytes are
compressed anew; none is decoded, and offsets, timestamps and sequences stay.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from crc32c import crc32c

from ..proto.record_batch import COMPRESSION_MASK, COMPRESSION_NAMES, HEADER_SIZE, LENGTH_OVERHEAD, RecordBatchHeader
from ..proto.record_compression import records_of

PRODUCER: Final = "producer"
_NUMBERS: Final[Mapping[str, int]] = {
    "uncompressed": 0,
    **{name: number for number, name in enumerate(COMPRESSION_NAMES) if number},
}
_LENGTH: Final = struct.Struct(">i")
_LENGTH_OFFSET: Final = 8
_CRC_AND_ATTRIBUTES: Final = struct.Struct(">Ih")
_CRC_OFFSET: Final = 17
_CRC_START: Final = 21


def needs_recompression(header: RecordBatchHeader, compression_type: str) -> bool:
    """True if the batch's codec is not the topic's."""
    return (
        compression_type != PRODUCER and bool(header.record_count) and header.compression != _NUMBERS[compression_type]
    )


def recompress(
    batch: bytes, header: RecordBatchHeader, compression_type: str, records: bytes | None = None
) -> bytearray:
    """The same batch in the codec of the topic; `records` are its own, uncompressed.

    :raises InvalidRecordError: its records come to more than a broker takes once they are uncompressed.
    :raises CorruptRecordError: they cannot be decompressed.
    """
    number = _NUMBERS[compression_type]
    if records is None:
        records = records_of(batch, header)
    if number:
        from ..proto.record_codec import compress  # not before it is needed: the codec is large

        records = compress(records, number)
    written = bytearray(batch[:HEADER_SIZE])
    written += records
    attributes = (header.attributes & ~COMPRESSION_MASK) | number
    _LENGTH.pack_into(written, _LENGTH_OFFSET, len(written) - LENGTH_OVERHEAD)
    _CRC_AND_ATTRIBUTES.pack_into(written, _CRC_OFFSET, 0, attributes)
    with memoryview(written) as view, view[_CRC_START:] as signed:
        crc = crc32c(signed)
    _CRC_AND_ATTRIBUTES.pack_into(written, _CRC_OFFSET, crc, attributes)
    return written
