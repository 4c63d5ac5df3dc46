"""Which partition a record goes to: Java's murmur2 for keys, sticky without (KIP-480, KIP-794).

A record with a key lands where the Java client puts it, so that programs in both languages agree. Records without one
stay with a partition until `batch_size` bytes went there, then move on to another, drawn at random: whole batches
instead of crumbs, evenly spread, and unlike in KIP-480 a slow broker does not get more for being slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from struct import unpack_from
from typing import Final

Partitioner = Callable[[bytes, Sequence[int], Sequence[int]], int]
"""kafka-python's signature: (key bytes, all partitions, available partitions) -> partition."""

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_CACHED_KEYS_MAX: Final = 8192


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash with Kafka's seed, as an unsigned number; Java's is the same 32 bits."""
    length = len(data)
    h = _SEED ^ length
    words = length >> 2
    for k in unpack_from(f"<{words}I", data):
        k = (k * _M) & _MASK
        k ^= k >> 24
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    tail = data[words << 2 :]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


def partition_for_key(key: bytes, partition_count: int) -> int:
    """The partition of a key, as Java's `toPositive(murmur2(key)) % numPartitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partition_count


class KeyHashes:
    """Hashes of keys seen lately: murmur2 in Python costs more than the rest of a send, and keys come again."""

    __slots__ = ("_hashes",)

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}

    def partition(self, key: bytes, partition_count: int) -> int:
        found = self._hashes.get(key)
        if found is None:
            if len(self._hashes) >= _CACHED_KEYS_MAX:
                self._hashes.clear()
            found = self._hashes[key] = murmur2(key) & 0x7FFFFFFF
        return found % partition_count


class StickyPartition:
    """The partition that keyless records of one topic go to now: until `bytes_left`, which the user counts, is used up.

    Used bare by the producer, for each record.
    """

    __slots__ = ("_random", "_switch_bytes", "bytes_left", "partition")

    def __init__(self, random: Random, switch_bytes: int) -> None:
        self._random = random
        self._switch_bytes = max(1, switch_bytes)
        self.bytes_left = 0
        self.partition = -1

    def choose(self, partition_count: int, available: Sequence[int]) -> None:
        """Goes to another partition; `available` are those with a leader, any will do if it is empty."""
        candidates: Sequence[int] = available or range(partition_count)
        if len(candidates) > 1:
            candidates = [candidate for candidate in candidates if candidate != self.partition]
        self.partition = self._random.choice(candidates)
        self.bytes_left = self._switch_bytes

    def keep_below(self, partition_count: int) -> None:
        """The topic may be another one of the same name, with fewer partitions."""
        if self.partition >= partition_count:
            self.bytes_left = 0
