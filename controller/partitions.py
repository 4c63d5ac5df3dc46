"""Topics get more partitions; never fewer, as records would be lost."""

from __future__ import annotations

from collections import Counter

from ..cluster.image import MetadataImage, TopicImage
from ..cluster.topic_config import PARTITIONS_PER_TOPIC_MAX, PARTITIONS_TOTAL_MAX, is_internal_topic
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId
from ..proto.metadata_pb2 import MetadataRecord
from .assignments import assigned_replicas, assignments_error, new_partition
from .limits import ENTRIES_PER_COMMAND_MAX, RECORDS_PER_COMMAND_MAX
from .placement import ReplicaPlacer, replication_factor_error
from .result import ControllerResult, ItemError, refused


def decide_create_partitions(
    image: MetadataImage, command: command_pb2.CreatePartitionsCommand, seed: int
) -> ControllerResult:
    """Raises the number of partitions of topics; each topic is decided by itself."""
    if len(command.topics) > ENTRIES_PER_COMMAND_MAX:
        return refused(ErrorCode.INVALID_REQUEST, f"at most {ENTRIES_PER_COMMAND_MAX} topics in one request")
    growth = _Growth(image, command, seed)
    outcomes = [growth.grow(topic) for topic in command.topics]
    if len(growth.records) > RECORDS_PER_COMMAND_MAX:
        return refused(
            ErrorCode.POLICY_VIOLATION,
            f"Unable to perform excessively large batch operation: more than {RECORDS_PER_COMMAND_MAX} records",
        )
    response = CommandResponse(create_partitions=command_pb2.CreatePartitionsResult(topics=outcomes))
    return ControllerResult(() if command.validate_only else tuple(growth.records), response)


class _Growth:
    """One command's topics, one after the other."""

    def __init__(self, image: MetadataImage, command: command_pb2.CreatePartitionsCommand, seed: int) -> None:
        self._image = image
        self._seed = seed
        self._times_named = Counter(topic.name for topic in command.topics)
        self._placer: ReplicaPlacer | None = None
        self.records: list[MetadataRecord] = []

    def grow(self, wanted: command_pb2.CreatePartitionsTopic) -> command_pb2.TopicOutcome:
        """Adds the records of one topic, unless it is refused."""
        topic = self._image.topics.get(wanted.name)
        if topic is None:
            error: ItemError | None = ItemError.of(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        elif self._times_named[wanted.name] > 1:
            error = ItemError(ErrorCode.INVALID_REQUEST, f"Topic '{wanted.name}' is named more than once")
        else:
            error = self._count_error(topic, wanted) or self._add(topic, wanted)
        return command_pb2.TopicOutcome(
            name=wanted.name,
            topic_id=b"" if topic is None else topic.topic_id.bytes,
            error_code=0 if error is None else error.error_code,
            error_message="" if error is None else error.message,
        )

    def _count_error(self, topic: TopicImage, wanted: command_pb2.CreatePartitionsTopic) -> ItemError | None:
        current = len(topic.partitions)
        if is_internal_topic(topic.name):
            # Which partition has a group's offsets follows from their number (rule 21).
            return ItemError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"The number of partitions of the internal topic {topic.name} cannot be changed.",
            )
        if wanted.count == current:
            return ItemError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {current} partition(s).")
        if wanted.count < current:
            return ItemError(
                ErrorCode.INVALID_PARTITIONS,
                f"The topic {topic.name} currently has {current} partition(s); {wanted.count} would not be an "
                "increase.",
            )
        if wanted.count > PARTITIONS_PER_TOPIC_MAX:
            return ItemError(
                ErrorCode.INVALID_PARTITIONS,
                f"Number of partitions must be 1 to {PARTITIONS_PER_TOPIC_MAX}; it was {wanted.count}.",
            )
        total = self._image.partition_count + len(self.records) + wanted.count - current
        if total > PARTITIONS_TOTAL_MAX:
            return ItemError(
                ErrorCode.POLICY_VIOLATION,
                f"the cluster would have {total} partitions; at most {PARTITIONS_TOTAL_MAX} are supported",
            )
        return None

    def _add(self, topic: TopicImage, wanted: command_pb2.CreatePartitionsTopic) -> ItemError | None:
        manual = wanted.manual or wanted.assignments
        replicas = self._assigned(topic, wanted) if manual else self._placed(topic, wanted)
        if isinstance(replicas, ItemError):
            return replicas
        first = len(topic.partitions)
        for partition, brokers in enumerate(replicas, first):
            self.records.append(new_partition(self._image, topic.topic_id, partition, brokers).to_record())
        return None

    def _assigned(
        self, topic: TopicImage, wanted: command_pb2.CreatePartitionsTopic
    ) -> list[tuple[BrokerId, ...]] | ItemError:
        first = len(topic.partitions)
        additional = wanted.count - first
        if len(wanted.assignments) != additional:
            return ItemError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Attempted to add {additional} additional partition(s), but only {len(wanted.assignments)} "
                "assignment(s) were specified.",
            )
        replication_factor = topic.partitions[0].replication_factor
        error = assignments_error(self._image, wanted.assignments, first, replication_factor)
        return assigned_replicas(wanted.assignments) if error is None else error

    def _placed(
        self, topic: TopicImage, wanted: command_pb2.CreatePartitionsTopic
    ) -> list[tuple[BrokerId, ...]] | ItemError:
        if self._placer is None:
            self._placer = ReplicaPlacer(self._image, self._seed)
        replication_factor = topic.partitions[0].replication_factor
        error = replication_factor_error(replication_factor, self._placer)
        if error is not None:
            return error
        return self._placer.place(wanted.count - len(topic.partitions), replication_factor, topic.partitions)
