"""How a member of a consumer group comes from what it owns to what it should own (KIP-848). Pure.

    from                   to                     when
    STABLE                 UNREVOKED_PARTITIONS   there is a newer target, and it must give partitions up first
    STABLE, UNRELEASED_*   UNRELEASED_PARTITIONS  nothing to give up; some of its target still belongs to others
    STABLE, UNRELEASED_*   STABLE                 nothing to give up; all of its target is its own
    UNRELEASED_PARTITIONS  UNREVOKED_PARTITIONS   the target has changed again, and it must give partitions up
    UNREVOKED_PARTITIONS   any                    its heartbeat reports partitions without those it had to give up

A partition is handed to a member only when it belongs to nobody: a member that is to give a partition up keeps it, as
pending revocation, until its own heartbeat says that it does not own it any more, or until it is fenced (rule 22).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...proto.identifiers import TopicId
from .consumer_group_member import ConsumerGroupMember, MemberState
from .consumer_group_records import NO_PARTITIONS, Assignment
from .group_request import Partitions

_NOTHING: frozenset[int] = frozenset()

IsFree = Callable[[TopicId, int], bool]
"""Does this partition belong to no member at all?"""


def reconcile(
    member: ConsumerGroupMember, target_epoch: int, target: Assignment, is_free: IsFree, owned: Partitions | None
) -> ConsumerGroupMember | None:
    """The member's next state towards the target; the same object when it cannot move.

    :param owned: what the member's heartbeat says it owns; None where it said nothing about it.
    :return: None when a newer coordinator left the member in a state that is not known here: it must join again.
    """
    if member.state is MemberState.STABLE:
        if member.member_epoch == target_epoch:
            return member
        return _next(member, member.member_epoch, target_epoch, target, is_free, owned)
    if member.state is MemberState.UNREVOKED_PARTITIONS:
        if _owns_any(owned, member.partitions_pending_revocation):
            return member
        return _next(member, member.member_epoch + 1, target_epoch, target, is_free, owned)
    if member.state is MemberState.UNRELEASED_PARTITIONS:
        return _next(member, member.member_epoch, target_epoch, target, is_free, owned)
    if owned is None or any(owned.values()):
        return None
    return _next(member, target_epoch, target_epoch, target, is_free, owned)


def _owns_any(owned: Partitions | None, partitions: Assignment) -> bool:
    """A member that says nothing is taken to own them still."""
    if owned is None:
        return True
    return any(not partitions.get(topic_id, _NOTHING).isdisjoint(numbers) for topic_id, numbers in owned.items())


def _next(
    member: ConsumerGroupMember,
    member_epoch: int,
    target_epoch: int,
    target: Assignment,
    is_free: IsFree,
    owned: Partitions | None,
) -> ConsumerGroupMember:
    kept: dict[TopicId, frozenset[int]] = {}
    to_revoke: dict[TopicId, frozenset[int]] = {}
    to_assign: dict[TopicId, frozenset[int]] = {}
    unreleased = False
    for topic_id in {**target, **member.assigned_partitions}:
        wanted = target.get(topic_id, _NOTHING)
        assigned = member.assigned_partitions.get(topic_id, _NOTHING)
        missing = wanted - assigned
        free = frozenset(partition for partition in missing if is_free(topic_id, partition))
        unreleased = unreleased or len(free) < len(missing)
        for partitions, into in ((assigned & wanted, kept), (assigned - wanted, to_revoke), (free, to_assign)):
            if partitions:
                into[topic_id] = partitions
    if to_revoke and _owns_any(owned, to_revoke):
        return _moved(member, member_epoch, MemberState.UNREVOKED_PARTITIONS, kept, to_revoke)
    state = MemberState.UNRELEASED_PARTITIONS if unreleased else MemberState.STABLE
    for topic_id, partitions in to_assign.items():
        kept[topic_id] = kept.get(topic_id, _NOTHING) | partitions
    return _moved(member, target_epoch, state, kept, NO_PARTITIONS)


def _moved(
    member: ConsumerGroupMember, epoch: int, state: MemberState, assigned: Assignment, pending: Assignment
) -> ConsumerGroupMember:
    """The previous epoch is the one before this very move, also when it is the same.

    So an epoch that the member has been told of since then is no longer taken for that of a lost answer.
    """
    moved = replace(
        member,
        member_epoch=epoch,
        state=state,
        assigned_partitions=assigned,
        partitions_pending_revocation=pending,
    )
    return member if moved == member else replace(moved, previous_member_epoch=member.member_epoch)
