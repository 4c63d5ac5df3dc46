"""What members of a consumer group tell one another through the coordinator, in Kafka's format. Pure.

A member joins with a *subscription* (ConsumerProtocolSubscription) as the metadata of each protocol that it offers; the
group's leader hands each member an *assignment* (ConsumerProtocolAssignment). For the broker both are plain bytes.

Both begin with their version. Of subscriptions, version 1 added the partitions that a member owns (KIP-429), version 2
the generation in which it owned them (KIP-792), version 3 the member's rack (KIP-881); an assignment is the same in all
versions. A newer version only ever adds fields at the end, so it is read as the newest that is known here, and what
follows is left alone, as in Kafka's own client.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from .errors import ErrorCode, KafkaError
from .identifiers import NONE_ID, TopicPartition

CONSUMER_PROTOCOL_TYPE: Final = "consumer"
"""The protocol type of groups whose members use these formats."""
LATEST_VERSION: Final = 3
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""The longest subscription or assignment that is read or written: more than a million partitions."""

_OWNED_PARTITIONS_VERSION: Final = 1
_GENERATION_VERSION: Final = 2
_RACK_VERSION: Final = 3
_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")
_INT16_MAX: Final = 2**15 - 1
_INT32_MAX: Final = 2**31 - 1
_SHORTEST_STRING: Final = 2
_SHORTEST_TOPIC: Final = 6


class ConsumerProtocolError(KafkaError):
    """The bytes are no subscription or assignment, or the values do not fit one."""

    error_code = ErrorCode.INVALID_REQUEST


@dataclass(frozen=True, slots=True)
class ConsumerProtocolSubscription:
    """What one member wants to read. Fields that `version` lacks are left out when it is encoded.

    `generation_id` is the generation in which `owned_partitions` were assigned; None for none.
    """

    topics: tuple[str, ...]
    user_data: bytes | None = None
    owned_partitions: tuple[TopicPartition, ...] = ()
    generation_id: int | None = None
    rack_id: str | None = None
    version: int = LATEST_VERSION

    def encode(self) -> bytes:
        """The bytes on the wire; topics and owned partitions in order, as Kafka's client writes them.

        :raises ConsumerProtocolError: a value does not fit.
        """
        writer = _Writer(self.version)
        writer.count(len(self.topics))
        for topic in sorted(self.topics):
            writer.string(topic)
        writer.nullable_bytes(self.user_data)
        if self.version >= _OWNED_PARTITIONS_VERSION:
            writer.partitions(sorted(self.owned_partitions))
        if self.version >= _GENERATION_VERSION:
            writer.int32(NONE_ID if self.generation_id is None else self.generation_id)
        if self.version >= _RACK_VERSION:
            writer.nullable_string(self.rack_id)
        return writer.finished()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Reads what a member sent. :raises ConsumerProtocolError: it is not a subscription."""
        reader = _Reader(data, "subscription")
        version = reader.version
        topics = tuple(reader.string("topic") for _ in range(reader.count("topics", _SHORTEST_STRING)))
        user_data = reader.nullable_bytes("user data")
        owned = reader.partitions("owned partitions") if version >= _OWNED_PARTITIONS_VERSION else ()
        generation_id = reader.int32("generation id") if version >= _GENERATION_VERSION else NONE_ID
        rack_id = reader.nullable_string("rack id") if version >= _RACK_VERSION else None
        return cls(
            topics=topics,
            user_data=user_data,
            owned_partitions=owned,
            generation_id=generation_id if generation_id >= 0 else None,
            rack_id=rack_id or None,
            version=version,
        )


@dataclass(frozen=True, slots=True)
class ConsumerProtocolAssignment:
    """What one member is to read."""

    partitions: tuple[TopicPartition, ...]
    user_data: bytes | None = None
    version: int = LATEST_VERSION

    def encode(self) -> bytes:
        """The bytes on the wire. :raises ConsumerProtocolError: a value does not fit."""
        writer = _Writer(self.version)
        writer.partitions(self.partitions)
        writer.nullable_bytes(self.user_data)
        return writer.finished()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Reads what a leader sent. :raises ConsumerProtocolError: it is not an assignment."""
        reader = _Reader(data, "assignment")
        partitions = reader.partitions("partitions")
        return cls(partitions, reader.nullable_bytes("user data"), reader.version)


def group_by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """Partition numbers by topic, both in the order in which they come."""
    grouped: dict[str, list[int]] = {}
    for topic, partition in partitions:
        grouped.setdefault(topic, []).append(partition)
    return grouped


def encode_topic_partitions(partitions: Iterable[TopicPartition]) -> bytes:
    """Only the array of topics with their partitions, with no version before it, as assignors' user data has it."""
    writer = _Writer(None)
    writer.partitions(partitions)
    return writer.finished()


def decode_topic_partitions(data: bytes) -> tuple[tuple[TopicPartition, ...], bytes]:
    """The array at the start of the bytes, and what follows it. :raises ConsumerProtocolError: there is none."""
    reader = _Reader(data, "user data", has_version=False)
    return reader.partitions("partitions"), reader.rest()


