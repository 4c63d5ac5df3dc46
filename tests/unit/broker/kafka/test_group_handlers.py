"""The handlers of the classic group protocol: each version of each is understood, and its answer can be written."""

from __future__ import annotations

import asyncio
import importlib
import io
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from klamm.broker.groups.group_request import (
    DescribedGroup,
    DescribedMember,
    GroupState,
    GroupType,
    HeartbeatRequest,
    JoinAnswer,
    JoinedMember,
    JoinRequest,
    LeaveAnswer,
    LeaveRequest,
    ListedGroup,
    SyncAnswer,
    SyncRequest,
)
from klamm.broker.kafka import authorized_operations
from klamm.broker.kafka.messages import class_name, make, request_schema, response_schema, response_writer
from klamm.broker.kafka.rooms import RequestContext
from klamm.broker.kafka.table import APIS
from klamm.proto.errors import ErrorCode

ROWS = {row.name: row for row in APIS.values()}
DEAD = DescribedGroup("gone", ErrorCode.NONE)
STABLE = DescribedGroup(
    "g",
    ErrorCode.NONE,
    state=GroupState.STABLE,
    protocol_type="consumer",
    protocol_name="range",
    members=(DescribedMember("m-1", "i-1", "client", "/127.0.0.1", b"topics", b"partitions"),),
)
ELSEWHERE = DescribedGroup("far", ErrorCode.NOT_COORDINATOR)


