"""The settings of the group coordinator: Kafka's keys and defaults, and the values typed. Pure.

Two defaults are not Kafka's: the first rebalance waits for nobody (`group.initial.rebalance.delay.ms` 0: a test or a
tutorial starts at once), and a group has at most 10,000 members (Kafka's limit is none; a generation is one record,
which must fit a batch). `group.consumer.migration.policy` is `disabled` and cannot be anything else: Kafka's default is
`bidirectional`. `group.coordinator.max.groups` is ours: what clients can make a broker hold has a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...cluster.node_config import ConfigValues, NodeConfigKey, parse_int

UNIFORM_ASSIGNOR: Final = "uniform"
RANGE_ASSIGNOR: Final = "range"
_ASSIGNOR_NAMES: Final[Mapping[str, str]] = {
    UNIFORM_ASSIGNOR: UNIFORM_ASSIGNOR,
    RANGE_ASSIGNOR: RANGE_ASSIGNOR,
    "org.apache.kafka.coordinator.group.assignor.UniformAssignor": UNIFORM_ASSIGNOR,
    "org.apache.kafka.coordinator.group.assignor.RangeAssignor": RANGE_ASSIGNOR,
}
_MIGRATION_POLICY: Final = "disabled"
"""The only one there is: a group with members keeps its protocol. An empty one takes that of the next member."""
_INT_MAX: Final = 2**31 - 1
_MINUTE_MS: Final = 60_000


def _milliseconds(minimum: int = 1) -> Any:
    return parse_int(minimum=minimum, maximum=_INT_MAX)


def _parse_assignors(text: str) -> tuple[str, ...]:
    """Names, or the class names of Kafka's own."""
    names = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [name for name in names if name not in _ASSIGNOR_NAMES]
    if unknown or not names:
        raise ValueError(f"knows no assignor {unknown[0]!r}; uniform and range are known" if unknown else "names none")
    return tuple(dict.fromkeys(_ASSIGNOR_NAMES[name] for name in names))


def _parse_migration_policy(text: str) -> str:
    if text.strip().lower() != _MIGRATION_POLICY:
        raise ValueError(f"must be {_MIGRATION_POLICY}: groups with members cannot change their protocol here")
    return _MIGRATION_POLICY


_MIN_SESSION = NodeConfigKey(
    "group.min.session.timeout.ms", _milliseconds(), 6_000, "the shortest session.timeout.ms that a consumer may have"
)
_MAX_SESSION = NodeConfigKey(
    "group.max.session.timeout.ms", _milliseconds(), 1_800_000, "the longest session.timeout.ms of a consumer"
)
_INITIAL_DELAY = NodeConfigKey(
    "group.initial.rebalance.delay.ms",
    _milliseconds(0),
    0,
    "how long the first rebalance of an empty group waits for more members",
)
_MAX_SIZE = NodeConfigKey(
    "group.max.size", parse_int(minimum=1, maximum=_INT_MAX), 10_000, "members that one group may have"
)
_MAX_GROUPS = NodeConfigKey(
    "group.coordinator.max.groups",
    parse_int(minimum=1, maximum=_INT_MAX),
    100_000,
    "groups that one broker coordinates; one more is refused",
)
_CONSUMER_SESSION = NodeConfigKey(
    "group.consumer.session.timeout.ms", _milliseconds(), 45_000, "session time-out of KIP-848 consumers"
)
_CONSUMER_MIN_SESSION = NodeConfigKey(
    "group.consumer.min.session.timeout.ms", _milliseconds(), 45_000, "the least that it may be set to"
)
_CONSUMER_MAX_SESSION = NodeConfigKey(
    "group.consumer.max.session.timeout.ms", _milliseconds(), 60_000, "the most that it may be set to"
)
_CONSUMER_HEARTBEAT = NodeConfigKey(
    "group.consumer.heartbeat.interval.ms", _milliseconds(), 5_000, "heartbeat interval of KIP-848 consumers"
)
_CONSUMER_MIN_HEARTBEAT = NodeConfigKey(
    "group.consumer.min.heartbeat.interval.ms", _milliseconds(), 5_000, "the least that it may be set to"
)
_CONSUMER_MAX_HEARTBEAT = NodeConfigKey(
    "group.consumer.max.heartbeat.interval.ms", _milliseconds(), 15_000, "the most that it may be set to"
)
_CONSUMER_MAX_SIZE = NodeConfigKey(
    "group.consumer.max.size",
    parse_int(minimum=1, maximum=_INT_MAX),
    10_000,
    "members that one KIP-848 group may have",
)
_CONSUMER_ASSIGNORS: NodeConfigKey[tuple[str, ...]] = NodeConfigKey(
    "group.consumer.assignors",
    _parse_assignors,
    (UNIFORM_ASSIGNOR, RANGE_ASSIGNOR),
    "server-side assignors, the default one first",
)
_CONSUMER_MIGRATION = NodeConfigKey(
    "group.consumer.migration.policy",
    _parse_migration_policy,
    _MIGRATION_POLICY,
    "whether groups with members may change between the classic and the KIP-848 protocol",
)
_METADATA_MAX = NodeConfigKey(
    "offset.metadata.max.bytes",
    parse_int(minimum=0, maximum=_INT_MAX),
    4_096,
    "the longest metadata of a committed offset",
)
_RETENTION_MINUTES = NodeConfigKey(
    "offsets.retention.minutes",
    parse_int(minimum=1, maximum=_INT_MAX),
    10_080,
    "how long the offsets of an unused group are kept",
)
_CHECK_INTERVAL = NodeConfigKey(
    "offsets.retention.check.interval.ms", parse_int(minimum=1), 600_000, "how often expired offsets are looked for"
)
_COMMIT_TIMEOUT = NodeConfigKey(
    "offsets.commit.timeout.ms", _milliseconds(), 5_000, "how long a commit waits for the replicas in sync"
)
_TOPIC_PARTITIONS = NodeConfigKey(
    "offsets.topic.num.partitions",
    parse_int(minimum=1, maximum=10_000),
    50,
    "partitions of __consumer_offsets; counts when it is created",
)
_TOPIC_REPLICATION: NodeConfigKey[int | None] = NodeConfigKey(
    "offsets.topic.replication.factor",
    parse_int(minimum=1, maximum=1_000),
    None,
    "replicas of __consumer_offsets; default: 3, or as many as there are live brokers if fewer",
)
_TOPIC_SEGMENT_BYTES = NodeConfigKey(
    "offsets.topic.segment.bytes",
    parse_int(minimum=14, maximum=_INT_MAX),
    100 * 1024 * 1024,
    "segment size of __consumer_offsets; small ones are compacted sooner",
)
_LOAD_BUFFER = NodeConfigKey(
    "offsets.load.buffer.size",
    parse_int(minimum=1, maximum=_INT_MAX),
    5 * 1024 * 1024,
    "bytes read at a time when a coordinator loads a partition of __consumer_offsets",
)

