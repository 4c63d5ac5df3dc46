"""The plain values that the SDK takes and gives, with kafka-python's names and fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID

from ..proto.identifiers import TopicPartition

Headers = Sequence[tuple[str, bytes | None]]


class ConsumerRecord(NamedTuple):
    """One record as a consumer gives it. `leader_epoch` is its batch's; `checksum` is always None (v2 batches)."""

    topic: str
    partition: int
    leader_epoch: int | None
    offset: int
    timestamp: int
    timestamp_type: int  # 0: set by the producer (CreateTime), 1: by the broker (LogAppendTime)
    key: Any
    value: Any
    headers: list[tuple[str, bytes | None]]
    checksum: None
    serialized_key_size: int  # -1: no key
    serialized_value_size: int  # -1: no value
    serialized_header_size: int  # -1: no headers


class RecordMetadata(NamedTuple):
    """Where a record that was sent has landed. `offset` is -1 under acks=0 and where it was never told: the broker no
    longer knew it, or no answer came and only the ack of a later batch tells that this one is written.
    """

    topic: str
    partition: int
    topic_partition: TopicPartition
    offset: int
    timestamp: int
    checksum: None
    serialized_key_size: int
    serialized_value_size: int
    serialized_header_size: int


class OffsetAndTimestamp(NamedTuple):
    """The first offset at or after a time, and the timestamp of its record."""

    offset: int
    timestamp: int
    leader_epoch: int | None


class OffsetAndMetadata(NamedTuple):
    """An offset to commit, or that was committed: that of the record to go on with.

    `leader_epoch` is that of the record before it: with it a consumer notices that the log was cut below (KIP-320).
    """

    offset: int
    metadata: str = ""
    leader_epoch: int | None = None


class ConsumerGroupMetadata(NamedTuple):
    """A consumer's membership in its group; `generation_id` is None while it is no member, or assigns by itself."""

    group_id: str | None
    generation_id: int | None = None
    member_id: str = ""
    group_instance_id: str | None = None


class ConsumerRebalanceListener:
    """Is told when a group gives partitions to a consumer and takes them away; derive from it.

    All three are called inside `poll`, `close` and `unsubscribe`, in the thread that calls these; heartbeats go on
    meanwhile. An AsyncConsumer takes coroutine functions too; a plain one holds up its event loop, heartbeats included.
    What they raise comes out of that call, after the step is done.

        class Flusher(ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked):
                write_out(revoked)
                consumer.commit()
    """

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> Any:
        """These go to others; what was read of them may still be committed. An eager assignor's: all, each time."""

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> Any:
        """These are new; `seek` here decides where to begin. Called after each rebalance, with none if none is new."""

    def on_partitions_lost(self, lost: set[TopicPartition]) -> Any:
        """These belong to others already: nothing can be committed any more. By default as `on_partitions_revoked`."""
        return self.on_partitions_revoked(lost)


class ConfigResourceType(IntEnum):
    """What a configuration belongs to; Kafka's numbers."""

    TOPIC = 2
    BROKER = 4


@dataclass(frozen=True, slots=True)
class ConfigResource:
    """A topic or broker whose configuration is read or altered. In `configs`, a value of None goes back to the default.

    When describing, the keys of `configs` say which entries are wanted; none means all.
    """

    resource_type: ConfigResourceType
    name: str
    configs: Mapping[str, str | None] = field(default_factory=dict, hash=False, compare=False)


class ConfigEntry(NamedTuple):
    """One configuration key as a broker describes it."""

    name: str
    value: str
    source: str  # "TOPIC", "BROKER", "CLUSTER", "STATIC", "DEFAULT"
    read_only: bool
    documentation: str
    type: str


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create. -1 for the two counts takes the cluster's defaults; `replica_assignments` replaces both."""

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    replica_assignments: Mapping[int, Sequence[int]] = field(default_factory=dict)
    topic_configs: Mapping[str, str] = field(default_factory=dict)


class CreatedTopic(NamedTuple):
    """A topic as it was created, with the defaults filled in; no id where it was only validated."""

    name: str
    topic_id: UUID | None
    num_partitions: int
    replication_factor: int


@dataclass(frozen=True, slots=True)
class NewPartitions:
    """Partitions to add: `total_count` is what the topic shall have afterwards."""

    total_count: int
    new_assignments: Sequence[Sequence[int]] = ()


class PartitionInfo(NamedTuple):
    """One partition as the metadata tells it; `leader` is None while it has none."""

    topic: str
    partition: int
    leader: int | None
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline_replicas: tuple[int, ...]
    partition_epoch: int
    adding_replicas: tuple[int, ...]
    removing_replicas: tuple[int, ...]
    eligible_leader_replicas: tuple[int, ...]


class TopicInfo(NamedTuple):
    """One topic as the metadata tells it."""

    name: str
    topic_id: UUID
    is_internal: bool
    partitions: tuple[PartitionInfo, ...]


class BrokerInfo(NamedTuple):
    """One broker; host and port are those of its gRPC endpoint, `endpoints` has all of them by name."""

    broker_id: int
    host: str
    port: int
    rack: str | None
    broker_epoch: int
    fenced: bool
    in_controlled_shutdown: bool
    endpoints: dict[str, str]


class QuorumNodeInfo(NamedTuple):
    """One controller of the metadata quorum, as the one that was asked sees it; None: not known."""

    controller_id: int
    host: str
    port: int
    reachable: bool
    log_end_index: int | None
    lag: int | None
    is_leader: bool


class QuorumInfo(NamedTuple):
    """The metadata quorum as one controller sees it."""

    controller_id: int
    active_controller_id: int | None
    controller_epoch: int
    commit_index: int
    metadata_end_offset: int
    cluster_id: str | None
    ready: bool
    voter: bool
    nodes: tuple[QuorumNodeInfo, ...]


class ClusterInfo(NamedTuple):
    """The cluster as one broker sees it; `quorum` is None while no active controller can be reached."""

    cluster_id: str
    controller_id: int | None
    brokers: tuple[BrokerInfo, ...]
    quorum: QuorumInfo | None
    metadata_end_offset: int


class Reassignment(NamedTuple):
    """A reassignment under way."""

    topic_partition: TopicPartition
    replicas: tuple[int, ...]
    adding_replicas: tuple[int, ...]
    removing_replicas: tuple[int, ...]


class GroupListing(NamedTuple):
    """One group as a list of groups has it; `type` is "classic" or "consumer" (KIP-848)."""

    group_id: str
    protocol_type: str
    state: str
    type: str


class MemberDescription(NamedTuple):
    """One member of a group; what it reads is empty unless the group is one of consumers."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    host: str
    topics: tuple[str, ...]
    assignment: tuple[TopicPartition, ...]


class GroupDescription(NamedTuple):
    """One group in full; `protocol` is the assignor that is in use."""

    group_id: str
    state: str
    type: str
    protocol_type: str
    protocol: str
    coordinator: str  # host:port
    members: tuple[MemberDescription, ...]
