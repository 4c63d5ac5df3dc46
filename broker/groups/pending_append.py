"""What hangs on a record of a classic group that is on its way into the log, and what its failure means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ...proto.errors import ErrorCode
from .group import Ticket, Token
from .group_request import GroupState, LeaveAnswer

if TYPE_CHECKING:
    from .rebalance import Rebalance


class PendingAppend(Protocol):
    """Exactly one of these is called, once, when the outcome is known."""

    def committed(self, now_ms: int) -> None: ...

    def failed(self, error: ErrorCode, in_log: bool, now_ms: int) -> None:
        """`in_log`: it was appended, and nobody knows whether it stays there."""


class PendingAppends:
    """Those of one group that are under way, by token, in the order in which they were begun."""

    def __init__(self) -> None:
        self._appends: dict[Token, PendingAppend] = {}
        self._in_log: set[Token] = set()
        self._next_token = 0

    def begin(self, pending: PendingAppend) -> Token:
        token = Token(self._next_token)
        self._next_token += 1
        self._appends[token] = pending
        return token

    def appended(self, token: Token) -> None:
        self._in_log.add(token)

    def is_in_log(self, token: Token) -> bool:
        return token in self._in_log

    def end(self, token: Token) -> PendingAppend:
        """Takes it out; the outcome is known."""
        self._in_log.discard(token)
        return self._appends.pop(token)

    def last(self) -> PendingAppend | None:
        """The one that was begun last."""
        return next(reversed(self._appends.values()), None)


@dataclass(slots=True)
class AssignmentAppend:
    """The leader's assignment of one generation."""

    rebalance: Rebalance
    generation_id: int
    assignments: Mapping[str, bytes]

    def committed(self, now_ms: int) -> None:
        if self._is_current():
            self.rebalance.stabilize(self.assignments, now_ms)

    def failed(self, error: ErrorCode, in_log: bool, now_ms: int) -> None:
        """If it stays in the log after all, the next generation's record comes after it."""
        if self._is_current():
            self.rebalance.assignment_failed(error, now_ms)

    def _is_current(self) -> bool:
        """Another rebalance may have begun meanwhile: then nobody waits for this assignment any more."""
        rebalance = self.rebalance
        completing = rebalance.state is GroupState.COMPLETING_REBALANCE
        return completing and rebalance.generation_id == self.generation_id


class EmptyAppend:
    """The last member has gone. Should the record be lost, the next coordinator finds the last members there, and
    their sessions end: no harm is done. But who asked to leave is answered when it is certain."""

    def __init__(self, rebalance: Rebalance) -> None:
        self._rebalance = rebalance
        self._waiting: list[tuple[Ticket, LeaveAnswer]] = []

    def then_reply(self, ticket: Ticket, answer: LeaveAnswer) -> None:
        self._waiting.append((ticket, answer))

    def committed(self, now_ms: int) -> None:
        for ticket, answer in self._waiting:
            self._rebalance.reply(ticket, answer)

    def failed(self, error: ErrorCode, in_log: bool, now_ms: int) -> None:
        for ticket, _ in self._waiting:
            self._rebalance.reply(ticket, LeaveAnswer(error))


_IN_THE_WORDS_OF_GROUPS: Final = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.FENCED_LEADER_EPOCH: ErrorCode.NOT_COORDINATOR,
    ErrorCode.UNKNOWN_LEADER_EPOCH: ErrorCode.NOT_COORDINATOR,
    ErrorCode.UNKNOWN_TOPIC_ID: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


def error_of_append(error: ErrorCode) -> ErrorCode:
    """What a member is told when the write to the log failed with this, as Kafka translates it."""
    return _IN_THE_WORDS_OF_GROUPS.get(error, error)
