"""The records of __consumer_offsets in Kafka's exact format: committed offsets and classic groups. Pure.

A key begins with a 16-bit version that says what kind of record it is: 0 and 1 a committed offset, 2 a classic group,
3 to 8 the records of a KIP-848 group (`consumer_group_records.py`). A value begins with the version of its own format.
Written are the versions that Kafka writes and its tools read: keys 1 and 2, offsets in version 3 (1 where they bear an
expiry time of their own), groups in version 3. Read are all: 0 to 4 of both.

Schemas: OffsetCommitKey/Value.json, GroupMetadataKey/Value.json in Kafka's group-coordinator module.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ...proto.identifiers import NONE_ID, LeaderEpoch, Offset
from .group import GroupRecord

OFFSET_KEY_VERSIONS: Final = (0, 1)
GROUP_METADATA_KEY_VERSION: Final = 2

_OFFSET_KEY_VERSION: Final = 1
_OFFSET_VALUE_VERSION: Final = 3
_OFFSET_VALUE_VERSION_WITH_EXPIRY: Final = 1
_GROUP_VALUE_VERSION: Final = 3
_VALUE_VERSION_MAX: Final = 4  # of both; the first with compact lengths and tagged fields

_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")
_INT64: Final = struct.Struct(">q")
_STRING_BYTES_MAX: Final = 2**15 - 1


class InvalidGroupRecordError(ValueError):
    """The bytes are not what their version says; the record is skipped where it is read."""


@dataclass(frozen=True, slots=True)
class OffsetKey:
    """Key of a committed offset."""

    group: str
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class GroupMetadataKey:
    """Key of a classic group."""

    group: str


@dataclass(frozen=True, slots=True)
class OffsetValue:
    """A committed offset; times are wall clock, ms."""

    offset: Offset
    leader_epoch: LeaderEpoch | None
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int | None = None  # asked for by OffsetCommit before version 5; None: the broker's retention


@dataclass(frozen=True, slots=True)
class MemberMetadata:
    """One member of a classic group, as it stands in the log."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True)
class GroupMetadata:
    """One generation of a classic group."""

    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    current_state_timestamp_ms: int | None
    members: tuple[MemberMetadata, ...]


# --- writing ----------------------------------------------------------------------------------------------------


def offset_record(key: OffsetKey, value: OffsetValue | None) -> GroupRecord:
    """A committed offset, or with None its tombstone."""
    return GroupRecord(_offset_key(key), None if value is None else _offset_value(value))


def group_metadata_record(group_id: str, metadata: GroupMetadata | None, wall_ms: int) -> GroupRecord:
    """A generation of a group, or with None the group's tombstone.

    `wall_ms` is when the group came into its state, where `metadata` does not say it.
    """
    key = _INT16.pack(GROUP_METADATA_KEY_VERSION) + _string(group_id)
    return GroupRecord(key, None if metadata is None else _group_value(metadata, wall_ms))


def _offset_key(key: OffsetKey) -> bytes:
    return _INT16.pack(_OFFSET_KEY_VERSION) + _string(key.group) + _string(key.topic) + _INT32.pack(key.partition)


def _offset_value(value: OffsetValue) -> bytes:
    metadata = _string(value.metadata)
    if value.expire_timestamp_ms is not None:
        return b"".join(
            (
                _INT16.pack(_OFFSET_VALUE_VERSION_WITH_EXPIRY),
                _INT64.pack(value.offset),
                metadata,
                _INT64.pack(value.commit_timestamp_ms),
                _INT64.pack(value.expire_timestamp_ms),
            )
        )
    return b"".join(
        (
            _INT16.pack(_OFFSET_VALUE_VERSION),
            _INT64.pack(value.offset),
            _INT32.pack(NONE_ID if value.leader_epoch is None else value.leader_epoch),
            metadata,
            _INT64.pack(value.commit_timestamp_ms),
        )
    )


def _group_value(metadata: GroupMetadata, wall_ms: int) -> bytes:
    since_ms = metadata.current_state_timestamp_ms
    parts = [
        _INT16.pack(_GROUP_VALUE_VERSION),
        _string(metadata.protocol_type),
        _INT32.pack(metadata.generation),
        _nullable_string(metadata.protocol),
        _nullable_string(metadata.leader),
        _INT64.pack(wall_ms if since_ms is None else since_ms),
        _INT32.pack(len(metadata.members)),
    ]
    for member in metadata.members:
        parts += (
            _string(member.member_id),
            _nullable_string(member.group_instance_id),
            _string(member.client_id),
            _string(member.client_host),
            _INT32.pack(member.rebalance_timeout_ms),
            _INT32.pack(member.session_timeout_ms),
            _bytes(member.subscription),
            _bytes(member.assignment),
        )
    return b"".join(parts)


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) > _STRING_BYTES_MAX:
        raise InvalidGroupRecordError(f"a text of {len(data)} bytes; {_STRING_BYTES_MAX} is the most")
    return _INT16.pack(len(data)) + data


def _nullable_string(text: str | None) -> bytes:
    return _INT16.pack(-1) if text is None else _string(text)


def _bytes(data: bytes) -> bytes:
    return _INT32.pack(len(data)) + data


# --- reading ----------------------------------------------------------------------------------------------------


def key_version(key: bytes) -> int:
    """What kind of record it is. :raises InvalidGroupRecordError: there are not even two bytes."""
    if len(key) < 2:
        raise InvalidGroupRecordError(f"a key of {len(key)} bytes")
    version: int = _INT16.unpack_from(key)[0]
    return version


def parse_offset_key(key: bytes) -> OffsetKey:
    """A key of version 0 or 1. :raises InvalidGroupRecordError:"""
    reader = RecordReader(key)
    if reader.int16() not in OFFSET_KEY_VERSIONS:
        raise InvalidGroupRecordError("not the key of an offset")
    return OffsetKey(group=reader.string(), topic=reader.string(), partition=reader.int32())


