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
from ..cluster.topic_config import CLUSTER_CONFIG_KEYS, CLUSTER_ONLY_KEYS, TOPIC_CONFIG_KEYS, validate_cluster
from ..proto.errors import KafkaConfigurationError
from ..proto.identifiers import GRPC_LISTENER, KAFKA_LISTENER, BrokerId
from .groups.group_config import GROUP_KEYS, GroupConfig
from .log.cleaner_config import CLEANER_KEYS, LogCleanerConfig

_DEFAULT_LISTENERS: Final[Mapping[str, Address]] = {
    GRPC_LISTENER: Address("127.0.0.1", 9192),
    KAFKA_LISTENER: Address("127.0.0.1", 9092),
}
_LISTENER_NAMES: Final = frozenset(_DEFAULT_LISTENERS)
_ANYWHERE: Final = frozenset({"0.0.0.0", "::"})

LEADER_SELECTOR: Final = "org.apache.kafka.common.replica.LeaderSelector"
RACK_AWARE_SELECTOR: Final = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
"""Kafka's class names, so that its configuration files may be taken over as they are."""


def _parse_replica_selector(text: str) -> str:
    if text not in (LEADER_SELECTOR, RACK_AWARE_SELECTOR):
        raise ValueError(f"must be {LEADER_SELECTOR} or {RACK_AWARE_SELECTOR}")
    return text


NODE_ID = NodeConfigKey("node.id", parse_int(minimum=0, maximum=2**31 - 1), REQUIRED, "the id of this broker")
LOG_DIRS = NodeConfigKey("log.dirs", parse_text, REQUIRED, "the folder that holds the partitions (one)")
LISTENERS = NodeConfigKey(
    "listeners", parse_listeners, _DEFAULT_LISTENERS, "where it listens: GRPC://host:port,KAFKA://host:port"
)
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
RETENTION_CHECK_MS = NodeConfigKey(
    "log.retention.check.interval.ms",
    parse_int(minimum=1),
    300_000,
    "how often is looked for segments that retention deletes",
)
AUTO_CREATE = NodeConfigKey(
    "auto.create.topics.enable", parse_bool, True, "whether a topic comes to be when it is first used"
)

_INT_MAX: Final = 2**31 - 1

REQUEST_BYTES_MAX = NodeConfigKey(
    "socket.request.max.bytes", parse_int(minimum=1024, maximum=_INT_MAX), 104_857_600, "the largest Kafka request"
)
QUEUED_REQUEST_BYTES_MAX = NodeConfigKey(
    "queued.max.request.bytes",
    parse_int(minimum=1024),
    268_435_456,
    "bytes of Kafka requests held at a time, over all connections; past that nobody is read from",
)
CONNECTIONS_IDLE_MS = NodeConfigKey(
    "connections.max.idle.ms", parse_int(minimum=1), 600_000, "a Kafka connection this long without a word is closed"
)
CONNECTIONS_MAX = NodeConfigKey(
    "max.connections", parse_int(minimum=0, maximum=_INT_MAX), _INT_MAX, "Kafka connections held at a time"
)
CONNECTIONS_PER_IP_MAX = NodeConfigKey(
    "max.connections.per.ip", parse_int(minimum=0, maximum=_INT_MAX), _INT_MAX, "the same, of one address"
)
FETCH_BYTES_MAX = NodeConfigKey(
    "fetch.max.bytes", parse_int(minimum=1024, maximum=_INT_MAX), 57_671_680, "the most that one Kafka fetch returns"
)
FETCH_SESSIONS_MAX = NodeConfigKey(
    "max.incremental.fetch.session.cache.slots",
    parse_int(minimum=0, maximum=_INT_MAX),
    1000,
    "incremental fetch sessions kept (KIP-227)",
)
REPLICA_SELECTOR = NodeConfigKey(
    "replica.selector.class",
    _parse_replica_selector,
    LEADER_SELECTOR,
    f"which replica a consumer is sent to (KIP-392): {LEADER_SELECTOR} or {RACK_AWARE_SELECTOR}",
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
    RETENTION_CHECK_MS,
    AUTO_CREATE,
    REQUEST_BYTES_MAX,
    QUEUED_REQUEST_BYTES_MAX,
    CONNECTIONS_IDLE_MS,
    CONNECTIONS_MAX,
    CONNECTIONS_PER_IP_MAX,
    FETCH_BYTES_MAX,
    FETCH_SESSIONS_MAX,
    REPLICA_SELECTOR,
)
STATIC_TOPIC_DEFAULTS: Final = frozenset(key.broker_synonym for key in TOPIC_CONFIG_KEYS.values())
BROKER_DEFINITION: Final = ConfigDefinition(
    (
        *_KEYS,
        *GROUP_KEYS,
        *CLEANER_KEYS,
        *(
            NodeConfigKey(name, parse_text, None, CLUSTER_CONFIG_KEYS[name].documentation)
            for name in sorted(STATIC_TOPIC_DEFAULTS)
        ),
    )
)


