"""FindCoordinator, OffsetCommit, OffsetFetch, OffsetDelete: each version is understood, its answer can be written."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from harness.kafka_rooms import Rooms, versions_of
from harness.metadata_cluster import cluster_of
from klamm.broker.groups.group_request import (
    CommittedOffset,
    OffsetCommitAnswer,
    OffsetCommitRequest,
    OffsetDeleteAnswer,
    OffsetFetchAnswer,
    OffsetFetchRequest,
)
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import LeaderEpoch, Offset

NONE = ErrorCode.NONE
NO_ID = uuid.UUID(int=12345)


class Groups:
    """Remembers what it was asked, and gives the answers that it was told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[Any] = []

    async def find(self, group_id: str) -> Any:
        return self.answers["find"][group_id]

    async def commit_offsets(self, request: OffsetCommitRequest) -> OffsetCommitAnswer:
        self.asked.append(request)
        errors: Iterable[ErrorCode] = self.answers["commit"]
        return OffsetCommitAnswer(tuple(errors))

    async def fetch_offsets(self, request: OffsetFetchRequest) -> OffsetFetchAnswer:
        self.asked.append(request)
        answer: OffsetFetchAnswer = self.answers["fetch"]
        return answer

    async def delete_offsets(self, group_id: str, partitions: Any) -> OffsetDeleteAnswer:
        self.asked.append((group_id, list(partitions)))
        answer: OffsetDeleteAnswer = self.answers["delete"]
        return answer


def rooms(**answers: Any) -> tuple[Rooms, Groups]:
    groups = Groups(**answers)
    made = Rooms(cluster_of(1), groups=groups)
    for name in ("a", "b"):
        made.cluster.create_topic(name, 3, 1)
    return made, groups


def topic_field(made: Rooms, version: int, name: str) -> dict[str, Any]:
    if version < 10:
        return {"name": name}
    topic = made.image.topics.get(name)
    return {"topic_id": NO_ID if topic is None else topic.topic_id}


# --- FindCoordinator --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions_of("find_coordinator"))
def test_find_coordinator(version: int) -> None:
    made, _ = rooms(find={"g": 1, "h": ErrorCode.COORDINATOR_NOT_AVAILABLE, "far": 9})
    endpoint = made.image.brokers[1].endpoints["KAFKA"]  # type: ignore[index]
    if version >= 4:
        response = made.ask("find_coordinator", version, key_type=0, coordinator_keys=("g", "h", "far"))
        found = [(each.key, each.error_code, each.node_id, each.host, each.port) for each in response.coordinators]
        unavailable = ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert found == [
            ("g", NONE, 1, endpoint.host, endpoint.port),
            ("h", unavailable, -1, "", -1),
            ("far", unavailable, -1, "", -1),
        ]
        return
    response = made.ask("find_coordinator", version, key="g", key_type=0)
    assert (response.error_code, response.node_id, response.port) == (NONE, 1, endpoint.port)
    response = made.ask("find_coordinator", version, key="h", key_type=0)
    assert (response.error_code, response.node_id) == (ErrorCode.COORDINATOR_NOT_AVAILABLE, -1)


@pytest.mark.parametrize(("version", "key_type"), [(3, 1), (4, 1), (6, 2), (6, 7)])
def test_only_groups_have_coordinators(version: int, key_type: int) -> None:
    made, _ = rooms(find={})
    response = made.ask("find_coordinator", version, key_type=key_type, key="x", coordinator_keys=("x",))
    error = response.error_code if version < 4 else response.coordinators[0].error_code
    assert error == ErrorCode.INVALID_REQUEST


# --- OffsetCommit -----------------------------------------------------------------------------------------------


def commit_values(made: Rooms, version: int, *names: str) -> dict[str, Any]:
    partition = {"committed_offset": 7, "committed_leader_epoch": 2, "committed_metadata": None}
    return {
        "group_id": "g",
        "generation_id_or_member_epoch": 4,
        "member_id": "m",
        "group_instance_id": "i",
        "retention_time": timedelta(milliseconds=5_000),
        "topics": tuple(
            {
                **topic_field(made, version, name),
                "partitions": tuple({"partition_index": n, **partition} for n in (0, 1)),
            }
            for name in names
        ),
    }


@pytest.mark.parametrize("version", versions_of("offset_commit"))
def test_offset_commit(version: int) -> None:
    made, groups = rooms(commit=[NONE, ErrorCode.ILLEGAL_GENERATION])
    response = made.ask("offset_commit", version, **commit_values(made, version, "a"))
    (request,) = groups.asked
    assert (request.group_id, request.generation_or_member_epoch, request.member_id) == ("g", 4, "m")
    assert request.group_instance_id == ("i" if version >= 7 else None)
    assert request.understands_member_epochs == (version >= 9)
    first = request.offsets[0]
    assert (first.topic, first.partition, first.offset, first.metadata) == ("a", 0, 7, "")
    assert first.leader_epoch == (2 if version >= 6 else None)
    expires_ms = made.clock.wall_ms() + 5_000 if version <= 4 else None
    assert first.expire_timestamp_ms == expires_ms
    (topic,) = response.topics
    errors = [(each.partition_index, each.error_code) for each in topic.partitions]
    assert errors == [(0, NONE), (1, ErrorCode.ILLEGAL_GENERATION)]


