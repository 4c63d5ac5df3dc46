"""Topic configuration: every key with its type, default, check and words, and a topic's settings as typed values.

Keys are Kafka's; one that Klamm does not carry out is unknown rather than ignored. Each has a broker-level synonym
(Kafka's `log.*` names) under which the cluster-wide default is set. A value is resolved from, in this order: the topic,
the cluster-wide dynamic default, the broker's own file, the default here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from ..proto.identifiers import MAX_TOPIC_NAME_LENGTH, RECORD_BATCH_BYTES_MAX

PARTITIONS_PER_TOPIC_MAX: Final = 10_000
PARTITIONS_TOTAL_MAX: Final = 200_000
CONFIG_VALUE_LENGTH_MAX: Final = 1_000

_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{0,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_TOPIC_NAME: Final = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)

ConfigValue = int | float | bool | str


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One configuration key: how its text is read, what it is by default, and what it means."""

    name: str
    type: str  # "int", "long", "double", "boolean", "string", "list": Kafka's names of types
    parse: Callable[[str], ConfigValue]  # :raises ValueError: with what is allowed
    default: str | None  # as text; None: depends on other things, see documentation
    documentation: str
    broker_synonym: str  # the cluster-wide default's key; "" for a key that is itself cluster-wide

    def check(self, value: str) -> str | None:
        """What is wrong with the value, or None."""
        shown = value if len(value) <= 40 else value[:40] + "..."
        try:
            self.parse(value)
        except ValueError as error:
            return f"Invalid value {shown!r} for configuration {self.name}: {error}"
        return None


def _integer(low: int, high: int) -> Callable[[str], ConfigValue]:
    """Reads whole numbers of `low` to `high`."""

    def parse(text: str) -> int:
        if not _INTEGER.fullmatch(text.strip()):
            raise ValueError(f"must be a whole number of at least {low}")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"must be at least {low}" if number < low else f"must be at most {high}")
        return number

    return parse


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise ValueError("must be true or false")
    return word == "true"


def _choice(*allowed: str, hint: str = "") -> Callable[[str], ConfigValue]:
    """Reads one of a few words."""

    def parse(text: str) -> str:
        word = text.strip()
        if word not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}{hint}")
        return word

    return parse


def _cleanup_policy(text: str) -> str:
    """Reads a list of what is done to old segments; in one order and without repetitions, whatever the user wrote."""
    words = [word.strip() for word in text.split(",")]
    if not words or not all(word in ("compact", "delete") for word in words):
        raise ValueError("must be delete, compact, or both with a comma")
    return ",".join(sorted(set(words)))


def _ratio(text: str) -> float:
    word = text.strip()
    try:
        number = float(word) if _DECIMAL.fullmatch(word) else -1.0
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ValueError("must be a number from 0 to 1")
    return number


def _key(
    name: str, kind: str, low: int, default: int | None, synonym: str, documentation: str, high: int | None = None
) -> ConfigKey:
    top = high if high is not None else (_INT_MAX if kind == "int" else _LONG_MAX)
    return ConfigKey(name, kind, _integer(low, top), None if default is None else str(default), documentation, synonym)


