"""Answers DescribeConfigs from the image: each setting with its value, where that comes from, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..cluster.image import MetadataImage
from ..cluster.node_config import ConfigDefinition
from ..cluster.topic_config import CLUSTER_CONFIG_KEYS, TOPIC_CONFIG_KEYS, ConfigKey
from ..proto import broker_pb2
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId
from ..proto.metadata_pb2 import CONFIG_RESOURCE_BROKER, CONFIG_RESOURCE_TOPIC


@dataclass(frozen=True)
class ConfigDescriber:
    """Knows what the image does not: the broker's own file and the keys it may hold."""

    broker_id: BrokerId
    definition: ConfigDefinition
    properties: Mapping[str, str]  # as the file has them

    def describe(self, image: MetadataImage, resource: broker_pb2.ConfigResource) -> broker_pb2.ConfigsDescription:
        """The settings of a topic, a broker, or ("" for a broker's name) the whole cluster."""
        answer = broker_pb2.ConfigsDescription(
            resource_type=resource.resource_type, resource_name=resource.resource_name
        )
        wanted = set(resource.keys)
        if resource.resource_type == CONFIG_RESOURCE_TOPIC:
            if resource.resource_name not in image.topics:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                answer.error_message = f"no topic {resource.resource_name!r}"
                return answer
            entries = self._topic_entries(image, resource.resource_name)
        elif resource.resource_type == CONFIG_RESOURCE_BROKER:
            complaint = self._broker_complaint(image, resource.resource_name)
            if complaint:
                answer.error_code, answer.error_message = ErrorCode.INVALID_REQUEST, complaint
                return answer
            entries = self._broker_entries(image, resource.resource_name)
        else:
            answer.error_code = ErrorCode.INVALID_REQUEST
            answer.error_message = "a resource is a topic or a broker"
            return answer
        answer.configs.extend(entry for entry in entries if not wanted or entry.name in wanted)
        return answer

    def _topic_entries(self, image: MetadataImage, name: str) -> list[broker_pb2.ConfigEntry]:
        overrides, cluster = image.topic_overrides(name), image.cluster_config()
        return [
            _entry(
                key,
                (
                    (overrides.get(key.name), "TOPIC"),
                    (cluster.get(key.broker_synonym), "CLUSTER"),
                    (self.properties.get(key.broker_synonym), "STATIC"),
                ),
            )
            for key in TOPIC_CONFIG_KEYS.values()
        ]

    def _broker_entries(self, image: MetadataImage, name: str) -> list[broker_pb2.ConfigEntry]:
        own = image.configs.get((CONFIG_RESOURCE_BROKER, name), {}) if name else {}
        cluster = image.cluster_config()
        dynamic = [
            _entry(
                key,
                (
                    (own.get(key.name), "BROKER"),
                    (cluster.get(key.name), "CLUSTER"),
                    (self._static(name, key.name), "STATIC"),
                ),
            )
            for key in CLUSTER_CONFIG_KEYS.values()
        ]
        if not name:
            return dynamic
        static = [
            broker_pb2.ConfigEntry(
                name=key.name,
                value=self.properties.get(key.name, "" if key.default is None else str(key.default)),
                source="STATIC" if key.name in self.properties else "DEFAULT",
                read_only=True,
                documentation=key.documentation,
                type="string",
            )
            for key in self.definition.keys.values()
            if key.name not in CLUSTER_CONFIG_KEYS
        ]
        return dynamic + static

    def _static(self, name: str, key: str) -> str | None:
        return self.properties.get(key) if name else None

    def _broker_complaint(self, image: MetadataImage, name: str) -> str | None:
        if not name:
            return None
        if not name.isdecimal() or BrokerId(int(name)) not in image.brokers:
            return f"no broker {name!r}; a broker resource is named by its id, or '' for the whole cluster"
        if int(name) != self.broker_id:
            return f"the settings of broker {name} are told by that broker; this is {self.broker_id}"
        return None


def _entry(key: ConfigKey, sources: tuple[tuple[str | None, str], ...]) -> broker_pb2.ConfigEntry:
    """The first source that says something; the default where none does."""
    value, source = next(((text, source) for text, source in sources if text is not None), (key.default, "DEFAULT"))
    return broker_pb2.ConfigEntry(
        name=key.name, value=value or "", source=source, documentation=key.documentation, type=key.type
    )
