"""Described groups as proto/broker.proto has them: one form for both types of group.

A group of KIP-848 keeps no subscription bytes of its members; what they read and have is told in the format in which
the members of classic groups tell it, so that whoever asks need not know the difference.
"""

from __future__ import annotations

from ..cluster.image import MetadataImage
from ..proto import broker_pb2
from ..proto.consumer_protocol import CONSUMER_PROTOCOL_TYPE, ConsumerProtocolAssignment, ConsumerProtocolSubscription
from ..proto.identifiers import TopicPartition
from .groups.group_request import DescribedConsumer, DescribedConsumerGroup, DescribedGroup, GroupType


def classic_group(group: DescribedGroup) -> broker_pb2.DescribedGroup:
    """A group of the classic protocol."""
    return broker_pb2.DescribedGroup(
        group_id=group.group_id,
        error_code=group.error,
        error_message=group.message,
        state=group.state.value,
        type=group.type.value,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        members=[
            broker_pb2.DescribedMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id or "",
                client_id=member.client_id,
                client_host=member.client_host,
                metadata=member.metadata,
                assignment=member.assignment,
            )
            for member in group.members
        ],
    )


def consumer_group(group: DescribedConsumerGroup, image: MetadataImage) -> broker_pb2.DescribedGroup:
    """A group of KIP-848; its assignor stands as the protocol."""
    return broker_pb2.DescribedGroup(
        group_id=group.group_id,
        error_code=group.error,
        error_message=group.message,
        state=group.state.value,
        type=GroupType.CONSUMER.value,
        protocol_type=CONSUMER_PROTOCOL_TYPE,
        protocol_name=group.assignor_name,
        members=[_consumer(member, image) for member in group.members],
    )


def _consumer(member: DescribedConsumer, image: MetadataImage) -> broker_pb2.DescribedMember:
    names = image.topic_names
    assigned = tuple(
        TopicPartition(names[topic_id], number)
        for topic_id, numbers in member.assignment.items()
        if topic_id in names
        for number in numbers
    )
    return broker_pb2.DescribedMember(
        member_id=member.member_id,
        group_instance_id=member.group_instance_id or "",
        client_id=member.client_id,
        client_host=member.client_host,
        metadata=ConsumerProtocolSubscription(member.subscribed_topic_names, rack_id=member.rack_id).encode(),
        assignment=ConsumerProtocolAssignment(assigned).encode(),
    )
