"""The state machine of a member, event by event."""

from __future__ import annotations

from typing import Any

import pytest
from klamm.client.group_membership import (
    GroupMembership,
    JoinAnswer,
    MemberState,
    SendHeartbeat,
    SendJoin,
    SendLeave,
    SendSync,
    ShareOut,
    WakeUser,
)
from klamm.proto.errors import (
    ErrorCode,
    FencedInstanceIdError,
    GroupMaxSizeReachedError,
    KafkaError,
)

INTERVAL_MS = 3_000
POLL_MS = 300_000
BACKOFF_MS = 20


def membership(**changes: Any) -> GroupMembership:
    arguments: dict[str, Any] = {
        "heartbeat_interval_ms": INTERVAL_MS,
        "max_poll_interval_ms": POLL_MS,
        "is_static": False,
        "backoff_ms": lambda: BACKOFF_MS,
        "backoff_reset": lambda: None,
    }
    return GroupMembership(**(arguments | changes))


def joined(error: ErrorCode = ErrorCode.NONE, generation_id: int = 1, **changes: Any) -> JoinAnswer:
    return JoinAnswer(
        error, generation_id=generation_id, **({"member_id": "m", "leader": "x", "protocol_name": "range"} | changes)
    )


def attempt_of(instructions: list[Any]) -> int:
    [instruction] = instructions
    attempt: int = instruction.attempt
    return attempt


def syncing(machine: GroupMembership, now_ms: int = 0, generation_id: int = 1) -> int:
    """Up to SYNCING as a follower; the attempt."""
    if machine.state is MemberState.UNJOINED:
        machine.join(now_ms)
    attempt = attempt_of(machine.prepared(lost=machine.lost))
    machine.join_answered(attempt, joined(generation_id=generation_id), now_ms)
    return attempt


def stable(now_ms: int = 0, generation_id: int = 1, **changes: Any) -> GroupMembership:
    machine = membership(**changes)
    attempt = syncing(machine, now_ms, generation_id)
    machine.sync_answered(attempt, ErrorCode.NONE, "", b"a", now_ms)
    machine.completed(now_ms)
    assert machine.state is MemberState.STABLE
    return machine


def test_a_follower_joins_syncs_and_is_stable() -> None:
    machine = membership()
    assert machine.join(0) == [WakeUser()]
    assert machine.state is MemberState.PREPARING
    [join] = machine.prepared(lost=False)
    assert join == SendJoin(1, "", "the consumer has subscribed")
    [again] = machine.join_answered(1, joined(ErrorCode.MEMBER_ID_REQUIRED), 0)
    assert again == SendJoin(2, "m", "the consumer has subscribed")
    assert machine.join_answered(2, joined(), 0) == [SendSync(2, 1, "m", "range", {})]
    assert machine.sync_answered(2, ErrorCode.NONE, "", b"assignment", 0) == [WakeUser()]
    assert (machine.state, machine.assignment) == (MemberState.COMPLETING, b"assignment")
    assert machine.owned_generation_id is None, "nothing is owned before it is taken up"
    assert machine.completed(0) == []
    assert (machine.state, machine.owned_generation_id) == (MemberState.STABLE, 1)


def test_the_leader_shares_out_before_it_syncs() -> None:
    machine = membership()
    machine.join(0)
    attempt = attempt_of(machine.prepared(lost=False))
    [share] = machine.join_answered(attempt, joined(leader="m", members=("a", "b")), 0)
    assert share == ShareOut(attempt, "range", ("a", "b"), False)
    assert machine.shared_out(attempt, {"m": b"1"}) == [SendSync(attempt, 1, "m", "range", {"m": b"1"})]


def test_a_leader_that_cannot_share_out_tells_the_user() -> None:
    machine = membership()
    machine.join(0)
    attempt = attempt_of(machine.prepared(lost=False))
    machine.join_answered(attempt, joined(leader="m"), 0)
    error = KafkaError("bad subscription")
    assert machine.share_out_failed(attempt, error) == [WakeUser()]
    assert (machine.state, machine.error) == (MemberState.UNJOINED, error)
    assert machine.join(1) == [WakeUser()], "the next poll tries again"


