"""The SDK: produce, consume and administer over gRPC."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..proto.errors import (
    CommitFailedError,
    CorruptRecordError,
    FencedInstanceIdError,
    GroupIdNotFoundError,
    IllegalStateError,
    KafkaConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NonEmptyGroupError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    WakeupError,
)
from ..proto.identifiers import TopicPartition
from .structs import (
    ClusterInfo,
    ConfigResource,
    ConfigResourceType,
    ConsumerGroupMetadata,
    ConsumerRebalanceListener,
    ConsumerRecord,
    GroupDescription,
    GroupListing,
    MemberDescription,
    NewPartitions,
    NewTopic,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    RecordMetadata,
)

if TYPE_CHECKING:
    from .admin import Admin, AsyncAdmin
    from .assignors import Assignor, RangePartitionAssignor, RoundRobinPartitionAssignor
    from .async_consumer import AsyncConsumer
    from .consumer import Consumer
    from .delivery_future import DeliveryFuture
    from .producer import AsyncProducer, Producer
    from .sticky_assignor import CooperativeStickyAssignor, StickyPartitionAssignor

    KafkaAdminClient = Admin
    KafkaConsumer = Consumer
    KafkaProducer = Producer

# These import grpc, a tenth of a second and more: only who uses one waits for it.
_LAZY = {
    "Admin": ("admin", "Admin"),
    "Assignor": ("assignors", "Assignor"),
    "AsyncAdmin": ("admin", "AsyncAdmin"),
    "AsyncConsumer": ("async_consumer", "AsyncConsumer"),
    "AsyncProducer": ("producer", "AsyncProducer"),
    "Consumer": ("consumer", "Consumer"),
    "CooperativeStickyAssignor": ("sticky_assignor", "CooperativeStickyAssignor"),
    "DeliveryFuture": ("delivery_future", "DeliveryFuture"),
    "KafkaAdminClient": ("admin", "Admin"),
    "KafkaConsumer": ("consumer", "Consumer"),
    "KafkaProducer": ("producer", "Producer"),
    "Producer": ("producer", "Producer"),
    "RangePartitionAssignor": ("assignors", "RangePartitionAssignor"),
    "RoundRobinPartitionAssignor": ("assignors", "RoundRobinPartitionAssignor"),
    "StickyPartitionAssignor": ("sticky_assignor", "StickyPartitionAssignor"),
}

__all__ = [
    "Admin",
    "Assignor",
    "AsyncAdmin",
    "AsyncConsumer",
    "AsyncProducer",
    "ClusterInfo",
    "CommitFailedError",
    "ConfigResource",
    "ConfigResourceType",
    "Consumer",
    "ConsumerGroupMetadata",
    "ConsumerRebalanceListener",
    "ConsumerRecord",
    "CooperativeStickyAssignor",
    "CorruptRecordError",
    "DeliveryFuture",
    "FencedInstanceIdError",
    "GroupDescription",
    "GroupIdNotFoundError",
    "GroupListing",
    "IllegalStateError",
    "KafkaAdminClient",
    "KafkaConfigurationError",
    "KafkaConsumer",
    "KafkaError",
    "KafkaProducer",
    "KafkaTimeoutError",
    "MemberDescription",
    "MessageSizeTooLargeError",
    "NewPartitions",
    "NewTopic",
    "NoOffsetForPartitionError",
    "NonEmptyGroupError",
    "OffsetAndMetadata",
    "OffsetAndTimestamp",
    "OffsetOutOfRangeError",
    "Producer",
    "RangePartitionAssignor",
    "RecordMetadata",
    "RoundRobinPartitionAssignor",
    "StickyPartitionAssignor",
    "TopicAlreadyExistsError",
    "TopicPartition",
    "UnknownTopicOrPartitionError",
    "WakeupError",
]


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
