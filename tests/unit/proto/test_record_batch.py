"""The batch header is Kafka's, and bytes that lie about themselves are refused with the right error."""

from __future__ import annotations

import struct

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from klamm.proto.errors import (
    CorruptRecordError,
    KafkaError,
    MessageSizeTooLargeError,
    UnsupportedForMessageFormatError,
)
from klamm.proto.record_batch import (
    HEADER_SIZE,
    batches,
    check_batch,
    check_produced_batch,
    parse_header,
    set_log_append_time,
    set_offset_and_epoch,
)

SIZE_MAX = 1 << 20


def build(count: int = 3, *, compression: int = 0, producer_id: int = -1, sequence: int = -1) -> bytes:
    producer_epoch = 0 if producer_id >= 0 else -1
    builder = DefaultRecordBatchBuilder(2, compression, 0, producer_id, producer_epoch, sequence, 1 << 20)
    for offset in range(count):
        builder.append(offset, 1000 + offset, b"key", b"value" * 10, [])
    return bytes(builder.build())


def resign(batch: bytearray) -> bytes:
    struct.pack_into(">I", batch, 17, crc32c(bytes(batch[21:])))
    return bytes(batch)


def test_header_of_a_batch_from_an_independent_encoder() -> None:
    batch = build(5, producer_id=7, sequence=(1 << 31) - 3)
    header = check_produced_batch(batch, size_bytes_max=SIZE_MAX)
    assert (header.base_offset, header.magic, header.record_count, header.last_offset_delta) == (0, 2, 5, 4)
    assert (header.producer_id, header.base_sequence, header.last_sequence) == (7, (1 << 31) - 3, 1)
    assert (header.base_timestamp, header.max_timestamp) == (1000, 1004)
    assert header.size_bytes == len(batch)


def test_the_leader_patches_offset_and_epoch_without_breaking_the_crc() -> None:
    batch = bytearray(build())
    set_offset_and_epoch(batch, 42, 9)
    header = check_batch(batch)
    assert (header.base_offset, header.next_offset, header.partition_leader_epoch) == (42, 45, 9)
    assert [record.offset for record in DefaultRecordBatch(bytes(batch))] == [42, 43, 44]


def test_log_append_time_is_stamped_and_signed_anew() -> None:
    batch = bytearray(build())
    set_log_append_time(batch, 123_456)
    assert check_batch(batch).max_timestamp == 123_456
    assert {record.timestamp for record in DefaultRecordBatch(bytes(batch))} == {123_456}


def test_batches_in_a_run_end_at_the_last_whole_one() -> None:
    run = build(1) + build(2) + build(3)[:-1]
    assert [header.record_count for _, header in batches(run)] == [1, 2]


def test_wrong_crc() -> None:
    batch = bytearray(build())
    batch[-1] ^= 1
    with pytest.raises(CorruptRecordError, match="CRC"):
        check_batch(batch)


@pytest.mark.parametrize("length", [-1, 0, 48, 10_000, (1 << 31) - 1])
def test_wrong_length(length: int) -> None:
    batch = bytearray(build())
    struct.pack_into(">i", batch, 8, length)
    with pytest.raises(KafkaError):
        check_produced_batch(batch, size_bytes_max=SIZE_MAX)


@pytest.mark.parametrize(
    ("magic", "error"),
    [
        (0, UnsupportedForMessageFormatError),
        (1, UnsupportedForMessageFormatError),
        (3, CorruptRecordError),
        (255, CorruptRecordError),
    ],
)
def test_wrong_magic(magic: int, error: type[KafkaError]) -> None:
    batch = bytearray(build())
    batch[16] = magic
    with pytest.raises(error):
        check_produced_batch(batch, size_bytes_max=SIZE_MAX)


@pytest.mark.parametrize(("count", "delta"), [(0, 2), (4, 2), (3, 3), (-1, 2), (3, -1), (0, -1), (100, 99)])
def test_a_record_count_that_lies(count: int, delta: int) -> None:
    batch = bytearray(build())
    struct.pack_into(">i", batch, 57, count)
    struct.pack_into(">i", batch, 23, delta)
    with pytest.raises(CorruptRecordError):
        check_produced_batch(resign(batch), size_bytes_max=SIZE_MAX)


def test_two_batches_where_one_belongs() -> None:
    with pytest.raises(CorruptRecordError, match="send one batch"):
        check_produced_batch(build() + build(), size_bytes_max=SIZE_MAX)


def test_a_batch_above_the_limit_names_the_limit() -> None:
    with pytest.raises(MessageSizeTooLargeError, match="allows 100"):
        check_produced_batch(build(), size_bytes_max=100)


def test_every_truncation_is_refused() -> None:
    batch = build()
    for end in range(len(batch)):
        with pytest.raises(CorruptRecordError):
            check_produced_batch(batch[:end], size_bytes_max=SIZE_MAX)


@given(st.binary(max_size=200))
def test_random_bytes_raise_our_errors_and_nothing_else(data: bytes) -> None:
    with pytest.raises(KafkaError):
        check_produced_batch(data, size_bytes_max=SIZE_MAX)


@given(st.integers(0, 8 * HEADER_SIZE), st.integers(0, 7))
def test_a_flipped_bit_is_seen_or_lies_before_the_crc(position: int, bit: int) -> None:
    batch = bytearray(build(8))
    position %= len(batch)
    batch[position] ^= 1 << bit
    if position < 8 or 12 <= position < 16:  # base offset and leader epoch are the leader's own to set
        assert check_batch(batch).record_count == 8
    else:
        with pytest.raises(KafkaError):
            check_produced_batch(batch, size_bytes_max=SIZE_MAX)
    assert parse_header(batch).batch_length is not None
