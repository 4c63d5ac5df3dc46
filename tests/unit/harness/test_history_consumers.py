"""Anomalies of a consumer's way through a partition, in histories by hand, and what comes near them."""

from __future__ import annotations

from harness.history import Position, Rebalance
from harness.history_by_hand import assert_fine, only, sent
from harness.history_findings import AnomalyName


class TestPollSkip:
    def test_between_two_polls(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        one = history.poll(2, 0)
        two = history.poll(2, 2)
        history.read_all(0, 1, 2)
        anomaly = only(history, AnomalyName.POLL_SKIP)
        assert anomaly.entries == (one, two)
        assert "read on at 2 where 1 was next" in anomaly.description

    def test_from_the_assigned_offset(self) -> None:
        history = sent(0, 1, 2)
        assigned = history.assign(2, {0: 0})
        poll = history.poll(2, 1, 2)
        history.read_all(0, 1, 2)
        assert only(history, AnomalyName.POLL_SKIP).entries == (assigned, poll)

    def test_within_one_poll(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        poll = history.poll(2, 0, 2)
        history.read_all(0, 1, 2)
        assert only(history, AnomalyName.INTERNAL_POLL_SKIP).entries == (poll,)

    def test_empty_polls_between_change_nothing(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        history.poll(2, 0)
        history.poll(2)
        history.poll(2, outcome="failed")
        history.poll(2, 2)
        history.read_all(0, 1, 2)
        only(history, AnomalyName.POLL_SKIP)

    def test_of_a_member_without_a_rebalance(self) -> None:
        history = sent(0, 1, 2)
        history.subscribe(2)
        history.joins(2, {0: 0})
        history.poll(2, 0)
        history.poll(2, 2)
        history.read_all(0, 1, 2)
        only(history, AnomalyName.POLL_SKIP)

    def test_of_a_partition_kept_in_a_rebalance(self) -> None:
        history = sent(0, 1, 2)
        history.subscribe(2)
        history.joins(2, {0: 0, 1: 0})
        history.poll(2, 0)
        history.joins(2, {2: 0}, revoked=[1])
        history.poll(2, 2)
        history.read_all(0, 1, 2)
        only(history, AnomalyName.POLL_SKIP)

    def test_a_hole_in_the_log_is_none(self) -> None:
        history = sent(0, 4)
        history.assign(2, {0: 0})
        history.poll(2, 0)
        history.poll(2, 4)
        history.read_all(0, 4)
        assert_fine(history)

    def test_an_unknown_that_nobody_read_is_none(self) -> None:
        history = sent(0, 2)
        history.send(1, (101, None), outcome="unknown")
        history.assign(2, {0: 0})
        history.poll(2, 0, 2)
        history.read_all(0, 2)
        assert_fine(history)

    def test_an_unknown_that_somebody_read_is_one(self) -> None:
        history = sent(0)
        history.send(1, (101, None), outcome="unknown")
        history.send(1, (102, 2))
        history.assign(2, {0: 0})
        history.poll(2, 0, 2)
        history.read_all(0, 1, 2)
        only(history, AnomalyName.INTERNAL_POLL_SKIP)

    def test_an_assignment_between(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        history.poll(2, 0)
        history.assign(2, {0: 2})
        history.poll(2, 2)
        history.read_all(0, 1, 2)
        assert_fine(history)

    def test_an_assignment_that_failed_changes_nothing(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        history.poll(2, 0)
        history.assign(2, {0: 2}, outcome="failed")
        history.poll(2, 2)
        history.read_all(0, 1, 2)
        only(history, AnomalyName.POLL_SKIP)

    def test_a_poll_that_may_have_swallowed_records(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        history.poll(2, 0)
        history.poll(2, outcome="unknown")
        history.poll(2, 2)
        history.read_all(0, 1, 2)
        assert_fine(history)


class TestNonmonotonicPoll:
    def test_between_two_polls(self) -> None:
        history = sent(0, 1)
        history.assign(2, {0: 0})
        one = history.poll(2, 0, 1)
        two = history.poll(2, 1)
        anomaly = only(history, AnomalyName.NONMONOTONIC_POLL)
        assert anomaly.entries == (one, two)
        assert "read offset 1 where 2 was next" in anomaly.description

    def test_below_the_assigned_offset(self) -> None:
        history = sent(0, 1)
        history.assign(2, {0: 1})
        history.poll(2, 0, 1)
        only(history, AnomalyName.NONMONOTONIC_POLL)

    def test_within_one_poll(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        history.poll(2, 0, 1, 2, 2)
        only(history, AnomalyName.INTERNAL_NONMONOTONIC_POLL)

    def test_after_a_poll_that_may_have_swallowed_records(self) -> None:
        history = sent(0, 1)
        history.assign(2, {0: 0})
        history.poll(2, 0, 1)
        history.poll(2, outcome="unknown")
        history.poll(2, 1)
        only(history, AnomalyName.NONMONOTONIC_POLL)

    def test_of_a_partition_kept_in_a_rebalance(self) -> None:
        history = sent(0, 1)
        history.subscribe(2)
        history.joins(2, {0: 0})
        history.poll(2, 0, 1)
        history.joins(2, {1: 0})
        history.poll(2, 0, 1)
        only(history, AnomalyName.NONMONOTONIC_POLL)

    def test_a_rebalance_between(self) -> None:
        history = sent(0, 1)
        history.subscribe(2)
        history.joins(2, {0: None})
        history.poll(2, 0, 1)
        history.poll(2, 0, 1, rebalances=[Rebalance((0,), (), 0), Rebalance((), (Position(0, 0),), 0)])
        assert_fine(history)

    def test_a_rebalance_in_the_middle_of_a_poll(self) -> None:
        history = sent(0, 1)
        history.subscribe(2)
        history.joins(2, {0: 0})
        history.poll(2, 0, 1, 0, 1, rebalances=[Rebalance((0,), (Position(0, 0),), 2)])
        assert_fine(history)

    def test_partitions_are_mixed_in_one_poll(self) -> None:
        history = sent(0, 1)
        history.assign(2, {0: 0, 1: 0})
        history.send(1, (200, 0), (201, 1), partition=1)
        history.poll(2, 0)
        history.poll(2, (0, 200), partition=1)
        history.poll(2, 1)
        history.poll(2, (1, 201), partition=1)
        assert_fine(history)


class TestUnassignedPoll:
    def test_of_another_partition(self) -> None:
        history = sent(0)
        history.assign(2, {1: 0})
        poll = history.poll(2, 0)
        assert only(history, AnomalyName.UNASSIGNED_POLL).entries == (poll,)

    def test_of_a_partition_that_was_revoked(self) -> None:
        history = sent(0, 1)
        history.subscribe(2)
        history.joins(2, {0: 0, 1: 0})
        history.poll(2, 0)
        history.poll(2, 1, rebalances=[Rebalance(revoked=(0,))])
        only(history, AnomalyName.UNASSIGNED_POLL)

    def test_what_came_before_it_was_revoked(self) -> None:
        history = sent(0, 1)
        history.subscribe(2)
        history.joins(2, {0: 0})
        history.poll(2, 0, 1, rebalances=[Rebalance(revoked=(0,), polled_before=2)])
        assert_fine(history)

    def test_an_assignment_that_may_have_taken_place(self) -> None:
        history = sent(0)
        history.assign(2, {0: 0}, outcome="unknown")
        history.poll(2, 0)
        assert_fine(history)
