"""Offsets through the coordinator: what is committed, shown, deleted and expired, and when it may be said (rule 21)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from harness.coordinator import CoordinatorUnderTest, commit_request, fetch_request, join_request
from harness.virtual_loop import run_virtual
from klamm.broker.groups.group_config import GroupConfig
from klamm.broker.groups.group_request import GroupState, LeaveRequest, LeavingMember, OffsetFetchRequest
from klamm.broker.groups.shard_offsets import ShardOffsets
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import TopicId

NONE = ErrorCode.NONE
DAY_MS = 24 * 3600 * 1000


def run(scenario: Callable[[CoordinatorUnderTest], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Runs it on a coordinator of one partition that it leads."""

    async def main(loop: Any) -> None:
        async with CoordinatorUnderTest(loop, **options) as coordinator:
            await scenario(coordinator)

    run_virtual(main)


async def settled() -> None:
    """Lets everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def committed(under_test: CoordinatorUnderTest, group: str = "g", *, stable: bool = False) -> dict[Any, Any]:
    answer = await under_test.coordinator.fetch_offsets(OffsetFetchRequest(group, None, require_stable=stable))
    assert answer.error is NONE
    return {(each.topic, each.partition): each.offset for each in answer.offsets}


def test_a_commit_from_outside_makes_a_simple_group_and_is_fetched() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        answer = await under_test.coordinator.commit_offsets(commit_request("g", {("t", 0): 5, ("t", 3): 7}))
        assert answer.errors == (NONE, NONE)
        fetched = await under_test.coordinator.fetch_offsets(fetch_request("g", ("t", 3), ("t", 1)))
        assert [(each.partition, each.offset, each.metadata) for each in fetched.offsets] == [
            (3, 7, "m"),
            (1, None, ""),
        ]
        assert await committed(under_test) == {("t", 0): 5, ("t", 3): 7}
        error, groups = await under_test.coordinator.list_groups((), ())
        assert error is NONE
        assert [(group.group_id, group.state, group.protocol_type) for group in groups] == [("g", GroupState.EMPTY, "")]

    run(scenario)


def test_what_a_commit_must_not_name() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        commit = under_test.coordinator.commit_offsets
        answer = await commit(commit_request("g", {("gone", 0): 1, ("t", 0): 2, ("t", 8): 3, ("t", -1): 4}))
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert answer.errors == (unknown, NONE, unknown, unknown)
        assert (await commit(commit_request("g", {("t", 0): 1}, metadata="x" * 4097))).errors == (
            ErrorCode.OFFSET_METADATA_TOO_LARGE,
        )
        assert (await commit(commit_request("g", {("t", 0): 9}, metadata="x" * 4096))).errors == (NONE,)
        assert (await commit(commit_request("x" * 40_000, {("t", 0): 9}))).errors == (ErrorCode.INVALID_GROUP_ID,)
        assert (await commit(commit_request("", {("t", 0): 9}))).errors == (NONE,)
        assert (await commit(commit_request("g", {}))).errors == ()

    run(scenario)


@pytest.mark.parametrize(
    ("understands", "error"), [(False, ErrorCode.ILLEGAL_GENERATION), (True, ErrorCode.GROUP_ID_NOT_FOUND)]
)
def test_a_member_of_an_unknown_group_cannot_commit(understands: bool, error: ErrorCode) -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        request = commit_request("g", {("t", 0): 1}, generation=3, member_id="m", understands_member_epochs=understands)
        assert (await under_test.coordinator.commit_offsets(request)).errors == (error,)
        assert await under_test.coordinator.list_groups((), ()) == (NONE, [])

    run(scenario)


def test_rule_21_a_commit_counts_for_the_current_generation_and_member_alone() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        member_id, generation = await under_test.joined("g")
        commit = under_test.coordinator.commit_offsets

        async def error_of(**options: Any) -> ErrorCode:
            error: ErrorCode = (await commit(commit_request("g", {("t", 0): 5}, **options))).errors[0]
            return error

        assert await error_of(generation=generation, member_id=member_id) is NONE
        assert await error_of(generation=generation - 1, member_id=member_id) is ErrorCode.ILLEGAL_GENERATION
        assert await error_of(generation=generation + 1, member_id=member_id) is ErrorCode.ILLEGAL_GENERATION
        assert await error_of(generation=generation, member_id="other") is ErrorCode.UNKNOWN_MEMBER_ID
        assert await error_of() is ErrorCode.UNKNOWN_MEMBER_ID
        assert under_test.log.batches_appended == 2  # the assignment and the one good commit

    run(scenario)


def test_commits_of_one_moment_are_one_batch_in_their_order() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        commit = under_test.coordinator.commit_offsets
        answers = await asyncio.gather(*(commit(commit_request("g", {("t", 0): offset})) for offset in range(50)))
        assert all(answer.errors == (NONE,) for answer in answers)
        assert under_test.log.batches_appended == 1
        assert await committed(under_test) == {("t", 0): 49}

    run(scenario)


def test_a_commit_that_no_batch_can_hold_fails_alone() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        under_test.log.max_batch_bytes = 3_000
        commit = under_test.coordinator.commit_offsets
        small, large, after = await asyncio.gather(
            commit(commit_request("a", {("t", 0): 1})),
            commit(commit_request("b", {("t", 0): 1, ("t", 1): 1}, metadata="x" * 2_000)),
            commit(commit_request("c", {("t", 0): 1})),
        )
        assert small.errors == after.errors == (NONE,)
        assert large.errors == (ErrorCode.INVALID_COMMIT_OFFSET_SIZE,) * 2
        assert await committed(under_test, "b") == {}
        _, groups = await under_test.coordinator.list_groups((), ())
        assert {group.group_id for group in groups} == {"a", "c"}  # nothing is left of the failed one

    run(scenario)


@pytest.mark.parametrize(
    ("of_append", "told"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
    ],
)
def test_errors_of_the_log_in_the_words_of_a_coordinator(of_append: ErrorCode, told: ErrorCode) -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        under_test.log.append_errors.append(of_append)
        answer = await under_test.coordinator.commit_offsets(commit_request("g", {("t", 0): 5}))
        assert answer.errors == (told,)
        assert await committed(under_test) == {}

    run(scenario)


def test_rule_21_a_commit_is_neither_acked_nor_shown_before_the_replicas_have_it() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        assert (await coordinator.commit_offsets(commit_request("g", {("t", 0): 1}))).errors == (NONE,)
        under_test.log.auto = False
        commit = asyncio.create_task(coordinator.commit_offsets(commit_request("g", {("t", 0): 2})))
        await settled()
        assert not commit.done()
        assert await committed(under_test) == {("t", 0): 1}
        stable = asyncio.create_task(committed(under_test, stable=True))
        await settled()
        assert not stable.done()
        under_test.log.replicate()
        assert (await commit).errors == (NONE,)
        assert await stable == {("t", 0): 2}
        assert await committed(under_test) == {("t", 0): 2}

    run(scenario, brokers=(1, 2, 3))


def test_rule_21_a_commit_whose_outcome_is_unknown_is_never_acked_and_may_still_appear() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        under_test.log.auto = False
        commit = asyncio.create_task(coordinator.commit_offsets(commit_request("g", {("t", 0): 2})))
        await settled()
        under_test.log.time_out(1)
        assert (await commit).errors == (ErrorCode.COORDINATOR_NOT_AVAILABLE,)
        assert await committed(under_test) == {}
        under_test.log.replicate()
        assert await committed(under_test) == {("t", 0): 2}

    run(scenario, brokers=(1, 2, 3))


def test_rule_21_a_commit_is_seen_whatever_becomes_of_its_group_while_it_waits_for_its_turn() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        first = asyncio.create_task(coordinator.commit_offsets(commit_request("g", {("t", 0): 5})))
        refused = commit_request("g", {("t", 0): 6}, generation=3, member_id="m")
        second = asyncio.create_task(coordinator.commit_offsets(refused))  # of nothing, the group would be forgotten
        assert (await first).errors == (NONE,)
        assert (await second).errors == (ErrorCode.UNKNOWN_MEMBER_ID,)
        assert await committed(under_test) == {("t", 0): 5}
        _, groups = await coordinator.list_groups((), ())
        assert [group.group_id for group in groups] == ["g"]

    run(scenario)


def test_rule_21_a_commit_that_waits_for_its_turn_keeps_its_group_from_expiring() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        member_id, _ = await under_test.joined("g")
        await coordinator.leave(LeaveRequest("g", (LeavingMember(member_id, None),)))
        shard = coordinator._shards[0]
        commit = asyncio.create_task(coordinator.commit_offsets(commit_request("g", {("t", 0): 5})))
        expiry = asyncio.create_task(ShardOffsets(shard).expire())  # in the same turn
        await expiry
        assert (await commit).errors == (NONE,)
        assert await committed(under_test) == {("t", 0): 5}

    run(scenario)


def test_commits_do_not_pile_up_where_nobody_fetches() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        offsets = under_test.coordinator._shards[0].offsets
        for offset in range(5):
            await under_test.coordinator.commit_offsets(commit_request("g", {("t", 0): offset}))
            assert offsets.pending_end_offset("g") is None
        assert len(offsets) == 1

    run(scenario)


def test_a_stable_fetch_gives_up_in_words_that_old_consumers_know() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        under_test.log.auto = False
        commit = asyncio.create_task(coordinator.commit_offsets(commit_request("g", {("t", 0): 2})))
        await settled()
        answer = await coordinator.fetch_offsets(OffsetFetchRequest("g", None, require_stable=True))
        assert answer.error is ErrorCode.NOT_COORDINATOR
        under_test.log.replicate()
        await commit

    run(scenario, brokers=(1, 2, 3))


def test_offset_delete_spares_what_the_group_reads() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        assert (await coordinator.delete_offsets("g", [("t", 0)])).error is ErrorCode.GROUP_ID_NOT_FOUND
        assert (await coordinator.delete_offsets("", [("t", 0)])).error is ErrorCode.INVALID_GROUP_ID
        member_id, generation = await under_test.joined("g", topics=("t",))
        request = commit_request(
            "g", {("t", 0): 1, ("u", 0): 2, ("u", 1): 3}, generation=generation, member_id=member_id
        )
        await coordinator.commit_offsets(request)
        answer = await coordinator.delete_offsets("g", [("t", 0), ("u", 0), ("gone", 0), ("u", 7)])
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert answer.errors == (ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, NONE, unknown, unknown)
        assert await committed(under_test) == {("t", 0): 1, ("u", 1): 3}
        await under_test.failover()
        assert await committed(under_test) == {("t", 0): 1, ("u", 1): 3}

    run(scenario, topics={"t": 8, "u": 2})


def test_deleted_groups_are_gone_with_their_offsets_for_good() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        await coordinator.commit_offsets(commit_request("simple", {("t", 0): 1}))
        member_id, _ = await under_test.joined("busy")
        answers = await coordinator.delete_groups(["simple", "busy", "unknown"])
        assert answers == [NONE, ErrorCode.NON_EMPTY_GROUP, ErrorCode.GROUP_ID_NOT_FOUND]
        left = await coordinator.leave(LeaveRequest("busy", (LeavingMember(member_id, None),)))
        assert left.error is NONE
        assert await coordinator.delete_groups(["busy"]) == [NONE]
        assert await committed(under_test, "simple") == {}
        await under_test.failover()
        assert await coordinator.list_groups((), ()) == (NONE, [])

    run(scenario)


def test_a_group_with_many_offsets_is_deleted_in_pieces_or_stays() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        wanted = {("t", number): number for number in range(4_000)}
        assert set((await coordinator.commit_offsets(commit_request("g", wanted))).errors) == {NONE}
        under_test.log.append_errors += [ErrorCode.NOT_ENOUGH_REPLICAS]
        assert await coordinator.delete_groups(["g"]) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        assert await committed(under_test) == wanted
        before = under_test.log.batches_appended
        assert await coordinator.delete_groups(["g"]) == [NONE]
        assert under_test.log.batches_appended - before > 2
        assert await committed(under_test) == {}

    run(scenario, topics={"t": 4_000})


def test_offsets_of_a_simple_group_expire_each_after_its_own_commit() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        await coordinator.commit_offsets(commit_request("g", {("t", 0): 1}))
        await asyncio.sleep(3600)
        await coordinator.commit_offsets(commit_request("g", {("t", 1): 1}))
        await asyncio.sleep(7 * 24 * 3600 - 3600 + 600)
        assert await committed(under_test) == {("t", 1): 1}
        await asyncio.sleep(3600)
        assert await committed(under_test) == {}
        assert await coordinator.list_groups((), ()) == (NONE, [])
        await under_test.failover()
        assert await committed(under_test) == {}

    run(scenario)


def test_offsets_of_an_empty_group_expire_together_once_it_is_empty_long_enough() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        member_id, generation = await under_test.joined("g", session_timeout_ms=1_800_000)
        request = commit_request("g", {("t", 0): 1, ("t", 1): 2}, generation=generation, member_id=member_id)
        await coordinator.commit_offsets(request)
        for _ in range(9 * 24 * 3):  # nine days in which it lives
            await asyncio.sleep(1200)
            assert under_test.heartbeat("g", member_id, generation) is NONE
        assert await committed(under_test) == {("t", 0): 1, ("t", 1): 2}
        await coordinator.leave(LeaveRequest("g", (LeavingMember(member_id, None),)))
        await asyncio.sleep(7 * 24 * 3600 - 600)
        assert len(await committed(under_test)) == 2
        await asyncio.sleep(1300)
        assert await committed(under_test) == {}
        assert await coordinator.list_groups((), ()) == (NONE, [])

    run(scenario)


def test_an_expiry_time_of_its_own_counts_instead_of_the_retention() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        expires_ms = under_test.clock.wall_ms() + 3_000_000
        request = commit_request("g", {("t", 0): 1}, expire_timestamp_ms=expires_ms)
        await under_test.coordinator.commit_offsets(request)
        await under_test.failover()
        await asyncio.sleep(2_400)
        assert await committed(under_test) == {("t", 0): 1}
        await asyncio.sleep(1_300)
        assert await committed(under_test) == {}

    run(scenario)


def test_rule_28_a_jump_of_the_clock_moves_expiry_alone() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        await under_test.coordinator.commit_offsets(commit_request("g", {("t", 0): 1}))
        under_test.clock.wall_offset_ms -= 30 * DAY_MS
        await asyncio.sleep(700)
        await under_test.coordinator.commit_offsets(commit_request("g", {("t", 0): 2}))
        assert await committed(under_test) == {("t", 0): 2}
        under_test.clock.wall_offset_ms += 60 * DAY_MS
        await asyncio.sleep(700)
        assert await committed(under_test) == {}

    run(scenario)


def test_offsets_of_a_deleted_topic_go_at_once_and_after_a_failover() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        await coordinator.commit_offsets(commit_request("g", {("t", 0): 1, ("u", 0): 2}))
        await under_test.metadata(topics={"t": 8, "u": 2}, topic_ids={"u": TopicId(int=77)})  # made again
        assert await committed(under_test) == {("t", 0): 1}
        await coordinator.commit_offsets(commit_request("g", {("u", 1): 5}))
        await under_test.failover(topics={"t": 8})  # deleted while nobody coordinated
        assert await committed(under_test) == {("t", 0): 1}
        await under_test.failover(topics={"t": 8, "u": 2})
        assert await committed(under_test) == {("t", 0): 1}

    run(scenario, topics={"t": 8, "u": 2})


def test_a_commit_of_which_nothing_is_taken_makes_no_group() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        answer = await under_test.coordinator.commit_offsets(commit_request("g", {("t", 0): 1}, metadata="x" * 5_000))
        assert answer.errors == (ErrorCode.OFFSET_METADATA_TOO_LARGE,)
        assert await under_test.coordinator.list_groups((), ()) == (NONE, [])

    run(scenario)


def test_so_many_groups_and_no_more() -> None:
    async def scenario(under_test: CoordinatorUnderTest) -> None:
        coordinator = under_test.coordinator
        for number in range(3):
            assert (await coordinator.commit_offsets(commit_request(f"g{number}", {("t", 0): 1}))).errors == (NONE,)
        full = ErrorCode.GROUP_MAX_SIZE_REACHED
        assert (await coordinator.commit_offsets(commit_request("g3", {("t", 0): 1}))).errors == (full,)
        assert (await coordinator.join(join_request("g4"))).error is full
        await coordinator.delete_groups(["g0"])
        assert (await coordinator.commit_offsets(commit_request("g3", {("t", 0): 1}))).errors == (NONE,)

    run(scenario, config=GroupConfig(max_groups=3))


def test_without_the_topic_nobody_coordinates() -> None:
    async def main(loop: Any) -> None:
        under_test = CoordinatorUnderTest(loop)
        coordinator = under_test.coordinator
        assert (await coordinator.commit_offsets(commit_request("g", {}))).errors == ()
        assert (await coordinator.fetch_offsets(fetch_request("g"))).error is ErrorCode.NOT_COORDINATOR
        assert await coordinator.list_groups((), ()) == (NONE, [])
        await coordinator.shutdown()
        assert (await coordinator.list_groups((), ()))[0] is ErrorCode.COORDINATOR_NOT_AVAILABLE

    run_virtual(main)
