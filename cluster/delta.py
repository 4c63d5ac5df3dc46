"""What changed from one image to the next, and what that means for one broker.

Unchanged topics are the same object in both images (`image.py`), so only changed ones are looked into.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..proto.identifiers import BrokerId, TopicIdPartition
from .image import MetadataImage, PartitionImage, TopicImage
from .records import CONFIG_RESOURCE_BROKER, CONFIG_RESOURCE_TOPIC


class PartitionChange(NamedTuple):
    """A partition that is new (`old` is None) or other than it was; `topic` is the new image's."""

    topic: TopicImage
    old: PartitionImage | None
    new: PartitionImage


class LocalPartition(NamedTuple):
    """A partition of which a broker holds, or held, a replica."""

    topic: TopicImage
    partition: PartitionImage

    @property
    def topic_id_partition(self) -> TopicIdPartition:
        """Its name among nodes."""
        return self.partition.topic_id_partition


@dataclass(frozen=True, slots=True)
class BrokerDelta:
    """What a broker has to do. A partition is in at most one of these; those that did not change are in none."""

    to_lead: tuple[LocalPartition, ...]
    to_follow: tuple[LocalPartition, ...]  # also where there is no leader now
    to_remove_deleted: tuple[LocalPartition, ...]  # as they were: the topic is gone
    to_remove_reassigned: tuple[LocalPartition, ...]  # as they are: this broker is no replica any more

    @property
    def empty(self) -> bool:
        """True if there is nothing to do."""
        return not (self.to_lead or self.to_follow or self.to_remove_deleted or self.to_remove_reassigned)


@dataclass(frozen=True, slots=True)
class MetadataDelta:
    """The difference of two images. A topic deleted and created again is in both lists, under its two ids."""

    topics_created: tuple[TopicImage, ...]
    topics_deleted: tuple[TopicImage, ...]
    partitions_changed: tuple[PartitionChange, ...]  # those of new topics too, none of deleted ones
    configs_changed: tuple[str, ...]  # topics whose settings may be other ones now; not those of new topics
    brokers_changed: bool

    @classmethod
    def between(cls, old: MetadataImage, new: MetadataImage) -> MetadataDelta:
        """What changed from `old` to `new`."""
        created: list[TopicImage] = []
        deleted: list[TopicImage] = []
        changed: list[PartitionChange] = []
        if old.topics is not new.topics:
            for name, topic in new.topics.items():
                before = old.topics.get(name)
                if before is topic:
                    continue
                if before is None or before.topic_id != topic.topic_id:
                    created.append(topic)
                    before = None
                changed.extend(_partition_changes(before, topic))
            deleted.extend(topic for topic in old.topics.values() if topic.topic_id not in new.topic_names)
        return cls(
            topics_created=tuple(created),
            topics_deleted=tuple(deleted),
            partitions_changed=tuple(changed),
            configs_changed=_configs_changed(old, new),
            brokers_changed=old.brokers is not new.brokers and old.brokers != new.brokers,
        )

    def for_broker(self, broker_id: BrokerId) -> BrokerDelta:
        """What this means for one broker."""
        lead: list[LocalPartition] = []
        follow: list[LocalPartition] = []
        reassigned: list[LocalPartition] = []
        for topic, old, new in self.partitions_changed:
            if new.leader == broker_id:
                lead.append(LocalPartition(topic, new))
            elif broker_id in new.replicas:
                follow.append(LocalPartition(topic, new))
            elif old is not None and broker_id in old.replicas:
                reassigned.append(LocalPartition(topic, new))
        removed = [
            LocalPartition(topic, partition)
            for topic in self.topics_deleted
            for partition in topic.partitions
            if broker_id in partition.replicas
        ]
        return BrokerDelta(tuple(lead), tuple(follow), tuple(removed), tuple(reassigned))


def _partition_changes(before: TopicImage | None, topic: TopicImage) -> list[PartitionChange]:
    earlier = () if before is None else before.partitions
    changes = []
    for partition in topic.partitions:
        old = earlier[partition.partition] if partition.partition < len(earlier) else None
        if old is not partition and old != partition:
            changes.append(PartitionChange(topic, old, partition))
    return changes


def _configs_changed(old: MetadataImage, new: MetadataImage) -> tuple[str, ...]:
    if old.configs is new.configs:
        return ()
    all_changed = _broker_settings(old) != _broker_settings(new)

    def changed(topic: TopicImage) -> bool:
        if topic.topic_id not in old.topic_names:
            return False
        key = (CONFIG_RESOURCE_TOPIC, topic.name)
        return all_changed or old.configs.get(key) != new.configs.get(key)

    return tuple(topic.name for topic in new.topics.values() if changed(topic))


def _broker_settings(image: MetadataImage) -> dict[str, Mapping[str, str]]:
    """The cluster-wide settings, and those of single brokers: what topics fall back on."""
    return {name: entries for (kind, name), entries in image.configs.items() if kind == CONFIG_RESOURCE_BROKER}
