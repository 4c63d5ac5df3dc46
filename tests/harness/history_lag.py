"""How stale consumers are: the realtime lag of Jepsen's kafka workload.

A poll that began at some time and left the consumer at some offset is as stale as the oldest record at or past that
offset which had been acked when the poll began. A consumer that begins at the beginning is stale by hours and means
nothing by it: a run counts from the first poll after which it had seen all that was acked when that poll began.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class WorstLag(NamedTuple):
    lag_ns: int
    partition: int
    entry: int  # the poll


class Lag:
    """Of each run of a consumer and each position in it, the first and the last poll: the lag grows between them."""

    def __init__(self) -> None:
        self._partitions = array("q")
        self._runs = array("q")
        self._positions = array("q")
        self._began_ns = array("q")
        self._entries = array("q")
        self._last: dict[int, tuple[int, int, int, int]] = {}  # by run: partition, position, beginning, entry

    def look(self, run: int, partition: int, position: int, began_ns: int, entry: int) -> None:
        """After a poll, a consumer goes on at this position; the looks of one run come in their order."""
        last = self._last.get(run)
        if last is None or last[1] != position:
            if last is not None:
                self._add(run, last)
            self._add(run, (partition, position, began_ns, entry))
        self._last[run] = (partition, position, began_ns, entry)

    def conclude(self, acks: Mapping[int, Sequence[tuple[int, int]]]) -> WorstLag | None:
        """`acks`: by partition, offset and time of each acked record, by offset. None: nobody was ever up to date."""
        for run, last in self._last.items():
            self._add(run, last)
        offsets = {partition: [offset for offset, _ in known] for partition, known in acks.items()}
        earliest = {partition: _earliest_from(known) for partition, known in acks.items()}
        caught_up: set[int] = set()
        worst: WorstLag | None = None
        looks = zip(self._runs, self._partitions, self._positions, self._began_ns, self._entries, strict=True)
        for run, partition, position, began_ns, entry in looks:
            place = bisect_left(offsets.get(partition, ()), position)
            times = earliest.get(partition, ())
            lag_ns = max(0, began_ns - times[place]) if place < len(times) else 0
            if lag_ns == 0:
                caught_up.add(run)
            if run in caught_up and (worst is None or lag_ns > worst.lag_ns):
                worst = WorstLag(lag_ns, partition, entry)
        return worst

    def _add(self, run: int, look: tuple[int, int, int, int]) -> None:
        self._runs.append(run)
        for column, value in zip((self._partitions, self._positions, self._began_ns, self._entries), look, strict=True):
            column.append(value)


def _earliest_from(known: Sequence[tuple[int, int]]) -> array[int]:
    """For each place, the earliest ack at or after it."""
    earliest = array("q", [0]) * len(known)
    time = 1 << 62
    for place in range(len(known) - 1, -1, -1):
        time = earliest[place] = min(time, known[place][1])
    return earliest
