"""The assignors "sticky" (KIP-54, KIP-341) and "cooperative-sticky" (KIP-429): even first, then as few moves as can be.

Pure. Where all members read the same topics, each gets the whole or the next whole number of the fair share, keeps what
it has up to that, and what is left goes round (Kafka's "constrained" algorithm). Where they read different topics, each
partition without an owner goes to the member with the fewest, and partitions move while that evens out two members.

Members say what they had: for "sticky" in the user data (partitions, then the generation), for "cooperative-sticky" in
the subscription itself; there a subscription too old to tell the generation has it in four bytes of user data. Of two
members that claim a partition the one of the newer generation is believed; in the same generation neither is.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ..proto.consumer_protocol import (
    ConsumerProtocolError,
    ConsumerProtocolSubscription,
    decode_topic_partitions,
    encode_topic_partitions,
)
from ..proto.identifiers import TopicPartition
from .assignors import AssignableMember, Assignor, PartitionCounts

_INT32: Final = struct.Struct(">i")
_NO_GENERATION: Final = -1
_VERSION_BYTES: Final = 2

Claim = tuple[Sequence[TopicPartition], int]
"""What a member had, and in which generation."""


@dataclass(frozen=True, slots=True)
class _Owned:
    """What the members had, once claims that contradict one another are settled."""

    by_member: dict[str, list[TopicPartition]]
    owners: dict[TopicPartition, str]
    contested: set[TopicPartition]  # claimed twice in one generation: nobody's, and not free before it is given up


class StickyPartitionAssignor(Assignor):
    """Even, and each member keeps what it had as far as that allows; an eager assignor."""

    name = "sticky"

    def __init__(self) -> None:
        self._partitions: Sequence[TopicPartition] | None = None
        self._generation_id = _NO_GENERATION

    def user_data(self, topics: Sequence[str]) -> bytes | None:
        """The member's last assignment and its generation, as Kafka's StickyAssignorUserData version 1."""
        if self._partitions is None:
            return None
        return encode_topic_partitions(self._partitions) + _INT32.pack(self._generation_id)

    def on_assignment(self, partitions: Sequence[TopicPartition], generation_id: int) -> None:
        """Remembers it for the next `user_data`."""
        self._partitions = tuple(partitions)
        self._generation_id = generation_id

    def assign(
        self, partition_counts: PartitionCounts, members: Sequence[AssignableMember]
    ) -> dict[str, list[TopicPartition]]:
        """As `Assignor.assign`."""
        return self._assign(partition_counts, members)[0]

    def _assign(
        self, partition_counts: PartitionCounts, members: Sequence[AssignableMember]
    ) -> tuple[dict[str, list[TopicPartition]], _Owned]:
        topics = {topic for member in members for topic in member.subscription.topics}
        counts = {topic: partition_counts[topic] for topic in sorted(topics) if topic in partition_counts}
        owned = _settle_claims(counts, {member.member_id: self._claim(member.subscription) for member in members})
        subscriptions = {member.member_id: frozenset(member.subscription.topics) for member in members}
        if len(set(subscriptions.values())) <= 1:
            return _assign_alike(counts, owned), owned
        return _assign_unlike(counts, owned, subscriptions), owned

    def _claim(self, subscription: ConsumerProtocolSubscription) -> Claim:
        data = subscription.user_data or b""
        for start in (0, _VERSION_BYTES):  # kafka-python 3 writes a version first, Kafka's own and librdkafka do not
            try:
                partitions, rest = decode_topic_partitions(data[start:])
            except ConsumerProtocolError:
                continue
            if not rest:  # version 0
                return partitions, _NO_GENERATION
            if len(rest) == _INT32.size:
                return partitions, _INT32.unpack(rest)[0]
        return (), _NO_GENERATION  # as in Kafka: what cannot be read is not kept


class CooperativeStickyAssignor(StickyPartitionAssignor):
    """The same for cooperative rebalancing: a partition that moves is left out until its owner has given it up."""

    name = "cooperative-sticky"
    supports_cooperative = True

    def user_data(self, topics: Sequence[str]) -> bytes | None:
        """The generation, for leaders that know no newer way to tell it."""
        return _INT32.pack(self._generation_id)

    def assign(
        self, partition_counts: PartitionCounts, members: Sequence[AssignableMember]
    ) -> dict[str, list[TopicPartition]]:
        """As `Assignor.assign`."""
        assignment, owned = self._assign(partition_counts, members)
        return {
            member_id: [
                partition
                for partition in partitions
                if partition not in owned.contested and owned.owners.get(partition, member_id) == member_id
            ]
            for member_id, partitions in assignment.items()
        }

    def _claim(self, subscription: ConsumerProtocolSubscription) -> Claim:
        if subscription.generation_id is not None:
            return subscription.owned_partitions, subscription.generation_id
        data = subscription.user_data or b""
        generation_id = _INT32.unpack(data)[0] if len(data) == _INT32.size else _NO_GENERATION
        return subscription.owned_partitions, generation_id


def _settle_claims(counts: PartitionCounts, claims: dict[str, Claim]) -> _Owned:
    owners: dict[TopicPartition, tuple[int, str]] = {}
    contested: dict[TopicPartition, int] = {}
    for member_id in sorted(claims):
        partitions, generation_id = claims[member_id]
        for partition in dict.fromkeys(partitions):
            if partition.partition >= counts.get(partition.topic, 0):
                continue  # the topic is gone, or nobody here reads it
            known = owners.get(partition)
            if known is None or generation_id > known[0]:
                owners[partition] = (generation_id, member_id)
                contested.pop(partition, None)
            elif generation_id == known[0]:
                contested[partition] = generation_id
    for partition in contested:
        del owners[partition]
    by_member: dict[str, list[TopicPartition]] = {member_id: [] for member_id in claims}
    for partition, (_, member_id) in owners.items():
        by_member[member_id].append(partition)
    return _Owned(by_member, {partition: owner for partition, (_, owner) in owners.items()}, set(contested))


def _assign_alike(counts: PartitionCounts, owned: _Owned) -> dict[str, list[TopicPartition]]:
    """All members read the same topics."""
    share, larger_shares = divmod(sum(counts.values()), len(owned.by_member))
    # `larger_shares` members get one more than the share; who has that many already comes first.
    assignment: dict[str, list[TopicPartition]] = {}
    below: deque[str] = deque()
    at_share: deque[str] = deque()
    for member_id in sorted(owned.by_member):
        kept = sorted(owned.by_member[member_id], key=lambda entry: (entry.partition, entry.topic))
        if len(kept) > share and larger_shares:
            larger_shares -= 1
            kept = kept[: share + 1]
        elif len(kept) >= share:
            kept = kept[:share]
            at_share.append(member_id)
        else:
            below.append(member_id)
        assignment[member_id] = kept
    taken = {partition for partitions in assignment.values() for partition in partitions}
    for topic in sorted(counts):
        for partition in (TopicPartition(topic, number) for number in range(counts[topic])):
            if partition in taken:
                continue
            member_id = below.popleft() if below else at_share.popleft()
            assignment[member_id].append(partition)
            if len(assignment[member_id]) < share:
                below.append(member_id)
            elif len(assignment[member_id]) == share:
                at_share.append(member_id)
    return assignment


def _assign_unlike(
    counts: PartitionCounts, owned: _Owned, subscriptions: dict[str, frozenset[str]]
) -> dict[str, list[TopicPartition]]:
    """Members read different topics."""
    readers = {topic: sorted(member for member, topics in subscriptions.items() if topic in topics) for topic in counts}
    assignment: dict[str, list[TopicPartition]] = {
        member_id: sorted(partition for partition in partitions if partition.topic in subscriptions[member_id])
        for member_id, partitions in sorted(owned.by_member.items())
    }
    taken = {partition for partitions in assignment.values() for partition in partitions}
    # What few may read comes first, while those few have room.
    for topic in sorted(counts, key=lambda name: (len(readers[name]), name)):
        for number in range(counts[topic]):
            partition = TopicPartition(topic, number)
            if partition not in taken:
                _fewest(assignment, readers[topic]).append(partition)
    _even_out(assignment, readers, owned)
    return assignment


def _fewest(assignment: dict[str, list[TopicPartition]], member_ids: Collection[str]) -> list[TopicPartition]:
    return min((assignment[member_id] for member_id in member_ids), key=len)


def _even_out(assignment: dict[str, list[TopicPartition]], readers: dict[str, list[str]], owned: _Owned) -> None:
    """Moves partitions from who has at least two more, as long as there is one to move; ends, since each step evens."""
    moved = True
    while moved:
        moved = False
        for member_id in sorted(assignment, key=lambda name: (-len(assignment[name]), name)):
            mine = assignment[member_id]
            # First those that were not this member's before: moving them back and forth costs nobody anything.
            for partition in sorted(mine, key=lambda entry: (owned.owners.get(entry) == member_id, entry)):
                other = _fewest(assignment, readers[partition.topic])
                if len(mine) >= len(other) + 2:
                    mine.remove(partition)
                    other.append(partition)
                    moved = True
