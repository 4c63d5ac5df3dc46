"""Which ways between hosts a cut takes: the shapes in which networks break. Pure.

A way is one direction; what is cut both ways appears as two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chaos.network import Way


def both_ways(some: Iterable[str], others: Iterable[str]) -> frozenset[Way]:
    """Between each of these and each of those."""
    there = {Way(one, other) for one in some for other in others if one != other}
    return frozenset(there | {Way(way.receiver, way.sender) for way in there})


def isolation(host: str, hosts: Iterable[str]) -> frozenset[Way]:
    """The host hears nobody, and nobody hears it."""
    return both_ways([host], hosts)


def deafness(host: str, hosts: Iterable[str]) -> frozenset[Way]:
    """The host hears nobody, and all hear it."""
    return frozenset(Way(other, host) for other in hosts if other != host)


def muteness(host: str, hosts: Iterable[str]) -> frozenset[Way]:
    """The host hears all, and nobody hears it."""
    return frozenset(Way(host, other) for other in hosts if other != host)


def halves(order: Sequence[str]) -> frozenset[Way]:
    """The first half of them and the second are apart; with an odd number the second is the larger one."""
    middle = len(order) // 2
    return both_ways(order[:middle], order[middle:])


def majority_ring(order: Sequence[str]) -> frozenset[Way]:
    """Each host reaches a majority, itself included, and no two reach the same one: its neighbours in the ring.

    Of three or four hosts each then still reaches all; five are the fewest for which anything is cut.
    """
    count = len(order)
    reach = (count // 2 + 1) // 2  # to either side; with itself that makes a majority
    apart = {
        (order[one], order[other])
        for one in range(count)
        for other in range(count)
        if min((one - other) % count, (other - one) % count) > reach
    }
    return frozenset(Way(one, other) for one, other in apart)


def union(cuts: Mapping[int, frozenset[Way]]) -> frozenset[Way]:
    """All ways that any of several faults, by number, has cut."""
    return frozenset().union(*cuts.values())
