"""Every anomaly in a history by hand that shows it and nothing else, and what comes near it and is fine."""

from __future__ import annotations

import pytest
from harness.history import HistoryError, LogEntry, Operation, Sent
from harness.history_by_hand import HandMade, assert_fine, only, sent
from harness.history_checker import check
from harness.history_findings import AnomalyName


class TestLostWrite:
    def test_acked_and_read_past_by_all(self) -> None:
        history = sent(0, 1, 2)
        history.read_all(0, 2)
        anomaly = only(history, AnomalyName.LOST_WRITE)
        assert anomaly.entries == (1,)
        assert anomaly.partition == 0
        assert "value 101 was acked at offset 1" in anomaly.description

    def test_needs_no_final_poll(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        history.poll(2, 0)
        history.poll(2, 2)
        only(history, AnomalyName.LOST_WRITE)

    def test_at_the_beginning(self) -> None:
        history = sent(0, 1)
        history.read_all(1)
        assert only(history, AnomalyName.LOST_WRITE).entries == (0,)

    def test_one_reader_is_enough_to_have_seen_it(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 1})
        history.poll(2, 1)
        history.read_all(0, 1, 2)
        assert_fine(history)

    def test_what_may_not_have_happened_is_not_lost(self) -> None:
        history = sent(0, 2)
        history.send(1, (101, None), outcome="unknown")
        history.send(1, (105, None), outcome="failed")
        history.read_all(0, 2)
        assert_fine(history)

    def test_nobody_read_past_it(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 2})
        history.poll(2, 2)
        assert_fine(history)


class TestUnseen:
    def test_acked_and_never_read(self) -> None:
        history = sent(0, 1, 2)
        history.read_all(0, 1)
        assert only(history, AnomalyName.UNSEEN).entries == (2,)

    def test_acked_without_an_offset(self) -> None:
        history = sent(0)
        history.send(1, (200, None))
        history.read_all(0)
        assert only(history, AnomalyName.UNSEEN).entries == (1,)

    def test_of_a_partition_that_nobody_read(self) -> None:
        history = sent(0)
        history.send(1, (200, 0), partition=1)
        history.read_all(0)
        assert only(history, AnomalyName.UNSEEN).partition == 1

    def test_acked_without_an_offset_and_read(self) -> None:
        history = sent(0)
        history.send(1, (101, None))
        history.read_all(0, 1)
        assert_fine(history)

    def test_is_not_judged_before_everything_was_read(self) -> None:
        history = sent(0, 1, 2)
        history.assign(2, {0: 0})
        history.poll(2, 0, 1)
        verdict = check(history.entries)
        assert verdict.anomalies == ()
        assert verdict.statistics.unseen == 1
        assert any("nobody read everything" in reason for reason in verdict.unchecked)
        assert not verdict.ok


class TestDuplicate:
    def test_read_at_two_offsets(self) -> None:
        history = sent(0)
        history.read_all(0, (1, 100))
        anomaly = only(history, AnomalyName.DUPLICATE)
        assert anomaly.description == "value 100 lies at offsets 0, 1"
        assert anomaly.entries == (0, 2)

    def test_acked_at_one_offset_and_read_at_another(self) -> None:
        history = HandMade()
        history.send(1, (100, 0))
        history.read_all((1, 100))
        only(history, AnomalyName.DUPLICATE)

    def test_read_before_it_was_acked(self) -> None:
        history = HandMade()
        history.assign(2, {0: 3})
        history.poll(2, (3, 100))
        history.send(1, (100, 4))
        history.read_all((3, 100))
        only(history, AnomalyName.DUPLICATE)

    def test_of_an_unknown_send(self) -> None:
        history = HandMade()
        history.send(1, (100, None), outcome="unknown")
        history.read_all((0, 100), (5, 100))
        only(history, AnomalyName.DUPLICATE)

    def test_the_same_record_read_twice(self) -> None:
        history = sent(0, 1)
        history.assign(2, {0: 0})
        history.poll(2, 0, 1)
        history.assign(2, {0: 0})
        history.poll(2, 0, 1)
        history.read_all(0, 1)
        assert_fine(history)


