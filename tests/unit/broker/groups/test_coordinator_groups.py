"""Members through the coordinator: loading, failover, time, conversion of types, and everyone told when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from harness.coordinator import CoordinatorUnderTest, commit_request, fetch_request, join_request, sync_request
from harness.replicated_group_log import Batch
from harness.virtual_loop import run_virtual
from klamm.broker.groups.group import GroupRecord
from klamm.broker.groups.group_request import (
    ConsumerGroupHeartbeatRequest,
    GroupState,
    GroupType,
    LeaveRequest,
    LeavingMember,
    OffsetFetchRequest,
)
from klamm.broker.groups.offsets_topic import java_hash, partition_of
from klamm.broker.groups.records import (
    GroupMetadata,
    MemberMetadata,
    OffsetKey,
    OffsetValue,
    group_metadata_record,
    offset_record,
)
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import Offset

NONE = ErrorCode.NONE


def run(scenario: Callable[[CoordinatorUnderTest], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main(loop: Any) -> None:
        async with CoordinatorUnderTest(loop, **options) as coordinator:
            await scenario(coordinator)

    run_virtual(main)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def consumer_heartbeat(group_id: str, member_id: str, epoch: int, **changes: Any) -> ConsumerGroupHeartbeatRequest:
    joins = epoch == 0
    values: dict[str, Any] = {
        "group_id": group_id,
        "member_id": member_id,
        "member_epoch": epoch,
        "group_instance_id": None,
        "rack_id": None,
        "rebalance_timeout_ms": 60_000 if joins else None,
        "subscribed_topic_names": ("t",) if joins else None,
        "subscribed_topic_regex": None,
        "server_assignor": None,
        "owned_partitions": {} if joins else None,
        "client_id": "client",
        "client_host": "/127.0.0.1",
    }
    return ConsumerGroupHeartbeatRequest(**{**values, **changes})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("a", 97),
        ("console-consumer-12345", 158455506),
        ("polygenelubricants", -(2**31)),
        ("\U0001f600", 1772899),
    ],
)
def test_groups_are_spread_by_the_hash_of_java(text: str, code: int) -> None:
    assert java_hash(text) == code


def test_the_least_hash_is_partition_0_as_in_kafka() -> None:
    assert partition_of("polygenelubricants", 7) == 0
    assert partition_of("a", 50) == 47


def test_a_group_and_its_offsets_are_there_after_a_failover() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        member_id, generation = await under_test.joined("g")
        request = commit_request("g", {("t", 0): 4}, generation=generation, member_id=member_id)
        assert (await coordinator.commit_offsets(request)).errors == (NONE,)
        await under_test.failover()
        assert under_test.heartbeat("g", member_id, generation) is NONE
        (described,) = await coordinator.describe_groups(["g"])
        assert (described.state, [member.assignment for member in described.members]) == (GroupState.STABLE, [b"a"])
        fetched = await coordinator.fetch_offsets(fetch_request("g", ("t", 0)))
        assert fetched.offsets[0].offset == 4
        request = commit_request("g", {("t", 0): 5}, generation=generation, member_id=member_id)
        assert (await coordinator.commit_offsets(request)).errors == (NONE,)

    run(scenario)


def test_whoever_waits_is_told_at_once_when_the_leadership_is_lost() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator, log = under_test.coordinator, under_test.log
        joined = await coordinator.join(join_request("g"))
        await coordinator.sync(sync_request("g", joined))
        second = asyncio.create_task(coordinator.join(join_request("g")))  # waits for the first to join again
        await settled()
        log.auto = False
        commit = asyncio.create_task(coordinator.commit_offsets(commit_request("other", {("t", 0): 1})))
        await settled()
        stable = asyncio.create_task(coordinator.fetch_offsets(OffsetFetchRequest("other", None, require_stable=True)))
        await settled()
        assert not second.done() and not commit.done() and not stable.done()
        log.elect(2)
        coordinator.resign(log.image())
        await settled()
        assert second.result().error is ErrorCode.NOT_COORDINATOR
        assert commit.result().errors == (ErrorCode.NOT_COORDINATOR,)
        assert stable.result().error is ErrorCode.NOT_COORDINATOR
        assert under_test.heartbeat("g", joined.member_id, joined.generation_id) is ErrorCode.NOT_COORDINATOR

    run(scenario, brokers=(1, 2, 3))


def test_rule_21_nothing_of_an_earlier_epoch_is_acked_in_a_later_one_of_the_same_broker() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator, log = under_test.coordinator, under_test.log
        log.auto = False
        commit = asyncio.create_task(coordinator.commit_offsets(commit_request("g", {("t", 0): 1})))
        await settled()
        log.elect(1)
        await under_test.metadata()
        await settled()
        assert commit.result().errors == (ErrorCode.NOT_COORDINATOR,)
        loading = await coordinator.fetch_offsets(fetch_request("g", ("t", 0)))
        assert loading.error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        log.replicate()
        await under_test.loaded()
        fetched = await coordinator.fetch_offsets(fetch_request("g", ("t", 0)))
        assert fetched.offsets[0].offset == 1  # it was in the log, so it counts

    run(scenario, brokers=(1, 2, 3))


def test_rule_21_a_deposed_coordinator_tells_nothing_once_another_has_begun() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator, log = under_test.coordinator, under_test.log
        await coordinator.commit_offsets(commit_request("g", {("t", 0): 1}))
        log.auto = False
        log.elect(2)
        assert (await coordinator.fetch_offsets(fetch_request("g", ("t", 0)))).offsets[0].offset == 1
        log.tell(2)
        assert (await coordinator.fetch_offsets(fetch_request("g", ("t", 0)))).error is ErrorCode.NOT_COORDINATOR

    run(scenario, brokers=(1, 2, 3))


def test_rule_21_nothing_loaded_is_shown_before_the_replicas_have_it() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        log = under_test.log
        member_id, generation = await under_test.joined("g")
        log.auto = False
        commit = asyncio.create_task(under_test.coordinator.commit_offsets(commit_request("other", {("t", 0): 1})))
        await settled()
        log.elect(1)
        await under_test.metadata()
        assert (await commit).errors == (ErrorCode.NOT_COORDINATOR,)
        for _ in range(5):
            await asyncio.sleep(1)
            fetched = await under_test.coordinator.fetch_offsets(fetch_request("other", ("t", 0)))
            assert fetched.error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            # Members need not know: they are taken for alive.
            assert under_test.heartbeat("g", member_id, generation) is NONE
        log.replicate()
        await under_test.loaded()
        assert under_test.heartbeat("g", member_id, generation) is NONE

    run(scenario, brokers=(1, 2, 3))


def test_records_that_cannot_be_read_are_passed_over() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        log = under_test.log
        good = offset_record(OffsetKey("g", "t", 1), OffsetValue(Offset(3), None, "", 0))
        log.replicas[1].batches.append(
            Batch(
                0,
                (
                    GroupRecord(b"", None),
                    GroupRecord(b"\x00", b"x"),
                    GroupRecord(b"\x00\x63rest", b"of a kind from the future"),
                    GroupRecord(b"\x00\x02\x00\x01g", b"\x00\x63"),
                    GroupRecord(b"\x00\x02\x00\x01h", b"\x00\x03garbage"),
                    GroupRecord(offset_record(OffsetKey("g", "t", 0), None).key, b"\x00\x03"),
                    GroupRecord(b"\x00\x05\x00\x01g\x00\x01m", b"\x00"),
                    good,
                ),
            )
        )
        log.replicate()
        await under_test.failover()
        _, groups = await under_test.coordinator.list_groups((), ())
        assert [group.group_id for group in groups] == ["g"]
        fetched = await under_test.coordinator.fetch_offsets(fetch_request("g", ("t", 0), ("t", 1)))
        assert [each.offset for each in fetched.offsets] == [None, 3]

    run(scenario)


def test_silent_members_are_expired_and_the_empty_group_is_in_the_log() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        member_id, generation = await under_test.joined("g")
        await asyncio.sleep(9)
        assert under_test.heartbeat("g", member_id, generation) is NONE
        await asyncio.sleep(9)
        assert under_test.heartbeat("g", member_id, generation) is NONE
        await asyncio.sleep(11)
        assert under_test.heartbeat("g", member_id, generation) is ErrorCode.UNKNOWN_MEMBER_ID
        await under_test.failover()
        _, groups = await under_test.coordinator.list_groups((), ())
        assert [group.state for group in groups] == [GroupState.EMPTY]

    run(scenario)


def test_a_client_that_is_gone_while_it_waits_is_forgotten() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        first = await coordinator.join(join_request("g"))
        await coordinator.sync(sync_request("g", first))
        second = asyncio.create_task(coordinator.join(join_request("g")))
        await settled()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        rejoined = await coordinator.join(join_request("g", first.member_id))
        assert rejoined.error is NONE
        assert [member.member_id for member in rejoined.members] == [first.member_id]

    run(scenario)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"group_id": "x" * 40_000}, ErrorCode.INVALID_GROUP_ID),
        ({"session_timeout_ms": 5_999}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_timeout_ms": 1_800_001}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"client_id": "ü" * 20_000}, ErrorCode.INVALID_REQUEST),
        ({"member_id": "gone"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_joins_that_are_refused(changes: dict[str, Any], error: ErrorCode) -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        assert (await under_test.coordinator.join(replace(join_request("g"), **changes))).error is error
        assert await under_test.coordinator.list_groups((), ()) == (NONE, [])

    run(scenario)


def test_leaving_a_group_that_is_not_there() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        member = LeavingMember("m", None)
        answer = await under_test.coordinator.leave(LeaveRequest("g", (member,)))
        assert (answer.error, answer.members) == (NONE, ((member, ErrorCode.UNKNOWN_MEMBER_ID),))

    run(scenario)


def test_empty_groups_change_their_type_and_keep_their_offsets() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        member_id, generation = await under_test.joined("g")
        await coordinator.commit_offsets(commit_request("g", {("t", 0): 4}, generation=generation, member_id=member_id))
        answer = await coordinator.consumer_group_heartbeat(consumer_heartbeat("g", "new", 0))
        assert answer.error is ErrorCode.GROUP_ID_NOT_FOUND  # it has members of the classic protocol
        await coordinator.leave(LeaveRequest("g", (LeavingMember(member_id, None),)))
        answer = await coordinator.consumer_group_heartbeat(consumer_heartbeat("g", "new", 0))
        assert (answer.error, answer.assignment) == (NONE, {UUID(int=2): tuple(range(8))})
        assert (await coordinator.join(join_request("g"))).error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        await under_test.failover()
        (group,) = (await coordinator.list_groups((), ("Consumer",)))[1]
        assert (group.type, group.state) == (GroupType.CONSUMER, GroupState.STABLE)
        (described,) = await coordinator.consumer_group_describe(["g"])
        assert [member.member_id for member in described.members] == ["new"]
        left = await coordinator.consumer_group_heartbeat(consumer_heartbeat("g", "new", -1))
        assert left.error is NONE
        await under_test.joined("g")
        await under_test.failover()
        (group,) = (await coordinator.list_groups((), ()))[1]
        assert (group.type, group.state) == (GroupType.CLASSIC, GroupState.STABLE)
        fetched = await coordinator.fetch_offsets(fetch_request("g", ("t", 0)))
        assert fetched.offsets[0].offset == 4

    run(scenario)


@pytest.mark.parametrize(("epoch", "error"), [(-3, "MemberEpoch is invalid."), (-2, "InstanceId can't be null.")])
def test_a_heartbeat_that_cannot_be_right_is_told_so_also_where_there_is_no_group(epoch: int, error: str) -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        answer = await under_test.coordinator.consumer_group_heartbeat(consumer_heartbeat("g", "m", epoch))
        assert (answer.error, answer.message) == (ErrorCode.INVALID_REQUEST, error)
        answer = await under_test.coordinator.consumer_group_heartbeat(consumer_heartbeat("g", "m", 5))
        assert answer.error is ErrorCode.GROUP_ID_NOT_FOUND

    run(scenario)


def test_a_refused_first_heartbeat_leaves_nothing_behind() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        request = consumer_heartbeat("g", "m", 0, server_assignor="unheard-of")
        assert (await coordinator.consumer_group_heartbeat(request)).error is ErrorCode.UNSUPPORTED_ASSIGNOR
        under_test.log.append_errors.append(ErrorCode.NOT_ENOUGH_REPLICAS)
        answer = await coordinator.consumer_group_heartbeat(consumer_heartbeat("g", "m", 0))
        assert answer.error is ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert await coordinator.list_groups((), ()) == (NONE, [])

    run(scenario)


def test_lists_are_filtered_by_state_and_type_in_any_case() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        await coordinator.commit_offsets(commit_request("empty", {("t", 0): 1}))
        await under_test.joined("stable")
        await coordinator.consumer_group_heartbeat(consumer_heartbeat("new", "m", 0))

        async def names(states: tuple[str, ...], types: tuple[str, ...]) -> set[str]:
            error, groups = await coordinator.list_groups(states, types)
            assert error is NONE
            return {group.group_id for group in groups}

        assert await names((), ()) == {"empty", "stable", "new"}
        assert await names(("stable",), ()) == {"stable", "new"}
        assert await names(("EMPTY", "Dead"), ()) == {"empty"}
        assert await names((), ("classic",)) == {"empty", "stable"}
        assert await names(("Stable",), ("consumer",)) == {"new"}
        assert await names(("NoSuchState",), ()) == set()

    run(scenario)


def test_groups_are_found_once_their_topic_is_there() -> None:
    async def main(loop: Any) -> None:
        under_test = CoordinatorUnderTest(loop)
        coordinator = under_test.coordinator
        under_test.create_error = ErrorCode.INVALID_REPLICATION_FACTOR
        assert await coordinator.find("g") is ErrorCode.COORDINATOR_NOT_AVAILABLE
        under_test.create_error = NONE
        found = await asyncio.gather(*(coordinator.find(f"g{number}") for number in range(10)))
        assert found == [1] * 10
        assert len(under_test.commands) == 2  # each attempt but once, however many asked
        (topic,) = under_test.commands[1].create_topics.topics
        assert (topic.num_partitions, topic.replication_factor) == (50, -1)
        assert dict(topic.configs) == {
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": "104857600",
        }
        await coordinator.shutdown()

    run_virtual(main)


def test_rule_21_a_heartbeat_is_not_told_of_what_only_an_append_of_unknown_outcome_has() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        log, coordinator = under_test.log, under_test.coordinator
        log.auto = False
        join = consumer_heartbeat("g", "m", 0)
        first = asyncio.create_task(coordinator.consumer_group_heartbeat(join))
        await settled()
        log.time_out(1)
        assert (await first).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
        second = asyncio.create_task(coordinator.consumer_group_heartbeat(join))
        await settled()
        assert not second.done()  # the replicas have nothing of it yet
        log.time_out(1)
        assert (await second).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
        third = asyncio.create_task(coordinator.consumer_group_heartbeat(join))
        await settled()
        log.replicate()
        answer = await third
        assert (answer.error, answer.member_epoch) == (NONE, 1)
        assert answer.assignment

    run(scenario, brokers=(1, 2))


def test_records_of_a_group_ahead_of_those_that_say_that_it_exists_are_loaded() -> None:
    """As compaction leaves them: what was written first and never again stands first."""

    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator, replica = under_test.coordinator, under_test.log.replicas[1]
        await coordinator.consumer_group_heartbeat(consumer_heartbeat("g", "m", 0))
        answer = await coordinator.consumer_group_heartbeat(
            consumer_heartbeat("g", "m", 1, subscribed_topic_names=("t", "not there"))
        )
        assert (answer.error, answer.member_epoch) == (NONE, 2)
        before = await coordinator.consumer_group_describe(["g"])
        assert before[0].members[0].target_assignment
        last = {record.key: record for batch in replica.batches for record in batch.records}
        newest_last: dict[bytes, GroupRecord] = {}
        for batch in replica.batches:
            for record in batch.records:
                if last[record.key] is record:
                    newest_last[record.key] = record
        replica.batches[:] = [Batch(0, tuple(newest_last.values()))]
        replica.high_watermark = 1
        await under_test.failover()
        assert await coordinator.consumer_group_describe(["g"]) == before

    run(scenario)


def test_a_record_that_names_a_member_twice_is_passed_over() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        member = MemberMetadata("m", None, "c", "/h", 10_000, 10_000, b"", b"")
        metadata = GroupMetadata("consumer", 3, "range", "m", 0, (member, member))
        under_test.log.replicas[1].batches.append(Batch(0, (group_metadata_record("g", metadata, 0),)))
        under_test.log.replicate()
        await under_test.failover()
        assert await under_test.coordinator.list_groups((), ()) == (NONE, [])

    run(scenario)


def test_others_have_their_turn_while_many_groups_are_described() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        names = [f"g{number}" for number in range(5_000)]
        asked = asyncio.create_task(under_test.coordinator.describe_groups(names))
        tasks = 0
        while not asked.done():
            tasks = max(tasks, len(asyncio.all_tasks()))
            await asyncio.sleep(0)
        assert tasks < 1_000
        assert [group.group_id for group in await asked] == names

    run(scenario)