def test_offset_commit_for_a_topic_id_that_is_not_there() -> None:
    made, groups = rooms(commit=[NONE, NONE])
    response = made.ask("offset_commit", 10, **commit_values(made, 10, "gone", "a"))
    assert [offset.topic for offset in groups.asked[0].offsets] == ["a", "a"]
    errors = [[each.error_code for each in topic.partitions] for topic in response.topics]
    assert errors == [[ErrorCode.UNKNOWN_TOPIC_ID] * 2, [NONE] * 2]


# --- OffsetFetch ------------------------------------------------------------------------------------------------

FETCHED = OffsetFetchAnswer(
    NONE,
    (
        CommittedOffset("a", 0, Offset(7), LeaderEpoch(2), "m"),
        CommittedOffset("a", 1, None),
        CommittedOffset("b", 2, Offset(9)),
    ),
)


def fetch_values(made: Rooms, version: int, topics: dict[str, tuple[int, ...]] | None) -> dict[str, Any]:
    asked = None
    if topics is not None:
        asked = tuple({**topic_field(made, version, name), "partition_indexes": each} for name, each in topics.items())
    group = {"group_id": "g", "topics": asked}
    if version < 8:
        return {**group, "require_stable": True}
    return {"groups": ({**group, "member_id": "m", "member_epoch": 3},), "require_stable": True}


def of_group(response: Any, version: int) -> Any:
    return response if version < 8 else response.groups[0]


@pytest.mark.parametrize("version", versions_of("offset_fetch"))
def test_offset_fetch_of_named_partitions(version: int) -> None:
    made, groups = rooms(fetch=FETCHED)
    response = made.ask("offset_fetch", version, **fetch_values(made, version, {"a": (0, 1), "b": (2,)}))
    (request,) = groups.asked
    assert request.partitions == (("a", 0), ("a", 1), ("b", 2))
    assert request.require_stable == (version >= 7)
    assert (request.member_id, request.member_epoch) == (("m", 3) if version >= 9 else (None, -1))
    topics = of_group(response, version).topics
    offsets = [[(each.partition_index, each.committed_offset) for each in topic.partitions] for topic in topics]
    assert offsets == [[(0, 7), (1, -1)], [(2, 9)]]
    first = topics[0].partitions[0]
    assert (first.metadata, first.error_code) == ("m", NONE)
    if version >= 5:
        assert [each.committed_leader_epoch for each in topics[0].partitions] == [2, -1]


@pytest.mark.parametrize("version", [version for version in versions_of("offset_fetch") if version >= 2])
def test_offset_fetch_of_all(version: int) -> None:
    gone = CommittedOffset("gone", 0, Offset(1))
    made, groups = rooms(fetch=OffsetFetchAnswer(NONE, (*FETCHED.offsets, gone)))
    response = made.ask("offset_fetch", version, **fetch_values(made, version, None))
    assert groups.asked[0].partitions is None
    topics = of_group(response, version).topics
    if version >= 10:
        names = [made.image.topic_names[topic.topic_id] for topic in topics]
        assert names == ["a", "b"]
    else:
        assert [topic.name for topic in topics] == ["a", "b", "gone"]


@pytest.mark.parametrize("version", versions_of("offset_fetch"))
def test_offset_fetch_that_is_refused(version: int) -> None:
    made, _ = rooms(fetch=OffsetFetchAnswer(ErrorCode.NOT_COORDINATOR))
    response = made.ask("offset_fetch", version, **fetch_values(made, version, {"a": (0, 1)}))
    if version == 1:
        errors = [each.error_code for each in response.topics[0].partitions]
        assert errors == [ErrorCode.NOT_COORDINATOR] * 2
        return
    group = of_group(response, version)
    assert (group.error_code, group.topics) == (ErrorCode.NOT_COORDINATOR, ())


def test_offset_fetch_of_a_topic_id_that_is_not_there() -> None:
    made, groups = rooms(fetch=OffsetFetchAnswer(NONE, FETCHED.offsets[:1]))
    response = made.ask("offset_fetch", 10, **fetch_values(made, 10, {"gone": (0, 1), "a": (0,)}))
    assert groups.asked[0].partitions == (("a", 0),)
    errors = [[each.error_code for each in topic.partitions] for topic in response.groups[0].topics]
    assert errors == [[ErrorCode.UNKNOWN_TOPIC_ID] * 2, [NONE]]


# --- OffsetDelete -----------------------------------------------------------------------------------------------


def test_offset_delete() -> None:
    topics = tuple(
        {"name": name, "partitions": ({"partition_index": 0}, {"partition_index": 1})} for name in ("a", "gone")
    )
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    made, groups = rooms(delete=OffsetDeleteAnswer(NONE, (NONE, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, unknown, unknown)))
    response = made.ask("offset_delete", 0, group_id="g", topics=topics)
    assert groups.asked == [("g", [("a", 0), ("a", 1), ("gone", 0), ("gone", 1)])]
    errors = [[each.error_code for each in topic.partitions] for topic in response.topics]
    assert errors == [[NONE, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC], [unknown, unknown]]
    made, _ = rooms(delete=OffsetDeleteAnswer(ErrorCode.GROUP_ID_NOT_FOUND))
    response = made.ask("offset_delete", 0, group_id="g", topics=topics)
    assert (response.error_code, response.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, ())
