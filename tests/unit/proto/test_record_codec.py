from __future__ import annotations

from typing import Any

import pytest
from klamm.proto import record_codec
from klamm.proto.errors import CorruptRecordError, UnsupportedCompressionTypeError
from klamm.proto.record_batch import check_produced_batch

RECORDS: list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
    (1_700_000_000_000, b"key", b"value" * 100, [("trace", b"1"), ("empty", None)]),
    (1_700_000_000_500, None, b"", []),
    (1_699_999_999_000, b"", None, [("ü", b"\xff")]),
]


def build(compression: str | None, records: Any = RECORDS) -> bytearray:
    builder = record_codec.new_builder(1 << 20)
    for number, (timestamp, key, value, headers) in enumerate(records):
        assert builder.append(number, timestamp, key, value, headers) is not None
    return record_codec.build_batch(builder, record_codec.compression_number(compression))


@pytest.mark.parametrize("compression", [None, "none", "gzip", "snappy", "lz4", "zstd"])
def test_what_is_built_is_read_back(compression: str | None) -> None:
    data = build(compression)
    header = check_produced_batch(data, size_bytes_max=1 << 20)
    assert header.compression == record_codec.compression_number(compression)
    read = [(r.timestamp, r.key, r.value, r.headers) for r in record_codec.read_batch(bytes(data))]
    assert read == RECORDS
    assert (header.record_count, header.max_timestamp) == (3, 1_700_000_000_500)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compression_that_does_not_pay_is_left_out(compression: str) -> None:
    assert check_produced_batch(build(compression, [(1, None, b"x", [])]), size_bytes_max=1000).compression == 0


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_producer_fields_may_change_after_the_build(compression: str | None) -> None:
    data = build(compression)
    for sequence in (5, 0):
        record_codec.set_producer(data, 42, 3, sequence)
        header = check_produced_batch(data, size_bytes_max=1 << 20)
        assert (header.producer_id, header.producer_epoch, header.base_sequence) == (42, 3, sequence)


def test_unknown_compression_is_an_error_that_names_those_known() -> None:
    with pytest.raises(UnsupportedCompressionTypeError, match=r"'brotli'.*gzip, snappy, lz4, zstd"):
        record_codec.compression_number("brotli")


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd", None])
def test_damaged_bytes_raise_our_error_or_those_named_and_nothing_else(compression: str | None) -> None:
    data = build(compression)
    for position in range(61, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        try:
            list(record_codec.read_batch(bytes(damaged)))
        except record_codec.decode_errors():
            pass


def test_a_half_read_batch_may_be_taken_up_again() -> None:
    records = record_codec.read_batch(bytes(build(None)))
    first = [record.offset for record, _ in zip(records, range(1), strict=False)]
    assert first == [0]
    assert len(list(records)) in (1, 2)


def test_text_that_is_no_batch() -> None:
    with pytest.raises((CorruptRecordError, *record_codec.decode_errors())):
        list(record_codec.read_batch(b"nonsense"))
