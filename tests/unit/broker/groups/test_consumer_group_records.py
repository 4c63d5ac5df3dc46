"""The records of KIP-848 groups: Kafka's bytes, there and back; anything else is an error of ours."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.broker.groups.consumer_group_codec import KEY_VERSIONS, encode_key, encode_value, parse_key, parse_value
from klamm.broker.groups.consumer_group_records import (
    ClassicMemberMetadata,
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupPartitionMetadataValue,
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
    TopicMetadata,
)
from klamm.broker.groups.records import InvalidGroupRecordError

ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
ID_HEX = ID.hex
PARTITIONS = {ID: frozenset({2, 1})}
PARTITIONS_HEX = f"02 {ID_HEX} 03 00000001 00000002 00"

# Written out by hand from Kafka's schemas: group-coordinator/src/main/resources/common/message/ConsumerGroup*.json.
EXAMPLES = [
    (ConsumerGroupMetadataKey("g"), "0003 0001 67", ConsumerGroupMetadataValue(7), "0000 00000007 00"),
    (
        ConsumerGroupPartitionMetadataKey("g"),
        "0004 0001 67",
        ConsumerGroupPartitionMetadataValue((TopicMetadata(ID, "t", 3),)),
        f"0000 02 {ID_HEX} 02 74 00000003 01 00 00",
    ),
    (
        ConsumerGroupMemberMetadataKey("g", "m"),
        "0005 0001 67 0001 6d",
        ConsumerGroupMemberMetadataValue("i", None, "c", "/h", ("t",), "", 300, "range"),
        "0000 02 69 00 02 63 03 2f68 02 02 74 01 0000012c 06 72616e6765 00",
    ),
    (
        ConsumerGroupMemberMetadataKey("g", "m"),
        "0005 0001 67 0001 6d",
        ConsumerGroupMemberMetadataValue(
            None, "r", "c", "/h", (), None, -1, None, ClassicMemberMetadata(9, (("range", b"\x01"),))
        ),
        "0000 00 02 72 02 63 03 2f68 01 00 ffffffff 00 01 00 10 01 00000009 02 06 72616e6765 02 01 00 00",
    ),
    (
        ConsumerGroupTargetAssignmentMetadataKey("g"),
        "0006 0001 67",
        ConsumerGroupTargetAssignmentMetadataValue(-1),
        "0000 ffffffff 00",
    ),
    (
        ConsumerGroupTargetAssignmentMemberKey("g", "m"),
        "0007 0001 67 0001 6d",
        ConsumerGroupTargetAssignmentMemberValue(PARTITIONS),
        f"0000 {PARTITIONS_HEX} 00",
    ),
    (
        ConsumerGroupCurrentMemberAssignmentKey("g", "m"),
        "0008 0001 67 0001 6d",
        ConsumerGroupCurrentMemberAssignmentValue(5, 4, 1, {}, PARTITIONS),
        f"0000 00000005 00000004 01 01 {PARTITIONS_HEX} 00",
    ),
    (
        ConsumerGroupRegularExpressionKey("g", "t.*"),
        "0010 0001 67 0003 742e2a",
        ConsumerGroupRegularExpressionValue(frozenset({"t1"}), 10, 12345),
        "0000 02 03 7431 000000000000000a 0000000000003039 00",
    ),
]


@pytest.mark.parametrize(("key", "key_hex", "value", "value_hex"), EXAMPLES)
def test_records_are_kafkas_byte_for_byte(key: object, key_hex: str, value: object, value_hex: str) -> None:
    key_bytes, value_bytes = bytes.fromhex(key_hex), bytes.fromhex(value_hex)
    assert encode_key(key) == key_bytes  # type: ignore[arg-type]
    assert encode_value(value) == value_bytes  # type: ignore[arg-type]
    parsed = parse_key(key_bytes)
    assert parsed == key
    assert parsed is not None
    assert parse_value(parsed, value_bytes) == value


@pytest.mark.parametrize(("key", "key_hex", "value", "value_hex"), EXAMPLES)
def test_a_record_cut_short_is_an_error_of_ours(key: object, key_hex: str, value: object, value_hex: str) -> None:
    key_bytes, value_bytes = bytes.fromhex(key_hex), bytes.fromhex(value_hex)
    parsed = parse_key(key_bytes)
    assert parsed is not None
    for length in range(2, len(key_bytes)):
        with pytest.raises(InvalidGroupRecordError):
            parse_key(key_bytes[:length])
    for length in range(len(value_bytes)):
        with pytest.raises(InvalidGroupRecordError):
            parse_value(parsed, value_bytes[:length])
    with pytest.raises(InvalidGroupRecordError):
        parse_key(key_bytes + b"\0")


def test_unknown_versions_are_no_error() -> None:
    assert parse_key(bytes.fromhex("0009 0001 67")) is None
    assert parse_key(bytes.fromhex("0002 0001 67")) is None
    assert parse_value(ConsumerGroupMetadataKey("g"), bytes.fromhex("0001 00000007 00")) is None


def test_unknown_tagged_fields_are_passed_over() -> None:
    """Kafka 4.1 writes a hash of the topics as tag 0 of the group's epoch."""
    value = bytes.fromhex("0000 00000007 01 00 08 1122334455667788")
    assert parse_value(ConsumerGroupMetadataKey("g"), value) == ConsumerGroupMetadataValue(7)
    racks = f"0000 02 {ID_HEX} 02 74 00000003 02 00000000 02 02 72 00 00 00"
    parsed = parse_value(ConsumerGroupPartitionMetadataKey("g"), bytes.fromhex(racks))
    assert parsed == ConsumerGroupPartitionMetadataValue((TopicMetadata(ID, "t", 3),))


@given(data=st.binary(max_size=200), version=st.sampled_from(sorted(KEY_VERSIONS)))
def test_hostile_bytes_raise_nothing_else(data: bytes, version: int) -> None:
    try:
        key = parse_key(version.to_bytes(2, "big") + b"\0\1g\0\1m"[: 6 if version in (5, 7, 8, 16) else 3])
        assert key is not None
        parse_value(key, b"\0\0" + data)
        parse_key(version.to_bytes(2, "big") + data)
    except InvalidGroupRecordError:
        pass


@given(count=st.integers(min_value=1_000_000, max_value=2**31 - 1))
def test_a_count_that_lies_allocates_nothing(count: int) -> None:
    varint = bytearray()
    while count > 0x7F:
        varint.append(count & 0x7F | 0x80)
        count >>= 7
    varint.append(count)
    with pytest.raises(InvalidGroupRecordError):
        parse_value(ConsumerGroupTargetAssignmentMemberKey("g", "m"), b"\0\0" + bytes(varint) + b"\0" * 20)