class TestInconsistentOffsets:
    def test_two_readers_of_one_offset(self) -> None:
        history = HandMade()
        history.send(1, (100, 0))
        history.send(9, (200, None), outcome="unknown")
        history.assign(2, {0: 0})
        one = history.poll(2, (0, 100))
        other = history.read_all((0, 200))
        anomaly = only(history, AnomalyName.INCONSISTENT_OFFSETS)
        assert anomaly.entries == (0, one, other)

    def test_two_acks_of_one_offset(self) -> None:
        history = HandMade()
        history.send(1, (100, 0))
        history.send(2, (200, 0))
        only(history, AnomalyName.INCONSISTENT_OFFSETS)

    def test_is_told_once_however_often_it_is_read(self) -> None:
        history = HandMade()
        history.send(1, (100, 0), (101, 1))
        history.send(9, (200, None), outcome="unknown")
        for process, value in ((2, 100), (3, 200), (4, 100), (5, 200)):
            history.assign(process, {0: 0})
            history.poll(process, (0, value), 1)
        only(history, AnomalyName.INCONSISTENT_OFFSETS)

    def test_one_offset_of_two_partitions(self) -> None:
        history = HandMade()
        history.send(1, (100, 0))
        history.send(1, (200, 0), partition=1)
        history.read_all((0, 100))
        history.read_all((0, 200), process=98, partition=1)
        assert_fine(history)


class TestAbortedRead:
    def test_what_failed_is_read(self) -> None:
        history = HandMade()
        history.send(1, (100, None), outcome="failed")
        read = history.read_all((0, 100))
        assert only(history, AnomalyName.ABORTED_READ).entries == (0, read)

    def test_what_is_unknown_is_read(self) -> None:
        history = HandMade()
        history.send(1, (100, None), outcome="unknown")
        history.read_all((0, 100))
        assert_fine(history)

    def test_each_record_of_an_operation_has_its_own_outcome(self) -> None:
        history = HandMade()
        number = history.send(1, (100, None), (101, None), outcome="unknown")
        operation = history.entries[number]
        assert isinstance(operation, Operation)
        sends = (Sent(0, 100, "failed"), Sent(0, 101, "ok", 0))
        history.entries[number] = Operation(1, "klamm", "send", 0, 1, "unknown", sends)
        history.read_all((0, 101))
        assert_fine(history)
        history.read_all((0, 101), (1, 100), process=98)
        only(history, AnomalyName.ABORTED_READ)


class TestPhantomRead:
    def test_nobody_sent_it(self) -> None:
        history = HandMade()
        read = history.read_all((0, 100))
        assert only(history, AnomalyName.PHANTOM_READ).entries == (read,)

    @pytest.mark.parametrize("read_first", [False, True])
    def test_sent_to_another_partition(self, read_first: bool) -> None:
        history = HandMade()
        if not read_first:
            history.send(1, (100, None), partition=1, outcome="unknown")
        history.assign(2, {0: 0})
        history.poll(2, (0, 100))
        if read_first:
            history.send(1, (100, None), partition=1, outcome="unknown")
        assert "of partition 1 was polled from partition 0" in only(history, AnomalyName.PHANTOM_READ).description

    def test_read_before_its_send_ended(self) -> None:
        history = HandMade()
        history.assign(2, {0: 0})
        history.poll(2, (0, 100))
        history.send(1, (100, 0))
        assert_fine(history)


class TestNonmonotonicSend:
    def test_between_two_operations(self) -> None:
        history = HandMade()
        one = history.send(1, (100, 5))
        two = history.send(1, (101, 4))
        assert only(history, AnomalyName.NONMONOTONIC_SEND).entries == (one, two)

    def test_within_one(self) -> None:
        history = HandMade()
        number = history.send(1, (100, 5), (101, 4))
        assert only(history, AnomalyName.INTERNAL_NONMONOTONIC_SEND).entries == (number,)

    def test_other_processes_partitions_and_holes(self) -> None:
        history = HandMade()
        history.send(1, (100, 5))
        history.send(2, (101, 4))
        history.send(1, (102, 3), partition=1)
        history.send(1, (103, 9))
        assert_fine(history)


