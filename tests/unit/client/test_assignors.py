"""The assignors, beside kafka-python's where results have to be the same, and by their rules where they need not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.coordinator.assignors.range import RangePartitionAssignor as TheirRange
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor as TheirRoundRobin
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor as TheirSticky
from kafka.coordinator.assignors.sticky.user_data import StickyAssignorUserData
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription as TheirSubscription
from klamm.client.assignors import AssignableMember, Assignor, RangePartitionAssignor, RoundRobinPartitionAssignor
from klamm.client.sticky_assignor import CooperativeStickyAssignor, StickyPartitionAssignor
from klamm.proto.consumer_protocol import ConsumerProtocolSubscription, encode_topic_partitions
from klamm.proto.identifiers import TopicPartition

Assignment = dict[str, list[TopicPartition]]
TOPICS = ("t0", "t1", "t2")


class TheirCluster:
    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def topics(self) -> set[str]:
        return set(self._counts)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._counts[topic])) if topic in self._counts else None


class TheirMember:
    def __init__(self, member: AssignableMember) -> None:
        self.member_id = member.member_id
        self.group_instance_id = member.group_instance_id
        subscription = member.subscription
        self.metadata = TheirSubscription(0, list(subscription.topics), subscription.user_data or b"")


def theirs(assignor: Any, counts: Mapping[str, int], members: list[AssignableMember]) -> Assignment:
    found = assignor.assign(TheirCluster(counts), [TheirMember(member) for member in members])
    return {
        member_id: [
            TopicPartition(topic, partition) for topic, numbers in entry.assigned_partitions for partition in numbers
        ]
        for member_id, entry in found.items()
    }


def member(name: str, *topics: str, instance: str | None = None, **fields: Any) -> AssignableMember:
    return AssignableMember(name, instance, ConsumerProtocolSubscription(topics, **fields))


counts = st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 9))
subscribed = st.sets(st.sampled_from(TOPICS), min_size=1).map(sorted)


@st.composite
def groups(draw: st.DrawFn, *, alike: bool) -> list[AssignableMember]:
    size = draw(st.integers(1, 6))
    common = draw(subscribed)
    dynamic_from = draw(st.integers(0, size))  # kafka-python's wants static members told first
    return [
        member(
            f"m{number}",
            *(common if alike else draw(subscribed)),
            instance=f"i{size - number}" if number < dynamic_from else None,
        )
        for number in range(size)
    ]


@settings(max_examples=40)
@given(counts, groups(alike=False))
def test_range_gives_what_kafka_pythons_gives(found: dict[str, int], members: list[AssignableMember]) -> None:
    assert RangePartitionAssignor().assign(found, members) == theirs(TheirRange, found, members)


@settings(max_examples=40)
@given(counts, groups(alike=True))
def test_round_robin_gives_what_kafka_pythons_gives(found: dict[str, int], members: list[AssignableMember]) -> None:
    assert RoundRobinPartitionAssignor().assign(found, members) == theirs(TheirRoundRobin, found, members)


def test_round_robin_passes_over_who_is_not_subscribed() -> None:
    members = [member("c0", "t0"), member("c1", "t0", "t1"), member("c2", "t0", "t1", "t2")]
    assert RoundRobinPartitionAssignor().assign({"t0": 1, "t1": 2, "t2": 3}, members) == {
        "c0": [("t0", 0)],
        "c1": [("t1", 0)],
        "c2": [("t1", 1), ("t2", 0), ("t2", 1), ("t2", 2)],
    }


@settings(max_examples=40)
@given(counts, groups(alike=True))
def test_a_first_sticky_assignment_is_kafka_pythons(found: dict[str, int], members: list[AssignableMember]) -> None:
    ours = StickyPartitionAssignor().assign(found, members)
    assert {name: sorted(partitions) for name, partitions in ours.items()} == theirs(TheirSticky(), found, members)


def check_complete(assignment: Assignment, found: Mapping[str, int], members: list[AssignableMember]) -> None:
    given_out = Counter(partition for partitions in assignment.values() for partition in partitions)
    assert set(given_out.values()) <= {1}, "one owner each"
    read = {topic for entry in members for topic in entry.subscription.topics}
    assert set(given_out) == {TopicPartition(topic, number) for topic in read for number in range(found.get(topic, 0))}
    for entry in members:
        assert {partition.topic for partition in assignment[entry.member_id]} <= set(entry.subscription.topics)


def check_even(assignment: Assignment, members: list[AssignableMember]) -> None:
    """No partition could go from one member to another that has two fewer."""
    for entry in members:
        for partition in assignment[entry.member_id]:
            for other in members:
                if partition.topic in other.subscription.topics:
                    assert len(assignment[entry.member_id]) <= len(assignment[other.member_id]) + 1


def sticky_members(
    entries: list[AssignableMember], before: Assignment, generation: int, *, cooperative: bool
) -> list[AssignableMember]:
    made = []
    for entry in entries:
        had = before.get(entry.member_id)
        if cooperative:
            fields: dict[str, Any] = {"owned_partitions": tuple(had or ()), "generation_id": generation}
        else:
            assignor = StickyPartitionAssignor()
            if had is not None:
                assignor.on_assignment(had, generation)
            fields = {"user_data": assignor.user_data(())}
        made.append(member(entry.member_id, *entry.subscription.topics, **fields))
    return made


@settings(max_examples=40)
@given(st.data(), st.booleans(), st.booleans())
def test_sticky_assignments_are_complete_even_and_keep_what_they_can(
    data: st.DataObject, alike: bool, cooperative: bool
) -> None:
    found = data.draw(counts)
    entries = data.draw(groups(alike=alike))
    assignor = CooperativeStickyAssignor() if cooperative else StickyPartitionAssignor()
    final = StickyPartitionAssignor if not cooperative else CooperativeStickyAssignor
    assignment = assignor.assign(found, sticky_members(entries, {}, -1, cooperative=cooperative))
    check_complete(assignment, found, entries)
    check_even(assignment, entries)
    if not alike:
        return
    # Someone comes or goes: of the others each keeps as much as its fair share allows.
    changed = (
        entries[1:]
        if data.draw(st.booleans()) and len(entries) > 1
        else [*entries, member("new", *entries[0].subscription.topics)]
    )
    told = sticky_members(changed, assignment, 3, cooperative=cooperative)
    after = final().assign(found, told)
    if cooperative:
        after = final().assign(found, sticky_members(changed, after, 4, cooperative=True))
    check_complete(after, found, changed)
    check_even(after, changed)
    share = sum(found.get(topic, 0) for topic in entries[0].subscription.topics) // len(changed)
    for entry in changed:
        had = assignment.get(entry.member_id, [])
        assert len(set(had) & set(after[entry.member_id])) >= min(len(had), share)


@settings(max_examples=40)
@given(counts, groups(alike=False), groups(alike=False))
def test_a_cooperative_partition_is_never_given_while_another_has_it(
    found: dict[str, int], before: list[AssignableMember], after: list[AssignableMember]
) -> None:
    first = CooperativeStickyAssignor().assign(found, sticky_members(before, {}, -1, cooperative=True))
    had = first
    for generation in range(1, 8):  # who has given something up joins again, so that it can go where it belongs
        owners = {partition: name for name, partitions in had.items() for partition in partitions}
        members_left = {entry.member_id for entry in after}
        given = CooperativeStickyAssignor().assign(found, sticky_members(after, had, generation, cooperative=True))
        for name, partitions in given.items():
            for partition in partitions:
                assert owners.get(partition) in {name, None} or owners[partition] not in members_left
        if had == given:
            break
        had = given
    check_complete(had, found, after)


def test_rule_22_a_partition_claimed_twice_goes_to_the_newer_generation_and_in_the_same_one_to_nobody_yet() -> None:
    partition = TopicPartition("t0", 0)
    older = member("a", "t0", owned_partitions=(partition,), generation_id=3)
    newer = member("b", "t0", owned_partitions=(partition,), generation_id=4)
    assert CooperativeStickyAssignor().assign({"t0": 1}, [older, newer]) == {"a": [], "b": [partition]}
    same = member("b", "t0", owned_partitions=(partition,), generation_id=3)
    assert CooperativeStickyAssignor().assign({"t0": 1}, [older, same]) == {"a": [], "b": []}


def test_a_partition_that_no_longer_exists_is_nobodys() -> None:
    gone = (TopicPartition("t0", 5), TopicPartition("old", 0))
    assert CooperativeStickyAssignor().assign(
        {"t0": 1}, [member("a", "t0", owned_partitions=gone, generation_id=1)]
    ) == {"a": [TopicPartition("t0", 0)]}


def test_user_data_is_kafkas() -> None:
    assignor = StickyPartitionAssignor()
    assert assignor.user_data(["t0"]) is None
    assignor.on_assignment([TopicPartition("t0", 0), TopicPartition("t0", 2), TopicPartition("t1", 1)], 7)
    theirs_with_version = StickyAssignorUserData([("t0", [0, 2]), ("t1", [1])], 7).encode()
    assert assignor.user_data(["t0"]) == theirs_with_version[2:], "Kafka's own has no version before it"
    cooperative = CooperativeStickyAssignor()
    cooperative.on_assignment([TopicPartition("t0", 0)], 7)
    assert cooperative.user_data(["t0"]) == b"\0\0\0\7"


def test_what_kafka_pythons_sticky_members_had_is_kept_too() -> None:
    had = StickyAssignorUserData([("t0", [1, 3])], 7).encode()
    members = [member("a", "t0"), member("b", "t0", user_data=had)]
    assert StickyPartitionAssignor().assign({"t0": 4}, members)["b"] == [
        TopicPartition("t0", 1),
        TopicPartition("t0", 3),
    ]


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 12, encode_topic_partitions([TopicPartition("t0", 0)]) + b"\0"])
def test_user_data_that_cannot_be_read_counts_for_nothing(data: bytes) -> None:
    members = [member("a", "t0", user_data=data), member("b", "t0")]
    check_complete(StickyPartitionAssignor().assign({"t0": 4}, members), {"t0": 4}, members)


def test_user_data_of_version_0_has_no_generation() -> None:
    old = member("b", "t0", user_data=encode_topic_partitions([TopicPartition("t0", 0)]))
    assert StickyPartitionAssignor().assign({"t0": 2}, [member("a", "t0"), old]) == {
        "a": [TopicPartition("t0", 1)],
        "b": [TopicPartition("t0", 0)],
    }


@pytest.mark.parametrize(
    "make", [RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor, CooperativeStickyAssignor]
)
def test_topics_that_are_not_there_are_left_out(make: Callable[[], Assignor]) -> None:
    assert make().assign({}, [member("a", "t0"), member("b")]) == {"a": [], "b": []}