@dataclass(frozen=True, slots=True)
class KafkaListenerConfig:
    """The Kafka listener's settings; the defaults are those of the configuration file."""

    listen: Address
    advertised: Address | None = None  # None: what it listens on, with the port that it got
    request_bytes_max: int = 104_857_600
    queued_request_bytes_max: int = 268_435_456
    connections_idle_ms_max: int = 600_000
    connections_max: int = _INT_MAX
    connections_per_ip_max: int = _INT_MAX


@dataclass(frozen=True)
class BrokerConfig:
    """One broker's settings."""

    node_id: BrokerId
    log_dir: Path
    listen: Address
    advertised: Address | None  # None: what it listens on, with the port that it got
    kafka: KafkaListenerConfig | None  # None: no Kafka listener
    controllers: tuple[Address, ...]
    rack: str | None
    heartbeat_interval_ms: int
    replica_lag_time_max_ms: int
    controlled_shutdown_timeout_ms: int
    retention_check_interval_ms: int
    auto_create_topics: bool
    fetch_bytes_max: int
    fetch_sessions_max: int
    rack_aware_fetch: bool  # consumers are sent to a replica in their rack (KIP-392)
    groups: GroupConfig
    log_cleaner: LogCleanerConfig
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
        listeners = _listeners(values[LISTENERS])
        told = values[ADVERTISED_LISTENERS]
        advertised = _advertised(told or {}, listeners)
        return cls(
            node_id=BrokerId(values[NODE_ID]),
            log_dir=_one_folder(values[LOG_DIRS]),
            listen=listeners[GRPC_LISTENER],
            advertised=advertised.get(GRPC_LISTENER),
            kafka=_kafka(values, listeners.get(KAFKA_LISTENER), advertised.get(KAFKA_LISTENER)),
            controllers=values[BOOTSTRAP],
            rack=values[RACK],
            heartbeat_interval_ms=values[HEARTBEAT_MS],
            replica_lag_time_max_ms=values[REPLICA_LAG_MS],
            controlled_shutdown_timeout_ms=values[CONTROLLED_SHUTDOWN_MS],
            retention_check_interval_ms=values[RETENTION_CHECK_MS],
            auto_create_topics=values[AUTO_CREATE],
            fetch_bytes_max=values[FETCH_BYTES_MAX],
            fetch_sessions_max=values[FETCH_SESSIONS_MAX],
            rack_aware_fetch=values[REPLICA_SELECTOR] == RACK_AWARE_SELECTOR,
            groups=GroupConfig.from_values(values),
            log_cleaner=LogCleanerConfig.from_values(values),
            topic_defaults=_topic_defaults(properties),
            properties=properties,
        )


def _topic_defaults(properties: Mapping[str, str]) -> Mapping[str, str]:
    defaults = {name: value for name, value in properties.items() if name in STATIC_TOPIC_DEFAULTS}
    for name, value in defaults.items():
        if name in CLUSTER_ONLY_KEYS:
            # A leader that goes by another minimum than the controllers would ack what they may elect away (rule 6).
            raise KafkaConfigurationError(
                f"{name}={value}: it holds for the whole cluster, whose controllers go by it too. Leave it out of this "
                "file; set it for a topic, or as the cluster's default (kafka-configs --alter --entity-type brokers "
                "--entity-default)"
            )
        complaint = validate_cluster(name, value)
        if complaint:
            raise KafkaConfigurationError(complaint)
    return defaults


def _one_folder(text: str) -> Path:
    if "," in text:
        raise KafkaConfigurationError(f"log.dirs={text}: one folder; more than one is not supported")
    return Path(text)


def _known(listeners: Mapping[str, Address], key: str) -> Mapping[str, Address]:
    unknown = sorted(set(listeners) - _LISTENER_NAMES)
    if unknown:
        known = " and ".join(sorted(_LISTENER_NAMES))
        raise KafkaConfigurationError(f"{key}: unknown listener {unknown[0]}; this version knows {known}")
    return listeners


def _listeners(listeners: Mapping[str, Address]) -> Mapping[str, Address]:
    _known(listeners, "listeners")
    if GRPC_LISTENER not in listeners:
        raise KafkaConfigurationError(f"listeners: {GRPC_LISTENER}://host:port is missing; brokers replicate over it")
    return listeners


def _advertised(advertised: Mapping[str, Address], listeners: Mapping[str, Address]) -> Mapping[str, Address]:
    for name in _known(advertised, "advertised.listeners"):
        if name not in listeners:
            raise KafkaConfigurationError(f"advertised.listeners: {name} is not among the listeners")
    return advertised


def _kafka(values: ConfigValues, listen: Address | None, advertised: Address | None) -> KafkaListenerConfig | None:
    if listen is None:
        return None
    if (advertised or listen).host in _ANYWHERE:
        raise KafkaConfigurationError(
            f"listeners: clients cannot connect to {(advertised or listen).host}; "
            f"say under advertised.listeners where they reach {KAFKA_LISTENER}"
        )
    return KafkaListenerConfig(
        listen=listen,
        advertised=advertised,
        request_bytes_max=values[REQUEST_BYTES_MAX],
        queued_request_bytes_max=values[QUEUED_REQUEST_BYTES_MAX],
        connections_idle_ms_max=values[CONNECTIONS_IDLE_MS],
        connections_max=values[CONNECTIONS_MAX],
        connections_per_ip_max=values[CONNECTIONS_PER_IP_MAX],
    )
