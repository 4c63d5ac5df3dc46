"""A thread of the workload: what it writes of what its client tells it, with a client that does as it is told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from chaos.client import ClientError, Ownership, PolledRecord, PollResult, Sending, SendResult, Spot
from chaos.journal import Journal, read_journal
from chaos.worker import PROCESSES_PER_WORKER, SENDS_MAX, VALUES_PER_PROCESS, Worker
from harness.history import Operation, Polled, Rebalance
from harness.history_checker import check

PARTITIONS: list[Spot] = [("orders", 0), ("orders", 1), ("visits", 0)]


class FakeClient:
    """Keeps what it is sent, gives it back, and breaks after some operations."""

    keeps_subscription = False

    def __init__(self, log: dict[Spot, list[bytes]], operations: int, stopping: threading.Event) -> None:
        self._log = log
        self._left = operations
        self._stopping = stopping
        self._positions: dict[Spot, int] = {}
        self._news: list[Ownership] = []
        self._late: list[tuple[Sending, int, SendResult]] = []
        self.ahead = 0  # offsets that were there before
        self.mute = False  # it never answers
        self.sends = 0
        self.fatal = False
        self.closed = False

    def _operation(self) -> bool:
        self._left -= 1
        if self._left <= 0 and not self.fatal:
            self._stopping.set()
        return self._left <= 0 and self.fatal

    def send(self, records: Sequence[tuple[Spot, bytes]]) -> Sending:
        broken = self._operation()
        self.sends += 1
        sending = Sending(len(records))
        for index, (spot, value) in enumerate(records):
            self._log[spot].append(value)
            outcome = "unknown" if len(self._log[spot]) % 5 == 0 else "ok"
            offset = self.ahead + len(self._log[spot]) - 1 if outcome == "ok" else None
            result = SendResult(outcome, offset, 0, None, broken)  # type: ignore[arg-type]
            self._late.append((sending, index, result))
        if self._left <= 0:
            self._tell()  # nobody polls any more
        return sending

    def poll(self) -> PollResult:
        result = PollResult(fatal=self._operation())
        self._tell()  # answers come when the caller is at something else
        result.ownerships, self._news = self._news, []
        for spot, offset in self._positions.items():
            found = self._log[spot][offset - self.ahead :] if offset >= self.ahead else [b"1"]
            result.records += [PolledRecord(spot, offset + index, value) for index, value in enumerate(found)]
            self._positions[spot] = offset + len(found)
        return result

    def _tell(self) -> None:
        if not self.mute:
            for sending, index, answer in self._late:
                sending.answer(index, replace(answer, ended_ns=time.monotonic_ns()))
            self._late = []

    def assign(self, positions: Mapping[Spot, int]) -> None:
        self._positions = dict(positions)

    def subscribe(self, topics: Sequence[str]) -> None:
        assert topics == ["orders", "visits"]
        self._positions = {PARTITIONS[0]: 0}
        self._news = [Ownership((), (PARTITIONS[0],), 0)]

    def commit(self, positions: Mapping[Spot, int]) -> None:
        raise ClientError("failed", "the group rebalances")

    def committed(self, spots: Sequence[Spot]) -> dict[Spot, int | None]:
        return dict.fromkeys(spots)

    def close(self) -> None:
        self.closed = True


def work(
    tmp_path: Path, lives: Sequence[int], seed: int = 1, *, mute: bool = False, ahead: int = 0
) -> tuple[list[Operation], list[FakeClient]]:
    """A worker whose clients end after so many operations: each but the last one by a fatal error.

    `mute`: the first one never answers. `ahead`: so many offsets are taken when it begins.
    """
    log: dict[Spot, list[bytes]] = {spot: [] for spot in PARTITIONS}
    stopping = threading.Event()
    clients: list[FakeClient] = []

    def connect(client_id: str) -> FakeClient:
        if len(clients) == 1 and client_id.endswith("01") and not refused:
            refused.append(client_id)
            raise ClientError("failed", "nobody is there yet")
        clients.append(FakeClient(log, lives[len(clients)], stopping))
        clients[-1].fatal = len(clients) < len(lives)
        clients[-1].mute = mute and len(clients) == 1
        clients[-1].ahead = ahead
        return clients[-1]

    refused: list[str] = []
    journal = Journal(tmp_path / "journal")
    Worker(
        first_process=300,
        library="klamm",
        group="readers",
        partitions=PARTITIONS,
        journal=journal,
        connect=connect,
        random=Random(seed),
        pace_s=0.0,
        stopping=stopping,
    ).run()
    journal.close()
    return list(read_journal(tmp_path / "journal", None)), clients


def test_values_are_unique_and_name_their_process(tmp_path: Path) -> None:
    operations, _ = work(tmp_path, [300])
    values = [sent.value for operation in operations for sent in operation.sends]
    assert values and values == [300 * VALUES_PER_PROCESS + n for n in range(1, len(values) + 1)]


def test_sends_are_under_way_beside_one_another(tmp_path: Path) -> None:
    operations, _ = work(tmp_path, [600])
    sends = [operation for operation in operations if operation.kind == "send"]
    under_way = [
        sum(other.began_ns <= one.began_ns <= other.ended_ns for other in sends[max(0, index - 50) : index + 1])
        for index, one in enumerate(sends)
    ]
    assert 3 <= max(under_way) <= SENDS_MAX
    assert check(operations).counts.total() == 0, "and keep to the rules of a history"


def test_sends_that_are_never_answered_keep_it_from_sending_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.worker._SETTLE_SECONDS", 0.0)
    operations, clients = work(tmp_path, [40, 60], mute=True)
    assert clients[0].sends == SENDS_MAX
    first = [operation for operation in operations if operation.process == 300 and operation.kind == "send"]
    assert len(first) == SENDS_MAX
    assert {sent.outcome for operation in first for sent in operation.sends} == {"unknown"}


def test_an_assignment_far_behind_is_given_up(tmp_path: Path) -> None:
    operations, _ = work(tmp_path, [60], ahead=1_000_000, seed=5)
    assigned = [operation for operation in operations if operation.kind == "assign"]
    began_at = [position.offset for operation in assigned for position in operation.positions]
    assert 0 in began_at, "where nothing is known of a partition, it begins at the beginning"
    assert any(offset is not None and offset > 900_000 for offset in began_at)


def test_every_outcome_is_written(tmp_path: Path) -> None:
    operations, clients = work(tmp_path, [600])
    kinds = Counter(operation.kind for operation in operations)
    assert set(kinds) == {"send", "poll", "assign", "subscribe", "commit", "committed"}
    assert {sent.outcome for operation in operations for sent in operation.sends} == {"ok", "unknown"}
    assert {operation.outcome for operation in operations if operation.kind == "commit"} == {"failed"}
    assert all(operation.group == "readers" for operation in operations if operation.kind == "commit")
    assert any(Rebalance((), operation.rebalances[0].assigned, 0) for operation in operations if operation.rebalances)
    polled = {record for operation in operations for record in operation.polls}
    acked = {
        Polled(sent.partition, sent.offset, sent.value)
        for operation in operations
        for sent in operation.sends
        if sent.offset is not None
    }
    assert {record for record in polled if record in acked}, "what was sent is what was polled"
    assert clients[0].closed


def test_a_client_that_fails_for_good_ends_its_process(tmp_path: Path) -> None:
    operations, clients = work(tmp_path, [40, 60])
    processes = [operation.process for operation in operations]
    assert set(processes) == {300, 301} and processes == sorted(processes)
    last_of_first = max(index for index, process in enumerate(processes) if process == 300)
    assert operations[last_of_first].kind == "crash"
    assert len(clients) == 2
    assert PROCESSES_PER_WORKER > 1
