"""A journal survives kill -9: what was under way becomes unknown, and its process has crashed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from chaos.journal import Journal, read_journal
from harness.history import HistoryError, Operation, Polled, Sent

SEND = Operation(
    7, "klamm", "send", 10, 10, "unknown", sends=(Sent(0, 7000001, "unknown"), Sent(1, 7000002, "unknown"))
)
SENT = replace(SEND, ended_ns=20, outcome="ok", sends=(Sent(0, 7000001, "ok", 5, 15), Sent(1, 7000002, "ok", None, 19)))
POLL = Operation(7, "klamm", "poll", 30, 30, "unknown")
POLLED = replace(POLL, ended_ns=40, outcome="ok", polls=(Polled(0, 5, 7000001),))
CRASH = Operation(7, "klamm", "crash", 99, 99, "ok")


def journal(path: Path, *steps: tuple[str, Operation]) -> Path:
    written = Journal(path)
    for mark, operation in steps:
        (written.begin if mark == "?" else written.end)(operation)
    written.close()
    return path


def test_ended_operations_are_as_they_ended(tmp_path: Path) -> None:
    path = journal(tmp_path / "j", ("?", SEND), ("=", SENT), ("?", POLL), ("=", POLLED))
    assert list(read_journal(path, None)) == [SENT, POLLED]


def test_what_was_under_way_is_unknown_record_by_record(tmp_path: Path) -> None:
    path = journal(tmp_path / "j", ("?", POLL), ("=", POLLED), ("?", SEND))
    given_up = replace(SEND, ended_ns=99, error="the client was killed")
    assert list(read_journal(path, 99)) == [POLLED, given_up, CRASH]


def test_killed_between_two_operations(tmp_path: Path) -> None:
    path = journal(tmp_path / "j", ("?", SEND), ("=", SENT))
    assert list(read_journal(path, 99)) == [SENT, CRASH]


def test_a_process_that_had_crashed_does_not_crash_again(tmp_path: Path) -> None:
    crash = replace(CRASH, began_ns=50, ended_ns=50)
    path = journal(tmp_path / "j", ("?", SEND), ("=", SENT), ("=", crash))
    assert list(read_journal(path, 99)) == [SENT, crash]


def test_a_line_that_was_cut_short_was_not_written(tmp_path: Path) -> None:
    path = journal(tmp_path / "j", ("?", SEND), ("=", SENT), ("?", POLL), ("=", POLLED))
    path.write_bytes(path.read_bytes()[:-10])
    given_up = replace(POLL, ended_ns=99, error="the client was killed")
    assert list(read_journal(path, 99)) == [SENT, given_up, CRASH]


def test_sends_that_overlap_stand_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    later = replace(SEND, began_ns=12, ended_ns=12, sends=(Sent(0, 7000003, "unknown"),))
    latest = replace(SEND, began_ns=14, ended_ns=14, sends=(Sent(0, 7000004, "unknown"),))
    later_sent = replace(later, ended_ns=16, outcome="ok", sends=(Sent(0, 7000003, "ok", 6, 16),))
    latest_sent = replace(latest, ended_ns=15, outcome="ok", sends=(Sent(0, 7000004, "ok", 7, 15),))
    begun = [("?", SEND), ("?", later), ("?", latest)]
    path = journal(tmp_path / "whole", *begun, ("=", latest_sent), ("=", SENT), ("=", later_sent))
    assert list(read_journal(path, None)) == [SENT, later_sent, latest_sent]
    killed = journal(tmp_path / "killed", *begun, ("=", latest_sent), ("=", SENT))
    given_up = replace(later, ended_ns=99, error="the client was killed")
    assert list(read_journal(killed, 99)) == [SENT, given_up, latest_sent, CRASH]


def test_killed_before_it_did_anything(tmp_path: Path) -> None:
    assert list(read_journal(journal(tmp_path / "j"), 99)) == []


def test_an_operation_without_end_of_a_program_that_ended_in_order_is_a_mistake(tmp_path: Path) -> None:
    path = journal(tmp_path / "j", ("?", SEND))
    with pytest.raises(HistoryError, match="without an end"):
        list(read_journal(path, None))
