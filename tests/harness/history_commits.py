"""Offsets committed, as a register for each group and partition: what is read of it must be what it may hold.

A commit may take effect at any time between its beginning and its end; one that ended unknown, for a minute longer (a
request that waits in the buffers of a paused broker); one that failed, never. A read sees what was there at some time
between its own beginning and end. So it may see every commit that began before the read ended, except those that ended
before an acked commit began which ended before the read began. Commits of two members that race are all legal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.history import HistoryError, Operation
from harness.history_findings import AnomalyName, Findings

UNKNOWN_LASTS_NS = 60_000_000_000


class CommitRead(NamedTuple):
    """Someone saw a group's committed offset, or began to read by it."""

    number: int  # the entry
    process: int
    began_ns: int
    ended_ns: int
    offset: int | None  # None: there was none
    exact: bool = (
        True  # False: it is the first record that a member got, so that the committed offset lies at or before it
    )


class _Commit(NamedTuple):
    ended_ns: int
    began_ns: int
    offset: int
    number: int


@dataclass(slots=True)
class _Register:
    acked: list[_Commit] = field(default_factory=list)
    unknown: list[_Commit] = field(default_factory=list)
    asked: list[CommitRead] = field(default_factory=list)
    started: list[CommitRead] = field(default_factory=list)


class _Candidates(NamedTuple):
    commits: list[_Commit]
    latest: (
        _Commit | None
    )  # the acked commit that everyone must have seen, or a later one; None: there may be none at all


class Commits:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._registers: dict[tuple[str, int], _Register] = {}

    def see(self, number: int, operation: Operation) -> None:
        """A `commit`, a `committed` or a `final-committed`.

        :raises HistoryError: it names no group.
        """
        if operation.group is None:
            raise HistoryError(f"entry {number} is a {operation.kind} of no group")
        for position in operation.positions:
            register = self._register(operation.group, position.partition)
            if operation.kind != "commit":
                if operation.outcome == "ok":
                    times = (operation.began_ns, operation.ended_ns)
                    register.asked.append(CommitRead(number, operation.process, *times, position.offset))
            elif position.offset is not None:
                begun = (operation.began_ns, position.offset, number)
                if operation.outcome == "ok":
                    register.acked.append(_Commit(operation.ended_ns, *begun))
                elif operation.outcome == "unknown":
                    register.unknown.append(_Commit(operation.ended_ns + UNKNOWN_LASTS_NS, *begun))

    def see_start(self, group: str, partition: int, read: CommitRead) -> None:
        """A member of the group began to read a partition at an offset."""
        self._register(group, partition).started.append(read)

    def conclude(self, polled: Mapping[int, Sequence[int]]) -> None:
        """`polled`: by partition, the sorted offsets that anyone read."""
        for (group, partition), register in self._registers.items():
            judge = _Judge(register)
            for read in register.asked:
                self._judge_asked(group, partition, read, judge)
            for read in register.started:
                self._judge_started(group, partition, read, judge.candidates(read), polled.get(partition, ()))

    def _judge_asked(self, group: str, partition: int, read: CommitRead, judge: _Judge) -> None:
        commits, latest = judge.candidates(read)
        if read.offset is None and latest is None:
            return
        if any(commit.offset == read.offset for commit in commits):
            return
        seen = "nothing" if read.offset is None else str(read.offset)
        if latest is None or (read.offset is not None and read.offset not in judge.offsets):
            name, expected = AnomalyName.PHANTOM_COMMIT, "which nobody had committed"
        else:
            name, expected = AnomalyName.LOST_COMMIT, f"after {latest.offset} was acked"
        entries = (read.number,) if latest is None else (latest.number, read.number)
        self._findings.add(name, partition, entries, f"group {group} had committed {seen}, {expected}")

    def _judge_started(
        self, group: str, partition: int, read: CommitRead, candidates: _Candidates, polled: Sequence[int]
    ) -> None:
        assert read.offset is not None
        below = [commit for commit in candidates.commits if commit.offset <= read.offset]
        latest = candidates.latest
        if latest is not None and not below:
            self._findings.add(
                AnomalyName.LOST_COMMIT,
                partition,
                (latest.number, read.number),
                f"process {read.process} of group {group} began at {read.offset} after {latest.offset} was acked",
            )
            return
        nearest = max(below, key=lambda commit: commit.offset, default=None)
        begin = -1 if nearest is None else nearest.offset
        place = bisect_left(polled, begin)
        if place < len(polled) and polled[place] < read.offset:
            had = "nothing" if nearest is None else str(nearest.offset)
            self._findings.add(
                AnomalyName.GROUP_SKIP,
                partition,
                (read.number,) if nearest is None else (nearest.number, read.number),
                f"process {read.process} of group {group} began at {read.offset}, where the group had committed {had}",
            )

    def _register(self, group: str, partition: int) -> _Register:
        return self._registers.setdefault((group, partition), _Register())


class _Judge:
    """Looks up what a register may have held at a time."""

    def __init__(self, register: _Register) -> None:
        acked = sorted(register.acked)
        self._acked_ended = [commit.ended_ns for commit in acked]
        self._latest: list[_Commit] = []  # of the first n + 1 to end, the one that began last
        for commit in acked:
            latest = self._latest[-1] if self._latest else commit
            self._latest.append(commit if commit.began_ns >= latest.began_ns else latest)
        self._commits = sorted(register.acked + register.unknown)
        self._ended = [commit.ended_ns for commit in self._commits]
        self._began_from: list[int] = []  # the earliest beginning of those from n on
        for commit in reversed(self._commits):
            self._began_from.append(min(commit.began_ns, self._began_from[-1] if self._began_from else commit.began_ns))
        self._began_from.reverse()
        self.offsets = {commit.offset for commit in self._commits}

    def candidates(self, read: CommitRead) -> _Candidates:
        place = bisect_left(self._acked_ended, read.began_ns)
        latest = self._latest[place - 1] if place else None
        return _Candidates(list(self._possible(latest, read.ended_ns)), latest)

    def _possible(self, latest: _Commit | None, until_ns: int) -> Iterator[_Commit]:
        place = 0 if latest is None else bisect_left(self._ended, latest.began_ns)
        while place < len(self._commits) and self._began_from[place] < until_ns:
            if self._commits[place].began_ns < until_ns:
                yield self._commits[place]
            place += 1
