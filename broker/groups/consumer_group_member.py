"""One member of a consumer group of KIP-848, as its records say. Pure and immutable.

Invariant: `assigned_partitions` and `partitions_pending_revocation` have no partition in common, and no partition of
either belongs to another member (rule 22).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

from .consumer_group_records import (
    Assignment,
    ClassicMemberMetadata,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataValue,
)
from .group_request import DescribedConsumer, Partitions

JOIN_EPOCH = 0
LEAVE_EPOCH = -1
LEAVE_FOR_A_WHILE_EPOCH = -2
"""Of a static member that will be back (KIP-345)."""


class MemberState(IntEnum):
    """The values are those of the records. What leads from one to the next: `current_assignment.py`."""

    STABLE = 0  # it has what the target assignment of its epoch gives it
    UNREVOKED_PARTITIONS = 1  # it must give up partitions before it moves to the next epoch
    UNRELEASED_PARTITIONS = 2  # it waits for partitions that others have yet to give up
    UNKNOWN = 127  # written by a newer coordinator

    @classmethod
    def of(cls, value: int) -> MemberState:
        return cls(value) if value in cls._value2member_map_ else cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class ConsumerGroupMember:
    member_id: str
    # A heartbeat carries `member_epoch`, or the previous one when the answer that told of the current one was lost.
    member_epoch: int = 0
    previous_member_epoch: int = 0
    state: MemberState = MemberState.STABLE
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: frozenset[str] = frozenset()
    subscribed_topic_regex: str = ""  # "": none
    server_assignor: str | None = None
    assigned_partitions: Assignment = field(default_factory=dict)
    partitions_pending_revocation: Assignment = field(default_factory=dict)
    classic: ClassicMemberMetadata | None = None

    @property
    def uses_classic_protocol(self) -> bool:
        return self.classic is not None

    @property
    def has_left_for_a_while(self) -> bool:
        return self.member_epoch == LEAVE_FOR_A_WHILE_EPOCH

    def is_reconciled_to(self, target_epoch: int) -> bool:
        return self.state is MemberState.STABLE and self.member_epoch == target_epoch

    def with_metadata(self, value: ConsumerGroupMemberMetadataValue) -> ConsumerGroupMember:
        return replace(
            self,
            instance_id=value.instance_id,
            rack_id=value.rack_id,
            rebalance_timeout_ms=value.rebalance_timeout_ms,
            client_id=value.client_id,
            client_host=value.client_host,
            subscribed_topic_names=frozenset(value.subscribed_topic_names),
            subscribed_topic_regex=value.subscribed_topic_regex or "",
            server_assignor=value.server_assignor,
            classic=value.classic,
        )

    def with_assignment(self, value: ConsumerGroupCurrentMemberAssignmentValue) -> ConsumerGroupMember:
        return replace(
            self,
            member_epoch=value.member_epoch,
            previous_member_epoch=value.previous_member_epoch,
            state=MemberState.of(value.state),
            assigned_partitions=value.assigned_partitions,
            partitions_pending_revocation=value.partitions_pending_revocation,
        )

    def metadata_value(self) -> ConsumerGroupMemberMetadataValue:
        return ConsumerGroupMemberMetadataValue(
            instance_id=self.instance_id,
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=tuple(sorted(self.subscribed_topic_names)),
            subscribed_topic_regex=self.subscribed_topic_regex,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            server_assignor=self.server_assignor,
            classic=self.classic,
        )

    def assignment_value(self) -> ConsumerGroupCurrentMemberAssignmentValue:
        return ConsumerGroupCurrentMemberAssignmentValue(
            member_epoch=self.member_epoch,
            previous_member_epoch=self.previous_member_epoch,
            state=self.state,
            assigned_partitions=self.assigned_partitions,
            partitions_pending_revocation=self.partitions_pending_revocation,
        )

    def described(self, target: Assignment) -> DescribedConsumer:
        return DescribedConsumer(
            member_id=self.member_id,
            group_instance_id=self.instance_id,
            rack_id=self.rack_id,
            member_epoch=self.member_epoch,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=tuple(sorted(self.subscribed_topic_names)),
            subscribed_topic_regex=self.subscribed_topic_regex or None,
            assignment=as_partitions(self.assigned_partitions),
            target_assignment=as_partitions(target),
            is_classic=self.uses_classic_protocol,
        )


def as_partitions(assignment: Assignment) -> Partitions:
    """In the form of requests and answers."""
    return {topic_id: tuple(sorted(partitions)) for topic_id, partitions in assignment.items()}
