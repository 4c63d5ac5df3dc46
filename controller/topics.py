"""Topics are created, deleted and given more partitions; error codes and order of checks are Kafka's.

Each topic of a command is decided by itself: one that is refused makes no records and does not fail its neighbours.
"""

from __future__ import annotations

from collections import Counter
from uuid import uuid5

from ..cluster.image import MetadataImage, TopicImage
from ..cluster.records import CONFIG_RESOURCE_TOPIC, config_record, remove_topic_record, topic_record
from ..cluster.topic_config import (
    PARTITIONS_PER_TOPIC_MAX,
    PARTITIONS_TOTAL_MAX,
    collision_key,
    conflict,
    topic_name_error,
    validate,
)
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId, TopicId
from ..proto.metadata_pb2 import MetadataRecord
from .assignments import assigned_replicas, assignments_error, new_partition
from .limits import ENTRIES_PER_COMMAND_MAX, RECORDS_PER_COMMAND_MAX
from .placement import ReplicaPlacer, replication_factor_error
from .result import ControllerResult, ItemError, refused

_DEFAULT_PARTITIONS = 1
_DEFAULT_REPLICATION_FACTOR_MAX = 3
_ID_LENGTH = 16


def decide_create_topics(image: MetadataImage, command: command_pb2.CreateTopicsCommand, seed: int) -> ControllerResult:
    """Creates topics with their configurations and partitions."""
    if len(command.topics) > ENTRIES_PER_COMMAND_MAX:
        return _too_many("topics")
    creation = _TopicCreation(image, command, seed)
    outcomes = [creation.create(topic) for topic in command.topics]
    if len(creation.records) > RECORDS_PER_COMMAND_MAX + 1:  # one topic of the most partitions fits
        return _too_large()
    response = CommandResponse(create_topics=command_pb2.CreateTopicsResult(topics=outcomes))
    return ControllerResult(() if command.validate_only else tuple(creation.records), response)


class _TopicCreation:
    """One command's topics, one after the other; each knows of those before it."""

    def __init__(self, image: MetadataImage, command: command_pb2.CreateTopicsCommand, seed: int) -> None:
        self._image = image
        self._seed = seed
        self._times_named = Counter(topic.name for topic in command.topics)
        self._placer: ReplicaPlacer | None = None
        self._by_collision_key: dict[str, str] | None = None
        self._new_ids: set[TopicId] = set()
        self._new_partitions = 0
        self.records: list[MetadataRecord] = []

    @property
    def placer(self) -> ReplicaPlacer:
        """Made when the first topic needs it: it walks all partitions."""
        if self._placer is None:
            self._placer = ReplicaPlacer(self._image, self._seed)
        return self._placer

    def create(self, topic: command_pb2.CreatableTopic) -> command_pb2.CreatedTopic:
        """Adds the records of one topic, unless it is refused."""
        topic_id = self._topic_id(topic)
        error = self._name_error(topic, topic_id) or _config_error(topic)
        if error is not None:
            return _refused_topic(topic, error)
        placed = self._place(topic)
        if isinstance(placed, ItemError):
            return _refused_topic(topic, placed)
        total = self._image.partition_count + self._new_partitions + len(placed)
        if total > PARTITIONS_TOTAL_MAX:
            message = f"the cluster would have {total} partitions; at most {PARTITIONS_TOTAL_MAX} are supported"
            return _refused_topic(topic, ItemError(ErrorCode.POLICY_VIOLATION, message))
        self._take_in(topic, topic_id, placed)
        return command_pb2.CreatedTopic(
            name=topic.name,
            topic_id=topic_id.bytes,
            num_partitions=len(placed),
            replication_factor=len(placed[0]),
        )

    def _take_in(
        self, topic: command_pb2.CreatableTopic, topic_id: TopicId, placed: list[tuple[BrokerId, ...]]
    ) -> None:
        self._new_ids.add(topic_id)
        self._new_partitions += len(placed)
        self._collisions()[collision_key(topic.name)] = topic.name
        self.records.append(topic_record(topic.name, topic_id))
        # Sorted: the order of a map's entries on the wire is not defined, and every controller must make the same log.
        for key in sorted(topic.configs):
            self.records.append(config_record(CONFIG_RESOURCE_TOPIC, topic.name, key, topic.configs[key]))
        for partition, replicas in enumerate(placed):
            self.records.append(new_partition(self._image, topic_id, partition, replicas).to_record())

    def _topic_id(self, topic: command_pb2.CreatableTopic) -> TopicId:
        if len(topic.topic_id) == _ID_LENGTH:
            return TopicId(bytes=topic.topic_id)
        return uuid5(TopicId(int=(self._seed << 64) + self._image.end_offset), topic.name)

    def _collisions(self) -> dict[str, str]:
        if self._by_collision_key is None:
            self._by_collision_key = {collision_key(name): name for name in self._image.topics}
        return self._by_collision_key

    def _name_error(self, topic: command_pb2.CreatableTopic, topic_id: TopicId) -> ItemError | None:
        if self._times_named[topic.name] > 1:
            return ItemError(ErrorCode.INVALID_REQUEST, f"Topic '{topic.name}' is named more than once")
        if topic.name in self._image.topics:
            return ItemError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{topic.name}' already exists.")
        problem = topic_name_error(topic.name)
        if problem is not None:
            return ItemError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
        colliding = self._collisions().get(collision_key(topic.name))
        if colliding is not None:
            return ItemError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"Topic '{topic.name}' collides with existing topic: {colliding} ('.' and '_' count as the same)",
            )
        if topic_id in self._image.topic_names or topic_id in self._new_ids or topic_id.int == 0:
            return ItemError(ErrorCode.INVALID_REQUEST, f"topic id {topic_id} is taken")
        return None

    def _place(self, topic: command_pb2.CreatableTopic) -> list[tuple[BrokerId, ...]] | ItemError:
        if topic.assignments:
            return self._assigned(topic)
        if topic.replication_factor < -1 or topic.replication_factor == 0:
            return ItemError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )
        if topic.num_partitions < -1 or topic.num_partitions == 0:
            return ItemError(
                ErrorCode.INVALID_PARTITIONS,
                f"Number of partitions must be 1 to {PARTITIONS_PER_TOPIC_MAX}, or -1 to use the default value; "
                f"it was {topic.num_partitions}.",
            )
        defaults = self._image.cluster_config()
        partition_count = topic.num_partitions
        if partition_count == -1:
            partition_count = int(defaults.get("num.partitions", _DEFAULT_PARTITIONS))
        if partition_count > PARTITIONS_PER_TOPIC_MAX:
            return _too_many_partitions(partition_count)
        replication_factor = topic.replication_factor
        if replication_factor == -1:
            least = max(1, min(_DEFAULT_REPLICATION_FACTOR_MAX, self.placer.broker_count))
            replication_factor = int(defaults.get("default.replication.factor", least))
        error = replication_factor_error(replication_factor, self.placer)
        if error is not None:
            return error
        return self.placer.place(partition_count, replication_factor)

    def _assigned(self, topic: command_pb2.CreatableTopic) -> list[tuple[BrokerId, ...]] | ItemError:
        if topic.replication_factor != -1 or topic.num_partitions != -1:
            return ItemError(
                ErrorCode.INVALID_REQUEST,
                "A manual partition assignment was specified, but replication factor and number of partitions were "
                "not both set to -1.",
            )
        if len(topic.assignments) > PARTITIONS_PER_TOPIC_MAX:
            return _too_many_partitions(len(topic.assignments))
        error = assignments_error(self._image, topic.assignments, 0, None)
        if error is not None:
            return error
        return assigned_replicas(topic.assignments)


