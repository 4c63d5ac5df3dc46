"""One consumer's membership in its group, under the classic protocol: what happens goes in, what to do comes out. Pure.

    state       means                                                     leaves for
    UNJOINED    no member, or thrown out by an error that poll() raises   PREPARING  `join`
    PREPARING   a rebalance is needed; the user's thread has to give up   JOINING    `prepared`
                partitions first, in poll(); heartbeats go on
    JOINING     JoinGroup under way, or waiting to be sent again          SYNCING    JoinGroup answered
    SYNCING     SyncGroup under way; the leader shares out before         COMPLETING SyncGroup answered
                                                                          JOINING    the group rebalances once more, or
                                                                                     the coordinator was lost
    COMPLETING  the assignment is here; the user's thread has to take     STABLE     `completed`
                it up, in poll()
    STABLE      a member in good standing                                 PREPARING  the group rebalances, or `rejoin`
    FENCED      another took the group.instance.id: for good

From any state but FENCED: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION or a user that does not poll lead to PREPARING with
`lost` set: what was owned belongs to others by now. `leave` and an error that no retry mends lead to UNJOINED.

Each JoinGroup or SyncGroup bears the number of an attempt, so that an answer that comes too late is known as such.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ..proto.errors import ErrorCode, FencedInstanceIdError, KafkaError, error_for


class MemberState(Enum):
    """See the table above."""

    UNJOINED = "UNJOINED"
    PREPARING = "PREPARING"
    JOINING = "JOINING"
    SYNCING = "SYNCING"
    COMPLETING = "COMPLETING"
    STABLE = "STABLE"
    FENCED = "FENCED"


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """What JoinGroup was answered with; `members` is for the leader alone and opaque here."""

    error: ErrorCode
    message: str = ""
    member_id: str = ""
    generation_id: int = -1
    protocol_name: str = ""
    leader: str = ""
    skip_assignment: bool = False
    members: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class SendJoin:
    attempt: int
    member_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShareOut:
    """The leader's part: compute the assignment, then call `shared_out`. With `skip`, only note who leads (KIP-814)."""

    attempt: int
    protocol_name: str
    members: tuple[object, ...]
    skip: bool


@dataclass(frozen=True, slots=True)
class SendSync:
    attempt: int
    generation_id: int
    member_id: str
    protocol_name: str
    assignments: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    generation_id: int
    member_id: str


@dataclass(frozen=True, slots=True)
class SendLeave:
    member_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class WakeUser:
    """poll() has something to do: give up partitions, take up an assignment or raise an error."""


Instruction = SendJoin | ShareOut | SendSync | SendHeartbeat | SendLeave | WakeUser
Instructions = list[Instruction]

_RETRIED = frozenset({ErrorCode.REBALANCE_IN_PROGRESS})
_MEMBERSHIP_LOST = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION})
_WITH_HEARTBEAT = frozenset({MemberState.PREPARING, MemberState.SYNCING, MemberState.COMPLETING, MemberState.STABLE})


