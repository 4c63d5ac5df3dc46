"""A static member comes back without its member id (KIP-345): it takes its place again under a new one. Pure.

Whoever waits under the old id is fenced at once. In a stable group whose protocol stays the same nothing is
rebalanced: the new id is written down, and then the member is told of the generation that goes on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ...cluster.invariant import invariant
from ...proto.errors import ErrorCode
from .group import Ticket
from .group_request import GroupState, JoinAnswer, JoinRequest, SyncAnswer
from .members import Member
from .rebalance import Rebalance

logger = logging.getLogger(__name__)


def replace_static_member(rebalance: Rebalance, request: JoinRequest, new_id: str, ticket: Ticket, now_ms: int) -> None:
    """Handles a join of an instance that the group has under another member id."""
    members = rebalance.members
    instance_id = request.group_instance_id or ""
    old_id = members.static_member_id(instance_id)
    invariant(old_id is not None, f"group {rebalance.group_id} has no instance {instance_id}")
    old = members[old_id or ""]
    leader_before = members.leader_id or ""
    logger.info(
        "group_static_member_replaced group=%s instance=%r old=%r new=%r",
        *(request.group_id, instance_id, old.member_id, new_id),
    )
    if old.join_ticket is not None:
        rebalance.reply(old.join_ticket, JoinAnswer(ErrorCode.FENCED_INSTANCE_ID, old.member_id))
    if old.sync_ticket is not None:
        rebalance.reply(old.sync_ticket, SyncAnswer(ErrorCode.FENCED_INSTANCE_ID))
    member = members.rename_static(old, new_id)
    members.update(member, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms)
    member.client_id, member.client_host = request.client_id, request.client_host
    members.set_joined(member, True, ticket)
    rebalance.touch(member, now_ms)
    if rebalance.state is GroupState.STABLE and members.select_protocol() == rebalance.protocol_name:
        assignments = {other.member_id: other.assignment for other in members}
        pending = StaticMemberAppend(
            rebalance, rebalance.generation_id, old, member, leader_before, request.supports_skipping_assignment
        )
        rebalance.append(rebalance.record(assignments), pending)
    else:
        # While an assignment is being made, the leader may know the old id alone: it must be made anew.
        rebalance.members_changed(now_ms, f"static member {instance_id} came back as {new_id}")


@dataclass(slots=True)
class StaticMemberAppend:
    """The record with the new member id of a static member."""

    rebalance: Rebalance
    generation_id: int
    old: Member
    member: Member
    leader_before: str
    supports_skipping_assignment: bool

    def committed(self, now_ms: int) -> None:
        if not self._is_current():
            return
        rebalance, member = self.rebalance, self.member
        leads = rebalance.members.is_leader(member.member_id)
        if self.supports_skipping_assignment:
            answer = rebalance.current_answer(member, with_members=leads, skip_assignment=leads)
        else:
            # Told of the leader by its old id, a leader that came back does not take itself for one, and so makes no
            # assignment that a stable group would ignore (KIP-814 says it in words instead).
            answer = rebalance.current_answer(member, with_members=False, leader=self.leader_before)
        rebalance.answer_join(member, answer, now_ms)

    def failed(self, error: ErrorCode, in_log: bool, now_ms: int) -> None:
        """Back to the old member id, unless the log may have the new one: then the instance comes back again, and is
        replaced again."""
        if not self._is_current():
            return
        rebalance, members = self.rebalance, self.rebalance.members
        answer = JoinAnswer(
            error=error,
            generation_id=rebalance.generation_id,
            protocol_type=rebalance.protocol_type,
            protocol_name=rebalance.protocol_name,
            leader=self.leader_before,
        )
        rebalance.answer_join(self.member, answer, now_ms)
        if in_log:
            return
        back = members.rename_static(self.member, self.old.member_id)
        members.update(back, self.old.protocols, self.old.rebalance_timeout_ms, self.old.session_timeout_ms)
        back.client_id, back.client_host = self.old.client_id, self.old.client_host
        rebalance.touch(back, now_ms)

    def _is_current(self) -> bool:
        """Still the member of this instance, in the generation it was to go on with, and not drawn into another
        rebalance (which will answer it) nor replaced once more."""
        rebalance, member = self.rebalance, self.member
        same = member.member_id in rebalance.members and rebalance.members[member.member_id] is member
        stable = rebalance.state is GroupState.STABLE and rebalance.generation_id == self.generation_id
        return same and stable and member.joined
