"""The keys of a broker's configuration file, Kafka's names where Kafka has them.

The cluster-wide defaults of topics (`log.retention.ms` and the like) may stand in the file too; `static_log_defaults`
picks them out for `MetadataImage.topic_config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..proto.errors import KafkaConfigurationError
from .node_config import (
    REQUIRED,
    Address,
    ConfigDefinition,
    NodeConfigKey,
    parse_addresses,
    parse_bool,
    parse_int,
    parse_listeners,
    parse_text,
)
from .topic_config import CLUSTER_CONFIG_KEYS

_INT_MAX: Final = 2**31 - 1

NODE_ID: Final = NodeConfigKey("node.id", parse_int(minimum=0, maximum=_INT_MAX), REQUIRED, "the id of this broker")
LOG_DIRS: Final = NodeConfigKey("log.dirs", parse_text, REQUIRED, "the folder of the partitions; one")
LISTENERS: Final = NodeConfigKey[Mapping[str, Address]](
    "listeners", parse_listeners, {"GRPC": Address("127.0.0.1", 9192)}, "where the broker listens, NAME://host:port"
)
ADVERTISED_LISTENERS: Final = NodeConfigKey[Mapping[str, Address]](
    "advertised.listeners", parse_listeners, {}, "what others are told to connect to, where it differs from listeners"
)
CONTROLLER_BOOTSTRAP: Final = NodeConfigKey(
    "controller.quorum.bootstrap.servers", parse_addresses, REQUIRED, "host:port of controllers, with commas between"
)
BROKER_RACK: Final = NodeConfigKey[str | None]("broker.rack", parse_text, None, "the rack, for placement")
HEARTBEAT_INTERVAL_MS: Final = NodeConfigKey(
    "broker.heartbeat.interval.ms", parse_int(minimum=10, maximum=60_000), 500, "time between heartbeats"
)
REGISTRATION_TIMEOUT_MS: Final = NodeConfigKey(
    "initial.broker.registration.timeout.ms",
    parse_int(minimum=1_000, maximum=3_600_000),
    60_000,
    "how long a starting broker looks for the controllers before it gives up",
)
CONTROLLED_SHUTDOWN_ENABLE: Final = NodeConfigKey(
    "controlled.shutdown.enable", parse_bool, True, "move leadership away before stopping"
)
CONTROLLED_SHUTDOWN_TIMEOUT_MS: Final = NodeConfigKey(
    "controlled.shutdown.timeout.ms",
    parse_int(minimum=0, maximum=3_600_000),
    10_000,
    "how long a stopping broker waits for its leaderships to move",
)
REPLICA_LAG_TIME_MAX_MS: Final = NodeConfigKey(
    "replica.lag.time.max.ms", parse_int(minimum=100), 10_000, "a follower behind for longer leaves the ISR"
)
REPLICA_FETCH_MAX_BYTES: Final = NodeConfigKey(
    "replica.fetch.max.bytes",
    parse_int(minimum=1_024, maximum=16 * 1024 * 1024),
    1024 * 1024,
    "bytes of one partition in one answer to a follower; the first batch comes even when it is larger",
)
REPLICA_FETCH_RESPONSE_MAX_BYTES: Final = NodeConfigKey(
    "replica.fetch.response.max.bytes",
    parse_int(minimum=1_024, maximum=64 * 1024 * 1024),
    8 * 1024 * 1024,
    "bytes under way to one follower; this bounds the memory of a replication stream",
)
REPLICA_FETCH_BACKOFF_MS: Final = NodeConfigKey(
    "replica.fetch.backoff.ms", parse_int(minimum=1, maximum=60_000), 200, "wait after a failed fetch of a partition"
)
AUTO_CREATE_TOPICS: Final = NodeConfigKey(
    "auto.create.topics.enable", parse_bool, True, "create a topic on its first use"
)
RETENTION_CHECK_INTERVAL_MS: Final = NodeConfigKey(
    "log.retention.check.interval.ms", parse_int(minimum=100), 300_000, "time between looks for old segments"
)


def _cluster_value(name: str) -> Callable[[str], str]:
    key = CLUSTER_CONFIG_KEYS[name]

    def parse(text: str) -> str:
        key.parse(text)
        return text

    return parse


LOG_DEFAULTS: Final = tuple(
    NodeConfigKey[str | None](name, _cluster_value(name), None, key.documentation)
    for name, key in CLUSTER_CONFIG_KEYS.items()
)

BROKER_CONFIG: Final = ConfigDefinition(
    (
        NODE_ID,
        LOG_DIRS,
        LISTENERS,
        ADVERTISED_LISTENERS,
        CONTROLLER_BOOTSTRAP,
        BROKER_RACK,
        HEARTBEAT_INTERVAL_MS,
        REGISTRATION_TIMEOUT_MS,
        CONTROLLED_SHUTDOWN_ENABLE,
        CONTROLLED_SHUTDOWN_TIMEOUT_MS,
        REPLICA_LAG_TIME_MAX_MS,
        REPLICA_FETCH_MAX_BYTES,
        REPLICA_FETCH_RESPONSE_MAX_BYTES,
        REPLICA_FETCH_BACKOFF_MS,
        AUTO_CREATE_TOPICS,
        RETENTION_CHECK_INTERVAL_MS,
        *LOG_DEFAULTS,
    )
)


def static_log_defaults(properties: Mapping[str, str]) -> Mapping[str, str]:
    """The topic defaults among a broker's properties, under their broker-level names, as text.

    :raises KafkaConfigurationError: one of them is not valid
    """
    defaults = {name: value for name, value in properties.items() if name in CLUSTER_CONFIG_KEYS}
    for name, value in defaults.items():
        problem = CLUSTER_CONFIG_KEYS[name].check(value)
        if problem is not None:
            raise KafkaConfigurationError(problem)
    return defaults
