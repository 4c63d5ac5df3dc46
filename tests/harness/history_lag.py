"""How stale consumers are: the realtime lag of Jepsen's kafka workload.

A poll that began at some time and left the consumer at some offset is as stale as the oldest record at or past that
offset which had been acked when the poll began. A consumer that begins at the beginning is stale by hours and means
nothing by it: a run counts from the first poll after which it had seen all that was acked when that poll began.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Acks(NamedTuple):
    """The acked records of a partition whose offsets are known, by offset."""

    offsets: array[int]
    times_ns: array[int]


class WorstLag(NamedTuple):
    lag_ns: int
    partition: int
    entry: int  # the poll


class Looks:
    """One run: of each position in it the first and the last poll, for the lag grows between them."""

    __slots__ = ("_began_ns", "_entry", "_position", "_seen", "partition")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self._seen = array("q")  # position, beginning of the poll and its entry, in turn
        self._position = -1
        self._began_ns = self._entry = -1  # of the last poll at this position, where there was more than one

    def look(self, position: int, began_ns: int, entry: int) -> None:
        """After a poll, the consumer goes on at this position; polls come in their order."""
        if position == self._position:
            self._began_ns, self._entry = began_ns, entry
        else:
            if self._entry >= 0:
                self._seen.extend((self._position, self._began_ns, self._entry))
                self._entry = -1
            self._seen.extend((position, began_ns, entry))
            self._position = position

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        values = iter(self._seen)
        yield from zip(values, values, values, strict=True)
        if self._entry >= 0:
            yield self._position, self._began_ns, self._entry


class Lag:
    def __init__(self) -> None:
        self._runs: list[Looks] = []

    def begin(self, partition: int) -> Looks:
        """For a new run."""
        self._runs.append(Looks(partition))
        return self._runs[-1]

    def conclude(self, acks: Mapping[int, Acks]) -> WorstLag | None:
        """`acks`: by partition. None: nobody was ever up to date."""
        earliest = {partition: _earliest_from(known.times_ns) for partition, known in acks.items()}
        nothing = Acks(array("q"), array("q"))
        worst: WorstLag | None = None
        for run in self._runs:
            known, times = acks.get(run.partition, nothing).offsets, earliest.get(run.partition, nothing.times_ns)
            end = len(known)
            caught_up = False
            for position, began_ns, entry in run:
                place = bisect_left(known, position)
                lag_ns = began_ns - times[place] if place < end else 0
                caught_up = caught_up or lag_ns <= 0
                if caught_up and (worst is None or lag_ns > worst.lag_ns):
                    worst = WorstLag(max(0, lag_ns), run.partition, entry)
        return worst


def _earliest_from(times_ns: array[int]) -> array[int]:
    """For each place, the earliest time at or after it."""
    earliest = array("q", times_ns)
    for place in range(len(earliest) - 2, -1, -1):
        earliest[place] = min(earliest[place], earliest[place + 1])
    return earliest
