"""OffsetCommit (key 8), versions 2 to 10: the offsets that a group has come to, kept by its coordinator.

2    a retention time for these offsets; -1: the broker's (until version 4, KIP-211)
3    throttle time
6    leader epochs (KIP-320)
7    group.instance.id (KIP-345)
8    flexible
9    members of KIP-848; GROUP_ID_NOT_FOUND for an unknown group, where older versions have ILLEGAL_GENERATION
10   topics by id (KIP-848)

Versions 0 and 1 (ZooKeeper, commit timestamps) are not served, as in Apache Kafka 4.
"""

from __future__ import annotations

from typing import Any, Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID, Offset
from ..groups.group_request import OffsetCommitRequest, OffsetToCommit
from .fields import leader_epoch, milliseconds
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext

_MEMBER_EPOCH_VERSION: Final = 9
_TOPIC_ID_VERSION: Final = 10


async def handle(request: Any, context: RequestContext) -> Any:
    """One error for each partition; a topic that is not there does not keep others from being committed."""
    names = [_name_of(topic, context) for topic in request.topics]
    answer = await context.rooms.groups.commit_offsets(
        OffsetCommitRequest(
            group_id=request.group_id,
            generation_or_member_epoch=request.generation_id_or_member_epoch,
            member_id=request.member_id,
            group_instance_id=get(request, "group_instance_id", None),
            offsets=_offsets(request, names, context),
            understands_member_epochs=context.api_version >= _MEMBER_EPOCH_VERSION,
        )
    )
    errors = iter(answer.errors)
    schema = context.schema
    return make(
        schema.OffsetCommitResponse,
        throttle_time=NO_THROTTLE,
        topics=tuple(
            make(
                schema.OffsetCommitResponseTopic,
                name=get(topic, "name", None),
                topic_id=get(topic, "topic_id", None),
                partitions=tuple(
                    schema.OffsetCommitResponsePartition(
                        partition_index=partition.partition_index,
                        error_code=ErrorCode.UNKNOWN_TOPIC_ID if name is None else next(errors),
                    )
                    for partition in topic.partitions
                ),
            )
            for topic, name in zip(request.topics, names, strict=True)
        ),
    )


def _name_of(topic: Any, context: RequestContext) -> str | None:
    """None for an id that no topic has."""
    if context.api_version < _TOPIC_ID_VERSION:
        return str(topic.name)
    return None if topic.topic_id is None else context.rooms.image().topic_names.get(topic.topic_id)


def _offsets(request: Any, names: list[str | None], context: RequestContext) -> tuple[OffsetToCommit, ...]:
    retention = get(request, "retention_time", None)
    retention_ms = NONE_ID if retention is None else milliseconds(retention)
    expire_timestamp_ms = None if retention_ms < 0 else context.rooms.clock.wall_ms() + retention_ms
    return tuple(
        OffsetToCommit(
            topic=name,
            partition=partition.partition_index,
            offset=Offset(partition.committed_offset),
            leader_epoch=leader_epoch(get(partition, "committed_leader_epoch", NONE_ID)),
            metadata=partition.committed_metadata or "",
            expire_timestamp_ms=expire_timestamp_ms,
        )
        for topic, name in zip(request.topics, names, strict=True)
        if name is not None
        for partition in topic.partitions
    )