class Groups:
    """Remembers what it was asked, and gives the answer that it was told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: Any = None

    async def join(self, request: JoinRequest) -> Any:
        return self._ask(request)

    async def sync(self, request: SyncRequest) -> Any:
        return self._ask(request)

    def heartbeat(self, request: HeartbeatRequest) -> Any:
        return self._ask(request)

    async def leave(self, request: LeaveRequest) -> Any:
        return self._ask(request)

    async def list_groups(self, states: Sequence[str], types: Sequence[str]) -> Any:
        return self._ask((tuple(states), tuple(types)))

    async def describe_groups(self, group_ids: Sequence[str]) -> Any:
        return self._ask(tuple(group_ids))

    async def delete_groups(self, group_ids: Sequence[str]) -> Any:
        return self._ask(tuple(group_ids))

    def _ask(self, request: Any) -> Any:
        self.asked = request
        return self.answer


def call(name: str, version: int, answer: Any, **fields: Any) -> tuple[Any, Any]:
    """What the rooms were asked, and the response as a client reads it off the wire."""
    groups = answer if isinstance(answer, Groups) else Groups(answer)
    context = RequestContext(
        rooms=SimpleNamespace(groups=groups),  # type: ignore[arg-type]
        api_version=version,
        client_id="client",
        client_host="/127.0.0.1",
        schema=response_schema(name, version),
    )
    request = make(getattr(request_schema(name, version), class_name(name, "Request")), **fields)
    handle: Callable[[Any, RequestContext], Any] = importlib.import_module(f"klamm.broker.kafka.{name}").handle

    async def main() -> Any:
        outcome = handle(request, context)
        return await outcome if isinstance(outcome, Awaitable) else outcome

    response = asyncio.run(main())
    return groups.asked, over_the_wire(name, version, response)


def over_the_wire(name: str, version: int, response: Any) -> Any:
    from kio.serial import entity_reader

    buffer = io.BytesIO()
    response_writer(name, version)(buffer, response)
    data = buffer.getvalue()
    read, size = entity_reader(type(response))(data, 0)
    assert size == len(data)
    return read


def versions(name: str) -> pytest.MarkDecorator:
    row = ROWS[name]
    return pytest.mark.parametrize("version", range(row.min_version, row.max_version + 1))


def join_fields(version: int) -> dict[str, Any]:
    protocol = request_schema("join_group", version).JoinGroupRequestProtocol
    return {
        "group_id": "g",
        "session_timeout": timedelta(milliseconds=10_000),
        "rebalance_timeout": timedelta(milliseconds=60_000),
        "member_id": "m-1",
        "group_instance_id": "i-1",
        "protocol_type": "consumer",
        "protocols": (protocol(name="range", metadata=b"r"), protocol(name="sticky", metadata=b"s")),
        "reason": "because",
    }


@versions("join_group")
def test_join(version: int) -> None:
    answer = JoinAnswer(
        *(ErrorCode.NONE, "m-1", 7, "consumer", "range", "m-1", True),
        (JoinedMember("m-1", "i-1", b"r"), JoinedMember("m-2", None, b"")),
    )
    asked, response = call("join_group", version, answer, **join_fields(version))
    assert asked == JoinRequest(
        group_id="g",
        member_id="m-1",
        group_instance_id="i-1" if version >= 5 else None,
        client_id="client",
        client_host="/127.0.0.1",
        protocol_type="consumer",
        protocols=(("range", b"r"), ("sticky", b"s")),
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000 if version >= 1 else 10_000,
        require_known_member_id=version >= 4,
        supports_skipping_assignment=version >= 9,
        reason="because" if version >= 8 else None,
    )
    assert (response.error_code, response.generation_id, response.protocol_name) == (0, 7, "range")
    assert (response.leader, response.member_id) == ("m-1", "m-1")
    assert [(member.member_id, member.metadata) for member in response.members] == [("m-1", b"r"), ("m-2", b"")]
    if version >= 5:
        assert [member.group_instance_id for member in response.members] == ["i-1", None]
    if version >= 7:
        assert response.protocol_type == "consumer"
    if version >= 9:
        assert response.skip_assignment is True


@versions("join_group")
def test_a_refused_join(version: int) -> None:
    answer = JoinAnswer(ErrorCode.MEMBER_ID_REQUIRED, "m-9")
    _, response = call("join_group", version, answer, **join_fields(version))
    assert (response.error_code, response.generation_id, response.leader) == (ErrorCode.MEMBER_ID_REQUIRED, -1, "")
    assert (response.member_id, response.members) == ("m-9", ())
    assert response.protocol_name == (None if version >= 7 else "")


def sync_fields(version: int, **changes: Any) -> dict[str, Any]:
    assignment = request_schema("sync_group", version).SyncGroupRequestAssignment
    return {
        "group_id": "g",
        "generation_id": 7,
        "member_id": "m-1",
        "group_instance_id": "i-1",
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": (assignment(member_id="m-1", assignment=b"a"),),
    } | changes


@versions("sync_group")
def test_sync(version: int) -> None:
    answer = SyncAnswer(ErrorCode.NONE, "consumer", "range", b"a")
    asked, response = call("sync_group", version, answer, **sync_fields(version))
    assert asked == SyncRequest(
        group_id="g",
        generation_id=7,
        member_id="m-1",
        group_instance_id="i-1" if version >= 3 else None,
        protocol_type="consumer" if version >= 5 else None,
        protocol_name="range" if version >= 5 else None,
        assignments={"m-1": b"a"},
    )
    assert (response.error_code, response.assignment) == (0, b"a")
    if version >= 5:
        assert (response.protocol_type, response.protocol_name) == ("consumer", "range")


@versions("sync_group")
def test_a_refused_sync(version: int) -> None:
    _, response = call("sync_group", version, SyncAnswer(ErrorCode.ILLEGAL_GENERATION), **sync_fields(version))
    assert (response.error_code, response.assignment) == (ErrorCode.ILLEGAL_GENERATION, b"")


@pytest.mark.parametrize("absent", ["protocol_type", "protocol_name"])
def test_a_sync_of_version_5_must_name_the_protocol(absent: str) -> None:
    asked, response = call("sync_group", 5, SyncAnswer(ErrorCode.NONE), **sync_fields(5, **{absent: None}))
    assert asked is None
    assert response.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


@versions("heartbeat")
def test_heartbeat(version: int) -> None:
    fields = {"group_id": "g", "generation_id": 7, "member_id": "m-1", "group_instance_id": "i-1"}
    asked, response = call("heartbeat", version, ErrorCode.REBALANCE_IN_PROGRESS, **fields)
    assert asked == HeartbeatRequest("g", 7, "m-1", "i-1" if version >= 3 else None)
    assert response.error_code == ErrorCode.REBALANCE_IN_PROGRESS


class Leavers(Groups):
    """Answers each member with the error that belongs to its place."""

    def _ask(self, request: Any) -> Any:
        self.asked = request
        return LeaveAnswer(ErrorCode.NONE, tuple(zip(request.members, self.answer, strict=True)))


@versions("leave_group")
def test_leave(version: int) -> None:
    if version < 3:
        refusal = Leavers([ErrorCode.UNKNOWN_MEMBER_ID])
        asked, response = call("leave_group", version, refusal, group_id="g", member_id="m-1")
        assert [(member.member_id, member.group_instance_id) for member in asked.members] == [("m-1", None)]
        assert response.error_code == ErrorCode.UNKNOWN_MEMBER_ID
        return
    identity = request_schema("leave_group", version).MemberIdentity
    members = (
        make(identity, member_id="m-1", group_instance_id=None, reason="enough"),
        make(identity, member_id="", group_instance_id="i-2", reason=None),
    )
    errors = [ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID]
    asked, response = call("leave_group", version, Leavers(errors), group_id="g", members=members)
    assert [member.reason for member in asked.members] == ["enough" if version >= 5 else None, None]
    assert response.error_code == 0
    answers = [(member.member_id, member.group_instance_id, member.error_code) for member in response.members]
    assert answers == [("m-1", None, 0), ("", "i-2", ErrorCode.UNKNOWN_MEMBER_ID)]


@versions("leave_group")
def test_a_refused_leave(version: int) -> None:
    answer = LeaveAnswer(ErrorCode.NOT_COORDINATOR)
    _, response = call("leave_group", version, answer, group_id="g", member_id="m-1", members=())
    assert response.error_code == ErrorCode.NOT_COORDINATOR


@versions("describe_groups")
def test_describe(version: int) -> None:
    fields = {"groups": ("g", "gone", "far"), "include_authorized_operations": True}
    asked, response = call("describe_groups", version, [STABLE, DEAD, ELSEWHERE], **fields)
    assert asked == ("g", "gone", "far")
    group, gone, far = response.groups
    assert (group.error_code, group.group_state) == (0, "Stable")
    assert (group.protocol_type, group.protocol_data) == ("consumer", "range")
    (member,) = group.members
    assert (member.client_id, member.client_host) == ("client", "/127.0.0.1")
    assert (member.member_metadata, member.member_assignment) == (b"topics", b"partitions")
    assert gone.group_state == "Dead"
    assert gone.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0)
    assert (far.error_code, far.group_state) == (ErrorCode.NOT_COORDINATOR, "")
    if version >= 3:
        assert group.authorized_operations == authorized_operations.GROUP
        assert far.authorized_operations == authorized_operations.NOT_ASKED
    if version >= 4:
        assert member.group_instance_id == "i-1"
    if version >= 6:
        assert gone.error_message == "Group gone not found."
        assert group.error_message is None


def test_authorized_operations_are_told_when_asked_for() -> None:
    _, response = call("describe_groups", 5, [STABLE], groups=("g",), include_authorized_operations=False)
    assert response.groups[0].authorized_operations == authorized_operations.NOT_ASKED


def test_a_group_that_is_not_found_is_dead_for_older_clients() -> None:
    absent = DescribedGroup("gone", ErrorCode.GROUP_ID_NOT_FOUND, "Group gone is not a classic group.")
    _, old = call("describe_groups", 5, [absent], groups=("gone",), include_authorized_operations=False)
    assert (old.groups[0].error_code, old.groups[0].group_state) == (0, "Dead")
    _, new = call("describe_groups", 6, [absent], groups=("gone",), include_authorized_operations=False)
    assert new.groups[0].error_message == "Group gone is not a classic group."


@versions("list_groups")
def test_list(version: int) -> None:
    groups = [ListedGroup("g", "consumer", GroupState.PREPARING_REBALANCE, GroupType.CLASSIC)]
    fields = {"states_filter": (" stable", "EMPTY", "odd"), "types_filter": ("Classic",)}
    asked, response = call("list_groups", version, (ErrorCode.NONE, groups), **fields)
    states = ("Stable", "Empty", "odd") if version >= 4 else ()
    assert asked == (states, ("classic",) if version >= 5 else ())
    (group,) = response.groups
    assert (response.error_code, group.group_id, group.protocol_type) == (0, "g", "consumer")
    if version >= 4:
        assert group.group_state == "PreparingRebalance"
    if version >= 5:
        assert group.group_type == "classic"


@versions("delete_groups")
def test_delete(version: int) -> None:
    errors = [ErrorCode.NONE, ErrorCode.NON_EMPTY_GROUP]
    asked, response = call("delete_groups", version, errors, groups_names=("a", "b", "a"))
    assert asked == ("a", "b")
    assert [(result.group_id, result.error_code) for result in response.results] == [
        ("a", 0),
        ("b", ErrorCode.NON_EMPTY_GROUP),
    ]
