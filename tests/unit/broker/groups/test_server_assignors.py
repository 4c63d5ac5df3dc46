"""The assignors of the coordinator: everything assigned once, evenly, moving little."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest
from harness.consumer_groups import topic_id
from klamm.broker.groups.consumer_group_records import Assignment
from klamm.broker.groups.server_assignors import SERVER_ASSIGNORS, AssignorMember

T, U, V = topic_id("t"), topic_id("u"), topic_id("v")


def members(
    subscriptions: Mapping[str, set[object]], last: Mapping[str, Assignment] | None = None
) -> dict[str, AssignorMember]:
    return {
        name: AssignorMember(frozenset(topics), last_target=(last or {}).get(name, {}))  # type: ignore[arg-type]
        for name, topics in subscriptions.items()
    }


def sizes(assigned: Mapping[str, Assignment]) -> dict[str, int]:
    return {name: sum(map(len, partitions.values())) for name, partitions in assigned.items()}


def assert_everything_once(
    assigned: Mapping[str, Assignment], subscribed: Mapping[str, set[object]], counts: Mapping[object, int]
) -> None:
    given = Counter(
        (one, number) for partitions in assigned.values() for one in partitions for number in partitions[one]
    )
    wanted = {one for topics in subscribed.values() for one in topics}
    assert given == Counter((one, number) for one in wanted for number in range(counts[one]))
    assert all(partitions.keys() <= subscribed[name] for name, partitions in assigned.items())
    assert all(numbers for partitions in assigned.values() for numbers in partitions.values())
    assert assigned.keys() == subscribed.keys()


def test_ranges() -> None:
    assigned = SERVER_ASSIGNORS["range"](members({"a": {T, U}, "b": {T, U}, "c": {U}}), {T: 3, U: 5})
    assert assigned == {
        "a": {T: frozenset({0, 1}), U: frozenset({0, 1})},
        "b": {T: frozenset({2}), U: frozenset({2, 3})},
        "c": {U: frozenset({4})},
    }


def test_ranges_of_more_members_than_partitions_put_static_members_first() -> None:
    group = members({"a": {T}, "b": {T}, "z": {T}})
    group["z"] = AssignorMember(frozenset({T}), instance_id="i")
    assert SERVER_ASSIGNORS["range"](group, {T: 2}) == {"z": {T: frozenset({0})}, "a": {T: frozenset({1})}, "b": {}}


@pytest.mark.parametrize("name", SERVER_ASSIGNORS)
def test_no_members_and_no_topics(name: str) -> None:
    assert SERVER_ASSIGNORS[name]({}, {}) == {}
    assert SERVER_ASSIGNORS[name](members({"a": set(), "b": set()}), {}) == {"a": {}, "b": {}}


def test_uniform_moves_nothing_that_need_not_move() -> None:
    last = {"a": {T: frozenset({0, 1})}, "b": {T: frozenset({2, 3, 4})}}
    assert SERVER_ASSIGNORS["uniform"](members({"a": {T}, "b": {T}}, last), {T: 5}) == last
    grown = SERVER_ASSIGNORS["uniform"](members({"a": {T}, "b": {T}, "c": {T}}, last), {T: 5})
    assert sizes(grown) == {"a": 2, "b": 2, "c": 1}
    assert grown["a"] == last["a"]


def test_uniform_forgets_topics_that_are_not_subscribed_and_partitions_that_are_not_there() -> None:
    last = {"a": {T: frozenset({0, 7}), U: frozenset({0})}, "b": {T: frozenset({0, 1})}}
    assigned = SERVER_ASSIGNORS["uniform"](members({"a": {T}, "b": {T}}, last), {T: 2})
    assert assigned == {"a": {T: frozenset({0})}, "b": {T: frozenset({1})}}


@pytest.mark.parametrize("seed", range(200))
def test_uniform_is_even_and_sticky_over_random_groups(seed: int) -> None:
    dice = random.Random(seed)
    homogeneous = dice.random() < 0.5
    counts = {one: dice.randrange(1, 12) for one in (T, U, V)}
    subscribed: dict[str, set[object]] = {
        f"m{number}": {T, U} if homogeneous else set(dice.sample([T, U, V], dice.randrange(1, 4)))
        for number in range(dice.randrange(1, 8))
    }
    assign = SERVER_ASSIGNORS["uniform"]
    used = {one: counts[one] for one in {one for topics in subscribed.values() for one in topics}}  # type: ignore[index]
    first = assign(members(subscribed), used)
    assert_everything_once(first, subscribed, counts)  # type: ignore[arg-type]
    assert assign(members(subscribed, first), used) == first
    if homogeneous:
        assert max(sizes(first).values()) - min(sizes(first).values()) <= 1
    else:
        for one in used:  # what Kafka promises: no topic has a subscriber that could give to another
            having = [size for name, size in sizes(first).items() if one in first[name]]
            wanting = [size for name, size in sizes(first).items() if one in subscribed[name]]
            assert max(having) - min(wanting) <= 1
    left = dict(list(subscribed.items())[1:])
    if left and homogeneous:
        after = assign(members(left, first), used)
        assert_everything_once(after, left, counts)  # type: ignore[arg-type]
        assert all(first[name][one] <= after[name][one] for name in left for one in first[name])


def test_a_large_group_is_assigned_quickly_and_evenly() -> None:
    names = {f"m{number}": {T, U} for number in range(1_000)}
    assigned = SERVER_ASSIGNORS["uniform"](members(names), {T: 1_500, U: 1_500})  # type: ignore[arg-type]
    assert set(sizes(assigned).values()) == {3}
