"""The figures of a campaign, in histories by hand whose figures are plain to see."""

from __future__ import annotations

from harness.history import Entry, Fault, Operation, Polled, Position, Sent
from harness.history_by_hand import SECOND_NS, HandMade
from harness.history_checker import check
from harness.history_lag import WorstLag
from harness.history_statistics import Gap


def _sends(*times_s: tuple[int, int, int, int | None]) -> list[Entry]:
    """Partition, beginning and end of each send, and when its ack came (None: it is unknown)."""
    return [
        Operation(
            value, "klamm", "send", began_s * SECOND_NS, ended_s * SECOND_NS,
            "unknown" if acked_s is None else "ok",
            (Sent(partition, value, "unknown"),) if acked_s is None
            else (Sent(partition, value, "ok", value, acked_s * SECOND_NS),),
        )
        for value, (partition, began_s, ended_s, acked_s) in enumerate(times_s)
    ]  # fmt: skip


def test_operations_and_records_are_counted() -> None:
    history = HandMade()
    history.send(1, (100, 0), (101, 1))
    history.send(1, (102, None), outcome="unknown")
    history.send(1, (103, None), outcome="failed")
    history.assign(2, {0: 0})
    history.poll(2, 0)
    history.read_all(0, 1, process=3)
    history.crash(1)
    statistics = check(history.entries).statistics
    assert statistics.operations["klamm", "send", "ok"] == 1
    assert statistics.operations["klamm", "send", "unknown"] == 1
    assert statistics.operations["klamm", "final-poll", "ok"] == 1
    assert statistics.operations.total() == len(history.entries)
    assert dict(statistics.sent) == {"ok": 2, "unknown": 1, "failed": 1}
    assert (statistics.polled, statistics.unseen, statistics.processes) == (3, 0, 3)


def test_the_longest_time_without_an_ack_is_between_two_acks() -> None:
    statistics = check(_sends((0, 0, 1, 1), (1, 1, 3, 2), (0, 2, 9, 8), (1, 8, 9, 9))).statistics
    assert statistics.longest_gap == Gap(2 * SECOND_NS, 8 * SECOND_NS)
    assert statistics.longest_gaps == {
        0: Gap(1 * SECOND_NS, 8 * SECOND_NS, 0),
        1: Gap(2 * SECOND_NS, 9 * SECOND_NS, 1),
    }


def test_it_is_at_the_beginning_or_at_the_end_where_nothing_is_acked_there() -> None:
    assert check(_sends((0, 1, 7, 6), (0, 7, 8, 8))).statistics.longest_gap == Gap(1 * SECOND_NS, 6 * SECOND_NS)
    assert check(_sends((0, 1, 2, 2), (0, 3, 9, None))).statistics.longest_gap == Gap(2 * SECOND_NS, 9 * SECOND_NS)
    assert check(_sends((0, 1, 5, None))).statistics.longest_gap == Gap(1 * SECOND_NS, 5 * SECOND_NS)


def test_faults_are_counted_with_their_times() -> None:
    entries = _sends((0, 0, 10, 10))
    entries += [Fault("kill", "broker 1", SECOND_NS, 3 * SECOND_NS), Fault("cut", "all", 8 * SECOND_NS)]
    entries += [Fault("kill", "broker 2", 4 * SECOND_NS), Fault("kill", "broker 2", 4 * SECOND_NS, 5 * SECOND_NS)]
    faults = check(entries).statistics.faults
    assert (faults["kill"].count, faults["kill"].lasted_ns) == (2, 3 * SECOND_NS)
    assert (faults["cut"].count, faults["cut"].lasted_ns) == (1, 2 * SECOND_NS)


def _reader(*polls: tuple[int, tuple[int, ...]]) -> list[Entry]:
    """A consumer from offset 0 on: when each poll began, in seconds, and the offsets it gave."""
    entries: list[Entry] = [Operation(9, "klamm", "assign", 0, 0, "ok", positions=(Position(0, 0),))]
    for began_s, offsets in polls:
        polled = tuple(Polled(0, offset, offset) for offset in offsets)
        entries.append(Operation(9, "klamm", "poll", began_s * SECOND_NS, began_s * SECOND_NS + 1, "ok", polls=polled))
    return entries


def test_lag_is_the_age_of_what_a_poll_should_have_given() -> None:
    """Offset 0 is acked at 1 s and read; offset 1 is acked at 3 s, and a poll that began at 7 s did not give it."""
    entries = [*_sends((0, 0, 1, 1), (0, 2, 3, 3)), *_reader((2, (0,)), (5, ()), (7, ()), (8, (1,)))]
    assert check(entries).statistics.worst_lag == WorstLag(4 * SECOND_NS, 0, 5)


def test_who_was_never_up_to_date_has_no_lag() -> None:
    entries = [*_sends((0, 0, 1, 1), (0, 2, 3, 3)), *_reader((7, (0,)), (9, ()))]
    assert check(entries).statistics.worst_lag is None


def test_what_was_acked_after_a_poll_began_is_none() -> None:
    entries = [*_sends((0, 0, 1, 1), (0, 2, 6, 6)), *_reader((2, (0,)), (5, ()), (7, (1,)))]
    assert check(entries).statistics.worst_lag == WorstLag(0, 0, 3)