class TestOrderBroken:
    def test_an_unknown_lies_after_what_was_sent_later(self) -> None:
        history = HandMade()
        one = history.send(1, (100, None), outcome="unknown")
        two = history.send(1, (101, 0))
        read = history.read_all((0, 101), (1, 100))
        anomaly = only(history, AnomalyName.ORDER_BROKEN)
        assert anomaly.entries == (one, read, two)

    def test_an_unknown_lies_before_what_was_sent_earlier(self) -> None:
        history = HandMade()
        history.send(1, (100, 1))
        history.send(1, (101, None), outcome="unknown")
        history.read_all((0, 101), (1, 100))
        only(history, AnomalyName.ORDER_BROKEN)

    def test_two_unknowns(self) -> None:
        history = HandMade()
        history.send(1, (100, None), (101, None), outcome="unknown")
        history.read_all((0, 101), (1, 100))
        only(history, AnomalyName.ORDER_BROKEN)

    def test_an_acked_one_between_two_unknowns(self) -> None:
        history = HandMade()
        history.send(1, (100, None), outcome="unknown")
        history.send(1, (101, 3))
        history.send(1, (102, None), outcome="unknown")
        history.read_all((2, 102), (3, 101), (4, 100))
        assert check(history.entries).counts == {AnomalyName.ORDER_BROKEN: 3 - 1}

    def test_unknowns_in_order_and_those_of_others(self) -> None:
        history = HandMade()
        history.send(1, (100, None), (101, None), outcome="unknown")
        history.send(2, (102, None), outcome="unknown")
        history.send(1, (103, None), outcome="unknown")
        history.read_all((0, 102), (1, 100), (4, 103))
        assert_fine(history)


def _log(*batches: tuple[int, int], epoch: int = 1) -> list[LogEntry]:
    return [LogEntry(first, last, epoch, f"{first}") for first, last in batches]


class TestReplicasDiffer:
    def test_other_bytes(self) -> None:
        history = HandMade()
        one = history.replica(1, *_log((0, 1), (2, 3)))
        history.replica(2, *_log((0, 1)), LogEntry(2, 3, 1, "other"))
        anomaly = only(history, AnomalyName.REPLICAS_DIFFER)
        assert anomaly.entries == (one, 1)
        assert anomaly.description == (
            "broker 1 holds offsets 2 to 3 of epoch 1 (2), broker 2 offsets 2 to 3 of epoch 1 (other)"
        )

    def test_another_epoch(self) -> None:
        history = HandMade()
        history.replica(1, *_log((0, 1), (2, 3)))
        history.replica(2, *_log((0, 1)), *_log((2, 3), epoch=2))
        only(history, AnomalyName.REPLICAS_DIFFER)

    def test_a_batch_less(self) -> None:
        history = HandMade()
        history.replica(1, *_log((0, 1), (2, 3), (4, 5)))
        history.replica(2, *_log((0, 1), (4, 5)))
        only(history, AnomalyName.REPLICAS_DIFFER)

    def test_lacks_what_was_acked(self) -> None:
        history = HandMade()
        history.send(1, (100, 0), (101, 1), (102, 2))
        history.read_all(0, 1, 2)
        history.replica(1, *_log((0, 1), (2, 2)))
        short = history.replica(2, *_log((0, 1)))
        anomaly = only(history, AnomalyName.REPLICAS_DIFFER)
        assert anomaly.entries == (short,)
        assert anomaly.description == "broker 2 lacks offset 2, which was acked or read; its log ends at 2"

    def test_is_empty(self) -> None:
        history = HandMade()
        history.send(1, (100, 0))
        history.read_all(0)
        history.replica(1, *_log((0, 0)))
        history.replica(2)
        only(history, AnomalyName.REPLICAS_DIFFER)

    def test_a_tail_that_was_never_acked(self) -> None:
        history = HandMade()
        history.send(1, (100, 0), (101, 1))
        history.read_all(0, 1)
        history.replica(1, *_log((0, 1)))
        history.replica(2, *_log((0, 1), (2, 2)))
        history.replica(3, *_log((0, 1), (2, 2), (3, 3)))
        assert check(history.entries).ok

    def test_a_log_that_begins_later(self) -> None:
        history = HandMade()
        history.replica(1, *_log((0, 1), (2, 3), (4, 5)))
        history.replica(2, *_log((2, 3), (4, 5)))
        assert_fine(history)

    def test_are_not_compared_where_there_is_but_one(self) -> None:
        history = HandMade()
        history.send(1, (100, 0))
        history.send(1, (200, 0), partition=1)
        history.read_all(0)
        history.read_all((0, 200), process=98, partition=1)
        for broker in (1, 2):
            history.replica(broker, *_log((0, 0)))
        history.replica(1, *_log((0, 0)), partition=1)
        verdict = check(history.entries)
        assert verdict.anomalies == ()
        assert verdict.unchecked == ("replicas were not compared of partitions 1",)


