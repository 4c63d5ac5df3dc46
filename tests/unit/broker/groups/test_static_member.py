"""Static members (KIP-345, KIP-814): an instance comes back under another member id and finds its place."""

from __future__ import annotations

from typing import Any

import pytest
from harness.classic_groups import (
    LATER,
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
from klamm.broker.groups.group_request import GroupState, JoinAnswer
from klamm.broker.groups.records import parse_group_metadata
from klamm.proto.errors import ErrorCode

NONE = ErrorCode.NONE


def come_back(shell: Shell, instance_id: str, **changes: Any) -> Any:
    return shell.join(join(group_instance_id=instance_id, **changes))


def group_of_two(shell: Shell) -> list[JoinAnswer]:
    """A dynamic leader and the static follower i-1."""
    return stable(shell, 1, static=1)


def members_in_log(shell: Shell) -> list[str]:
    value = shell.log[-1].value
    assert value is not None
    return [member.member_id for member in parse_group_metadata(value).members]


def test_an_instance_that_comes_back_takes_its_place_without_a_rebalance() -> None:
    shell = Shell()
    leader, static = group_of_two(shell)
    back = come_back(shell, "i-1")
    assert back.answer is LATER, "the new member id must be in the log first"
    shell.commit()
    answer = back.answer
    assert (answer.error, answer.generation_id) == (NONE, static.generation_id)
    assert answer.member_id != static.member_id
    assert (answer.leader, answer.members, answer.skip_assignment) == (leader.member_id, (), False)
    assert members_in_log(shell) == [leader.member_id, answer.member_id]
    assert shell.group.state is GroupState.STABLE
    got = shell.sync(sync(answer, group_instance_id="i-1")).answer
    assert got.assignment == assign([static])[static.member_id]
    assert shell.heartbeat(leader) is NONE


def test_the_one_before_is_fenced() -> None:
    shell = Shell()
    _, static = group_of_two(shell)
    come_back(shell, "i-1")
    fenced = ErrorCode.FENCED_INSTANCE_ID
    assert shell.heartbeat(static, group_instance_id="i-1") is fenced
    assert shell.heartbeat(static) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.sync(sync(static, group_instance_id="i-1")).answer.error is fenced
    assert shell.join(join(static.member_id, group_instance_id="i-1")).answer.error is fenced
    assert shell.group.check_offset_commit(commit(static.generation_id, static.member_id, "i-1"), 0) is fenced
    left = shell.leave(leave((static.member_id, "i-1"))).answer
    assert [error for _, error in left.members] == [fenced]


def test_who_waits_under_the_old_id_is_fenced_at_once() -> None:
    shell = Shell()
    leader, static = group_of_two(shell)
    joining = shell.join(join(static.member_id, group_instance_id="i-1", protocols=(("range", b"new"),)))
    back = come_back(shell, "i-1")
    assert joining.answer.error is ErrorCode.FENCED_INSTANCE_ID
    again = shell.join(join(leader.member_id)).answer
    assert back.answer.error is NONE
    syncing = shell.sync(sync(back.answer, group_instance_id="i-1"))
    third = come_back(shell, "i-1")
    assert syncing.answer.error is ErrorCode.FENCED_INSTANCE_ID
    assert third.answer is LATER
    assert shell.heartbeat(again) is ErrorCode.REBALANCE_IN_PROGRESS, "the leader knows the old member id alone"


def test_a_leader_that_comes_back_skips_the_assignment() -> None:
    shell = Shell()
    (leader,) = [new_member(shell, group_instance_id="i-1").answer]
    settle(shell, [leader])
    back = come_back(shell, "i-1")
    shell.commit()
    answer = back.answer
    assert answer.leader == answer.member_id
    assert answer.skip_assignment
    assert [member.member_id for member in answer.members] == [answer.member_id]


def test_an_older_client_that_led_does_not_take_itself_for_the_leader() -> None:
    shell = Shell()
    leader = new_member(shell, group_instance_id="i-1").answer
    settle(shell, [leader])
    back = come_back(shell, "i-1", supports_skipping_assignment=False)
    shell.commit()
    assert (back.answer.leader, back.answer.members) == (leader.member_id, ())
    assert back.answer.member_id != leader.member_id


def test_an_instance_that_comes_back_with_another_favourite_rebalances() -> None:
    shell = Shell()
    both = (("range", b""), ("sticky", b""))
    leader = new_member(shell, group_instance_id="i-1", protocols=both).answer
    settle(shell, [leader])
    back = come_back(shell, "i-1", protocols=both[::-1])
    assert (back.answer.generation_id, back.answer.protocol_name) == (leader.generation_id + 1, "sticky")


def test_a_static_member_that_stays_away_is_taken_out_when_its_session_ends() -> None:
    shell = Shell()
    leader, static = group_of_two(shell)
    waits = shell.join(join(leader.member_id))
    shell.advance(SESSION_MS - 1)
    assert waits.answer is LATER
    shell.advance(1)
    assert [member.member_id for member in waits.answer.members] == [leader.member_id]
    assert shell.heartbeat(static, group_instance_id="i-1") is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_rebalance_goes_on_without_a_static_member_that_is_late_but_keeps_its_place() -> None:
    shell = Shell()
    changes = {"rebalance_timeout_ms": SESSION_MS // 2}
    leader, static = stable(shell, 1, static=1, **changes)
    waits = shell.join(join(leader.member_id, **changes))
    shell.advance(SESSION_MS // 2)
    told = [member.member_id for member in waits.answer.members]
    assert told == [leader.member_id, static.member_id]
    settle(shell, [waits.answer])
    assert shell.group.state is GroupState.STABLE


@pytest.mark.parametrize("written", [False, True])
def test_a_member_id_that_could_not_be_written(written: bool) -> None:
    shell = Shell()
    _, static = group_of_two(shell)
    if not written:
        shell.refuse_next(ErrorCode.NOT_ENOUGH_REPLICAS)
    back = come_back(shell, "i-1", protocols=(("range", b"new"), ("sticky", b"")))
    if written:
        shell.fail(ErrorCode.REQUEST_TIMED_OUT)
    assert back.answer.error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert (back.answer.member_id, back.answer.generation_id) == ("", static.generation_id)
    told = shell.heartbeat(static, group_instance_id="i-1")
    assert told is (ErrorCode.FENCED_INSTANCE_ID if written else NONE), "the log decides who it is"
    again = come_back(shell, "i-1")
    shell.commit()
    assert again.answer.error is NONE
    assert shell.group.state is GroupState.STABLE


def test_an_instance_that_comes_back_twice_before_the_log_has_it() -> None:
    shell = Shell()
    group_of_two(shell)
    first = come_back(shell, "i-1")
    second = come_back(shell, "i-1")
    assert first.answer.error is ErrorCode.FENCED_INSTANCE_ID
    shell.commit()
    assert second.answer.error is NONE
    assert shell.group.state is GroupState.STABLE


def test_a_rebalance_that_begins_meanwhile_takes_the_instance_along() -> None:
    shell = Shell()
    leader, _ = group_of_two(shell)
    back = come_back(shell, "i-1")
    again = shell.join(join(leader.member_id))
    assert back.answer.generation_id == again.answer.generation_id == leader.generation_id + 1
    shell.commit()
    settle(shell, [again.answer, back.answer])
    assert shell.group.state is GroupState.STABLE


def test_a_dynamic_members_id_is_no_use_to_an_instance() -> None:
    shell = Shell()
    pending = shell.join(join()).answer.member_id
    assert shell.join(join(pending, group_instance_id="i-1")).answer.error is ErrorCode.INVALID_REQUEST


def test_an_unknown_instance() -> None:
    shell = Shell()
    (leader,) = stable(shell, 1)
    assert shell.heartbeat(leader, group_instance_id="i-9") is ErrorCode.UNKNOWN_MEMBER_ID


def test_the_log_brings_the_instances_back() -> None:
    shell = Shell()
    leader, static = group_of_two(shell)
    shell.reload()
    back = come_back(shell, "i-1")
    shell.commit()
    assert back.answer.generation_id == static.generation_id
    assert shell.heartbeat(leader) is NONE
