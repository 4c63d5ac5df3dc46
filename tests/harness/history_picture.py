"""What a timeline shows, gathered in one pass over a history: lanes of bars, and the times of all acks.

Operations that take less than a few columns of the picture are counted by column; longer ones keep a bar of their own.
So a picture of a million operations is as small as one of a thousand.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from harness.history import CompactedLog, Entry, Fault, Operation, ReplicaLog, faults_of
from harness.history_checker import Verdict
from harness.history_statistics import Gap

COLUMNS = 2_400
OWN_BAR_COLUMNS = 3  # an operation that takes so many has a bar of its own
CELLS_MAX = 24_000  # for a file of some MB
LANES_OF_THEIR_OWN_MAX = 40  # with more processes, those that follow one another share a lane
GAPS_OF_A_PARTITION_MAX = 100
SEVERITY = {"ok": 0, "unknown": 1, "failed": 2}


class Bar(NamedTuple):
    began_ns: int
    ended_ns: int
    outcome: str
    title: str


@dataclass(slots=True)
class Track:
    """The sends of a process, or all else that it did."""

    bars: list[Bar] = field(default_factory=list)
    cells: dict[int, dict[str, int]] = field(default_factory=dict)  # by column: operations by kind and outcome


@dataclass(slots=True)
class ProcessLane:
    process: int
    client: str
    began_ns: int
    ended_ns: int
    crashed: bool = False
    sends: Track = field(default_factory=Track)
    others: Track = field(default_factory=Track)


@dataclass(slots=True)
class Picture:
    began_ns: int
    ended_ns: int
    columns: int = COLUMNS
    processes: dict[int, ProcessLane] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    acked_ns: dict[int, array[int]] = field(default_factory=dict)  # by partition
    shown: dict[int, Operation | ReplicaLog | CompactedLog | Fault] = field(
        default_factory=dict
    )  # what shows anomalies, by number

    @property
    def column_ns(self) -> int:
        return max(1, -(-(self.ended_ns - self.began_ns + 1) // self.columns))

    def column(self, time_ns: int) -> int:
        return min(self.columns - 1, max(0, (time_ns - self.began_ns) // self.column_ns))

    def lanes(self) -> list[list[ProcessLane]]:
        """Processes by client; each has a lane, or follows another that was gone when it began."""
        processes = sorted(self.processes.values(), key=lambda lane: (lane.client, lane.began_ns, lane.process))
        if len(processes) <= LANES_OF_THEIR_OWN_MAX:
            return [[process] for process in processes]
        lanes: list[list[ProcessLane]] = []
        for process in processes:
            for lane in lanes:
                if lane[-1].client == process.client and lane[-1].ended_ns <= process.began_ns:
                    lane.append(process)
                    break
            else:
                lanes.append([process])
        return lanes

    def acked_by_column(self) -> list[int]:
        counts = [0] * self.columns
        for times in self.acked_ns.values():
            for time_ns in times:
                counts[self.column(time_ns)] += 1
        return counts

    def gaps(self, least_ns: int) -> dict[int, list[Gap]]:
        """By partition, the longest times without an ack; only what lies between two acks."""
        gaps = {}
        for partition, acked in sorted(self.acked_ns.items()):
            times = sorted(acked)
            found = [Gap(one, two, partition) for one, two in pairwise(times) if two - one >= least_ns]
            found.sort(key=lambda gap: -gap.length_ns)
            gaps[partition] = found[:GAPS_OF_A_PARTITION_MAX]
        return gaps


def gather(history: Iterable[Entry], verdict: Verdict) -> Picture:
    """Reads the history once; the verdict says from when to when it goes, and what is to be shown whole."""
    picture = Picture(verdict.statistics.began_ns, verdict.statistics.ended_ns)
    wanted = {number for anomaly in verdict.anomalies for number in anomaly.entries}
    faults = []
    for number, entry in enumerate(history):
        if number in wanted:
            picture.shown[number] = entry
        if isinstance(entry, Fault):
            faults.append(entry)
        elif isinstance(entry, Operation):
            _see(picture, entry)
    picture.faults = faults_of(faults)
    _coarsen(picture)
    return picture


def described(operation: Operation) -> str:
    """One line on an operation, with its error."""
    words = [f"process {operation.process} ({operation.client}) {operation.kind}: {operation.outcome}"]
    if operation.sends:
        words.append(f"{len(operation.sends)} records to partitions {_numbers(s.partition for s in operation.sends)}")
    if operation.polls:
        words.append(f"{len(operation.polls)} records of partitions {_numbers(p.partition for p in operation.polls)}")
    if operation.positions:
        words.append(", ".join(f"{p.partition} at {p.offset}" for p in operation.positions[:12]))
    if operation.rebalances:
        words.append(f"{len(operation.rebalances)} rebalances")
    if operation.error is not None:
        words.append(operation.error[:200])
    return "; ".join(words)


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))


def _see(picture: Picture, operation: Operation) -> None:
    lane = picture.processes.get(operation.process)
    if lane is None:
        lane = picture.processes[operation.process] = ProcessLane(
            operation.process, operation.client, operation.began_ns, operation.ended_ns
        )
    lane.ended_ns = max(lane.ended_ns, operation.ended_ns)
    lane.crashed = lane.crashed or operation.kind == "crash"
    track = lane.sends if operation.kind == "send" else lane.others
    if operation.ended_ns - operation.began_ns >= OWN_BAR_COLUMNS * picture.column_ns:
        bar = Bar(operation.began_ns, operation.ended_ns, operation.outcome, described(operation))
        track.bars.append(bar)
    else:
        cell = track.cells.setdefault(picture.column(operation.began_ns), {})
        what = f"{operation.kind} {operation.outcome}"
        cell[what] = cell.get(what, 0) + 1
    for partition, _, outcome, _, ended_ns in operation.sends:
        if outcome == "ok":
            times = picture.acked_ns.get(partition)
            if times is None:
                times = picture.acked_ns[partition] = array("q")
            times.append(operation.ended_ns if ended_ns is None else ended_ns)


def _coarsen(picture: Picture) -> None:
    """Halves the number of columns until few enough cells are left."""
    tracks = [track for lane in picture.processes.values() for track in (lane.sends, lane.others)]
    while picture.columns > 300 and sum(len(runs(track)) + len(track.bars) for track in tracks) > CELLS_MAX:
        picture.columns //= 2
        for track in tracks:
            cells: dict[int, dict[str, int]] = {}
            for column, counts in track.cells.items():
                cell = cells.setdefault(column // 2, {})
                for what, count in counts.items():
                    cell[what] = cell.get(what, 0) + count
            bars = []
            for bar in track.bars:
                if bar.ended_ns - bar.began_ns >= OWN_BAR_COLUMNS * picture.column_ns:
                    bars.append(bar)
                else:
                    what = f"operation {bar.outcome}"
                    cell = cells.setdefault(picture.column(bar.began_ns), {})
                    cell[what] = cell.get(what, 0) + 1
            track.cells, track.bars = cells, bars


class Run(NamedTuple):
    """Neighbouring cells of one colour."""

    first: int
    last: int  # inclusive
    outcome: str
    counts: dict[str, int]


def runs(track: Track) -> list[Run]:
    """Cells side by side whose worst outcome is the same, as one."""
    found: list[Run] = []
    for column, counts in sorted(track.cells.items()):
        outcome = max((what.rsplit(" ", 1)[1] for what in counts), key=SEVERITY.__getitem__)
        if found and found[-1].last == column - 1 and found[-1].outcome == outcome:
            before = found[-1]
            for what, count in counts.items():
                before.counts[what] = before.counts.get(what, 0) + count
            found[-1] = before._replace(last=column)
        else:
            found.append(Run(column, column, outcome, dict(counts)))
    return found
