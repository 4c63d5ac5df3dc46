"""The committed offsets of all groups of one partition of __consumer_offsets. Pure.

There are two views of them. `committed` is what every replica in sync has: only this may be shown without waiting, as
nobody can lose it any more. `latest` also counts what is in the leader's log and on its way to the replicas: what is
decided next builds on it. A change enters with the end offset of its batch and becomes committed when the high
watermark reaches that, in the order of the log.

Expiry is KIP-211's: a group's offsets expire together, a retention time after the group became empty; those of a group
without members of its own, or of a topic that nobody in the group reads any more, each after its own commit.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from ...proto.identifiers import Offset, TopicPartition
from .records import OffsetKey, OffsetValue

Change = tuple[OffsetKey, OffsetValue | None]
"""An offset that is committed, or with None deleted."""
OffsetsOfGroup = dict[TopicPartition, OffsetValue]


@dataclass(frozen=True, slots=True)
class ExpiryRule:
    """When the offsets of one group expire. Times are wall clock, ms."""

    retention_ms: int
    since_ms: int | None  # when the group became empty; None: each offset counts from its own commit
    is_subscribed_to: Callable[[str], bool]  # such a topic's offsets stay

    def expired(self, topic: str, value: OffsetValue, wall_ms: int) -> bool:
        """True if this offset's time is up."""
        if self.is_subscribed_to(topic):
            return False
        if value.expire_timestamp_ms is not None:  # asked for by the client, before OffsetCommit version 5
            return wall_ms >= value.expire_timestamp_ms
        since_ms = value.commit_timestamp_ms if self.since_ms is None else self.since_ms
        return wall_ms - since_ms >= self.retention_ms


class CommittedOffsets:
    """See the module."""

    def __init__(self) -> None:
        self._committed: dict[str, OffsetsOfGroup] = {}  # no empty inner mapping
        # What is appended and not committed: by group the newest change of each partition with its batch's end offset,
        # and all changes in the order of the log.
        self._newest: dict[str, dict[TopicPartition, tuple[Offset, OffsetValue | None]]] = {}
        self._pending: deque[tuple[Offset, Sequence[Change]]] = deque()

    # --- changes ---

    def load(self, key: OffsetKey, value: OffsetValue | None) -> None:
        """A record found in the log, all of which counts as committed once the coordinator serves."""
        self._commit(key, value)

    def appended(self, end_offset: Offset, changes: Sequence[Change]) -> None:
        """They are in the leader's log, in a batch that ends before `end_offset`."""
        if not changes:
            return
        self._pending.append((end_offset, changes))
        for key, value in changes:
            newest = self._newest.setdefault(key.group, {})
            newest[_topic_partition(key)] = (end_offset, value)

    def commit_through(self, high_watermark: Offset) -> None:
        """Every replica in sync has the log up to here."""
        pending = self._pending
        while pending and pending[0][0] <= high_watermark:
            end_offset, changes = pending.popleft()
            for key, value in changes:
                self._commit(key, value)
                self._settle(key, end_offset)

    def _commit(self, key: OffsetKey, value: OffsetValue | None) -> None:
        offsets = self._committed.get(key.group)
        if value is not None:
            if offsets is None:
                offsets = self._committed[key.group] = {}
            offsets[_topic_partition(key)] = value
        elif offsets is not None:
            offsets.pop(_topic_partition(key), None)
            if not offsets:
                del self._committed[key.group]

    def _settle(self, key: OffsetKey, end_offset: Offset) -> None:
        newest = self._newest.get(key.group)
        topic_partition = _topic_partition(key)
        if newest is None or topic_partition not in newest or newest[topic_partition][0] > end_offset:
            return
        del newest[topic_partition]
        if not newest:
            del self._newest[key.group]

    # --- views ---

    def committed(self, group_id: str) -> OffsetsOfGroup:
        """What nobody can lose any more; not to be changed."""
        return self._committed.get(group_id, {})

    def latest(self, group_id: str) -> OffsetsOfGroup:
        """All that is in the log; a copy."""
        offsets = dict(self._committed.get(group_id, {}))
        for topic_partition, (_, value) in self._newest.get(group_id, {}).items():
            if value is None:
                offsets.pop(topic_partition, None)
            else:
                offsets[topic_partition] = value
        return offsets

    def pending_end_offset(self, group_id: str) -> Offset | None:
        """Where the high watermark must be for `latest` of this group to be committed; None: it is."""
        newest = self._newest.get(group_id)
        return None if newest is None else max(end_offset for end_offset, _ in newest.values())

    def has_any(self, group_id: str) -> bool:
        """True if `latest` is not empty."""
        return bool(self._committed.get(group_id) if group_id not in self._newest else self.latest(group_id))

    def group_ids(self) -> list[str]:
        """All groups that have offsets, or may have."""
        return list(dict.fromkeys((*self._committed, *self._newest)))

    def __len__(self) -> int:
        return sum(len(offsets) for offsets in self._committed.values())

    # --- what is to go ---

    def expired(self, group_id: str, rule: ExpiryRule, wall_ms: int) -> tuple[list[Change], bool]:
        """Tombstones for the offsets whose time is up, and whether no other is left."""
        latest = self.latest(group_id)
        gone: list[Change] = [
            (OffsetKey(group_id, *topic_partition), None)
            for topic_partition, value in latest.items()
            if rule.expired(topic_partition.topic, value, wall_ms)
        ]
        return gone, len(gone) == len(latest)

    def deletion(self, group_id: str) -> list[Change]:
        """Tombstones for all offsets of a group."""
        return [(OffsetKey(group_id, *topic_partition), None) for topic_partition in self.latest(group_id)]

    def of_topics(self, topics: Collection[str]) -> Iterator[Change]:
        """Tombstones for all offsets of these topics."""
        for group_id in self.group_ids():
            for topic_partition in self.latest(group_id):
                if topic_partition.topic in topics:
                    yield OffsetKey(group_id, *topic_partition), None

    def topics(self) -> set[str]:
        """All topics that have an offset."""
        return {topic_partition.topic for group_id in self.group_ids() for topic_partition in self.latest(group_id)}


def _topic_partition(key: OffsetKey) -> TopicPartition:
    # Interned: thousands of groups name the same few topics.
    return TopicPartition(sys.intern(key.topic), key.partition)