@pytest.mark.parametrize(
    "error", [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR, ErrorCode.NETWORK_EXCEPTION]
)
def test_a_join_is_tried_again_after_a_wait_with_the_same_member_id(error: ErrorCode) -> None:
    machine = membership()
    machine.join(0)
    first = attempt_of(machine.prepared(lost=False))
    [join] = machine.join_answered(first, joined(ErrorCode.MEMBER_ID_REQUIRED), 0)
    assert machine.join_answered(join.attempt, joined(error, member_id=""), 100) == []  # type: ignore[union-attr]
    assert machine.next_deadline_ms() == 100 + BACKOFF_MS
    assert machine.tick(100 + BACKOFF_MS - 1) == []
    [again] = machine.tick(100 + BACKOFF_MS)
    assert isinstance(again, SendJoin) and again.member_id == "m"
    assert machine.join_answered(join.attempt, joined(), 200) == [], "too late"  # type: ignore[union-attr]


def test_a_sync_whose_coordinator_is_gone_joins_again() -> None:
    machine = membership()
    attempt = syncing(machine)
    assert machine.sync_answered(attempt, ErrorCode.NETWORK_EXCEPTION, "", b"", 0) == []
    assert isinstance(machine.tick(BACKOFF_MS)[0], SendJoin)


def test_a_rebalance_during_the_sync_joins_at_once_and_claims_what_it_had_before() -> None:
    machine = stable(generation_id=4)
    machine.heartbeat_answered(4, ErrorCode.REBALANCE_IN_PROGRESS, 0)
    attempt = syncing(machine, generation_id=5)
    [join] = machine.sync_answered(attempt, ErrorCode.REBALANCE_IN_PROGRESS, "", b"", 0)
    assert isinstance(join, SendJoin)
    assert machine.owned_generation_id == 4, "generation 5 gave it nothing"


def test_heartbeats_go_on_while_the_user_has_yet_to_give_up_partitions() -> None:
    machine = stable()
    assert machine.next_deadline_ms() == INTERVAL_MS
    assert machine.tick(INTERVAL_MS - 1) == []
    assert machine.tick(INTERVAL_MS) == [SendHeartbeat(1, "m")]
    assert machine.tick(INTERVAL_MS + 1) == [], "one at a time"
    assert machine.heartbeat_answered(1, ErrorCode.REBALANCE_IN_PROGRESS, INTERVAL_MS + 5) == [WakeUser()]
    assert machine.state is MemberState.PREPARING
    assert machine.tick(2 * INTERVAL_MS) == [SendHeartbeat(1, "m")]
    assert machine.heartbeat_answered(1, ErrorCode.REBALANCE_IN_PROGRESS, 2 * INTERVAL_MS) == [], "it knows"


def test_a_heartbeat_without_an_answer_is_sent_again_soon() -> None:
    machine = stable()
    machine.tick(INTERVAL_MS)
    assert machine.heartbeat_answered(1, ErrorCode.NETWORK_EXCEPTION, INTERVAL_MS) == []
    assert machine.tick(INTERVAL_MS + BACKOFF_MS) == [SendHeartbeat(1, "m")]


@pytest.mark.parametrize(
    ("error", "member_id"), [(ErrorCode.UNKNOWN_MEMBER_ID, ""), (ErrorCode.ILLEGAL_GENERATION, "m")]
)
def test_a_lost_membership_is_joined_anew_and_what_was_owned_is_lost(error: ErrorCode, member_id: str) -> None:
    for machine, told in (
        (one := stable(), lambda: one.heartbeat_answered(1, error, 0)),
        (two := stable(), lambda: two.commit_refused(1, error)),
    ):
        assert told() == [WakeUser()]
        assert (machine.state, machine.lost, machine.generation_id) == (MemberState.PREPARING, True, None)
        assert machine.next_deadline_ms() is None or not machine.tick(INTERVAL_MS), "no heartbeats"
        [join] = machine.prepared(lost=True)
        assert isinstance(join, SendJoin) and join.member_id == member_id
        assert machine.owned_generation_id is None


def test_a_membership_lost_while_the_user_gives_up_has_to_be_given_up_as_lost() -> None:
    machine = stable()
    machine.rejoin("why")
    machine.heartbeat_answered(1, ErrorCode.UNKNOWN_MEMBER_ID, 0)
    assert machine.prepared(lost=False) == [WakeUser()]
    assert machine.state is MemberState.PREPARING
    assert isinstance(machine.prepared(lost=True)[0], SendJoin)