def _config_error(topic: command_pb2.CreatableTopic) -> ItemError | None:
    for key in sorted(topic.configs):
        problem = validate(key, topic.configs[key])
        if problem is not None:
            return ItemError(ErrorCode.INVALID_CONFIG, problem)
    problem = conflict(topic.configs)
    return None if problem is None else ItemError(ErrorCode.INVALID_CONFIG, problem)


def _too_many_partitions(partition_count: int) -> ItemError:
    return ItemError(
        ErrorCode.INVALID_PARTITIONS,
        f"Number of partitions must be 1 to {PARTITIONS_PER_TOPIC_MAX}; it was {partition_count}.",
    )


def _refused_topic(topic: command_pb2.CreatableTopic, error: ItemError) -> command_pb2.CreatedTopic:
    return command_pb2.CreatedTopic(
        name=topic.name,
        error_code=error.error_code,
        error_message=error.message,
        num_partitions=-1,
        replication_factor=-1,
    )


def _too_many(what: str) -> ControllerResult:
    return refused(ErrorCode.INVALID_REQUEST, f"at most {ENTRIES_PER_COMMAND_MAX} {what} in one request")


def _too_large() -> ControllerResult:
    return refused(
        ErrorCode.POLICY_VIOLATION,
        f"Unable to perform excessively large batch operation: more than {RECORDS_PER_COMMAND_MAX} records",
    )


def decide_delete_topics(image: MetadataImage, command: command_pb2.DeleteTopicsCommand) -> ControllerResult:
    """Deletes topics, each by name or by id."""
    if len(command.topics) > ENTRIES_PER_COMMAND_MAX:
        return _too_many("topics")
    outcomes = []
    deleted: dict[TopicId, None] = {}
    for reference in command.topics:
        topic = _referenced(image, reference)
        if not isinstance(topic, ItemError) and topic.topic_id in deleted:
            topic = ItemError(ErrorCode.INVALID_REQUEST, f"Topic '{topic.name}' is named more than once")
        if isinstance(topic, ItemError):
            outcomes.append(
                command_pb2.TopicOutcome(
                    name=reference.name,
                    topic_id=reference.topic_id,
                    error_code=topic.error_code,
                    error_message=topic.message,
                )
            )
            continue
        deleted[topic.topic_id] = None
        outcomes.append(command_pb2.TopicOutcome(name=topic.name, topic_id=topic.topic_id.bytes))
    records = tuple(remove_topic_record(topic_id) for topic_id in deleted)
    response = CommandResponse(delete_topics=command_pb2.DeleteTopicsResult(topics=outcomes))
    return ControllerResult(records, response)


def _referenced(image: MetadataImage, reference: command_pb2.TopicReference) -> TopicImage | ItemError:
    if bool(reference.name) == bool(reference.topic_id):
        return ItemError(ErrorCode.INVALID_REQUEST, "name a topic by its name or by its id, and by one of them only")
    if reference.name:
        found = image.topics.get(reference.name)
        return found or ItemError.of(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if len(reference.topic_id) != _ID_LENGTH:
        return ItemError(ErrorCode.INVALID_REQUEST, f"a topic id has {_ID_LENGTH} bytes")
    return image.topic_by_id(TopicId(bytes=reference.topic_id)) or ItemError.of(ErrorCode.UNKNOWN_TOPIC_ID)
