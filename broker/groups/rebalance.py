"""The state machine of a classic group: when it rebalances, whom it waits for, and when it is stable. Pure.

    from                  to                    when
    Empty                 PreparingRebalance    a member joins
    PreparingRebalance    CompletingRebalance   all have joined, or the time is up and at least one has
    PreparingRebalance    Empty                 all have gone: a record of the next generation without members
    CompletingRebalance   Stable                the leader's assignment is committed
    CompletingRebalance   PreparingRebalance    a member joins, leaves, fails or never syncs; the write failed
    Stable                PreparingRebalance    a member joins, leaves, fails or never syncs; the leader joins again
    any                   Dead                  the group was removed; final

Each way into CompletingRebalance or Empty begins the next generation. Rule 22 (in one generation no partition has two
owners) is kept here: a generation has one leader; the first assignment that it hands in is the only one that is ever
written for this generation; and nobody is told of an assignment before it is committed.

Deadlines are plain fields, and `wake_ms` is a lower bound of them all: a heartbeat puts one off and touches nothing
else, so it costs the same whatever the size of the group. `tick` looks at every member when that bound is reached,
which is about once in a session time-out, and finds the next bound.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from ...cluster.invariant import invariant
from ...proto.errors import ErrorCode
from .group import Append, Effects, GroupRecord, Reply, Ticket, Token
from .group_config import GroupConfig
from .group_request import UNKNOWN_MEMBER_ID, GroupState, JoinAnswer, SyncAnswer
from .initial_delay import InitialDelay
from .members import Member, Members
from .pending_append import AssignmentAppend, EmptyAppend, PendingAppend, PendingAppends, error_of_append
from .records import GroupMetadata, MemberMetadata, group_metadata_record

logger = logging.getLogger(__name__)

_FROM: Final = {
    GroupState.EMPTY: {GroupState.PREPARING_REBALANCE},
    GroupState.PREPARING_REBALANCE: {GroupState.EMPTY, GroupState.COMPLETING_REBALANCE, GroupState.STABLE},
    GroupState.COMPLETING_REBALANCE: {GroupState.PREPARING_REBALANCE},
    GroupState.STABLE: {GroupState.COMPLETING_REBALANCE},
    GroupState.DEAD: set(GroupState),
}
"""To each state, from which ones; the table above."""

_REASON_MAX: Final = 400
_POSTPONED_MS_MIN: Final = 1_000
"""A rebalance that nobody joined is looked at again after the rebalance time-out, but not more often than this."""


class Rebalance:
    """The state of one classic group, and what changes it. Effects gather in `effects`."""

    def __init__(self, group_id: str, config: GroupConfig, wall_ms: Callable[[], int]) -> None:
        self.group_id = group_id
        self.config = config
        self.wall_ms = wall_ms
        self.members = Members()
        self.state = GroupState.EMPTY
        self.state_since_wall_ms: int | None = wall_ms()
        self.generation_id = 0
        self.protocol_type: str | None = None  # None: a group that has had no member, and uses offsets alone
        self.protocol_name: str | None = None
        self.subscriptions: tuple[bytes, ...] = ()  # of all members of this generation, under its protocol
        self.effects: Effects = []
        self.wake_ms: int | None = None  # no later than any deadline
        self.appends = PendingAppends()
        self._initial: InitialDelay | None = None  # of the first rebalance, while it waits
        self._join_deadline_ms: int | None = None  # in PreparingRebalance
        self._sync_deadline_ms: int | None = None  # while some have not synced
        self._assigned_generation: int | None = None  # the one whose assignment was handed in

    def take_effects(self) -> Effects:
        effects, self.effects = self.effects, []
        return effects

    # --- members ---

    def add_member(self, member: Member, ticket: Ticket, now_ms: int) -> None:
        """Adds one that joins for the first time. It sends no heartbeats before it has its answer, and its client may
        have given up meanwhile, so its session is a long one, but it ends."""
        if self._initial is not None:
            self._initial.member_added = True
        self.members.add(member)
        self.members.set_joined(member, True, ticket)
        self.touch(member, now_ms, self.config.new_member_join_timeout_ms)

    def add_loaded_member(self, member: Member, now_ms: int) -> None:
        """Adds one that the log has."""
        self.members.add(member)
        self.touch(member, now_ms)

    def resume_stable(self, now_ms: int) -> None:
        """Goes on with the members that were loaded; if the limit was lowered meanwhile, some have to go."""
        self.state = GroupState.STABLE
        self._take_subscriptions()
        if len(self.members) > self.config.max_size:
            self.prepare(now_ms, f"{len(self.members)} members are more than group.max.size allows")

    def await_join(self, member: Member, ticket: Ticket) -> None:
        """A member joins again. Whoever waited in its name before has lost its connection, or its patience."""
        if member.join_ticket is not None:
            self.reply(member.join_ticket, JoinAnswer(ErrorCode.REBALANCE_IN_PROGRESS, member.member_id))
        self.members.set_joined(member, True, ticket)

    def await_sync(self, member: Member, ticket: Ticket) -> None:
        if member.sync_ticket is not None:
            self.reply(member.sync_ticket, SyncAnswer(ErrorCode.REBALANCE_IN_PROGRESS))
        member.syncing, member.sync_ticket = True, ticket
        self.synced(member)

    def synced(self, member: Member) -> None:
        """It asked for its assignment, as all must within the rebalance time-out."""
        self.members.pending_sync.discard(member.member_id)
        if not self.members.pending_sync:
            self._sync_deadline_ms = None

    def touch(self, member: Member, now_ms: int, timeout_ms: int | None = None) -> None:
        """A sign of life: its session begins anew."""
        deadline = now_ms + (member.session_timeout_ms if timeout_ms is None else timeout_ms)
        member.session_deadline_ms = deadline
        self.arm(deadline)

    def add_pending(self, member_id: str, deadline_ms: int) -> None:
        """An id was given out. There are no more of them than a group may have members: the oldest has to go."""
        pending = self.members.pending
        if len(pending) >= self.config.max_size:
            del pending[next(iter(pending))]
        pending[member_id] = deadline_ms
        self.arm(deadline_ms)

    def answer_join(self, member: Member, answer: JoinAnswer, now_ms: int) -> None:
        """Tells whoever waits for this member to join, if anybody does. Its session begins anew."""
        if member.join_ticket is not None:
            self.reply(member.join_ticket, answer)
        self.members.set_joined(member, False)
        member.is_new = False
        self.touch(member, now_ms)

    def answer_sync(self, member: Member, answer: SyncAnswer, now_ms: int) -> None:
        """The same for one that waits for its assignment."""
        if member.sync_ticket is not None:
            self.reply(member.sync_ticket, answer)
        if member.syncing:
            member.syncing, member.sync_ticket = False, None
            self.touch(member, now_ms)

    def remove_member(self, member: Member, join_error: ErrorCode = ErrorCode.UNKNOWN_MEMBER_ID) -> None:
        """Takes it out and answers whoever waits in its name; what this means for the group comes after."""
        if member.join_ticket is not None:
            self.reply(member.join_ticket, JoinAnswer(join_error))
        if member.sync_ticket is not None:
            self.reply(member.sync_ticket, SyncAnswer(ErrorCode.UNKNOWN_MEMBER_ID))
        self.members.remove(member.member_id)

    def current_answer(
        self, member: Member, *, with_members: bool, leader: str | None = None, skip_assignment: bool = False
    ) -> JoinAnswer:
        """What a member is told of the current generation."""
        name = self.protocol_name or ""
        return JoinAnswer(
            error=ErrorCode.NONE,
            member_id=member.member_id,
            generation_id=self.generation_id,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            leader=leader if leader is not None else self.members.leader_id or UNKNOWN_MEMBER_ID,
            skip_assignment=skip_assignment,
            members=tuple(other.joined_member(name) for other in self.members) if with_members else (),
        )

    def reply(self, ticket: Ticket, answer: Any) -> None:
        self.effects.append(Reply(ticket, answer))

    # --- from one generation to the next ---

    def members_changed(self, now_ms: int, reason: str) -> None:
        """Begins a rebalance, or completes the one under way if nobody is missing any more."""
        if self.state in _FROM[GroupState.PREPARING_REBALANCE]:
            self.prepare(now_ms, reason)
        else:
            self.maybe_complete(now_ms)

    def prepare(self, now_ms: int, reason: str) -> None:
        """Begins a rebalance; whoever waits for an assignment must join again."""
        if self.state is GroupState.COMPLETING_REBALANCE:
            self._fail_syncs(ErrorCode.REBALANCE_IN_PROGRESS, now_ms)
        self.members.pending_sync.clear()
        self._sync_deadline_ms = None
        was_empty = self.state is GroupState.EMPTY
        self._transition(GroupState.PREPARING_REBALANCE)
        logger.info(
            "group_rebalance_began group=%s generation=%d members=%d reason=%r",
            *(self.group_id, self.generation_id, len(self.members), reason[:_REASON_MAX]),
        )
        if was_empty:
            self._begin_initial(now_ms)
        elif self.members.all_joined:
            self._complete(now_ms)
        else:
            self._set_join_deadline(now_ms + self.members.rebalance_timeout_ms)

    def maybe_complete(self, now_ms: int) -> None:
        """Ends the wait for members if none is missing. The first rebalance of a group ends by time instead."""
        if self.state is not GroupState.PREPARING_REBALANCE:
            return
        if self._initial is None:
            if self.members.all_joined:
                self._complete(now_ms)
        elif self._initial.waits_for_pending:
            self._look_at_initial(now_ms)

    def _begin_initial(self, now_ms: int) -> None:
        delay_ms = self.config.initial_rebalance_delay_ms
        self._initial = InitialDelay.begin(delay_ms, self.members.rebalance_timeout_ms, now_ms)
        if delay_ms == 0:
            self._look_at_initial(now_ms)
        else:
            self._set_join_deadline(self._initial.deadline_ms)

    def _look_at_initial(self, now_ms: int) -> None:
        initial, round_ms = self._initial, self.config.initial_rebalance_delay_ms
        if initial is None or initial.is_over(now_ms, any_pending=bool(self.members.pending), round_ms=round_ms):
            self._complete(now_ms)
        else:
            self._set_join_deadline(initial.deadline_ms)

    def _complete(self, now_ms: int) -> None:
        """Goes on with those who joined. Static members may be late: they keep their place until their session ends."""
        self._join_deadline_ms = None
        self._initial = None
        late = [member for member in self.members if not member.joined and not member.is_static]
        for member in late:
            self.remove_member(member)
        if late:
            names = ",".join(member.member_id for member in late[:10])
            logger.info("group_members_did_not_join group=%s count=%d members=%r", self.group_id, len(late), names)
        if not self.members.elect_joined_leader() and len(self.members):
            logger.warning("group_rebalance_postponed group=%s members=%d", self.group_id, len(self.members))
            self._set_join_deadline(now_ms + max(self.members.rebalance_timeout_ms, _POSTPONED_MS_MIN))
            return
        self.generation_id += 1
        if len(self.members):
            self._begin_generation(now_ms)
        else:
            self._become_empty()

    def _begin_generation(self, now_ms: int) -> None:
        self.protocol_name = self.members.select_protocol()
        self._take_subscriptions()
        self._transition(GroupState.COMPLETING_REBALANCE)
        logger.info(
            "group_generation_began group=%s generation=%d members=%d leader=%s protocol=%s",
            *(self.group_id, self.generation_id, len(self.members), self.members.leader_id, self.protocol_name),
        )
        for member in self.members:
            leads = self.members.is_leader(member.member_id)
            self.answer_join(member, self.current_answer(member, with_members=leads), now_ms)
        self.members.pending_sync = {member.member_id for member in self.members}
        self._sync_deadline_ms = now_ms + self.members.rebalance_timeout_ms
        self.arm(self._sync_deadline_ms)

    def _take_subscriptions(self) -> None:
        name = self.protocol_name or ""
        self.subscriptions = tuple(member.metadata(name) for member in self.members)

    def _become_empty(self) -> None:
        self.protocol_name = None
        self._take_subscriptions()
        self._transition(GroupState.EMPTY)
        logger.info("group_became_empty group=%s generation=%d", self.group_id, self.generation_id)
        self.append(self.record({}), EmptyAppend(self))

    def _transition(self, state: GroupState) -> None:
        invariant(self.state in _FROM[state], f"group {self.group_id} goes from {self.state} to {state}")
        self.state = state
        self.state_since_wall_ms = self.wall_ms()

    def die(self) -> None:
        """The group was removed from the log; nobody is left in it."""
        self._transition(GroupState.DEAD)

    # --- the assignment ---

    def take_assignment(self, assignments: Mapping[str, bytes]) -> None:
        """The leader's assignment; members that it leaves out get nothing. Later ones for this generation are
        ignored: one may be in the log already, and it must stay the only one (rule 22)."""
        if self._assigned_generation == self.generation_id:
            return
        self._assigned_generation = self.generation_id
        mine = {member.member_id: assignments.get(member.member_id, b"") for member in self.members}
        left_out = [member_id for member_id in mine if member_id not in assignments]
        if left_out:
            logger.warning(
                "group_members_without_assignment group=%s generation=%d count=%d members=%r",
                *(self.group_id, self.generation_id, len(left_out), ",".join(left_out[:10])),
            )
        self.append(self.record(mine), AssignmentAppend(self, self.generation_id, mine))

    def stabilize(self, assignments: Mapping[str, bytes], now_ms: int) -> None:
        """The assignment is committed: each member gets its part of it."""
        self._transition(GroupState.STABLE)
        for member in self.members:
            member.assignment = assignments[member.member_id]
            self.answer_sync(member, self.sync_answer(member), now_ms)

    def sync_answer(self, member: Member) -> SyncAnswer:
        return SyncAnswer(ErrorCode.NONE, self.protocol_type, self.protocol_name, member.assignment)

    def assignment_failed(self, error: ErrorCode, now_ms: int) -> None:
        self._fail_syncs(error, now_ms)
        self.prepare(now_ms, f"the assignment could not be written: {error.name}")

    def _fail_syncs(self, error: ErrorCode, now_ms: int) -> None:
        for member in self.members:
            member.assignment = b""
            self.answer_sync(member, SyncAnswer(error), now_ms)

    # --- the log ---

    def record(self, assignments: Mapping[str, bytes]) -> GroupRecord:
        """The group as it stands, with these assignments by member id."""
        name = self.protocol_name or ""
        members: tuple[MemberMetadata, ...] = tuple(
            member.record(name, assignments[member.member_id]) for member in self.members
        )
        metadata = GroupMetadata(
            protocol_type=self.protocol_type or "",
            generation=self.generation_id,
            protocol=self.protocol_name,
            leader=self.members.leader_id,
            current_state_timestamp_ms=self.state_since_wall_ms,
            members=members,
        )
        return group_metadata_record(self.group_id, metadata, self.wall_ms())

    def append(self, record: GroupRecord, pending: PendingAppend) -> None:
        self.effects.append(Append(self.appends.begin(pending), (record,)))

    def failed(self, token: Token, error: ErrorCode, now_ms: int) -> None:
        in_log = self.appends.is_in_log(token)
        logger.warning(
            "group_append_failed group=%s generation=%d error=%s in_log=%s",
            *(self.group_id, self.generation_id, error.name, in_log),
        )
        self.appends.end(token).failed(error_of_append(error), in_log, now_ms)

    # --- time ---

    def arm(self, deadline_ms: int) -> None:
        self.wake_ms = deadline_ms if self.wake_ms is None else min(self.wake_ms, deadline_ms)

    def _set_join_deadline(self, deadline_ms: int) -> None:
        self._join_deadline_ms = deadline_ms
        self.arm(deadline_ms)

    def tick(self, now_ms: int) -> None:
        """Expires sessions and member ids that were never used; ends waits that lasted too long."""
        if self.wake_ms is None or now_ms < self.wake_ms:
            return
        for member in [m for m in self.members if m.session_deadline_ms <= now_ms and not m.waits]:
            if member.member_id in self.members and not member.waits:
                self.expire(member, now_ms)
        for member_id in [member_id for member_id, end in self.members.pending.items() if end <= now_ms]:
            logger.info("group_pending_member_expired group=%s member=%r", self.group_id, member_id)
            self.members.remove(member_id)
            self.maybe_complete(now_ms)
        if self._join_deadline_ms is not None and self._join_deadline_ms <= now_ms:
            self._join_deadline_ms = None
            self._look_at_initial(now_ms)
        if self._sync_deadline_ms is not None and self._sync_deadline_ms <= now_ms:
            self._expire_syncs(now_ms)
        self._find_wake()

    def expire(self, member: Member, now_ms: int) -> None:
        """Its session is over: it is taken out, and the others share its part."""
        logger.info("group_member_expired group=%s member=%r", self.group_id, member.member_id)
        self.remove_member(member)
        self.members_changed(now_ms, f"the session of {member.member_id} expired")

    def _expire_syncs(self, now_ms: int) -> None:
        """Members that joined but never asked for their assignment are gone, whatever their heartbeats say."""
        self._sync_deadline_ms = None
        silent = [member for member in self.members if member.member_id in self.members.pending_sync]
        for member in silent:
            self.remove_member(member)
        if silent:
            names = ",".join(member.member_id for member in silent[:10])
            self.prepare(now_ms, f"{len(silent)} members did not sync in time: {names}")

    def _find_wake(self) -> None:
        deadlines = [member.session_deadline_ms for member in self.members if not member.waits]
        deadlines += self.members.pending.values()
        deadlines += [d for d in (self._join_deadline_ms, self._sync_deadline_ms) if d is not None]
        self.wake_ms = min(deadlines, default=None)
