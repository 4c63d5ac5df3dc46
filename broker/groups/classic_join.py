"""What a JoinGroup request means to a classic group: who may come in, by which id, and whether it rebalances. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ...proto.errors import ErrorCode
from .group import Ticket
from .group_config import GroupConfig
from .group_request import UNKNOWN_MEMBER_ID, GroupState, JoinAnswer, JoinRequest
from .members import Member, member_of_request
from .rebalance import Rebalance
from .static_member import replace_static_member

logger = logging.getLogger(__name__)

NewMemberId = Callable[[str], str]


TEXT_BYTES_MAX: Final = 32_000
"""The longest id or name of a member: the format of the log has room for 32,767 bytes, a member id adds some."""


def check_join(request: JoinRequest, config: GroupConfig) -> ErrorCode:
    """What can be said before the group is looked at, or made.

    INVALID_GROUP_ID, INVALID_SESSION_TIMEOUT, or INVALID_REQUEST for a name that is longer than the log can hold.
    """
    if not request.group_id or len(request.group_id.encode()) > TEXT_BYTES_MAX:
        return ErrorCode.INVALID_GROUP_ID
    texts = (request.member_id, request.group_instance_id or "", request.client_id, request.protocol_type)
    if any(len(text.encode()) > TEXT_BYTES_MAX for text in (*texts, *(name for name, _ in request.protocols))):
        return ErrorCode.INVALID_REQUEST
    if not config.min_session_timeout_ms <= request.session_timeout_ms <= config.max_session_timeout_ms:
        return ErrorCode.INVALID_SESSION_TIMEOUT
    return ErrorCode.NONE


def join(rebalance: Rebalance, new_member_id: NewMemberId, request: JoinRequest, ticket: Ticket, now_ms: int) -> None:
    """Handles one request; the answer comes through the effects of `rebalance`, now or later."""
    error = _refusal(rebalance, request)
    if error is not ErrorCode.NONE:
        member_id = UNKNOWN_MEMBER_ID if error is ErrorCode.GROUP_MAX_SIZE_REACHED else request.member_id
        rebalance.reply(ticket, JoinAnswer(error, member_id))
        if error is ErrorCode.GROUP_MAX_SIZE_REACHED:
            _turn_away(rebalance, request, now_ms)
    elif request.member_id == UNKNOWN_MEMBER_ID:
        _join_as_new(rebalance, new_member_id, request, ticket, now_ms)
    elif request.member_id in rebalance.members.pending:
        _add(rebalance, request, request.member_id, ticket, now_ms)
    else:
        _join_again(rebalance, request, ticket, now_ms)


def _refusal(rebalance: Rebalance, request: JoinRequest) -> ErrorCode:
    """In Kafka's order: time-out, room, life, protocols, identity."""
    error = check_join(request, rebalance.config)
    if error is not ErrorCode.NONE:
        return error
    if not _has_room(rebalance, request.member_id):
        return ErrorCode.GROUP_MAX_SIZE_REACHED
    if rebalance.state is GroupState.DEAD:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if not _speaks_with_us(rebalance, request):
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    if request.member_id == UNKNOWN_MEMBER_ID:
        return ErrorCode.NONE
    if request.member_id in rebalance.members.pending:
        # A static member has no use for an id that was given to a dynamic one.
        return ErrorCode.NONE if request.group_instance_id is None else ErrorCode.INVALID_REQUEST
    return rebalance.members.check(request.member_id, request.group_instance_id)


def _has_room(rebalance: Rebalance, member_id: str) -> bool:
    """By `group.max.size`. While the next generation gathers, those count who joined, so that of a group that is too
    large (the limit was lowered) the last to join have to go."""
    members, limit = rebalance.members, rebalance.config.max_size
    is_member = member_id in members
    if rebalance.state in (GroupState.EMPTY, GroupState.DEAD):
        return True
    if rebalance.state is GroupState.PREPARING_REBALANCE:
        return (is_member and members[member_id].joined) or members.joined_count < limit
    return is_member or len(members) < limit


def _turn_away(rebalance: Rebalance, request: JoinRequest, now_ms: int) -> None:
    logger.info("group_is_full group=%s limit=%d", request.group_id, rebalance.config.max_size)
    if request.member_id in rebalance.members:
        rebalance.remove_member(rebalance.members[request.member_id])
    else:
        rebalance.members.remove(request.member_id)  # it may be pending
    rebalance.maybe_complete(now_ms)


def _speaks_with_us(rebalance: Rebalance, request: JoinRequest) -> bool:
    names = {name for name, _ in request.protocols}
    if rebalance.state is GroupState.EMPTY:
        return bool(request.protocol_type) and bool(names)
    return request.protocol_type == rebalance.protocol_type and rebalance.members.all_speak_one_of(names)


def _join_as_new(
    rebalance: Rebalance, new_member_id: NewMemberId, request: JoinRequest, ticket: Ticket, now_ms: int
) -> None:
    instance_id = request.group_instance_id
    member_id = new_member_id(request.client_id if instance_id is None else instance_id)
    if instance_id is not None and rebalance.members.static_member_id(instance_id) is not None:
        replace_static_member(rebalance, request, member_id, ticket, now_ms)
    elif instance_id is None and request.require_known_member_id:
        # KIP-394: a client whose answer is lost would otherwise leave a member behind with each attempt.
        rebalance.add_pending(member_id, now_ms + request.session_timeout_ms)
        rebalance.reply(ticket, JoinAnswer(ErrorCode.MEMBER_ID_REQUIRED, member_id))
    else:
        _add(rebalance, request, member_id, ticket, now_ms)


def _add(rebalance: Rebalance, request: JoinRequest, member_id: str, ticket: Ticket, now_ms: int) -> None:
    if not len(rebalance.members):
        rebalance.protocol_type = request.protocol_type
    rebalance.add_member(member_of_request(request, member_id), ticket, now_ms)
    rebalance.members_changed(now_ms, f"{member_id} joined ({request.reason or 'no reason given'})")


def _join_again(rebalance: Rebalance, request: JoinRequest, ticket: Ticket, now_ms: int) -> None:
    member = rebalance.members[request.member_id]
    reason = _reason_to_rebalance(rebalance, request, member)
    if reason is None:
        # Its answer was lost, or it is a follower in no need of another assignment: the generation goes on.
        leads = rebalance.members.is_leader(member.member_id)
        completing = rebalance.state is GroupState.COMPLETING_REBALANCE
        rebalance.reply(ticket, rebalance.current_answer(member, with_members=leads and completing))
        return
    rebalance.members.update(member, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms)
    rebalance.await_join(member, ticket)
    rebalance.members_changed(now_ms, reason)


def _reason_to_rebalance(rebalance: Rebalance, request: JoinRequest, member: Member) -> str | None:
    """None: nothing has changed for the group. A leader that joins a stable group again wants a rebalance: it has
    seen something that changes the assignment, such as new partitions."""
    told = request.reason or "no reason given"
    if rebalance.state is GroupState.PREPARING_REBALANCE:
        return f"{member.member_id} joined again ({told})"
    if member.protocols != request.protocols:
        return f"{member.member_id} changed its metadata ({told})"
    if rebalance.state is GroupState.STABLE and rebalance.members.is_leader(member.member_id):
        return f"the leader {member.member_id} joined again ({told})"
    return None
