"""The classic protocol, request by request: what Apache Kafka's coordinator answers in each state."""

from __future__ import annotations

from typing import Any

import pytest
from harness.classic_groups import (
    LATER,
    REBALANCE_MS,
    SESSION_MS,
    Shell,
    assign,
    commit,
    join,
    leave,
    new_member,
    settle,
    stable,
    sync,
)
from klamm.broker.groups.group_config import GroupConfig
from klamm.broker.groups.group_request import GroupState, GroupType
from klamm.broker.groups.records import parse_group_metadata
from klamm.proto.consumer_protocol import ConsumerProtocolSubscription
from klamm.proto.errors import ErrorCode

NONE = ErrorCode.NONE
TWO = (("range", b"r"), ("sticky", b"s"))


def preparing(shell: Shell, count: int = 2) -> list[Any]:
    """A group of so many members that has begun to rebalance because one more joined; the old answers."""
    answers = stable(shell, count)
    new_member(shell)
    assert shell.group.state is GroupState.PREPARING_REBALANCE
    return answers


# --- joining ------------------------------------------------------------------------------------------------------


def test_a_first_member_joins_syncs_and_is_stable() -> None:
    shell = Shell()
    asked = shell.join(join())
    assert asked.answer.error is ErrorCode.MEMBER_ID_REQUIRED
    assert asked.answer.member_id == "client-1"
    joined = shell.join(join("client-1"))
    assert joined.answer.error is NONE
    assert joined.answer.generation_id == 1
    assert (joined.answer.leader, joined.answer.member_id) == ("client-1", "client-1")
    assert (joined.answer.protocol_type, joined.answer.protocol_name) == ("consumer", "range")
    assert [(member.member_id, member.metadata) for member in joined.answer.members] == [("client-1", b"r")]
    synced = shell.sync(sync(joined.answer, {"client-1": b"all"}))
    assert synced.answer is LATER
    shell.commit()
    assert (synced.answer.error, synced.answer.assignment) == (NONE, b"all")
    assert (synced.answer.protocol_type, synced.answer.protocol_name) == ("consumer", "range")
    assert shell.group.state is GroupState.STABLE


def test_clients_before_kip_394_join_at_once() -> None:
    joined = Shell().join(join(require_known_member_id=False))
    assert (joined.answer.error, joined.answer.member_id) == (NONE, "client-1")


def test_static_members_join_at_once() -> None:
    joined = Shell().join(join(group_instance_id="i-1"))
    assert (joined.answer.error, joined.answer.member_id) == (NONE, "i-1-1")


def test_a_member_id_that_was_given_out_expires() -> None:
    shell = Shell()
    asked = shell.join(join())
    shell.advance(SESSION_MS)
    assert shell.join(join(asked.answer.member_id)).answer.error is ErrorCode.UNKNOWN_MEMBER_ID


def test_no_more_member_ids_are_kept_than_the_group_may_have_members() -> None:
    shell = Shell(GroupConfig(max_size=3))
    ids = [shell.join(join()).answer.member_id for _ in range(5)]
    assert shell.join(join(ids[1])).answer.error is ErrorCode.UNKNOWN_MEMBER_ID
    calls = [shell.join(join(member_id)) for member_id in ids[2:]]
    assert [call.answer.error for call in calls] == [NONE] * 3


def test_an_unknown_member_id_is_refused() -> None:
    shell = Shell()
    refused = shell.join(join("stranger"))
    assert (refused.answer.error, refused.answer.member_id) == (ErrorCode.UNKNOWN_MEMBER_ID, "stranger")
    stable(shell, 1)
    assert shell.join(join("stranger")).answer.error is ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001, 0, -1])
def test_session_time_outs_have_limits(session_ms: int) -> None:
    refused = Shell().join(join(session_timeout_ms=session_ms))
    assert refused.answer.error is ErrorCode.INVALID_SESSION_TIMEOUT


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"group_id": "g" * 40_000}, ErrorCode.INVALID_GROUP_ID),
        ({"group_instance_id": "i" * 40_000}, ErrorCode.INVALID_REQUEST),
        ({"client_id": "c" * 32_760}, ErrorCode.INVALID_REQUEST),
        ({"protocols": (("p" * 40_000, b""),)}, ErrorCode.INVALID_REQUEST),
        ({"protocol_type": ""}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocols": ()}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ],
)
def test_joins_that_make_no_sense(changes: dict[str, Any], error: ErrorCode) -> None:
    shell = Shell()
    assert shell.join(join(**changes)).answer.error is error
    assert shell.group.state is GroupState.EMPTY


