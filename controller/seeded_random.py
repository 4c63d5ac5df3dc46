"""Random choices that every controller makes alike, from the seed in the command.

Not the standard library's: what its `shuffle` makes of a seed is not promised from one Python version to the next, and
controllers of two versions must not disagree. This is SplitMix64.
"""

from __future__ import annotations

from typing import Final, TypeVar

T = TypeVar("T")

_MASK: Final = 2**64 - 1


class SeededRandom:
    """A stream of 64-bit numbers. Good enough to spread replicas, no good for secrets."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next_number(self) -> int:
        """0 to 2**64 - 1."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def shuffle(self, items: list[T]) -> None:
        """Puts the items into another order, in place (Fisher and Yates)."""
        for last in range(len(items) - 1, 0, -1):
            other = self.next_number() % (last + 1)
            items[last], items[other] = items[other], items[last]