_DEFINITIONS: Final = (
    ConfigKey(
        "cleanup.policy",
        "list",
        _cleanup_policy,
        "delete",
        "What happens to old segments: delete (by retention time and size), compact (of each key the last record is "
        "kept), or both.",
        "log.cleanup.policy",
    ),
    ConfigKey(
        "compression.type",
        "string",
        _choice("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
        "producer",
        "The codec of stored batches: the one the producer chose, or one into which the leader puts all others.",
        "compression.type",
    ),
    _key(
        "delete.retention.ms",
        "long",
        0,
        86_400_000,
        "log.cleaner.delete.retention.ms",
        "How long compaction keeps a record without a value (a tombstone), from its first cleaning on: readers need "
        "so long at most to hear that the key is gone.",
    ),
    _key(
        "file.delete.delay.ms",
        "long",
        0,
        60_000,
        "log.segment.delete.delay.ms",
        "How long a file stays on disk after it was taken out of the log.",
    ),
    _key(
        "flush.messages",
        "long",
        1,
        _LONG_MAX,
        "log.flush.interval.messages",
        "Records after which the log is forced to disk; by default the operating system decides.",
    ),
    _key(
        "flush.ms",
        "long",
        0,
        _LONG_MAX,
        "log.flush.interval.ms",
        "Time after which the log is forced to disk; by default the operating system decides.",
    ),
    _key(
        "index.interval.bytes",
        "int",
        0,
        4096,
        "log.index.interval.bytes",
        "Bytes of log between two entries of the offset index.",
    ),
    _key(
        "max.compaction.lag.ms",
        "long",
        1,
        _LONG_MAX,
        "log.cleaner.max.compaction.lag.ms",
        "Age of a record at which it is compacted even where min.cleanable.dirty.ratio is not reached.",
    ),
    _key(
        "max.message.bytes",
        "int",
        0,
        1024 * 1024 + 12,
        "message.max.bytes",
        "The largest record batch that is taken.",
        RECORD_BATCH_BYTES_MAX,
    ),
    _key(
        "message.timestamp.after.max.ms",
        "long",
        0,
        3_600_000,  # Kafka's since 4.0 (KIP-1030): a date from the far future would hold retention up
        "log.message.timestamp.after.max.ms",
        "How far ahead of the broker's clock a record's timestamp may be.",
    ),
    _key(
        "message.timestamp.before.max.ms",
        "long",
        0,
        _LONG_MAX,
        "log.message.timestamp.before.max.ms",
        "How far behind the broker's clock a record's timestamp may be.",
    ),
    ConfigKey(
        "message.timestamp.type",
        "string",
        _choice("CreateTime", "LogAppendTime"),
        "CreateTime",
        "Whose time stands in a record: the producer's or the broker's at the append.",
        "log.message.timestamp.type",
    ),
    ConfigKey(
        "min.cleanable.dirty.ratio",
        "double",
        _ratio,
        "0.5",
        "Part of a log that must not have been compacted yet for it to be compacted again.",
        "log.cleaner.min.cleanable.ratio",
    ),
    _key(
        "min.compaction.lag.ms",
        "long",
        0,
        0,
        "log.cleaner.min.compaction.lag.ms",
        "Age below which a record is not compacted.",
    ),
    _key(
        "min.insync.replicas",
        "int",
        1,
        None,
        "min.insync.replicas",
        "Replicas that must be in sync for a write with acks=all, and to move the high watermark. "
        "Default: 2 where the replication factor is 3 or more, else 1.",
    ),
    _key(
        "retention.bytes",
        "long",
        -1,
        -1,
        "log.retention.bytes",
        "Size of a partition above which its oldest segments are deleted; -1: no limit.",
    ),
    _key(
        "retention.ms",
        "long",
        -1,
        7 * 24 * 3600 * 1000,
        "log.retention.ms",
        "Age above which segments are deleted; -1: no limit.",
    ),
    _key("segment.bytes", "int", 14, 2**30, "log.segment.bytes", "Size at which a new segment is begun."),
    _key(
        "segment.index.bytes",
        "int",
        8,
        10 * 1024 * 1024,
        "log.index.size.max.bytes",
        "The largest offset index; a full one begins a new segment.",
    ),
    _key("segment.ms", "long", 1, 7 * 24 * 3600 * 1000, "log.roll.ms", "Age at which a new segment is begun."),
    ConfigKey(
        "unclean.leader.election.enable",
        "boolean",
        _boolean,
        "false",
        "Whether a replica that is not in sync may lead when no other is left. Acked records can be lost.",
        "unclean.leader.election.enable",
    ),
)

TOPIC_CONFIG_KEYS: Final[Mapping[str, ConfigKey]] = {key.name: key for key in _DEFINITIONS}

CLUSTER_CONFIG_KEYS: Final[Mapping[str, ConfigKey]] = {
    **{
        key.broker_synonym: ConfigKey(
            key.broker_synonym,
            key.type,
            key.parse,
            key.default,
            f"Cluster-wide default of {key.name}. {key.documentation}",
            "",
        )
        for key in _DEFINITIONS
    },
    "num.partitions": _key(
        "num.partitions", "int", 1, 1, "", "Partitions of a topic created without a number.", PARTITIONS_PER_TOPIC_MAX
    ),
    "default.replication.factor": _key(
        "default.replication.factor",
        "int",
        1,
        None,
        "",
        "Replicas of a topic created without a number. Default: 3, or as many as there are live brokers if fewer.",
        1_000,
    ),
}

CLUSTER_ONLY_KEYS: Final = frozenset(
    {"num.partitions", "default.replication.factor", "min.insync.replicas", "unclean.leader.election.enable"}
)
"""Of these the controllers make use: one broker cannot have a value of its own."""


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """A topic's settings, resolved and typed. -1 in the two retentions means "no limit", as users write it."""

    cleanup_policy: str  # "compact", "delete" or "compact,delete"
    compression_type: str
    delete_retention_ms: int
    file_delete_delay_ms: int
    flush_messages: int
    flush_ms: int
    index_interval_bytes: int
    max_compaction_lag_ms: int
    max_message_bytes: int
    message_timestamp_after_max_ms: int
    message_timestamp_before_max_ms: int
    message_timestamp_type: str
    min_cleanable_dirty_ratio: float
    min_compaction_lag_ms: int
    min_insync_replicas: int | None  # None: not set anywhere; see effective_min_insync_replicas
    retention_bytes: int
    retention_ms: int
    segment_bytes: int
    segment_index_bytes: int
    segment_ms: int
    unclean_leader_election_enable: bool

    @classmethod
    def resolve(
        cls, overrides: Mapping[str, str] | None = None, cluster_defaults: Mapping[str, str] | None = None
    ) -> TopicConfig:
        """The settings from a topic's own keys, then the cluster-wide defaults (broker-level names), then Klamm's.

        A stored value that cannot be read (checked before it was stored) counts as absent.
        """
        return _resolve(tuple((overrides or {}).items()), tuple((cluster_defaults or {}).items()))

    @property
    def compacted(self) -> bool:
        """True if of each key only the last record is kept for good; then every record needs a key."""
        return "compact" in self.cleanup_policy

    @property
    def deleted(self) -> bool:
        """True if segments go by age and size."""
        return "delete" in self.cleanup_policy

    @property
    def log_append_time(self) -> bool:
        """True if records bear the broker's time."""
        return self.message_timestamp_type == "LogAppendTime"

    def effective_min_insync_replicas(self, replication_factor: int) -> int:
        """min.insync.replicas for a partition of so many replicas: never more than there are (as Kafka counts it)."""
        if self.min_insync_replicas is None:
            return 2 if replication_factor >= 3 else 1
        return max(1, min(self.min_insync_replicas, replication_factor))


@lru_cache(maxsize=1_000)
def _resolve(overrides: tuple[tuple[str, str], ...], cluster_defaults: tuple[tuple[str, str], ...]) -> TopicConfig:
    """Asked for with each decision about a partition; topics have few different settings."""
    topic, cluster = dict(overrides), dict(cluster_defaults)
    values = {name.replace(".", "_"): _resolved(key, topic, cluster) for name, key in TOPIC_CONFIG_KEYS.items()}
    return TopicConfig(**values)  # type: ignore[arg-type]


def _resolved(key: ConfigKey, overrides: Mapping[str, str], cluster_defaults: Mapping[str, str]) -> ConfigValue | None:
    for text in (overrides.get(key.name), cluster_defaults.get(key.broker_synonym), key.default):
        if text is not None and key.check(text) is None:
            return key.parse(text)
    return None


def validate(key: str, value: str) -> str | None:
    """What is wrong with a topic's key or value, in words for the user; None if nothing."""
    return _validate(TOPIC_CONFIG_KEYS, "topic", key, value)


def conflict(overrides: Mapping[str, str]) -> str | None:
    """Which of a topic's own keys, each good by itself, cannot stand together; None if all can."""
    config = TopicConfig.resolve(overrides)
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
        return (
            f"conflict of the topic's configuration min.compaction.lag.ms ({config.min_compaction_lag_ms}) > "
            f"max.compaction.lag.ms ({config.max_compaction_lag_ms})"
        )
    return None


def validate_cluster(key: str, value: str) -> str | None:
    """As `validate`, for a cluster-wide default (a broker resource without a name)."""
    return _validate(CLUSTER_CONFIG_KEYS, "cluster-wide", key, value)


def _validate(keys: Mapping[str, ConfigKey], scope: str, key: str, value: str) -> str | None:
    if key not in keys:
        return unknown_key_message(key, keys, scope)
    if len(value) > CONFIG_VALUE_LENGTH_MAX:
        return f"The value for configuration {key} is longer than {CONFIG_VALUE_LENGTH_MAX} characters"
    return keys[key].check(value)


def unknown_key_message(key: str, known: Iterable[str], scope: str) -> str:
    """That a key is unknown, with the nearest one that is known."""
    shown = key if len(key) <= 80 else key[:80] + "..."
    names = sorted(known)
    near = get_close_matches(shown, names, n=1, cutoff=0.6)
    help_text = f"did you mean {near[0]}?" if near else f"known keys are {', '.join(names)}"
    return f"Unknown {scope} configuration {shown!r}: {help_text}"


def topic_name_error(name: str) -> str | None:
    """Why a topic may not be called so, in words for the user; None if it may (Kafka's rules)."""
    shown = name if len(name) <= MAX_TOPIC_NAME_LENGTH else name[:40] + "..."
    if not name:
        return "Topic name is illegal, it can't be empty"
    if name in (".", ".."):
        return "Topic name cannot be '.' or '..'"
    if len(name) > MAX_TOPIC_NAME_LENGTH:
        return f"Topic name {shown!r} is {len(name)} characters long; at most {MAX_TOPIC_NAME_LENGTH} are allowed"
    if not _TOPIC_NAME.fullmatch(name):
        return f"Topic name {shown!r} is illegal, only ASCII letters, digits, '.', '_' and '-' are allowed"
    return None


def collision_key(name: str) -> str:
    """Two topics collide if this is the same for both: '.' and '_' become one in metric names (Kafka's rule)."""
    return name.replace(".", "_")


INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state"})
"""Topics that brokers keep for themselves: clients are told so, and they are not created like others."""


def is_internal_topic(name: str) -> bool:
    """True for Kafka's internal topics, and for no other name that begins with two underscores."""
    return name in INTERNAL_TOPICS
