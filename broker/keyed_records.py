"""What a compacted topic asks of its producers beyond the batch header: that every record has a key.

The one place where a broker looks into records before it takes them, as Kafka's LogValidator does for such topics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..proto.errors import InvalidRecordError
from ..proto.record_batch import DELETE_HORIZON_FLAG, RecordBatchHeader
from ..proto.record_compression import records_of
from ..proto.record_scan import scan_records

_SCANNED_MAX: Final = 64
"""So few records are looked through faster than the codec is loaded; the commits of consumer groups are such."""


def check_keys(batch: bytes, header: RecordBatchHeader) -> None:
    """Checks the records of a produced batch, whose header was checked before.

    :raises InvalidRecordError: a record has no key, offsets inside the batch do not count up, the batch claims to have
    been compacted, or it comes to more than a broker takes once it is uncompressed.
    :raises CorruptRecordError: the records are not what the header says.
    """
    if header.attributes & DELETE_HORIZON_FLAG:
        raise InvalidRecordError("clients may not write the delete horizon of a batch")
    records = records_of(batch, header)
    for expected, (delta, key) in enumerate(_keys(batch, header, records)):
        if delta != expected:
            raise InvalidRecordError(f"record {expected} of the batch has offset delta {delta}")
        if key is None:
            raise InvalidRecordError(
                f"compacted topic cannot accept message without key: record {expected} of the batch has none"
            )


def _keys(batch: bytes, header: RecordBatchHeader, records: bytes) -> Iterator[tuple[int, bytes | None]]:
    if header.record_count <= _SCANNED_MAX:
        for _, _, delta, key, _ in scan_records(records, header.record_count):
            yield delta, key
        return
    from ..proto.record_codec import keys_of  # not before it is needed: the codec is large

    for delta, key, _ in keys_of(batch, header, records):
        yield delta, key
