from __future__ import annotations

import pytest
from harness.keyed_logs import Pair, keyed_batch
from klamm.broker.log.batch_filter import Cleaned, CleaningRules, empty_batch, filter_batch
from klamm.broker.log.offset_map import OffsetMap, short_key
from klamm.proto.errors import CorruptRecordError
from klamm.proto.record_batch import (
    COMPRESSION_NAMES,
    CONTROL_FLAG,
    DELETE_HORIZON_FLAG,
    RecordBatchHeader,
    check_batch,
    parse_header,
    set_log_append_time,
)
from klamm.proto.record_codec import read_batch

NOW_MS = 50_000
RETENTION_MS = 1_000
LONG = b"a key that is longer than its hash"
CODECS = pytest.mark.parametrize("compression", range(5), ids=COMPRESSION_NAMES)


def rules(
    latest: dict[bytes, int], end_offset: int = 1_000, *, now_ms: int = NOW_MS, producers: frozenset[int] = frozenset()
) -> CleaningRules:
    offsets = OffsetMap(0, 100)
    for key, offset in latest.items():
        assert offsets.put(key, offset)
    offsets.end_offset = end_offset
    return CleaningRules(offsets, now_ms, RETENTION_MS, producers)


def cleaned(batch: bytes | bytearray, how: CleaningRules) -> Cleaned:
    return filter_batch(bytes(batch), check_batch(batch), how)


def content(data: bytes) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return [(r.offset, r.timestamp, r.key, r.value) for r in read_batch(data)]


def kept_fields(header: RecordBatchHeader) -> tuple[int, ...]:
    return (
        header.base_offset,
        header.last_offset_delta,
        header.partition_leader_epoch,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.compression,
    )


PAIRS: list[Pair] = [(b"a", b"1"), (LONG, b"2"), (b"b", b"3"), (b"a", b"4" * 300), (b"c", b"")]


@CODECS
def test_records_with_a_later_one_go_and_the_rest_stays_as_it_was(compression: int) -> None:
    batch = keyed_batch(PAIRS, base_offset=20, leader_epoch=3, producer_id=9, sequence=7, compression=compression)
    before = content(bytes(batch))
    result = cleaned(batch, rules({b"a": 23, LONG: 500, b"b": 22, b"c": 24}))
    header = check_batch(result.data)
    assert content(result.data) == before[2:]
    assert kept_fields(header) == kept_fields(parse_header(batch))
    assert header.record_count == 3
    assert (header.base_timestamp, header.max_timestamp) == (1_000, 1_004)
    assert (result.records_read, result.records_kept, result.records_invalid) == (5, 3, 0)


@CODECS
def test_a_batch_that_loses_nothing_is_the_same_bytes(compression: int) -> None:
    batch = bytes(keyed_batch(PAIRS[1:], base_offset=20, compression=compression))
    assert filter_batch(batch, check_batch(batch), rules({})).data is batch


def test_what_lies_past_the_map_stays_record_by_record() -> None:
    batch = keyed_batch([(b"a", b"1")] * 3, base_offset=10)
    assert [each[0] for each in content(cleaned(batch, rules({b"a": 900}, 11)).data)] == [11, 12]
    assert cleaned(batch, rules({b"a": 900}, 10)).data == batch


