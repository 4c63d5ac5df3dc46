"""Who in a group reads which partitions: the assignors that its leader runs, with Kafka's names and results. Pure.

"range" and "roundrobin" look at the members alone; "sticky" and "cooperative-sticky" keep what members have
(`sticky_assignor.py`). The first three are eager: each member gives everything up before the group shares it out anew.
"cooperative-sticky" is cooperative (KIP-429): members go on with what they keep, and a partition that moves is given up
in one generation and handed on in the next. It can serve a group that works the eager way too, so that a group may go
from one to the other in a rolling restart: offer both, then drop the eager one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..proto.consumer_protocol import ConsumerProtocolSubscription
from ..proto.identifiers import TopicPartition

PartitionCounts = Mapping[str, int]
"""How many partitions each topic has; topics that are not known are absent."""


@dataclass(frozen=True, slots=True)
class AssignableMember:
    """A member as the leader is told of it."""

    member_id: str
    group_instance_id: str | None
    subscription: ConsumerProtocolSubscription

    @property
    def order(self) -> tuple[bool, str, str]:
        """Static members first, by their instance ids, which outlive a restart; then the others (KIP-345)."""
        instance_id = self.group_instance_id
        return (instance_id is None, instance_id or "", self.member_id)


class Assignor:
    """One way of sharing out partitions. Derive from it for your own: each member of a group must offer it."""

    name: ClassVar[str]
    supports_cooperative: ClassVar[bool] = False

    def user_data(self, topics: Sequence[str]) -> bytes | None:
        """What this member tells the leader's assignor beyond its subscription."""
        return None

    def assign(
        self, partition_counts: PartitionCounts, members: Sequence[AssignableMember]
    ) -> dict[str, list[TopicPartition]]:
        """Partitions by member id, an entry for each member."""
        raise NotImplementedError

    def on_assignment(self, partitions: Sequence[TopicPartition], generation_id: int) -> None:
        """What this member was given."""


class RangePartitionAssignor(Assignor):
    """Of each topic a run of partitions to each member, so that equal partitions of several topics stay together.

    Two members and topics t0 and t1 of three partitions: t0-0, t0-1, t1-0, t1-1 to the first, t0-2, t1-2 to the other.
    """

    name = "range"

    def assign(
        self, partition_counts: PartitionCounts, members: Sequence[AssignableMember]
    ) -> dict[str, list[TopicPartition]]:
        """As `Assignor.assign`."""
        assignment: dict[str, list[TopicPartition]] = {member.member_id: [] for member in members}
        ordered = sorted(members, key=lambda member: member.order)
        for topic in sorted({topic for member in members for topic in member.subscription.topics}):
            readers = [member.member_id for member in ordered if topic in member.subscription.topics]
            each, left_over = divmod(partition_counts.get(topic, 0), len(readers))
            start = 0
            for index, member_id in enumerate(readers):
                end = start + each + (index < left_over)
                assignment[member_id] += [TopicPartition(topic, partition) for partition in range(start, end)]
                start = end
        return assignment


class RoundRobinPartitionAssignor(Assignor):
    """All partitions of all topics to the members in turn; who is not subscribed to a topic is passed over.

    Two members and topics t0 and t1 of three partitions: t0-0, t0-2, t1-1 to the first, t0-1, t1-0, t1-2 to the other.
    """

    name = "roundrobin"

    def assign(
        self, partition_counts: PartitionCounts, members: Sequence[AssignableMember]
    ) -> dict[str, list[TopicPartition]]:
        """As `Assignor.assign`."""
        assignment: dict[str, list[TopicPartition]] = {member.member_id: [] for member in members}
        ordered = sorted(members, key=lambda member: member.order)
        turn = 0
        for topic in sorted({topic for member in members for topic in member.subscription.topics}):
            for partition in range(partition_counts.get(topic, 0)):
                while topic not in ordered[turn % len(ordered)].subscription.topics:
                    turn += 1
                assignment[ordered[turn % len(ordered)].member_id].append(TopicPartition(topic, partition))
                turn += 1
        return assignment
