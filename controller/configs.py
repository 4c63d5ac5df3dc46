"""Configuration of topics, and cluster-wide defaults (KIP-339).

A resource is changed as a whole or not at all. Two keys touch partitions as well: with another min.insync.replicas the
eligible leader replicas of a partition that has a leader mean nothing any more (KIP-966), and are cleared before the
new value is seen; with unclean.leader.election.enable=true partitions without a leader get one after it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..cluster.image import MetadataImage, TopicImage
from ..cluster.records import (
    CLUSTER_RESOURCE_NAME,
    CONFIG_RESOURCE_BROKER,
    CONFIG_RESOURCE_TOPIC,
    config_record,
)
from ..cluster.topic_config import (
    CLUSTER_CONFIG_KEYS,
    TOPIC_CONFIG_KEYS,
    TopicConfig,
    unknown_key_message,
    validate,
    validate_cluster,
)
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.metadata_pb2 import ConfigResourceType, MetadataRecord
from .election import Election, LiveBrokers, PartitionChange, TopicRules
from .limits import ENTRIES_PER_COMMAND_MAX, RECORDS_PER_COMMAND_MAX
from .result import ControllerResult, ItemError, refused


def decide_incremental_alter_configs(
    image: MetadataImage, command: command_pb2.IncrementalAlterConfigsCommand
) -> ControllerResult:
    """Sets and deletes keys; each resource is decided by itself."""
    if len(command.resources) > ENTRIES_PER_COMMAND_MAX:
        return refused(ErrorCode.INVALID_REQUEST, f"at most {ENTRIES_PER_COMMAND_MAX} resources in one request")
    records: list[MetadataRecord] = []
    outcomes = []
    seen: set[tuple[int, str]] = set()
    for resource in command.resources:
        changes = _changes(image, resource, seen)
        error = changes if isinstance(changes, ItemError) else None
        if not isinstance(changes, ItemError):
            records.extend(changes)
        outcomes.append(
            command_pb2.AlterConfigsOutcome(
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
                error_code=0 if error is None else error.error_code,
                error_message="" if error is None else error.message,
            )
        )
    if len(records) > RECORDS_PER_COMMAND_MAX:
        return refused(ErrorCode.POLICY_VIOLATION, f"more than {RECORDS_PER_COMMAND_MAX} keys in one request")
    response = CommandResponse(incremental_alter_configs=command_pb2.IncrementalAlterConfigsResult(resources=outcomes))
    if command.validate_only or not records:
        return ControllerResult((), response)
    before, after = _partition_records(image, image.replay(records, image.end_offset))
    return ControllerResult((*before, *records, *after), response)


def _changes(
    image: MetadataImage, resource: command_pb2.AlterConfigsResource, seen: set[tuple[int, str]]
) -> list[MetadataRecord] | ItemError:
    key = (int(resource.resource_type), resource.resource_name)
    error = _resource_error(image, resource)
    if error is not None:
        return error
    if key in seen:
        return ItemError(ErrorCode.INVALID_REQUEST, f"resource {resource.resource_name!r} is named more than once")
    seen.add(key)
    stored = image.configs.get(key, {})
    records = []
    names: set[str] = set()
    for config in resource.configs:
        if config.name in names:
            return ItemError(ErrorCode.INVALID_REQUEST, f"configuration {config.name!r} is named more than once")
        names.add(config.name)
        problem = _config_problem(resource.resource_type, config, stored)
        if problem is not None:
            return ItemError(ErrorCode.INVALID_CONFIG, problem)
        value = config.value if config.operation == command_pb2.ALTER_CONFIG_SET else None
        if stored.get(config.name) != value:
            records.append(config_record(*key, config.name, value))
    return records


def _resource_error(image: MetadataImage, resource: command_pb2.AlterConfigsResource) -> ItemError | None:
    name = resource.resource_name
    if resource.resource_type == CONFIG_RESOURCE_TOPIC:
        if name not in image.topics:
            return ItemError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic {name!r} does not exist.")
        return None
    if resource.resource_type == CONFIG_RESOURCE_BROKER:
        if name != CLUSTER_RESOURCE_NAME:
            return ItemError(
                ErrorCode.INVALID_REQUEST,
                "a broker is configured in its own file; dynamic settings are cluster-wide: leave the name empty",
            )
        return None
    return ItemError(ErrorCode.INVALID_REQUEST, f"unknown resource type {resource.resource_type}")


def _config_problem(
    resource_type: ConfigResourceType.ValueType, config: command_pb2.AlterableConfig, stored: Mapping[str, str]
) -> str | None:
    topic = resource_type == CONFIG_RESOURCE_TOPIC
    known = TOPIC_CONFIG_KEYS if topic else CLUSTER_CONFIG_KEYS
    if config.operation == command_pb2.ALTER_CONFIG_SET:
        if not config.HasField("value"):
            return f"configuration {config.name} is to be set and has no value"
        return validate(config.name, config.value) if topic else validate_cluster(config.name, config.value)
    if config.operation == command_pb2.ALTER_CONFIG_DELETE:
        if config.name in known or config.name in stored:
            return None
        return unknown_key_message(config.name, known, "topic" if topic else "cluster-wide")
    if config.operation in (command_pb2.ALTER_CONFIG_APPEND, command_pb2.ALTER_CONFIG_SUBTRACT):
        return f"Can't append to or subtract from configuration {config.name}: it is not a list"
    return f"unknown operation {config.operation} on configuration {config.name}"


def _partition_records(image: MetadataImage, after: MetadataImage) -> tuple[list[MetadataRecord], list[MetadataRecord]]:
    """Changes of partitions that must be seen before the new settings, and those that follow from them."""
    cleared: list[MetadataRecord] = []
    elected: list[MetadataRecord] = []
    live = LiveBrokers.of(image)
    old_rules, new_rules = TopicRules(image), TopicRules(after)
    all_topics = image.cluster_config() != after.cluster_config()
    for topic in image.topics.values():
        if not all_topics and image.topic_overrides(topic.name) == after.topic_overrides(topic.name):
            continue
        old, new = old_rules.of(topic.name), new_rules.of(topic.name)
        if old.min_insync_replicas != new.min_insync_replicas:
            cleared.extend(_cleared(topic, live, new))
        if new.unclean_leader_election_enable and not old.unclean_leader_election_enable:
            elected.extend(_elected(topic, live, new))
    return cleared, elected


def _cleared(topic: TopicImage, live: LiveBrokers, config: TopicConfig) -> list[MetadataRecord]:
    records = []
    for partition in topic.partitions:
        # Without a leader nothing is committed, whatever the setting: the ELR stays true.
        if partition.eligible_leader_replicas and partition.leader is not None:
            changed = PartitionChange(partition, live, config, eligible_leader_replicas=()).build()
            if changed is not None:
                records.append(changed.to_record())
    return records


def _elected(topic: TopicImage, live: LiveBrokers, config: TopicConfig) -> list[MetadataRecord]:
    records = []
    for partition in topic.partitions:
        if partition.leader is None:
            changed = PartitionChange(partition, live, config, election=Election.UNCLEAN).build()
            if changed is not None:
                records.append(changed.to_record())
    return records
