"""What the records of a consumer group of KIP-848 say about it, and nothing else. Pure.

`replay` is the only thing that changes it, be it while a coordinator loads the group or once it has written a record
itself; it cannot fail, and takes records in any order that compaction may leave them in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...proto.identifiers import TopicId
from .consumer_group_member import ConsumerGroupMember
from .consumer_group_records import (
    NO_PARTITIONS,
    Assignment,
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupKey,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey,
    ConsumerGroupPartitionMetadataValue,
    ConsumerGroupRecord,
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
    ConsumerGroupValue,
    TopicMetadata,
    record,
)
from .group_request import GroupState


class ConsumerGroupState:
    """The state of one group as of the last record replayed."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self._clear()

    def _clear(self) -> None:
        self.exists = False  # is there a record that says so?
        # assignment_epoch <= group_epoch; it is behind from a change of members until the next heartbeat
        self.group_epoch = 0
        self.assignment_epoch = 0
        self.members: dict[str, ConsumerGroupMember] = {}
        self.static_members: dict[str, str] = {}  # member id by instance id
        self.targets: dict[str, Assignment] = {}
        self.topics: Mapping[str, TopicMetadata] = {}  # the subscribed ones, as they were at group_epoch
        self.regexes: dict[str, ConsumerGroupRegularExpressionValue] = {}
        # Who holds a partition, be it assigned or still to be revoked; at most one member does (rule 22).
        self._owners: dict[TopicId, dict[int, str]] = {}

    # --- reading ---

    def is_free(self, topic_id: TopicId, partition: int) -> bool:
        """Does the partition belong to nobody?"""
        return partition not in self._owners.get(topic_id, {})

    def static_member(self, instance_id: str) -> ConsumerGroupMember | None:
        member_id = self.static_members.get(instance_id)
        return None if member_id is None else self.members.get(member_id)

    def target(self, member_id: str) -> Assignment:
        return self.targets.get(member_id, NO_PARTITIONS)

    @property
    def state(self) -> GroupState:
        if not self.members:
            return GroupState.EMPTY
        if self.group_epoch > self.assignment_epoch:
            return GroupState.ASSIGNING
        if all(member.is_reconciled_to(self.assignment_epoch) for member in self.members.values()):
            return GroupState.STABLE
        return GroupState.RECONCILING

    def tombstones(self) -> list[ConsumerGroupRecord]:
        """Records after which nothing is left of the group."""
        group_id = self.group_id
        return [
            *(record(ConsumerGroupCurrentMemberAssignmentKey(group_id, member_id)) for member_id in self.members),
            *(record(ConsumerGroupTargetAssignmentMemberKey(group_id, member_id)) for member_id in self.targets),
            record(ConsumerGroupTargetAssignmentMetadataKey(group_id)),
            *(record(ConsumerGroupMemberMetadataKey(group_id, member_id)) for member_id in self.members),
            *(record(ConsumerGroupRegularExpressionKey(group_id, pattern)) for pattern in self.regexes),
            record(ConsumerGroupPartitionMetadataKey(group_id)),
            record(ConsumerGroupMetadataKey(group_id)),
        ]

    # --- replay ---

    def replay_all(self, records: Iterable[ConsumerGroupRecord]) -> None:
        for one in records:
            self.replay(one.key, one.value)

    def replay(self, key: ConsumerGroupKey, value: ConsumerGroupValue | None) -> None:
        """Takes up one record; `value` None is a tombstone."""
        match key, value:
            case ConsumerGroupMetadataKey(), None:
                self._clear()
            case ConsumerGroupMetadataKey(), ConsumerGroupMetadataValue():
                self.exists = True
                self.group_epoch = value.epoch
            case ConsumerGroupPartitionMetadataKey(), None:
                self.topics = {}
            case ConsumerGroupPartitionMetadataKey(), ConsumerGroupPartitionMetadataValue():
                self.topics = {topic.name: topic for topic in value.topics}
            case ConsumerGroupMemberMetadataKey(), None:
                self._remove_member(key.member_id)
            case ConsumerGroupMemberMetadataKey(), ConsumerGroupMemberMetadataValue():
                self._put_member(self._member(key.member_id).with_metadata(value))
            case ConsumerGroupTargetAssignmentMetadataKey(), None:
                self.assignment_epoch = 0
            case ConsumerGroupTargetAssignmentMetadataKey(), ConsumerGroupTargetAssignmentMetadataValue():
                self.assignment_epoch = value.assignment_epoch
            case ConsumerGroupTargetAssignmentMemberKey(), None:
                self.targets.pop(key.member_id, None)
            case ConsumerGroupTargetAssignmentMemberKey(), ConsumerGroupTargetAssignmentMemberValue():
                self.targets[key.member_id] = value.partitions
            case ConsumerGroupCurrentMemberAssignmentKey(), None:
                self._release(key.member_id)
            case ConsumerGroupCurrentMemberAssignmentKey(), ConsumerGroupCurrentMemberAssignmentValue():
                self._put_member(self._member(key.member_id).with_assignment(value))
            case ConsumerGroupRegularExpressionKey(), None:
                self.regexes.pop(key.regular_expression, None)
            case ConsumerGroupRegularExpressionKey(), ConsumerGroupRegularExpressionValue():
                self.regexes[key.regular_expression] = value

    def _member(self, member_id: str) -> ConsumerGroupMember:
        return self.members.get(member_id) or ConsumerGroupMember(member_id)

    def _put_member(self, member: ConsumerGroupMember) -> None:
        self._disown(member.member_id)
        before = self.members.get(member.member_id)
        if before is not None and before.instance_id != member.instance_id:
            self._forget_instance(before)
        self.members[member.member_id] = member
        for assignment in (member.assigned_partitions, member.partitions_pending_revocation):
            for topic_id, partitions in assignment.items():
                self._owners.setdefault(topic_id, {}).update(dict.fromkeys(partitions, member.member_id))
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id

    def _release(self, member_id: str) -> None:
        """Its current assignment is gone; the member's own tombstone follows."""
        member = self.members.get(member_id)
        if member is not None:
            self._put_member(ConsumerGroupMember(member_id).with_metadata(member.metadata_value()))

    def _remove_member(self, member_id: str) -> None:
        self._disown(member_id)
        member = self.members.pop(member_id, None)
        if member is not None:
            self._forget_instance(member)

    def _forget_instance(self, member: ConsumerGroupMember) -> None:
        """Unless the static member has come back and taken its instance id along to another member id."""
        if member.instance_id is not None and self.static_members.get(member.instance_id) == member.member_id:
            del self.static_members[member.instance_id]

    def _disown(self, member_id: str) -> None:
        member = self.members.get(member_id)
        if member is None:
            return
        for assignment in (member.assigned_partitions, member.partitions_pending_revocation):
            for topic_id, partitions in assignment.items():
                owners = self._owners.get(topic_id, {})
                for partition in partitions:
                    if owners.get(partition) == member_id:
                        del owners[partition]
                if not owners:
                    self._owners.pop(topic_id, None)
