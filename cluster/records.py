"""Metadata records from plain values: the one place that knows how "none" is spelled in them.

Brokers and partitions make their own records (`to_record`); the smaller ones are here.
"""

from __future__ import annotations

from typing import Final

from ..proto import metadata_pb2
from ..proto.identifiers import NONE_ID, BrokerEpoch, BrokerId, ControllerEpoch, NodeId, ProducerId, TopicId
from ..proto.metadata_pb2 import MetadataRecord

CONFIG_RESOURCE_TOPIC: Final = 2
CONFIG_RESOURCE_BROKER: Final = 4
CLUSTER_RESOURCE_NAME: Final = ""
"""The broker resource that stands for every broker: cluster-wide defaults."""


def cluster_record(cluster_id: str) -> MetadataRecord:
    """The cluster got its id."""
    return MetadataRecord(cluster=metadata_pb2.ClusterRecord(cluster_id=cluster_id))


def controller_change_record(controller_id: NodeId | None, controller_epoch: ControllerEpoch) -> MetadataRecord:
    """A controller became active."""
    return MetadataRecord(
        controller_change=metadata_pb2.ControllerChangeRecord(
            controller_id=NONE_ID if controller_id is None else controller_id, controller_epoch=controller_epoch
        )
    )


def broker_change_record(
    broker_id: BrokerId, broker_epoch: BrokerEpoch, *, fenced: bool, in_controlled_shutdown: bool
) -> MetadataRecord:
    """A broker's flags changed."""
    return MetadataRecord(
        broker_registration_change=metadata_pb2.BrokerRegistrationChangeRecord(
            broker_id=broker_id,
            broker_epoch=broker_epoch,
            fenced=fenced,
            in_controlled_shutdown=in_controlled_shutdown,
        )
    )


def unregister_broker_record(broker_id: BrokerId, broker_epoch: BrokerEpoch) -> MetadataRecord:
    """A broker was forgotten."""
    return MetadataRecord(
        unregister_broker=metadata_pb2.UnregisterBrokerRecord(broker_id=broker_id, broker_epoch=broker_epoch)
    )


def topic_record(name: str, topic_id: TopicId) -> MetadataRecord:
    """A topic exists; its partitions follow."""
    return MetadataRecord(topic=metadata_pb2.TopicRecord(name=name, topic_id=topic_id.bytes))


def remove_topic_record(topic_id: TopicId) -> MetadataRecord:
    """A topic is gone, with its partitions and its configuration."""
    return MetadataRecord(remove_topic=metadata_pb2.RemoveTopicRecord(topic_id=topic_id.bytes))


def config_record(resource_type: int, resource_name: str, key: str, value: str | None) -> MetadataRecord:
    """A key has a new value, or with None its default again."""
    return MetadataRecord(
        config=metadata_pb2.ConfigRecord(
            resource_type=metadata_pb2.ConfigResourceType.ValueType(resource_type),
            resource_name=resource_name,
            key=key,
            value=value,
        )
    )


def producer_ids_record(
    broker_id: BrokerId | None, broker_epoch: BrokerEpoch | None, next_producer_id: ProducerId
) -> MetadataRecord:
    """Producer ids below `next_producer_id` are given away."""
    return MetadataRecord(
        producer_ids=metadata_pb2.ProducerIdsRecord(
            broker_id=NONE_ID if broker_id is None else broker_id,
            broker_epoch=NONE_ID if broker_epoch is None else broker_epoch,
            next_producer_id=next_producer_id,
        )
    )
