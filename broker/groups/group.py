"""What the coordinator asks of a group, be it classic or of KIP-848, and the effects by which a group answers. Pure.

A group decides; the coordinator's shell (`shard.py`) acts. Each call returns effects, to be carried out in order:

    Reply(ticket, answer)       hand the answer to whoever waits with this ticket
    Append(token, records)      write the records to __consumer_offsets, as one batch

and after an Append the shell calls back, exactly one of these two ways:

    appended(token)             the batch is in the leader's log: within this leadership it stays there, so the group
                                takes up its new state now (what it decides next builds on it)
    then committed(token, now)  every replica in sync has it: answers may go out (rule 21)
    or   failed(token, error, now)
                                without `appended`: nothing was written. After `appended`: it is not known whether it
                                stays; whoever waits is told to try again, the state stays as the log has it

When the leadership of the partition is lost, the shell answers NOT_COORDINATOR to everyone who waits and forgets the
group; the next coordinator builds it from the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NewType, Protocol

from ...proto.errors import ErrorCode
from .group_request import DescribedGroup, GroupState, GroupType, LeaveRequest, ListedGroup, OffsetCommitRequest

Ticket = NewType("Ticket", int)
"""Names one waiting request; chosen by the shell, each answered exactly once."""
Token = NewType("Token", int)
"""Names one append; chosen by the group, unique within it."""


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """One record of __consumer_offsets, in Kafka's format; `value` None is a tombstone."""

    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Reply:
    ticket: Ticket
    answer: Any  # the answer type that belongs to the request


@dataclass(frozen=True, slots=True)
class Append:
    token: Token
    records: tuple[GroupRecord, ...]


Effect = Reply | Append
Effects = list[Effect]


class Group(Protocol):
    """The part of a group that the shell needs whatever its type. Time is the clock's monotonic time in ms."""

    @property
    def group_id(self) -> str: ...

    @property
    def type(self) -> GroupType: ...

    @property
    def state(self) -> GroupState: ...

    # --- time and the log ---

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do at the earliest; may be early, never late."""

    def tick(self, now_ms: int) -> Effects:
        """Carries out what time demands: expired sessions, rebalance time-outs."""

    def appended(self, token: Token) -> None: ...

    def committed(self, token: Token, now_ms: int) -> Effects: ...

    def failed(self, token: Token, error: ErrorCode, now_ms: int) -> Effects: ...

    # --- offsets ---

    def check_offset_commit(self, request: OffsetCommitRequest, now_ms: int) -> ErrorCode:
        """May this member commit now? A commit also counts as a sign of life (as in Kafka)."""

    def check_offset_fetch(self, member_id: str | None, member_epoch: int) -> ErrorCode: ...

    def is_subscribed_to(self, topic: str) -> bool:
        """OffsetDelete refuses such a topic, and its offsets do not expire (KIP-496, KIP-211)."""

    @property
    def offsets_expire_since_ms(self) -> int | None:
        """Wall clock: offsets expire this long after; None: the group is in use, or counts from each commit (KIP-211).

        For an empty group of a protocol type: when it became empty.
        """

    # --- lists, deletion ---

    def listed(self) -> ListedGroup: ...

    def described(self) -> DescribedGroup:
        """For DescribeGroups."""

    def check_delete(self) -> ErrorCode:
        """NON_EMPTY_GROUP unless it is empty or dead."""

    def tombstones(self) -> Sequence[GroupRecord]:
        """The records that make the group's own state vanish (its offsets are the shell's matter)."""

    def leave(self, request: LeaveRequest, ticket: Ticket, now_ms: int) -> Effects:
        """LeaveGroup; also used by administrators to remove members."""
