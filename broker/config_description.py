"""Answers DescribeConfigs from the image: each setting with its value, where that comes from, and what it means.

For both doors. A setting has several sources; the first that says something holds, the others are its synonyms
(KIP-226): the topic, this broker's dynamic settings, the cluster-wide ones, the broker's file, the default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, Final

from ..cluster.image import MetadataImage
from ..cluster.node_config import ConfigDefinition, ConfigValues
from ..cluster.topic_config import CLUSTER_CONFIG_KEYS, TOPIC_CONFIG_KEYS, ConfigKey, TopicConfig, topic_name_error
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId
from ..proto.metadata_pb2 import CONFIG_RESOURCE_BROKER, CONFIG_RESOURCE_TOPIC

DEFAULT_REPLICATION_FACTOR_MAX: Final = 3
_ADVERTISED_LISTENERS: Final = "advertised.listeners"
_OFFSETS_REPLICATION_FACTOR: Final = "offsets.topic.replication.factor"
_INT_MAX: Final = 2**31 - 1


class ConfigSource(IntEnum):
    """Where a value comes from; Kafka's numbers."""

    TOPIC = 1
    BROKER = 2
    CLUSTER = 3
    STATIC = 4
    DEFAULT = 5


@dataclass(frozen=True, slots=True)
class ConfigSynonym:
    """One source of a value, under the name that the key has there."""

    name: str
    value: str | None
    source: ConfigSource


