"""Configuration of topics and brokers, and cluster-wide defaults (KIP-339).

A resource is changed as a whole or not at all. Two keys touch partitions as well: with another min.insync.replicas the
eligible leader replicas of a partition that has a leader mean nothing any more (KIP-966), and are cleared before the
new value is seen; with unclean.leader.election.enable=true partitions without a leader get one after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from ..cluster.image import MetadataImage, TopicImage
from ..cluster.records import (
    CLUSTER_RESOURCE_NAME,
    CONFIG_RESOURCE_BROKER,
    CONFIG_RESOURCE_TOPIC,
    config_record,
)
from ..cluster.topic_config import (
    CLUSTER_CONFIG_KEYS,
    CLUSTER_ONLY_KEYS,
    TOPIC_CONFIG_KEYS,
    ConfigKey,
    TopicConfig,
    conflict,
    topic_name_error,
    unknown_key_message,
    validate,
    validate_cluster,
)
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId
from ..proto.metadata_pb2 import MetadataRecord
from .election import Election, LiveBrokers, PartitionChange, TopicRules
from .limits import ENTRIES_PER_COMMAND_MAX, RECORDS_PER_COMMAND_MAX
from .result import ControllerResult, ItemError, refused

_OPERATIONS: Final = frozenset(command_pb2.AlterConfigOperation.values())


def decide_incremental_alter_configs(
    image: MetadataImage, command: command_pb2.IncrementalAlterConfigsCommand
) -> ControllerResult:
    """Sets and deletes keys, or replaces all of them; each resource is decided by itself."""
    if len(command.resources) > ENTRIES_PER_COMMAND_MAX:
        return refused(ErrorCode.INVALID_REQUEST, f"at most {ENTRIES_PER_COMMAND_MAX} resources in one request")
    records: list[MetadataRecord] = []
    outcomes = []
    times_named = Counter((resource.resource_type, resource.resource_name) for resource in command.resources)
    for resource in command.resources:
        if times_named[resource.resource_type, resource.resource_name] > 1:
            changes: list[MetadataRecord] | ItemError = ItemError(
                ErrorCode.INVALID_REQUEST,
                f"resource {resource.resource_name!r} is named more than once: each may be named once",
            )
        else:
            changes = _changes(image, resource)
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


def _changes(image: MetadataImage, resource: command_pb2.AlterConfigsResource) -> list[MetadataRecord] | ItemError:
    key = (int(resource.resource_type), resource.resource_name)
    error = _resource_error(image, resource)
    if error is not None:
        return error
    known = TOPIC_CONFIG_KEYS if resource.resource_type == CONFIG_RESOURCE_TOPIC else CLUSTER_CONFIG_KEYS
    stored = image.configs.get(key, {})
    wanted: dict[str, str | None] = {}
    for config in resource.configs:
        if config.name in wanted:
            return ItemError(ErrorCode.INVALID_REQUEST, f"configuration {config.name!r} is named more than once")
        value = _new_value(resource, config, known, stored)
        if isinstance(value, ItemError):
            return value
        wanted[config.name] = value
    if resource.replace:
        wanted |= dict.fromkeys(stored.keys() - wanted.keys())
    if resource.resource_type == CONFIG_RESOURCE_TOPIC:
        problem = conflict({name: value for name, value in {**stored, **wanted}.items() if value is not None})
        if problem is not None:
            return ItemError(ErrorCode.INVALID_CONFIG, problem)
    return [config_record(*key, name, value) for name, value in sorted(wanted.items()) if stored.get(name) != value]


def _resource_error(image: MetadataImage, resource: command_pb2.AlterConfigsResource) -> ItemError | None:
    name = resource.resource_name
    if resource.resource_type == CONFIG_RESOURCE_TOPIC:
        if name in image.topics:
            return None
        problem = topic_name_error(name)
        if problem is not None:
            return ItemError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
        return ItemError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic {name!r} does not exist.")
    if resource.resource_type == CONFIG_RESOURCE_BROKER:
        if name == CLUSTER_RESOURCE_NAME:
            return None
        if not (name.isascii() and name.isdecimal() and str(int(name[:20])) == name):
            return ItemError(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name[:40]}")
        if BrokerId(int(name)) not in image.brokers:
            return ItemError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"No broker with id {name} found.")
        return None
    return ItemError(ErrorCode.INVALID_REQUEST, f"unknown resource type {resource.resource_type}")


def _new_value(
    resource: command_pb2.AlterConfigsResource,
    config: command_pb2.AlterableConfig,
    known: Mapping[str, ConfigKey],
    stored: Mapping[str, str],
) -> str | ItemError | None:
    """What the key is to be; None for its default."""
    topic = resource.resource_type == CONFIG_RESOURCE_TOPIC
    name, operation = config.name, config.operation
    if operation not in _OPERATIONS:
        return ItemError(ErrorCode.INVALID_REQUEST, f"unknown operation {operation} on configuration {name}")
    if not topic and resource.resource_name and name in CLUSTER_ONLY_KEYS:
        return ItemError(
            ErrorCode.INVALID_REQUEST, f"{name} holds for the whole cluster: leave the broker's name empty"
        )
    if operation == command_pb2.ALTER_CONFIG_DELETE:
        if name in known or name in stored:
            return None
        return ItemError(
            ErrorCode.INVALID_CONFIG, unknown_key_message(name, known, "topic" if topic else "cluster-wide")
        )
    if not config.HasField("value"):
        return ItemError(ErrorCode.INVALID_REQUEST, f"configuration {name} is to be set and has no value")
    value = config.value
    if operation != command_pb2.ALTER_CONFIG_SET and name in known:
        key = known[name]
        if key.type != "list":
            verb = "append to" if operation == command_pb2.ALTER_CONFIG_APPEND else "subtract from"
            return ItemError(
                ErrorCode.INVALID_CONFIG, f"Can't {verb} configuration {name}: it is not a list, its type is {key.type}"
            )
        value = _combined(stored.get(name, key.default or ""), value, operation)
    problem = validate(name, value) if topic else validate_cluster(name, value)
    return value if problem is None else ItemError(ErrorCode.INVALID_CONFIG, problem)


def _combined(current: str, value: str, operation: int) -> str:
    """A list with some words more, or fewer."""
    words = [word for word in current.split(",") if word]
    for word in value.split(","):
        if operation == command_pb2.ALTER_CONFIG_APPEND:
            if word not in words:
                words.append(word)
        elif word in words:
            words.remove(word)
    return ",".join(words)


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
