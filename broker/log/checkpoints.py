"""The small text files beside the logs, in Kafka's formats. Each is replaced at one stroke, or it was not written at
all.

A reader never guesses: a file that is torn in any way, were it only the last line's end, raises CorruptFileError, and
its caller does what loses nothing (recovers from the start, rebuilds from the batches).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final
from uuid import UUID

from ...proto.identifiers import BrokerEpoch, LeaderEpoch, Offset, TopicId, TopicPartition
from .epoch_cache import EpochEntry
from .errors import CorruptFileError
from .file_system import FileSystem, read_file, remove_if_present, write_file_atomically

RECOVERY_POINT_CHECKPOINT: Final = "recovery-point-offset-checkpoint"
HIGH_WATERMARK_CHECKPOINT: Final = "replication-offset-checkpoint"
LOG_START_CHECKPOINT: Final = "log-start-offset-checkpoint"
CLEANER_CHECKPOINT: Final = "cleaner-offset-checkpoint"
LEADER_EPOCH_CHECKPOINT: Final = "leader-epoch-checkpoint"
PARTITION_METADATA: Final = "partition.metadata"
CLEAN_SHUTDOWN: Final = ".kafka_cleanshutdown"
_VERSION: Final = "0"


def write_offsets(file_system: FileSystem, path: str, offsets: Mapping[TopicPartition, Offset]) -> None:
    """One `topic partition offset` a line."""
    lines = [f"{topic} {partition} {offset}" for (topic, partition), offset in sorted(offsets.items())]
    _write_lines(file_system, path, lines)


def read_offsets(file_system: FileSystem, path: str) -> dict[TopicPartition, Offset]:
    """Empty if there is no file. :raises CorruptFileError: it is torn."""
    found = {}
    for topic, partition, offset in _read_lines(file_system, path, 3):
        found[TopicPartition(topic, _number(path, partition))] = Offset(_number(path, offset))
    return found


def write_epochs(file_system: FileSystem, path: str, entries: Iterable[EpochEntry], *, sync: bool = True) -> None:
    """One `epoch start-offset` a line. Without `sync` it survives a crash of the process alone, until it is synced."""
    _write_lines(file_system, path, [f"{epoch} {start}" for epoch, start in entries], sync=sync)


def read_epochs(file_system: FileSystem, path: str) -> list[EpochEntry] | None:
    """None if there is no file. :raises CorruptFileError: it is torn, or its entries do not grow."""
    if file_system.status(path) is None:
        return None
    entries = [
        EpochEntry(LeaderEpoch(_number(path, epoch)), Offset(_number(path, start)))
        for epoch, start in _read_lines(file_system, path, 2)
    ]
    for before, after in pairwise(entries):
        if after.epoch <= before.epoch or after.start_offset <= before.start_offset:
            raise CorruptFileError(f"{path}: {after} does not follow {before}")
    return entries


def _write_lines(file_system: FileSystem, path: str, lines: list[str], *, sync: bool = True) -> None:
    text = "\n".join([_VERSION, str(len(lines)), *lines]) + "\n"
    write_file_atomically(file_system, path, text.encode(), sync=sync)


def _read_lines(file_system: FileSystem, path: str, fields: int) -> list[list[str]]:
    try:
        text = read_file(file_system, path).decode()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not text") from error
    lines = text.split("\n")
    if lines.pop() != "" or len(lines) < 2 or lines[0] != _VERSION:
        raise CorruptFileError(f"{path} does not begin with its version or does not end with a whole line")
    rows = [line.split(" ") for line in lines[2:]]
    if len(rows) != _number(path, lines[1]) or any(len(row) != fields for row in rows):
        raise CorruptFileError(f"{path} says {lines[1]} entries and holds {len(rows)}, or one is not whole")
    return rows


def _number(path: str, text: str) -> int:
    if not text.isdecimal() or not text.isascii():
        raise CorruptFileError(f"{path}: {text[:40]!r} is not a number")
    return int(text)


def encode_uuid(value: UUID) -> str:
    """Kafka's spelling of a UUID: base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")


def decode_uuid(text: str) -> UUID:
    """:raises ValueError: it is not 22 characters of base64."""
    try:
        return UUID(bytes=base64.b64decode(text + "==", altchars=b"-_", validate=True))
    except binascii.Error as error:
        raise ValueError(f"{text!r} is not a base64 UUID") from error


def write_topic_id(file_system: FileSystem, folder: str, topic_id: TopicId) -> None:
    """Writes `partition.metadata`. It is synced with the log's first flush: until then there is nothing to be kept."""
    text = f"version: {_VERSION}\ntopic_id: {encode_uuid(topic_id)}"
    write_file_atomically(file_system, f"{folder}/{PARTITION_METADATA}", text.encode(), sync=False)


def read_topic_id(file_system: FileSystem, folder: str) -> TopicId | None:
    """None if there is no file. :raises CorruptFileError: it is torn."""
    path = f"{folder}/{PARTITION_METADATA}"
    try:
        lines = read_file(file_system, path).decode().splitlines()
        version, topic_id = (line.split(": ", 1)[1] for line in lines)
        if version != _VERSION:
            raise CorruptFileError(f"{path} has version {version!r}; only {_VERSION} is known")
        return decode_uuid(topic_id)
    except FileNotFoundError:
        return None
    except (ValueError, IndexError) as error:
        raise CorruptFileError(f"{path} is torn") from error


def write_clean_shutdown(file_system: FileSystem, folder: str, broker_epoch: BrokerEpoch) -> None:
    """Says that everything below is on disk, and which broker epoch wrote it (KIP-966)."""
    content = json.dumps({"version": 0, "brokerEpoch": broker_epoch}, separators=(",", ":"))
    write_file_atomically(file_system, f"{folder}/{CLEAN_SHUTDOWN}", content.encode())
    file_system.sync_folder(folder)


def read_clean_shutdown(file_system: FileSystem, folder: str) -> BrokerEpoch | None:
    """The broker epoch in the marker; None if the last stop was not clean, or the marker cannot be read."""
    try:
        content = json.loads(read_file(file_system, f"{folder}/{CLEAN_SHUTDOWN}"))
        return BrokerEpoch(int(content["brokerEpoch"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None


def remove_clean_shutdown(file_system: FileSystem, folder: str) -> None:
    """Takes the marker away, for good: from here on a crash is a crash."""
    remove_if_present(file_system, f"{folder}/{CLEAN_SHUTDOWN}")
    file_system.sync_folder(folder)
