"""What a user may configure, with kafka-python's names and defaults, checked when the client is made.

A wrong value raises KafkaConfigurationError that names the argument, what it was and what it may be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

from ..proto.errors import KafkaConfigurationError, KafkaError
from ..proto.identifiers import GRPC_MESSAGE_BYTES_MAX
from .assignors import Assignor, RangePartitionAssignor, RoundRobinPartitionAssignor
from .metadata_cache import BrokerAddress
from .partitioner import Partitioner
from .sticky_assignor import CooperativeStickyAssignor, StickyPartitionAssignor

BOOTSTRAP_SERVERS_VARIABLE: Final = "KLAMM_BOOTSTRAP_SERVERS"
DEFAULT_BOOTSTRAP_SERVERS: Final = "127.0.0.1:9192,127.0.0.1:9193,127.0.0.1:9194"
_REQUEST_SIZE_MAX: Final = GRPC_MESSAGE_BYTES_MAX - 1024 * 1024
"""A message needs some room around the batches."""
_FETCH_SIZE_MAX: Final = 15 * 1024 * 1024
"""Asked for at most: the answer may exceed it by one batch, and both must fit a gRPC message."""
_INT32_MAX: Final = 2**31 - 1
_COMPRESSIONS: Final = (None, "none", "gzip", "snappy", "lz4", "zstd")
_NAME_LENGTH_MAX: Final = 249
ASSIGNORS: Final[dict[str, type[Assignor]]] = {
    assignor.name: assignor
    for assignor in (
        RangePartitionAssignor,
        RoundRobinPartitionAssignor,
        StickyPartitionAssignor,
        CooperativeStickyAssignor,
    )
}
_OFFSET_RESETS: Final = ("earliest", "latest", "none")

Serializer = Callable[[Any], bytes | None]
Deserializer = Callable[[bytes | None], Any]
Servers = str | Iterable[str] | None


def parse_bootstrap_servers(servers: Servers) -> tuple[BrokerAddress, ...]:
    """ "host:port,host:port" or a list of such; None takes the environment's or the defaults."""
    if servers is None:
        servers = os.environ.get(BOOTSTRAP_SERVERS_VARIABLE) or DEFAULT_BOOTSTRAP_SERVERS
    entries = servers.split(",") if isinstance(servers, str) else list(servers)
    addresses = tuple(_parse_address(entry) for entry in entries if not isinstance(entry, str) or entry.strip())
    if not addresses:
        raise _wrong("bootstrap_servers", servers, "at least one host:port")
    return addresses


def _parse_address(entry: object) -> BrokerAddress:
    if isinstance(entry, str):
        host, _, port = entry.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return BrokerAddress(host, int(port))
    raise _wrong("bootstrap_servers", entry, "host:port, such as 127.0.0.1:9192")


@dataclass(frozen=True, slots=True)
class CommonConfig:
    """What every client takes."""

    bootstrap_servers: tuple[BrokerAddress, ...]
    client_id: str
    request_timeout_ms: int


@dataclass(frozen=True, slots=True)
class ProducerConfig(CommonConfig):
    """A producer's arguments, checked. `acks` is -1 for "all"."""

    key_serializer: Serializer | None
    value_serializer: Serializer | None
    acks: int
    compression_type: str | None
    retries: int
    batch_size: int
    linger_ms: int
    partitioner: Partitioner | None
    buffer_memory: int
    max_block_ms: int
    max_request_size: int
    delivery_timeout_ms: int
    retry_backoff_ms: int
    metadata_max_age_ms: int
    max_in_flight_requests_per_connection: int
    allow_auto_create_topics: bool
    enable_idempotence: bool


@dataclass(frozen=True, slots=True)
class ConsumerConfig(CommonConfig):
    """A consumer's arguments, checked."""

    auto_offset_reset: str
    key_deserializer: Deserializer | None
    value_deserializer: Deserializer | None
    max_poll_records: int
    fetch_min_bytes: int
    fetch_max_wait_ms: int
    fetch_max_bytes: int
    max_partition_fetch_bytes: int
    consumer_timeout_ms: float
    check_crcs: bool
    isolation_level: str
    default_api_timeout_ms: int
    metadata_max_age_ms: int
    retry_backoff_ms: int
    group_id: str | None
    group_instance_id: str | None
    enable_auto_commit: bool
    auto_commit_interval_ms: int
    default_offset_commit_callback: Callable[..., Any] | None
    session_timeout_ms: int
    heartbeat_interval_ms: int
    max_poll_interval_ms: int
    partition_assignment_strategy: tuple[Assignor, ...]
    exclude_internal_topics: bool


