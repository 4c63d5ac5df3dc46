"""A consumer group of KIP-848: joins, rebalances, fencing, time-outs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from harness.consumer_groups import (
    REBALANCE_TIMEOUT_MS,
    FakeTopics,
    GroupUnderTest,
    assigned,
    heartbeat_request,
    join_request,
    topic_id,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from klamm.broker.groups.consumer_group import ConsumerGroup
from klamm.broker.groups.consumer_group_records import (
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
)
from klamm.broker.groups.group import Append, Reply, Ticket
from klamm.broker.groups.group_config import ConsumerGroupConfig, GroupConfig
from klamm.broker.groups.group_request import (
    ConsumerGroupHeartbeatAnswer,
    GroupState,
    GroupType,
    LeaveAnswer,
    LeaveRequest,
    LeavingMember,
    OffsetCommitRequest,
)
from klamm.proto.errors import ErrorCode

SESSION_MS = 45_000


def two_members() -> GroupUnderTest:
    """`a` has partitions 0 and 1 of `t`, `b` 2 and 3; both at epoch 2."""
    test = GroupUnderTest(FakeTopics({"t": 4}))
    assert assigned(test.join("a", "t")) == {"t": [0, 1, 2, 3]}
    assert assigned(test.join("b", "t")) == {}
    assert assigned(test.beat("a", 1)) == {"t": [0, 1]}
    answer = test.beat("a", 1, {"t": [0, 1]})
    assert (answer.member_epoch, assigned(answer)) == (2, None)
    answer = test.beat("b", 2)
    assert (answer.member_epoch, assigned(answer)) == (2, {"t": [2, 3]})
    assert test.group.state is GroupState.STABLE
    return test


def test_the_first_member_gets_everything_at_epoch_1() -> None:
    test = GroupUnderTest(FakeTopics({"t": 2, "other": 1}))
    answer = test.join("a", "t", "missing")
    assert answer == ConsumerGroupHeartbeatAnswer(
        ErrorCode.NONE,
        member_id="a",
        member_epoch=1,
        heartbeat_interval_ms=5_000,
        assignment=answer.assignment,
    )
    assert assigned(answer) == {"t": [0, 1]}
    assert assigned(test.beat("a", 1)) is None
    assert test.group.state is GroupState.STABLE
    assert not test.group.is_gone


def test_partitions_move_once_their_owner_has_revoked_them() -> None:
    test = GroupUnderTest(FakeTopics({"t": 2}))
    test.join("a", "t")
    assert assigned(test.join("b", "t")) == {}
    assert test.group.state is GroupState.RECONCILING
    assert assigned(test.beat("a", 1)) == {"t": [0]}  # to keep; it stays at its epoch
    assert test.beat("a", 1).member_epoch == 1
    assert test.beat("a", 1, {"t": [0, 1]}).member_epoch == 1  # not revoked yet
    assert assigned(test.beat("b", 2)) is None
    assert test.beat("a", 1, {"t": [0]}).member_epoch == 2
    assert assigned(test.beat("b", 2)) == {"t": [1]}
    assert test.group.state is GroupState.STABLE


def test_a_member_that_leaves_frees_its_partitions_for_the_next_heartbeat_of_others() -> None:
    test = two_members()
    answer = test.beat("b", -1)
    assert (answer.error, answer.member_id, answer.member_epoch) == (ErrorCode.NONE, "b", -1)
    assert test.group.state is GroupState.ASSIGNING
    answer = test.beat("a", 2)
    assert (answer.member_epoch, assigned(answer)) == (3, {"t": [0, 1, 2, 3]})
    test.beat("a", -1)
    assert test.group.state is GroupState.EMPTY
    assert test.group.check_delete() is ErrorCode.NONE
    test.log += test.group.tombstones()
    test.reload()
    assert test.group.is_gone


def test_the_answer_that_was_lost_is_given_again() -> None:
    test = two_members()
    test.beat("b", -1)
    test.beat("a", 2)  # the answer, epoch 3 and two more partitions, is lost
    answer = test.beat("a", 2, {"t": [0, 1]}, rebalance_timeout_ms=5, subscribed_topic_names=("t",))
    assert (answer.error, answer.member_epoch, assigned(answer)) == (ErrorCode.NONE, 3, {"t": [0, 1, 2, 3]})
    assert test.beat("a", 2).error is ErrorCode.FENCED_MEMBER_EPOCH  # it does not say what it owns
    assert test.beat("a", 1, {"t": [0]}).error is ErrorCode.FENCED_MEMBER_EPOCH
    assert test.beat("a", 4, {"t": [0]}).error is ErrorCode.FENCED_MEMBER_EPOCH
    assert test.beat("c", 3).error is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_fenced_member_joins_again_under_its_id() -> None:
    test = two_members()
    answer = test.join("a", "t")
    assert (answer.error, answer.member_epoch, assigned(answer)) == (ErrorCode.NONE, 2, {"t": [0, 1]})


def test_a_silent_member_is_fenced_when_its_session_ends() -> None:
    test = two_members()
    test.now_ms = SESSION_MS - 1
    test.beat("a", 2)
    test.tick(SESSION_MS - 1)
    assert test.group.state is GroupState.STABLE
    assert test.group.next_deadline_ms() == SESSION_MS
    test.tick(SESSION_MS)
    assert test.beat("b", 2).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert assigned(test.beat("a", 2)) == {"t": [0, 1, 2, 3]}


def test_a_new_target_is_no_sign_of_life() -> None:
    test = two_members()
    test.now_ms = 40_000
    test.beat("a", 2)
    test.join("c", "t")  # changes the target of a and b
    test.tick(SESSION_MS)
    assert test.beat("b", 2).error is ErrorCode.UNKNOWN_MEMBER_ID


def test_who_does_not_revoke_in_time_is_fenced() -> None:
    test = GroupUnderTest(FakeTopics({"t": 2}))
    test.join("a", "t")
    test.join("b", "t")
    test.beat("a", 1)
    for now_ms in range(0, REBALANCE_TIMEOUT_MS, 1_000):
        test.tick(now_ms)
        assert test.beat("a", 1, {"t": [0, 1]}).member_epoch == 1
    test.tick(REBALANCE_TIMEOUT_MS)
    assert test.beat("a", 1).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert assigned(test.beat("b", 2)) == {"t": [0, 1]}


def test_a_loaded_group_goes_on_where_it_was_and_gives_whole_time_outs() -> None:
    test = GroupUnderTest(FakeTopics({"t": 2}))
    test.join("a", "t")
    test.join("b", "t")
    test.beat("a", 1)
    before = test.group.described_consumer_group()
    test.reload()
    assert test.group.described_consumer_group() == before
    assert test.group.next_deadline_ms() == 0
    test.tick(100_000)
    test.now_ms = 100_000 + REBALANCE_TIMEOUT_MS - 1
    test.tick(test.now_ms)
    assert test.beat("a", 1, {"t": [0]}).member_epoch == 2
    assert assigned(test.beat("b", 2)) == {"t": [1]}


def test_topics_that_come_grow_and_go_make_a_new_epoch() -> None:
    test = GroupUnderTest(FakeTopics({"t": 1}))
    test.join("a", "t", "u")
    for epoch, topics, expected in (
        (2, FakeTopics({"t": 2, "x": 9}), {"t": [0, 1]}),
        (3, FakeTopics({"t": 2, "u": 1}), {"t": [0, 1], "u": [0]}),
    ):
        test.group.metadata_changed(topics, 0)
        answer = test.beat("a", epoch - 1)
        assert (answer.member_epoch, assigned(answer)) == (epoch, expected)
    test.group.metadata_changed(FakeTopics({"u": 1}), 0)
    assert assigned(test.beat("a", 3)) == {"u": [0]}
    assert test.beat("a", 3, {"u": [0]}).member_epoch == 4
    log = list(test.log)
    test.group.metadata_changed(FakeTopics({"u": 1, "y": 1}), 0)
    assert test.beat("a", 4).member_epoch == 4
    assert test.log == log
    test.group.metadata_changed(FakeTopics({"u": 1}, generation="2"), 0)  # deleted and made again
    assert assigned(test.beat("a", 4)) == {}
    assert assigned(test.beat("a", 4, {})) == {"u2": [0]}


def test_a_subscription_that_changes_makes_a_new_epoch() -> None:
    test = GroupUnderTest(FakeTopics({"t": 1, "u": 1}))
    test.join("a", "t")
    assert test.group.is_subscribed_to("t")
    assert assigned(test.beat("a", 1, subscribed_topic_names=("u",))) == {}
    answer = test.beat("a", 1, {})
    assert (answer.member_epoch, assigned(answer)) == (2, {"u": [0]})
    assert not test.group.is_subscribed_to("t")


def test_a_subscription_by_regular_expression() -> None:
    test = GroupUnderTest(FakeTopics({"foo-1": 1, "bar": 1}))
    answer = test.join("a", subscribed_topic_regex="foo-.*")
    assert assigned(answer) == {"foo-1": [0]}
    assert test.group.is_subscribed_to("foo-1")
    test.topics = FakeTopics({"foo-1": 1, "bar": 1, "foo-2": 1}, version=2)
    test.group.metadata_changed(test.topics, 0)
    assert assigned(test.beat("a", 1)) == {"foo-1": [0], "foo-2": [0]}
    test.reload()
    assert test.group.is_subscribed_to("foo-2")
    assert assigned(test.join("b", "bar", subscribed_topic_regex=r"foo-\d")) == {"bar": [0]}
    assert assigned(test.beat("a", 2, subscribed_topic_regex="bar")) == {}
    (described, _) = test.group.described_consumer_group().members
    assert (described.subscribed_topic_regex, described.subscribed_topic_names) == ("bar", ())


@pytest.mark.parametrize("pattern", ["(", "a**", "(?=a)", r"(a)\1", "((a{1000}){1000})"])
def test_a_bad_regular_expression_is_refused_and_changes_nothing(pattern: str) -> None:
    test = GroupUnderTest(FakeTopics({"t": 1}))
    answer = test.join("a", "t", subscribed_topic_regex=pattern)
    assert answer.error is ErrorCode.INVALID_REGULAR_EXPRESSION
    assert f"`{pattern}`" in answer.message
    assert test.log == []
    assert test.group.is_gone


def test_a_static_member_that_comes_back_gets_what_it_had() -> None:
    test = GroupUnderTest(FakeTopics({"t": 2}))
    test.join("a", "t", group_instance_id="i")
    assert test.beat("a", -2, group_instance_id="i").member_epoch == -2
    log = len(test.log)
    answer = test.join("b", "t", group_instance_id="i")
    assert (answer.member_id, answer.member_epoch, assigned(answer)) == ("b", 1, {"t": [0, 1]})
    assert len(test.log) > log
    test.reload()
    assert test.beat("b", 1, group_instance_id="i").error is ErrorCode.NONE
    assert test.beat("a", 1).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert test.beat("a", 1, group_instance_id="i").error is ErrorCode.FENCED_INSTANCE_ID


def test_an_instance_id_is_released_by_leaving_or_by_the_end_of_the_session() -> None:
    test = GroupUnderTest(FakeTopics({"t": 2}))
    test.join("a", "t", group_instance_id="i")
    assert test.join("b", "t", group_instance_id="i").error is ErrorCode.UNRELEASED_INSTANCE_ID
    assert assigned(test.join("a", "t", group_instance_id="i")) == {"t": [0, 1]}  # the same process asks again
    assert test.beat("x", 1, group_instance_id="i").error is ErrorCode.FENCED_INSTANCE_ID
    assert test.beat("x", -1, group_instance_id="i").error is ErrorCode.FENCED_INSTANCE_ID
    assert test.beat("x", -1, group_instance_id="j").error is ErrorCode.UNKNOWN_MEMBER_ID
    test.beat("a", -2, group_instance_id="i")
    assert test.beat("a", 1, group_instance_id="i").error is ErrorCode.FENCED_MEMBER_EPOCH
    test.tick(SESSION_MS)
    answer = test.join("b", "t", group_instance_id="i")
    assert (answer.error, assigned(answer)) == (ErrorCode.NONE, {"t": [0, 1]})
    assert test.beat("b", -1, group_instance_id="i").member_epoch == -1
    assert test.group.state is GroupState.EMPTY


def test_a_full_group_takes_nobody_but_a_static_member_that_comes_back() -> None:
    config = GroupConfig(consumer=ConsumerGroupConfig(max_size=1))
    test = GroupUnderTest(FakeTopics({"t": 2}), config)
    test.join("a", "t", group_instance_id="i")
    answer = test.join("b", "t")
    assert answer.error is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert "1 members" in answer.message
    test.beat("a", -2, group_instance_id="i")
    assert test.join("b", "t", group_instance_id="i").error is ErrorCode.NONE


def test_the_assignor_that_most_ask_for_is_used() -> None:
    test = GroupUnderTest(FakeTopics({"t": 3, "u": 3}))
    test.join("a", "t", "u", server_assignor="range")
    assert test.group.described_consumer_group().assignor_name == "range"
    test.join("b", "t", "u", server_assignor="uniform")
    assert test.group.described_consumer_group().assignor_name == "uniform"
    answer = test.join("c", "t", server_assignor="sticky")
    assert answer.error is ErrorCode.UNSUPPORTED_ASSIGNOR
    assert "uniform, range" in answer.message


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"member_id": ""}, "MemberId can't be empty."),
        ({"group_id": " "}, "GroupId can't be empty."),
        ({"group_instance_id": ""}, "InstanceId can't be empty."),
        ({"rack_id": "  "}, "RackId can't be empty."),
        ({"member_epoch": -3}, "MemberEpoch is invalid."),
        ({"member_epoch": -2}, "InstanceId can't be null."),
        ({"member_epoch": 0}, "RebalanceTimeoutMs must be provided in first request."),
        ({"member_epoch": 0, "rebalance_timeout_ms": 1}, "TopicPartitions must be empty when (re-)joining."),
        (
            {"member_epoch": 0, "rebalance_timeout_ms": 1, "owned_partitions": {}},
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        ({"rebalance_timeout_ms": -5}, "RebalanceTimeoutMs can't be negative."),
        ({"subscribed_topic_regex": "x" * 40_000}, "SubscribedTopicRegex is too long."),
        ({"member_id": "x" * 40_000}, "MemberId is too long."),
    ],
)
def test_every_field_is_checked(fields: dict[str, Any], sentence: str) -> None:
    test = GroupUnderTest(FakeTopics({"t": 1}))
    answer = test.ask(replace(heartbeat_request("a", 1), **fields))
    assert (answer.error, answer.message) == (ErrorCode.INVALID_REQUEST, sentence)
    assert test.log == []


def test_a_heartbeat_to_no_group() -> None:
    test = GroupUnderTest(FakeTopics({"t": 1}))
    for epoch in (1, -1):
        assert test.beat("a", epoch).error is ErrorCode.GROUP_ID_NOT_FOUND


def test_offsets_are_committed_and_fetched_at_the_current_epoch_only() -> None:
    test = GroupUnderTest(FakeTopics({"t": 1}))

    def commit(member_id: str, epoch: int) -> ErrorCode:
        return test.group.check_offset_commit(OffsetCommitRequest("g", epoch, member_id, None, ()), 0)

    test.join("a", "t")
    assert commit("a", 1) is ErrorCode.NONE
    assert commit("a", 0) is ErrorCode.STALE_MEMBER_EPOCH
    assert commit("a", 2) is ErrorCode.STALE_MEMBER_EPOCH
    assert commit("", -1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert test.group.check_offset_fetch(None, -1) is ErrorCode.NONE
    assert test.group.check_offset_fetch("a", 1) is ErrorCode.NONE
    assert test.group.check_offset_fetch("a", 0) is ErrorCode.STALE_MEMBER_EPOCH
    assert test.group.check_offset_fetch("b", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    test.beat("a", -1)
    assert commit("", -1) is ErrorCode.NONE


def test_lists_and_descriptions() -> None:
    test = two_members()
    listed = test.group.listed()
    assert (listed.protocol_type, listed.state, listed.type) == ("consumer", GroupState.STABLE, GroupType.CONSUMER)
    assert test.group.described().error is ErrorCode.GROUP_ID_NOT_FOUND
    described = test.group.described_consumer_group()
    assert (described.group_epoch, described.assignment_epoch, described.assignor_name) == (2, 2, "uniform")
    assert [member.member_id for member in described.members] == ["a", "b"]
    assert described.members[0].assignment == described.members[0].target_assignment
    assert test.group.check_delete() is ErrorCode.NON_EMPTY_GROUP
    assert test.group.offsets_expire_since_ms is None


def _leave(test: GroupUnderTest, *members: tuple[str, str | None]) -> list[ErrorCode]:
    ticket = test.new_ticket()
    asked = tuple(LeavingMember(member_id, instance_id) for member_id, instance_id in members)
    test.carry_out(test.group.leave(LeaveRequest("g", asked), ticket, 0))
    answer = test.answers[ticket]
    assert isinstance(answer, LeaveAnswer) and answer.error is ErrorCode.NONE
    assert [member for member, _ in answer.members] == list(asked)
    return [error for _, error in answer.members]


def test_an_administrator_removes_members_by_leave_group() -> None:
    """As in Apache Kafka 4.3: by member id, by instance id, or by both."""
    test = GroupUnderTest(FakeTopics({"t": 3}))
    test.join("a", "t")
    test.join("b", "t", group_instance_id="i")
    test.join("c", "t", group_instance_id="j")
    epoch = test.group.described_consumer_group().group_epoch
    assert _leave(test, ("a", "i"), ("x", None), ("", None), ("", "k"), ("a", "k")) == [
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
    ]
    assert test.group.described_consumer_group().group_epoch == epoch
    assert _leave(test, ("a", None), ("a", None), ("", "i")) == [ErrorCode.NONE] * 3
    described = test.group.described_consumer_group()
    assert (described.group_epoch, [member.member_id for member in described.members]) == (epoch + 1, ["c"])
    assert _leave(test, ("a", None), ("b", "i"), ("c", "j")) == [
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.NONE,
    ]
    assert test.group.state is GroupState.EMPTY


def _beat(group: ConsumerGroup, ticket: int, request: Any) -> list[Any]:
    return list(group.heartbeat(request, Ticket(ticket), 0))


def test_rule_21_nobody_is_told_what_is_not_committed() -> None:
    group = GroupUnderTest(FakeTopics({"t": 1})).group
    [append] = _beat(group, 1, join_request("a", "t"))
    assert isinstance(append, Append)
    assert group.state is GroupState.EMPTY  # not in the log yet
    group.appended(append.token)
    assert group.state is GroupState.STABLE
    assert _beat(group, 2, heartbeat_request("a", 1)) == []  # it rests upon what is still on its way
    assert [effect.ticket for effect in group.committed(append.token, 1) if isinstance(effect, Reply)] == [1, 2]
    [reply] = _beat(group, 3, heartbeat_request("a", 1))
    assert isinstance(reply, Reply)


def test_a_write_that_fails_is_told_and_decided_again() -> None:
    group = GroupUnderTest(FakeTopics({"t": 1})).group
    [append] = _beat(group, 1, join_request("a", subscribed_topic_regex="t"))
    assert isinstance(append, Append)
    [reply] = group.failed(append.token, ErrorCode.NOT_ENOUGH_REPLICAS, 0)
    assert isinstance(reply, Reply)
    assert reply.answer.error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert group.is_gone
    [append] = _beat(group, 2, join_request("a", subscribed_topic_regex="t"))
    assert isinstance(append, Append)
    group.appended(append.token)
    [reply] = group.committed(append.token, 0)
    assert isinstance(reply, Reply)
    assert assigned(reply.answer) == {"t": [0]}


def test_a_member_whose_fencing_could_not_be_written_is_fenced_a_little_later() -> None:
    test = GroupUnderTest(FakeTopics({"t": 1}))
    test.join("a", "t")
    [append] = test.group.tick(SESSION_MS)
    assert isinstance(append, Append)
    assert test.group.failed(append.token, ErrorCode.NOT_ENOUGH_REPLICAS, SESSION_MS) == []
    assert test.group.next_deadline_ms() == SESSION_MS + 500
    test.tick(SESSION_MS + 500)
    assert test.group.state is GroupState.EMPTY
    test.tick(SESSION_MS + 1_000)
    assert test.group.next_deadline_ms() is None


def test_a_member_in_a_state_of_a_newer_coordinator_joins_again() -> None:
    test = GroupUnderTest(FakeTopics({"t": 2}))
    test.join("a", "t")
    key = ConsumerGroupCurrentMemberAssignmentKey("g", "a")
    test.group.replay(key, ConsumerGroupCurrentMemberAssignmentValue(1, 0, 99, {topic_id("t"): frozenset({0, 1})}, {}))
    assert test.beat("a", 1, {"t": [0, 1]}).error is ErrorCode.FENCED_MEMBER_EPOCH
    assert test.beat("a", 1).error is ErrorCode.FENCED_MEMBER_EPOCH
    answer = test.join("a", "t")
    assert (answer.error, assigned(answer)) == (ErrorCode.NONE, {"t": [0, 1]})
    assert test.group.state is GroupState.STABLE


def test_members_that_lost_their_records_to_compaction_in_part_are_loaded_all_the_same() -> None:
    """Whatever half of a member is left, and tombstones of what is not there: nothing breaks."""
    test = two_members()
    for skipped in range(len(test.log)):
        test.reload([one for number, one in enumerate(test.log) if number != skipped])
        test.group.described_consumer_group()
    test.reload(list(test.log) + list(test.group.tombstones()) * 2)
    assert test.group.is_gone


_NAMES = st.sampled_from(["a", "b", "c", "d"])
_OWNED = st.none() | st.dictionaries(
    st.sampled_from([topic_id("t"), topic_id("u"), topic_id("x")]),
    st.lists(st.integers(min_value=-1, max_value=5), max_size=4).map(tuple),
    max_size=2,
)
_REQUESTS = st.builds(
    heartbeat_request,
    _NAMES,
    st.integers(min_value=-3, max_value=6),
    group_instance_id=st.sampled_from([None, None, "i", "j", ""]),
    rack_id=st.sampled_from([None, "r"]),
    rebalance_timeout_ms=st.sampled_from([None, 0, 1_000, -7]),
    subscribed_topic_names=st.sampled_from([None, (), ("t",), ("t", "u"), ("nowhere",)]),
    subscribed_topic_regex=st.sampled_from([None, "", "t|u", "("]),
    server_assignor=st.sampled_from([None, "range", "uniform", "other"]),
    owned_partitions=_OWNED,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_REQUESTS, st.sampled_from([0, 0, 500, 20_000])), max_size=25))
def test_whatever_is_asked_is_answered_once_and_no_partition_has_two_owners(asked: list[tuple[Any, int]]) -> None:
    test = GroupUnderTest(FakeTopics({"t": 3, "u": 2}))
    for request, elapsed_ms in asked:
        test.tick(test.now_ms + elapsed_ms)
        answer = test.ask(request)
        assert answer.error is not ErrorCode.UNKNOWN_SERVER_ERROR
        owned = [
            (one, partition)
            for member in test.group._state.members.values()
            for assignment in (member.assigned_partitions, member.partitions_pending_revocation)
            for one, partitions in assignment.items()
            for partition in partitions
        ]
        assert len(owned) == len(set(owned))
    before = test.group.described_consumer_group()
    test.reload()
    assert test.group.described_consumer_group() == before
