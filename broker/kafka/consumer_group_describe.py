"""ConsumerGroupDescribe (key 69), versions 0 and 1: groups of the consumer protocol and their members (KIP-848).

    1    says of each member which protocol it speaks (KIP-1099)

A group of another kind, or none, is GROUP_ID_NOT_FOUND, as in Apache Kafka; one group's error is no other's. A
partition whose topic has been deleted since it was assigned is left out: there is no name to give it.
"""

from __future__ import annotations

from typing import Any, Final

from ...proto.errors import ErrorCode
from ..groups.group_request import DescribedConsumer, DescribedConsumerGroup, Partitions
from .authorized_operations import GROUP, NOT_ASKED
from .messages import NO_THROTTLE, make
from .rooms import RequestContext

_CLASSIC_MEMBER: Final = 0
_CONSUMER_MEMBER: Final = 1


async def handle(request: Any, context: RequestContext) -> Any:
    """Each group of the request, in its order."""
    groups = await context.rooms.groups.consumer_group_describe(tuple(request.group_ids))
    operations = GROUP if request.include_authorized_operations else NOT_ASKED
    return context.schema.ConsumerGroupDescribeResponse(
        throttle_time=NO_THROTTLE, groups=tuple(_group(group, operations, context) for group in groups)
    )


def _group(group: DescribedConsumerGroup, operations: int, context: RequestContext) -> Any:
    found = group.error is ErrorCode.NONE
    return context.schema.DescribedGroup(
        error_code=group.error,
        error_message=group.message or None,
        group_id=group.group_id,
        group_state=group.state.value if found else "",
        group_epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch,
        assignor_name=group.assignor_name,
        members=tuple(_member(member, context) for member in group.members),
        authorized_operations=operations if found else NOT_ASKED,
    )


def _member(member: DescribedConsumer, context: RequestContext) -> Any:
    return make(
        context.schema.Member,
        member_id=member.member_id,
        instance_id=member.group_instance_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=member.subscribed_topic_names,
        subscribed_topic_regex=member.subscribed_topic_regex,
        assignment=_assignment(member.assignment, context),
        target_assignment=_assignment(member.target_assignment, context),
        member_type=_CLASSIC_MEMBER if member.is_classic else _CONSUMER_MEMBER,
    )


def _assignment(partitions: Partitions, context: RequestContext) -> Any:
    schema = context.schema
    names = context.rooms.image().topic_names
    return schema.Assignment(
        topic_partitions=tuple(
            schema.TopicPartitions(topic_id=topic_id, topic_name=names[topic_id], partitions=numbers)
            for topic_id, numbers in partitions.items()
            if topic_id in names
        )
    )