_COMMON_DEFAULTS: Final[dict[str, Any]] = {
    "bootstrap_servers": None,
    "client_id": "klamm",
    "request_timeout_ms": 30_000,
}
_PRODUCER_DEFAULTS: Final[dict[str, Any]] = _COMMON_DEFAULTS | {
    "key_serializer": None,
    "value_serializer": None,
    "acks": "all",
    "compression_type": None,
    "retries": _INT32_MAX,
    "batch_size": 16_384,
    "linger_ms": 0,
    "partitioner": None,
    "buffer_memory": 33_554_432,
    "max_block_ms": 60_000,
    "max_request_size": 1_048_576,
    "delivery_timeout_ms": 120_000,
    "retry_backoff_ms": 20,
    "metadata_max_age_ms": 300_000,
    "max_in_flight_requests_per_connection": 5,
    "allow_auto_create_topics": True,
    "enable_idempotence": None,
}
_CONSUMER_DEFAULTS: Final[dict[str, Any]] = _COMMON_DEFAULTS | {
    "auto_offset_reset": "latest",
    "key_deserializer": None,
    "value_deserializer": None,
    "max_poll_records": 500,
    "fetch_min_bytes": 1,
    "fetch_max_wait_ms": 500,
    "fetch_max_bytes": 52_428_800,
    "max_partition_fetch_bytes": 1_048_576,
    "consumer_timeout_ms": float("inf"),
    "check_crcs": True,
    "isolation_level": "read_uncommitted",
    "default_api_timeout_ms": 60_000,
    "metadata_max_age_ms": 300_000,
    "retry_backoff_ms": 20,
    "group_id": None,
    "group_instance_id": None,
    "enable_auto_commit": True,
    "auto_commit_interval_ms": 5_000,
    "default_offset_commit_callback": None,
    "session_timeout_ms": 45_000,
    "heartbeat_interval_ms": 3_000,
    "max_poll_interval_ms": 300_000,
    # As kafka-python's consumer; Java's is ["range", "cooperative-sticky"].
    "partition_assignment_strategy": ("range", "roundrobin"),
    "exclude_internal_topics": True,
}


def producer_config(arguments: dict[str, Any]) -> ProducerConfig:
    """Checks a producer's keyword arguments. :raises KafkaConfigurationError: names the one that is wrong."""
    values = _with_defaults("Producer", arguments, _PRODUCER_DEFAULTS)
    _check_common(values)
    for name in ("key_serializer", "value_serializer", "partitioner"):
        values[name] = _callable(name, values[name])
    acks = values["acks"]
    if isinstance(acks, bool) or acks not in ("all", -1, 0, 1):
        raise _wrong("acks", acks, '"all", 1 or 0')
    values["acks"] = -1 if acks == "all" else acks
    _one_of(values, "compression_type", _COMPRESSIONS)
    _whole(values, "retries", 0)
    _whole(values, "batch_size", 0, _REQUEST_SIZE_MAX)
    _whole(values, "linger_ms", 0)
    _whole(values, "buffer_memory", 1)
    _whole(values, "max_block_ms", 0)
    _whole(values, "max_request_size", 1, _REQUEST_SIZE_MAX)
    _whole(values, "delivery_timeout_ms", 1)
    _whole(values, "retry_backoff_ms", 0)
    _whole(values, "metadata_max_age_ms", 0)
    _whole(values, "max_in_flight_requests_per_connection", 1)
    _boolean(values, "allow_auto_create_topics")
    _check_idempotence(values)
    if values["delivery_timeout_ms"] < values["linger_ms"]:
        raise _wrong("delivery_timeout_ms", values["delivery_timeout_ms"], "no less than linger_ms")
    return ProducerConfig(**values)


def _check_idempotence(values: dict[str, Any]) -> None:
    # KIP-679: on by default, silently off where the other settings exclude it, an error where it was asked for.
    asked = values["enable_idempotence"]
    if asked not in (None, True, False):
        raise _wrong("enable_idempotence", asked, "True or False")
    obstacle = (
        'acks="all"'
        if values["acks"] != -1
        else "retries above 0"
        if values["retries"] == 0
        else "max_in_flight_requests_per_connection of at most 5"
        if values["max_in_flight_requests_per_connection"] > 5
        else None
    )
    if asked and obstacle is not None:
        raise KafkaConfigurationError(f"enable_idempotence=True needs {obstacle}")
    values["enable_idempotence"] = asked is not False and obstacle is None


def consumer_config(arguments: dict[str, Any]) -> ConsumerConfig:
    """Checks a consumer's keyword arguments. :raises KafkaConfigurationError: names the one that is wrong."""
    values = _with_defaults("Consumer", arguments, _CONSUMER_DEFAULTS)
    _check_common(values)
    for name in ("key_deserializer", "value_deserializer", "default_offset_commit_callback"):
        values[name] = _callable(name, values[name])
    _check_group(values)
    _one_of(values, "auto_offset_reset", _OFFSET_RESETS)
    _one_of(values, "isolation_level", ("read_uncommitted", "read_committed"))
    _whole(values, "max_poll_records", 1)
    _whole(values, "fetch_min_bytes", 0)
    _whole(values, "fetch_max_wait_ms", 0)
    _whole(values, "fetch_max_bytes", 1)
    _whole(values, "max_partition_fetch_bytes", 1)
    values["fetch_max_bytes"] = min(values["fetch_max_bytes"], _FETCH_SIZE_MAX)
    values["max_partition_fetch_bytes"] = min(values["max_partition_fetch_bytes"], _FETCH_SIZE_MAX)
    _whole(values, "default_api_timeout_ms", 1)
    _whole(values, "metadata_max_age_ms", 0)
    _whole(values, "retry_backoff_ms", 0)
    _boolean(values, "check_crcs")
    timeout = values["consumer_timeout_ms"]
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise _wrong("consumer_timeout_ms", timeout, 'a number of milliseconds, or float("inf")')
    return ConsumerConfig(**values)


