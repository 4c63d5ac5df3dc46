"""Runs of numbers, good and bad."""

from __future__ import annotations

from soak.verify import check_committed, check_group, check_producer, check_reader, given_again

A, B = ("t", 0), ("t", 1)


def test_one_run_to_the_end_is_right() -> None:
    assert check_reader({A: 10, B: 0}, {A: [[0, 10]]}) == []


def test_what_a_reader_misses_or_gets_twice_is_told() -> None:
    assert check_reader({A: 10}, {A: [[0, 4], [6, 10]]}) == ["t-0: lost 2 records from number 4"]
    assert check_reader({A: 10}, {A: [[0, 8]]}) == ["t-0: lost the last 2 of 10 records"]
    assert check_reader({A: 10}, {}) == ["t-0: lost the last 10 of 10 records"]
    assert check_reader({A: 10}, {A: [[0, 8], [5, 10]]}) == ["t-0: 3 records came again from number 5"]
    assert check_reader({A: 10}, {A: [[0, 12]]}) == ["t-0: 2 records more than the 10 that were acked"]


def test_a_group_may_see_records_again_and_misses_none() -> None:
    members = [{A: [[0, 6]]}, {A: [[4, 10]], B: [[0, 3]]}]
    assert check_group({A: 10, B: 3}, members) == []
    assert given_again(members, {A: 10, B: 3}) == 2
    assert check_group({A: 10}, [{A: [[0, 4]]}, {A: [[5, 10]]}]) == ["t-0: the group missed 1 from number 4"]
    assert check_group({A: 10}, [{A: [[0, 4]]}, {}]) == ["t-0: the group saw 4 records, 10 were acked"]


def test_what_was_sent_is_acked_and_what_was_read_is_committed() -> None:
    assert check_producer("t", [5, 5], [5, 5]) == []
    assert check_producer("t", [5, 5], [5, 3]) == ["t-1: 2 of 5 records were not acked"]
    assert check_committed({A: 7, B: 0}, {A: 7}) == []
    assert check_committed({A: 7, B: 1}, {A: 6}) == [
        "t-0: the group has committed 6, the log ends at 7",
        "t-1: the group has committed None, the log ends at 1",
    ]
