"""The request of Fetch, read by hand: consumers send thousands of them a second. Pure."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from uuid import UUID

from .wire import Cursor

FLEXIBLE: Final = 12
TOPIC_IDS: Final = 13
SESSIONS: Final = 7

_OLDEST: Final = struct.Struct(">iqi")  # version 4
_OLD: Final = struct.Struct(">iqqi")  # 5 to 8
_WITH_EPOCH: Final = struct.Struct(">iiqqi")  # 9 to 11
_WITH_EPOCHS: Final = struct.Struct(">iiqiqi")  # 12 and up


class FetchPartition(NamedTuple):
    """What is wanted of one partition; -1 for none, as on the wire."""

    topic: str  # "" where topics are named by id
    topic_id: UUID | None
    partition: int
    current_leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    partition_max_bytes: int


class FetchRequest(NamedTuple):
    replica_id: int
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    read_committed: bool
    session_id: int
    session_epoch: int
    partitions: list[FetchPartition]
    forgotten: list[tuple[str, UUID | None, int]]
    rack_id: str


def read_request(frame: bytearray, position: int, version: int) -> FetchRequest:
    """:raises WireError: the bytes are not a fetch request."""
    flexible = version >= FLEXIBLE
    cursor = Cursor(frame, position)
    replica_id = cursor.int32() if version < 15 else -1
    max_wait_ms, min_bytes, max_bytes = cursor.int32(), cursor.int32(), cursor.int32()
    isolation_level = cursor.int8()
    session_id, session_epoch = (cursor.int32(), cursor.int32()) if version >= SESSIONS else (0, -1)
    partitions: list[FetchPartition] = []
    for _ in range(cursor.full_count(flexible)):
        _read_topic(cursor, version, partitions)
    forgotten: list[tuple[str, UUID | None, int]] = []
    if version >= SESSIONS:
        for _ in range(cursor.full_count(flexible)):
            topic, topic_id = _topic(cursor, version)
            forgotten += [(topic, topic_id, cursor.int32()) for _ in range(cursor.full_count(flexible))]
            if flexible:
                cursor.skip_tags()
    rack_id = cursor.string(flexible) if version >= 11 else ""
    if flexible:
        replica_id = _read_tags(cursor, replica_id)
    return FetchRequest(
        replica_id,
        max_wait_ms,
        min_bytes,
        max_bytes,
        isolation_level == 1,
        session_id,
        session_epoch,
        partitions,
        forgotten,
        rack_id,
    )


def _topic(cursor: Cursor, version: int) -> tuple[str, UUID | None]:
    return ("", cursor.uuid()) if version >= TOPIC_IDS else (cursor.string(version >= FLEXIBLE), None)


def _read_topic(cursor: Cursor, version: int, partitions: list[FetchPartition]) -> None:
    flexible = version >= FLEXIBLE
    topic, topic_id = _topic(cursor, version)
    for _ in range(cursor.full_count(flexible)):
        current_leader_epoch = last_fetched_epoch = -1
        if flexible:
            number, current_leader_epoch, offset, last_fetched_epoch, _, max_bytes = cursor.unpack(_WITH_EPOCHS)
            cursor.skip_tags()
        elif version >= 9:
            number, current_leader_epoch, offset, _, max_bytes = cursor.unpack(_WITH_EPOCH)
        elif version >= 5:
            number, offset, _, max_bytes = cursor.unpack(_OLD)
        else:
            number, offset, max_bytes = cursor.unpack(_OLDEST)
        partitions.append(
            FetchPartition(topic, topic_id, number, current_leader_epoch, offset, last_fetched_epoch, max_bytes)
        )
    if flexible:
        cursor.skip_tags()


def _read_tags(cursor: Cursor, replica_id: int) -> int:
    """Of the request's tagged fields only the replica's id matters."""
    for _ in range(cursor.uvarint()):
        tag, size = cursor.uvarint(), cursor.uvarint()
        inner = Cursor(cursor.view(size))
        if tag == 1:
            replica_id = inner.int32()
    return replica_id
