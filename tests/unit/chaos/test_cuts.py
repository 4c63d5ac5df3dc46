"""The shapes of cuts: who still hears whom."""

from __future__ import annotations

import pytest
from chaos.cuts import both_ways, deafness, halves, isolation, majority_ring, muteness, union
from chaos.network import Way

HOSTS = ["a", "b", "c", "d", "e", "f", "g"]


def heard_by(host: str, ways: frozenset[Way], hosts: list[str]) -> set[str]:
    """Whom the host hears, itself included."""
    return {other for other in hosts if other == host or Way(other, host) not in ways}


def test_isolation_is_both_ways_and_concerns_nobody_else() -> None:
    ways = isolation("a", HOSTS)
    assert ways == {Way("a", other) for other in HOSTS[1:]} | {Way(other, "a") for other in HOSTS[1:]}


def test_deaf_and_mute_are_the_two_halves_of_isolation() -> None:
    assert heard_by("a", deafness("a", HOSTS), HOSTS) == {"a"}
    assert all(heard_by(other, deafness("a", HOSTS), HOSTS) == set(HOSTS) for other in HOSTS[1:])
    assert heard_by("a", muteness("a", HOSTS), HOSTS) == set(HOSTS)
    assert all("a" not in heard_by(other, muteness("a", HOSTS), HOSTS) for other in HOSTS[1:])
    assert deafness("a", HOSTS) | muteness("a", HOSTS) == isolation("a", HOSTS)


def test_halves_hear_themselves_alone() -> None:
    ways = halves(HOSTS)
    assert heard_by("a", ways, HOSTS) == {"a", "b", "c"}
    assert heard_by("g", ways, HOSTS) == {"d", "e", "f", "g"}


@pytest.mark.parametrize("count", range(5, 11))
def test_in_a_ring_each_reaches_a_majority_and_no_two_the_same(count: int) -> None:
    hosts = [chr(ord("a") + number) for number in range(count)]
    ways = majority_ring(hosts)
    reached = [frozenset(heard_by(host, ways, hosts)) for host in hosts]
    assert all(len(majority) > count // 2 for majority in reached)
    assert all(len(majority) < count for majority in reached)
    assert len(set(reached)) == count
    assert ways == {Way(way.receiver, way.sender) for way in ways}


def test_both_ways_leaves_a_host_its_way_to_itself() -> None:
    assert both_ways(["a"], ["a", "b"]) == {Way("a", "b"), Way("b", "a")}


def test_what_one_fault_cut_stays_cut_when_another_heals() -> None:
    cuts = {1: isolation("a", HOSTS), 2: muteness("b", HOSTS)}
    cuts[1] = frozenset()
    assert union(cuts) == muteness("b", HOSTS)
    assert union({}) == frozenset()
