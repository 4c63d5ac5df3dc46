"""DescribeProducers (key 61), version 0: the idempotent producers that a partition remembers (KIP-664)."""

from __future__ import annotations

from typing import Any

from ...cluster.topic_config import topic_name_error
from ...proto.errors import ErrorCode
from ...proto.identifiers import TopicPartition
from ..log.producer_state import ProducerEntry
from .fields import number
from .messages import NO_THROTTLE
from .rooms import RequestContext


def handle(request: Any, context: RequestContext) -> Any:
    """Each partition by itself; any replica answers."""
    return context.schema.DescribeProducersResponse(
        throttle_time=NO_THROTTLE,
        topics=tuple(
            context.schema.TopicResponse(
                name=topic.name,
                partitions=tuple(_partition(context, topic.name, partition) for partition in topic.partition_indexes),
            )
            for topic in request.topics
        ),
    )


def _partition(context: RequestContext, topic: str, partition: int) -> Any:
    error, message = ErrorCode.NONE, topic_name_error(topic)
    producers: tuple[Any, ...] = ()
    if message is not None:
        error = ErrorCode.INVALID_TOPIC_EXCEPTION
    else:
        found = context.rooms.replica_manager.active_producers(TopicPartition(topic, partition))
        if isinstance(found, ErrorCode):
            error = found
        else:
            producers = tuple(_producer(context, producer_id, entry) for producer_id, entry in found)
    return context.schema.PartitionResponse(
        partition_index=partition, error_code=error, error_message=message, active_producers=producers
    )


def _producer(context: RequestContext, producer_id: int, entry: ProducerEntry) -> Any:
    return context.schema.ProducerState(
        producer_id=producer_id,
        producer_epoch=entry.epoch,
        last_sequence=entry.batches[-1].last_sequence if entry.batches else -1,
        last_timestamp=entry.last_timestamp_ms,
        coordinator_epoch=entry.coordinator_epoch,
        current_txn_start_offset=number(entry.transaction_start),
    )
