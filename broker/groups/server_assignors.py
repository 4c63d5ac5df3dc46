"""The assignors of the group coordinator (KIP-848): `uniform`, the default, and `range`. Pure and deterministic.

An assignor is told what each member subscribes to and what the last target assignment gave it, and says what each is
to have. It gives each partition of a subscribed topic to exactly one of the subscribers. Racks are not looked at, as in
Apache Kafka 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ...proto.identifiers import TopicId
from .consumer_group_records import Assignment
from .uniform_assignor import assign_uniformly

__all__ = ["DEFAULT_ASSIGNORS", "SERVER_ASSIGNORS", "Assignments", "AssignorMember", "ServerAssignor"]


@dataclass(frozen=True, slots=True)
class AssignorMember:
    """A member as assignors see it."""

    topic_ids: frozenset[TopicId]  # what it subscribes to, of the topics that exist
    instance_id: str | None = None
    last_target: Assignment = field(default_factory=dict)


Assignments = dict[str, Assignment]
"""By member id; every member is in it."""
ServerAssignor = Callable[[Mapping[str, AssignorMember], Mapping[TopicId, int]], Assignments]
"""From the members and the number of partitions of each topic that any of them subscribes to."""


def assign_ranges(members: Mapping[str, AssignorMember], partition_counts: Mapping[TopicId, int]) -> Assignments:
    """Per topic, runs of partitions: subscribers of topics with equally many partitions get the same numbers of each.

    Static members come first, by instance id, so that they keep their place when dynamic ones come and go.
    """
    ordered = sorted(members, key=lambda member_id: _range_order(member_id, members[member_id]))
    assigned: dict[str, dict[TopicId, frozenset[int]]] = {member_id: {} for member_id in members}
    for topic_id, partition_count in partition_counts.items():
        subscribers = [member_id for member_id in ordered if topic_id in members[member_id].topic_ids]
        if not subscribers:
            continue
        quota, extra = divmod(partition_count, len(subscribers))
        start = 0
        for position, member_id in enumerate(subscribers):
            end = start + quota + (1 if position < extra else 0)
            if end > start:
                assigned[member_id][topic_id] = frozenset(range(start, end))
            start = end
    return dict(assigned)


def _range_order(member_id: str, member: AssignorMember) -> tuple[bool, str]:
    return (True, member_id) if member.instance_id is None else (False, member.instance_id)


def _assign_uniformly(members: Mapping[str, AssignorMember], partition_counts: Mapping[TopicId, int]) -> Assignments:
    return dict(
        assign_uniformly(
            {member_id: member.topic_ids for member_id, member in members.items()},
            {member_id: member.last_target for member_id, member in members.items()},
            partition_counts,
        )
    )


SERVER_ASSIGNORS: Final[Mapping[str, ServerAssignor]] = {"uniform": _assign_uniformly, "range": assign_ranges}
DEFAULT_ASSIGNORS: Final = ("uniform", "range")
"""group.consumer.assignors; the first is used where no member asks for another."""
