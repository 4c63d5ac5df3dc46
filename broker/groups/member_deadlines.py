"""When the sessions of a consumer group's members end, and by when they must have revoked. Pure.

Not in the log: a coordinator that loads a group gives every member a whole time-out from then on. Times are of the
monotonic clock, in ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .consumer_group_member import ConsumerGroupMember, MemberState

_RETRY_MS: Final = 500
"""How soon a member is found overdue again when the record that fences it could not be written, as in Kafka."""


class MemberDeadlines:
    """Holds an entry for every member of the group, once `set` was called for it."""

    def __init__(self) -> None:
        self._session_ends: dict[str, int] = {}
        self._must_revoke_by: dict[str, tuple[int, int]] = {}  # time and member epoch, by member
        self._next: int | None = None  # nothing ends before it

    @property
    def next_ms(self) -> int | None:
        """May be early, never late."""
        return self._next

    def set(self, member_id: str, member: ConsumerGroupMember | None, session_ms: int, now_ms: int) -> None:
        """After a record of the member; None: it is gone.

        A record is no sign of life: it may be about a target that changed with somebody else's heartbeat.
        """
        if member is None:
            self._session_ends.pop(member_id, None)
            self._must_revoke_by.pop(member_id, None)
            return
        if member_id not in self._session_ends:
            self.extend_session(member_id, session_ms, now_ms)
        if member.state is not MemberState.UNREVOKED_PARTITIONS or member.has_left_for_a_while:
            self._must_revoke_by.pop(member_id, None)
        elif self._must_revoke_by.get(member_id, (0, None))[1] != member.member_epoch:
            end_ms = now_ms + max(0, member.rebalance_timeout_ms)
            self._must_revoke_by[member_id] = (end_ms, member.member_epoch)
            self._expect(end_ms)

    def extend_session(self, member_id: str, session_ms: int, now_ms: int) -> None:
        """The member has given a sign of life."""
        self._session_ends[member_id] = now_ms + session_ms
        self._expect(now_ms + session_ms)

    def _expect(self, end_ms: int) -> None:
        self._next = end_ms if self._next is None else min(self._next, end_ms)

    def take_overdue(self, members: Mapping[str, ConsumerGroupMember], now_ms: int) -> dict[str, str]:
        """Who is to be fenced now, and why; found again a little later unless `set` says that the member is gone."""
        if self._next is None or now_ms < self._next:
            return {}
        overdue = {member_id: "session_expired" for member_id, end_ms in self._session_ends.items() if end_ms <= now_ms}
        for member_id, (end_ms, epoch) in tuple(self._must_revoke_by.items()):
            if end_ms <= now_ms and members[member_id].member_epoch == epoch:
                overdue.setdefault(member_id, "not_revoked")
        for member_id in overdue:
            self._session_ends[member_id] = now_ms + _RETRY_MS
        self._must_revoke_by = {one: by for one, by in self._must_revoke_by.items() if by[0] > now_ms}
        ends = [*self._session_ends.values(), *(end_ms for end_ms, _ in self._must_revoke_by.values())]
        self._next = min(ends, default=None)
        return overdue
