"""The records of a consumer group of KIP-848 in Apache Kafka's formats: values to bytes and back. Pure.

    key version   says
     3            the group's epoch
     4            the subscribed topics as they were at that epoch (not written by Kafka 4.1 and later, but read)
     5            a member and its subscription
     6            the epoch of the target assignment
     7            a member's target assignment
     8            a member's current assignment: its epochs, its state, what it owns and what it must revoke
    16            the topics that a regular expression stands for (Kafka 4.0 and later)

The version of a key is its kind. The version of a value is 0 for all of them; tagged fields that are not known here are
passed over, as in Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from ...proto.identifiers import TopicId
from .consumer_group_records import (
    Assignment,
    ClassicMemberMetadata,
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupKey,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupPartitionMetadataValue,
    ConsumerGroupRecord,
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
    ConsumerGroupValue,
    TopicMetadata,
)
from .flexible_writer import FlexibleWriter
from .group import GroupRecord
from .records import InvalidGroupRecordError, RecordReader

_T = TypeVar("_T")
_VALUE_VERSION: Final = 0
_TAG_CLASSIC_MEMBER_METADATA: Final = 0
_PRESENT: Final = 1

KEY_VERSIONS: Final[Mapping[int, type[ConsumerGroupKey]]] = {
    3: ConsumerGroupMetadataKey,
    4: ConsumerGroupPartitionMetadataKey,
    5: ConsumerGroupMemberMetadataKey,
    6: ConsumerGroupTargetAssignmentMetadataKey,
    7: ConsumerGroupTargetAssignmentMemberKey,
    8: ConsumerGroupCurrentMemberAssignmentKey,
    16: ConsumerGroupRegularExpressionKey,
}
_VERSION_OF_KEY: Final = {kind: version for version, kind in KEY_VERSIONS.items()}


def encoded(record: ConsumerGroupRecord) -> GroupRecord:
    """The record as it is written."""
    return GroupRecord(encode_key(record.key), None if record.value is None else encode_value(record.value))


# --- keys to bytes and back -------------------------------------------------------------------------------------


def encode_key(key: ConsumerGroupKey) -> bytes:
    writer = FlexibleWriter()
    writer.int16(_VERSION_OF_KEY[type(key)])
    writer.string(key.group_id)
    if isinstance(key, ConsumerGroupRegularExpressionKey):
        writer.string(key.regular_expression)
    elif not isinstance(key, _KEYS_OF_A_GROUP):
        writer.string(key.member_id)
    return bytes(writer.data)


_KEYS_OF_A_GROUP: Final = (
    ConsumerGroupMetadataKey,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupTargetAssignmentMetadataKey,
)


def parse_key(data: bytes) -> ConsumerGroupKey | None:
    """The key of a record; None when its version is none of those above.

    :raises InvalidGroupRecordError: the version is known and the rest is not what it demands.
    """
    reader = RecordReader(data)
    kind = KEY_VERSIONS.get(reader.int16())
    if kind is None:
        return None
    if issubclass(kind, _KEYS_OF_A_GROUP):
        key: ConsumerGroupKey = kind(reader.string())
    else:
        key = kind(reader.string(), reader.string())
    if reader.remaining:
        raise InvalidGroupRecordError(f"{reader.remaining} bytes after a key")
    return key


# --- values to bytes and back -----------------------------------------------------------------------------------


def encode_value(value: ConsumerGroupValue) -> bytes:
    writer = FlexibleWriter()
    writer.int16(_VALUE_VERSION)
    _WRITERS[type(value)](writer, value)
    return bytes(writer.data)


def parse_value(key: ConsumerGroupKey, data: bytes) -> ConsumerGroupValue | None:
    """The value that belongs to a key of this kind; None when its version is newer than what is known here.

    :raises InvalidGroupRecordError: the version is known and the rest is not what it demands.
    """
    reader = RecordReader(data, flexible=True)
    if reader.int16() != _VALUE_VERSION:
        return None
    return _READERS[type(key)](reader)


def _array(reader: RecordReader, read: Callable[[], _T]) -> tuple[_T, ...]:
    return tuple(read() for _ in range(reader.array_length()))


def _write_metadata(writer: FlexibleWriter, value: ConsumerGroupMetadataValue) -> None:
    writer.int32(value.epoch)
    writer.tagged_fields()


def _read_metadata(reader: RecordReader) -> ConsumerGroupMetadataValue:
    value = ConsumerGroupMetadataValue(reader.int32())
    reader.tagged_fields()  # Kafka 4.1: a hash of the subscribed topics; here they are compared as they are
    return value


def _write_partition_metadata(writer: FlexibleWriter, value: ConsumerGroupPartitionMetadataValue) -> None:
    def write(topic: TopicMetadata) -> None:
        writer.uuid(topic.topic_id)
        writer.compact_string(topic.name)
        writer.int32(topic.partition_count)
        writer.uvarint(1)  # no racks of partitions, as in Kafka 4.0
        writer.tagged_fields()

    writer.compact_array(value.topics, write)
    writer.tagged_fields()


def _read_partition_metadata(reader: RecordReader) -> ConsumerGroupPartitionMetadataValue:
    def racks() -> None:
        reader.int32()
        _array(reader, reader.string)
        reader.tagged_fields()

    def topic() -> TopicMetadata:
        metadata = TopicMetadata(reader.uuid(), reader.string(), reader.int32())
        _array(reader, racks)
        reader.tagged_fields()
        return metadata

    value = ConsumerGroupPartitionMetadataValue(_array(reader, topic))
    reader.tagged_fields()
    return value


def _write_member_metadata(writer: FlexibleWriter, value: ConsumerGroupMemberMetadataValue) -> None:
    writer.compact_string(value.instance_id)
    writer.compact_string(value.rack_id)
    writer.compact_string(value.client_id)
    writer.compact_string(value.client_host)
    writer.compact_array(value.subscribed_topic_names, writer.compact_string)
    writer.compact_string(value.subscribed_topic_regex)
    writer.int32(value.rebalance_timeout_ms)
    writer.compact_string(value.server_assignor)
    tags = {} if value.classic is None else {_TAG_CLASSIC_MEMBER_METADATA: _encode_classic(value.classic)}
    writer.tagged_fields(tags)


def _encode_classic(classic: ClassicMemberMetadata) -> bytes:
    writer = FlexibleWriter()

    def write(protocol: tuple[str, bytes]) -> None:
        writer.compact_string(protocol[0])
        writer.compact_bytes(protocol[1])
        writer.tagged_fields()

    writer.int8(_PRESENT)
    writer.int32(classic.session_timeout_ms)
    writer.compact_array(classic.supported_protocols, write)
    writer.tagged_fields()
    return bytes(writer.data)


def _read_member_metadata(reader: RecordReader) -> ConsumerGroupMemberMetadataValue:
    value = ConsumerGroupMemberMetadataValue(
        instance_id=reader.nullable_string(),
        rack_id=reader.nullable_string(),
        client_id=reader.string(),
        client_host=reader.string(),
        subscribed_topic_names=_array(reader, reader.string),
        subscribed_topic_regex=reader.nullable_string(),
        rebalance_timeout_ms=reader.int32(),
        server_assignor=reader.nullable_string(),
    )
    classic = reader.tagged_fields().get(_TAG_CLASSIC_MEMBER_METADATA)
    if classic is None:
        return value
    fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return ConsumerGroupMemberMetadataValue(**{**fields, "classic": _parse_classic(classic)})


def _parse_classic(data: bytes) -> ClassicMemberMetadata | None:
    reader = RecordReader(data, flexible=True)

    def protocol() -> tuple[str, bytes]:
        name_and_metadata = (reader.string(), reader.bytes())
        reader.tagged_fields()
        return name_and_metadata

    if reader.int8() < 0:
        return None
    classic = ClassicMemberMetadata(reader.int32(), _array(reader, protocol))
    reader.tagged_fields()
    return classic


def _write_target_metadata(writer: FlexibleWriter, value: ConsumerGroupTargetAssignmentMetadataValue) -> None:
    writer.int32(value.assignment_epoch)
    writer.tagged_fields()


def _read_target_metadata(reader: RecordReader) -> ConsumerGroupTargetAssignmentMetadataValue:
    value = ConsumerGroupTargetAssignmentMetadataValue(reader.int32())
    reader.tagged_fields()
    return value


def _write_assignment(writer: FlexibleWriter, assignment: Assignment) -> None:
    def write(topic_id: TopicId) -> None:
        writer.uuid(topic_id)
        writer.compact_array(sorted(assignment[topic_id]), writer.int32)
        writer.tagged_fields()

    writer.compact_array(assignment, write)


def _read_assignment(reader: RecordReader) -> Assignment:
    def read() -> tuple[TopicId, frozenset[int]]:
        topic_and_partitions = (reader.uuid(), frozenset(_array(reader, reader.int32)))
        reader.tagged_fields()
        return topic_and_partitions

    return {topic_id: partitions for topic_id, partitions in _array(reader, read) if partitions}


def _write_target_member(writer: FlexibleWriter, value: ConsumerGroupTargetAssignmentMemberValue) -> None:
    _write_assignment(writer, value.partitions)
    writer.tagged_fields()


def _read_target_member(reader: RecordReader) -> ConsumerGroupTargetAssignmentMemberValue:
    value = ConsumerGroupTargetAssignmentMemberValue(_read_assignment(reader))
    reader.tagged_fields()
    return value


def _write_current(writer: FlexibleWriter, value: ConsumerGroupCurrentMemberAssignmentValue) -> None:
    writer.int32(value.member_epoch)
    writer.int32(value.previous_member_epoch)
    writer.int8(value.state)
    _write_assignment(writer, value.assigned_partitions)
    _write_assignment(writer, value.partitions_pending_revocation)
    writer.tagged_fields()


def _read_current(reader: RecordReader) -> ConsumerGroupCurrentMemberAssignmentValue:
    value = ConsumerGroupCurrentMemberAssignmentValue(
        reader.int32(), reader.int32(), reader.int8(), _read_assignment(reader), _read_assignment(reader)
    )
    reader.tagged_fields()
    return value


def _write_regular_expression(writer: FlexibleWriter, value: ConsumerGroupRegularExpressionValue) -> None:
    writer.compact_array(sorted(value.topics), writer.compact_string)
    writer.int64(value.version)
    writer.int64(value.timestamp_ms)
    writer.tagged_fields()


def _read_regular_expression(reader: RecordReader) -> ConsumerGroupRegularExpressionValue:
    topics = frozenset(_array(reader, reader.string))
    value = ConsumerGroupRegularExpressionValue(topics, reader.int64(), reader.int64())
    reader.tagged_fields()
    return value


_WRITERS: Final[Mapping[type[ConsumerGroupValue], Callable[..., None]]] = {
    ConsumerGroupMetadataValue: _write_metadata,
    ConsumerGroupPartitionMetadataValue: _write_partition_metadata,
    ConsumerGroupMemberMetadataValue: _write_member_metadata,
    ConsumerGroupTargetAssignmentMetadataValue: _write_target_metadata,
    ConsumerGroupTargetAssignmentMemberValue: _write_target_member,
    ConsumerGroupCurrentMemberAssignmentValue: _write_current,
    ConsumerGroupRegularExpressionValue: _write_regular_expression,
}
_READERS: Final[Mapping[type[ConsumerGroupKey], Callable[[RecordReader], ConsumerGroupValue]]] = {
    ConsumerGroupMetadataKey: _read_metadata,
    ConsumerGroupPartitionMetadataKey: _read_partition_metadata,
    ConsumerGroupMemberMetadataKey: _read_member_metadata,
    ConsumerGroupTargetAssignmentMetadataKey: _read_target_metadata,
    ConsumerGroupTargetAssignmentMemberKey: _read_target_member,
    ConsumerGroupCurrentMemberAssignmentKey: _read_current,
    ConsumerGroupRegularExpressionKey: _read_regular_expression,
}
