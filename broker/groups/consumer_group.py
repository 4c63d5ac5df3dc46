"""A group of the consumer protocol of KIP-848: the coordinator assigns, members heartbeat. Pure.

It answers as Apache Kafka's GroupMetadataManager does. All there is to a group is what its records say
(`consumer_group_state.py`); a heartbeat is decided upon that (`consumer_group_change.py`), and counts once its records
are in the log. Nobody is told anything before all that it rests upon is committed (rule 21): an answer that takes no
records of its own goes out with the last append that is still on its way.

Not in the log are the times: when a member's session ends, and by when it must have given up what it has to revoke.
A coordinator that loads a group gives every member a whole time-out from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...proto.errors import ErrorCode
from .consumer_group_change import GroupChange
from .consumer_group_codec import encoded
from .consumer_group_member import JOIN_EPOCH, LEAVE_FOR_A_WHILE_EPOCH, ConsumerGroupMember, as_partitions
from .consumer_group_records import (
    NO_PARTITIONS,
    ConsumerGroupKey,
    ConsumerGroupRecord,
    ConsumerGroupValue,
)
from .consumer_group_state import ConsumerGroupState
from .group import Append, Effects, GroupRecord, Reply, Ticket, Token
from .group_config import GroupConfig
from .group_request import (
    CONSUMER_PROTOCOL_TYPE,
    ConsumerGroupHeartbeatAnswer,
    ConsumerGroupHeartbeatRequest,
    DescribedConsumerGroup,
    DescribedGroup,
    GroupState,
    GroupType,
    LeaveAnswer,
    LeaveRequest,
    LeavingMember,
    ListedGroup,
    OffsetCommitRequest,
)
from .heartbeat_check import (
    check_epoch,
    check_instance,
    check_released,
    check_request,
    is_full,
    is_leaving,
    refuse,
)
from .member_deadlines import MemberDeadlines
from .pending_append import error_of_append
from .server_assignors import SERVER_ASSIGNORS
from .topic_follower import TopicFollower
from .topic_regex import InvalidTopicRegexError
from .topics_view import TopicsView

logger = logging.getLogger(__name__)

_Failed = Callable[[ErrorCode], Any]
"""The answer that tells of an append that failed."""


@dataclass(slots=True)
class _PendingAppend:
    records: Sequence[ConsumerGroupRecord]
    now_ms: int  # when it was decided
    waiting: list[tuple[Ticket, Any, _Failed]] = field(default_factory=list)


class ConsumerGroup:
    """Implements `group.Group`. `wall_ms` is read for what is written down alone (rule 28)."""

    def __init__(self, group_id: str, *, config: GroupConfig, topics: TopicsView, wall_ms: Callable[[], int]) -> None:
        self._state = ConsumerGroupState(group_id)
        self._config = config
        self._topics = TopicFollower(group_id, topics, wall_ms)
        self._pending: dict[Token, _PendingAppend] = {}  # in order
        self._last_token = 0
        self._deadlines = MemberDeadlines()
        self._has_untimed_members = False  # loaded, and no time-out set yet

    # --- what it is ---

    @property
    def group_id(self) -> str:
        return self._state.group_id

    @property
    def type(self) -> GroupType:
        return GroupType.CONSUMER

    @property
    def state(self) -> GroupState:
        return self._state.state

    @property
    def is_gone(self) -> bool:
        """No record of it is left, or none was ever written: the shell may forget it."""
        return not self._state.exists and not self._state.members and not self._pending

    # --- the log ---

    def replay(self, key: ConsumerGroupKey, value: ConsumerGroupValue | None) -> None:
        """Takes up one record while the group is loaded; None is a tombstone."""
        self._state.replay(key, value)
        self._has_untimed_members = bool(self._state.members)

    def appended(self, token: Token) -> None:
        pending = self._pending[token]
        self._state.replay_all(pending.records)
        touched = {member_id for one in pending.records if (member_id := getattr(one.key, "member_id", None))}
        for member_id in touched:
            self._set_deadlines(member_id, pending.now_ms)

    def committed(self, token: Token, now_ms: int) -> Effects:
        pending = self._pending.pop(token)
        return [Reply(ticket, answer) for ticket, answer, _ in pending.waiting]

    def failed(self, token: Token, error: ErrorCode, now_ms: int) -> Effects:
        pending = self._pending.pop(token)
        self._topics.look_again()
        told = error_of_append(error)
        return [Reply(ticket, failed(told)) for ticket, _, failed in pending.waiting]

    def _append(self, records: Sequence[ConsumerGroupRecord], before: Sequence[GroupRecord], now_ms: int) -> Append:
        self._last_token += 1
        token = Token(self._last_token)
        self._pending[token] = _PendingAppend(records, now_ms)
        return Append(token, (*before, *(encoded(one) for one in records)))

    def _then(
        self,
        records: Sequence[ConsumerGroupRecord],
        ticket: Ticket,
        answer: Any,
        failed: _Failed,
        now_ms: int,
        before: Sequence[GroupRecord] = (),
    ) -> Effects:
        """The answer, once the records and all before them are committed."""
        effects: Effects = [self._append(records, before, now_ms)] if records or before else []
        if not self._pending:
            return [Reply(ticket, answer)]
        next(reversed(self._pending.values())).waiting.append((ticket, answer, failed))
        return effects

    # --- time ---

    def next_deadline_ms(self) -> int | None:
        return 0 if self._has_untimed_members else self._deadlines.next_ms

    def tick(self, now_ms: int) -> Effects:
        """Fences the members whose time is up, all in one change."""
        if self._has_untimed_members:
            self._has_untimed_members = False
            for member_id in self._state.members:
                self._set_deadlines(member_id, now_ms)
        overdue = self._deadlines.take_overdue(self._state.members, now_ms)
        for member_id, reason in overdue.items():
            logger.info("group_member_fenced group=%s member=%s reason=%s", self.group_id, member_id, reason)
        return [self._append(self._fencing(overdue), (), now_ms)] if overdue else []

    def _set_deadlines(self, member_id: str, now_ms: int) -> None:
        member = self._state.members.get(member_id)
        self._deadlines.set(member_id, member, self._config.consumer.session_timeout_ms, now_ms)

    def _change(self) -> GroupChange:
        return GroupChange(self._state, self._topics.topics)

    def _fencing(self, member_ids: Iterable[str]) -> list[ConsumerGroupRecord]:
        change = self._change()
        change.remove(sorted(member_ids))
        change.refresh_regexes(None, False)
        change.refresh_topics()
        change.bump()
        return change.records

    # --- the protocol ---

    def metadata_changed(self, topics: TopicsView, now_ms: int) -> Effects:
        """Topics came, went or grew. The next heartbeat of any member looks whether that matters, as in Kafka."""
        self._topics.topics_changed(topics)
        return []

    def heartbeat(
        self,
        request: ConsumerGroupHeartbeatRequest,
        ticket: Ticket,
        now_ms: int,
        before: Sequence[GroupRecord] = (),
    ) -> Effects:
        """Replies with a ConsumerGroupHeartbeatAnswer.

        :param before: records to write ahead of the group's own, in the same batch: the tombstone of the empty classic
            group that it takes the place of. They are not written when the request is refused.
        """
        refusal = check_request(request, self._config.consumer.assignors)
        if refusal is None and not self._state.exists and request.member_epoch != JOIN_EPOCH:
            refusal = refuse(ErrorCode.GROUP_ID_NOT_FOUND, f"Consumer group {self.group_id} not found.")
        if refusal is not None:
            return [Reply(ticket, refusal)]
        change = self._change()
        try:
            answer = self._leave(change, request) if is_leaving(request) else self._beat(change, request, now_ms)
        except InvalidTopicRegexError as error:
            pattern = request.subscribed_topic_regex
            message = f"SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}."
            answer = refuse(ErrorCode.INVALID_REGULAR_EXPRESSION, message)
        if answer.error is not ErrorCode.NONE:
            self._topics.look_again()
            return [Reply(ticket, answer)]
        if request.member_id in self._state.members and not is_leaving(request):
            self._deadlines.extend_session(request.member_id, self._config.consumer.session_timeout_ms, now_ms)
        return self._then(change.records, ticket, answer, ConsumerGroupHeartbeatAnswer, now_ms, before)

    def _beat(
        self, change: GroupChange, request: ConsumerGroupHeartbeatRequest, now_ms: int
    ) -> ConsumerGroupHeartbeatAnswer:
        member = self._member_of(change, request)
        if isinstance(member, ConsumerGroupHeartbeatAnswer):
            return member
        change.put(_updated(member, request))
        before_step = change.members[member.member_id]
        self._topics.follow(change)
        if change.must_bump:
            change.bump()
            logger.info("group_epoch_bumped group=%s epoch=%d", self.group_id, change.group_epoch)
        if change.group_epoch > change.assignment_epoch:
            known = self._config.consumer.assignors
            change.retarget(SERVER_ASSIGNORS[change.preferred_assignor(known)])
        after = change.reconcile(member.member_id, request.owned_partitions)
        if after is None:
            message = "The consumer group member is in a unknown state. The member must abandon all its partitions."
            return refuse(ErrorCode.FENCED_MEMBER_EPOCH, message)
        tell = is_full(request) or after.assigned_partitions != before_step.assigned_partitions
        return ConsumerGroupHeartbeatAnswer(
            ErrorCode.NONE,
            member_id=after.member_id,
            member_epoch=after.member_epoch,
            heartbeat_interval_ms=self._config.consumer.heartbeat_interval_ms,
            assignment=as_partitions(after.assigned_partitions) if tell else None,
        )

    def _member_of(
        self, change: GroupChange, request: ConsumerGroupHeartbeatRequest
    ) -> ConsumerGroupMember | ConsumerGroupHeartbeatAnswer:
        """The member that asks, new or known; or why it is refused."""
        state, member_id, instance_id = self._state, request.member_id, request.group_instance_id
        holder = None if instance_id is None else state.static_member(instance_id)
        joins = request.member_epoch == JOIN_EPOCH
        known = state.members.get(member_id)
        if joins and known is None and holder is None and len(state.members) >= self._config.consumer.max_size:
            limit = self._config.consumer.max_size
            message = f"The consumer group has reached its maximum capacity of {limit} members."
            return refuse(ErrorCode.GROUP_MAX_SIZE_REACHED, message)
        if instance_id is not None and joins and holder is not None:
            return self._take_over(change, holder, member_id, instance_id)
        if instance_id is not None and not joins:
            refusal = check_instance(holder, member_id, instance_id)
            if refusal is not None:
                return refusal
        if known is None:
            return ConsumerGroupMember(member_id) if joins else _unknown_member(member_id, self.group_id)
        return check_epoch(known, request.member_epoch, request.owned_partitions) or known

    def _take_over(
        self, change: GroupChange, holder: ConsumerGroupMember, member_id: str, instance_id: str
    ) -> ConsumerGroupMember | ConsumerGroupHeartbeatAnswer:
        """A static member joins whose instance id is known.

        The same process may ask again, as any member may; another one must wait until the first has left.
        """
        if holder.member_id == member_id and not holder.has_left_for_a_while:
            return holder
        refusal = check_released(holder, member_id, instance_id)
        if refusal is not None:
            return refusal
        successor = replace(holder, member_id=member_id, member_epoch=0, previous_member_epoch=0)
        change.replace(holder, successor)
        return successor

    def _leave(self, change: GroupChange, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatAnswer:
        member_id, instance_id = request.member_id, request.group_instance_id
        if instance_id is not None:
            member = self._state.static_member(instance_id)
            refusal = check_instance(member, member_id, instance_id)
        else:
            member = self._state.members.get(member_id)
            refusal = None if member is not None else _unknown_member(member_id, self.group_id)
        if member is None or refusal is not None:
            return refusal or _unknown_member(member_id, self.group_id)
        if request.member_epoch == LEAVE_FOR_A_WHILE_EPOCH:
            # It keeps what is assigned to it, until it is back or its session ends.
            change.put_assignment(
                replace(member, member_epoch=LEAVE_FOR_A_WHILE_EPOCH, partitions_pending_revocation=NO_PARTITIONS)
            )
        else:
            change.records += self._fencing([member_id])
        logger.info("group_member_left group=%s member=%s epoch=%d", self.group_id, member_id, request.member_epoch)
        return ConsumerGroupHeartbeatAnswer(ErrorCode.NONE, member_id=member_id, member_epoch=request.member_epoch)

    def leave(self, request: LeaveRequest, ticket: Ticket, now_ms: int) -> Effects:
        """LeaveGroup belongs to the classic protocol, but administrators remove members of this one by it, too."""
        outcomes = [(member, self._leaving_member(member)) for member in request.members]
        removed = {member_id for _, member_id in outcomes if not isinstance(member_id, ErrorCode)}
        if removed:
            logger.info("group_members_removed group=%s members=%s", self.group_id, ",".join(sorted(removed)[:10]))
        told = tuple((member, found if isinstance(found, ErrorCode) else ErrorCode.NONE) for member, found in outcomes)
        records = self._fencing(removed) if removed else ()
        return self._then(records, ticket, LeaveAnswer(ErrorCode.NONE, told), LeaveAnswer, now_ms)

    def _leaving_member(self, leaving: LeavingMember) -> str | ErrorCode:
        """The id of the member that is meant, be it named by its id, its instance or both; or what is wrong."""
        instance_id = leaving.group_instance_id
        if instance_id is None:
            return leaving.member_id if leaving.member_id in self._state.members else ErrorCode.UNKNOWN_MEMBER_ID
        holder = self._state.static_member(instance_id)
        if holder is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return holder.member_id if leaving.member_id in ("", holder.member_id) else ErrorCode.FENCED_INSTANCE_ID

    # --- offsets ---

    def check_offset_commit(self, request: OffsetCommitRequest, now_ms: int) -> ErrorCode:
        """STALE_MEMBER_EPOCH and UNKNOWN_MEMBER_ID; from outside of the group, only while it is empty."""
        if request.generation_or_member_epoch < 0 and not self._state.members:
            return ErrorCode.NONE
        return self._check_member_epoch(request.member_id, request.generation_or_member_epoch)

    def check_offset_fetch(self, member_id: str | None, member_epoch: int) -> ErrorCode:
        if member_id is None and member_epoch < 0:
            return ErrorCode.NONE
        return self._check_member_epoch(member_id or "", member_epoch)

    def _check_member_epoch(self, member_id: str, member_epoch: int) -> ErrorCode:
        member = self._state.members.get(member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE if member.member_epoch == member_epoch else ErrorCode.STALE_MEMBER_EPOCH

    def is_subscribed_to(self, topic: str) -> bool:
        subscription = self._change().subscription
        return any(topic in subscription(member) for member in self._state.members.values())

    @property
    def offsets_expire_since_ms(self) -> int | None:
        """Always counted from each commit (KIP-848)."""
        return None

    # --- lists, deletion ---

    def listed(self) -> ListedGroup:
        return ListedGroup(self.group_id, CONSUMER_PROTOCOL_TYPE, self.state, GroupType.CONSUMER)

    def described(self) -> DescribedGroup:
        message = f"Group {self.group_id} is not a classic group."
        return DescribedGroup(self.group_id, ErrorCode.GROUP_ID_NOT_FOUND, message, type=GroupType.CONSUMER)

    def described_consumer_group(self) -> DescribedConsumerGroup:
        state = self._state
        known = self._config.consumer.assignors
        return DescribedConsumerGroup(
            group_id=self.group_id,
            error=ErrorCode.NONE,
            state=state.state,
            group_epoch=state.group_epoch,
            assignment_epoch=state.assignment_epoch,
            assignor_name=self._change().preferred_assignor(known),
            members=tuple(
                member.described(state.target(member_id)) for member_id, member in sorted(state.members.items())
            ),
        )

    def check_delete(self) -> ErrorCode:
        return ErrorCode.NON_EMPTY_GROUP if self._state.members else ErrorCode.NONE

    def tombstones(self) -> Sequence[GroupRecord]:
        return [encoded(one) for one in self._state.tombstones()]


def _unknown_member(member_id: str, group_id: str) -> ConsumerGroupHeartbeatAnswer:
    return refuse(ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group_id}.")


def _updated(member: ConsumerGroupMember, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupMember:
    """What the request says of the member; what it leaves out stays."""
    said: Mapping[str, Any] = {
        "instance_id": request.group_instance_id,
        "rack_id": request.rack_id,
        "rebalance_timeout_ms": request.rebalance_timeout_ms,
        "server_assignor": request.server_assignor,
        "subscribed_topic_regex": request.subscribed_topic_regex,
        "subscribed_topic_names": None
        if request.subscribed_topic_names is None
        else frozenset(request.subscribed_topic_names),
    }
    changed = {name: value for name, value in said.items() if value is not None}
    return replace(member, client_id=request.client_id, client_host=request.client_host, classic=None, **changed)