class GroupMembership:
    """The state machine. Times are monotonic, in ms. `backoff_ms` says how long to wait before the next try."""

    def __init__(
        self,
        *,
        heartbeat_interval_ms: int,
        max_poll_interval_ms: int,
        is_static: bool,
        backoff_ms: Callable[[], float],
        backoff_reset: Callable[[], None],
    ) -> None:
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self._max_poll_interval_ms = max_poll_interval_ms
        self._is_static = is_static
        self._backoff_ms = backoff_ms
        self._backoff_reset = backoff_reset
        self.state = MemberState.UNJOINED
        self.member_id = ""
        self.generation_id: int | None = None  # None: not a member of any generation
        self.owned_generation_id: int | None = None  # in which what is owned was assigned
        self.protocol_name = ""
        self.is_leader = False
        self.lost = False  # while PREPARING: what was owned is others' by now
        self.assignment = b""  # while COMPLETING
        self.error: KafkaError | None = None  # for poll() to raise
        self._attempt = 0
        self._rejoin_reason = ""  # not "": once COMPLETING is done, rebalance again
        self._join_reason = ""
        self._retry_at_ms: int | None = None  # JOINING: when to send JoinGroup again
        self._next_heartbeat_ms = 0
        self._heartbeat_sent_ms: int | None = None  # while one is under way
        self._last_poll_ms = 0

    # --- what the user does ---------------------------------------------------------------------------------------

    def join(self, now_ms: int) -> Instructions:
        """The user has subscribed, or polls again after an error that threw it out."""
        if self.state is not MemberState.UNJOINED:
            return []
        self._last_poll_ms = now_ms
        self.error = None
        return self._prepare("the consumer has subscribed")

    def rejoin(self, reason: str) -> Instructions:
        """The subscription has changed, partitions were given up (KIP-429), or, to a leader, topics have changed."""
        if self.state is MemberState.STABLE:
            return self._prepare(reason)
        if self.state in (MemberState.JOINING, MemberState.SYNCING, MemberState.COMPLETING):
            self._rejoin_reason = reason
        return []

    def polled(self, now_ms: int) -> None:
        """The user is alive."""
        self._last_poll_ms = max(self._last_poll_ms, now_ms)

    def prepared(self, *, lost: bool) -> Instructions:
        """What has to be given up before a rebalance was given up; `lost` is what the user's thread saw of it."""
        if self.state is not MemberState.PREPARING:
            return []
        if self.lost and not lost:
            return [WakeUser()]  # lost meanwhile: all of it has to go
        if self.lost:
            self.owned_generation_id = None
        self.lost = False
        self.is_leader = False
        return self._send_join()

    def completed(self, now_ms: int) -> Instructions:
        """The assignment was taken up."""
        if self.state is not MemberState.COMPLETING:
            return []
        self.owned_generation_id = self.generation_id
        self.assignment = b""
        self.state = MemberState.STABLE
        reason, self._rejoin_reason = self._rejoin_reason, ""
        return self._prepare(reason) if reason else []

    def leave(self, reason: str) -> Instructions:
        """The user unsubscribes or closes. A static member keeps its place for `session_timeout_ms` (KIP-345)."""
        if self.state in (MemberState.UNJOINED, MemberState.FENCED):
            return []
        member_id = self.member_id
        self._forget(keep_member_id=False)
        self.owned_generation_id = None
        self.lost = False
        self.error = None
        self.state = MemberState.UNJOINED
        return [SendLeave(member_id, reason)] if member_id and not self._is_static else []

    # --- answers --------------------------------------------------------------------------------------------------

    def join_answered(self, attempt: int, answer: JoinAnswer, now_ms: int) -> Instructions:
        """JoinGroup was answered."""
        if attempt != self._attempt or self.state is not MemberState.JOINING:
            return []
        error = answer.error
        if error is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            return self._send_join()
        if error is ErrorCode.NONE:
            return self._joined(answer, now_ms)
        if error.retriable or error in _RETRIED:
            return self._retry_join(now_ms)
        return self._refused(error, answer.message)

    def shared_out(self, attempt: int, assignments: dict[str, bytes]) -> Instructions:
        """The leader has the assignment of each member."""
        if attempt != self._attempt or self.state is not MemberState.SYNCING:
            return []
        return self._send_sync(assignments)

    def share_out_failed(self, attempt: int, error: KafkaError) -> Instructions:
        """The leader cannot share out: a member's subscription cannot be read, or an assignor has failed."""
        if attempt != self._attempt or self.state is not MemberState.SYNCING:
            return []
        return self._fail(error)

    def sync_answered(
        self, attempt: int, error: ErrorCode, message: str, assignment: bytes, now_ms: int
    ) -> Instructions:
        """SyncGroup was answered, or could not be (a retriable error)."""
        if attempt != self._attempt or self.state is not MemberState.SYNCING:
            return []
        if error is ErrorCode.NONE:
            self._backoff_reset()
            self.state = MemberState.COMPLETING
            self.assignment = assignment
            return [WakeUser()]
        if error is ErrorCode.REBALANCE_IN_PROGRESS:
            return self._send_join()
        if error.retriable:
            # The coordinator may have moved: whether the group has the assignment, a new join will show.
            self.state = MemberState.JOINING
            return self._retry_join(now_ms)
        return self._refused(error, message)

    def heartbeat_answered(self, generation_id: int, error: ErrorCode, now_ms: int) -> Instructions:
        """A heartbeat was answered, or could not be (a retriable error)."""
        sent_ms, self._heartbeat_sent_ms = self._heartbeat_sent_ms, None
        if generation_id != self.generation_id:
            return []
        if error.retriable:
            self._next_heartbeat_ms = now_ms + int(self._backoff_ms())
            return []
        self._backoff_reset()
        self._next_heartbeat_ms = (now_ms if sent_ms is None else sent_ms) + self._heartbeat_interval_ms
        if error is ErrorCode.NONE:
            return []
        if error is ErrorCode.REBALANCE_IN_PROGRESS:
            return self._prepare("the group rebalances") if self.state is MemberState.STABLE else []
        return self._refused(error, "")

    def commit_refused(self, generation_id: int, error: ErrorCode) -> Instructions:
        """An OffsetCommit told that the membership is not what it was; `error` is what the coordinator said."""
        if generation_id != self.generation_id or self.state not in _WITH_HEARTBEAT:
            return []
        if error is ErrorCode.REBALANCE_IN_PROGRESS:
            return self.rejoin("the group rebalances")
        if error in _MEMBERSHIP_LOST or error is ErrorCode.FENCED_INSTANCE_ID:
            return self._refused(error, "")
        return []

    # --- time -----------------------------------------------------------------------------------------------------

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do at the earliest; may be early, never late."""
        if self.state in (MemberState.UNJOINED, MemberState.FENCED):
            return None
        deadlines = []
        if self.member_id:
            deadlines.append(self._last_poll_ms + self._max_poll_interval_ms)
        if self._retry_at_ms is not None:
            deadlines.append(self._retry_at_ms)
        if self._has_heartbeat:
            deadlines.append(self._next_heartbeat_ms)
        return min(deadlines, default=None)

    def tick(self, now_ms: int) -> Instructions:
        """Carries out what time demands: heartbeats, the next try to join, the end of patience with the user."""
        if self.member_id and now_ms - self._last_poll_ms >= self._max_poll_interval_ms:
            return self._poll_overdue(now_ms)
        if self._retry_at_ms is not None and now_ms >= self._retry_at_ms:
            return self._send_join()
        if self._has_heartbeat and now_ms >= self._next_heartbeat_ms:
            assert self.generation_id is not None
            self._heartbeat_sent_ms = now_ms
            return [SendHeartbeat(self.generation_id, self.member_id)]
        return []

    @property
    def _has_heartbeat(self) -> bool:
        return self.generation_id is not None and self.state in _WITH_HEARTBEAT and self._heartbeat_sent_ms is None

    def _poll_overdue(self, now_ms: int) -> Instructions:
        """max_poll_interval_ms is over: others shall have the partitions. The next poll() joins again.

        A static member only falls silent: its session time-out decides (KIP-345).
        """
        self._last_poll_ms = now_ms
        if self.state in (MemberState.UNJOINED, MemberState.FENCED):
            return []
        member_id = self.member_id
        instructions = self._lose(keep_member_id=False)
        if not self._is_static:
            reason = f"poll() was not called within max_poll_interval_ms={self._max_poll_interval_ms}"
            instructions.append(SendLeave(member_id, reason))
        return instructions

    # --- moves ----------------------------------------------------------------------------------------------------

    def _prepare(self, reason: str) -> Instructions:
        self.state = MemberState.PREPARING
        self._join_reason = reason
        return [WakeUser()]

    def _send_join(self) -> Instructions:
        self.state = MemberState.JOINING
        self._rejoin_reason = ""  # this join tells of everything that has changed until now
        self._retry_at_ms = None
        self._attempt += 1
        return [SendJoin(self._attempt, self.member_id, self._join_reason)]

    def _retry_join(self, now_ms: int) -> Instructions:
        self._attempt += 1
        self._retry_at_ms = now_ms + int(self._backoff_ms())
        return []

    def _joined(self, answer: JoinAnswer, now_ms: int) -> Instructions:
        self.member_id = answer.member_id
        self.generation_id = answer.generation_id
        self.protocol_name = answer.protocol_name
        self.is_leader = answer.leader == answer.member_id
        self.state = MemberState.SYNCING
        self._next_heartbeat_ms = now_ms + self._heartbeat_interval_ms
        self._heartbeat_sent_ms = None
        if self.is_leader:
            return [ShareOut(self._attempt, answer.protocol_name, answer.members, answer.skip_assignment)]
        return self._send_sync({})

    def _send_sync(self, assignments: dict[str, bytes]) -> Instructions:
        assert self.generation_id is not None
        return [SendSync(self._attempt, self.generation_id, self.member_id, self.protocol_name, assignments)]

    def _refused(self, error: ErrorCode, message: str) -> Instructions:
        if error is ErrorCode.FENCED_INSTANCE_ID:
            self._forget(keep_member_id=True)
            self.lost = True
            self.state = MemberState.FENCED
            self.error = FencedInstanceIdError(message or error.message)
            return [WakeUser()]
        if error in _MEMBERSHIP_LOST:
            return self._lose(keep_member_id=error is ErrorCode.ILLEGAL_GENERATION)
        return self._fail(error_for(error, message))

    def _lose(self, *, keep_member_id: bool) -> Instructions:
        self._forget(keep_member_id=keep_member_id)
        self.lost = True
        return self._prepare("the membership was lost")

    def _fail(self, error: KafkaError) -> Instructions:
        self._forget(keep_member_id=True)
        self.lost = True
        self.state = MemberState.UNJOINED
        self.error = error
        return [WakeUser()]

    def _forget(self, *, keep_member_id: bool) -> None:
        if not keep_member_id:
            self.member_id = ""
        self.generation_id = None
        self.is_leader = False
        self.assignment = b""
        self._attempt += 1
        self._rejoin_reason = ""
        self._retry_at_ms = None
        self._heartbeat_sent_ms = None
