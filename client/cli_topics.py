"""What `klamm topics ...` and `klamm brokers` do."""

from __future__ import annotations

from typing import Any

from ..proto.errors import TopicAlreadyExistsError
from .cli_output import connected_admin, parse_pairs, print_json, print_table
from .structs import ConfigEntry, ConfigResource, ConfigResourceType, NewPartitions, NewTopic, PartitionInfo, TopicInfo


def create(
    bootstrap_servers: str | None,
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    configs: list[str],
    if_not_exists: bool,
    as_json: bool,
) -> None:
    """Creates one topic and says what it became."""
    topic = NewTopic(
        name,
        num_partitions=-1 if partitions is None else partitions,
        replication_factor=-1 if replication_factor is None else replication_factor,
        topic_configs=parse_pairs(configs, "--config"),
    )
    with connected_admin(bootstrap_servers) as admin:
        try:
            created = admin.create_topics([topic])[0]
        except TopicAlreadyExistsError:
            if not if_not_exists:
                raise
            if not as_json:
                print(f"Topic {name} exists already.")
            else:
                print_json({"name": name, "created": False})
            return
    if as_json:
        print_json({**created._asdict(), "created": True})
    else:
        print(f"Created topic {name}: {created.num_partitions} partitions, {created.replication_factor} replicas each.")


def list_all(bootstrap_servers: str | None, as_json: bool) -> None:
    """Prints every topic's name and counts."""
    with connected_admin(bootstrap_servers) as admin:
        topics = admin.describe_topics()
    if as_json:
        print_json([{"name": topic.name, "partitions": len(topic.partitions)} for topic in topics])
        return
    rows = [(topic.name, len(topic.partitions), _replication_factor(topic), _state(topic)) for topic in topics]
    if rows:
        print_table(("topic", "partitions", "replicas", "state"), rows)
    else:
        print("There are no topics. To create one: klamm topics create NAME")


def describe(bootstrap_servers: str | None, names: list[str] | None, as_json: bool) -> None:
    """Prints topics in full."""
    with connected_admin(bootstrap_servers) as admin:
        topics = admin.describe_topics(names)
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
        configs = admin.describe_configs(resources) if resources else {}
    if as_json:
        print_json([_document(topic, configs[entry]) for topic, entry in zip(topics, resources, strict=True)])
        return
    for topic, resource in zip(topics, resources, strict=True):
        print(f"topic {topic.name}   id {topic.topic_id}   {_state(topic)}")
        set_here = [f"{entry.name}={entry.value}" for entry in configs[resource] if entry.source == "TOPIC"]
        print(f"configuration: {', '.join(set_here) or 'all defaults'}")
        columns = ("partition", "leader", "epoch", "replicas", "isr", "offline", "adding", "removing", "elr")
        print_table(columns, [_row(partition) for partition in topic.partitions])


def alter(
    bootstrap_servers: str | None, name: str, partitions: int | None, configs: list[str], deleted: list[str]
) -> None:
    """Changes one topic; configuration first, since adding partitions cannot be taken back."""
    changes: dict[str, str | None] = {**parse_pairs(configs, "--config"), **dict.fromkeys(deleted)}
    with connected_admin(bootstrap_servers) as admin:
        if changes:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, changes)])
        if partitions is not None:
            admin.create_partitions({name: NewPartitions(partitions)})
    print(f"Altered topic {name}.")


def delete(bootstrap_servers: str | None, names: list[str]) -> None:
    """Deletes topics."""
    with connected_admin(bootstrap_servers) as admin:
        admin.delete_topics(names)
    print(f"Deleted {', '.join(names)}.")


def brokers(bootstrap_servers: str | None, as_json: bool) -> None:
    """Prints every registered broker."""
    with connected_admin(bootstrap_servers) as admin:
        cluster = admin.describe_cluster()
    if as_json:
        print_json([broker._asdict() for broker in cluster.brokers])
        return
    rows = []
    for broker in cluster.brokers:
        state = "leaving" if broker.in_controlled_shutdown else "fenced" if broker.fenced else "active"
        rows.append((broker.broker_id, f"{broker.host}:{broker.port}", broker.rack, broker.broker_epoch, state))
    print_table(("broker", "address", "rack", "epoch", "state"), rows)


def _replication_factor(topic: TopicInfo) -> int:
    return max((len(partition.replicas) for partition in topic.partitions), default=0)


def _state(topic: TopicInfo) -> str:
    offline = sum(partition.leader is None for partition in topic.partitions)
    under = sum(len(partition.isr) < len(partition.replicas) for partition in topic.partitions)
    problems = [f"{offline} offline"] * bool(offline) + [f"{under} under-replicated"] * bool(under)
    return ", ".join(problems) or "healthy"


def _row(partition: PartitionInfo) -> tuple[object, ...]:
    def ids(brokers: tuple[int, ...]) -> str | None:
        return ",".join(map(str, brokers)) or None

    return (
        partition.partition,
        "none" if partition.leader is None else partition.leader,
        partition.leader_epoch,
        ids(partition.replicas),
        ids(partition.isr),
        ids(partition.offline_replicas),
        ids(partition.adding_replicas),
        ids(partition.removing_replicas),
        ids(partition.eligible_leader_replicas),
    )


def _document(topic: TopicInfo, configs: list[ConfigEntry]) -> dict[str, Any]:
    return {
        "name": topic.name,
        "topic_id": str(topic.topic_id),
        "is_internal": topic.is_internal,
        "partitions": [partition._asdict() for partition in topic.partitions],
        "configs": {entry.name: {"value": entry.value, "source": entry.source} for entry in configs},
    }
