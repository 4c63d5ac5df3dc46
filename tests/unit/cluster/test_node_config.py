"""Properties text to typed values: what is taken, and what a wrong file is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.cluster.node_config import (
    REQUIRED,
    Address,
    ConfigDefinition,
    NodeConfigKey,
    parse_address,
    parse_addresses,
    parse_bool,
    parse_int,
    parse_listeners,
    parse_properties,
    parse_text,
    parse_voters,
)
from klamm.proto.errors import KafkaConfigurationError

NODE_ID = NodeConfigKey("node.id", parse_int(minimum=0, maximum=100), REQUIRED, "the id")
RACK: NodeConfigKey[str | None] = NodeConfigKey("broker.rack", parse_text, None, "the rack")
DEFINITION = ConfigDefinition((NODE_ID, RACK))


def test_comments_blank_lines_and_spaces_do_not_count() -> None:
    text = "\n# a comment\n! another\n node.id = 3 \nurl=a=b\n"
    assert parse_properties(text) == {"node.id": "3", "url": "a=b"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("node.id", "line 1: 'node.id' is not key=value"),
        ("a=1\n=2", "line 2: '=2' is not key=value"),
        ("a=1\na=2", "line 2: a is given twice"),
    ],
)
def test_a_malformed_line_is_named(text: str, complaint: str) -> None:
    with pytest.raises(KafkaConfigurationError, match="^" + complaint.replace("(", r"\(")):
        parse_properties(text)


def test_values_have_their_types_and_defaults() -> None:
    values = DEFINITION.resolve({"node.id": "7"})
    assert values[NODE_ID] == 7
    assert values[RACK] is None
    assert values.is_given(NODE_ID)
    assert not values.is_given(RACK)


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({"node.id": "1", "broker.rak": "a"}, "unknown key 'broker.rak'; did you mean 'broker.rack'?"),
        ({"node.id": "1", "zzz": "a"}, "unknown key 'zzz'; the keys are: broker.rack, node.id"),
        ({}, "node.id is missing: the id"),
        ({"node.id": "x"}, "node.id=x: must be a whole number"),
        ({"node.id": "1_0"}, "node.id=1_0: must be a whole number"),
        ({"node.id": "101"}, "node.id=101: must be between 0 and 100"),
        ({"node.id": "1", "broker.rack": ""}, "broker.rack=: must not be empty"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wrong(properties: dict[str, str], complaint: str) -> None:
    with pytest.raises(KafkaConfigurationError) as raised:
        DEFINITION.resolve(properties)
    assert str(raised.value) == complaint


def test_addresses() -> None:
    assert parse_address("localhost:0") == Address("localhost", 0)
    assert parse_address("[::1]:9092") == Address("::1", 9092)
    assert str(Address("::1", 9092)) == "[::1]:9092"
    assert parse_addresses("a:1, b:2") == (Address("a", 1), Address("b", 2))
    assert parse_listeners("GRPC://127.0.0.1:0") == {"GRPC": Address("127.0.0.1", 0)}
    assert parse_voters("0@a:1,1@a:2,2@a:3") == {0: Address("a", 1), 1: Address("a", 2), 2: Address("a", 3)}
    assert parse_bool("True")
    assert not parse_bool("false")


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_address, "host"),
        (parse_address, ":1"),
        (parse_address, "host:65536"),
        (parse_address, "host:-1"),
        (parse_address, "::1:9092"),
        (parse_addresses, ""),
        (parse_addresses, "host:0"),
        (parse_listeners, "127.0.0.1:1"),
        (parse_listeners, "A://h:1,a://h:2"),
        (parse_voters, "h:1"),
        (parse_voters, "x@h:1"),
        (parse_voters, "0@h:1,1@h:2"),
        (parse_voters, "0@h:1,0@h:2,1@h:3"),
        (parse_voters, "0@h:1,1@h:1,2@h:3"),
        (parse_bool, "yes"),
    ],
)
def test_malformed_values_raise_value_error(parse, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        DEFINITION.resolve(parse_properties(text))
    except KafkaConfigurationError:
        pass
