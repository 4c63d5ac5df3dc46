"""The names of things: distinct types for ids, offsets and epochs, so that none is taken for another.

"None" is spelled -1 or "" on the wire only; inside, it is None, and the border translates.
"""

from __future__ import annotations

from typing import Final, NamedTuple, NewType
from uuid import UUID

NodeId = NewType("NodeId", int)
"""A controller's id: 0 and up, unique among controllers."""
BrokerId = NewType("BrokerId", int)
"""A broker's id: 0 and up, unique among brokers."""
Offset = NewType("Offset", int)
"""A position in a partition's log; an end offset is the next one to be written."""
LeaderEpoch = NewType("LeaderEpoch", int)
"""Grows with each new leader of a partition."""
PartitionEpoch = NewType("PartitionEpoch", int)
"""Grows with each change of a partition's metadata."""
BrokerEpoch = NewType("BrokerEpoch", int)
"""Grows with each start of a broker (KIP-903): the metadata offset of its registration."""
ControllerEpoch = NewType("ControllerEpoch", int)
"""Grows with each active controller: its Raft term."""
MetadataOffset = NewType("MetadataOffset", int)
"""A position in the metadata log."""
ProducerId = NewType("ProducerId", int)
ProducerEpoch = NewType("ProducerEpoch", int)
Sequence = NewType("Sequence", int)
"""Number of a record among those of one producer in one partition; wraps from 2**31 - 1 to 0."""
TopicId = UUID

NONE_ID: Final = -1
"""How "no broker", "no epoch" and "no offset" are spelled on the wire."""

GRPC_LISTENER: Final = "GRPC"
KAFKA_LISTENER: Final = "KAFKA"

MAX_TOPIC_NAME_LENGTH: Final = 249

GRPC_MESSAGE_BYTES_MAX: Final = 32 * 1024 * 1024
"""The largest gRPC message that any Klamm process takes or sends."""
RECORD_BATCH_BYTES_MAX: Final = 16 * 1024 * 1024
"""The largest max.message.bytes that may be configured: a batch must fit a gRPC message with room to spare."""


class TopicPartition(NamedTuple):
    """One partition of a topic, by name, as users say it."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class TopicIdPartition(NamedTuple):
    """One partition of a topic, by id, as nodes say it: a topic deleted and made again is another one (KIP-516)."""

    topic_id: TopicId
    partition: int

    def __str__(self) -> str:
        return f"{self.topic_id}-{self.partition}"
