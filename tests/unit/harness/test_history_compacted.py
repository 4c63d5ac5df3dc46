"""Replicas of a compacted topic: what cleaning may take away and what it may not, and what groups had committed."""

from __future__ import annotations

import struct

import pytest
from harness.history import CommittedOffset, KeyedRecord
from harness.history_by_hand import HandMade, assert_fine, only
from harness.history_checker import check
from harness.history_compacted import CompactedLogError, committed_offsets, latest_records
from harness.history_findings import AnomalyName
from harness.keyed_logs import keyed_batch
from harness.record_batches import record_batch

NUMBERS = {("orders", 1): 5}
WHOLE = ((0, "a", "1"), (5, "b", "2"), (9, "c", "3"))


def hexed(*records: tuple[int, bytes, bytes | None]) -> tuple[KeyedRecord, ...]:
    return tuple(
        KeyedRecord(offset, key.hex(), None if value is None else value.hex()) for offset, key, value in records
    )


class TestReplicas:
    def test_replicas_that_keep_the_same(self) -> None:
        history = HandMade()
        for broker in (1, 2, 3):
            history.compacted(broker, *WHOLE, high_watermark=10)
        assert_fine(history)
        assert check(history.entries).ok

    def test_a_lost_key(self) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE)
        history.compacted(2, WHOLE[0], WHOLE[2])
        anomaly = only(history, AnomalyName.REPLICAS_DIFFER)
        assert anomaly.entries == (0, 1)
        assert "key 'b'" in anomaly.description and "broker 2, __consumer_offsets-3 has nothing" in anomaly.description

    def test_a_stale_value(self) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE)
        history.compacted(2, WHOLE[0], (3, "b", "old"), WHOLE[2])
        assert "'2' at 5" in only(history, AnomalyName.REPLICAS_DIFFER).description

    def test_the_same_value_at_another_offset(self) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE)
        history.compacted(2, WHOLE[0], (6, "b", "2"), WHOLE[2])
        only(history, AnomalyName.REPLICAS_DIFFER)

    def test_another_value_at_the_same_offset(self) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE)
        history.compacted(2, WHOLE[0], (5, "b", "!"), WHOLE[2])
        only(history, AnomalyName.REPLICAS_DIFFER)

    def test_a_key_that_only_the_shorter_log_has(self) -> None:
        history = HandMade()
        history.compacted(1, WHOLE[0], WHOLE[2])
        history.compacted(2, *WHOLE[:2], end=9)
        only(history, AnomalyName.REPLICAS_DIFFER)

    def test_a_tombstone_may_be_gone(self) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE, (11, "d", None), (12, "e", "5"))
        history.compacted(2, *WHOLE, (12, "e", "5"))
        assert_fine(history)

    def test_a_key_that_came_back_when_its_tombstone_had_gone(self) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE, (11, "a", None), (12, "e", "5"))
        history.compacted(2, *WHOLE, (12, "e", "5"))
        assert "tombstone at 11" in only(history, AnomalyName.REPLICAS_DIFFER).description

    @pytest.mark.parametrize("value", ["late", None])
    def test_what_was_written_past_the_end_of_another_is_not_compared(self, value: str | None) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE, high_watermark=10)
        history.compacted(2, WHOLE[0], WHOLE[2], (10, "b", value), high_watermark=10)
        assert_fine(history)

    def test_a_replica_that_ends_before_the_high_watermark(self) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE, high_watermark=10)
        history.compacted(2, *WHOLE[:2], high_watermark=10)
        anomaly = only(history, AnomalyName.REPLICAS_DIFFER)
        assert anomaly.entries == (1,)
        assert "ends at 6, and all before 10" in anomaly.description

    def test_one_replica_is_compared_with_none(self) -> None:
        history = HandMade()
        history.compacted(1, *WHOLE)
        assert check(history.entries).unchecked == ("replicas of __consumer_offsets-3 were not compared: there is one",)


class TestCommittedOffsets:
    def committed(self, told: int | None, *logged: tuple[int, int]) -> HandMade:
        history = HandMade()
        history.assign(1, {0: 0})
        history.commit(1, 4, outcome="unknown")
        history.final_committed(told)
        for broker in (1, 2):
            history.compacted(broker, *WHOLE, committed=logged)
        return history

    def test_told_as_it_lies_there(self) -> None:
        history = self.committed(4, (0, 4))
        assert_fine(history)
        assert check(history.entries).ok

    def test_nothing_told_and_nothing_there(self) -> None:
        assert_fine(self.committed(None))

    @pytest.mark.parametrize(("told", "logged", "words"), [(4, 3, "says 3"), (None, 4, "had committed nothing")])
    def test_another_offset_lies_there(self, told: int | None, logged: int, words: str) -> None:
        verdict = check(self.committed(told, (0, logged)).entries)
        assert dict(verdict.counts) == {AnomalyName.COMMITTED_DIFFERS: 2}, "each of the two replicas"
        assert words in verdict.anomalies[0].description

    def test_no_replica_has_it(self) -> None:
        anomaly = only(self.committed(4), AnomalyName.COMMITTED_DIFFERS)
        assert anomaly.description.endswith("no replica says anything")

    def test_one_replica_lacks_it(self) -> None:
        history = self.committed(4, (0, 4))
        history.compacted(3, *WHOLE)
        assert only(history, AnomalyName.COMMITTED_DIFFERS).entries == (2, 5)

    def test_what_is_told_at_the_end_must_be_what_was_committed(self) -> None:
        history = HandMade()
        history.assign(1, {0: 0})
        history.commit(1, 0)
        history.final_committed(None)
        for broker in (1, 2):
            history.compacted(broker, *WHOLE)
        only(history, AnomalyName.LOST_COMMIT)

    def test_a_group_that_was_not_asked_for(self) -> None:
        history = HandMade()
        for broker in (1, 2):
            history.compacted(broker, *WHOLE, committed=[(0, 4)])
        assert check(history.entries).unchecked == ("the offsets of groups g were not asked for at the end",)

    def test_no_replica_was_read(self) -> None:
        history = HandMade()
        history.final_committed(None)
        assert check(history.entries).unchecked == ("no replica tells what groups had committed at the end",)


