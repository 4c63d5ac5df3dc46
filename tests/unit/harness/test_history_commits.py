"""Anomalies of committed offsets, in histories by hand that show one and nothing else, and what comes near them."""

from __future__ import annotations

import pytest
from harness.history_by_hand import HandMade, assert_fine, only, sent
from harness.history_findings import AnomalyName


def member(*, at: int | None = 0, offsets: int = 3) -> HandMade:
    """Process 2 of group g has read some records of partition 0."""
    history = sent(*range(offsets))
    history.subscribe(2)
    history.joins(2, {0: at})
    history.poll(2, *range(at or 0, offsets))
    return history


class TestCommitBackwards:
    def test_of_a_partition_it_kept(self) -> None:
        history = member()
        one = history.commit(2, 3)
        two = history.commit(2, 2)
        assert only(history, AnomalyName.COMMIT_BACKWARDS).entries == (one, two)

    def test_after_a_commit_that_was_not_acked(self) -> None:
        history = member()
        history.commit(2, 3, outcome="unknown")
        history.commit(2, 2, outcome="failed")
        history.commit(2, 2)
        history.commit(2, 2)
        assert_fine(history)

    def test_in_a_new_assignment(self) -> None:
        history = sent(0, 1)
        for end in (2, 1):
            history.assign(2, {0: 0})
            history.poll(2, *range(end))
            history.commit(2, end)
        assert_fine(history)


class TestCommitPastPoll:
    def test_past_records_that_others_have_read(self) -> None:
        history = member()
        history.send(1, (103, 3))
        commit = history.commit(2, 4)
        history.read_all(0, 1, 2, 3)
        anomaly = only(history, AnomalyName.COMMIT_PAST_POLL)
        assert anomaly.entries[-1] == commit
        assert "process 2 committed on at 4 where 3 was next" in anomaly.description

    def test_of_a_partition_it_never_had(self) -> None:
        history = member()
        history.commit(3, 1)
        only(history, AnomalyName.COMMIT_PAST_POLL)

    def test_even_if_it_ended_unknown(self) -> None:
        history = member()
        history.send(1, (103, 3))
        history.commit(2, 4, outcome="unknown")
        history.read_all(0, 1, 2, 3)
        only(history, AnomalyName.COMMIT_PAST_POLL)

    def test_past_a_hole(self) -> None:
        history = member()
        history.commit(2, 9)
        history.read_all(0, 1, 2)
        assert_fine(history)

    def test_of_a_partition_that_was_revoked_since(self) -> None:
        history = member()
        history.joins(2, {}, revoked=[0])
        history.commit(2, 3)
        assert_fine(history)