class _Writer:
    def __init__(self, version: int | None) -> None:
        self._parts: list[bytes] = []
        if version is not None:
            if not 0 <= version <= LATEST_VERSION:
                raise ConsumerProtocolError(f"version {version} is not one from 0 to {LATEST_VERSION}")
            self._parts.append(_INT16.pack(version))

    def finished(self) -> bytes:
        encoded = b"".join(self._parts)
        if len(encoded) > MESSAGE_BYTES_MAX:
            raise ConsumerProtocolError(f"{len(encoded)} bytes are more than the {MESSAGE_BYTES_MAX} allowed")
        return encoded

    def int32(self, value: int) -> None:
        if not -1 <= value <= _INT32_MAX:
            raise ConsumerProtocolError(f"{value} is not a whole number from -1 to {_INT32_MAX}")
        self._parts.append(_INT32.pack(value))

    count = int32

    def string(self, value: str) -> None:
        encoded = _utf8(value)
        if len(encoded) > _INT16_MAX:
            raise ConsumerProtocolError(f"a string of {len(encoded)} bytes is longer than the {_INT16_MAX} allowed")
        self._parts += (_INT16.pack(len(encoded)), encoded)

    def nullable_string(self, value: str | None) -> None:
        if value is None:
            self._parts.append(_INT16.pack(NONE_ID))
        else:
            self.string(value)

    def nullable_bytes(self, value: bytes | None) -> None:
        if value is None:
            self.int32(NONE_ID)
        else:
            self.int32(len(value))
            self._parts.append(value)

    def partitions(self, partitions: Iterable[TopicPartition]) -> None:
        grouped = group_by_topic(partitions)
        self.count(len(grouped))
        for topic, numbers in grouped.items():
            self.string(topic)
            self.count(len(numbers))
            for number in numbers:
                if number < 0:
                    raise ConsumerProtocolError(f"{number} is no partition of topic {topic!r}")
                self.int32(number)


class _Reader:
    """Reads forward; whatever does not fit raises ConsumerProtocolError before anything is allocated for it."""

    def __init__(self, data: bytes, what: str, *, has_version: bool = True) -> None:
        self._data = data
        self._what = what
        self._at = 0
        if len(data) > MESSAGE_BYTES_MAX:
            raise self._wrong(f"{len(data)} bytes are more than the {MESSAGE_BYTES_MAX} allowed")
        self.version = min(self._int16("version"), LATEST_VERSION) if has_version else 0
        if self.version < 0:
            raise self._wrong(f"version {self.version} is below 0")

    def _wrong(self, reason: str) -> ConsumerProtocolError:
        return ConsumerProtocolError(f"{self._what} of a group member: {reason}")

    def _take(self, size: int, field: str) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise self._wrong(f"{field} ends after {len(self._data)} bytes, needs {end}")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def rest(self) -> bytes:
        return self._data[self._at :]

    def _int16(self, field: str) -> int:
        value: int = _INT16.unpack(self._take(2, field))[0]
        return value

    def int32(self, field: str) -> int:
        value: int = _INT32.unpack(self._take(4, field))[0]
        return value

    def count(self, field: str, shortest: int) -> int:
        """The length of an array whose elements take at least `shortest` bytes each."""
        count = self.int32(field)
        if not 0 <= count <= (len(self._data) - self._at) // shortest:
            raise self._wrong(f"{count} {field} do not fit the {len(self._data) - self._at} bytes that follow")
        return count

    def string(self, field: str) -> str:
        value = self.nullable_string(field)
        if value is None:
            raise self._wrong(f"{field} is null")
        return value

    def nullable_string(self, field: str) -> str | None:
        size = self._int16(field)
        if size == NONE_ID:
            return None
        if size < 0:
            raise self._wrong(f"{field} has a length of {size}")
        try:
            return self._take(size, field).decode()
        except UnicodeDecodeError:
            raise self._wrong(f"{field} is not UTF-8") from None

    def nullable_bytes(self, field: str) -> bytes | None:
        size = self.int32(field)
        if size == NONE_ID:
            return None
        if size < 0:
            raise self._wrong(f"{field} has a length of {size}")
        return self._take(size, field)

    def partitions(self, field: str) -> tuple[TopicPartition, ...]:
        found: list[TopicPartition] = []
        for _ in range(self.count(field, _SHORTEST_TOPIC)):
            topic = self.string("topic")
            count = self.count(f"partitions of topic {topic!r}", _INT32.size)
            numbers = struct.unpack(f">{count}i", self._take(_INT32.size * count, field))
            if numbers and min(numbers) < 0:
                raise self._wrong(f"{min(numbers)} is no partition of topic {topic!r}")
            found.extend(TopicPartition(topic, number) for number in numbers)
        return tuple(found)


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ConsumerProtocolError(f"{value!r} cannot be written as UTF-8") from None
