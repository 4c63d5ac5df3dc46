"""Replicas of a partition, compared as they lie on the disks: rule 2 of the design, and that each holds what was acked.

They were read after the faults healed, with every replica in sync. What one replica holds past the end of another may
be what was never acked and never read; all else is on all, at the same offset, in the same epoch, with the same bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from harness.history import LogEntry, ReplicaLog
from harness.history_findings import AnomalyName, Findings


class Replicas:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._logs: dict[int, list[tuple[int, ReplicaLog]]] = {}

    def see(self, number: int, log: ReplicaLog) -> None:
        self._logs.setdefault(log.partition, []).append((number, log))

    @property
    def partitions(self) -> frozenset[int]:
        """Those whose replicas can be compared."""
        return frozenset(partition for partition, logs in self._logs.items() if len(logs) > 1)

    def conclude(self, known: Mapping[int, Sequence[int]]) -> None:
        """`known`: by partition, the sorted offsets that were acked or that anyone read."""
        for partition, logs in self._logs.items():
            first_number, first = max(logs, key=lambda pair: _end(pair[1]))
            for number, log in logs:
                difference = None if log is first else _difference(first, log)
                if difference is not None:
                    self._add(partition, (first_number, number), difference)
                missing = _missing(log, known.get(partition, ()))
                if missing is not None:
                    what = f"broker {log.broker} lacks offset {missing}, which was acked or read; its log ends at"
                    self._add(partition, (number,), f"{what} {_end(log)}")

    def _add(self, partition: int, entries: tuple[int, ...], description: str) -> None:
        self._findings.add(AnomalyName.REPLICAS_DIFFER, partition, entries, description)


def _end(log: ReplicaLog) -> int:
    """The log end offset."""
    return log.entries[-1].last_offset + 1 if log.entries else 0


def _difference(one: ReplicaLog, other: ReplicaLog) -> str | None:
    """The first batch in which two logs differ, where both have got to; None: there is none."""
    begin = max((log.entries[0].base_offset for log in (one, other) if log.entries), default=0)
    end = min(_end(one), _end(other))
    kept = [[entry for entry in log.entries if begin <= entry.base_offset < end] for log in (one, other)]
    for place in range(max(map(len, kept))):
        mine, its = (entries[place] if place < len(entries) else None for entries in kept)
        if mine != its:
            return f"broker {one.broker} holds {_said(mine)}, broker {other.broker} {_said(its)}"
    return None


def _said(entry: LogEntry | None) -> str:
    if entry is None:
        return "nothing more"
    return f"offsets {entry.base_offset} to {entry.last_offset} of epoch {entry.leader_epoch} ({entry.digest})"


def _missing(log: ReplicaLog, known: Sequence[int]) -> int | None:
    """The first known offset from the log's start on that no batch of it covers."""
    entries = log.entries
    place = 0
    for index in range(bisect_left(known, entries[0].base_offset if entries else 0), len(known)):
        offset = known[index]
        while place < len(entries) and entries[place].last_offset < offset:
            place += 1
        if place == len(entries) or entries[place].base_offset > offset:
            return offset
    return None