class TestLostCommit:
    def test_the_next_member_begins_before_it(self) -> None:
        history = member()
        commit = history.commit(2, 2)
        history.subscribe(3)
        joined = history.joins(3, {0: 1})
        anomaly = only(history, AnomalyName.LOST_COMMIT)
        assert anomaly.entries == (commit, joined)
        assert anomaly.description == "process 3 of group g began at 1 after 2 was acked"

    def test_the_first_record_of_the_next_member_lies_before_it(self) -> None:
        history = member()
        commit = history.commit(2, 2)
        history.subscribe(3)
        history.joins(3, {0: None})
        poll = history.poll(3, 1, 2)
        assert only(history, AnomalyName.LOST_COMMIT).entries == (commit, poll)

    @pytest.mark.parametrize("seen", [None, 1])
    def test_who_asks_gets_an_older_one(self, seen: int | None) -> None:
        history = member()
        history.commit(2, 1)
        commit = history.commit(2, 3)
        asked = history.committed(3, seen)
        assert only(history, AnomalyName.LOST_COMMIT).entries == (commit, asked)

    def test_the_next_member_goes_on_where_it_is(self) -> None:
        history = member()
        history.commit(2, 2)
        history.subscribe(3)
        history.joins(3, {0: 2, 1: 0})
        history.subscribe(4)
        history.joins(4, {0: None})
        history.poll(4, 2)
        history.committed(5, 2)
        assert_fine(history)

    def test_a_commit_that_raced_with_the_question(self) -> None:
        history = member()
        history.commit(2, 1)
        commit = history.commit(2, 3)
        asked = history.committed(3, 1)
        history.lasts(commit, 10, 12)
        history.lasts(asked, 11, 13)
        assert_fine(history)
        history.lasts(asked, 12.5, 13)
        only(history, AnomalyName.LOST_COMMIT)

    def test_a_commit_that_came_while_the_member_was_joining(self) -> None:
        history = member()
        history.commit(2, 1)
        history.subscribe(3)
        history.poll(3)  # from its beginning on, the group may have been asked what it had committed
        history.commit(2, 3)
        history.joins(3, {0: 1})
        assert_fine(history)

    def test_a_commit_that_came_before_the_member_was_joining(self) -> None:
        history = member()
        history.commit(2, 1)
        history.subscribe(3)
        history.poll(3)
        history.commit(2, 3)
        history.poll(3)
        history.poll(3)
        history.joins(3, {0: 1})
        only(history, AnomalyName.LOST_COMMIT)

    def test_two_members_that_raced(self) -> None:
        history = member()
        history.subscribe(3)
        history.joins(3, {0: 0})
        history.poll(3, 0, 1)
        one = history.commit(2, 3)
        other = history.commit(3, 2)
        history.lasts(one, 20, 22)
        history.lasts(other, 21, 23)
        for seen in (3, 2):
            history.lasts(history.committed(4, seen), 30 - seen, 30.5 - seen)
        assert_fine(history)

    def test_an_unknown_may_still_take_effect_for_a_minute(self) -> None:
        history = member()
        history.commit(2, 1, outcome="unknown")
        history.commit(2, 3)
        asked = history.committed(3, 1)
        assert_fine(history)
        late = history.commit(2, 3)
        history.lasts(late, 100, 101)
        history.lasts(asked, 102, 103)
        only(history, AnomalyName.LOST_COMMIT)

    def test_a_question_that_was_not_answered(self) -> None:
        history = member()
        history.commit(2, 3)
        history.committed(3, None, outcome="unknown")
        assert_fine(history)


class TestPhantomCommit:
    def test_nobody_committed_it(self) -> None:
        history = member()
        history.commit(2, 1)
        asked = history.committed(3, 2)
        assert asked in only(history, AnomalyName.PHANTOM_COMMIT).entries

    def test_nobody_committed_anything(self) -> None:
        history = member()
        history.committed(3, 0)
        only(history, AnomalyName.PHANTOM_COMMIT)

    def test_its_commit_failed(self) -> None:
        history = member()
        history.commit(2, 1, outcome="failed")
        history.committed(3, 1)
        only(history, AnomalyName.PHANTOM_COMMIT)

    def test_its_commit_is_unknown(self) -> None:
        history = member()
        history.commit(2, 1, outcome="unknown")
        history.committed(3, 1)
        history.committed(3, None)
        assert_fine(history)


class TestGroupSkip:
    @pytest.mark.parametrize("at", [2, None])
    def test_a_member_begins_past_what_was_committed(self, at: int | None) -> None:
        history = member()
        commit = history.commit(2, 1)
        history.subscribe(3)
        joined = history.joins(3, {0: at})
        poll = history.poll(3, 2)
        assert only(history, AnomalyName.GROUP_SKIP).entries == (commit, joined if at else poll)

    def test_a_member_begins_at_the_end_though_nothing_was_committed(self) -> None:
        history = member()
        history.subscribe(3, group="other")
        history.joins(3, {0: 3})
        only(history, AnomalyName.GROUP_SKIP)

    def test_holes_are_passed_over(self) -> None:
        history = sent(0, 5)
        history.subscribe(2)
        history.joins(2, {0: None})
        history.poll(2, 0)
        history.commit(2, 1)
        history.subscribe(3)
        history.joins(3, {0: None})
        history.poll(3, 5)
        assert_fine(history)

    def test_a_consumer_without_a_group_begins_anywhere(self) -> None:
        history = member()
        history.subscribe(3, group=None)
        history.joins(3, {0: 2})
        history.assign(4, {0: 1})
        history.poll(4, 1)
        assert_fine(history)
