"""The names of partition folders, and what a data folder holds of them at start."""

from __future__ import annotations

import logging
import re
from typing import Final, NamedTuple
from uuid import uuid4

from ...proto.identifiers import TopicId, TopicPartition
from .checkpoints import read_topic_id
from .errors import CorruptFileError
from .file_system import FileSystem
from .segment import LOG_SUFFIX

logger = logging.getLogger(__name__)

DELETE_SUFFIX: Final = "-delete"
STRAY_SUFFIX: Final = "-stray"
_NAME_MAX: Final = 255
_PARTITION_FOLDER: Final = re.compile(r"([a-zA-Z0-9._-]+)-(\d+)")
_GONE_FOLDER: Final = re.compile(r".+-\d+\.[0-9a-f]{32}(-delete|-stray)")


class FoundLog(NamedTuple):
    """A folder that holds a log."""

    topic_partition: TopicPartition
    topic_id: TopicId
    directory: str


def deleted_name(topic_partition: TopicPartition, unique: str) -> str:
    """The folder's name between a partition's deletion and its removal."""
    return _gone_name(topic_partition, unique, DELETE_SUFFIX)


def stray_name(topic_partition: TopicPartition, unique: str) -> str:
    """The folder's name once it was set aside (rule 24)."""
    return _gone_name(topic_partition, unique, STRAY_SUFFIX)


def _gone_name(topic_partition: TopicPartition, unique: str, suffix: str) -> str:
    tail = f"-{topic_partition.partition}.{unique}{suffix}"
    return topic_partition.topic[: _NAME_MAX - len(tail)] + tail


def scan_folders(file_system: FileSystem, folder: str) -> tuple[list[FoundLog], list[str]]:
    """The logs in the data folder, and folders that may be removed. Sets aside data that nobody can name.

    :raises OSError: the disk failed.
    """
    found, removable = [], []
    for name in sorted(file_system.list_folder(folder)):
        directory = f"{folder}/{name}"
        if not file_system.is_folder(directory):
            continue
        if gone := _GONE_FOLDER.fullmatch(name):
            if gone[1] == DELETE_SUFFIX:
                removable.append(directory)
            continue
        match = _PARTITION_FOLDER.fullmatch(name)
        if match is None:
            logger.warning("unknown_folder path=%s", directory)
            continue
        topic_partition = TopicPartition(match[1], int(match[2]))
        topic_id = _topic_id(file_system, directory)
        if topic_id is not None:
            found.append(FoundLog(topic_partition, topic_id, directory))
        elif _holds_data(file_system, directory):
            aside = f"{folder}/{stray_name(topic_partition, uuid4().hex)}"
            logger.error("log_without_topic_id_set_aside path=%s now=%s", directory, aside)
            file_system.replace(directory, aside)
        else:  # a crash while the log was being made
            removed = f"{folder}/{deleted_name(topic_partition, uuid4().hex)}"
            file_system.replace(directory, removed)
            removable.append(removed)
    return found, removable


def _topic_id(file_system: FileSystem, directory: str) -> TopicId | None:
    try:
        return read_topic_id(file_system, directory)
    except CorruptFileError as error:
        logger.error("partition_metadata_torn path=%s error=%s", directory, error)
        return None


def _holds_data(file_system: FileSystem, directory: str) -> bool:
    for name in file_system.list_folder(directory):
        status = file_system.status(f"{directory}/{name}")
        if name.endswith(LOG_SUFFIX) and status is not None and status.size:
            return True
    return False
