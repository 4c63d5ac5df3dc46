"""May a ConsumerGroupHeartbeat be asked at all, and may this member ask it? Pure.

The order of the checks, the codes and the sentences follow Apache Kafka's GroupMetadataManager, which clients' logs and
tests know. `None` means that there is nothing against it.
"""

from __future__ import annotations

from collections.abc import Collection

from ...proto.errors import ErrorCode
from .consumer_group_member import JOIN_EPOCH, LEAVE_EPOCH, LEAVE_FOR_A_WHILE_EPOCH, ConsumerGroupMember
from .consumer_group_records import Assignment
from .group_request import ConsumerGroupHeartbeatAnswer, ConsumerGroupHeartbeatRequest, Partitions

SUBSCRIBED_TOPICS_MAX = 100_000
"""More names than a cluster of this kind has topics."""
OWNED_PARTITIONS_MAX = 1_000_000
_ID_BYTES_MAX = 2**15 - 1
"""Ids are part of record keys, where a length has 16 bits."""

Refusal = ConsumerGroupHeartbeatAnswer | None


def refuse(error: ErrorCode, message: str) -> ConsumerGroupHeartbeatAnswer:
    return ConsumerGroupHeartbeatAnswer(error, message)


def check_request(request: ConsumerGroupHeartbeatRequest, assignors: Collection[str]) -> Refusal:
    """What can be said of a request without looking at the group."""
    wrong = _wrong_field(request) or _wrong_size(request)
    if wrong is not None:
        return refuse(ErrorCode.INVALID_REQUEST, wrong)
    if request.server_assignor is not None and request.server_assignor not in assignors:
        return refuse(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {request.server_assignor} is not supported. Supported assignors: {', '.join(assignors)}.",
        )
    return None


def _wrong_field(request: ConsumerGroupHeartbeatRequest) -> str | None:
    for value, name in (
        (request.member_id, "MemberId"),
        (request.group_id, "GroupId"),
        (request.group_instance_id, "InstanceId"),
        (request.rack_id, "RackId"),
    ):
        if value is not None and not value.strip():
            return f"{name} can't be empty."
    if request.member_epoch == JOIN_EPOCH:
        return _wrong_in_join(request)
    if request.member_epoch == LEAVE_FOR_A_WHILE_EPOCH and request.group_instance_id is None:
        return "InstanceId can't be null."
    if request.member_epoch < LEAVE_FOR_A_WHILE_EPOCH:
        return "MemberEpoch is invalid."
    return None


def _wrong_in_join(request: ConsumerGroupHeartbeatRequest) -> str | None:
    if request.rebalance_timeout_ms is None:
        return "RebalanceTimeoutMs must be provided in first request."
    if request.owned_partitions is None or request.owned_partitions:
        return "TopicPartitions must be empty when (re-)joining."
    if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
        return "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
    return None


def _wrong_size(request: ConsumerGroupHeartbeatRequest) -> str | None:
    """Not in Kafka, where the size of the request is the only limit; what is kept here must fit records."""
    for value, name in (
        (request.group_id, "GroupId"),
        (request.member_id, "MemberId"),
        (request.group_instance_id, "InstanceId"),
        (request.rack_id, "RackId"),
        (request.subscribed_topic_regex, "SubscribedTopicRegex"),
    ):
        if value is not None and len(value.encode()) > _ID_BYTES_MAX:
            return f"{name} is too long."
    if request.rebalance_timeout_ms is not None and request.rebalance_timeout_ms < 0:
        return "RebalanceTimeoutMs can't be negative."
    if request.subscribed_topic_names is not None and len(request.subscribed_topic_names) > SUBSCRIBED_TOPICS_MAX:
        return "SubscribedTopicNames has too many names."
    owned = request.owned_partitions
    if owned is not None and sum(map(len, owned.values())) > OWNED_PARTITIONS_MAX:
        return "TopicPartitions has too many partitions."
    return None


def check_epoch(member: ConsumerGroupMember, received: int, owned: Partitions | None) -> Refusal:
    """Is it the member's epoch, or the one before, whose successor it may not have been told of?

    Epoch 0 is always good: a member that was fenced has given up its partitions and joins again (KAFKA-19233).
    """
    if received in (JOIN_EPOCH, member.member_epoch):
        return None
    answer_may_be_lost = received < member.member_epoch and received == member.previous_member_epoch
    if answer_may_be_lost and owned is not None and _is_within(owned, member.assigned_partitions):
        # It owns nothing but what the lost answer left it: it is told again.
        return None
    how = "greater" if received > member.member_epoch else "smaller"
    return refuse(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {how} member epoch ({received}) than the one known by the group coordinator "
        f"({member.member_epoch}). The member must abandon all its partitions and rejoin.",
    )


def _is_within(owned: Partitions, assigned: Assignment) -> bool:
    return all(assigned.get(topic_id, frozenset()).issuperset(numbers) for topic_id, numbers in owned.items())


def check_instance(member: ConsumerGroupMember | None, member_id: str, instance_id: str) -> Refusal:
    """Is the member that holds the instance id this one?"""
    if member is None:
        return refuse(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if member.member_id != member_id:
        return refuse(
            ErrorCode.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member {member.member_id}.",
        )
    return None


def check_released(member: ConsumerGroupMember, member_id: str, instance_id: str) -> Refusal:
    """May another process take over the instance id? Once the one that held it has left."""
    if member.has_left_for_a_while:
        return None
    return refuse(
        ErrorCode.UNRELEASED_INSTANCE_ID,
        f"Static member {member_id} with instance id {instance_id} cannot join the group because the instance id is "
        f"owned by {member.member_id} member.",
    )


def is_leaving(request: ConsumerGroupHeartbeatRequest) -> bool:
    return request.member_epoch in (LEAVE_EPOCH, LEAVE_FOR_A_WHILE_EPOCH)


def is_full(request: ConsumerGroupHeartbeatRequest) -> bool:
    """Clients send every field when they join and after any error: they are told their whole assignment then."""
    return request.member_epoch == JOIN_EPOCH or (
        request.rebalance_timeout_ms is not None
        and request.subscribed_topic_names is not None
        and request.owned_partitions is not None
    )
