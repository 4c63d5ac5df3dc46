"""Snapshots: the state machine's bytes with the two entries that the journal begins with after them, on disk and in
parts on the wire.

It stands where pysyncobj has its `Serializer`, whose calls it answers: no fork, no pickle, a checksum over the whole,
and a file that is damaged stops the node instead of being left out.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .file_system import FileSystem
from .raft_contract import DataFolderError, Entry
from .way_out import WAY_OUT

logger = logging.getLogger(__name__)

MAGIC: Final = b"KLAMMRS1"
_CRC: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<QQIQQIQ")  # previous: index, term, length; last: index, term, length; state's length
_NOT_SERIALIZING: Final = 0  # pysyncobj.config.SERIALIZER_STATE
_SUCCESS: Final = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after entry `last` was applied. `previous` is the entry before it: the library's log has both."""

    previous: Entry
    last: Entry
    state: bytes

    def encode(self) -> bytes:
        """The file's bytes."""
        (before, before_index, before_term), (last, last_index, last_term) = self.previous, self.last
        lengths = (before_index, before_term, len(before), last_index, last_term, len(last), len(self.state))
        body = _HEAD.pack(*lengths) + before + last + self.state
        return MAGIC + _CRC.pack(zlib.crc32(body)) + body

    @classmethod
    def decode(cls, data: bytes) -> Snapshot | None:
        """None if the bytes are damaged."""
        start = len(MAGIC) + _CRC.size
        body = data[start:]
        if (
            not data.startswith(MAGIC)
            or len(body) < _HEAD.size
            or _CRC.pack(zlib.crc32(body)) != data[len(MAGIC) : start]
        ):
            return None
        before_index, before_term, before_length, last_index, last_term, last_length, length = _HEAD.unpack_from(body)
        if len(body) != _HEAD.size + before_length + last_length + length or last_index != before_index + 1:
            return None
        last_at = _HEAD.size + before_length
        state_at = last_at + last_length
        return cls(
            (body[_HEAD.size : last_at], before_index, before_term),
            (body[last_at:state_at], last_index, last_term),
            body[state_at:],
        )


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """A piece of the encoded snapshot whose last entry has this index and term."""

    last_index: int
    last_term: int
    offset: int
    total_bytes: int
    data: bytes

    @property
    def is_last(self) -> bool:
        """True if nothing follows."""
        return self.offset + len(self.data) >= self.total_bytes


class SnapshotAssembler:
    """Puts parts together; a gap or another snapshot begins it anew."""

    def __init__(self) -> None:
        self._key: tuple[Hashable, ...] | None = None
        self._received = bytearray()

    def add(self, sender: Hashable, part: SnapshotPart) -> Snapshot | None:
        """The snapshot, if this part completes it and it is sound; else None."""
        key = (sender, part.last_index, part.last_term, part.total_bytes)
        if part.offset == 0:
            self._key, self._received = key, bytearray()
        if key != self._key or part.offset != len(self._received):
            return None
        self._received += part.data
        if len(self._received) < part.total_bytes:
            return None
        data, self._key, self._received = bytes(self._received), None, bytearray()
        snapshot = Snapshot.decode(data)
        if snapshot is None or (snapshot.last[1], snapshot.last[2]) != (part.last_index, part.last_term):
            logger.error("snapshot_received_corrupt last_index=%d bytes=%d", part.last_index, len(data))
            return None
        return snapshot


class SnapshotStore:
    """The newest snapshot on disk, and the sending of it."""

    FILE_NAME = "metadata.snapshot"

    def __init__(self, file_system: FileSystem, folder: Path, take: Callable[[], bytes], part_bytes: int) -> None:
        self._file_system = file_system
        self._path = folder / self.FILE_NAME
        self._take = take
        self._part_bytes = part_bytes
        self._fresh_id: int | None = None  # taken, and not reported to the library yet
        self._sending: dict[Hashable, tuple[Snapshot, bytes, int]] = {}

    @property
    def path(self) -> Path:
        """Of the file."""
        return self._path

    def load(self) -> Snapshot | None:
        """What is on disk; None if no snapshot was ever taken. :raises DataFolderError: it is damaged"""
        data = self._file_system.read(self._path)
        if data is None:
            return None
        snapshot = Snapshot.decode(data)
        if snapshot is None:
            raise DataFolderError(f"{self._path}: corrupt or torn (its checksum does not match). {WAY_OUT}")
        return snapshot

    def require_fit(self, snapshot: Snapshot | None, first_index: int) -> None:
        """:raises DataFolderError: there is a gap between the snapshot and a journal that begins with `first_index`"""
        last_index = 1 if snapshot is None else snapshot.last[1]
        # A snapshot is stored before the journal is cut, and the cut leaves its last two entries.
        latest_first = 1 if snapshot is None else snapshot.previous[1]
        if first_index > latest_first:
            raise DataFolderError(
                f"{self._path}: missing or old: it ends with entry {last_index}, but the journal begins with entry "
                f"{first_index}. {WAY_OUT}"
            )

    def store(self, snapshot: Snapshot) -> None:
        """Returns once it is on the disk."""
        self._file_system.replace(self._path, snapshot.encode())
        self._sending.clear()

    # What pysyncobj calls.

    def serialize(self, data: tuple[object, Entry, Entry, object], last_kept: int) -> None:
        """Takes a snapshot, on the disk when this returns."""
        _, last, previous, _ = data
        self.store(Snapshot(previous, last, self._take()))
        self._fresh_id = last_kept
        logger.info("snapshot_taken last_index=%d term=%d", last[1], last[2])

    def checkSerializing(self) -> tuple[int, int | None]:
        """Says once that a snapshot was taken, and which entry the journal may begin with now."""
        fresh_id, self._fresh_id = self._fresh_id, None
        return (_NOT_SERIALIZING, None) if fresh_id is None else (_SUCCESS, fresh_id)

    def getTransmissionData(self, transmissionID: Hashable) -> tuple[SnapshotPart, bool, bool]:
        """The next part for this node, whether it is the first, and whether the last."""
        sending = self._sending.get(transmissionID)
        if sending is None:
            snapshot = self.load()
            if snapshot is None:
                raise DataFolderError(f"{self._path}: missing, and the journal no longer reaches back. {WAY_OUT}")
            sending = (snapshot, snapshot.encode(), 0)
        snapshot, encoded, offset = sending
        data = encoded[offset : offset + self._part_bytes]
        part = SnapshotPart(snapshot.last[1], snapshot.last[2], offset, len(encoded), data)
        if part.is_last:
            self._sending.pop(transmissionID, None)
        else:
            self._sending[transmissionID] = (snapshot, encoded, offset + len(data))
        return part, offset == 0, part.is_last

    def setTransmissionData(self, data: Snapshot) -> bool:
        """Stores a snapshot that came whole; True: it is on the disk."""
        self.store(data)
        return True

    def cancelTransmisstion(self, transmissionID: Hashable) -> None:
        """The node cannot be reached: the next transmission begins anew."""
        self._sending.pop(transmissionID, None)
