"""The handlers of KIP-848: each version is understood, and every answer can be written."""

from __future__ import annotations

import asyncio
import importlib
import io
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from klamm.broker.groups.group_request import (
    ConsumerGroupHeartbeatAnswer,
    ConsumerGroupHeartbeatRequest,
    DescribedConsumer,
    DescribedConsumerGroup,
    GroupState,
)
from klamm.broker.kafka import authorized_operations
from klamm.broker.kafka.messages import class_name, make, request_schema, response_schema, response_writer
from klamm.broker.kafka.rooms import RequestContext
from klamm.broker.kafka.table import APIS
from klamm.proto.errors import ErrorCode

ROWS = {row.name: row for row in APIS.values()}
TOPIC, DELETED = UUID(int=1), UUID(int=2)
VERSIONS = pytest.mark.parametrize("version", [0, 1])


class Groups:
    """Remembers what it was asked, and gives the answer that it was told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: Any = None

    async def consumer_group_heartbeat(self, request: ConsumerGroupHeartbeatRequest) -> Any:
        self.asked = request
        return self.answer

    async def consumer_group_describe(self, group_ids: Any) -> Any:
        self.asked = group_ids
        return self.answer


def call(name: str, version: int, request: Any, groups: Groups) -> Any:
    assert ROWS[name].min_version <= version <= ROWS[name].max_version
    handler = importlib.import_module(f"klamm.broker.kafka.{name}")
    rooms: Any = SimpleNamespace(groups=groups, image=lambda: SimpleNamespace(topic_names={TOPIC: "t"}))
    context = RequestContext(rooms, version, "client", "/127.0.0.1", response_schema(name, version))
    response = asyncio.run(handler.handle(request, context))
    response_writer(name, version)(io.BytesIO(), response)
    return response


def heartbeat(version: int, **fields: Any) -> Any:
    kind = getattr(
        request_schema("consumer_group_heartbeat", version), class_name("consumer_group_heartbeat", "Request")
    )
    return make(kind, **({"group_id": "g", "member_id": "m", "member_epoch": 3, "topic_partitions": None} | fields))


@VERSIONS
def test_a_heartbeat_says_what_has_changed_and_is_told_what_has(version: int) -> None:
    schema = request_schema("consumer_group_heartbeat", version)
    groups = Groups(ConsumerGroupHeartbeatAnswer(ErrorCode.NONE, "", "m", 4, 5_000, {TOPIC: (0, 2), DELETED: (1,)}))
    request = heartbeat(
        version,
        instance_id="i",
        rack_id="r",
        rebalance_timeout=timedelta(minutes=5),
        subscribed_topic_names=("t", "u"),
        subscribed_topic_regex="t.*",
        server_assignor="range",
        topic_partitions=(
            schema.TopicPartitions(topic_id=TOPIC, partitions=(2, 0)),
            schema.TopicPartitions(topic_id=TOPIC, partitions=(1, 2)),
            schema.TopicPartitions(topic_id=None, partitions=(7,)),
        ),
    )
    response = call("consumer_group_heartbeat", version, request, groups)
    assert groups.asked == ConsumerGroupHeartbeatRequest(
        group_id="g",
        member_id="m",
        member_epoch=3,
        group_instance_id="i",
        rack_id="r",
        rebalance_timeout_ms=300_000,
        subscribed_topic_names=("t", "u"),
        subscribed_topic_regex="t.*" if version >= 1 else None,
        server_assignor="range",
        owned_partitions={TOPIC: (0, 1, 2), UUID(int=0): (7,)},
        client_id="client",
        client_host="/127.0.0.1",
    )
    assert (response.error_code, response.error_message) == (ErrorCode.NONE, None)
    assert (response.member_id, response.member_epoch) == ("m", 4)
    assert response.heartbeat_interval == timedelta(seconds=5)
    told = {topic.topic_id: topic.partitions for topic in response.assignment.topic_partitions}
    assert told == {TOPIC: (0, 2), DELETED: (1,)}


@VERSIONS
def test_a_short_heartbeat_and_no_news(version: int) -> None:
    groups = Groups(ConsumerGroupHeartbeatAnswer(ErrorCode.NONE, "", "m", 3, 5_000))
    response = call("consumer_group_heartbeat", version, heartbeat(version), groups)
    assert groups.asked.rebalance_timeout_ms is None
    assert groups.asked.owned_partitions is None
    assert response.assignment is None


@VERSIONS
def test_an_empty_assignment_is_not_the_same_as_none(version: int) -> None:
    groups = Groups(ConsumerGroupHeartbeatAnswer(ErrorCode.NONE, "", "m", 3, 5_000, {}))
    response = call("consumer_group_heartbeat", version, heartbeat(version, topic_partitions=()), groups)
    assert groups.asked.owned_partitions == {}
    assert response.assignment.topic_partitions == ()


@VERSIONS
def test_an_error_of_the_group(version: int) -> None:
    groups = Groups(ConsumerGroupHeartbeatAnswer(ErrorCode.FENCED_MEMBER_EPOCH, "join again"))
    response = call("consumer_group_heartbeat", version, heartbeat(version), groups)
    assert (response.error_code, response.error_message) == (ErrorCode.FENCED_MEMBER_EPOCH, "join again")
    assert (response.member_id, response.assignment) == (None, None)


def test_the_broker_makes_the_member_id_in_version_0_alone() -> None:
    groups = Groups(ConsumerGroupHeartbeatAnswer(ErrorCode.NONE))
    made = set()
    for _ in range(2):
        call("consumer_group_heartbeat", 0, heartbeat(0, member_id="", member_epoch=0), groups)
        made.add(groups.asked.member_id)
    assert len(made) == 2
    assert {len(member_id) for member_id in made} == {22}
    call("consumer_group_heartbeat", 0, heartbeat(0, member_id="", member_epoch=1), groups)
    assert groups.asked.member_id == ""
    call("consumer_group_heartbeat", 1, heartbeat(1, member_id="", member_epoch=0), groups)
    assert groups.asked.member_id == ""


@VERSIONS
@pytest.mark.parametrize("operations", [False, True])
def test_groups_are_described_one_by_one(version: int, operations: bool) -> None:
    member = DescribedConsumer(
        "m", "i", None, 4, "client", "/127.0.0.1", ("t",), None, {TOPIC: (0,), DELETED: (0,)}, {TOPIC: (0, 1)}, True
    )
    groups = Groups(
        [
            DescribedConsumerGroup("g", ErrorCode.NONE, "", GroupState.RECONCILING, 5, 4, "uniform", (member,)),
            DescribedConsumerGroup("x", ErrorCode.GROUP_ID_NOT_FOUND, "Group x not found."),
        ]
    )
    kind = request_schema("consumer_group_describe", version).ConsumerGroupDescribeRequest
    request = kind(group_ids=("g", "x"), include_authorized_operations=operations)
    response = call("consumer_group_describe", version, request, groups)
    assert groups.asked == ("g", "x")
    found, missing = response.groups
    assert (found.group_state, found.group_epoch, found.assignment_epoch) == ("Reconciling", 5, 4)
    assert found.authorized_operations == (authorized_operations.GROUP if operations else -(2**31))
    [described] = found.members
    assert [(one.topic_name, one.partitions) for one in described.assignment.topic_partitions] == [("t", (0,))]
    assert [(one.topic_name, one.partitions) for one in described.target_assignment.topic_partitions] == [("t", (0, 1))]
    assert version == 0 or described.member_type == 0
    assert (missing.error_code, missing.error_message) == (ErrorCode.GROUP_ID_NOT_FOUND, "Group x not found.")
    assert missing.members == ()
