from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from klamm.client.partitioner import KeyHashes, StickyPartition, murmur2, partition_for_key

# From Kafka's own UtilsTest.testMurmur2, which fixes where Java puts a key.
JAVA_HASHES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "hashed"), JAVA_HASHES.items())
def test_murmur2_is_javas(key: bytes, hashed: int) -> None:
    assert murmur2(key) == hashed & 0xFFFFFFFF


@pytest.mark.parametrize("key", JAVA_HASHES)
def test_the_cache_changes_nothing(key: bytes) -> None:
    hashes = KeyHashes()
    assert [hashes.partition(key, 7) for _ in range(2)] == [partition_for_key(key, 7)] * 2


def test_the_cache_is_bounded() -> None:
    hashes = KeyHashes()
    for number in range(20_000):
        hashes.partition(b"%d" % number, 3)
    assert len(hashes._hashes) <= 8192


def choose(sticky: StickyPartition, partition_count: int, available: Sequence[int], size_bytes: int) -> int:
    """Where a record of that size goes, as the producer does it."""
    if sticky.bytes_left <= 0:
        sticky.choose(partition_count, available)
    sticky.bytes_left -= size_bytes
    return sticky.partition


def test_sticky_stays_for_a_batch_and_then_moves_on() -> None:
    sticky = StickyPartition(Random(1), switch_bytes=100)
    chosen = [choose(sticky, 4, [0, 1, 2, 3], 50) for _ in range(40)]
    pairs = list(zip(chosen[::2], chosen[1::2], strict=True))
    assert all(first == second for first, second in pairs)
    assert all(before[0] != after[0] for before, after in pairwise(pairs))


def test_sticky_spreads_evenly() -> None:
    sticky = StickyPartition(Random(2), switch_bytes=1)
    counts = Counter(choose(sticky, 6, range(6), 10) for _ in range(6000))
    assert all(900 < count < 1100 for count in counts.values())


def test_sticky_avoids_partitions_without_a_leader() -> None:
    sticky = StickyPartition(Random(3), switch_bytes=1)
    assert all(choose(sticky, 4, [1, 3], 10) in (1, 3) for _ in range(50))
    assert choose(sticky, 4, [], 10) in range(4)


def test_sticky_leaves_a_partition_that_is_no_more() -> None:
    sticky = StickyPartition(Random(4), switch_bytes=1000)
    assert choose(sticky, 4, [3], 10) == 3
    sticky.keep_below(4)
    assert choose(sticky, 4, [1], 10) == 3
    sticky.keep_below(3)
    assert choose(sticky, 3, [1], 10) == 1
