"""From the records of one partition of __consumer_offsets to groups and offsets: what a coordinator does to load it.

A record that cannot be read is logged and passed over, as is one of a kind that is not known here: it may be left over
from a newer version. It is the last record of a key that counts, and a group of one type takes the place of one of the
other only after a tombstone, so records are taken one by one in the order of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from . import consumer_group_codec
from .classic_group import ClassicGroup
from .committed_offsets import CommittedOffsets
from .consumer_group import ConsumerGroup
from .group_factory import GroupFactory
from .group_log import LogRecord
from .records import (
    GroupMetadataKey,
    InvalidGroupRecordError,
    OffsetKey,
    parse_key,
    parse_offset_value,
)

logger = logging.getLogger(__name__)


class GroupReplay:
    """Feed it every record of the partition, then take `offsets` and `groups`."""

    def __init__(self, name: str, factory: GroupFactory) -> None:
        """`name` is that of the partition, for the log."""
        self._name = name
        self._factory = factory
        self._classic: dict[str, bytes] = {}  # the last generation written; parsed at the end
        self._consumer: dict[str, ConsumerGroup] = {}
        self.offsets = CommittedOffsets()
        self.record_count = 0
        self.skipped_count = 0

    def replay(self, record: LogRecord) -> None:
        """Takes up one record."""
        self.record_count += 1
        try:
            known = self._replay(record.key, record.value)
        except InvalidGroupRecordError as error:
            self._skip(record, str(error))
        else:
            if not known:
                self._skip(record, "of a kind or version that is not known here")

    def _skip(self, record: LogRecord, why: str) -> None:
        self.skipped_count += 1
        logger.warning("group_record_skipped partition=%s offset=%d reason=%s", self._name, record.offset, why)

    def _replay(self, key_bytes: bytes, value: bytes | None) -> bool:
        key = parse_key(key_bytes)
        if isinstance(key, OffsetKey):
            self.offsets.load(key, None if value is None else parse_offset_value(value))
            return True
        if isinstance(key, GroupMetadataKey):
            self._classic.pop(key.group, None)
            if value is not None:
                self._classic[key.group] = value
            return True
        return self._replay_consumer(key_bytes, value)

    def _replay_consumer(self, key_bytes: bytes, data: bytes | None) -> bool:
        key = consumer_group_codec.parse_key(key_bytes)
        if key is None:
            return False
        group = self._consumer.get(key.group_id)
        if data is None:
            value = None
        else:
            value = consumer_group_codec.parse_value(key, data)
            if value is None:
                return False
        if group is None:
            if value is None:
                return True  # nothing there to be removed
            group = self._consumer[key.group_id] = self._factory.consumer(key.group_id)
        # Compaction may have left other records of the group ahead of those that say that it exists.
        group.replay(key, value)
        return True

    def groups(self) -> Iterator[ClassicGroup | ConsumerGroup]:
        """All groups, made as they are taken: sessions begin then. Offsets without a group have a simple one."""
        made: set[str] = set()
        for group_id, group in self._consumer.items():
            if not group.is_gone:
                yield group
                made.add(group_id)
        for group_id, value in self._classic.items():
            if group_id in made:
                continue  # never by a coordinator: a group of one type is removed before one of the other comes
            try:
                yield self._factory.classic_from_record(group_id, value)
                made.add(group_id)
            except InvalidGroupRecordError as error:
                logger.warning("group_skipped partition=%s group=%s reason=%s", self._name, group_id, error)
        for group_id in self.offsets.group_ids():
            if group_id not in made:
                yield self._factory.classic(group_id)