def test_protocols_must_be_shared() -> None:
    shell = Shell()
    stable(shell, 1)
    assert shell.join(join(protocol_type="connect")).answer.error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert shell.join(join(protocols=(("other", b""),))).answer.error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert shell.group.state is GroupState.STABLE


def test_the_protocol_is_chosen_by_vote_among_those_that_all_speak() -> None:
    shell = Shell(GroupConfig(initial_rebalance_delay_ms=100))
    calls = [
        new_member(shell, protocols=(("a", b""), ("b", b"1"), ("c", b""))),
        new_member(shell, protocols=(("c", b""), ("b", b"2"))),
        new_member(shell, protocols=(("b", b"3"), ("c", b""), ("d", b""))),
    ]
    shell.advance(REBALANCE_MS)
    assert [call.answer.protocol_name for call in calls] == ["b", "b", "b"]
    assert [member.metadata for member in calls[0].answer.members] == [b"1", b"2", b"3"]


def test_a_second_member_waits_for_the_first_to_join_again() -> None:
    shell = Shell()
    (first,) = stable(shell, 1)
    second = new_member(shell)
    assert second.answer is LATER
    assert shell.heartbeat(first) is ErrorCode.REBALANCE_IN_PROGRESS
    again = shell.join(join(first.member_id))
    assert (again.answer.generation_id, second.answer.generation_id) == (2, 2)
    assert again.answer.leader == second.answer.leader == first.member_id
    assert len(again.answer.members) == 2
    assert second.answer.members == ()
    answers = [again.answer, second.answer]
    assert settle(shell, answers) == list(assign(answers).values())


def test_a_follower_that_joins_a_stable_group_again_changes_nothing() -> None:
    shell = Shell()
    leader, follower = stable(shell, 2)
    again = shell.join(join(follower.member_id)).answer
    assert (again.error, again.generation_id, again.leader) == (NONE, leader.generation_id, leader.member_id)
    assert shell.group.state is GroupState.STABLE
    assert shell.sync(sync(again)).answer.assignment == assign([again])[follower.member_id]


def test_a_leader_that_joins_a_stable_group_again_rebalances_it() -> None:
    shell = Shell()
    leader, follower = stable(shell, 2)
    waits = shell.join(join(leader.member_id))
    assert waits.answer is LATER
    assert shell.group.state is GroupState.PREPARING_REBALANCE
    shell.join(join(follower.member_id))
    assert waits.answer.generation_id == leader.generation_id + 1


def test_new_metadata_rebalances_a_stable_group() -> None:
    shell = Shell()
    _, follower = stable(shell, 2)
    assert shell.join(join(follower.member_id, protocols=(("range", b"new"),))).answer is LATER
    assert shell.group.state is GroupState.PREPARING_REBALANCE


def test_a_member_whose_answer_was_lost_joins_again_and_the_generation_goes_on() -> None:
    shell = Shell()
    leader = new_member(shell).answer
    again = shell.join(join(leader.member_id)).answer
    assert again == leader
    assert shell.group.state is GroupState.COMPLETING_REBALANCE
    changed = shell.join(join(leader.member_id, protocols=TWO)).answer
    assert changed.generation_id == leader.generation_id + 1


def test_a_join_while_the_leader_assigns_sends_everybody_back() -> None:
    shell = Shell()
    stable(shell, 2)
    leader, follower = rejoin(shell)
    waits = shell.sync(sync(follower))
    assert waits.answer is LATER
    new_member(shell)
    assert waits.answer.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert shell.sync(sync(leader, {})).answer.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert not shell.waiting


def rejoin(shell: Shell) -> list[Any]:
    """All members of a stable group of dynamic members join again, the leader first."""
    members = [member.member_id for member in shell.group.described().members]
    calls = [shell.join(join(member_id)) for member_id in members]
    return [call.answer for call in calls]