def _check_group(values: dict[str, Any]) -> None:
    for name in ("group_id", "group_instance_id"):
        value = values[name]
        if value is not None and (not isinstance(value, str) or not value.strip() or len(value) > _NAME_LENGTH_MAX):
            raise _wrong(name, value, f"a string of 1 to {_NAME_LENGTH_MAX} characters, or None")
    if values["group_instance_id"] is not None and values["group_id"] is None:
        raise KafkaConfigurationError("group_instance_id: needs a group_id")
    _boolean(values, "enable_auto_commit")
    _boolean(values, "exclude_internal_topics")
    _whole(values, "auto_commit_interval_ms", 0)
    _whole(values, "session_timeout_ms", 1)
    _whole(values, "heartbeat_interval_ms", 1)
    _whole(values, "max_poll_interval_ms", 1)
    if values["heartbeat_interval_ms"] >= values["session_timeout_ms"]:
        raise _wrong("heartbeat_interval_ms", values["heartbeat_interval_ms"], "less than session_timeout_ms")
    values["partition_assignment_strategy"] = _assignors(values["partition_assignment_strategy"])


def _assignors(strategy: Any) -> tuple[Assignor, ...]:
    """The assignors that the argument names, made for one consumer: they remember what it was given."""
    entries = [strategy] if isinstance(strategy, str | Assignor | type) else list(strategy or ())
    made: list[Assignor] = []
    for entry in entries:
        known = ASSIGNORS.get(entry) if isinstance(entry, str) else entry
        if isinstance(known, type) and issubclass(known, Assignor):
            known = known()
        if not isinstance(known, Assignor):
            names = ", ".join(repr(name) for name in ASSIGNORS)
            raise _wrong("partition_assignment_strategy", entry, f"one of {names}, or an Assignor")
        made.append(known)
    if not made or len({assignor.name for assignor in made}) < len(made):
        raise _wrong("partition_assignment_strategy", strategy, "at least one assignor, none of them twice")
    return tuple(made)


def admin_config(arguments: dict[str, Any]) -> CommonConfig:
    """Checks an admin client's keyword arguments. :raises KafkaConfigurationError: names the one that is wrong."""
    values = _with_defaults("Admin", arguments, _COMMON_DEFAULTS)
    _check_common(values)
    return CommonConfig(**values)


def as_bytes(what: str, serializer: Serializer | None, content: Any) -> bytes | None:
    """What the serializer makes of a key or value. :raises KafkaError: if that is neither bytes nor None."""
    if serializer is not None:
        content = serializer(content)
    if content is None or type(content) is bytes:
        return content
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    remedy = f"give a {what}_serializer" if serializer is None else f"{what}_serializer must return bytes"
    raise KafkaError(f"{what} is {type(content).__name__}, not bytes; {remedy}")


def _with_defaults(client: str, arguments: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    for name in arguments:
        if name not in defaults:
            raise KafkaConfigurationError(
                f"{name}: {client} has no such argument; it takes {', '.join(sorted(defaults))}"
            )
    return defaults | arguments


def _check_common(values: dict[str, Any]) -> None:
    values["bootstrap_servers"] = parse_bootstrap_servers(values["bootstrap_servers"])
    if not isinstance(values["client_id"], str):
        raise _wrong("client_id", values["client_id"], "a string")
    _whole(values, "request_timeout_ms", 1)


def _wrong(name: str, value: object, expected: str) -> KafkaConfigurationError:
    return KafkaConfigurationError(f"{name}: {value!r} is not valid; it must be {expected}")


def _whole(values: dict[str, Any], name: str, least: int, most: int = _INT32_MAX) -> None:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(name, value, f"a whole number from {least} to {most}")


def _boolean(values: dict[str, Any], name: str) -> None:
    if not isinstance(values[name], bool):
        raise _wrong(name, values[name], "True or False")


def _one_of(values: dict[str, Any], name: str, allowed: tuple[object, ...]) -> None:
    if values[name] not in allowed:
        raise _wrong(name, values[name], "one of " + ", ".join(repr(choice) for choice in allowed))


def _callable(name: str, value: Any) -> Any:
    """The function, or the `serialize`, `deserialize` method of an object as kafka-python takes them; None as it is."""
    if value is None or callable(value):
        return value
    for method in ("serialize", "deserialize"):
        if callable(getattr(value, method, None)):
            bound = getattr(value, method)
            return lambda content: bound(None, content)
    raise _wrong(name, value, "a function")


def argument_names(config: type[CommonConfig]) -> tuple[str, ...]:
    """Every argument that a kind of client takes."""
    return tuple(entry.name for entry in fields(config))
