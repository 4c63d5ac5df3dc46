"""The coordinator of all groups of one partition of __consumer_offsets, for one leader epoch of this broker.

    from        to          when
    LOADING     ACTIVE      the whole log is read, and every replica in sync has what was read
    LOADING     CLOSED      the leadership is over
    ACTIVE      CLOSED      the leadership is over: whoever waits gets NOT_COORDINATOR, at once

While LOADING it answers COORDINATOR_LOAD_IN_PROGRESS. Groups decide (`group.py`), this acts: effects are carried out in
order, nothing is changed across an await, and whatever an await brings is looked at again in the light of the state.
The protocol of members is here, offsets are in `shard_offsets.py`, loading is in `shard_loader.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ...cluster.clock import Clock
from ...proto.errors import ErrorCode
from ...proto.identifiers import Offset, TopicId
from ..deadline_timer import DeadlineTimer
from ..purgatory import Waiting
from .append_queue import AppendQueue, Write
from .classic_group import ClassicGroup
from .committed_offsets import CommittedOffsets
from .consumer_group import ConsumerGroup
from .group import Append, Effects, GroupRecord, Reply, Ticket
from .group_config import GroupConfig
from .group_factory import GroupFactory
from .group_log import GroupLog
from .group_request import (
    UNKNOWN_MEMBER_ID,
    ConsumerGroupHeartbeatAnswer,
    ConsumerGroupHeartbeatRequest,
    GroupState,
    HeartbeatRequest,
    JoinAnswer,
    JoinRequest,
    LeaveAnswer,
    LeaveRequest,
    SyncAnswer,
    SyncRequest,
)
from .heartbeat_check import check_request
from .pending_append import error_of_append
from .waiters import Refuse, Waiters

logger = logging.getLogger(__name__)

AnyGroup = ClassicGroup | ConsumerGroup

NO_MEMBERS: Final = (GroupState.EMPTY, GroupState.DEAD)
_JOIN_EPOCH: Final = 0


class ShardState(Enum):
    LOADING = "loading"
    ACTIVE = "active"
    CLOSED = "closed"


class GroupEntry(Waiting):
    """One group of a shard. As something that waits it stands for the group's next deadline."""

    __slots__ = ("deadline_ms", "group", "last_end_offset", "shard")

    def __init__(self, shard: GroupShard, group: AnyGroup) -> None:
        super().__init__()
        self.shard = shard
        self.group = group
        self.deadline_ms: int | None = None  # that the timer knows of
        self.last_end_offset = Offset(0)  # of the last batch that holds something of the group itself


@dataclass(slots=True)
class ShardContext:
    """What all shards of a broker share."""

    config: GroupConfig
    clock: Clock
    factory: GroupFactory
    timer: DeadlineTimer[GroupEntry]
    guard: Callable[[Callable[[], None]], None]  # runs what the event loop calls; a failure is fatal
    group_count: int = 0  # in all shards


