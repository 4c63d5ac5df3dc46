"""DescribeTopicPartitions (key 75), version 0: topics page by page, with who else may lead (KIP-966).

Topics come in the order of their names. `next_cursor` says where the next page begins.
"""

from __future__ import annotations

from typing import Any, Final

from ...cluster.image import MetadataImage, PartitionImage, TopicImage
from ...cluster.topic_config import is_internal_topic
from ...proto.errors import ErrorCode
from ..description import missing_topic_error
from . import authorized_operations
from .messages import NO_THROTTLE
from .rooms import RequestContext
from .topic_view import alive_brokers, leader_of, offline_replicas

PARTITIONS_MAX: Final = 2_000
"""Of one page (max.request.partition.size.limit)."""


def handle(request: Any, context: RequestContext) -> Any:
    """One page of the topics asked for, or of all of them."""
    image, cursor = context.rooms.image(), request.cursor
    all_topics = not request.topics
    names = set(image.topics) if all_topics else {topic.name for topic in request.topics}
    if cursor is not None and (cursor.partition_index < 0 or (not all_topics and cursor.topic_name not in names)):
        return _refused(request, context)
    first, begin = ("", 0) if cursor is None else (cursor.topic_name, cursor.partition_index)
    page = _Page(context, image, max(1, min(PARTITIONS_MAX, request.response_partition_limit)))
    for name in sorted(name for name in names if name >= first):
        if not page.add(name, begin if name == first else 0):
            break
    return context.schema.DescribeTopicPartitionsResponse(
        throttle_time=NO_THROTTLE, topics=tuple(page.topics), next_cursor=page.next_cursor
    )


class _Page:
    """Topics until so many partitions are described."""

    def __init__(self, context: RequestContext, image: MetadataImage, partitions_max: int) -> None:
        self._schema = context.schema
        self._image = image
        self._alive = alive_brokers(image)
        self._left = partitions_max
        self.topics: list[Any] = []
        self.next_cursor: Any = None

    def add(self, name: str, begin: int) -> bool:
        """Adds a topic from one of its partitions on; False if the page is full."""
        topic = self._image.topics.get(name)
        if self._left == 0:
            self.next_cursor = self._schema.Cursor(topic_name=name, partition_index=0)
            return False
        if topic is None:
            self.topics.append(_topic(self._schema, missing_topic_error(name), name, None, ()))
            return True
        end = min(begin + self._left, len(topic.partitions))
        partitions = tuple(self._partition(partition) for partition in topic.partitions[begin:end])
        self.topics.append(_topic(self._schema, ErrorCode.NONE, name, topic, partitions))
        self._left -= len(partitions)
        if end < len(topic.partitions):
            self.next_cursor = self._schema.Cursor(topic_name=name, partition_index=end)
            return False
        return True

    def _partition(self, partition: PartitionImage) -> Any:
        last_known_leader = partition.last_known_leader
        return self._schema.DescribeTopicPartitionsResponsePartition(
            error_code=ErrorCode.NONE,
            partition_index=partition.partition,
            leader_id=leader_of(self._image, partition).leader_id,
            leader_epoch=partition.leader_epoch,
            replica_nodes=partition.replicas,
            isr_nodes=partition.isr,
            eligible_leader_replicas=partition.eligible_leader_replicas,
            last_known_elr=() if last_known_leader is None else (last_known_leader,),
            offline_replicas=offline_replicas(partition, self._alive),
        )


def _topic(schema: Any, error: ErrorCode, name: str, topic: TopicImage | None, partitions: tuple[Any, ...]) -> Any:
    return schema.DescribeTopicPartitionsResponseTopic(
        error_code=error,
        name=name,
        topic_id=None if topic is None else topic.topic_id,
        is_internal=is_internal_topic(name),
        partitions=partitions,
        topic_authorized_operations=authorized_operations.TOPIC,  # without being asked, as in Apache Kafka
    )


def _refused(request: Any, context: RequestContext) -> Any:
    return context.schema.DescribeTopicPartitionsResponse(
        throttle_time=NO_THROTTLE,
        topics=tuple(
            _topic(context.schema, ErrorCode.INVALID_REQUEST, topic.name, None, ()) for topic in request.topics
        ),
        next_cursor=None,
    )
