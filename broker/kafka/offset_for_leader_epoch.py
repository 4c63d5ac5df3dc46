"""OffsetForLeaderEpoch (key 23), versions 2 to 4: where an epoch ended, to find out about truncation (KIP-320).

2    the leader epoch of the client is checked; throttle time
3    replica id
4    flexible
"""

from __future__ import annotations

from typing import Any

from ...proto.identifiers import TopicPartition
from .fields import leader_epoch, number
from .messages import NO_THROTTLE, make
from .rooms import RequestContext


def handle(request: Any, context: RequestContext) -> Any:
    """Answers each partition by itself."""
    schema = context.schema
    return make(
        schema.OffsetForLeaderEpochResponse,
        throttle_time=NO_THROTTLE,
        topics=tuple(
            schema.OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=tuple(_answer(context, topic.topic, partition) for partition in topic.partitions),
            )
            for topic in request.topics
        ),
    )


def _answer(context: RequestContext, topic: str, partition: Any) -> Any:
    outcome = context.rooms.replica_manager.epoch_end_offset(
        TopicPartition(topic, partition.partition),
        partition.leader_epoch,
        leader_epoch(partition.current_leader_epoch),
    )
    return context.schema.EpochEndOffset(
        error_code=outcome.error,
        partition=partition.partition,
        leader_epoch=number(outcome.leader_epoch),
        end_offset=number(outcome.end_offset),
    )
