"""What a campaign did, in figures: the table that a report quotes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.history import Fault, HistoryError, Operation, Outcome
from harness.history_lag import WorstLag


class Gap(NamedTuple):
    """A time without an ack: from the first attempt or an ack to the next ack, or to the end of the last attempt."""

    began_ns: int
    ended_ns: int
    partition: int | None = None  # None: of any partition

    @property
    def length_ns(self) -> int:
        return self.ended_ns - self.began_ns


@dataclass(slots=True)
class FaultCount:
    count: int = 0
    lasted_ns: int = 0


@dataclass(slots=True)
class Statistics:
    began_ns: int = 0
    ended_ns: int = 0
    processes: int = 0
    operations: Counter[tuple[str, str, Outcome]] = field(default_factory=Counter)  # by client, kind and outcome
    sent: Counter[Outcome] = field(default_factory=Counter)  # records
    polled: int = 0  # records, each as often as it was polled
    unseen: int = 0  # acked values that nobody polled, whether or not that is an anomaly
    longest_gap: Gap | None = None  # None: nothing was sent
    longest_gaps: dict[int, Gap] = field(default_factory=dict)  # by partition
    worst_lag: WorstLag | None = None
    faults: dict[str, FaultCount] = field(default_factory=dict)  # by kind


class Recording:
    """Counts operations as they pass, and sees that each process kept to the rules of a history."""

    def __init__(self) -> None:
        self.statistics = Statistics(began_ns=1 << 62)
        self._began_ns: dict[int, int] = {}  # by process: of the last operation
        self._ended_ns: dict[int, int] = {}  # by process: of the last one that is no send
        self._all_ended_ns: dict[int, int] = {}  # by process: the last end of all
        self._crashed: set[int] = set()
        self._attempts: dict[int, tuple[int, int]] = {}  # by partition: the first beginning, the last end

    def see(self, number: int, operation: Operation) -> None:
        """
        :raises HistoryError: operations of one process that are no sends overlap, or one follows its crash, or they are
            not in the order in which they began, or one ends before it began.
        """
        process, began_ns, ended_ns = operation.process, operation.began_ns, operation.ended_ns
        if process in self._crashed:
            raise HistoryError(f"entry {number}: process {process} does something after its crash")
        earliest = self._earliest(process, operation)
        if not earliest <= began_ns <= ended_ns:
            raise HistoryError(
                f"entry {number} of process {process} lasts from {began_ns} to {ended_ns}; "
                f"after what came before it can begin at {earliest}"
            )
        self._began_ns[process] = began_ns
        self._all_ended_ns[process] = max(ended_ns, self._all_ended_ns.get(process, 0))
        if operation.kind != "send":
            self._ended_ns[process] = ended_ns
        statistics = self.statistics
        statistics.operations[operation.client, operation.kind, operation.outcome] += 1
        statistics.polled += len(operation.polls)
        statistics.began_ns = min(statistics.began_ns, began_ns)
        statistics.ended_ns = max(statistics.ended_ns, ended_ns)
        if operation.sends:
            statistics.sent.update(sent.outcome for sent in operation.sends)
            for partition in {sent.partition for sent in operation.sends}:
                first, last = self._attempts.get(partition, (began_ns, ended_ns))
                if first >= began_ns or last <= ended_ns:
                    self._attempts[partition] = (min(first, began_ns), max(last, ended_ns))
        if operation.kind == "crash":
            self._crashed.add(process)

    def _earliest(self, process: int, operation: Operation) -> int:
        """When the process' next operation may begin."""
        match operation.kind:
            case "send":
                return self._began_ns.get(process, 0)
            case "crash":
                return self._all_ended_ns.get(process, 0)
        return max(self._began_ns.get(process, 0), self._ended_ns.get(process, 0))

    def conclude(self, acked_ns: Mapping[int, Sequence[int]], faults: Iterable[Fault]) -> Statistics:
        """`acked_ns`: by partition, the times of all acks, sorted."""
        statistics = self.statistics
        statistics.processes = len(self._began_ns)
        if not self._began_ns:
            statistics.began_ns = 0
        for partition, (first, last) in self._attempts.items():
            statistics.longest_gaps[partition] = longest_gap(acked_ns.get(partition, ()), first, last, partition)
        if self._attempts:
            everything = sorted(time for times in acked_ns.values() for time in times)
            first = min(first for first, _ in self._attempts.values())
            last = max(last for _, last in self._attempts.values())
            statistics.longest_gap = longest_gap(everything, first, last)
        for fault in faults:
            count = statistics.faults.setdefault(fault.kind, FaultCount())
            count.count += 1
            ended_ns = statistics.ended_ns if fault.ended_ns is None else fault.ended_ns
            count.lasted_ns += max(0, ended_ns - fault.began_ns)
        return statistics


def longest_gap(acked_ns: Sequence[int], first: int, last: int, partition: int | None = None) -> Gap:
    """The longest time without an ack from the first attempt to the end of the last one."""
    longest = Gap(first, first, partition)
    before = first
    for time in acked_ns:
        if time - before > longest.length_ns:
            longest = Gap(before, time, partition)
        before = time
    return Gap(before, last, partition) if last - before > longest.length_ns else longest