def test_the_largest_timestamp_is_that_of_a_record_that_is_left() -> None:
    batch = keyed_batch([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    header = check_batch(cleaned(batch, rules({b"a": 5, b"b": 1})).data)
    assert header.max_timestamp == 1_001
    set_log_append_time(batch, 7_777)
    assert check_batch(cleaned(batch, rules({b"a": 5, b"b": 1})).data).max_timestamp == 7_777


def test_records_without_a_key_go_and_are_counted() -> None:
    batch = keyed_batch([(None, b"1"), (b"b", b"2")])
    result = cleaned(batch, rules({b"b": 1}))
    assert [each[2] for each in content(result.data)] == [b"b"]
    assert result.records_invalid == 1


@CODECS
def test_a_tombstone_gets_a_horizon_and_goes_when_that_has_passed(compression: int) -> None:
    batch = keyed_batch([(b"a", None), (LONG, b"x" * 200), (b"b", None)], base_offset=5, compression=compression)
    latest = {b"a": 5, LONG: 6, b"b": 7}
    first = cleaned(batch, rules(latest)).data
    header = check_batch(first)
    assert header.attributes & DELETE_HORIZON_FLAG
    assert header.base_timestamp == NOW_MS + RETENTION_MS
    assert content(first) == content(bytes(batch))
    assert kept_fields(header) == kept_fields(parse_header(batch))
    # A later cleaning does not put it off.
    assert cleaned(first, rules(latest, now_ms=NOW_MS + RETENTION_MS - 1)).data == first
    last = cleaned(first, rules(latest, now_ms=NOW_MS + RETENTION_MS)).data
    assert content(last) == content(bytes(batch))[1:2]
    assert check_batch(last).base_timestamp == NOW_MS + RETENTION_MS


def test_a_tombstone_past_the_map_gets_no_horizon_yet() -> None:
    batch = keyed_batch([(b"a", b"1"), (b"b", None)], base_offset=5)
    data = cleaned(batch, rules({b"a": 5}, 6)).data
    assert not parse_header(data).attributes & DELETE_HORIZON_FLAG


def test_a_batch_that_loses_all_goes_unless_a_producer_is_known_by_it() -> None:
    batch = keyed_batch([(b"a", b"1"), (b"a", b"2")], base_offset=5, producer_id=3, sequence=4, leader_epoch=2)
    assert cleaned(batch, rules({b"a": 9})).data == b""
    data = cleaned(batch, rules({b"a": 9}, producers=frozenset({6}))).data
    header = check_batch(data)
    assert (header.record_count, header.size_bytes, header.base_timestamp) == (0, 61, -1)
    assert kept_fields(header) == kept_fields(parse_header(batch))
    assert header.last_sequence == 5
    assert (header.max_timestamp, header.newest_timestamp) == (1_001, -1)
    # It stays as long as the producer is known, and goes then.
    assert cleaned(data, rules({b"a": 9}, producers=frozenset({6}))).data == data
    assert cleaned(data, rules({b"a": 9})).data == b""


def test_of_a_compressed_batch_with_a_horizon_an_empty_one_keeps_neither() -> None:
    batch = keyed_batch([(b"a", None)] * 20, compression=4)
    batch = bytearray(cleaned(batch, rules({b"a": 19})).data)
    header = parse_header(empty_batch(parse_header(batch)))
    assert (header.compression, header.attributes & DELETE_HORIZON_FLAG) == (0, 0)


def test_control_batches_stay() -> None:
    batch = bytearray(keyed_batch([(b"a", b"1")]))
    header = parse_header(batch)._replace(attributes=CONTROL_FLAG)
    assert filter_batch(bytes(batch), header, rules({b"a": 9})).data == batch


@pytest.mark.parametrize(("position", "byte"), [(60, 4), (60, 2), (22, 4), (61, 0x70)])
def test_records_that_cannot_be_read_are_an_error(position: int, byte: int) -> None:
    batch = keyed_batch([(b"a", b"1")] * 3)
    batch[position] = byte
    with pytest.raises(CorruptRecordError):
        filter_batch(bytes(batch), parse_header(batch), rules({}))


def test_the_map_is_bounded_and_says_so() -> None:
    offsets = OffsetMap(0, 2)
    assert offsets.put(b"a", 1) and offsets.put(LONG, 2) and offsets.put(b"a", 3)
    assert not offsets.put(b"b", 4)
    assert offsets.full
    assert (offsets.latest(b"a"), offsets.latest(LONG), offsets.latest(b"b"), len(offsets)) == (3, 2, -1, 2)
    assert len(short_key(LONG)) == 16
    assert len(short_key(b"x" * 15)) == 15
