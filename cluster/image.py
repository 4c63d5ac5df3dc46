"""The metadata of the whole cluster at one offset of the metadata log, immutable.

`replay` makes the next image from records. What did not change is shared with the image before, the very same objects,
so that finding what changed (`delta.py`) is a comparison of identities. Mappings keep the order of the records that
made them: all controllers walk them in the same order, also after a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..proto.identifiers import (
    NONE_ID,
    BrokerId,
    ControllerEpoch,
    MetadataOffset,
    NodeId,
    ProducerId,
    TopicId,
)
from ..proto.metadata_pb2 import ConfigRecord, MetadataRecord, PartitionRecord
from .broker import BrokerRegistration, Endpoint
from .invariant import invariant
from .partition import LeaderRecoveryState, PartitionImage
from .records import (
    CLUSTER_RESOURCE_NAME,
    CONFIG_RESOURCE_BROKER,
    CONFIG_RESOURCE_TOPIC,
    cluster_record,
    config_record,
    controller_change_record,
    producer_ids_record,
    topic_record,
)
from .topic_config import TopicConfig

__all__ = [
    "BrokerRegistration",
    "Endpoint",
    "LeaderRecoveryState",
    "MetadataImage",
    "PartitionImage",
    "TopicImage",
]

ConfigResourceKey = tuple[int, str]
"""Resource type (Kafka's number) and name."""


@dataclass(frozen=True, slots=True)
class TopicImage:
    """A topic; `partitions[n]` is partition n."""

    name: str
    topic_id: TopicId
    partitions: tuple[PartitionImage, ...]


@dataclass(frozen=True, slots=True)
class MetadataImage:
    """Everything the metadata log says up to, not including, `end_offset`."""

    end_offset: MetadataOffset
    cluster_id: str | None
    controller_id: NodeId | None
    controller_epoch: ControllerEpoch  # 0 before the first controller; Raft terms begin at 1
    brokers: Mapping[BrokerId, BrokerRegistration]
    topics: Mapping[str, TopicImage]
    topic_names: Mapping[TopicId, str]
    configs: Mapping[ConfigResourceKey, Mapping[str, str]]  # no empty inner mapping
    next_producer_id: ProducerId
    partition_count: int  # over all topics

    @classmethod
    def empty(cls) -> MetadataImage:
        """The image before the first record."""
        return cls(
            end_offset=MetadataOffset(0),
            cluster_id=None,
            controller_id=None,
            controller_epoch=ControllerEpoch(0),
            brokers={},
            topics={},
            topic_names={},
            configs={},
            next_producer_id=ProducerId(0),
            partition_count=0,
        )

    def replay(self, records: Iterable[MetadataRecord], end_offset: MetadataOffset | int) -> MetadataImage:
        """The image after `records`, which end at `end_offset`.

        Records that a controller committed cannot fail here.

        :raises InvariantError: they contradict the image (a bug, or records of another log); this image is unharmed.
        """
        replay = _Replay(self)
        for record in records:
            replay.replay(record)
        return replay.finish(MetadataOffset(end_offset))

    def to_records(self) -> Iterator[MetadataRecord]:
        """Records that make this image from an empty one."""
        if self.cluster_id is not None:
            yield cluster_record(self.cluster_id)
        if self.controller_epoch > 0:
            yield controller_change_record(self.controller_id, self.controller_epoch)
        for broker in self.brokers.values():
            yield broker.to_record()
        for topic in self.topics.values():
            yield topic_record(topic.name, topic.topic_id)
            for partition in topic.partitions:
                yield partition.to_record()
        for (resource_type, resource_name), entries in self.configs.items():
            for key, value in entries.items():
                yield config_record(resource_type, resource_name, key, value)
        if self.next_producer_id > 0:
            yield producer_ids_record(None, None, self.next_producer_id)

    def topic_by_id(self, topic_id: TopicId) -> TopicImage | None:
        """The topic of this id, if there is one."""
        name = self.topic_names.get(topic_id)
        return None if name is None else self.topics[name]

    def partition(self, topic_id: TopicId, partition: int) -> PartitionImage | None:
        """One partition, if there is one."""
        topic = self.topic_by_id(topic_id)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return None
        return topic.partitions[partition]

    def partitions(self) -> Iterator[tuple[TopicImage, PartitionImage]]:
        """Every partition with its topic, in the order of the topics."""
        for topic in self.topics.values():
            for partition in topic.partitions:
                yield topic, partition

    def is_active(self, broker_id: BrokerId) -> bool:
        """True if the broker is registered, unfenced and not shutting down."""
        broker = self.brokers.get(broker_id)
        return broker is not None and broker.active

    def cluster_config(self) -> Mapping[str, str]:
        """The cluster-wide dynamic defaults, under broker-level names."""
        return self.configs.get((CONFIG_RESOURCE_BROKER, CLUSTER_RESOURCE_NAME), {})

    def topic_overrides(self, name: str) -> Mapping[str, str]:
        """The keys set on the topic itself."""
        return self.configs.get((CONFIG_RESOURCE_TOPIC, name), {})

    def topic_config(
        self, name: str, static_defaults: Mapping[str, str] | None = None, broker_id: BrokerId | None = None
    ) -> TopicConfig:
        """The topic's settings; `static_defaults` are those of the broker's own file, under broker-level names.

        With `broker_id` as that broker carries them out: its dynamic settings stand before the cluster-wide ones.
        """
        defaults = self.cluster_config() if broker_id is None else self.broker_config(broker_id)
        return TopicConfig.resolve(
            self.topic_overrides(name), {**static_defaults, **defaults} if static_defaults else defaults
        )

    def broker_config(self, broker_id: BrokerId) -> Mapping[str, str]:
        """The dynamic settings of one broker: the cluster-wide ones and, over them, its own."""
        return {**self.cluster_config(), **self.configs.get((CONFIG_RESOURCE_BROKER, str(broker_id)), {})}


@dataclass(slots=True)
class _Replay:
    """An image in the making: each mapping is copied when it is first written to, and no sooner."""

    image: MetadataImage
    brokers: dict[BrokerId, BrokerRegistration] | None = None
    topics: dict[str, TopicImage] | None = None
    topic_names: dict[TopicId, str] | None = None
    configs: dict[ConfigResourceKey, Mapping[str, str]] | None = None
    partitions: dict[TopicId, list[PartitionImage]] = field(default_factory=dict)  # of the topics touched
    topic_id_bytes: bytes = b""  # of the last partition; its neighbours share the id made of them
    topic_id: TopicId | None = None
    partition_count: int = field(init=False)
    cluster_id: str | None = field(init=False)
    controller_id: NodeId | None = field(init=False)
    controller_epoch: ControllerEpoch = field(init=False)
    next_producer_id: ProducerId = field(init=False)

    def __post_init__(self) -> None:
        self.partition_count = self.image.partition_count
        self.cluster_id = self.image.cluster_id
        self.controller_id = self.image.controller_id
        self.controller_epoch = self.image.controller_epoch
        self.next_producer_id = self.image.next_producer_id

    def finish(self, end_offset: MetadataOffset) -> MetadataImage:
        """The next image."""
        image = self.image
        topics: Mapping[str, TopicImage] = image.topics if self.topics is None else self.topics
        if self.partitions:
            names = image.topic_names if self.topic_names is None else self.topic_names
            changed = dict(topics) if self.topics is None else self.topics
            for topic_id, partitions in self.partitions.items():
                name = names[topic_id]
                changed[name] = replace(changed[name], partitions=tuple(partitions))
            topics = changed
        return MetadataImage(
            end_offset=end_offset,
            cluster_id=self.cluster_id,
            controller_id=self.controller_id,
            controller_epoch=self.controller_epoch,
            brokers=image.brokers if self.brokers is None else self.brokers,
            topics=topics,
            topic_names=image.topic_names if self.topic_names is None else self.topic_names,
            configs=image.configs if self.configs is None else self.configs,
            next_producer_id=self.next_producer_id,
            partition_count=self.partition_count,
        )

    def replay(self, record: MetadataRecord) -> None:
        """Takes one record in."""
        kind = record.WhichOneof("record")
        if kind == "partition":
            self._partition(record.partition)
        elif kind == "topic":
            self._topic(record.topic.name, TopicId(bytes=record.topic.topic_id))
        elif kind == "remove_topic":
            self._remove_topic(TopicId(bytes=record.remove_topic.topic_id))
        elif kind == "config":
            self._config(record.config)
        elif kind == "producer_ids":
            self.next_producer_id = ProducerId(record.producer_ids.next_producer_id)
        elif kind == "cluster":
            self.cluster_id = record.cluster.cluster_id
        elif kind == "controller_change":
            number = record.controller_change.controller_id
            self.controller_id = None if number == NONE_ID else NodeId(number)
            self.controller_epoch = ControllerEpoch(record.controller_change.controller_epoch)
        else:
            self._broker(record, kind)

    def _broker(self, record: MetadataRecord, kind: str | None) -> None:
        if self.brokers is None:
            self.brokers = dict(self.image.brokers)
        if kind == "register_broker":
            registration = BrokerRegistration.from_record(record.register_broker)
            self.brokers[registration.broker_id] = registration
        elif kind == "broker_registration_change":
            change = record.broker_registration_change
            broker = self.brokers.get(BrokerId(change.broker_id))
            if broker is None or broker.broker_epoch != change.broker_epoch:
                invariant(False, f"change of a registration that is not there: broker {change.broker_id}")
                return
            self.brokers[broker.broker_id] = broker.with_state(
                fenced=change.fenced, in_controlled_shutdown=change.in_controlled_shutdown
            )
        elif kind == "unregister_broker":
            gone = self.brokers.pop(BrokerId(record.unregister_broker.broker_id), None)
            invariant(gone is not None, f"unknown broker {record.unregister_broker.broker_id} unregistered")
        else:
            invariant(False, "metadata record of a kind that this version does not know")

    def _topic(self, name: str, topic_id: TopicId) -> None:
        self._own_topics()
        assert self.topics is not None and self.topic_names is not None
        invariant(name not in self.topics, f"topic {name} created twice")
        invariant(topic_id not in self.topic_names, f"topic id {topic_id} used twice")
        self.topics[name] = TopicImage(name, topic_id, ())
        self.topic_names[topic_id] = name

    def _remove_topic(self, topic_id: TopicId) -> None:
        self._own_topics()
        assert self.topics is not None and self.topic_names is not None
        invariant(topic_id in self.topic_names, f"unknown topic id {topic_id} removed")
        name = self.topic_names.pop(topic_id)
        touched = self.partitions.pop(topic_id, None)
        topic = self.topics.pop(name)
        self.partition_count -= len(topic.partitions if touched is None else touched)
        if (CONFIG_RESOURCE_TOPIC, name) in (self.image.configs if self.configs is None else self.configs):
            self._own_configs().pop((CONFIG_RESOURCE_TOPIC, name))

    def _partition(self, record: PartitionRecord) -> None:
        if record.topic_id != self.topic_id_bytes:
            self.topic_id_bytes = record.topic_id
            self.topic_id = TopicId(bytes=self.topic_id_bytes)
        partition = PartitionImage.from_record(record, self.topic_id)
        partitions = self.partitions.get(partition.topic_id)
        if partitions is None:
            names = self.image.topic_names if self.topic_names is None else self.topic_names
            topics = self.image.topics if self.topics is None else self.topics
            invariant(partition.topic_id in names, f"partition of an unknown topic: {partition}")
            partitions = list(topics[names[partition.topic_id]].partitions)
            self.partitions[partition.topic_id] = partitions
        if partition.partition < len(partitions):
            partitions[partition.partition] = partition
        else:
            invariant(partition.partition == len(partitions), f"partition numbers have a gap: {partition}")
            partitions.append(partition)
            self.partition_count += 1

    def _config(self, record: ConfigRecord) -> None:
        configs = self._own_configs()
        resource = (int(record.resource_type), record.resource_name)
        entries = dict(configs.get(resource, {}))
        if record.HasField("value"):
            entries[record.key] = record.value
        else:
            entries.pop(record.key, None)
        if entries:
            configs[resource] = entries
        else:
            configs.pop(resource, None)

    def _own_topics(self) -> None:
        if self.topics is None:
            self.topics = dict(self.image.topics)
        if self.topic_names is None:
            self.topic_names = dict(self.image.topic_names)

    def _own_configs(self) -> dict[ConfigResourceKey, Mapping[str, str]]:
        if self.configs is None:
            self.configs = dict(self.image.configs)
        return self.configs
