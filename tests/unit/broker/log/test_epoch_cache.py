"""The epoch cache's questions and cuts (KIP-101, KIP-279; rules 13 and 14)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.broker.log.epoch_cache import EpochCache, EpochEntry
from klamm.proto.identifiers import LeaderEpoch, Offset


def cache(*entries: tuple[int, int]) -> EpochCache:
    return EpochCache(EpochEntry(LeaderEpoch(epoch), Offset(start)) for epoch, start in entries)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (0, (0, 10)),  # older than all that is kept: what is kept begins at 10
        (1, (1, 10)),
        (2, (2, 20)),
        (3, (2, 20)),  # not known here: the largest smaller one (KIP-279)
        (4, (2, 20)),
        (5, (5, 30)),
        (7, (7, 99)),  # the newest ends at the log end
        (9, (7, 99)),
        (-1, (None, 99)),
    ],
)
def test_end_offset_for(asked: int, answer: tuple[int | None, int]) -> None:
    entries = cache((2, 10), (5, 20), (7, 30))
    assert entries.end_offset_for(LeaderEpoch(asked), Offset(99)) == answer


def test_an_empty_cache_knows_no_epoch() -> None:
    assert cache().end_offset_for(LeaderEpoch(3), Offset(5)) == (None, 5)
    assert cache().latest_epoch is None
    assert cache().epoch_for_offset(0) is None


@pytest.mark.parametrize(
    ("epoch", "start", "entries", "changed"),
    [
        (3, 30, [(1, 0), (2, 10), (3, 30)], True),
        (2, 30, [(1, 0), (2, 10)], False),  # an epoch begins once
        (3, 10, [(1, 0), (3, 10)], True),  # nothing was written under epoch 2
        (3, 5, [(1, 0), (3, 5)], True),
        (1, 10, [(1, 0)], True),  # epoch 2 never had a batch: epoch 1 goes on
        (2, 5, [(1, 0), (2, 5)], True),
        (0, 10, [(0, 10)], True),
    ],
)
def test_assign(epoch: int, start: int, entries: list[tuple[int, int]], changed: bool) -> None:
    subject = cache((1, 0), (2, 10))
    assert subject.assign(LeaderEpoch(epoch), Offset(start)) is changed
    assert list(subject.entries) == entries


def test_assign_refuses_what_cannot_be() -> None:
    for epoch, start in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="cannot start"):
            cache().assign(LeaderEpoch(epoch), Offset(start))


@pytest.mark.parametrize(
    ("end", "entries"),
    [(0, []), (9, [(1, 0)]), (10, [(1, 0)]), (11, [(1, 0), (2, 10)]), (99, [(1, 0), (2, 10), (3, 20)])],
)
def test_rule_14_truncate_from_end(end: int, entries: list[tuple[int, int]]) -> None:
    subject = cache((1, 0), (2, 10), (3, 20))
    assert subject.truncate_from_end(Offset(end)) is (len(entries) < 3)
    assert list(subject.entries) == entries


@pytest.mark.parametrize(
    ("start", "entries", "changed"),
    [
        (0, [(1, 0), (2, 10), (3, 20)], False),
        (5, [(1, 5), (2, 10), (3, 20)], True),
        (10, [(2, 10), (3, 20)], True),
        (25, [(3, 25)], True),
    ],
)
def test_rule_14_truncate_from_start(start: int, entries: list[tuple[int, int]], changed: bool) -> None:
    subject = cache((1, 0), (2, 10), (3, 20))
    assert subject.truncate_from_start(Offset(start)) is changed
    assert list(subject.entries) == entries


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.sampled_from(["assign", "end", "start"]))))
def test_entries_always_grow_and_answers_agree(steps: list[tuple[int, int, str]]) -> None:
    subject = cache()
    for epoch, offset, step in steps:
        if step == "assign":
            subject.assign(LeaderEpoch(epoch), Offset(offset))
            assert subject.latest_epoch == epoch
            assert subject.epoch_for_offset(offset) == epoch
        elif step == "end":
            subject.truncate_from_end(Offset(offset))
        else:
            subject.truncate_from_start(Offset(offset))
        entries = subject.entries
        assert all(a.epoch < b.epoch and a.start_offset < b.start_offset for a, b in pairwise(entries))
        for each in range(31):
            found, following = subject.span_at(each)
            assert found == subject.epoch_for_offset(each)
            assert following is None or following > each