GROUP_KEYS: Final[tuple[NodeConfigKey[Any], ...]] = (
    _MIN_SESSION,
    _MAX_SESSION,
    _INITIAL_DELAY,
    _MAX_SIZE,
    _MAX_GROUPS,
    _CONSUMER_SESSION,
    _CONSUMER_MIN_SESSION,
    _CONSUMER_MAX_SESSION,
    _CONSUMER_HEARTBEAT,
    _CONSUMER_MIN_HEARTBEAT,
    _CONSUMER_MAX_HEARTBEAT,
    _CONSUMER_MAX_SIZE,
    _CONSUMER_ASSIGNORS,
    _CONSUMER_MIGRATION,
    _METADATA_MAX,
    _RETENTION_MINUTES,
    _CHECK_INTERVAL,
    _COMMIT_TIMEOUT,
    _TOPIC_PARTITIONS,
    _TOPIC_REPLICATION,
    _TOPIC_SEGMENT_BYTES,
    _LOAD_BUFFER,
)
"""For the broker's `ConfigDefinition`."""


@dataclass(frozen=True, slots=True)
class ConsumerGroupConfig:
    """Settings of groups of KIP-848 (`group.consumer.*`)."""

    session_timeout_ms: int = 45_000
    min_session_timeout_ms: int = 45_000
    max_session_timeout_ms: int = 60_000
    heartbeat_interval_ms: int = 5_000
    min_heartbeat_interval_ms: int = 5_000
    max_heartbeat_interval_ms: int = 15_000
    max_size: int = 10_000
    assignors: tuple[str, ...] = (UNIFORM_ASSIGNOR, RANGE_ASSIGNOR)
    migration_policy: str = _MIGRATION_POLICY


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """See the keys above."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    initial_rebalance_delay_ms: int = 0
    new_member_join_timeout_ms: int = 300_000  # no key, as in Kafka: how long a member id given out is kept (KIP-394)
    max_size: int = 10_000
    max_groups: int = 100_000
    consumer: ConsumerGroupConfig = field(default_factory=ConsumerGroupConfig)
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 10_080 * _MINUTE_MS
    offsets_retention_check_interval_ms: int = 600_000
    offsets_commit_timeout_ms: int = 5_000
    offsets_topic_num_partitions: int = 50
    offsets_topic_replication_factor: int | None = None  # None: 3, or as many as there are live brokers
    offsets_topic_segment_bytes: int = 100 * 1024 * 1024
    offsets_load_buffer_size: int = 5 * 1024 * 1024

    @classmethod
    def from_values(cls, values: ConfigValues) -> GroupConfig:
        """From a definition that has `GROUP_KEYS`."""
        return cls(
            min_session_timeout_ms=values[_MIN_SESSION],
            max_session_timeout_ms=values[_MAX_SESSION],
            initial_rebalance_delay_ms=values[_INITIAL_DELAY],
            max_size=values[_MAX_SIZE],
            max_groups=values[_MAX_GROUPS],
            consumer=ConsumerGroupConfig(
                session_timeout_ms=values[_CONSUMER_SESSION],
                min_session_timeout_ms=values[_CONSUMER_MIN_SESSION],
                max_session_timeout_ms=values[_CONSUMER_MAX_SESSION],
                heartbeat_interval_ms=values[_CONSUMER_HEARTBEAT],
                min_heartbeat_interval_ms=values[_CONSUMER_MIN_HEARTBEAT],
                max_heartbeat_interval_ms=values[_CONSUMER_MAX_HEARTBEAT],
                max_size=values[_CONSUMER_MAX_SIZE],
                assignors=values[_CONSUMER_ASSIGNORS],
                migration_policy=values[_CONSUMER_MIGRATION],
            ),
            offset_metadata_max_bytes=values[_METADATA_MAX],
            offsets_retention_ms=values[_RETENTION_MINUTES] * _MINUTE_MS,
            offsets_retention_check_interval_ms=values[_CHECK_INTERVAL],
            offsets_commit_timeout_ms=values[_COMMIT_TIMEOUT],
            offsets_topic_num_partitions=values[_TOPIC_PARTITIONS],
            offsets_topic_replication_factor=values[_TOPIC_REPLICATION],
            offsets_topic_segment_bytes=values[_TOPIC_SEGMENT_BYTES],
            offsets_load_buffer_size=values[_LOAD_BUFFER],
        )
