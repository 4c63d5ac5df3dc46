"""The simulator's oracle of compaction: each rule fails where it should, and only there."""

from __future__ import annotations

import pytest
from klamm.proto.identifiers import TopicId, TopicIdPartition
from simulator.oracles.breach import Findings
from simulator.oracles.compaction_oracle import CleanBatch, CompactionOracle, Context, Kept

PARTITION = TopicIdPartition(TopicId(int=7), 0)
NOW_MS, RETENTION_MS = 10_000, 1_000
A, B, GONE = b"a", b"b", b"gone"


def batch(*records: Kept, horizon_ms: int | None = None, last_offset: int | None = None) -> CleanBatch:
    """As wide as its records, or up to `last_offset`."""
    last = records[-1].offset if last_offset is None else last_offset
    return CleanBatch(records[0].offset, last, horizon_ms, records)


OLD = (batch(Kept(0, A, b"1"), Kept(1, B, b"2")), batch(Kept(2, A, b"3"), Kept(3, GONE, None)))
HORIZON = NOW_MS + RETENTION_MS


class Broker:
    """One that cleans."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.oracle = CompactionOracle(self.findings.report, lambda _path, _size: b"", lambda _: None)

    def cleans(
        self, *new: CleanBatch, old: tuple[CleanBatch, ...] = OLD, end: int | None = 4, later: dict[bytes, list[int]]
    ) -> list[int]:
        context: Context = (1, PARTITION, {key: later[key] for key in later}, end)
        self.oracle.cleaned(context, old, new, now_ms=NOW_MS, retention_ms=RETENTION_MS)
        return [breach.rule for breach in self.findings.breaches]


FIRST = CleanBatch(0, 1, None, (Kept(1, B, b"2"),))
SECOND = CleanBatch(2, 3, HORIZON, (Kept(2, A, b"3"), Kept(3, GONE, None)))


@pytest.mark.parametrize(
    ("new", "later", "rules"),
    [
        ((FIRST, SECOND), {}, []),
        ((SECOND,), {B: [9]}, [3]),  # what B's record went for is not committed
        ((SECOND,), {B: [3]}, []),
        ((SECOND,), {}, [3]),  # the newest of B
        ((FIRST, SECOND._replace(records=SECOND.records[:1])), {}, [3]),  # a tombstone goes at once
        ((FIRST, SECOND._replace(horizon_ms=HORIZON - 1)), {}, [3]),  # ... or sooner than it may
        ((FIRST._replace(last_offset=0), SECOND), {}, [2]),
        ((FIRST._replace(records=(Kept(1, B, b"x"),)), SECOND), {}, [2]),
        ((FIRST._replace(records=(Kept(0, B, b"2"),)), SECOND), {B: [2]}, [2]),
        ((FIRST._replace(records=(*FIRST.records, Kept(7, B, b"x"))), SECOND), {}, [2]),
    ],
)
def test_rules_2_and_3_what_a_cleaning_leaves(
    new: tuple[CleanBatch, ...], later: dict[bytes, list[int]], rules: list[int]
) -> None:
    assert Broker().cleans(*new, later=later) == rules


@pytest.mark.parametrize("later", [{}, {GONE: [9]}])  # nothing follows, or what is not committed
@pytest.mark.parametrize(("horizon_ms", "rules"), [(NOW_MS, []), (NOW_MS + 1, [3]), (None, [3])])
def test_rule_3_a_tombstone_goes_when_its_time_is_over(
    horizon_ms: int | None, rules: list[int], later: dict[bytes, list[int]]
) -> None:
    old = (batch(Kept(0, GONE, None), Kept(1, A, b"1"), horizon_ms=horizon_ms),)
    new = CleanBatch(0, 1, NOW_MS + RETENTION_MS, (Kept(1, A, b"1"),))
    assert Broker().cleans(new, old=old, later=later) == rules


def test_rule_3_nothing_is_said_of_commits_that_nobody_knows() -> None:
    assert Broker().cleans(SECOND, later={B: [9]}, end=None) == []


@pytest.mark.parametrize(
    ("end_offset", "present", "rules"),
    [
        (2, {B: [1]}, [3]),  # the record of A at 0 went for the one at 2
        (3, {B: [1], A: [2]}, []),
        (2, {B: [1], A: [0]}, []),  # the old file is back
        (0, {}, []),
    ],
)
def test_rule_3_what_a_record_went_for_is_not_cut_off(
    end_offset: int, present: dict[bytes | None, list[int]], rules: list[int]
) -> None:
    broker = Broker()
    broker.cleans(FIRST, SECOND, later={})
    assert broker.oracle.was_cleaned(1, PARTITION)
    broker.oracle.truncated(1, PARTITION, end_offset, present)
    assert [breach.rule for breach in broker.findings.breaches] == rules


def test_rule_3_a_log_that_started_over_has_lost_nothing() -> None:
    broker = Broker()
    broker.cleans(FIRST, SECOND, later={})
    broker.oracle.forget(1, PARTITION)
    broker.oracle.truncated(1, PARTITION, 2, {})
    assert not broker.findings.breaches


def test_rule_3_a_tombstone_that_had_its_time_counts_for_what_it_deleted() -> None:
    broker = Broker()
    old = (batch(Kept(0, GONE, b"1"), Kept(1, GONE, None), horizon_ms=NOW_MS), batch(Kept(2, A, b"1")))
    assert not broker.cleans(old[1], old=old, later={})
    broker.oracle.truncated(1, PARTITION, 2, {})
    assert not broker.findings.breaches
    broker.oracle.truncated(1, PARTITION, 1, {})
    assert [breach.rule for breach in broker.findings.breaches] == [3]
