"""Judges the history of a fault campaign: pure, a history in, a verdict out.

The rules are those of Jepsen's kafka workload without transactions, and some of our own (order, replicas, commits).
Their names and meanings are in `history_findings.py`; each rule is in the file of what it looks at. What cannot be
judged, since nobody read everything at the end or no replica was read, is said in the verdict and not taken for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.history import CompactedLog, Entry, Fault, Operation, ReplicaLog, faults_of
from harness.history_commits import Commits
from harness.history_compacted import CompactedLogs
from harness.history_consumers import Consumers
from harness.history_findings import Anomaly, AnomalyName, Findings
from harness.history_lag import Lag
from harness.history_records import Records
from harness.history_replicas import Replicas
from harness.history_statistics import Recording, Statistics

KEPT_OF_EACH_NAME = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    anomalies: tuple[Anomaly, ...]  # the first ones of each name
    counts: Counter[AnomalyName]  # all of them
    unchecked: tuple[str, ...]  # what could not be judged, in words
    statistics: Statistics

    @property
    def ok(self) -> bool:
        """No anomaly, and everything was judged."""
        return not self.anomalies and not self.unchecked


def check(history: Iterable[Entry], *, kept_of_each_name: int = KEPT_OF_EACH_NAME) -> Verdict:
    """Reads the history once.

    :raises HistoryError: the recorder broke a rule of `history.py`, so that nothing can be said.
    """
    return _Check(kept_of_each_name).run(history)


class _Check:
    def __init__(self, kept_of_each_name: int) -> None:
        self._findings = Findings(kept_of_each_name)
        self._records = Records(self._findings)
        self._commits = Commits(self._findings)
        self._lag = Lag()
        self._consumers = Consumers(self._findings, self._commits, self._lag)
        self._replicas = Replicas(self._findings)
        self._compacted = CompactedLogs(self._findings)
        self._recording = Recording()
        self._faults: list[Fault] = []
        self._final_poll = False

    def run(self, history: Iterable[Entry]) -> Verdict:
        for number, entry in enumerate(history):
            match entry:
                case Operation():
                    self._see(number, entry)
                case Fault():
                    self._faults.append(entry)
                case ReplicaLog():
                    self._replicas.see(number, entry)
                case CompactedLog():
                    self._compacted.see(number, entry)
        return self._conclude()

    def _see(self, number: int, operation: Operation) -> None:
        self._recording.see(number, operation)
        match operation.kind:
            case "send":
                self._records.see_send(number, operation)
            case "poll" | "final-poll":
                self._records.see_poll(number, operation)
                self._final_poll = self._final_poll or operation.kind == "final-poll"
            case "commit" | "committed" | "final-committed":
                self._commits.see(number, operation)
                if operation.kind == "final-committed":
                    self._compacted.see_told(number, operation)
        self._consumers.see(number, operation)

    def _conclude(self) -> Verdict:
        records = self._records
        covered = self._consumers.conclude()
        polled = records.polled_by_partition()
        self._consumers.find_skips(polled)
        records.conclude(covered, all_was_read=self._final_poll)
        self._commits.conclude(polled)
        self._replicas.conclude({partition: sorted(rows) for partition, rows in records.at.items()})
        self._compacted.conclude()
        acked_ns = records.acked_ns_by_partition()
        statistics = self._recording.conclude(acked_ns, faults_of(self._faults))
        statistics.unseen = records.unseen
        statistics.worst_lag = self._lag.conclude(records.acks())
        findings = self._findings
        return Verdict(tuple(findings.kept), findings.counts, self._unchecked(set(acked_ns)), statistics)

    def _unchecked(self, acked: set[int]) -> tuple[str, ...]:
        unchecked = []
        if acked and not self._final_poll:
            unchecked.append("nobody read everything at the end: acked values that nobody saw are not judged")
        alone = sorted(acked - self._replicas.partitions)
        if alone:
            unchecked.append(f"replicas were not compared of partitions {', '.join(map(str, alone))}")
        return (*unchecked, *self._compacted.unchecked)
