"""Records of __consumer_offsets: byte for byte as Kafka writes them, and read back in every version."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.broker.groups.records import (
    GroupMetadata,
    GroupMetadataKey,
    InvalidGroupRecordError,
    MemberMetadata,
    OffsetKey,
    OffsetValue,
    RecordReader,
    group_metadata_record,
    key_version,
    offset_record,
    parse_group_metadata,
    parse_key,
    parse_offset_value,
)
from klamm.proto.identifiers import LeaderEpoch, Offset

KEY = OffsetKey("g", "events", 3)
TEXT = st.text(max_size=20)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
MEMBERS = st.builds(
    MemberMetadata,
    member_id=TEXT,
    group_instance_id=st.none() | TEXT,
    client_id=TEXT,
    client_host=TEXT,
    rebalance_timeout_ms=INT32,
    session_timeout_ms=INT32,
    subscription=st.binary(max_size=20),
    assignment=st.binary(max_size=20),
)
GROUPS = st.builds(
    GroupMetadata,
    protocol_type=TEXT,
    generation=INT32,
    protocol=st.none() | TEXT,
    leader=st.none() | TEXT,
    current_state_timestamp_ms=st.integers(0, 2**62),
    members=st.lists(MEMBERS, max_size=3).map(tuple),
)
OFFSETS = st.builds(
    OffsetValue,
    offset=INT64.map(Offset),
    leader_epoch=st.none() | st.integers(0, 2**31 - 1).map(LeaderEpoch),
    metadata=TEXT,
    commit_timestamp_ms=INT64,
)


def test_offset_is_written_in_key_version_1_and_value_version_3() -> None:
    record = offset_record(KEY, OffsetValue(Offset(7), LeaderEpoch(2), "m", 99))
    assert record.key == b"\x00\x01\x00\x01g\x00\x06events\x00\x00\x00\x03"
    assert record.value == b"\x00\x03" + struct.pack(">qi", 7, 2) + b"\x00\x01m" + struct.pack(">q", 99)


def test_offset_with_its_own_expiry_is_written_in_value_version_1() -> None:
    record = offset_record(KEY, OffsetValue(Offset(7), LeaderEpoch(2), "m", 99, 1099))
    assert record.value == b"\x00\x01" + struct.pack(">q", 7) + b"\x00\x01m" + struct.pack(">qq", 99, 1099)
    assert parse_offset_value(record.value) == OffsetValue(Offset(7), None, "m", 99, 1099)


def test_tombstones_have_no_value() -> None:
    assert offset_record(KEY, None).value is None
    record = group_metadata_record("g", None, 0)
    assert (record.key, record.value) == (b"\x00\x02\x00\x01g", None)


@given(OFFSETS)
def test_offsets_come_back(value: OffsetValue) -> None:
    record = offset_record(KEY, value)
    assert record.value is not None
    assert parse_key(record.key) == KEY
    assert parse_offset_value(record.value) == value


@given(GROUPS)
def test_groups_come_back(group: GroupMetadata) -> None:
    record = group_metadata_record("grüppe", group, 5)
    assert record.value is not None
    assert parse_key(record.key) == GroupMetadataKey("grüppe")
    assert parse_group_metadata(record.value) == group


def test_a_group_that_does_not_say_since_when_gets_the_time_of_writing() -> None:
    record = group_metadata_record("g", GroupMetadata("consumer", 4, None, None, None, ()), 1234)
    assert record.value is not None
    assert parse_group_metadata(record.value).current_state_timestamp_ms == 1234


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\0\0" + struct.pack(">q", 5) + b"\0\1m" + struct.pack(">q", 9), OffsetValue(Offset(5), None, "m", 9)),
        (b"\0\2" + struct.pack(">q", 5) + b"\0\1m" + struct.pack(">q", 9), OffsetValue(Offset(5), None, "m", 9)),
        (
            b"\0\3" + struct.pack(">qi", 5, -1) + b"\0\0" + struct.pack(">q", 9),
            OffsetValue(Offset(5), None, "", 9),
        ),
        (
            b"\0\4" + struct.pack(">qi", 5, 3) + b"\x02m" + struct.pack(">q", 9) + b"\0",
            OffsetValue(Offset(5), LeaderEpoch(3), "m", 9),
        ),
    ],
)
def test_older_and_newer_values_of_offsets(value: bytes, expected: OffsetValue) -> None:
    assert parse_offset_value(value) == expected


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def test_a_group_of_version_0_has_one_time_out_and_no_since() -> None:
    member = _string("m") + _string("c") + _string("/h") + struct.pack(">i", 10) + b"\0\0\0\1s" + b"\0\0\0\1a"
    value = b"\0\0" + _string("consumer") + struct.pack(">i", 6) + _string("range") + _string("m")
    parsed = parse_group_metadata(value + b"\0\0\0\1" + member)
    assert parsed.current_state_timestamp_ms is None
    assert parsed.members == (MemberMetadata("m", None, "c", "/h", 10, 10, b"s", b"a"),)


def test_a_group_of_version_4_has_compact_lengths_and_tags() -> None:
    member = b"\x02m\x00\x02c\x03/h" + struct.pack(">ii", 11, 10) + b"\x02s\x02a" + b"\x01\x05\x02xy"
    value = b"\0\4\x09consumer" + struct.pack(">i", 6) + b"\x06range\x02m" + struct.pack(">q", 77)
    parsed = parse_group_metadata(value + b"\x02" + member + b"\0")
    assert parsed == GroupMetadata(
        "consumer", 6, "range", "m", 77, (MemberMetadata("m", None, "c", "/h", 11, 10, b"s", b"a"),)
    )


def test_keys_of_other_kinds_are_left_to_others() -> None:
    assert parse_key(b"\x00\x05\x00\x01g\x00\x01m") is None
    assert key_version(b"\x00\x05\x00\x01g\x00\x01m") == 5


@given(GROUPS, st.data())
def test_cut_and_garbled_values_raise_the_one_error(group: GroupMetadata, data: st.DataObject) -> None:
    value = group_metadata_record("g", group, 0).value
    assert value is not None
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    with pytest.raises(InvalidGroupRecordError):
        parse_group_metadata(cut)


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_raise_the_one_error(data: bytes) -> None:
    for parse in (parse_key, parse_offset_value, parse_group_metadata):
        try:
            parse(data)
        except InvalidGroupRecordError:
            continue


def test_a_lying_array_costs_nothing() -> None:
    with pytest.raises(InvalidGroupRecordError, match="array"):
        RecordReader(b"\x7f\xff\xff\xff").array_length()


def test_texts_too_long_for_the_format_are_refused() -> None:
    with pytest.raises(InvalidGroupRecordError, match="32767"):
        offset_record(OffsetKey("g" * 40_000, "t", 0), None)
