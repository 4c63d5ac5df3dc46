"""A group of the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and who may commit offsets. Pure.

It answers as Apache Kafka's GroupMetadataManager and ClassicGroup do. The states are those of `rebalance.py`:

    request \\ state    Empty                Preparing-           Completing-           Stable
    join, no id        first rebalance      waits                rebalance             rebalance
    join, own id       UNKNOWN_MEMBER_ID    waits                same metadata: told   leader, new metadata: rebalance
                                            of the generation,   of the generation     else told of the generation
                                            else rebalance
    sync               UNKNOWN_MEMBER_ID    REBALANCE_IN_PROGRESS  waits for leader    its assignment
    heartbeat          UNKNOWN_MEMBER_ID    REBALANCE_IN_PROGRESS  NONE                NONE
    commit, member     UNKNOWN_MEMBER_ID    NONE                 REBALANCE_IN_PROGRESS NONE
    commit, outside    NONE                 UNKNOWN_MEMBER_ID    UNKNOWN_MEMBER_ID     UNKNOWN_MEMBER_ID

A group without a protocol type has had no member: it is there for the offsets alone ("simple").
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from ...proto.consumer_protocol import ConsumerProtocolError, ConsumerProtocolSubscription
from ...proto.errors import ErrorCode
from .classic_join import join
from .group import Effects, GroupRecord, Ticket, Token
from .group_config import GroupConfig
from .group_request import (
    CONSUMER_PROTOCOL_TYPE,
    NO_GENERATION,
    UNKNOWN_MEMBER_ID,
    DescribedGroup,
    DescribedMember,
    GroupState,
    GroupType,
    HeartbeatRequest,
    JoinRequest,
    LeaveAnswer,
    LeaveRequest,
    LeavingMember,
    ListedGroup,
    OffsetCommitRequest,
    SyncAnswer,
    SyncRequest,
)
from .members import member_of_record
from .pending_append import EmptyAppend
from .rebalance import Rebalance
from .records import InvalidGroupRecordError, group_metadata_record, parse_group_metadata

logger = logging.getLogger(__name__)

_NO_MEMBERS: Final = (GroupState.EMPTY, GroupState.DEAD)


class ClassicGroup:
    """Implements `group.Group`. `wall_ms` is read for what is written down alone (rule 28); `new_member_id` makes a
    unique id that begins with the name it is given."""

    def __init__(
        self,
        group_id: str,
        *,
        config: GroupConfig,
        new_member_id: Callable[[str], str],
        wall_ms: Callable[[], int],
    ) -> None:
        self._rebalance = Rebalance(group_id, config, wall_ms)
        self._new_member_id = new_member_id
        self._subscribed: tuple[int, frozenset[str] | None] = (NO_GENERATION, None)  # as of a generation

    @classmethod
    def from_record(
        cls,
        group_id: str,
        value: bytes,
        *,
        config: GroupConfig,
        new_member_id: Callable[[str], str],
        wall_ms: Callable[[], int],
        now_ms: int,
    ) -> ClassicGroup:
        """The group as a GroupMetadata record has it; each member gets a whole session from now on.

        :raises InvalidGroupRecordError: the value is none.
        """
        group = cls(group_id, config=config, new_member_id=new_member_id, wall_ms=wall_ms)
        rebalance, metadata = group._rebalance, parse_group_metadata(value)
        rebalance.generation_id = metadata.generation
        rebalance.protocol_type = metadata.protocol_type or None
        rebalance.protocol_name = metadata.protocol
        rebalance.state_since_wall_ms = metadata.current_state_timestamp_ms
        instances = [record.group_instance_id for record in metadata.members if record.group_instance_id is not None]
        for ids in ([record.member_id for record in metadata.members], instances):
            if len(set(ids)) < len(ids):
                raise InvalidGroupRecordError(f"group {group_id} has a member twice")
        for record in metadata.members:
            rebalance.add_loaded_member(member_of_record(record, metadata.protocol or ""), now_ms)
        if metadata.leader is not None and metadata.leader in rebalance.members:
            rebalance.members.leader_id = metadata.leader
        if metadata.members:
            rebalance.resume_stable(now_ms)
        return group

    # --- what it is ---

    @property
    def group_id(self) -> str:
        return self._rebalance.group_id

    @property
    def type(self) -> GroupType:
        return GroupType.CLASSIC

    @property
    def state(self) -> GroupState:
        return self._rebalance.state

    @property
    def generation_id(self) -> int:
        return self._rebalance.generation_id

    # --- the protocol ---

    def join(self, request: JoinRequest, ticket: Ticket, now_ms: int) -> Effects:
        """Replies with a JoinAnswer: at once, or when the rebalance is through."""
        join(self._rebalance, self._new_member_id, request, ticket, now_ms)
        return self._rebalance.take_effects()

    def sync(self, request: SyncRequest, ticket: Ticket, now_ms: int) -> Effects:
        """Replies with a SyncAnswer: at once in a stable group, else when the leader's assignment is committed."""
        rebalance = self._rebalance
        error = self._check_sync(request)
        if error is not ErrorCode.NONE:
            rebalance.reply(ticket, SyncAnswer(error))
            return rebalance.take_effects()
        member = rebalance.members[request.member_id]
        if rebalance.state is GroupState.COMPLETING_REBALANCE:
            rebalance.await_sync(member, ticket)
            if rebalance.members.is_leader(member.member_id):
                rebalance.take_assignment(request.assignments)
        else:
            rebalance.synced(member)
            rebalance.reply(ticket, rebalance.sync_answer(member))
        return rebalance.take_effects()

    def _check_sync(self, request: SyncRequest) -> ErrorCode:
        rebalance = self._rebalance
        error = self._check_member(request)
        if error is not ErrorCode.NONE:
            return error
        if _differ(request.protocol_type, rebalance.protocol_type):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if _differ(request.protocol_name, rebalance.protocol_name):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if rebalance.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def _check_member(self, request: SyncRequest | HeartbeatRequest) -> ErrorCode:
        """Is it a member, and of the current generation?"""
        rebalance = self._rebalance
        if rebalance.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = rebalance.members.check(request.member_id, request.group_instance_id)
        if error is not ErrorCode.NONE:
            return error
        return ErrorCode.NONE if request.generation_id == rebalance.generation_id else ErrorCode.ILLEGAL_GENERATION

    def heartbeat(self, request: HeartbeatRequest, now_ms: int) -> ErrorCode:
        """Costs the same whatever the size of the group."""
        rebalance = self._rebalance
        error = self._check_member(request)
        if error is not ErrorCode.NONE:
            return error
        member = rebalance.members[request.member_id]
        if not member.is_new:
            rebalance.touch(member, now_ms)
        if rebalance.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def leave(self, request: LeaveRequest, ticket: Ticket, now_ms: int) -> Effects:
        """Replies with a LeaveAnswer, one entry for each member; an administrator names the instance alone."""
        rebalance = self._rebalance
        if rebalance.state is GroupState.DEAD:
            rebalance.reply(ticket, LeaveAnswer(ErrorCode.COORDINATOR_NOT_AVAILABLE))
            return rebalance.take_effects()
        before = rebalance.appends.last()
        outcomes = tuple((leaving, self._remove(leaving)) for leaving in request.members)
        left = [leaving for leaving, error in outcomes if error is ErrorCode.NONE]
        if left and rebalance.state is not GroupState.EMPTY:
            names = ",".join(leaving.member_id or leaving.group_instance_id or "" for leaving in left[:10])
            rebalance.members_changed(now_ms, f"left: {names} ({left[0].reason or 'no reason given'})")
        answer = LeaveAnswer(ErrorCode.NONE, outcomes)
        pending = rebalance.appends.last()
        if isinstance(pending, EmptyAppend) and pending is not before:
            pending.then_reply(ticket, answer)
        else:
            rebalance.reply(ticket, answer)
        return rebalance.take_effects()

    def _remove(self, leaving: LeavingMember) -> ErrorCode:
        members = self._rebalance.members
        member_id = leaving.member_id
        if member_id in members.pending:
            members.remove(member_id)
            return ErrorCode.NONE
        if member_id == UNKNOWN_MEMBER_ID:
            if leaving.group_instance_id is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            member_id = members.static_member_id(leaving.group_instance_id) or UNKNOWN_MEMBER_ID
        error = members.check(member_id, leaving.group_instance_id)
        if error is ErrorCode.NONE:
            self._rebalance.remove_member(members[member_id])
        return error

    def forget_ticket(self, ticket: Ticket) -> None:
        """The connection of a waiting client is gone. Its member stays, as the client may come back and ask again,
        unless nobody was told the member's id yet: such a one is expired at the next tick."""
        rebalance = self._rebalance
        for member in rebalance.members:
            if member.sync_ticket == ticket:
                member.sync_ticket = None
            if member.join_ticket == ticket:
                member.join_ticket = None
                if member.is_new and member.anonymous:
                    member.session_deadline_ms = 0
                    rebalance.arm(0)

    # --- time and the log ---

    def next_deadline_ms(self) -> int | None:
        return self._rebalance.wake_ms

    def tick(self, now_ms: int) -> Effects:
        self._rebalance.tick(now_ms)
        return self._rebalance.take_effects()

    def appended(self, token: Token) -> None:
        self._rebalance.appends.appended(token)

    def committed(self, token: Token, now_ms: int) -> Effects:
        self._rebalance.appends.end(token).committed(now_ms)
        return self._rebalance.take_effects()

    def failed(self, token: Token, error: ErrorCode, now_ms: int) -> Effects:
        self._rebalance.failed(token, error, now_ms)
        return self._rebalance.take_effects()

    # --- offsets ---

    def check_offset_commit(self, request: OffsetCommitRequest, now_ms: int) -> ErrorCode:
        """A member may still commit under its generation while the next one gathers, not once that has begun."""
        rebalance = self._rebalance
        generation_id = request.generation_or_member_epoch
        if rebalance.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if generation_id < 0 and rebalance.state is GroupState.EMPTY:
            return ErrorCode.NONE
        if generation_id < 0 and request.member_id == UNKNOWN_MEMBER_ID and request.group_instance_id is None:
            return ErrorCode.UNKNOWN_MEMBER_ID  # from outside, while the group has members
        error = rebalance.members.check(request.member_id, request.group_instance_id)
        if error is not ErrorCode.NONE:
            return error
        if generation_id != rebalance.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        if rebalance.state is GroupState.COMPLETING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        rebalance.touch(rebalance.members[request.member_id], now_ms)
        return ErrorCode.NONE

    def check_offset_fetch(self, member_id: str | None, member_epoch: int) -> ErrorCode:
        """Everybody may read the offsets of a group that is there."""
        return ErrorCode.GROUP_ID_NOT_FOUND if self.state is GroupState.DEAD else ErrorCode.NONE

    def is_subscribed_to(self, topic: str) -> bool:
        """Where the subscriptions of a consumer group cannot be read, every topic may be among them (KIP-496)."""
        rebalance = self._rebalance
        if rebalance.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return False
        if self._subscribed[0] != rebalance.generation_id:  # parsed when it is first asked for
            self._subscribed = rebalance.generation_id, self._subscribed_topics()
        topics = self._subscribed[1]
        return topics is None or topic in topics

    def _subscribed_topics(self) -> frozenset[str] | None:
        """What all members of this generation subscribe to; None if that cannot be told."""
        topics: set[str] = set()
        for subscription in self._rebalance.subscriptions:
            try:
                topics.update(ConsumerProtocolSubscription.decode(subscription).topics)
            except ConsumerProtocolError as error:
                logger.warning("group_subscription_unreadable group=%s error=%s", self.group_id, error)
                return None
        return frozenset(topics)

    @property
    def offsets_expire_since_ms(self) -> int | None:
        rebalance = self._rebalance
        if rebalance.state is GroupState.EMPTY and rebalance.protocol_type is not None:
            return rebalance.state_since_wall_ms
        return None

    # --- lists, deletion ---

    def listed(self) -> ListedGroup:
        return ListedGroup(self.group_id, self._rebalance.protocol_type or "", self.state, self.type)

    def described(self) -> DescribedGroup:
        """The members' metadata is told of a stable group alone: else it belongs to no chosen protocol."""
        rebalance = self._rebalance
        name = rebalance.protocol_name if rebalance.state is GroupState.STABLE else None
        return DescribedGroup(
            group_id=self.group_id,
            error=ErrorCode.NONE,
            state=self.state,
            type=self.type,
            protocol_type=rebalance.protocol_type or "",
            protocol_name=name or "",
            members=tuple(
                DescribedMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    metadata=member.metadata(name) if name is not None else b"",
                    assignment=member.assignment,
                )
                for member in rebalance.members
            ),
        )

    def check_delete(self) -> ErrorCode:
        """GROUP_ID_NOT_FOUND for a dead one, NON_EMPTY_GROUP for one that has members."""
        if self.state is GroupState.DEAD:
            return ErrorCode.GROUP_ID_NOT_FOUND
        return ErrorCode.NONE if self.state is GroupState.EMPTY else ErrorCode.NON_EMPTY_GROUP

    def tombstones(self) -> Sequence[GroupRecord]:
        return (group_metadata_record(self.group_id, None, self._rebalance.wall_ms()),)

    def die(self) -> None:
        """The group was removed: who still knows it is sent to look for the coordinator again."""
        self._rebalance.die()


def _differ(told: str | None, own: str | None) -> bool:
    """What is not told (before version 5 of SyncGroup) is not checked."""
    return told is not None and own is not None and told != own
