"""The SDK: produce, consume and administer over gRPC."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..proto.errors import (
    CorruptRecordError,
    IllegalStateError,
    KafkaConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from ..proto.identifiers import TopicPartition
from .structs import (
    ClusterInfo,
    ConfigResource,
    ConfigResourceType,
    ConsumerRecord,
    NewPartitions,
    NewTopic,
    OffsetAndTimestamp,
    RecordMetadata,
)

if TYPE_CHECKING:
    from .admin import Admin, AsyncAdmin
    from .consumer import AsyncConsumer, Consumer
    from .delivery_future import DeliveryFuture
    from .producer import AsyncProducer, Producer

    KafkaAdminClient = Admin
    KafkaConsumer = Consumer
    KafkaProducer = Producer

# These import grpc, a tenth of a second and more: only who uses one waits for it.
_LAZY = {
    "Admin": ("admin", "Admin"),
    "AsyncAdmin": ("admin", "AsyncAdmin"),
    "AsyncConsumer": ("consumer", "AsyncConsumer"),
    "AsyncProducer": ("producer", "AsyncProducer"),
    "Consumer": ("consumer", "Consumer"),
    "DeliveryFuture": ("delivery_future", "DeliveryFuture"),
    "KafkaAdminClient": ("admin", "Admin"),
    "KafkaConsumer": ("consumer", "Consumer"),
    "KafkaProducer": ("producer", "Producer"),
    "Producer": ("producer", "Producer"),
}

__all__ = [
    "Admin",
    "AsyncAdmin",
    "AsyncConsumer",
    "AsyncProducer",
    "ClusterInfo",
    "ConfigResource",
    "ConfigResourceType",
    "Consumer",
    "ConsumerRecord",
    "CorruptRecordError",
    "DeliveryFuture",
    "IllegalStateError",
    "KafkaAdminClient",
    "KafkaConfigurationError",
    "KafkaConsumer",
    "KafkaError",
    "KafkaProducer",
    "KafkaTimeoutError",
    "MessageSizeTooLargeError",
    "NewPartitions",
    "NewTopic",
    "OffsetAndTimestamp",
    "OffsetOutOfRangeError",
    "Producer",
    "RecordMetadata",
    "TopicAlreadyExistsError",
    "TopicPartition",
    "UnknownTopicOrPartitionError",
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
