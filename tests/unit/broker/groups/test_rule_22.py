"""Rule 22: in one generation no partition has two owners. The coordinator hands on what the leader says, unread; so it
takes one leader's word once for each generation, and tells nobody before the log has it for good.

The same under random faults: tests/simulation/test_classic_groups.py.
"""

from __future__ import annotations

from harness.classic_groups import LATER, SESSION_MS, Shell, join, new_member, settle, stable, sync
from klamm.broker.groups.group_request import GroupState, JoinAnswer
from klamm.broker.groups.records import parse_group_metadata
from klamm.proto.errors import ErrorCode


def completing(shell: Shell) -> list[JoinAnswer]:
    """A leader and a follower that have joined and not synced."""
    calls = [shell.join(join(answer.member_id)) for answer in stable(shell, 2)]
    return [call.answer for call in calls]


def test_rule_22_nobody_is_told_of_an_assignment_before_it_is_committed() -> None:
    shell = Shell()
    leader, follower = completing(shell)
    early = shell.sync(sync(follower))
    mine = shell.sync(sync(leader, {follower.member_id: b"0", leader.member_id: b"1"}))
    late = shell.sync(sync(follower))
    assert early.answer.error is ErrorCode.REBALANCE_IN_PROGRESS, "the same member asked again"
    assert mine.answer is late.answer is LATER
    assert shell.group.state is GroupState.COMPLETING_REBALANCE
    shell.commit()
    assert (mine.answer.assignment, late.answer.assignment) == (b"1", b"0")


def test_rule_22_a_generation_has_one_assignment_whatever_its_leader_says_later() -> None:
    shell = Shell()
    leader, follower = completing(shell)
    shell.sync(sync(leader, {leader.member_id: b"0", follower.member_id: b"1"}))
    assert shell.join(join(leader.member_id)).answer.members, "its answer was lost, and it decides anew"
    mine = shell.sync(sync(leader, {leader.member_id: b"1", follower.member_id: b"0"}))
    theirs = shell.sync(sync(follower))
    shell.commit()
    assert (mine.answer.assignment, theirs.answer.assignment) == (b"0", b"1")
    again = shell.sync(sync(leader, {leader.member_id: b"1", follower.member_id: b"0"}))
    assert again.answer.assignment == b"0"
    in_log = [parse_group_metadata(record.value) for record in shell.log if record.value is not None]
    assert [metadata.generation for metadata in in_log].count(leader.generation_id) == 1


def test_rule_22_a_followers_assignment_is_not_taken() -> None:
    shell = Shell()
    leader, follower = completing(shell)
    waits = shell.sync(sync(follower, {follower.member_id: b"0", leader.member_id: b""}))
    assert waits.answer is LATER
    assert not shell.waiting


def test_rule_22_a_stale_leaders_assignment_is_refused() -> None:
    shell = Shell()
    leader, follower = completing(shell)
    waits = shell.join(join(follower.member_id, protocols=(("range", b"new"),)))
    shell.advance(SESSION_MS)
    assert waits.answer.leader == follower.member_id
    stale = shell.sync(sync(leader, {leader.member_id: b"0"}))
    assert stale.answer.error is ErrorCode.UNKNOWN_MEMBER_ID
    stale = shell.sync(sync(waits.answer, {}, generation_id=leader.generation_id))
    assert stale.answer.error is ErrorCode.ILLEGAL_GENERATION
    assert not shell.waiting


def test_rule_22_an_assignment_that_is_committed_too_late_is_told_to_nobody() -> None:
    shell = Shell()
    leader, follower = completing(shell)
    late = shell.sync(sync(leader, {leader.member_id: b"old", follower.member_id: b"old"}))
    new_member(shell)
    assert late.answer.error is ErrorCode.REBALANCE_IN_PROGRESS
    waits = shell.join(join(leader.member_id))
    shell.commit()
    assert shell.group.state is GroupState.PREPARING_REBALANCE
    assert waits.answer is LATER
    assert {member.assignment for member in shell.group.described().members} == {b""}


def test_rule_22_a_new_coordinator_goes_on_with_the_assignment_of_the_log() -> None:
    shell = Shell()
    answers = stable(shell, 3)
    before = {member.member_id: member.assignment for member in shell.group.described().members}
    shell.reload()
    told = {answer.member_id: shell.sync(sync(answer, {"client-1": b"?"})).answer.assignment for answer in answers}
    assert told == before
    again = shell.join(join(answers[0].member_id))
    others = [shell.join(join(answer.member_id)) for answer in answers[1:]]
    assert again.answer.generation_id == answers[0].generation_id + 1
    assert len(set(settle(shell, [again.answer, *(call.answer for call in others)]))) == 3