def test_a_membership_lost_while_the_user_takes_up_is_lost_after_it() -> None:
    machine = membership()
    attempt = syncing(machine)
    machine.sync_answered(attempt, ErrorCode.NONE, "", b"a", 0)
    machine.heartbeat_answered(1, ErrorCode.UNKNOWN_MEMBER_ID, 0)
    assert machine.completed(0) == []
    assert (machine.state, machine.lost) == (MemberState.PREPARING, True)


def test_answers_of_an_older_generation_mean_nothing() -> None:
    machine = stable(generation_id=7)
    assert machine.heartbeat_answered(6, ErrorCode.UNKNOWN_MEMBER_ID, 0) == []
    assert machine.commit_refused(6, ErrorCode.ILLEGAL_GENERATION) == []
    assert machine.state is MemberState.STABLE


def test_a_fenced_static_member_is_out_for_good() -> None:
    machine = stable(is_static=True)
    assert machine.heartbeat_answered(1, ErrorCode.FENCED_INSTANCE_ID, 0) == [WakeUser()]
    assert machine.state is MemberState.FENCED and isinstance(machine.error, FencedInstanceIdError)
    assert machine.join(0) == machine.tick(POLL_MS) == machine.rejoin("why") == []
    assert machine.leave("closes") == []


def test_an_error_that_no_retry_mends_is_for_the_user() -> None:
    machine = membership()
    machine.join(0)
    attempt = attempt_of(machine.prepared(lost=False))
    assert machine.join_answered(attempt, joined(ErrorCode.GROUP_MAX_SIZE_REACHED, message="full"), 0) == [WakeUser()]
    assert isinstance(machine.error, GroupMaxSizeReachedError) and str(machine.error) == "full"
    assert machine.state is MemberState.UNJOINED and machine.next_deadline_ms() is None


def test_who_does_not_poll_leaves_and_joins_again_with_the_next_poll() -> None:
    machine = stable()
    machine.polled(1000)
    assert machine.tick(1000 + POLL_MS - 1) == [SendHeartbeat(1, "m")]
    wake, leave = machine.tick(1000 + POLL_MS)
    assert wake == WakeUser() and isinstance(leave, SendLeave) and leave.member_id == "m"
    assert (machine.state, machine.lost) == (MemberState.PREPARING, True)
    assert isinstance(machine.prepared(lost=True)[0], SendJoin)


def test_kip_345_a_static_member_that_does_not_poll_only_falls_silent() -> None:
    machine = stable(is_static=True)
    assert machine.tick(POLL_MS) == [WakeUser()]
    assert machine.tick(POLL_MS + INTERVAL_MS) == []


def test_kip_345_a_static_member_does_not_leave() -> None:
    assert stable(is_static=True).leave("closes") == []
    assert stable().leave("closes") == [SendLeave("m", "closes")]
    assert membership().leave("closes") == []


def test_leaving_forgets_everything() -> None:
    machine = stable()
    machine.tick(INTERVAL_MS)
    machine.leave("closes")
    assert machine.heartbeat_answered(1, ErrorCode.UNKNOWN_MEMBER_ID, INTERVAL_MS) == []
    assert machine.state is MemberState.UNJOINED and machine.owned_generation_id is None and not machine.lost


@pytest.mark.parametrize("when", ["joining", "syncing", "completing"])
def test_a_change_during_a_rebalance_makes_another_one(when: str) -> None:
    machine = membership()
    machine.join(0)
    attempt = attempt_of(machine.prepared(lost=False))
    if when == "joining":
        assert machine.rejoin("topics have changed") == []
    machine.join_answered(attempt, joined(), 0)
    if when == "syncing":
        assert machine.rejoin("topics have changed") == []
    machine.sync_answered(attempt, ErrorCode.NONE, "", b"", 0)
    if when == "completing":
        assert machine.rejoin("topics have changed") == []
    assert machine.completed(0) == [WakeUser()]
    [join] = machine.prepared(lost=False)
    assert join == SendJoin(attempt + 1, "m", "topics have changed")


def test_a_commit_told_of_a_rebalance_takes_part_in_it() -> None:
    machine = stable()
    assert machine.commit_refused(1, ErrorCode.REBALANCE_IN_PROGRESS) == [WakeUser()]
    assert machine.state is MemberState.PREPARING
    assert machine.commit_refused(1, ErrorCode.OFFSET_METADATA_TOO_LARGE) == []
