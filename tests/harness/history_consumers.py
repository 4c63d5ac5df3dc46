"""Each consumer's way through each partition: where it began, where it jumped, and which offsets it read on past.

A *run* is the time for which a consumer keeps a partition: from an assignment (by hand or by a rebalance) to the next
that takes it away. Within a run each poll goes on where the last one ended. Offsets without a record are no jump: what
counts is whether anyone read a record between. (One that was acked there and that nobody ever read is a lost write.)
Logs must keep all they are given: a topic with retention or compaction would look like skips.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.history import HistoryError, Operation, Polled, Position, Rebalance
from harness.history_commits import CommitRead, Commits
from harness.history_findings import AnomalyName, Findings
from harness.history_lag import Lag, Looks
from harness.history_records import Intervals


@dataclass(slots=True)
class Run:
    """One partition in the hands of one consumer."""

    looks: Looks
    entry: int  # what last set `next_offset`
    began_ns: int  # from when on the group's committed offset may have been asked for
    start: int | None  # from here to `next_offset` all was read; None: not known yet
    next_offset: int | None  # None: not known, the first record will tell
    floor: int | None = None  # where next_offset is None: a record below this would go back
    from_group: bool = False  # the start is still to be compared with the group's committed offset
    committed: tuple[int, int] | None = None  # the highest offset that it committed itself, and the entry


@dataclass(slots=True)
class _Consumer:
    runs: dict[int, Run] = field(default_factory=dict)
    group: str | None = None
    unsure: bool = False  # an assignment ended unknown: partitions may be its own that no one told of
    asked_ns: int = (
        0  # when the operation before this one (no send) began: from then on a rebalance may have taken place
    )
    left_at: dict[int, int] = field(default_factory=dict)  # by partition: the highest next offset of runs that ended


class _Gap(NamedTuple):
    """Offsets that a consumer passed over; an anomaly if anyone read one of them."""

    name: AnomalyName
    process: int
    partition: int
    begin: int
    end: int
    entries: tuple[int, ...]


class Consumers:
    def __init__(self, findings: Findings, commits: Commits, lag: Lag) -> None:
        self._findings = findings
        self._commits = commits
        self._lag = lag
        self._consumers: dict[int, _Consumer] = {}
        self._gaps: list[_Gap] = []
        self._covered: dict[int, list[tuple[int, int]]] = {}

    def see(self, number: int, operation: Operation) -> None:
        """An operation of any kind; those of one process in their order."""
        consumer = self._consumers.setdefault(operation.process, _Consumer())
        match operation.kind:
            case "poll" | "final-poll":
                self._poll(number, operation, consumer)
            case "assign" | "subscribe":
                self._assign(number, operation, consumer)
            case "commit":
                self._commit(number, operation, consumer)
            case "crash":
                self._drop(consumer, list(consumer.runs))
        if operation.kind != "send":
            consumer.asked_ns = operation.began_ns

    def conclude(self) -> dict[int, Intervals]:
        """Ends what still runs; returns by partition what was read on past."""
        for consumer in self._consumers.values():
            self._drop(consumer, list(consumer.runs))
        return {partition: Intervals(ranges) for partition, ranges in self._covered.items()}

    def find_skips(self, polled: Mapping[int, Sequence[int]]) -> None:
        """`polled`: by partition, the sorted offsets that anyone read."""
        for gap in self._gaps:
            known = polled.get(gap.partition, ())
            place = bisect_left(known, gap.begin)
            if place < len(known) and known[place] < gap.end:
                count = bisect_left(known, gap.end) - place
                did = "committed" if gap.name is AnomalyName.COMMIT_PAST_POLL else "read"
                self._findings.add(
                    gap.name,
                    gap.partition,
                    gap.entries,
                    f"process {gap.process} {did} on at {gap.end} where {gap.begin} was next; "
                    f"between them lie {count} records that consumers have read, the first at {known[place]}",
                )

    def _poll(self, number: int, operation: Operation, consumer: _Consumer) -> None:
        done = 0
        for rebalance in operation.rebalances:
            self._read(number, operation, consumer, operation.polls[done : rebalance.polled_before])
            done = rebalance.polled_before
            self._rebalance(number, operation, consumer, rebalance)
        self._read(number, operation, consumer, operation.polls[done:] if done else operation.polls)
        for run in consumer.runs.values():
            if run.next_offset is not None:
                run.looks.look(run.next_offset, operation.began_ns, number)
        if operation.outcome == "unknown":
            for partition, run in consumer.runs.items():
                self._cover(partition, run)
                run.floor = run.floor if run.next_offset is None else run.next_offset
                run.start = run.next_offset = None
                run.from_group = False

    def _read(self, number: int, operation: Operation, consumer: _Consumer, polls: Sequence[Polled]) -> None:
        runs = consumer.runs
        for partition, offset, _ in polls:
            run = runs.get(partition)
            if run is None:
                run = self._unassigned(number, operation, consumer, partition, offset)
            if offset != run.next_offset:
                self._jump(number, operation, consumer, partition, offset)
            run.next_offset = offset + 1
            run.entry = number

    def _jump(self, number: int, operation: Operation, consumer: _Consumer, partition: int, offset: int) -> None:
        run = consumer.runs[partition]
        internal = run.entry == number
        expected = run.floor if run.next_offset is None else run.next_offset
        if expected is not None and offset < expected:
            self._findings.add(
                AnomalyName.INTERNAL_NONMONOTONIC_POLL if internal else AnomalyName.NONMONOTONIC_POLL,
                partition,
                (run.entry, number),
                f"process {operation.process} read offset {offset} where {expected} was next",
            )
            self._cover(partition, run)
            run.start = offset
        elif run.next_offset is None:
            run.start = offset
            self._compare_with_group(number, operation, consumer, Position(partition, offset), exact=False)
        else:
            name = AnomalyName.INTERNAL_POLL_SKIP if internal else AnomalyName.POLL_SKIP
            entries = (run.entry, number)
            self._gaps.append(_Gap(name, operation.process, partition, run.next_offset, offset, entries))

    def _unassigned(self, number: int, operation: Operation, consumer: _Consumer, partition: int, offset: int) -> Run:
        if not consumer.unsure:
            self._findings.add(
                AnomalyName.UNASSIGNED_POLL,
                partition,
                (number,),
                f"process {operation.process} read offset {offset} of partition {partition}; "
                f"it has {sorted(consumer.runs) or 'none'}",
            )
        run = consumer.runs[partition] = self._run(number, operation, Position(partition))
        return run

    def _assign(self, number: int, operation: Operation, consumer: _Consumer) -> None:
        if operation.outcome == "failed":
            return
        self._drop(consumer, list(consumer.runs))
        consumer.unsure = operation.outcome == "unknown"
        consumer.group = operation.group if operation.kind == "subscribe" else None
        consumer.asked_ns = operation.began_ns
        if operation.outcome == "ok":
            for position in operation.positions:
                consumer.runs[position.partition] = self._run(number, operation, position)
        for rebalance in operation.rebalances:
            self._rebalance(number, operation, consumer, rebalance)

    def _rebalance(self, number: int, operation: Operation, consumer: _Consumer, rebalance: Rebalance) -> None:
        self._drop(consumer, rebalance.revoked)
        for position in rebalance.assigned:
            partition = position.partition
            if partition in consumer.runs:
                self._drop(consumer, (partition,))
            run = consumer.runs[partition] = self._run(number, operation, position)
            run.began_ns = consumer.asked_ns
            run.from_group = consumer.group is not None
            if run.from_group and position.offset is not None:
                self._compare_with_group(number, operation, consumer, position, exact=True)

    def _compare_with_group(
        self,
        number: int,
        operation: Operation,
        consumer: _Consumer,
        position: Position,
        *,
        exact: bool,
    ) -> None:
        run = consumer.runs[position.partition]
        if run.from_group and consumer.group is not None:
            run.from_group = False
            read = CommitRead(number, operation.process, run.began_ns, operation.ended_ns, position.offset, exact)
            self._commits.see_start(consumer.group, position.partition, read)

    def _commit(self, number: int, operation: Operation, consumer: _Consumer) -> None:
        for partition, offset in ((position.partition, position.offset) for position in operation.positions):
            if offset is None:
                raise HistoryError(f"entry {number} commits no offset for partition {partition}")
            if operation.outcome == "failed":
                continue
            run = consumer.runs.get(partition)
            known = run.next_offset if run is not None else consumer.left_at.get(partition, 0)
            if known is not None and offset > known:
                entries = (number,) if run is None else (run.entry, number)
                name = AnomalyName.COMMIT_PAST_POLL
                self._gaps.append(_Gap(name, operation.process, partition, known, offset, entries))
            if run is None or operation.outcome != "ok":
                continue
            if run.committed is not None and offset < run.committed[0]:
                self._findings.add(
                    AnomalyName.COMMIT_BACKWARDS,
                    partition,
                    (run.committed[1], number),
                    f"process {operation.process} committed {offset} after {run.committed[0]}",
                )
            else:
                run.committed = (offset, number)

    def _run(self, number: int, operation: Operation, position: Position) -> Run:
        return Run(self._lag.begin(position.partition), number, operation.began_ns, position.offset, position.offset)

    def _drop(self, consumer: _Consumer, partitions: Sequence[int]) -> None:
        for partition in partitions:
            run = consumer.runs.pop(partition, None)
            if run is not None:
                self._cover(partition, run)
                if run.next_offset is not None:
                    consumer.left_at[partition] = max(run.next_offset, consumer.left_at.get(partition, 0))

    def _cover(self, partition: int, run: Run) -> None:
        if run.start is not None and run.next_offset is not None and run.start < run.next_offset:
            self._covered.setdefault(partition, []).append((run.start, run.next_offset))