class TestLogs:
    def test_the_latest_record_of_each_key(self) -> None:
        first = keyed_batch([(b"a", b"1"), (b"b", b"2")]) + keyed_batch([(b"a", b"3")], base_offset=2, compression=1)
        second = keyed_batch([(b"b", None)], base_offset=3)
        found = latest_records([(0, bytes(first)), (3, bytes(second))])
        assert found == (4, hexed((2, b"a", b"3"), (3, b"b", None)))

    def test_a_cleaned_log_has_holes_and_says_the_same(self) -> None:
        cleaned = keyed_batch([(b"a", b"3")], base_offset=2) + keyed_batch([(b"b", None)], base_offset=3)
        assert latest_records([(0, bytes(cleaned))]) == (4, hexed((2, b"a", b"3"), (3, b"b", None)))

    def test_an_empty_last_segment_says_where_the_log_ends(self) -> None:
        assert latest_records([(0, bytes(keyed_batch([(b"a", b"1")]))), (7, b"")]) == (7, hexed((0, b"a", b"1")))

    def test_no_segment(self) -> None:
        assert latest_records([]) == (0, ())

    def test_a_damaged_batch(self) -> None:
        data = keyed_batch([(b"a", b"1")])
        data[-1] ^= 1
        with pytest.raises(CompactedLogError, match="segment 0 at byte 0"):
            latest_records([(0, bytes(data))])

    def test_half_a_batch_at_the_end(self) -> None:
        data = bytes(keyed_batch([(b"a", b"1")]) + keyed_batch([(b"a", b"2")], base_offset=1))
        with pytest.raises(CompactedLogError, match="segment 0 at byte"):
            latest_records([(0, data[:-3])])

    def test_offsets_that_do_not_rise(self) -> None:
        data = bytes(keyed_batch([(b"a", b"1"), (b"b", b"1")]) + keyed_batch([(b"a", b"2")], base_offset=1))
        with pytest.raises(CompactedLogError, match="offset 1 where 2 is next"):
            latest_records([(0, data)])

    def test_segments_that_overlap(self) -> None:
        data = bytes(keyed_batch([(b"a", b"1"), (b"b", b"1")]))
        with pytest.raises(CompactedLogError, match="the segment of 1 begins before 2"):
            latest_records([(0, data), (1, b"")])

    def test_a_record_without_a_key(self) -> None:
        with pytest.raises(CompactedLogError, match="the record of offset 4 has no key"):
            latest_records([(0, bytes(record_batch([b"1"], base_offset=4)))])

    def test_a_transactional_batch(self) -> None:
        with pytest.raises(CompactedLogError, match="a transactional batch"):
            latest_records([(0, bytes(record_batch([b"1"], transactional=True)))])


class TestRecordsOfOffsets:
    @staticmethod
    def record(offset: int, topic: bytes = b"orders", value: bytes | None = b"") -> KeyedRecord:
        key = struct.pack(">hh1sh6si", 1, 1, b"g", len(topic), topic, 1)
        whole = struct.pack(">hqi", 3, offset, -1) if value == b"" else value
        return KeyedRecord(9, key.hex(), None if whole is None else whole.hex())

    def test_group_partition_and_offset(self) -> None:
        assert committed_offsets([self.record(70)], NUMBERS) == (CommittedOffset("g", 5, 70),)

    def test_tombstones_and_records_of_groups_say_no_offset(self) -> None:
        group = KeyedRecord(3, struct.pack(">hh1s", 2, 1, b"g").hex(), "00")
        assert committed_offsets([self.record(70, value=None), group], NUMBERS) == ()

    def test_a_partition_of_nobody(self) -> None:
        with pytest.raises(CompactedLogError, match="of visits-1, which nobody reads"):
            committed_offsets([self.record(70, b"visits")], NUMBERS)

    def test_a_value_that_ends_early(self) -> None:
        with pytest.raises(CompactedLogError, match="the record of offset 9 ends early"):
            committed_offsets([self.record(70, value=b"\0\3\0")], NUMBERS)
