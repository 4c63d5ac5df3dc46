"""The uniform assignor: as many partitions for each member as can be, moving as few as can be. Pure, deterministic.

In a homogeneous group (all subscribe to the same topics) the counts of any two members differ by at most one, and no
partition moves that need not. In a heterogeneous group it comes close: as in Apache Kafka, partitions go from the
fullest to the emptiest subscriber of each topic, topic after topic, until nothing moves or a limit is reached; what
would take a chain of moves over several topics may stay.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Final

from ...proto.identifiers import TopicId
from .consumer_group_records import Assignment

_ROUNDS_MAX: Final = 16
"""As in Apache Kafka: each round about halves what imbalance is left."""


def assign_uniformly(
    subscriptions: Mapping[str, frozenset[TopicId]],
    last_targets: Mapping[str, Assignment],
    partition_counts: Mapping[TopicId, int],
) -> dict[str, Assignment]:
    """What each member is to have.

    :param subscriptions: by member, of topics that are in `partition_counts`.
    """
    if not subscriptions:
        return {}
    balance = _Balance(subscriptions, last_targets, partition_counts)
    if len(set(subscriptions.values())) == 1:
        balance.revoke_over_quota()
        balance.assign_the_rest()
    else:
        balance.assign_the_rest()
        balance.even_out()
    return balance.assignments(last_targets)


class _Balance:
    """An assignment in the making."""

    def __init__(
        self,
        subscriptions: Mapping[str, frozenset[TopicId]],
        last_targets: Mapping[str, Assignment],
        partition_counts: Mapping[TopicId, int],
    ) -> None:
        self._members = sorted(subscriptions)
        self._counts = partition_counts
        self._owned: dict[str, dict[TopicId, set[int]]] = {}
        self._size: dict[str, int] = {}
        self._subscribers: dict[TopicId, list[str]] = {topic_id: [] for topic_id in partition_counts}
        taken: dict[TopicId, set[int]] = {topic_id: set() for topic_id in partition_counts}
        for member_id in self._members:
            owned: dict[TopicId, set[int]] = {}
            for topic_id in subscriptions[member_id]:
                self._subscribers[topic_id].append(member_id)
                # A partition that two had, or that the topic has not, cannot be; if it were, it is assigned anew.
                kept = {
                    partition
                    for partition in last_targets[member_id].get(topic_id, ())
                    if partition < partition_counts[topic_id] and partition not in taken[topic_id]
                }
                if kept:
                    taken[topic_id] |= kept
                    owned[topic_id] = kept
            self._owned[member_id] = owned
            self._size[member_id] = sum(map(len, owned.values()))
        self._unassigned = {
            topic_id: [partition for partition in range(count) if partition not in taken[topic_id]]
            for topic_id, count in partition_counts.items()
            if self._subscribers[topic_id]
        }
        # Topics that leave the least choice first, as in Apache Kafka.
        self._topics = sorted(
            self._unassigned,
            key=lambda topic_id: (
                -partition_counts[topic_id] / len(self._subscribers[topic_id]),
                len(self._subscribers[topic_id]),
                topic_id,
            ),
        )

    def revoke_over_quota(self) -> None:
        """In a homogeneous group: nobody keeps more than its fair share.

        Those who have the most keep the partitions that do not divide evenly, so that the fewest move.
        """
        quota, extra = divmod(sum(self._counts[topic_id] for topic_id in self._topics), len(self._members))
        fullest_first = sorted(self._members, key=lambda member_id: (-self._size[member_id], member_id))
        for position, member_id in enumerate(fullest_first):
            allowed = quota + (1 if position < extra else 0)
            for topic_id in sorted(self._owned[member_id], reverse=True):
                surplus = max(0, self._size[member_id] - allowed)
                for partition in sorted(self._owned[member_id][topic_id], reverse=True)[:surplus]:
                    self._take(member_id, topic_id, partition)
                    self._unassigned[topic_id].append(partition)

    def assign_the_rest(self) -> None:
        """Each unassigned partition goes to the subscriber that has the fewest."""
        for topic_id in self._topics:
            emptiest = [(self._size[member_id], member_id) for member_id in self._subscribers[topic_id]]
            heapq.heapify(emptiest)
            for partition in sorted(self._unassigned[topic_id]):
                member_id = emptiest[0][1]
                self._give(member_id, topic_id, partition)
                heapq.heapreplace(emptiest, (self._size[member_id], member_id))

    def even_out(self) -> None:
        for _ in range(_ROUNDS_MAX):
            if not sum(self._even_out_topic(topic_id) for topic_id in self._topics):
                return

    def _even_out_topic(self, topic_id: TopicId) -> int:
        """How many partitions of the topic moved from full to empty subscribers."""
        emptiest = [(self._size[member_id], member_id) for member_id in self._subscribers[topic_id]]
        fullest = [(-size, member_id) for size, member_id in emptiest if self._owned[member_id].get(topic_id)]
        heapq.heapify(emptiest)
        heapq.heapify(fullest)
        moves = 0
        while fullest:
            giver = fullest[0][1]
            taker = emptiest[0][1]
            if self._size[giver] - self._size[taker] <= 1:
                break
            partition = max(self._owned[giver][topic_id])
            self._take(giver, topic_id, partition)
            self._give(taker, topic_id, partition)
            moves += 1
            # The giver stays above the taker, the taker below the giver: neither can be the next of the other kind,
            # so an entry that is out of date is never the first of its heap.
            heapq.heapreplace(emptiest, (self._size[taker], taker))
            if self._owned[giver].get(topic_id):
                heapq.heapreplace(fullest, (-self._size[giver], giver))
            else:
                heapq.heappop(fullest)
        return moves

    def assignments(self, last_targets: Mapping[str, Assignment]) -> dict[str, Assignment]:
        return {
            member_id: {topic_id: frozenset(partitions) for topic_id, partitions in self._owned[member_id].items()}
            for member_id in last_targets
        }

    def _give(self, member_id: str, topic_id: TopicId, partition: int) -> None:
        self._owned[member_id].setdefault(topic_id, set()).add(partition)
        self._size[member_id] += 1

    def _take(self, member_id: str, topic_id: TopicId, partition: int) -> None:
        partitions = self._owned[member_id][topic_id]
        partitions.remove(partition)
        self._size[member_id] -= 1
        if not partitions:
            del self._owned[member_id][topic_id]
