"""Topics of a Metadata answer as bytes, written by hand and kept: a client that asks for thousands costs little.

An image shares what did not change with the image before it, the very same objects. So the bytes that were made of a
topic hold as long as the topic is that object and the same brokers are alive. kio's encoder would need 10 us and more
for each partition.
"""

from __future__ import annotations

import asyncio
import io
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ...cluster.image import Endpoint, MetadataImage, PartitionImage, TopicImage
from ...cluster.topic_config import is_internal_topic
from ...proto.errors import ErrorCode
from ...proto.identifiers import KAFKA_LISTENER, NONE_ID, BrokerId, TopicId
from ..description import missing_topic_error
from .authorized_operations import NOT_ASKED
from .messages import response_writer
from .topic_view import LeaderView, alive_brokers, leader_of, offline_replicas

TURN_SECONDS_MAX: Final = 0.005
"""Others have their turn after this long."""
_VARIANTS_MAX: Final = 6
_REPLICA_SETS_MAX: Final = 10_000
_HEAD: Final = struct.Struct(">hii")  # error, partition, leader
_HEAD_WITH_EPOCH: Final = struct.Struct(">hiii")
_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")


@dataclass(slots=True)
class TopicDescriptions:
    """Of all versions that are in use; belongs to the broker, lives on its event loop."""

    _variants: dict[tuple[int, int], EncodedTopics] = field(default_factory=dict)
    _brokers: object = None  # the very mapping of the image that the variants were made of
    _signature: object = None

    def of(self, image: MetadataImage, version: int, operations: int) -> EncodedTopics:
        """What encodes topics of this image, in one version and with these authorized operations."""
        if self._brokers is not image.brokers:
            self._take_brokers(image)
        variant = self._variants.pop((version, operations), None) or EncodedTopics(version, operations)
        self._variants[version, operations] = variant  # the last one used stands last
        if len(self._variants) > _VARIANTS_MAX:
            del self._variants[next(iter(self._variants))]
        variant.take(image)
        return variant

    def _take_brokers(self, image: MetadataImage) -> None:
        """What is encoded depends on which brokers there are, are alive, and have the listener."""
        signature = {
            broker_id: (broker.fenced, KAFKA_LISTENER in broker.endpoints)
            for broker_id, broker in image.brokers.items()
        }
        if signature != self._signature:
            self._variants.clear()
        self._brokers, self._signature = image.brokers, signature


