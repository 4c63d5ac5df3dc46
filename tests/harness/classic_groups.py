"""A classic group in a shell that holds its appends back until a test lets them through."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from harness.fake_clock import FakeClock
from klamm.broker.groups.classic_group import ClassicGroup
from klamm.broker.groups.group import Append, Effects, GroupRecord, Reply, Ticket
from klamm.broker.groups.group_config import GroupConfig
from klamm.broker.groups.group_request import (
    HeartbeatRequest,
    JoinAnswer,
    JoinRequest,
    LeaveRequest,
    LeavingMember,
    OffsetCommitRequest,
    SyncRequest,
)
from klamm.proto.errors import ErrorCode

GROUP: Final = "g"
RANGE: Final = (("range", b"r"),)
SESSION_MS: Final = 10_000
REBALANCE_MS: Final = 60_000
LATER: Final = object()
"""No answer yet."""


@dataclass
class Call:
    """One request on its way."""

    ticket: Ticket
    answer: Any = LATER


def join(member_id: str = "", **changes: Any) -> JoinRequest:
    values: dict[str, Any] = {
        "group_id": GROUP,
        "member_id": member_id,
        "group_instance_id": None,
        "client_id": "client",
        "client_host": "/127.0.0.1",
        "protocol_type": "consumer",
        "protocols": RANGE,
        "session_timeout_ms": SESSION_MS,
        "rebalance_timeout_ms": REBALANCE_MS,
        "require_known_member_id": True,
        "supports_skipping_assignment": True,
    }
    return JoinRequest(**(values | changes))


def sync(joined: JoinAnswer, assignments: Mapping[str, bytes] | None = None, **changes: Any) -> SyncRequest:
    values: dict[str, Any] = {
        "group_id": GROUP,
        "generation_id": joined.generation_id,
        "member_id": joined.member_id,
        "group_instance_id": None,
        "protocol_type": joined.protocol_type,
        "protocol_name": joined.protocol_name,
        "assignments": assignments or {},
    }
    return SyncRequest(**(values | changes))


def heartbeat(joined: JoinAnswer, **changes: Any) -> HeartbeatRequest:
    values: dict[str, Any] = {
        "group_id": GROUP,
        "generation_id": joined.generation_id,
        "member_id": joined.member_id,
        "group_instance_id": None,
    }
    return HeartbeatRequest(**(values | changes))


def leave(*members: tuple[str, str | None]) -> LeaveRequest:
    return LeaveRequest(GROUP, tuple(LeavingMember(*member) for member in members))


def commit(generation_id: int, member_id: str, group_instance_id: str | None = None) -> OffsetCommitRequest:
    return OffsetCommitRequest(GROUP, generation_id, member_id, group_instance_id, ())


@dataclass
class Shell:
    """Time, tickets, and the log of one group. Appends wait in `waiting` for `commit` or `fail`."""

    config: GroupConfig = field(default_factory=GroupConfig)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.log: list[GroupRecord] = []
        self.waiting: deque[Append] = deque()
        self.calls: dict[Ticket, Call] = {}
        self._ids = 0
        self._tickets = count(1)
        self._refusal: ErrorCode | None = None
        self.group = ClassicGroup(
            GROUP, config=self.config, new_member_id=self._new_member_id, wall_ms=self.clock.wall_ms
        )

    def _new_member_id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}-{self._ids}"

    # --- requests ---

    def join(self, request: JoinRequest) -> Call:
        call = self._call()
        self._run(self.group.join(request, call.ticket, self.now))
        return call

    def sync(self, request: SyncRequest) -> Call:
        call = self._call()
        self._run(self.group.sync(request, call.ticket, self.now))
        return call

    def leave(self, request: LeaveRequest) -> Call:
        call = self._call()
        self._run(self.group.leave(request, call.ticket, self.now))
        return call

    def heartbeat(self, joined: JoinAnswer, **changes: Any) -> ErrorCode:
        return self.group.heartbeat(heartbeat(joined, **changes), self.now)

    def lose_connection(self, call: Call) -> None:
        del self.calls[call.ticket]
        self.group.forget_ticket(call.ticket)

    # --- time and the log ---

    @property
    def now(self) -> int:
        return self.clock.monotonic_ms()

    def advance(self, milliseconds: int) -> None:
        """Time passes; the group is woken whenever it asked to be."""
        end = self.now + milliseconds
        while (deadline := self.group.next_deadline_ms()) is not None and deadline <= end:
            self.clock.advance(max(deadline - self.now, 0))
            self._run(self.group.tick(self.now))
        self.clock.advance(end - self.now)

    def commit(self) -> None:
        """Everything that waits is committed, and what that leads to."""
        while self.waiting:
            self._run(self.group.committed(self.waiting.popleft().token, self.now))

    def fail(self, error: ErrorCode) -> None:
        """The oldest append that waits fails after it was written: nobody knows whether it stays."""
        self._run(self.group.failed(self.waiting.popleft().token, error, self.now))

    def refuse_next(self, error: ErrorCode) -> None:
        """The next append is not written at all."""
        self._refusal = error

    def reload(self) -> None:
        """Another coordinator takes over, with what the log has; whoever waits waits for ever."""
        self.waiting.clear()
        self.calls.clear()
        value = self.log[-1].value
        assert value is not None
        self.group = ClassicGroup.from_record(
            GROUP,
            value,
            config=self.config,
            new_member_id=self._new_member_id,
            wall_ms=self.clock.wall_ms,
            now_ms=self.now,
        )

    def _call(self) -> Call:
        call = Call(Ticket(next(self._tickets)))
        self.calls[call.ticket] = call
        return call

    def _run(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                call = self.calls.get(effect.ticket)
                if call is not None:
                    assert call.answer is LATER, f"answered twice: {call.answer}, {effect.answer}"
                    call.answer = effect.answer
            elif self._refusal is not None:
                error, self._refusal = self._refusal, None
                self._run(self.group.failed(effect.token, error, self.now))
            else:
                self.log += effect.records
                self.group.appended(effect.token)
                self.waiting.append(effect)


def new_member(shell: Shell, **changes: Any) -> Call:
    """Joins with the id that the group gives it; the answer may be LATER."""
    if changes.get("group_instance_id") is not None:
        return shell.join(join(**changes))
    return shell.join(join(shell.join(join(**changes)).answer.member_id, **changes))


def assign(answers: list[JoinAnswer]) -> dict[str, bytes]:
    """To each member its own id, under the generation."""
    return {answer.member_id: f"{answer.member_id}@{answer.generation_id}".encode() for answer in answers}


def stable(shell: Shell, count: int, *, static: int = 0, **changes: Any) -> list[JoinAnswer]:
    """A stable group of so many dynamic and static members, the leader first; what each was told when it joined."""
    calls = [new_member(shell, **changes)]
    for number in range(1, count + static):
        instance_id = f"i-{number}" if number >= count else None
        latest = new_member(shell, **changes, group_instance_id=instance_id)
        again = [
            shell.join(join(call.answer.member_id, **changes, group_instance_id=instance_of(call.answer.member_id)))
            for call in calls
        ]
        calls = [*again, latest]
    answers = [call.answer for call in calls]
    settle(shell, answers)
    return answers


def instance_of(member_id: str) -> str | None:
    """Static members' ids begin with the instance id, "i-1"."""
    return "-".join(member_id.split("-")[:2]) if member_id.startswith("i-") else None


def settle(shell: Shell, answers: list[JoinAnswer]) -> list[bytes]:
    """All sync, the leader with an assignment, which is committed; what each gets."""
    calls = []
    for answer in answers:
        assert answer.error is ErrorCode.NONE, answer
        mine = assign(answers) if answer.leader == answer.member_id else {}
        calls.append(shell.sync(sync(answer, mine, group_instance_id=instance_of(answer.member_id))))
    shell.commit()
    return [call.answer.assignment for call in calls]