def test_a_second_join_under_one_id_ends_the_wait_of_the_first() -> None:
    shell = Shell()
    answers = preparing(shell)
    older = shell.join(join(answers[0].member_id))
    newer = shell.join(join(answers[0].member_id))
    assert older.answer.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert newer.answer is LATER
    shell.join(join(answers[1].member_id))
    assert newer.answer.error is NONE


def test_a_second_sync_under_one_id_ends_the_wait_of_the_first() -> None:
    shell = Shell()
    stable(shell, 2)
    leader, follower = rejoin(shell)
    older, newer = shell.sync(sync(follower)), shell.sync(sync(follower))
    assert older.answer.error is ErrorCode.REBALANCE_IN_PROGRESS
    settle(shell, [leader])
    assert newer.answer.error is NONE


# --- the size of a group ------------------------------------------------------------------------------------------


def test_a_full_group_takes_nobody_in() -> None:
    shell = Shell(GroupConfig(max_size=2))
    stable(shell, 2)
    refused = shell.join(join())
    assert (refused.answer.error, refused.answer.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")
    assert shell.group.state is GroupState.STABLE


def test_a_pending_member_that_finds_the_group_full_is_forgotten() -> None:
    shell = Shell(GroupConfig(max_size=2))
    (first,) = stable(shell, 1)
    late = shell.join(join(session_timeout_ms=2 * REBALANCE_MS)).answer.member_id
    new_member(shell)
    waits = shell.join(join(first.member_id))
    shell.advance(REBALANCE_MS - 1)
    assert waits.answer is LATER, "the pending one may still come"
    shell.advance(1)
    assert len(waits.answer.members) == 2
    assert shell.join(join(late)).answer.error is ErrorCode.GROUP_MAX_SIZE_REACHED
    shell.leave(leave((first.member_id, None)))
    assert shell.join(join(late)).answer.error is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_group_that_became_too_large_loses_the_last_to_join() -> None:
    shell = Shell()
    answers = stable(shell, 3)
    shell.config = GroupConfig(max_size=2)
    shell.reload()
    assert shell.group.state is GroupState.PREPARING_REBALANCE
    first, second, third = [shell.join(join(answer.member_id)) for answer in answers]
    assert third.answer.error is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert (first.answer.error, second.answer.error) == (NONE, NONE)
    assert len(first.answer.members) == 2


# --- the first rebalance ------------------------------------------------------------------------------------------


def test_the_first_rebalance_waits_and_longer_while_members_arrive() -> None:
    shell = Shell(GroupConfig(initial_rebalance_delay_ms=3_000))
    first = new_member(shell)
    shell.advance(2_999)
    second = new_member(shell)
    shell.advance(2_999)
    assert first.answer is LATER
    shell.advance(2)
    assert (first.answer.generation_id, second.answer.generation_id) == (1, 1)


def test_the_first_rebalance_waits_no_longer_than_the_rebalance_time_out() -> None:
    shell = Shell(GroupConfig(initial_rebalance_delay_ms=3_000))
    first = new_member(shell, rebalance_timeout_ms=7_000)
    for _ in range(14):
        assert first.answer is LATER
        shell.advance(500)
        new_member(shell, rebalance_timeout_ms=7_000)
    assert first.answer.error is NONE


def test_without_delay_the_first_rebalance_waits_for_those_on_their_way_back() -> None:
    shell = Shell()
    ids = [shell.join(join()).answer.member_id for _ in range(5)]
    calls = [shell.join(join(member_id)) for member_id in ids]
    assert [call.answer.generation_id for call in calls] == [1] * 5


def test_a_client_that_never_comes_back_delays_the_first_rebalance_by_a_moment() -> None:
    shell = Shell()
    shell.join(join())
    call = new_member(shell)
    assert call.answer is LATER
    shell.advance(500)
    assert call.answer.error is NONE


# --- time ---------------------------------------------------------------------------------------------------------


def test_heartbeats_keep_a_member_and_silence_ends_its_session() -> None:
    shell = Shell()
    leader, follower = stable(shell, 2)
    for _ in range(4):
        shell.advance(SESSION_MS - 1)
        assert shell.heartbeat(leader) is NONE
        assert shell.heartbeat(follower) is NONE
    shell.advance(SESSION_MS - 1)
    assert shell.heartbeat(leader) is NONE
    shell.advance(1)
    assert shell.heartbeat(follower) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.heartbeat(leader) is ErrorCode.REBALANCE_IN_PROGRESS
    assert shell.join(join(leader.member_id)).answer.generation_id == leader.generation_id + 1


def test_a_heartbeat_wakes_nobody_and_the_group_is_looked_at_about_once_a_session() -> None:
    shell = Shell()
    answers = stable(shell, 5)
    looked = 0
    for _ in range(100):
        shell.clock.advance(1_000)
        for answer in answers:
            assert shell.heartbeat(answer) is NONE
        deadline = shell.group.next_deadline_ms()
        assert deadline is not None
        if deadline <= shell.now:
            looked += 1
            assert shell.group.tick(shell.now) == []
    assert looked <= 100 * 1_000 // (SESSION_MS - 1_000) + 1


def test_members_that_do_not_join_again_in_time_are_left_behind() -> None:
    shell = Shell()
    first, second, third = stable(shell, 3)
    waits = shell.join(join(first.member_id))
    for _ in range(REBALANCE_MS // 5_000):
        assert waits.answer is LATER
        shell.heartbeat(second)
        shell.heartbeat(third)
        shell.advance(5_000)
    assert waits.answer.error is NONE
    assert [member.member_id for member in waits.answer.members] == [first.member_id]
    assert shell.heartbeat(second) is ErrorCode.UNKNOWN_MEMBER_ID


def test_another_leads_when_the_leader_does_not_join_again() -> None:
    shell = Shell()
    leader, follower = stable(shell, 2)
    waits = shell.join(join(follower.member_id, protocols=TWO))
    shell.advance(REBALANCE_MS)
    assert waits.answer.leader == follower.member_id
    assert shell.heartbeat(leader) is ErrorCode.UNKNOWN_MEMBER_ID


def test_members_that_wait_are_alive_without_heartbeats() -> None:
    shell = Shell()
    first, second = stable(shell, 2)
    waits = shell.join(join(first.member_id))
    for _ in range(REBALANCE_MS // SESSION_MS - 1):
        shell.advance(SESSION_MS - 1)
        shell.heartbeat(second)
    shell.advance(SESSION_MS)
    assert waits.answer.error is NONE
    assert shell.heartbeat(waits.answer) is NONE


def test_a_new_member_that_waits_too_long_is_given_up() -> None:
    shell = Shell(GroupConfig(new_member_join_timeout_ms=20_000))
    (first,) = stable(shell, 1)
    waits = new_member(shell)
    for _ in range(4):
        shell.heartbeat(first)
        shell.advance(5_000)
    assert waits.answer.error is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.join(join(first.member_id)).answer.error is NONE


def test_a_member_that_never_syncs_is_taken_out_for_all_its_heartbeats() -> None:
    shell = Shell()
    stable(shell, 2)
    leader, follower = rejoin(shell)
    settle(shell, [leader])
    assert shell.group.state is GroupState.STABLE
    for _ in range(REBALANCE_MS // 5_000 - 1):
        shell.advance(5_000)
        assert (shell.heartbeat(leader), shell.heartbeat(follower)) == (NONE, NONE)
    shell.advance(5_000)
    assert shell.heartbeat(follower) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.heartbeat(leader) is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_leader_that_never_syncs_is_taken_out_and_the_others_join_again() -> None:
    shell = Shell()
    stable(shell, 2)
    leader, follower = rejoin(shell)
    waits = shell.sync(sync(follower))
    for _ in range(REBALANCE_MS // 5_000):
        shell.heartbeat(leader)
        shell.advance(5_000)
    assert waits.answer.error is ErrorCode.REBALANCE_IN_PROGRESS
    assert shell.join(join(follower.member_id)).answer.leader == follower.member_id


def test_a_group_whose_members_all_expire_is_empty_in_the_next_generation() -> None:
    shell = Shell()
    (leader,) = stable(shell, 1)
    shell.advance(SESSION_MS)
    assert shell.group.state is GroupState.EMPTY
    value = shell.log[-1].value
    assert value is not None
    metadata = parse_group_metadata(value)
    assert (metadata.generation, metadata.members, metadata.protocol) == (leader.generation_id + 1, (), None)
    assert (metadata.protocol_type, metadata.leader) == ("consumer", None)
    assert shell.group.next_deadline_ms() is None


# --- connections that break ---------------------------------------------------------------------------------------


def test_a_nameless_new_member_goes_with_its_connection() -> None:
    shell = Shell()
    (first,) = stable(shell, 1, require_known_member_id=False)
    lost = shell.join(join(require_known_member_id=False))
    shell.lose_connection(lost)
    shell.advance(0)
    again = shell.join(join(first.member_id))
    assert len(again.answer.members) == 1


def test_a_member_that_lost_its_connection_comes_back_to_the_same_rebalance() -> None:
    shell = Shell()
    first, second = stable(shell, 2)
    lost = shell.join(join(first.member_id))
    shell.lose_connection(lost)
    answer = shell.join(join(second.member_id)).answer
    assert answer.leader == second.member_id, "who waits leads, rather than one who may be gone"
    back = shell.join(join(first.member_id)).answer
    assert back.generation_id == answer.generation_id
    assert settle(shell, [answer, back])


def test_the_assignment_is_there_for_a_member_that_lost_its_connection_while_it_waited() -> None:
    shell = Shell()
    stable(shell, 2)
    leader, follower = rejoin(shell)
    shell.lose_connection(shell.sync(sync(follower)))
    settle(shell, [leader])
    again = shell.sync(sync(follower)).answer
    assert again.error is NONE


# --- leaving ------------------------------------------------------------------------------------------------------


def test_who_leaves_is_out_and_the_others_rebalance() -> None:
    shell = Shell()
    leader, follower = stable(shell, 2)
    answer = shell.leave(leave((follower.member_id, None))).answer
    assert (answer.error, [error for _, error in answer.members]) == (NONE, [NONE])
    assert shell.heartbeat(follower) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.join(join(leader.member_id)).answer.generation_id == leader.generation_id + 1


def test_the_last_to_leave_is_answered_when_it_is_committed() -> None:
    shell = Shell()
    (only,) = stable(shell, 1)
    left = shell.leave(leave((only.member_id, None)))
    assert shell.group.state is GroupState.EMPTY
    assert left.answer is LATER
    shell.commit()
    assert left.answer.error is NONE


def test_the_last_to_leave_is_told_when_it_could_not_be_written() -> None:
    shell = Shell()
    (only,) = stable(shell, 1)
    shell.refuse_next(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert shell.leave(leave((only.member_id, None))).answer.error is ErrorCode.NOT_COORDINATOR


def test_many_leave_at_once_each_by_its_own_name() -> None:
    shell = Shell()
    leader, follower, static = stable(shell, 2, static=1)
    pending = shell.join(join()).answer.member_id
    answer = shell.leave(
        leave(
            (follower.member_id, None),
            ("", "i-2"),
            ("", "i-9"),
            ("", None),
            ("stranger", None),
            (pending, None),
            (leader.member_id, "i-9"),
        )
    ).answer
    unknown = ErrorCode.UNKNOWN_MEMBER_ID
    assert [error for _, error in answer.members] == [NONE, NONE, unknown, unknown, unknown, NONE, unknown]
    assert [leaving.group_instance_id for leaving, _ in answer.members][1] == "i-2"
    assert shell.heartbeat(static, group_instance_id="i-2") is unknown
    assert shell.heartbeat(leader) is ErrorCode.REBALANCE_IN_PROGRESS


def test_who_waits_to_join_is_told_when_an_administrator_takes_it_out() -> None:
    shell = Shell()
    answers = preparing(shell)
    waits = shell.join(join(answers[0].member_id))
    shell.leave(leave((answers[0].member_id, None)))
    assert waits.answer.error is ErrorCode.UNKNOWN_MEMBER_ID


def test_leaving_an_empty_group() -> None:
    answer = Shell().leave(leave(("stranger", None))).answer
    assert [error for _, error in answer.members] == [ErrorCode.UNKNOWN_MEMBER_ID]


# --- syncing ------------------------------------------------------------------------------------------------------


def test_syncs_are_checked() -> None:
    shell = Shell()
    (leader,) = stable(shell, 1)
    assert shell.sync(sync(leader, member_id="stranger")).answer.error is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.sync(sync(leader, generation_id=9)).answer.error is ErrorCode.ILLEGAL_GENERATION
    inconsistent = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert shell.sync(sync(leader, protocol_type="connect")).answer.error is inconsistent
    assert shell.sync(sync(leader, protocol_name="sticky")).answer.error is inconsistent
    assert shell.sync(sync(leader, protocol_type=None, protocol_name=None)).answer.error is NONE
    assert Shell().sync(sync(leader)).answer.error is ErrorCode.UNKNOWN_MEMBER_ID


def test_members_that_the_leader_leaves_out_get_nothing() -> None:
    shell = Shell()
    stable(shell, 2)
    leader, follower = rejoin(shell)
    waits = shell.sync(sync(follower))
    shell.sync(sync(leader, {leader.member_id: b"all", "stranger": b"?"}))
    shell.commit()
    assert (waits.answer.error, waits.answer.assignment) == (NONE, b"")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
        (ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_REQUEST),
    ],
)
def test_an_assignment_that_cannot_be_written_is_made_anew(error: ErrorCode, told: ErrorCode) -> None:
    shell = Shell()
    leader = new_member(shell).answer
    shell.refuse_next(error)
    assert shell.sync(sync(leader, {leader.member_id: b"all"})).answer.error is told
    assert shell.group.state is GroupState.PREPARING_REBALANCE
    again = shell.join(join(leader.member_id)).answer
    assert again.generation_id == leader.generation_id + 1
    assert settle(shell, [again]) == list(assign([again]).values())


# --- offsets ------------------------------------------------------------------------------------------------------


def check_commit(shell: Shell, *request: Any) -> ErrorCode:
    return shell.group.check_offset_commit(commit(*request), shell.now)


def test_commits_from_outside_need_an_empty_group() -> None:
    shell = Shell()
    assert check_commit(shell, -1, "") is NONE
    assert check_commit(shell, -1, "somebody") is NONE
    assert check_commit(shell, 0, "somebody") is ErrorCode.UNKNOWN_MEMBER_ID
    stable(shell, 1)
    assert check_commit(shell, -1, "") is ErrorCode.UNKNOWN_MEMBER_ID
    assert check_commit(shell, -1, "somebody") is ErrorCode.UNKNOWN_MEMBER_ID


def test_members_commit_under_their_generation() -> None:
    shell = Shell()
    (leader,) = stable(shell, 1)
    assert check_commit(shell, 1, leader.member_id) is NONE
    assert check_commit(shell, 0, leader.member_id) is ErrorCode.ILLEGAL_GENERATION
    assert check_commit(shell, 1, "stranger") is ErrorCode.UNKNOWN_MEMBER_ID
    assert check_commit(shell, 1, leader.member_id, "i-1") is ErrorCode.UNKNOWN_MEMBER_ID


def test_members_may_still_commit_while_the_next_generation_gathers_but_not_once_it_has_begun() -> None:
    shell = Shell()
    answers = preparing(shell)
    assert check_commit(shell, answers[0].generation_id, answers[0].member_id) is NONE
    calls = [shell.join(join(answer.member_id)) for answer in answers]
    new = calls[0].answer
    assert check_commit(shell, answers[0].generation_id, new.member_id) is ErrorCode.ILLEGAL_GENERATION
    assert check_commit(shell, new.generation_id, new.member_id) is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_commit_is_a_sign_of_life() -> None:
    shell = Shell()
    (leader,) = stable(shell, 1)
    for _ in range(3):
        shell.advance(SESSION_MS - 1)
        assert check_commit(shell, 1, leader.member_id) is NONE


def test_subscriptions_are_read_from_the_members_metadata() -> None:
    shell = Shell()
    assert not shell.group.is_subscribed_to("t")
    metadata = ConsumerProtocolSubscription(topics=("t",)).encode()
    new_member(shell, protocols=(("range", metadata),))
    assert shell.group.is_subscribed_to("t")
    assert not shell.group.is_subscribed_to("u")


def test_subscriptions_that_cannot_be_read_may_be_to_anything() -> None:
    shell = Shell()
    (leader,) = stable(shell, 1)
    assert shell.group.is_subscribed_to("t")
    shell.leave(leave((leader.member_id, None)))
    assert not shell.group.is_subscribed_to("t")
    other = Shell()
    new_member(other, protocol_type="connect")
    assert not other.group.is_subscribed_to("t")


def test_offsets_of_an_empty_group_expire_from_when_it_became_empty() -> None:
    shell = Shell()
    assert shell.group.offsets_expire_since_ms is None, "a group for offsets alone counts from each commit"
    (leader,) = stable(shell, 1)
    assert shell.group.offsets_expire_since_ms is None
    shell.advance(5_000)
    shell.leave(leave((leader.member_id, None)))
    assert shell.group.offsets_expire_since_ms == shell.clock.wall_ms()


# --- lists, descriptions, the end ---------------------------------------------------------------------------------


def test_what_is_told_of_a_group() -> None:
    shell = Shell()
    assert shell.group.listed().protocol_type == ""
    assert shell.group.described().members == ()
    (leader,) = stable(shell, 1)
    assert shell.group.listed().state is GroupState.STABLE
    assert shell.group.listed().type is GroupType.CLASSIC
    described = shell.group.described()
    assert (described.protocol_type, described.protocol_name) == ("consumer", "range")
    (member,) = described.members
    assert (member.metadata, member.assignment) == (b"r", assign([leader])[leader.member_id])
    assert (member.client_id, member.client_host) == ("client", "/127.0.0.1")
    new_member(shell)
    described = shell.group.described()
    assert (described.state, described.protocol_name) == (GroupState.PREPARING_REBALANCE, "")
    assert {member.metadata for member in described.members} == {b""}


def test_a_group_is_deleted_when_it_is_empty() -> None:
    shell = Shell()
    assert shell.group.check_delete() is NONE
    (leader,) = stable(shell, 1)
    assert shell.group.check_delete() is ErrorCode.NON_EMPTY_GROUP
    shell.leave(leave((leader.member_id, None)))
    assert shell.group.check_delete() is NONE
    (tombstone,) = shell.group.tombstones()
    assert (tombstone.key, tombstone.value) == (shell.log[-1].key, None)


def test_a_dead_group_sends_everybody_away() -> None:
    shell = Shell()
    shell.group.die()
    away = ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert shell.join(join()).answer.error is away
    assert shell.join(join("client-1")).answer.error is away
    answer = Shell().join(join(require_known_member_id=False)).answer
    assert shell.sync(sync(answer)).answer.error is away
    assert shell.heartbeat(answer) is away
    assert shell.leave(leave(("client-1", None))).answer.error is away
    assert check_commit(shell, -1, "") is away
    assert shell.group.check_offset_fetch(None, -1) is ErrorCode.GROUP_ID_NOT_FOUND
    assert shell.group.check_delete() is ErrorCode.GROUP_ID_NOT_FOUND


def test_a_loaded_group_goes_on_with_its_members_and_fresh_sessions() -> None:
    shell = Shell()
    answers = stable(shell, 2, static=1)
    before = shell.group.described()
    shell.advance(SESSION_MS - 1)
    shell.reload()
    assert shell.group.described() == before
    shell.advance(SESSION_MS - 1)
    for answer in answers[:2]:
        assert shell.heartbeat(answer) is NONE
    assert shell.heartbeat(answers[2], group_instance_id="i-2") is NONE
    again = shell.sync(sync(answers[1])).answer
    assert again.assignment == assign(answers)[answers[1].member_id]
    shell.advance(SESSION_MS)
    assert shell.group.state is GroupState.EMPTY


def test_a_loaded_group_that_is_empty_keeps_its_generation_and_since_when() -> None:
    shell = Shell()
    (leader,) = stable(shell, 1)
    shell.leave(leave((leader.member_id, None)))
    shell.commit()
    since = shell.clock.wall_ms()
    shell.advance(60_000)
    shell.reload()
    assert (shell.group.state, shell.group.generation_id) == (GroupState.EMPTY, 2)
    assert shell.group.offsets_expire_since_ms == since
    assert new_member(shell).answer.generation_id == 3
