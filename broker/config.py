"""What a broker is told by its configuration file: its keys, with Kafka's names, and their values typed.

Keys that are the cluster-wide defaults of topic settings (`log.retention.ms`, `message.max.bytes` ...) may stand in
the file too; they hold where neither the topic nor the cluster says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..cluster.node_config import (
    REQUIRED,
    Address,
    ConfigDefinition,
    ConfigValues,
    NodeConfigKey,
    parse_addresses,
    parse_bool,
    parse_int,
    parse_listeners,
    parse_properties,
    parse_text,
)
from ..cluster.topic_config import CLUSTER_CONFIG_KEYS, TOPIC_CONFIG_KEYS, validate_cluster
from ..proto.errors import KafkaConfigurationError
from ..proto.identifiers import GRPC_LISTENER, BrokerId

_DEFAULT_LISTENERS: Final[Mapping[str, Address]] = {GRPC_LISTENER: Address("127.0.0.1", 9192)}

NODE_ID = NodeConfigKey("node.id", parse_int(minimum=0, maximum=2**31 - 1), REQUIRED, "the id of this broker")
LOG_DIRS = NodeConfigKey("log.dirs", parse_text, REQUIRED, "the folder that holds the partitions (one)")
LISTENERS = NodeConfigKey("listeners", parse_listeners, _DEFAULT_LISTENERS, "where it listens: GRPC://host:port")
ADVERTISED_LISTENERS: NodeConfigKey[Mapping[str, Address] | None] = NodeConfigKey(
    "advertised.listeners", parse_listeners, None, "what clients and other brokers are told, where that differs"
)
BOOTSTRAP = NodeConfigKey(
    "controller.quorum.bootstrap.servers", parse_addresses, REQUIRED, "host:port of the controllers, with commas"
)
RACK = NodeConfigKey("broker.rack", parse_text, None, "where it stands; replicas are spread over racks")
HEARTBEAT_MS = NodeConfigKey(
    "broker.heartbeat.interval.ms", parse_int(minimum=10, maximum=60_000), 500, "time between two heartbeats"
)
REPLICA_LAG_MS = NodeConfigKey(
    "replica.lag.time.max.ms", parse_int(minimum=100), 10_000, "a follower this long behind leaves the ISR"
)
CONTROLLED_SHUTDOWN_MS = NodeConfigKey(
    "controlled.shutdown.timeout.ms", parse_int(minimum=0), 30_000, "how long a stopping broker hands over leadership"
)
AUTO_CREATE = NodeConfigKey(
    "auto.create.topics.enable", parse_bool, True, "whether a topic comes to be when it is first used"
)

_KEYS: Final = (
    NODE_ID,
    LOG_DIRS,
    LISTENERS,
    ADVERTISED_LISTENERS,
    BOOTSTRAP,
    RACK,
    HEARTBEAT_MS,
    REPLICA_LAG_MS,
    CONTROLLED_SHUTDOWN_MS,
    AUTO_CREATE,
)
STATIC_TOPIC_DEFAULTS: Final = frozenset(key.broker_synonym for key in TOPIC_CONFIG_KEYS.values())
BROKER_DEFINITION: Final = ConfigDefinition(
    (
        *_KEYS,
        *(
            NodeConfigKey(name, parse_text, None, CLUSTER_CONFIG_KEYS[name].documentation)
            for name in sorted(STATIC_TOPIC_DEFAULTS)
        ),
    )
)


@dataclass(frozen=True)
class BrokerConfig:
    """One broker's settings."""

    node_id: BrokerId
    log_dir: Path
    listen: Address
    advertised: Address | None  # None: what it listens on, with the port that it got
    controllers: tuple[Address, ...]
    rack: str | None
    heartbeat_interval_ms: int
    replica_lag_time_max_ms: int
    controlled_shutdown_timeout_ms: int
    auto_create_topics: bool
    topic_defaults: Mapping[str, str]  # under broker-level names
    properties: Mapping[str, str]  # the file as it is

    @classmethod
    def load(cls, path: Path) -> BrokerConfig:
        """Reads the file. :raises KafkaConfigurationError: it is not there, or something in it is not valid."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KafkaConfigurationError(f"the configuration file {path} cannot be read: {error}") from error
        properties = parse_properties(text)
        return cls._from_values(BROKER_DEFINITION.resolve(properties), properties)

    @classmethod
    def _from_values(cls, values: ConfigValues, properties: Mapping[str, str]) -> BrokerConfig:
        advertised = values[ADVERTISED_LISTENERS]
        return cls(
            node_id=BrokerId(values[NODE_ID]),
            log_dir=_one_folder(values[LOG_DIRS]),
            listen=_grpc(values[LISTENERS], "listeners"),
            advertised=None if advertised is None else _grpc(advertised, "advertised.listeners"),
            controllers=values[BOOTSTRAP],
            rack=values[RACK],
            heartbeat_interval_ms=values[HEARTBEAT_MS],
            replica_lag_time_max_ms=values[REPLICA_LAG_MS],
            controlled_shutdown_timeout_ms=values[CONTROLLED_SHUTDOWN_MS],
            auto_create_topics=values[AUTO_CREATE],
            topic_defaults=_topic_defaults(properties),
            properties=properties,
        )


def _topic_defaults(properties: Mapping[str, str]) -> Mapping[str, str]:
    defaults = {name: value for name, value in properties.items() if name in STATIC_TOPIC_DEFAULTS}
    for name, value in defaults.items():
        complaint = validate_cluster(name, value)
        if complaint:
            raise KafkaConfigurationError(complaint)
    return defaults


def _one_folder(text: str) -> Path:
    if "," in text:
        raise KafkaConfigurationError(f"log.dirs={text}: one folder; more than one is not supported")
    return Path(text)


def _grpc(listeners: Mapping[str, Address], key: str) -> Address:
    unknown = sorted(set(listeners) - {GRPC_LISTENER})
    if unknown:
        raise KafkaConfigurationError(f"{key}: unknown listener {unknown[0]}; this version knows {GRPC_LISTENER}")
    return listeners[GRPC_LISTENER]
