"""Every value of a history: who sent it, how that ended and where it was found; with the anomalies that this shows.

A million values must fit: they are rows of columns, and what is looked up by value or by offset gives a row's number.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable

from harness.history import HistoryError, Operation
from harness.history_findings import AnomalyName, Findings
from harness.history_lag import Acks

NOBODY, OK, FAILED, UNKNOWN = range(4)  # how a row's send ended; NOBODY: no send of it was seen (yet)
OUTCOME_CODES = {"ok": OK, "failed": FAILED, "unknown": UNKNOWN}
NONE = -1
ROWS_AT_ONCE = 4_096  # by which the columns grow


class Intervals:
    """Half-open ranges of offsets, of one partition, merged."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin, end in sorted(ranges):
            if self._ends and begin <= self._ends[-1]:
                self._ends[-1] = max(end, self._ends[-1])
            elif begin < end:
                self._begins.append(begin)
                self._ends.append(end)

    def __contains__(self, offset: int) -> bool:
        place = bisect_right(self._begins, offset) - 1
        return place >= 0 and offset < self._ends[place]


class Records:
    """The values, a row each, in the order in which they were first met; the columns are longer than there are rows."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.rows: dict[int, int] = {}  # by value
        self.at: dict[int, dict[int, int]] = {}  # by partition and offset: the row acked or polled there first
        self.values = array("q")
        self.partitions = array("q")
        self.outcomes = array("b")
        self.sent_by = array("q")  # the entry of the send
        self.acked_offsets = array("q")  # NONE: not acked, or without an offset
        self.acked_ns = array("q")
        self.polled_offsets = array("q")  # the lowest at which anyone polled it; NONE: nobody did
        self.polled_by = array("q")  # the entry that polled it first
        self._sent_rows: dict[int, array[int]] = {}  # by process: its rows in the order of sending
        self.unseen = 0  # acked values that nobody polled; once concluded
        self._last_acks: dict[tuple[int, int], tuple[int, int]] = {}  # by process and partition: offset and entry
        self._duplicates: dict[int, set[int]] = {}  # row to the offsets at which it lies
        self._polled_again: dict[int, set[int]] = {}  # row to the other offsets at which it was polled
        self._conflicts: set[tuple[int, int]] = set()  # pairs of rows that were met at one offset

    def see_send(self, number: int, operation: Operation) -> None:
        """
        :raises HistoryError: the value was sent before, or the outcomes contradict one another.
        """
        sent_rows = self._sent_rows.setdefault(operation.process, array("q"))
        whole, outcomes = operation.outcome, self.outcomes
        for partition, value, outcome, offset, ended_ns in operation.sends:
            row = self.rows.get(value)
            if row is None:
                row = self._new_row(value, partition)
            elif outcomes[row] != NOBODY:
                raise HistoryError(f"entry {number} sends {value}, as entry {self.sent_by[row]} did")
            elif self.partitions[row] != partition:  # it was polled before this send was met
                self._misplaced(row, self.polled_by[row], partition, self.partitions[row])
                self.partitions[row] = partition
                self.polled_offsets[row] = self.polled_by[row] = NONE
            if outcome != whole and whole != "unknown":
                raise HistoryError(f"entry {number} is {whole}, its value {value} is {outcome}")
            outcomes[row] = OUTCOME_CODES[outcome]
            self.sent_by[row] = number
            sent_rows.append(row)
            if outcome == "ok":
                self.acked_ns[row] = operation.ended_ns if ended_ns is None else ended_ns
                if offset is not None:
                    self._acked_at(number, operation.process, row, offset)

    def see_poll(self, number: int, operation: Operation) -> None:
        rows, partitions, polled_offsets = self.rows, self.partitions, self.polled_offsets
        for partition, offset, value in operation.polls:
            row = rows.get(value)
            if row is None:
                row = self._new_row(value, partition)
            if partitions[row] != partition:
                self._misplaced(row, number, partitions[row], partition)
            elif polled_offsets[row] != offset:
                self._polled_at(number, row, offset)

    def conclude(self, covered: dict[int, Intervals], *, all_was_read: bool) -> None:
        """Adds what only the whole history shows; `covered` are the offsets that some consumer read on past."""
        nowhere = Intervals(())
        for row in range(len(self.rows)):
            outcome, polled_offset = self.outcomes[row], self.polled_offsets[row]
            if outcome == OK:
                if polled_offset == NONE:
                    self.unseen += 1
                    self._not_polled(row, covered.get(self.partitions[row], nowhere), all_was_read=all_was_read)
            elif polled_offset != NONE and outcome != UNKNOWN:
                self._polled_in_vain(row)
        for row, offsets in self._duplicates.items():
            self._findings.add(
                AnomalyName.DUPLICATE,
                self.partitions[row],
                self._entries(row),
                f"value {self.values[row]} lies at offsets {', '.join(map(str, sorted(offsets)))}",
            )
        for sent_rows in self._sent_rows.values():
            self._check_order(sent_rows)

    def acked_ns_by_partition(self) -> dict[int, array[int]]:
        """The times of all acks, sorted."""
        times: dict[int, array[int]] = {}
        for partition, outcome, time in zip(self.partitions, self.outcomes, self.acked_ns, strict=True):
            if outcome == OK:
                times.setdefault(partition, array("q")).append(time)
        return {partition: array("q", sorted(found)) for partition, found in times.items()}

    def acks(self) -> dict[int, Acks]:
        """The acks whose offsets are known."""
        found = {}
        for partition, rows in self.at.items():
            acked = sorted(offset for offset, row in rows.items() if self.acked_offsets[row] == offset)
            found[partition] = Acks(array("q", acked), array("q", (self.acked_ns[rows[offset]] for offset in acked)))
        return found

    def polled_by_partition(self) -> dict[int, list[int]]:
        """The offsets that anyone polled, sorted."""
        polled: dict[int, set[int]] = {}
        for partition, offset in zip(self.partitions, self.polled_offsets, strict=True):
            if offset != NONE:  # nor is it in what lies past the rows
                polled.setdefault(partition, set()).add(offset)
        for row, offsets in self._polled_again.items():
            polled[self.partitions[row]].update(offsets)
        return {partition: sorted(offsets) for partition, offsets in polled.items()}

    def _new_row(self, value: int, partition: int) -> int:
        row = self.rows[value] = len(self.rows)
        if row == len(self.values):
            self.outcomes.extend([NOBODY] * ROWS_AT_ONCE)
            for column in (self.values, self.partitions, self.sent_by, self.acked_offsets, self.acked_ns):
                column.extend([NONE] * ROWS_AT_ONCE)
            for column in (self.polled_offsets, self.polled_by):
                column.extend([NONE] * ROWS_AT_ONCE)
        self.values[row] = value
        self.partitions[row] = partition
        if partition not in self.at:
            self.at[partition] = {}
        return row

    def _acked_at(self, number: int, process: int, row: int, offset: int) -> None:
        partition = self.partitions[row]
        self.acked_offsets[row] = offset
        self._place(number, row, offset)
        if self.polled_offsets[row] not in (NONE, offset):
            self._duplicates.setdefault(row, {self.polled_offsets[row]}).add(offset)
        before = self._last_acks.get((process, partition))
        if before is not None and offset < before[0]:
            internal = before[1] == number
            self._findings.add(
                AnomalyName.INTERNAL_NONMONOTONIC_SEND if internal else AnomalyName.NONMONOTONIC_SEND,
                partition,
                (before[1], number),
                f"process {process} got offset {offset} for value {self.values[row]}, after {before[0]}",
            )
        else:
            self._last_acks[process, partition] = (offset, number)

    def _polled_at(self, number: int, row: int, offset: int) -> None:
        self._place(number, row, offset)
        known = self.polled_offsets[row]
        for other in (known, self.acked_offsets[row]):
            if other not in (NONE, offset):
                self._duplicates.setdefault(row, {other}).add(offset)
        if known == NONE:
            self.polled_by[row] = number
        else:
            self._polled_again.setdefault(row, {known}).add(offset)
        if known == NONE or offset < known:
            self.polled_offsets[row] = offset

    def _place(self, number: int, row: int, offset: int) -> None:
        """Two values at one offset show here, each pair once."""
        partition = self.partitions[row]
        other = self.at[partition].setdefault(offset, row)
        if other != row and (row, other) not in self._conflicts:
            self._conflicts.add((row, other))
            self._findings.add(
                AnomalyName.INCONSISTENT_OFFSETS,
                partition,
                (*self._entries(other), number),
                f"offset {offset} holds value {self.values[row]} and value {self.values[other]}",
            )

    def _misplaced(self, row: int, number: int, sent_to: int, polled_from: int) -> None:
        self._findings.add(
            AnomalyName.PHANTOM_READ,
            polled_from,
            (self.sent_by[row], number) if self.sent_by[row] != NONE else (number,),
            f"value {self.values[row]} of partition {sent_to} was polled from partition {polled_from}",
        )

    def _not_polled(self, row: int, covered: Intervals, *, all_was_read: bool) -> None:
        partition, offset = self.partitions[row], self.acked_offsets[row]
        if offset != NONE and offset in covered:
            description = (
                f"value {self.values[row]} was acked at offset {offset}; consumers read past it, nobody saw it"
            )
            self._findings.add(AnomalyName.LOST_WRITE, partition, (self.sent_by[row],), description)
        elif all_was_read:
            where = "" if offset == NONE else f" at offset {offset}"
            description = f"value {self.values[row]} was acked{where}; nobody had seen it by the end"
            self._findings.add(AnomalyName.UNSEEN, partition, (self.sent_by[row],), description)

    def _polled_in_vain(self, row: int) -> None:
        """What was polled and had failed, or was never sent."""
        failed = self.outcomes[row] == FAILED
        self._findings.add(
            AnomalyName.ABORTED_READ if failed else AnomalyName.PHANTOM_READ,
            self.partitions[row],
            self._entries(row),
            f"value {self.values[row]} was polled at offset {self.polled_offsets[row]}; "
            + ("its send had failed" if failed else "nobody sent it"),
        )

    def _check_order(self, sent_rows: array[int]) -> None:
        """Where an ack does not say the offset, a poll does; two acks were compared as they came."""
        highest: dict[int, tuple[int, int]] = {}  # by partition: offset and row, whoever told it
        highest_polled: dict[int, tuple[int, int]] = {}  # the same of those that polls alone tell
        for row in sent_rows:
            partition, offset = self.partitions[row], self.acked_offsets[row]
            acked = offset != NONE
            if not acked:
                offset = self.polled_offsets[row]
                if offset == NONE or self.outcomes[row] == FAILED:
                    continue
            before = (highest_polled if acked else highest).get(partition)
            if before is not None and offset < before[0]:
                self._findings.add(
                    AnomalyName.ORDER_BROKEN,
                    partition,
                    (*self._entries(before[1]), *self._entries(row)),
                    f"value {self.values[row]} lies at offset {offset}, "
                    f"value {self.values[before[1]]}, sent before it, at {before[0]}",
                )
            for found in (highest,) if acked else (highest, highest_polled):
                if partition not in found or offset > found[partition][0]:
                    found[partition] = (offset, row)

    def _entries(self, row: int) -> tuple[int, ...]:
        return tuple(number for number in (self.sent_by[row], self.polled_by[row]) if number != NONE)
