"""The demo's checker must see each kind of breach; a checker that sees none would pass anything."""

from __future__ import annotations

import struct

import pytest
from klamm.deploy.demo_check import (
    Breach,
    SentRecord,
    StoredRecord,
    check_consumed,
    check_keys,
    check_partition,
    check_replicas,
    encode_value,
    end_of,
    end_offset,
    number_of,
)

SENT = [SentRecord(b"a.py" if number % 2 == 0 else b"b.py", b"line %d" % (number // 3)) for number in range(12)]


def _stored(*numbers: int) -> list[StoredRecord]:
    return [
        StoredRecord(offset, SENT[number].key, encode_value(number, SENT[number].line))
        for offset, number in enumerate(numbers)
    ]


def _kinds(breaches: list[Breach]) -> list[str]:
    return [breach.kind for breach in breaches]


def test_all_in_order() -> None:
    result = check_partition(0, SENT, {n: n for n in range(6)}, _stored(0, 1, 2, 3, 4, 5))
    assert result.breaches == []
    assert result.numbers == [0, 1, 2, 3, 4, 5]


def test_keys_may_interleave_in_any_way() -> None:
    assert check_partition(0, SENT, {0: 1, 1: 0, 3: 2, 2: 3}, _stored(1, 0, 3, 2)).breaches == []


def test_unacked_records_may_be_there_or_not() -> None:
    assert check_partition(0, SENT, {0: 0, 4: 2}, _stored(0, 2, 4)).breaches == []


@pytest.mark.parametrize(
    ("stored", "acked", "kinds"),
    [
        pytest.param(_stored(0, 2), {0: 0, 2: 1, 4: 2}, ["lost"], id="lost at the end"),
        pytest.param(_stored(0, 4), {0: 0, 2: 1, 4: 2}, ["lost", "moved"], id="lost in the middle"),
        pytest.param([], {0: 0}, ["lost"], id="all lost"),
        pytest.param(_stored(0, 1, 2), {0: 0, 2: 1}, ["moved"], id="moved by one that was never acked"),
        pytest.param(_stored(0, 2, 2), {0: 0, 2: 1}, ["doubled"], id="doubled after the acked offset"),
        pytest.param(_stored(0, 2, 2), {0: 0, 2: 2}, ["doubled"], id="doubled before the acked offset"),
        pytest.param(_stored(2, 0), {0: 1, 2: 0}, ["reordered"], id="reordered"),
        pytest.param(_stored(0, 4, 2), {0: 0, 4: 1}, ["reordered"], id="reordered, not acked"),
        pytest.param([_stored(0)[0], _stored(0, 1, 2)[2]], {0: 0, 2: 2}, ["gap"], id="gap"),
        pytest.param([StoredRecord(0, b"a.py", b"0\tother")], {}, ["altered"], id="another line"),
        pytest.param([StoredRecord(0, b"b.py", b"0\tline 0")], {}, ["altered"], id="another key"),
        pytest.param([StoredRecord(0, None, b"0\tline 0")], {}, ["altered"], id="no key"),
        pytest.param([StoredRecord(0, b"a.py", None)], {}, ["altered"], id="no value"),
        pytest.param([StoredRecord(0, b"a.py", b"99\tline")], {}, ["altered"], id="a number that was never sent"),
        pytest.param([StoredRecord(0, b"a.py", b"0\tlin")], {0: 0}, ["altered", "lost"], id="cut short"),
    ],
)
def test_breach_is_seen(stored: list[StoredRecord], acked: dict[int, int], kinds: list[str]) -> None:
    assert _kinds(check_partition(0, SENT, acked, stored).breaches) == kinds


def test_key_in_two_partitions() -> None:
    assert check_keys(SENT, {0: [0, 2], 1: [1, 3]}) == []
    assert _kinds(check_keys(SENT, {0: [0, 2], 1: [4], 2: [-1]})) == ["reordered"]


@pytest.mark.parametrize(
    ("consumed", "kinds"),
    [
        pytest.param([(0, 5), (1, 6), (2, 7)], [], id="all"),
        pytest.param([(0, 5), (2, 7)], ["unread"], id="left one out"),
        pytest.param([(0, 5), (0, 5), (1, 6), (2, 7)], ["unread"], id="twice"),
        pytest.param([(0, 5), (1, 8), (2, 7)], ["unread"], id="saw what is not there"),
        pytest.param([(0, 5), (1, 6)], ["unread"], id="not to the end"),
        pytest.param([(0, 5), (1, 6), (2, 7), (3, 8)], ["unread"], id="saw what was lost"),
    ],
)
def test_consumed(consumed: list[tuple[int, int]], kinds: list[str]) -> None:
    assert _kinds(check_consumed(0, [5, 6, 7], consumed)) == kinds


def _batch(base_offset: int, records: int, payload: bytes = b"x" * 40) -> bytes:
    body = struct.pack(">iBiHi", 1, 2, 0, 0, records - 1) + payload
    return struct.pack(">qi", base_offset, len(body)) + body


LOG = _batch(0, 3) + _batch(3, 1) + _batch(4, 6)


def test_batches_end_where_the_high_watermark_is() -> None:
    assert end_offset(LOG) == 10
    assert end_of(LOG, 10) == len(LOG)
    assert end_of(LOG, 4) == len(_batch(0, 3) + _batch(3, 1))
    assert end_of(LOG, 0) == 0
    assert end_offset(LOG[:-1]) == 4, "a torn batch does not count"


def test_equal_replicas_may_differ_above_the_high_watermark() -> None:
    assert check_replicas(0, 4, {"broker-1": LOG, "broker-2": LOG[:-60], "broker-3": LOG + _batch(10, 1)}) == []


def test_replica_that_differs() -> None:
    other = _batch(0, 3) + _batch(3, 1, b"y" * 40) + _batch(4, 6)
    breaches = check_replicas(7, 10, {"broker-1": LOG, "broker-2": other, "broker-3": LOG})
    assert [str(breach) for breach in breaches] == [
        "differing: partition 7: broker-1 and broker-2 differ in the batch at offset 3"
    ]


def test_replica_that_is_short() -> None:
    short = _batch(0, 3) + _batch(3, 1)
    assert _kinds(check_replicas(0, 10, {"broker-1": LOG, "broker-2": short})) == ["differing", "differing"]
    assert _kinds(check_replicas(0, 10, {"broker-1": short, "broker-2": short})) == ["differing", "differing"]
    assert _kinds(check_replicas(0, 10, {"broker-1": b""})) == ["differing"]


def test_other_batch_boundaries_are_a_difference() -> None:
    assert _kinds(check_replicas(0, 2, {"broker-1": _batch(0, 2), "broker-2": _batch(0, 1) + _batch(1, 1)})) == [
        "differing"
    ]


@pytest.mark.parametrize("value", [None, b"", b"x", b"12", b"-1\tx", b"x\ty", b"\ty"])
def test_values_without_a_number(value: bytes | None) -> None:
    assert number_of(value) is None


def test_number_of_an_empty_line() -> None:
    assert number_of(encode_value(7, b"")) == 7