class EncodedTopics:
    """Topics in one version of Metadata."""

    def __init__(self, version: int, operations: int) -> None:
        self._version = version
        self._flexible = version >= 9
        self._operations = operations
        self._tail = b"\x00" if self._flexible else b""  # no tagged fields
        self._encoded: dict[TopicId, tuple[TopicImage, bytes]] = {}
        self._leaders: dict[BrokerId | None, LeaderView] = {}  # the same brokers: the same answer
        self._replica_sets: dict[tuple[BrokerId, ...], bytes] = {}
        self._image = MetadataImage.empty()
        self._alive: dict[BrokerId, Endpoint] = {}

    def take(self, image: MetadataImage) -> None:
        """Goes on with a newer image of the same brokers. Topics that are gone are forgotten now and then."""
        self._image, self._alive = image, alive_brokers(image)
        if len(self._encoded) > 2 * len(image.topics) + 100:
            self._encoded = {
                topic_id: entry for topic_id, entry in self._encoded.items() if topic_id in image.topic_names
            }

    def topic(self, topic: TopicImage) -> bytes:
        """A topic that there is."""
        known = self._encoded.get(topic.topic_id)
        if known is not None and known[0] is topic:
            return known[1]
        partitions = b"".join(map(self._partition, topic.partitions))
        encoded = self._topic(ErrorCode.NONE, topic.name, topic.topic_id.bytes, len(topic.partitions), partitions)
        self._encoded[topic.topic_id] = (topic, encoded)
        return encoded

    def missing(self, name: str) -> bytes:
        """A name that no topic has."""
        return self._topic(missing_topic_error(name), name, bytes(16), 0, b"")

    def unknown_id(self, topic_id: TopicId) -> bytes:
        """An id that no topic has."""
        return self._topic(ErrorCode.UNKNOWN_TOPIC_ID, None, topic_id.bytes, 0, b"")

    def refused(self, name: str | None, topic_id: TopicId | None) -> bytes:
        """A topic that was asked for in a way that this version does not have."""
        id_bytes = bytes(16) if topic_id is None else topic_id.bytes
        return self._topic(ErrorCode.INVALID_REQUEST, name or "", id_bytes, 0, b"")

    def _topic(self, error: ErrorCode, name: str | None, topic_id: bytes, count: int, partitions: bytes) -> bytes:
        version = self._version
        parts = [_INT16.pack(error), self._string(name)]
        if version >= 10:
            parts.append(topic_id)
        if version >= 1:
            parts.append(b"\x01" if name is not None and is_internal_topic(name) else b"\x00")
        parts += (self.array_length(count), partitions)
        if version >= 8:
            parts.append(_INT32.pack(NOT_ASKED if error is ErrorCode.UNKNOWN_TOPIC_ID else self._operations))
        parts.append(self._tail)
        return b"".join(parts)

    def _partition(self, partition: PartitionImage) -> bytes:
        version = self._version
        leader_id, error = self._leader_of(partition)
        replicas, isr = partition.replicas, partition.isr
        if version == 0:
            replicas = tuple(replica for replica in replicas if replica in self._alive)
            isr = tuple(member for member in isr if member in self._alive)
            lacking = len(replicas) < len(partition.replicas) or len(isr) < len(partition.isr)
            if error is ErrorCode.NONE and lacking:
                error = ErrorCode.REPLICA_NOT_AVAILABLE
        if version >= 7:
            head = _HEAD_WITH_EPOCH.pack(error, partition.partition, leader_id, partition.leader_epoch)
        else:
            head = _HEAD.pack(error, partition.partition, leader_id)
        if version < 5:
            return b"".join((head, self._brokers(replicas), self._brokers(isr), self._tail))
        offline = self._brokers(offline_replicas(partition, self._alive))
        return b"".join((head, self._brokers(replicas), self._brokers(isr), offline, self._tail))

    def _leader_of(self, partition: PartitionImage) -> LeaderView:
        found = self._leaders.get(partition.leader)
        if found is None:
            found = leader_of(self._image, partition)
            if found.error is ErrorCode.LISTENER_NOT_FOUND and self._version < 6:
                found = LeaderView(found.leader_id, ErrorCode.LEADER_NOT_AVAILABLE)
            self._leaders[partition.leader] = found
        return found

    def _brokers(self, broker_ids: tuple[BrokerId, ...]) -> bytes:
        encoded = self._replica_sets.get(broker_ids)
        if encoded is None:
            encoded = self.array_length(len(broker_ids)) + struct.pack(f">{len(broker_ids)}i", *broker_ids)
            if len(self._replica_sets) < _REPLICA_SETS_MAX:
                self._replica_sets[broker_ids] = encoded
        return encoded

    def _string(self, text: str | None) -> bytes:
        if text is None:
            return b"\x00" if self._flexible else _INT16.pack(NONE_ID)
        data = text.encode()
        return (_uvarint(len(data) + 1) if self._flexible else _INT16.pack(len(data))) + data

    def array_length(self, count: int) -> bytes:
        """What stands before the elements of an array."""
        return _uvarint(count + 1) if self._flexible else _INT32.pack(count)

    async def topics(self, topics: Sequence[TopicImage]) -> list[bytes]:
        """Many topics; others have their turn meanwhile."""
        encoded = []
        turn_ends = time.monotonic() + TURN_SECONDS_MAX
        for topic in topics:
            encoded.append(self.topic(topic))
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + TURN_SECONDS_MAX
        return encoded

    def whole(self, answer: Any, topics: Iterable[bytes]) -> bytes:
        """The bytes of kio's `answer`, which has no topics, with these put in."""
        buffer = io.BytesIO()
        response_writer("metadata", self._version)(buffer, answer)
        empty = buffer.getvalue()
        # Behind the topics come only fields of a fixed size: authorized operations, the error, tagged fields.
        behind = (4 if 8 <= self._version <= 10 else 0) + (2 if self._version >= 13 else 0) + len(self._tail)
        split = len(empty) - behind
        parts = list(topics)
        head = empty[: split - len(self.array_length(0))]
        return b"".join((head, self.array_length(len(parts)), *parts, empty[split:]))


def _uvarint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
