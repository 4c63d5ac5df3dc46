"""DeleteRecords (key 21), versions 0 to 2 (flexible): the log of a partition begins later (KIP-107).

Offset -1 stands for the high watermark. The answer waits until the live replicas have followed, or the time is up.
The rules are in `record_deletion.py`.
"""

from __future__ import annotations

from typing import Any

from ...proto.identifiers import TopicPartition
from ..record_deletion import RecordDeletion
from .fields import milliseconds, number
from .messages import NO_THROTTLE
from .rooms import RequestContext


async def handle(request: Any, context: RequestContext) -> Any:
    """Answers each partition by itself."""
    wanted = [
        RecordDeletion(TopicPartition(topic.name, partition.partition_index), partition.offset)
        for topic in request.topics
        for partition in topic.partitions
    ]
    outcomes = await context.rooms.replica_manager.delete_records(wanted, milliseconds(request.timeout))
    results: dict[str, list[Any]] = {topic.name: [] for topic in request.topics}
    for deletion, outcome in zip(wanted, outcomes, strict=True):
        topic, partition = deletion.topic_partition
        results[topic].append(
            context.schema.DeleteRecordsPartitionResult(
                partition_index=partition, low_watermark=number(outcome.low_watermark), error_code=outcome.error
            )
        )
    return context.schema.DeleteRecordsResponse(
        throttle_time=NO_THROTTLE,
        topics=tuple(
            context.schema.DeleteRecordsTopicResult(name=name, partitions=tuple(partitions))
            for name, partitions in results.items()
        ),
    )