def parse_group_metadata_key(key: bytes) -> GroupMetadataKey:
    """A key of version 2. :raises InvalidGroupRecordError:"""
    reader = RecordReader(key)
    if reader.int16() != GROUP_METADATA_KEY_VERSION:
        raise InvalidGroupRecordError("not the key of a classic group")
    return GroupMetadataKey(group=reader.string())


def parse_key(key: bytes) -> OffsetKey | GroupMetadataKey | None:
    """The key of an offset or of a classic group; None for every other version: the caller asks `key_version`.

    :raises InvalidGroupRecordError: the bytes are not what the version says.
    """
    version = key_version(key)
    if version in OFFSET_KEY_VERSIONS:
        return parse_offset_key(key)
    return parse_group_metadata_key(key) if version == GROUP_METADATA_KEY_VERSION else None


def parse_offset_value(value: bytes) -> OffsetValue:
    """Versions 0 to 4. :raises InvalidGroupRecordError:"""
    reader = RecordReader(value)
    version = reader.value_version(_VALUE_VERSION_MAX)
    offset = reader.int64()
    epoch = reader.int32() if version >= 3 else NONE_ID
    metadata = reader.string()
    commit_timestamp_ms = reader.int64()
    expire_timestamp_ms = reader.int64() if version == 1 else NONE_ID
    return OffsetValue(
        offset=Offset(offset),
        leader_epoch=None if epoch < 0 else LeaderEpoch(epoch),
        metadata=metadata,
        commit_timestamp_ms=commit_timestamp_ms,
        expire_timestamp_ms=None if expire_timestamp_ms < 0 else expire_timestamp_ms,
    )


def parse_group_metadata(value: bytes) -> GroupMetadata:
    """Versions 0 to 4. :raises InvalidGroupRecordError:"""
    reader = RecordReader(value)
    version = reader.value_version(_VALUE_VERSION_MAX)
    protocol_type = reader.string()
    generation = reader.int32()
    protocol = reader.nullable_string()
    leader = reader.nullable_string()
    since_ms = reader.int64() if version >= 2 else NONE_ID
    members = tuple(_member(reader, version) for _ in range(reader.array_length()))
    return GroupMetadata(protocol_type, generation, protocol, leader, None if since_ms < 0 else since_ms, members)


def _member(reader: RecordReader, version: int) -> MemberMetadata:
    member_id = reader.string()
    group_instance_id = reader.nullable_string() if version >= 3 else None
    client_id = reader.string()
    client_host = reader.string()
    # Version 0 is from before KIP-62: the two time-outs were one.
    first_ms = reader.int32()
    second_ms = reader.int32() if version >= 1 else first_ms
    subscription = reader.bytes()
    assignment = reader.bytes()
    reader.tagged_fields()
    return MemberMetadata(
        member_id, group_instance_id, client_id, client_host, first_ms, second_ms, subscription, assignment
    )


class RecordReader:
    """Takes Kafka's primitive types off the front of one key or value.

    In a flexible version (`value_version` says which) lengths are compact. Every method raises
    InvalidGroupRecordError where the bytes end early or a length cannot be true.
    """

    __slots__ = ("_data", "_flexible", "_position")

    def __init__(self, data: bytes, *, flexible: bool = False) -> None:
        self._data = data
        self._position = 0
        self._flexible = flexible

    def value_version(self, highest: int, *, flexible_from: int = 4) -> int:
        """The version at the front of a value; the rest is read by its rules."""
        version = self.int16()
        if not 0 <= version <= highest:
            raise InvalidGroupRecordError(f"a value of version {version}; 0 to {highest} are known")
        self._flexible = version >= flexible_from
        return version

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if size < 0 or end > len(self._data):
            raise InvalidGroupRecordError(f"{size} bytes at {self._position} of {len(self._data)}")
        data = self._data[self._position : end]
        self._position = end
        return data

    def int8(self) -> int:
        return int.from_bytes(self._take(1), "big", signed=True)

    def int16(self) -> int:
        return int.from_bytes(self._take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def int64(self) -> int:
        return int.from_bytes(self._take(8), "big", signed=True)

    def unsigned_varint(self) -> int:
        number = 0
        for shift in range(0, 35, 7):
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise InvalidGroupRecordError("a varint of more than five bytes")

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise InvalidGroupRecordError(str(error)) from error

    def nullable_string(self) -> str | None:
        size = self.unsigned_varint() - 1 if self._flexible else self.int16()
        return None if size < 0 else self._text(size)

    def string(self) -> str:
        text = self.nullable_string()
        if text is None:
            raise InvalidGroupRecordError("null where a text must stand")
        return text

    def tagged_fields(self) -> dict[int, bytes]:
        """By tag; none before the flexible version."""
        if not self._flexible:
            return {}
        fields = {}
        for _ in range(self.unsigned_varint()):
            tag = self.unsigned_varint()
            fields[tag] = self._take(self.unsigned_varint())
        return fields

    def bytes(self) -> bytes:
        return self._take(self.unsigned_varint() - 1 if self._flexible else self.int32())

    def array_length(self) -> int:
        """A count that the bytes left can hold; null counts as none."""
        length = self.unsigned_varint() - 1 if self._flexible else self.int32()
        if length > len(self._data) - self._position:
            raise InvalidGroupRecordError(f"an array of {length} in {len(self._data) - self._position} bytes")
        return max(length, 0)

    def uuid(self) -> UUID:
        return UUID(bytes=self._take(16))

    @property
    def remaining(self) -> int:
        return len(self._data) - self._position
