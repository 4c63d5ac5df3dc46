"""Histories written by hand, an operation a line: the clock runs by itself and the rest has a default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.history import (
    CommittedOffset,
    CompactedLog,
    Entry,
    Fault,
    KeyedRecord,
    Kind,
    LogEntry,
    Operation,
    Outcome,
    Polled,
    Position,
    Rebalance,
    ReplicaLog,
    Sent,
)
from harness.history_checker import check
from harness.history_findings import Anomaly, AnomalyName

SECOND_NS = 1_000_000_000


class HandMade:
    """Each method appends an operation that takes a second, after all before it, and returns its number.

    Where a test names no partition, it is 0. Where it names no value, a record polled at offset n is 100 + n.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._now_ns = 0

    def send(
        self,
        process: int,
        *sent: tuple[int, int | None],
        partition: int = 0,
        outcome: Outcome = "ok",
    ) -> int:
        """`sent`: value and offset of each record."""
        sends = tuple(
            Sent(partition, value, outcome, offset if outcome == "ok" else None, None) for value, offset in sent
        )
        return self._add(process, "send", outcome=outcome, sends=sends)

    def poll(
        self,
        process: int,
        *offsets: int | tuple[int, int],
        partition: int = 0,
        outcome: Outcome = "ok",
        final: bool = False,
        rebalances: Sequence[Rebalance] = (),
    ) -> int:
        """`offsets`: of the records, or offset and value of each."""
        pairs = (offset if isinstance(offset, tuple) else (offset, 100 + offset) for offset in offsets)
        polls = tuple(Polled(partition, offset, value) for offset, value in pairs)
        kind: Kind = "final-poll" if final else "poll"
        return self._add(process, kind, outcome=outcome, polls=polls, rebalances=tuple(rebalances))

    def assign(self, process: int, positions: Mapping[int, int | None], *, outcome: Outcome = "ok") -> int:
        return self._add(process, "assign", outcome=outcome, positions=_positions(positions))

    def subscribe(self, process: int, *, group: str | None = "g", outcome: Outcome = "ok") -> int:
        return self._add(process, "subscribe", outcome=outcome, group=group)

    def joins(self, process: int, positions: Mapping[int, int | None], *, revoked: Sequence[int] = ()) -> int:
        """A poll without records in which these partitions are given to a member."""
        return self.poll(process, rebalances=[Rebalance(tuple(revoked), _positions(positions))])

    def commit(self, process: int, offset: int | None, *, partition: int = 0, outcome: Outcome = "ok") -> int:
        return self._add(process, "commit", outcome=outcome, positions=_positions({partition: offset}), group="g")

    def committed(self, process: int, offset: int | None, *, partition: int = 0, outcome: Outcome = "ok") -> int:
        return self._add(process, "committed", outcome=outcome, positions=_positions({partition: offset}), group="g")

    def final_committed(self, offset: int | None, *, partition: int = 0, outcome: Outcome = "ok") -> int:
        return self._add(98, "final-committed", outcome=outcome, positions=_positions({partition: offset}), group="g")

    def crash(self, process: int) -> int:
        return self._add(process, "crash")

    def read_all(self, *offsets: int | tuple[int, int], process: int = 99, partition: int = 0) -> int:
        """What a campaign ends with: all is read from the beginning."""
        self.assign(process, {partition: 0})
        return self.poll(process, *offsets, partition=partition, final=True)

    def replica(self, broker: int, *entries: LogEntry, partition: int = 0) -> int:
        self.entries.append(ReplicaLog(broker, "t", partition, entries))
        return len(self.entries) - 1

    def compacted(
        self,
        broker: int,
        *records: tuple[int, str, str | None],
        end: int | None = None,
        high_watermark: int = 0,
        committed: Sequence[tuple[int, int]] = (),
    ) -> int:
        """A replica of __consumer_offsets. `records`: offset, key, value; `committed` by group g: partition, offset."""
        kept = tuple(KeyedRecord(o, k.encode().hex(), None if v is None else v.encode().hex()) for o, k, v in records)
        end = max((offset + 1 for offset, _, _ in records), default=0) if end is None else end
        told = tuple(CommittedOffset("g", *pair) for pair in committed)
        self.entries.append(CompactedLog(broker, "__consumer_offsets", 3, high_watermark, end, kept, told))
        return len(self.entries) - 1

    def fault(self, kind: str, target: str, began_s: int, ended_s: int | None = None) -> int:
        ended_ns = None if ended_s is None else ended_s * SECOND_NS
        self.entries.append(Fault(kind, target, began_s * SECOND_NS, ended_ns))
        return len(self.entries) - 1

    def lasts(self, number: int, began_s: float, ended_s: float) -> None:
        """Sets the time of an operation, in seconds; the clock itself goes on as it was."""
        operation = self.entries[number]
        assert isinstance(operation, Operation)
        self.entries[number] = replace(operation, began_ns=int(began_s * SECOND_NS), ended_ns=int(ended_s * SECOND_NS))

    def _add(
        self,
        process: int,
        kind: Kind,
        *,
        outcome: Outcome = "ok",
        sends: tuple[Sent, ...] = (),
        polls: tuple[Polled, ...] = (),
        positions: tuple[Position, ...] = (),
        rebalances: tuple[Rebalance, ...] = (),
        group: str | None = None,
    ) -> int:
        began_ns = self._now_ns + 1_000
        self._now_ns = began_ns + SECOND_NS
        error = None if outcome == "ok" else "TimeoutError: gave up"
        times = (began_ns, self._now_ns)
        self.entries.append(
            Operation(process, "klamm", kind, *times, outcome, sends, polls, positions, rebalances, group, error)
        )
        return len(self.entries) - 1


def _positions(positions: Mapping[int, int | None]) -> tuple[Position, ...]:
    return tuple(Position(partition, offset) for partition, offset in positions.items())


def only(history: HandMade, name: AnomalyName) -> Anomaly:
    """The one anomaly there is."""
    verdict = check(history.entries)
    assert dict(verdict.counts) == {name: 1}, verdict.anomalies
    (anomaly,) = verdict.anomalies
    assert anomaly.name is name
    assert not verdict.ok
    return anomaly


def assert_fine(history: HandMade) -> None:
    assert check(history.entries).anomalies == ()


def sent(*offsets: int, process: int = 1) -> HandMade:
    """Values acked at these offsets, one operation each."""
    history = HandMade()
    for offset in offsets:
        history.send(process, (100 + offset, offset))
    return history
