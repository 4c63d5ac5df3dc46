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

NO_KEY: Final = "Compacted topic cannot accept message without key."
_ERRORS_MAX: Final = 10_000
STEP_RECORDS: Final = 1_000
_SCANNED_MAX: Final = 64
"""So few records are looked through faster than the codec is loaded; the commits of consumer groups are such."""


class InvalidRecordsError(InvalidRecordError):
    """Some records of a batch are at fault; the others could be sent again without them (KIP-467)."""

    def __init__(self, message: str, record_errors: tuple[tuple[int, str], ...]) -> None:
        """`record_errors` has the place in the batch and the reason of each, the first ten thousand of them."""
        super().__init__(message)
        self.record_errors = record_errors


def check_keys(batch: bytes, header: RecordBatchHeader, records: bytes | None = None) -> None:
    """Checks the records of a produced batch, whose header was checked before; `records` are they, uncompressed.

    :raises InvalidRecordsError: records have no key.
    :raises InvalidRecordError: offsets inside the batch do not count up, the batch claims to have
    been compacted, or it comes to more than a broker takes once it is uncompressed.
    :raises CorruptRecordError: the records are not what the header says.
    """
    for _ in key_checks(batch, header, records_of(batch, header) if records is None else records):
        pass


def key_checks(batch: bytes, header: RecordBatchHeader, records: bytes) -> Iterator[None]:
    """As `check_keys`, in steps of a millisecond or two: the batch is good once there is no further step.

    :raises KafkaError: as `check_keys`, at the step that finds it.
    """
    if header.attributes & DELETE_HORIZON_FLAG:
        raise InvalidRecordError("clients may not write the delete horizon of a batch")
    without_key: list[int] = []
    for expected, (delta, key) in enumerate(_keys(batch, header, records)):
        if delta != expected:
            raise InvalidRecordError(f"record {expected} of the batch has offset delta {delta}")
        if key is None and len(without_key) < _ERRORS_MAX:
            without_key.append(expected)
        if expected % STEP_RECORDS == STEP_RECORDS - 1:
            yield
    if without_key:
        raise InvalidRecordsError(
            f"compacted topic cannot accept message without key: {len(without_key)} of the batch's "
            f"{header.record_count} records have none, the first is record {without_key[0]}",
            tuple((record, NO_KEY) for record in without_key),
        )


def _keys(batch: bytes, header: RecordBatchHeader, records: bytes) -> Iterator[tuple[int, bytes | None]]:
    if header.record_count <= _SCANNED_MAX:
        for _, _, delta, key, _ in scan_records(records, header.record_count):
            yield delta, key
        return
    from ..proto.record_codec import keys_of  # not before it is needed: the codec is large

    for delta, key, _ in keys_of(batch, header, records):
        yield delta, key
