"""Any request that can be read is answered, in every version of every administrative call, with an answer that can be
written."""

from __future__ import annotations

import typing
from dataclasses import fields, is_dataclass
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from harness.kafka_rooms import Rooms, versions_of
from harness.metadata_cluster import cluster_of
from klamm.broker.kafka import messages

CALLS = (
    "alter_configs",
    "alter_partition_reassignments",
    "create_partitions",
    "create_topics",
    "delete_topics",
    "describe_cluster",
    "describe_configs",
    "describe_quorum",
    "describe_topic_partitions",
    "elect_leaders",
    "get_telemetry_subscriptions",
    "incremental_alter_configs",
    "init_producer_id",
    "list_partition_reassignments",
    "metadata",
    "push_telemetry",
)
ROUNDS = 12
NAMES = ("a", "b", "", "x" * 300, "__consumer_offsets", "__cluster_metadata", "é\n\x00", "1", "9" * 30, "retention.ms")
BITS = {"i8": 7, "int8": 7, "i16": 15, "int16": 15, "i64": 63, "int64": 63}


class Requests:
    """Requests of any content."""

    def __init__(self, random: Random, ids: list[UUID]) -> None:
        self._random = random
        self._ids = [UUID(int=0), UUID(int=1), UUID(int=2**127), *ids]

    def of(self, kind: type) -> dict[str, Any]:
        hints = typing.get_type_hints(kind)
        return {
            field.name: self._value(hints[field.name], str(field.metadata.get("kafka_type"))) for field in fields(kind)
        }

    def _value(self, hint: Any, kafka_type: str) -> Any:
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is tuple:
            return tuple(self._value(arguments[0], kafka_type) for _ in range(self._random.choice((0, 1, 1, 2, 3))))
        if type(None) in arguments:
            inner = next(argument for argument in arguments if argument is not type(None))
            return None if self._random.random() < 0.25 else self._value(inner, kafka_type)
        if is_dataclass(hint):
            return self.of(typing.cast(type, hint))
        return self._plain(hint, kafka_type)

    def _plain(self, hint: Any, kafka_type: str) -> Any:
        random = self._random
        if "imedelta" in str(hint):
            return timedelta(milliseconds=random.choice((0, -1, 1_000, 2**31 - 1, -(2**31))))
        if hint is bool:
            return random.random() < 0.5
        if hint is UUID:
            return random.choice(self._ids)
        if issubclass(hint, str):
            return random.choice(NAMES)
        if issubclass(hint, bytes):
            return bytes(random.choice((0, 1, 100)))
        bits = BITS.get(kafka_type, 31)
        return random.choice((0, 1, 2, 4, -1, 2**bits - 1, -(2**bits), random.randrange(2**bits)))


@pytest.mark.parametrize("name", CALLS)
def test_any_request_is_answered(name: str) -> None:
    rooms = Rooms(cluster_of(1, 2, 3))
    for topic, count in (("a", 3), ("b", 1)):
        rooms.cluster.create_topic(topic, count, 2)
    ids = [topic.topic_id for topic in rooms.image.topics.values()]
    for version in versions_of(name):
        kind = getattr(messages.request_schema(name, version), messages.class_name(name, "Request"))
        for number in range(ROUNDS):
            request = Requests(Random(f"{name} {version} {number}"), ids).of(kind)
            assert rooms.ask(name, version, **request) is not None, request
