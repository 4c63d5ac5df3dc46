"""ListOffsets (key 2), versions 1 to 11.

    1    one offset for each partition, with its timestamp (KIP-79)
    2    isolation level
    4    leader epochs (KIP-320)
    5    OFFSET_NOT_AVAILABLE while a new leader does not know enough (KIP-207); LEADER_NOT_AVAILABLE before
    6    flexible
    7    timestamp -3: the record with the largest timestamp (KIP-734)
    8    timestamp -4: the earliest offset on the local disk (KIP-405), which is all there is here
    9    timestamp -5: the last offset in tiered storage (KIP-1005): none
    10   time-out, for tiered storage; answers come at once here
    11   timestamp -6: the first offset not yet in tiered storage (KIP-1023): none

Version 0, with many offsets for each partition, is not served, as in Apache Kafka 4.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID, TopicPartition
from ..partition_request import (
    EARLIEST_LOCAL_TIMESTAMP,
    EARLIEST_PENDING_UPLOAD_TIMESTAMP,
    EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    ListOffsetOutcome,
)
from .fields import leader_epoch, number
from .messages import NO_THROTTLE, get, make
from .rooms import RequestContext

_CONSUMER: Final = -1
_DEBUGGING_CONSUMER: Final = -2
_READ_COMMITTED: Final = 1
_SINCE_VERSION: Final = {
    LATEST_TIMESTAMP: 1,
    EARLIEST_TIMESTAMP: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL_TIMESTAMP: 8,
    LATEST_TIERED_TIMESTAMP: 9,
    EARLIEST_PENDING_UPLOAD_TIMESTAMP: 11,
}


def handle(request: Any, context: RequestContext) -> Any:
    """Answers each partition by itself; one that is named twice is refused."""
    schema = context.schema
    times_named = Counter(
        (topic.name, partition.partition_index) for topic in request.topics for partition in topic.partitions
    )
    topics = tuple(
        schema.ListOffsetsTopicResponse(
            name=topic.name,
            partitions=tuple(
                _answer(context, request, topic.name, partition, times_named[topic.name, partition.partition_index])
                for partition in topic.partitions
            ),
        )
        for topic in request.topics
    )
    return make(schema.ListOffsetsResponse, throttle_time=NO_THROTTLE, topics=topics)


def _answer(context: RequestContext, request: Any, topic: str, partition: Any, times_named: int) -> Any:
    timestamp = partition.timestamp
    if times_named > 1:
        outcome = ListOffsetOutcome(ErrorCode.INVALID_REQUEST)
    elif timestamp < 0 and context.api_version < _SINCE_VERSION.get(timestamp, context.api_version + 1):
        outcome = ListOffsetOutcome(ErrorCode.UNSUPPORTED_VERSION)
    else:
        outcome = context.rooms.replica_manager.list_offset(
            TopicPartition(topic, partition.partition_index),
            timestamp,
            leader_epoch(get(partition, "current_leader_epoch", NONE_ID)),
            get(request, "isolation_level", 0) == _READ_COMMITTED,
            committed_only=request.replica_id == _CONSUMER,
            leader_only=request.replica_id != _DEBUGGING_CONSUMER,
        )
    error = outcome.error
    if error is ErrorCode.OFFSET_NOT_AVAILABLE and context.api_version < 5:
        error = ErrorCode.LEADER_NOT_AVAILABLE
    found = error is ErrorCode.NONE
    return make(
        context.schema.ListOffsetsPartitionResponse,
        partition_index=partition.partition_index,
        error_code=error,
        timestamp=number(outcome.timestamp) if found else NONE_ID,
        offset=number(outcome.offset) if found else NONE_ID,
        leader_epoch=number(outcome.leader_epoch) if found and outcome.offset is not None else NONE_ID,
    )
