"""What a node is told by its configuration file: `key=value` lines in, typed values out.

The form is Kafka's `server.properties` without its escapes: one `key=value` on a line, `#` or `!` opens a comment
line, spaces around key and value do not count. Unlike Kafka, which warns, an unknown key is an error here: a
mistyped name that silently leaves a default in force is found out too late.

A role declares its keys once, as `NodeConfigKey` values, and reads them with their types:

    NODE_ID = NodeConfigKey("node.id", parse_int(minimum=0), REQUIRED, "the id of this node")
    values = ConfigDefinition((NODE_ID,)).resolve(parse_properties(text))
    values[NODE_ID]  # an int
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from ..proto.errors import KafkaConfigurationError

T = TypeVar("T")

PORT_MAX: Final = 65_535
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)


class _Required(Enum):
    REQUIRED = "required"


REQUIRED: Final = _Required.REQUIRED
"""In place of a default: the file must say it."""


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class NodeConfigKey(Generic[T]):
    """One key: how its text is read, what holds when it is absent, and what it is for."""

    name: str
    parse: Callable[[str], T]  # raises ValueError with a clause that says what is wrong
    default: T | _Required
    documentation: str


class ConfigValues:
    """Typed values by key."""

    def __init__(self, values: Mapping[str, Any], given: frozenset[str]) -> None:
        self._values = values
        self._given = given

    def __getitem__(self, key: NodeConfigKey[T]) -> T:
        """The value of a key that the definition declares."""
        value: T = self._values[key.name]
        return value

    def is_given(self, key: NodeConfigKey[Any]) -> bool:
        """True if the file says it; False if the default holds."""
        return key.name in self._given


class ConfigDefinition:
    """All keys of one role."""

    def __init__(self, keys: Iterable[NodeConfigKey[Any]]) -> None:
        self.keys: Final = {key.name: key for key in keys}

    def resolve(self, properties: Mapping[str, str]) -> ConfigValues:
        """Reads each property by its key and fills in the defaults.

        :raises KafkaConfigurationError: an unknown key, a missing one, or a value that is not valid
        """
        for name in properties:
            if name not in self.keys:
                raise KafkaConfigurationError(f"unknown key {name!r}{self._suggestion(name)}")
        values: dict[str, Any] = {}
        for name, key in self.keys.items():
            text = properties.get(name)
            if text is not None:
                values[name] = _parsed(key, text)
            elif key.default is REQUIRED:
                raise KafkaConfigurationError(f"{name} is missing: {key.documentation}")
            else:
                values[name] = key.default
        return ConfigValues(values, frozenset(properties))

    def _suggestion(self, name: str) -> str:
        # Imported here: only a wrong file pays for it.
        from difflib import get_close_matches

        close = get_close_matches(name, self.keys, n=1, cutoff=0.6)
        return f"; did you mean {close[0]!r}?" if close else f"; the keys are: {', '.join(sorted(self.keys))}"


def _parsed(key: NodeConfigKey[T], text: str) -> T:
    try:
        return key.parse(text)
    except ValueError as error:
        raise KafkaConfigurationError(f"{key.name}={text}: {error}") from error


def parse_properties(text: str) -> dict[str, str]:
    """The `key=value` lines of a configuration file.

    :raises KafkaConfigurationError: a line without `=`, an empty key, or a key given twice; names the line
    """
    properties: dict[str, str] = {}
    for number, raw_line in enumerate(text.splitlines(), start=1):
        line = raw_line.strip().removeprefix("\ufeff")
        if not line or line[0] in "#!":
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or not name:
            raise KafkaConfigurationError(f"line {number}: {line[:80]!r} is not key=value")
        if name in properties:
            raise KafkaConfigurationError(f"line {number}: {name} is given twice")
        properties[name] = value.strip()
    return properties


def parse_int(*, minimum: int, maximum: int = 2**63 - 1) -> Callable[[str], int]:
    """A parser of whole numbers within bounds."""

    def parse(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise ValueError("must be a whole number")
        value = int(text)
        if not minimum <= value <= maximum:
            raise ValueError(f"must be between {minimum} and {maximum}")
        return value

    return parse


def parse_bool(text: str) -> bool:
    """Kafka's booleans: true or false, in any case."""
    lowered = text.lower()
    if lowered not in ("true", "false"):
        raise ValueError("must be true or false")
    return lowered == "true"


def parse_text(text: str) -> str:
    """Any text but none."""
    if not text:
        raise ValueError("must not be empty")
    return text


def parse_address(text: str) -> Address:
    """`host:port`, with an IPv6 host in brackets. Port 0 lets the kernel choose."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdecimal() or int(port) > PORT_MAX:
        raise ValueError(f"{text!r} is not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 host stands in brackets")
    if not host:
        raise ValueError(f"{text!r} names no host (0.0.0.0 listens everywhere)")
    return Address(host, int(port))


def parse_addresses(text: str) -> tuple[Address, ...]:
    """`host:port,host:port`; every port is a real one."""
    addresses = tuple(parse_address(part) for part in text.split(",") if part.strip())
    if not addresses:
        raise ValueError("names no host:port")
    for address in addresses:
        if address.port == 0:
            raise ValueError(f"{address}: port 0 cannot be connected to")
    return addresses


def parse_listeners(text: str) -> Mapping[str, Address]:
    """`NAME://host:port,NAME://host:port`; each name once."""
    listeners: dict[str, Address] = {}
    for part in text.split(","):
        name, separator, address = part.strip().partition("://")
        if not separator or not name:
            raise ValueError(f"{part.strip()!r} is not NAME://host:port")
        if name.upper() in listeners:
            raise ValueError(f"listener {name} is given twice")
        listeners[name.upper()] = parse_address(address)
    return listeners


def parse_voters(text: str) -> Mapping[int, Address]:
    """`id@host:port,id@host:port`: the controllers of the quorum; 1, 3 or 5 of them (an even number adds no safety)."""
    voters: dict[int, Address] = {}
    for part in text.split(","):
        node_id, at, address = part.strip().partition("@")
        if not at or not node_id.isdecimal():
            raise ValueError(f"{part.strip()!r} is not id@host:port")
        if int(node_id) in voters:
            raise ValueError(f"controller {int(node_id)} is given twice")
        voters[int(node_id)] = parse_address(address)
    if len(voters) % 2 == 0:
        raise ValueError(f"{len(voters)} voters: the quorum needs an odd number")
    if len(set(voters.values())) < len(voters):
        raise ValueError("two voters share one address")
    return voters
