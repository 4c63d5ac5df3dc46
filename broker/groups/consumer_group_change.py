"""One decision about a consumer group of KIP-848: the records that it takes. Pure; the group itself is not touched.

A change begins with members that come, go or subscribe anew. From them follows the rest, in this order:

    1. the topics that regular expressions stand for, and the subscribed topics as they are now
    2. a new group epoch, if a subscription, a topic or the set of members has changed
    3. a new target assignment, when its epoch is behind the group's
    4. one step of one member towards its target
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ...proto.identifiers import TopicId
from .consumer_group_member import ConsumerGroupMember
from .consumer_group_records import (
    NO_PARTITIONS,
    Assignment,
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupMemberMetadataKey,
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
    TopicMetadata,
    record,
)
from .consumer_group_state import ConsumerGroupState
from .current_assignment import reconcile
from .group_request import Partitions
from .server_assignors import AssignorMember, ServerAssignor
from .topics_view import TopicsView

Resolve = Callable[[str], ConsumerGroupRegularExpressionValue]
"""The topics that an expression stands for now."""


class GroupChange:
    """The records so far, and the group as it will be after them."""

    def __init__(self, state: ConsumerGroupState, topics: TopicsView) -> None:
        self._state = state
        self._group_id = state.group_id
        self._topics_view = topics
        self.records: list[ConsumerGroupRecord] = []
        self.members: dict[str, ConsumerGroupMember] = state.members  # copied before it is changed
        self.regexes: Mapping[str, ConsumerGroupRegularExpressionValue] = state.regexes
        self.topics = state.topics
        self.group_epoch = state.group_epoch
        self.assignment_epoch = state.assignment_epoch
        self._targets: dict[str, Assignment] = {}  # those that change
        self._must_bump = False

    # --- members ---

    def put(self, member: ConsumerGroupMember) -> None:
        """A member that is new, or whose metadata has changed."""
        before = self.members.get(member.member_id)
        if before == member:
            return
        self.members = {**self.members, member.member_id: member}
        self._add(ConsumerGroupMemberMetadataKey(self._group_id, member.member_id), member.metadata_value())
        if before is None or _asked_for(before) != _asked_for(member):
            self._must_bump = True

    def replace(self, before: ConsumerGroupMember, member: ConsumerGroupMember) -> None:
        """A static member comes back under another member id: what was the old one's becomes its own."""
        target = self._target(before.member_id)
        self._forget(before.member_id)
        self.members = {**self.members, member.member_id: member}
        self._targets[member.member_id] = target
        self._add(ConsumerGroupMemberMetadataKey(self._group_id, member.member_id), member.metadata_value())
        self._add(
            ConsumerGroupTargetAssignmentMemberKey(self._group_id, member.member_id),
            ConsumerGroupTargetAssignmentMemberValue(target),
        )
        self.put_assignment(member)

    def put_assignment(self, member: ConsumerGroupMember) -> None:
        self.members = {**self.members, member.member_id: member}
        self._add(ConsumerGroupCurrentMemberAssignmentKey(self._group_id, member.member_id), member.assignment_value())

    def remove(self, member_ids: Iterable[str]) -> None:
        for member_id in member_ids:
            self._forget(member_id)
            self._must_bump = True

    def _forget(self, member_id: str) -> None:
        """The order matters to Kafka: the member's own record goes last."""
        self._add(ConsumerGroupCurrentMemberAssignmentKey(self._group_id, member_id))
        self._add(ConsumerGroupTargetAssignmentMemberKey(self._group_id, member_id))
        self._add(ConsumerGroupMemberMetadataKey(self._group_id, member_id))
        self.members = {one: member for one, member in self.members.items() if one != member_id}
        self._targets[member_id] = NO_PARTITIONS

    # --- 1. topics ---

    def refresh_regexes(self, resolve: Resolve | None, resolve_again: bool) -> None:
        """Looks new expressions up, and all of them when `resolve_again`; forgets those that nobody has any more.

        :raises InvalidTopicRegexError: a new one is none.
        """
        wanted = {member.subscribed_topic_regex for member in self.members.values()} - {""}
        regexes: dict[str, ConsumerGroupRegularExpressionValue] = {}
        for pattern in sorted(wanted):
            before = self.regexes.get(pattern)
            if resolve is None or (before is not None and not resolve_again):
                if before is not None:
                    regexes[pattern] = before
                continue
            regexes[pattern] = resolve(pattern)
            if before is None or before.topics != regexes[pattern].topics:
                self._add(ConsumerGroupRegularExpressionKey(self._group_id, pattern), regexes[pattern])
                self._must_bump = True
        for pattern in sorted(self.regexes.keys() - wanted):
            self._add(ConsumerGroupRegularExpressionKey(self._group_id, pattern))
        self.regexes = regexes

    def refresh_topics(self) -> None:
        """Takes up the subscribed topics as they are now."""
        topics: dict[str, TopicMetadata] = {}
        for name in sorted(frozenset().union(*self._subscriptions())):
            topic = self._topics_view.topic(name)
            if topic is not None:
                topics[name] = topic
        if topics != self.topics:
            self.topics = topics
            self._must_bump = True
            value = ConsumerGroupPartitionMetadataValue(tuple(topics.values()))
            self._add(ConsumerGroupPartitionMetadataKey(self._group_id), value)

    def _subscriptions(self) -> set[frozenset[str]]:
        return {self.subscription(member) for member in self.members.values()}

    def subscription(self, member: ConsumerGroupMember) -> frozenset[str]:
        """Names, whether they exist or not, and what the expression stands for."""
        regex = self.regexes.get(member.subscribed_topic_regex)
        return member.subscribed_topic_names if regex is None else member.subscribed_topic_names | regex.topics

    # --- 2. epoch ---

    @property
    def must_bump(self) -> bool:
        return self._must_bump

    def bump(self) -> None:
        self._must_bump = False
        self.group_epoch += 1
        self._add(ConsumerGroupMetadataKey(self._group_id), ConsumerGroupMetadataValue(self.group_epoch))

    # --- 3. target ---

    def preferred_assignor(self, known: Sequence[str]) -> str:
        """The one that most members ask for; the first of the known where none does, or where it is a draw."""
        wishes = Counter(member.server_assignor for member in self.members.values())
        return max(known, key=lambda name: wishes[name])

    def retarget(self, assign: ServerAssignor) -> None:
        """A new target assignment for the group's epoch."""
        topic_ids_of: dict[frozenset[str], frozenset[TopicId]] = {
            names: frozenset(self.topics[name].topic_id for name in names if name in self.topics)
            for names in self._subscriptions()
        }
        counts = {topic.topic_id: topic.partition_count for topic in self.topics.values()}
        assigned = assign(
            {
                member_id: AssignorMember(
                    topic_ids_of[self.subscription(member)], member.instance_id, self._target(member_id)
                )
                for member_id, member in self.members.items()
            },
            counts,
        )
        for member_id, target in assigned.items():
            if target != self._target(member_id) or not self._has_target(member_id):
                self._targets[member_id] = target
                self._add(
                    ConsumerGroupTargetAssignmentMemberKey(self._group_id, member_id),
                    ConsumerGroupTargetAssignmentMemberValue(target),
                )
        self.assignment_epoch = self.group_epoch
        self._add(
            ConsumerGroupTargetAssignmentMetadataKey(self._group_id),
            ConsumerGroupTargetAssignmentMetadataValue(self.assignment_epoch),
        )

    def _target(self, member_id: str) -> Assignment:
        changed = self._targets.get(member_id)
        return self._state.target(member_id) if changed is None else changed

    def _has_target(self, member_id: str) -> bool:
        return member_id in self._targets or member_id in self._state.targets

    # --- 4. the member's step ---

    def reconcile(self, member_id: str, owned: Partitions | None) -> ConsumerGroupMember | None:
        """Takes the member one step towards its target.

        :return: the member after it; None when it must join again (`current_assignment.py`).
        """
        member = self.members[member_id]
        if member.is_reconciled_to(self.assignment_epoch):
            return member
        target = self._target(member_id)
        after = reconcile(member, self.assignment_epoch, target, self._state.is_free, owned)
        if after is not None and after != member:
            self.put_assignment(after)
        return after

    def _add(self, key: object, value: object = None) -> None:
        self.records.append(record(key, value))  # type: ignore[arg-type]


def _asked_for(member: ConsumerGroupMember) -> tuple[frozenset[str], str]:
    return member.subscribed_topic_names, member.subscribed_topic_regex
