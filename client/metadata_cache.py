"""What a client knows of the cluster: brokers, topics, leaders. Newer knowledge wins, whoever brings it.

Answers of several brokers race, and a broker that is cut off tells an old story. An answer is taken only if it is not
older, by its metadata offset, than what is known of the topic; a leader hint (KIP-951) only if its epoch is newer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from ..proto.broker_pb2 import BrokerDescription, LeaderHint, MetadataResponse, PartitionDescription, TopicDescription
from ..proto.errors import ErrorCode
from ..proto.identifiers import NONE_ID, TopicPartition
from .structs import BrokerInfo, PartitionInfo, TopicInfo


class BrokerAddress(NamedTuple):
    """Where a broker's gRPC listener is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Leader(NamedTuple):
    """Who leads a partition, and since which epoch."""

    broker_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class _Topic:
    info: TopicInfo
    leaders: tuple[Leader | None, ...]  # by partition
    end_offset: int  # the metadata offset that this was told at


class MetadataCache:
    """Read from any thread (fields are replaced whole); updated by one."""

    def __init__(self) -> None:
        self.cluster_id: str | None = None
        self.controller_id: int | None = None
        self.end_offset = -1
        self.brokers: dict[int, BrokerInfo] = {}
        self.version = 0  # grows with each change
        self._topics: dict[str, _Topic] = {}
        self.topic_errors: dict[str, ErrorCode] = {}  # of the topics that could not be described last time

    def leader_of(self, topic_partition: TopicPartition) -> Leader | None:
        """None if the partition is unknown or has no leader."""
        topic = self._topics.get(topic_partition.topic)
        if topic is None or not 0 <= topic_partition.partition < len(topic.leaders):
            return None
        return topic.leaders[topic_partition.partition]

    def address_of(self, broker_id: int) -> BrokerAddress | None:
        """None if the broker is not known or not alive."""
        broker = self.brokers.get(broker_id)
        return None if broker is None else BrokerAddress(broker.host, broker.port)

    def topic(self, name: str) -> TopicInfo | None:
        topic = self._topics.get(name)
        return None if topic is None else topic.info

    def topic_names(self) -> set[str]:
        return set(self._topics)

    def matching_topics(self, pattern: re.Pattern[str], *, internal: bool) -> frozenset[str]:
        """The topics whose name begins as the pattern says; internal ones only if they are asked for."""
        return frozenset(
            name
            for name, topic in self._topics.items()
            if (internal or not topic.info.is_internal) and pattern.match(name)
        )

    def available_partitions(self, name: str) -> list[int]:
        """Partitions with a leader."""
        topic = self._topics.get(name)
        if topic is None:
            return []
        return [partition for partition, leader in enumerate(topic.leaders) if leader is not None]

    def update(self, response: MetadataResponse, *, asked: Iterable[str] | None) -> bool:
        """Takes an answer in; `asked` are the topics asked for, None for all. True if anything changed."""
        end_offset = response.metadata_end_offset
        if self.cluster_id is not None and response.cluster_id != self.cluster_id:
            self._topics = {}  # another cluster at the same addresses: nothing that was known holds
            self.brokers = {}
            self.end_offset = -1
        before = (self.brokers, self._topics, dict(self.topic_errors))
        self.cluster_id = response.cluster_id
        if end_offset >= self.end_offset:
            self.end_offset = end_offset
            self.controller_id = response.controller_id if response.controller_id != NONE_ID else None
            self.brokers = {broker.broker_id: broker_info(broker) for broker in response.brokers}
        topics = dict(self._topics)
        told = {}
        for description in response.topics:
            told[description.name] = ErrorCode.of(description.error_code)
            known = topics.get(description.name)
            if known is not None and known.end_offset > end_offset:
                continue
            if description.error_code != ErrorCode.NONE:
                topics.pop(description.name, None)
                continue
            topics[description.name] = _topic(description, end_offset, known)
        if asked is None and end_offset >= self.end_offset:
            topics = {name: topic for name, topic in topics.items() if name in told}
            self.topic_errors = {}
        self.topic_errors = {name: error for name, error in (self.topic_errors | told).items() if error}
        self._topics = topics
        changed = before != (self.brokers, topics, self.topic_errors)
        self.version += changed
        return changed

    def note_leader(self, topic_partition: TopicPartition, hint: LeaderHint) -> bool:
        """Takes in who leads, as a broker told that was asked in vain. True if that was news."""
        topic = self._topics.get(topic_partition.topic)
        if topic is None or hint.leader_id == NONE_ID or not 0 <= topic_partition.partition < len(topic.leaders):
            return False
        known = topic.info.partitions[topic_partition.partition]
        if hint.leader_epoch <= known.leader_epoch:
            return False
        leaders = list(topic.leaders)
        leaders[topic_partition.partition] = Leader(hint.leader_id, hint.leader_epoch)
        partitions = list(topic.info.partitions)
        partitions[topic_partition.partition] = known._replace(leader=hint.leader_id, leader_epoch=hint.leader_epoch)
        info = topic.info._replace(partitions=tuple(partitions))
        self._topics = self._topics | {topic_partition.topic: replace(topic, info=info, leaders=tuple(leaders))}
        broker = self.brokers.get(hint.leader_id)
        if hint.host and (broker is None or (broker.host, broker.port) != (hint.host, hint.port)):
            info_of_broker = BrokerInfo(hint.leader_id, hint.host, hint.port, None, NONE_ID, False, False, {})
            self.brokers = self.brokers | {hint.leader_id: info_of_broker}
        self.version += 1
        return True


def _topic(description: TopicDescription, end_offset: int, known: _Topic | None) -> _Topic:
    name = description.name
    topic_id = UUID(bytes=description.topic_id) if len(description.topic_id) == 16 else UUID(int=0)
    same = known is not None and known.info.topic_id == topic_id
    partitions = []
    for partition in sorted(description.partitions, key=lambda entry: entry.partition):
        info = partition_info(name, partition)
        if same and known is not None and partition.partition < len(known.info.partitions):
            before = known.info.partitions[partition.partition]
            if before.leader_epoch > info.leader_epoch:
                info = before  # a leader hint was faster than this broker's metadata
        partitions.append(info)
    leaders = tuple(None if entry.leader is None else Leader(entry.leader, entry.leader_epoch) for entry in partitions)
    return _Topic(TopicInfo(name, topic_id, description.is_internal, tuple(partitions)), leaders, end_offset)


def partition_info(topic: str, partition: PartitionDescription) -> PartitionInfo:
    """A partition's description as a user sees it."""
    return PartitionInfo(
        topic=topic,
        partition=partition.partition,
        leader=partition.leader_id if partition.leader_id != NONE_ID else None,
        leader_epoch=partition.leader_epoch,
        replicas=tuple(partition.replicas),
        isr=tuple(partition.isr),
        offline_replicas=tuple(partition.offline_replicas),
        partition_epoch=partition.partition_epoch,
        adding_replicas=tuple(partition.adding_replicas),
        removing_replicas=tuple(partition.removing_replicas),
        eligible_leader_replicas=tuple(partition.eligible_leader_replicas),
    )


def broker_info(broker: BrokerDescription) -> BrokerInfo:
    """A broker's description as a user sees it."""
    return BrokerInfo(
        broker_id=broker.broker_id,
        host=broker.host,
        port=broker.port,
        rack=broker.rack or None,
        broker_epoch=broker.broker_epoch,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        endpoints={endpoint.name: f"{endpoint.host}:{endpoint.port}" for endpoint in broker.endpoints},
    )
