"""Which brokers hold the replicas of new partitions.

Within a topic, leaders and replicas are spread as evenly as can be, and each partition's replicas over as many racks as
there are. Where that leaves a choice for the leader, the broker that is preferred leader of the fewest partitions gets
it, so that many topics of one partition spread too. What is still open is drawn from the seed in the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..cluster.image import MetadataImage, PartitionImage
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId
from .result import ItemError
from .seeded_random import SeededRandom


@dataclass(slots=True)
class _Candidate:
    """A broker on which replicas may be placed, and what it has been given."""

    broker_id: BrokerId
    rack: str  # "" is a rack like any other: brokers without one share it
    preferred_elsewhere: int
    rank: int = 0  # drawn; breaks ties
    leaders: int = 0  # in this topic
    replicas: int = 0


class ReplicaPlacer:
    """Places the partitions of one topic after another; what it placed counts for the topics that follow."""

    def __init__(self, image: MetadataImage, seed: int) -> None:
        self._random = SeededRandom(seed)
        preferred = _preferred_leaders(image)
        self._candidates = [
            _Candidate(broker.broker_id, broker.rack or "", preferred.get(broker.broker_id, 0))
            for broker in image.brokers.values()
            if broker.active
        ]

    @property
    def broker_count(self) -> int:
        """Brokers that can take a replica: the greatest replication factor there can be."""
        return len(self._candidates)

    def place(
        self, partition_count: int, replication_factor: int, existing: Iterable[PartitionImage] = ()
    ) -> list[tuple[BrokerId, ...]]:
        """Replicas for each new partition of a topic that has the `existing` ones; the first is to lead.

        `replication_factor` is 1 to `broker_count`.
        """
        candidates = self._candidates
        by_id = {candidate.broker_id: candidate for candidate in candidates}
        for candidate in candidates:
            candidate.leaders = candidate.replicas = 0
        for partition in existing:
            _count(by_id, partition.replicas)
        placed = []
        for number in range(partition_count):
            if number % len(candidates) == 0:
                self._draw_ranks()
            replicas = self._replicas(replication_factor)
            _count(by_id, replicas)
            by_id[replicas[0]].preferred_elsewhere += 1
            placed.append(replicas)
        return placed

    def _draw_ranks(self) -> None:
        ranks = list(range(len(self._candidates)))
        self._random.shuffle(ranks)
        for candidate, rank in zip(self._candidates, ranks, strict=True):
            candidate.rank = rank

    def _replicas(self, replication_factor: int) -> tuple[BrokerId, ...]:
        leader = min(self._candidates, key=lambda one: (one.leaders, one.preferred_elsewhere, one.replicas, one.rank))
        chosen = [leader]
        rack_use = {leader.rack: 1}
        while len(chosen) < replication_factor:
            follower = min(
                (candidate for candidate in self._candidates if candidate not in chosen),
                key=lambda one: (rack_use.get(one.rack, 0), one.replicas, one.rank),
            )
            chosen.append(follower)
            rack_use[follower.rack] = rack_use.get(follower.rack, 0) + 1
        return tuple(candidate.broker_id for candidate in chosen)


def replication_factor_error(replication_factor: int, placer: ReplicaPlacer) -> ItemError | None:
    """Why partitions cannot have so many replicas now."""
    if placer.broker_count == 0:
        return ItemError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {replication_factor} time(s): All brokers are currently fenced or in "
            "controlled shutdown.",
        )
    if replication_factor > placer.broker_count:
        return ItemError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {replication_factor} time(s): The target replication factor of "
            f"{replication_factor} cannot be reached because only {placer.broker_count} broker(s) are live.",
        )
    return None


def _count(candidates: Mapping[BrokerId, _Candidate], replicas: Sequence[BrokerId]) -> None:
    for position, replica in enumerate(replicas):
        candidate = candidates.get(replica)
        if candidate is not None:
            candidate.replicas += 1
            candidate.leaders += position == 0


def _preferred_leaders(image: MetadataImage) -> dict[BrokerId, int]:
    counts: dict[BrokerId, int] = {}
    for topic in image.topics.values():
        for partition in topic.partitions:
            leader = partition.replicas[0]
            counts[leader] = counts.get(leader, 0) + 1
    return counts