class GroupShard:
    """See the module. Lives on one event loop."""

    def __init__(self, log: GroupLog, topic_id: TopicId, context: ShardContext) -> None:
        self.log = log
        self.topic_id = topic_id
        self.context = context
        self.clock = context.clock
        self.state = ShardState.LOADING
        self.offsets = CommittedOffsets()
        self.entries: dict[str, GroupEntry] = {}
        self.waiters = Waiters()
        self.queue = AppendQueue(log, context.config.offsets_commit_timeout_ms, context.guard)

    def __str__(self) -> str:
        return str(self.log)

    # --- life ---

    def activate(self, offsets: CommittedOffsets) -> None:
        """Loading is through; the groups are in already."""
        self.offsets = offsets
        self.state = ShardState.ACTIVE
        self.topics_changed()
        for entry in tuple(self.entries.values()):
            self.schedule(entry)

    def topics_changed(self) -> None:
        """Topics came, went or grew; those of the factory are the newest."""
        topics, now_ms = self.context.factory.topics, self.clock.monotonic_ms()
        for entry in tuple(self.entries.values()):
            if isinstance(entry.group, ConsumerGroup):
                self.carry_out(entry, entry.group, entry.group.metadata_changed(topics, now_ms))

    def close(self) -> None:
        """The leadership is over, or the broker stops."""
        if self.state is ShardState.CLOSED:
            return
        self.state = ShardState.CLOSED
        self.waiters.refuse_all(ErrorCode.NOT_COORDINATOR)
        for entry in self.entries.values():
            self.context.timer.discard(entry)
        self.context.group_count -= len(self.entries)
        self.entries.clear()

    @property
    def closed(self) -> bool:
        return self.state is ShardState.CLOSED

    def check(self) -> ErrorCode:
        """May it answer at all? Asked anew after each await (rule 11)."""
        if self.state is ShardState.LOADING:
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        if self.state is ShardState.CLOSED or not self.log.leads():
            return ErrorCode.NOT_COORDINATOR
        return ErrorCode.NONE

    # --- groups ---

    def add(self, group: AnyGroup) -> GroupEntry:
        """A group that is not there yet."""
        entry = self.entries[group.group_id] = GroupEntry(self, group)
        self.context.group_count += 1
        return entry

    def add_if_room(self, group: AnyGroup) -> GroupEntry | None:
        """None where this broker holds all the groups that it may."""
        return self.add(group) if self.context.group_count < self.context.config.max_groups else None

    def remove(self, entry: GroupEntry) -> None:
        """The group is gone, from the log too."""
        if self.entries.get(entry.group.group_id) is entry:
            del self.entries[entry.group.group_id]
            self.context.group_count -= 1
            self.context.timer.discard(entry)

    def keep(self, group_id: str) -> None:
        """It has an offset in the log. It may have been forgotten while the commit waited for its turn."""
        if group_id not in self.entries and not self.closed:
            self.add(self.context.factory.classic(group_id))

    def maybe_forget(self, entry: GroupEntry) -> None:
        """Removes a group of which nothing is left, and nothing in the log but what a later record undoes."""
        group = entry.group
        if isinstance(group, ConsumerGroup):
            gone = group.is_gone
        else:
            gone = (
                group.state in NO_MEMBERS
                and entry.last_end_offset == 0
                and group.next_deadline_ms() is None
                and group.generation_id == 0
            )
        if gone and not self.offsets.has_any(group.group_id):
            self.remove(entry)

    # --- effects ---

    def carry_out(self, entry: GroupEntry, group: AnyGroup, effects: Effects) -> None:
        """Does what a group decided, in its order; then sees to its next deadline."""
        for effect in effects:
            if isinstance(effect, Reply):
                self.waiters.answer(effect.ticket, effect.answer)
            else:
                self._append(entry, group, effect)
        self.schedule(entry)

    def _append(self, entry: GroupEntry, group: AnyGroup, effect: Append) -> None:
        def appended(end_offset: Offset) -> None:
            entry.last_end_offset = end_offset
            entry.group = group  # it may be one that takes the place of an empty group of the other type
            group.appended(effect.token)

        def done(error: ErrorCode, in_log: bool) -> None:
            if self.closed:
                return
            now_ms = self.clock.monotonic_ms()
            if error is ErrorCode.NONE and self.log.leads():
                effects = group.committed(effect.token, now_ms)
            else:
                told = ErrorCode.NOT_LEADER_OR_FOLLOWER if error is ErrorCode.NONE else error
                logger.info("group_append_failed partition=%s group=%s error=%s", self, group.group_id, told.name)
                effects = group.failed(effect.token, told, now_ms)
            self.carry_out(entry, group, effects)

        self.queue.now(Write(effect.records, appended, done))

    def schedule(self, entry: GroupEntry) -> None:
        """Enters the group's next deadline in the timer; one that moved back is found out when the old one comes."""
        deadline_ms = entry.group.next_deadline_ms()
        if deadline_ms is None or (entry.deadline_ms is not None and entry.deadline_ms <= deadline_ms):
            return
        if self.state is not ShardState.ACTIVE or self.entries.get(entry.group.group_id) is not entry:
            return
        timer = self.context.timer
        timer.discard(entry)
        entry.deadline_ms = deadline_ms
        timer.add(entry, max(deadline_ms - self.clock.monotonic_ms(), 0))

    def tick(self, entry: GroupEntry) -> None:
        """A deadline of the group has come."""
        entry.deadline_ms = None
        if self.state is ShardState.ACTIVE:
            self.carry_out(entry, entry.group, entry.group.tick(self.clock.monotonic_ms()))
            if entry.deadline_ms is None:
                self.maybe_forget(entry)

    async def ask(
        self, entry: GroupEntry, group: AnyGroup, begin: Callable[[Ticket, int], Effects], refuse: Refuse
    ) -> Any:
        """Has the group take up a request, and waits for its answer."""
        ticket, future = self.waiters.begin(refuse)
        try:
            self.carry_out(entry, group, begin(ticket, self.clock.monotonic_ms()))
            return await future
        except asyncio.CancelledError:
            if not self.closed and isinstance(group, ClassicGroup):
                group.forget_ticket(ticket)
                self.schedule(entry)
            raise
        finally:
            self.waiters.end(ticket)

    async def committed_through(self, end_offset: int) -> ErrorCode:
        """The read barrier: NONE once all that is in the log before `end_offset` is on every replica in sync."""
        if self.log.high_watermark() >= end_offset:
            return self.check()
        ticket, future = self.waiters.begin(lambda error: error)
        waiting = asyncio.ensure_future(
            self.log.committed(Offset(end_offset), self.context.config.offsets_commit_timeout_ms)
        )

        def decided(done: asyncio.Future[ErrorCode]) -> None:
            if not done.cancelled():
                self.waiters.answer(ticket, done.result())

        waiting.add_done_callback(decided)
        try:
            error: ErrorCode = await future
        finally:
            self.waiters.end(ticket)
            waiting.cancel()
        return self.check() if error is ErrorCode.NONE else error

    # --- the classic protocol ---

    async def join(self, request: JoinRequest) -> JoinAnswer:
        entry = self._entry_to_join(request)
        if isinstance(entry, ErrorCode):
            return JoinAnswer(entry, member_id=request.member_id)
        group = entry.group
        assert isinstance(group, ClassicGroup)
        answer: JoinAnswer = await self.ask(
            entry,
            group,
            lambda ticket, now_ms: group.join(request, ticket, now_ms),
            lambda error: JoinAnswer(error, member_id=request.member_id),
        )
        if answer.error is not ErrorCode.NONE and not self.closed:
            self.maybe_forget(entry)
        return answer

    def _entry_to_join(self, request: JoinRequest) -> GroupEntry | ErrorCode:
        entry = self.entries.get(request.group_id)
        if entry is None:
            if request.member_id != UNKNOWN_MEMBER_ID:
                return ErrorCode.UNKNOWN_MEMBER_ID
            return self.add_if_room(self.context.factory.classic(request.group_id)) or ErrorCode.GROUP_MAX_SIZE_REACHED
        if isinstance(entry.group, ConsumerGroup):
            if entry.group.state is not GroupState.EMPTY:
                return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
            return self._replace_empty(entry, self.context.factory.classic(request.group_id))
        return entry

    def _replace_empty(self, entry: GroupEntry, successor: AnyGroup) -> GroupEntry | ErrorCode:
        """An empty group of one type makes room for one of the other: tombstones of the old one are in the log."""
        outcome = ErrorCode.NONE

        def appended(end_offset: Offset) -> None:
            entry.last_end_offset = end_offset
            entry.group = successor

        def done(error: ErrorCode, in_log: bool) -> None:
            nonlocal outcome
            outcome = ErrorCode.NONE if in_log else error

        tombstones = entry.group.tombstones()
        self.queue.now(Write(tombstones, appended, done))
        if outcome is ErrorCode.NONE:
            logger.info("group_type_changed group=%s to=%s", successor.group_id, successor.type.value)
        return entry if outcome is ErrorCode.NONE else error_of_append(outcome)

    def _classic(self, group_id: str) -> tuple[GroupEntry, ClassicGroup] | None:
        entry = self.entries.get(group_id)
        return None if entry is None or not isinstance(entry.group, ClassicGroup) else (entry, entry.group)

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        found = self._classic(request.group_id)
        if found is None:
            return SyncAnswer(ErrorCode.UNKNOWN_MEMBER_ID)
        entry, group = found
        answer: SyncAnswer = await self.ask(
            entry, group, lambda ticket, now_ms: group.sync(request, ticket, now_ms), SyncAnswer
        )
        return answer

    def heartbeat(self, request: HeartbeatRequest) -> ErrorCode:
        found = self._classic(request.group_id)
        if found is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        entry, group = found
        error = group.heartbeat(request, self.clock.monotonic_ms())
        self.schedule(entry)
        return error

    async def leave(self, request: LeaveRequest) -> LeaveAnswer:
        entry = self.entries.get(request.group_id)
        if entry is None:
            unknown = tuple((member, ErrorCode.UNKNOWN_MEMBER_ID) for member in request.members)
            return LeaveAnswer(ErrorCode.NONE, unknown)
        group = entry.group
        answer: LeaveAnswer = await self.ask(
            entry, group, lambda ticket, now_ms: group.leave(request, ticket, now_ms), LeaveAnswer
        )
        if not self.closed:
            self.maybe_forget(entry)
        return answer

    # --- KIP-848 ---

    async def consumer_group_heartbeat(self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatAnswer:
        entry = self.entries.get(request.group_id)
        if entry is not None and isinstance(entry.group, ConsumerGroup):
            return await self._consumer_heartbeat(entry, entry.group, request)
        joins = request.member_epoch == _JOIN_EPOCH
        if not joins or (entry is not None and entry.group.state is not GroupState.EMPTY):
            refusal = check_request(request, self.context.config.consumer.assignors)
            if refusal is not None:
                return refusal
            what = "not found" if entry is None else "is not a consumer group"
            message = f"Group {request.group_id} {what}."
            return ConsumerGroupHeartbeatAnswer(ErrorCode.GROUP_ID_NOT_FOUND, message)
        group = self.context.factory.consumer(request.group_id)
        if entry is None:
            entry = self.add_if_room(group)
            if entry is None:
                return ConsumerGroupHeartbeatAnswer(
                    ErrorCode.GROUP_MAX_SIZE_REACHED, "This broker coordinates no more groups."
                )
            return await self._consumer_heartbeat(entry, group, request)
        return await self._consumer_heartbeat(entry, group, request, tuple(entry.group.tombstones()))

    async def _consumer_heartbeat(
        self,
        entry: GroupEntry,
        group: ConsumerGroup,
        request: ConsumerGroupHeartbeatRequest,
        before: tuple[GroupRecord, ...] = (),
    ) -> ConsumerGroupHeartbeatAnswer:
        rests_on = entry.last_end_offset
        answer: ConsumerGroupHeartbeatAnswer = await self.ask(
            entry,
            group,
            lambda ticket, now_ms: group.heartbeat(request, ticket, now_ms, before),
            ConsumerGroupHeartbeatAnswer,
        )
        if answer.error is not ErrorCode.NONE:
            if not self.closed:
                self.maybe_forget(entry)
            return answer
        # An append whose outcome is unknown changed the group, and nobody waits for it any more: an answer that takes
        # no record of its own must not show what the next coordinator may not have (rule 21).
        error = await self.committed_through(rests_on)
        return answer if error is ErrorCode.NONE else ConsumerGroupHeartbeatAnswer(error_of_append(error))
