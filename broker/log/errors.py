"""What can go wrong with a log on disk, beyond the errors that Kafka's protocol names.

KafkaStorageError                (proto/errors.py) the disk failed; another replica will lead
+-- LogCorruptError              bytes that once were good are not any more; this replica must refetch them
LogDirectoryError                the data folder cannot be used by this process at all; the node must not start
CorruptFileError                 a small file (checkpoint, index, snapshot) is torn; its reader rebuilds it
"""

from __future__ import annotations

from ...proto.errors import KafkaStorageError
from ...proto.identifiers import Offset, TopicPartition


class LogCorruptError(KafkaStorageError):
    """A batch on disk failed its checks; `offset` is the first that cannot be served."""

    def __init__(self, topic_partition: TopicPartition, path: str, offset: Offset, reason: str) -> None:
        super().__init__(f"{topic_partition}: {path} is corrupt at offset {offset}: {reason}")
        self.topic_partition = topic_partition
        self.path = path
        self.offset = offset
        self.reason = reason


class LogDirectoryError(Exception):
    """The data folder is locked, or belongs to another node or cluster; the message says what to do."""


class CorruptFileError(Exception):
    """A checkpoint, index or snapshot that cannot be what was written: it was torn or damaged."""