class TestRulesOfAHistory:
    def test_what_a_consumer_does_does_not_overlap(self) -> None:
        history = HandMade()
        history.poll(1)
        history.poll(1)
        history.lasts(1, 0.5, 3)
        with pytest.raises(HistoryError, match=r"entry 1 of process 1 lasts from 500000000 to"):
            check(history.entries)

    def test_sends_overlap_one_another_and_what_the_consumer_does(self) -> None:
        history = sent(0, 1)
        history.assign(1, {0: 0})
        history.poll(1, 0, 1)
        history.lasts(0, 1, 9)
        history.lasts(1, 2, 7)
        history.lasts(2, 3, 4)
        history.lasts(3, 4, 5)
        assert_fine(history)

    def test_sends_stand_in_the_order_in_which_they_began(self) -> None:
        history = sent(0, 1)
        history.lasts(0, 2, 3)
        history.lasts(1, 1, 4)
        with pytest.raises(HistoryError, match="entry 1 of process 1 lasts from 1000000000 to"):
            check(history.entries)

    def test_records_of_overlapping_sends_lie_in_the_order_of_the_calls(self) -> None:
        history = sent(1, 0)
        history.lasts(0, 1, 9)
        history.lasts(1, 2, 3)  # it is acked first, and lies first
        only(history, AnomalyName.NONMONOTONIC_SEND)

    def test_all_has_ended_at_a_crash(self) -> None:
        history = sent(0)
        history.lasts(0, 0, 9)
        history.crash(1)
        history.lasts(1, 5, 5)
        with pytest.raises(HistoryError, match="entry 1 of process 1 lasts from 5000000000 to"):
            check(history.entries)

    def test_nothing_ends_before_it_began(self) -> None:
        history = sent(0)
        history.lasts(0, 2, 1)
        with pytest.raises(HistoryError, match="lasts from 2000000000 to 1000000000"):
            check(history.entries)

    def test_nothing_follows_a_crash(self) -> None:
        history = HandMade()
        history.crash(1)
        history.poll(1)
        with pytest.raises(HistoryError, match="process 1 does something after its crash"):
            check(history.entries)

    def test_a_value_is_sent_once(self) -> None:
        history = HandMade()
        history.send(1, (100, 0))
        history.send(1, (100, 1))
        with pytest.raises(HistoryError, match="entry 1 sends 100, as entry 0 did"):
            check(history.entries)

    def test_outcomes_agree(self) -> None:
        history = HandMade()
        history.entries.append(Operation(1, "klamm", "send", 0, 1, "ok", (Sent(0, 100, "unknown"),)))
        with pytest.raises(HistoryError, match="entry 0 is ok, its value 100 is unknown"):
            check(history.entries)

    def test_a_commit_has_a_group_and_an_offset(self) -> None:
        history = HandMade()
        history.commit(1, None)
        with pytest.raises(HistoryError, match="entry 0 commits no offset for partition 0"):
            check(history.entries)
        history.entries[:] = [Operation(1, "klamm", "commit", 0, 1, "ok")]
        with pytest.raises(HistoryError, match="entry 0 is a commit of no group"):
            check(history.entries)