@dataclass(frozen=True, slots=True)
class DescribedConfig:
    """One setting. `value` is None where it depends on other things; `synonyms` has the most specific first."""

    name: str
    value: str | None
    source: ConfigSource
    type: str  # Kafka's name of the type, in lower case
    documentation: str
    read_only: bool
    synonyms: tuple[ConfigSynonym, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribedResource:
    """A resource's settings, or why there are none."""

    error: ErrorCode = ErrorCode.NONE
    message: str = ""
    configs: list[DescribedConfig] = field(default_factory=list)


@dataclass(frozen=True)
class ConfigDescriber:
    """Knows what the image does not: the broker's own file and the keys it may hold."""

    broker_id: BrokerId
    definition: ConfigDefinition
    properties: Mapping[str, str]  # as the file has them

    def describe(
        self, image: MetadataImage, resource_type: int, name: str, keys: Collection[str] | None = None
    ) -> DescribedResource:
        """The settings of a topic, a broker, or ("" for a broker's name) the whole cluster; of `keys`, if any."""
        if resource_type == CONFIG_RESOURCE_TOPIC:
            topic = image.topics.get(name)
            if topic is None:
                problem = topic_name_error(name)
                if problem is not None:
                    return DescribedResource(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
                return DescribedResource(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"no topic {name!r}")
            replication_factor = topic.partitions[0].replication_factor if topic.partitions else 1
            configs = self.of_topic(image, image.topic_overrides(name), replication_factor)
        elif resource_type == CONFIG_RESOURCE_BROKER:
            complaint = self._broker_complaint(name)
            if complaint:
                return DescribedResource(ErrorCode.INVALID_REQUEST, complaint)
            configs = self._broker_configs(image, name)
        else:
            return DescribedResource(
                ErrorCode.INVALID_REQUEST,
                f"resources of type {resource_type} have no settings here: name a topic or a broker",
            )
        return DescribedResource(configs=[config for config in configs if not keys or config.name in keys])

    def _broker_complaint(self, name: str) -> str | None:
        if not name:
            return None
        if not (name.isascii() and name.isdecimal()):
            return f"Broker id must be an integer, but it is: {name[:40]}"
        if int(name) != self.broker_id:
            return f"Unexpected broker id, expected {self.broker_id} or empty string, but received {name[:40]}"
        return None

    # --- topics ----------------------------------------------------------------------------------------------

    def of_topic(
        self, image: MetadataImage, overrides: Mapping[str, str], replication_factor: int
    ) -> Iterable[DescribedConfig]:
        """The settings of a topic with these keys set on it, which need not be in the image."""
        for key in TOPIC_CONFIG_KEYS.values():
            default = key.default
            if default is None:
                default = _default_min_insync_replicas(replication_factor)
            broker_key = key.broker_synonym
            synonyms = self._broker_synonyms(image, str(self.broker_id), broker_key, default)
            if key.name in overrides:
                synonyms.insert(0, ConfigSynonym(key.name, overrides[key.name], ConfigSource.TOPIC))
            yield _described(key.name, synonyms, key.type, key.documentation, read_only=False)

    def _broker_synonyms(
        self, image: MetadataImage, broker_name: str, key: str, default: str | None
    ) -> list[ConfigSynonym]:
        own = image.configs.get((CONFIG_RESOURCE_BROKER, broker_name), {}) if broker_name else {}
        sources = (
            (own.get(key), ConfigSource.BROKER),
            (image.cluster_config().get(key), ConfigSource.CLUSTER),
            (self.properties.get(key) if broker_name else None, ConfigSource.STATIC),
            (default, ConfigSource.DEFAULT),
        )
        return [ConfigSynonym(key, value, source) for value, source in sources if value is not None]

    # --- brokers ---------------------------------------------------------------------------------------------

    def _broker_configs(self, image: MetadataImage, name: str) -> Iterable[DescribedConfig]:
        for key in CLUSTER_CONFIG_KEYS.values():
            synonyms = self._broker_synonyms(image, name, key.name, _cluster_default(image, key))
            yield _described(key.name, synonyms, key.type, key.documentation, read_only=False)
        if not name:
            return
        for node_key in self.definition.keys.values():
            if node_key.name in CLUSTER_CONFIG_KEYS:
                continue
            value, type_name = self._static_values[node_key.name]
            given = node_key.name in self.properties
            synonyms = [ConfigSynonym(node_key.name, value, ConfigSource.STATIC)] if given else []
            if node_key.name == _ADVERTISED_LISTENERS:
                value = self._advertised(image)
            elif node_key.name == _OFFSETS_REPLICATION_FACTOR and value is None:
                value, type_name = str(_default_replication_factor(image)), "int"
            yield DescribedConfig(
                name=node_key.name,
                value=value,
                source=ConfigSource.STATIC if given else ConfigSource.DEFAULT,
                type=type_name,
                documentation=node_key.documentation,
                read_only=True,
                synonyms=tuple(synonyms) or (ConfigSynonym(node_key.name, value, ConfigSource.DEFAULT),),
            )

    @cached_property
    def _static_values(self) -> Mapping[str, tuple[str | None, str]]:
        """Of each key of the file: its value as text, and its type."""
        values: ConfigValues = self.definition.resolve(self.properties)
        return {
            key.name: (self.properties.get(key.name, _text(values[key])), _type_of(values[key]))
            for key in self.definition.keys.values()
        }

    def _advertised(self, image: MetadataImage) -> str:
        """As this broker is registered: with the real ports, where the file says 0 or nothing."""
        broker = image.brokers.get(self.broker_id)
        endpoints = {} if broker is None else broker.endpoints
        return ",".join(f"{name}://{endpoint}" for name, endpoint in sorted(endpoints.items()))


def _described(
    name: str, synonyms: list[ConfigSynonym], type_name: str, documentation: str, *, read_only: bool
) -> DescribedConfig:
    first = synonyms[0] if synonyms else ConfigSynonym(name, None, ConfigSource.DEFAULT)
    return DescribedConfig(name, first.value, first.source, type_name, documentation, read_only, tuple(synonyms))


def _cluster_default(image: MetadataImage, key: ConfigKey) -> str | None:
    """The default as text, also where it depends on how many brokers there are."""
    if key.default is not None:
        return key.default
    replication_factor = _default_replication_factor(image)
    if key.name == "default.replication.factor":
        return str(replication_factor)
    return _default_min_insync_replicas(replication_factor)


def _default_replication_factor(image: MetadataImage) -> int:
    live = sum(broker.active for broker in image.brokers.values())
    return max(1, min(DEFAULT_REPLICATION_FACTOR_MAX, live))


def _default_min_insync_replicas(replication_factor: int) -> str:
    return str(TopicConfig.resolve().effective_min_insync_replicas(replication_factor))


def _text(value: Any) -> str | None:
    """A typed value as the file would have it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{name}://{address}" for name, address in value.items())
    if isinstance(value, (tuple, list)):
        return ",".join(str(item) for item in value)
    return str(value)


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int" if value <= _INT_MAX else "long"
    if isinstance(value, float):
        return "double"
    return "list" if isinstance(value, tuple) else "string"
