from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.proto.errors import CorruptRecordError
from klamm.proto.record_batch import HEADER_SIZE, parse_header
from klamm.proto.record_codec import build_batch, keys_of, new_builder, read_batch
from klamm.proto.record_scan import (
    read_varint,
    scan_records,
    timestamp_delta_at,
    with_base_timestamp_moved,
    write_varint,
)

Row = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]
blobs = st.none() | st.binary(max_size=200)
rows = st.lists(
    st.tuples(st.integers(-(2**40), 2**40), blobs, blobs, st.lists(st.tuples(st.text(max_size=5), st.binary()))),
    min_size=1,
    max_size=8,
)


def records_of(content: list[Row]) -> bytes:
    builder = new_builder(1 << 24)
    for index, (timestamp, key, value, headers) in enumerate(content):
        builder.append(index, timestamp + 2**41, key, value, headers)
    return bytes(builder.build())[HEADER_SIZE:]


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=3))
def test_varints_come_back(value: int, before: bytes) -> None:
    data = before + write_varint(value)
    assert read_varint(data, len(before)) == (value, len(data))


@given(rows)
def test_records_are_found_where_the_codec_put_them(content: list[Row]) -> None:
    data = records_of(content)
    found = list(scan_records(data, len(content)))
    assert [(delta, key, gone) for _, _, delta, key, gone in found] == [
        (index, key, value is None) for index, (_, key, value, _) in enumerate(content)
    ]
    assert [start for start, *_ in found] == [0, *(end for _, end, *_ in found[:-1])]
    assert found[-1][1] == len(data)
    assert [timestamp_delta_at(data, start) for start, *_ in found] == [row[0] - content[0][0] for row in content]


@given(rows, st.integers(-(2**41), 2**41))
def test_the_base_timestamp_moves_and_the_times_stay(content: list[Row], by_ms: int) -> None:
    data = records_of(content)
    found = list(scan_records(data, len(content)))
    moved = b"".join(with_base_timestamp_moved(data, start, end, by_ms) for start, end, *_ in found)
    again = list(scan_records(moved, len(content)))
    assert [each[2:] for each in again] == [each[2:] for each in found]
    assert [timestamp_delta_at(moved, start) + by_ms for start, *_ in again] == [
        timestamp_delta_at(data, start) for start, *_ in found
    ]


@given(rows, st.data())
def test_bytes_that_lie_raise_a_decode_error_and_nothing_else(content: list[Row], data: st.DataObject) -> None:
    good = records_of(content)
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    for broken in (bytes(bad), good[: data.draw(st.integers(0, len(good) - 1))], good + b"\0"):
        try:
            found = list(scan_records(broken, len(content)))
        except CorruptRecordError:
            continue
        assert all(0 <= start < end <= len(broken) for start, end, *_ in found)


def test_a_varint_without_an_end_is_refused() -> None:
    with pytest.raises(CorruptRecordError, match="ten bytes"):
        read_varint(b"\xff" * 20, 0)


def test_keys_are_read_also_where_a_headers_key_is_not_text() -> None:
    builder = new_builder(1 << 20)
    for index in range(5):
        builder.append(index, 1_000, b"key%d" % index, None if index == 3 else b"value", [("name", b"x")])
    batch = bytes(build_batch(builder, 0))
    odd = batch.replace(b"name", b"na\xffe", 3).replace(b"na\xffe", b"name", 2)  # in the third record alone
    for data in (batch, odd):
        assert list(keys_of(data, parse_header(data), data[HEADER_SIZE:])) == [
            (index, b"key%d" % index, index == 3) for index in range(5)
        ]
    with pytest.raises(UnicodeDecodeError):
        list(read_batch(odd))
