"""Logs whose offsets have gaps: on a follower of a compacted leader, and after any kind of restart."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from harness.fake_file_system import FakeFileSystem
from harness.keyed_logs import CleanedDisk, append_keyed, records
from harness.log_builder import DIRECTORY, SMALL, append, content, new_log, offsets, reopened
from harness.record_batches import record_batch
from klamm.broker.log.batch_filter import empty_batch
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.offset_gaps import OFFSET_GAPS
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.log.producer_state import ANY_PRODUCER, NO_PRODUCER
from klamm.proto.errors import CorruptRecordError, KafkaStorageError
from klamm.proto.identifiers import LeaderEpoch, Offset
from klamm.proto.record_batch import parse_header

MARKER = f"{DIRECTORY}/{OFFSET_GAPS}"


def gappy(disk: FakeFileSystem, *places: tuple[int, int, int], config: LogConfig = SMALL) -> PartitionLog:
    """A follower's log with a batch for each (base offset, records, epoch)."""
    log = new_log(disk, config)
    for base, count, epoch in places:
        take(log, base, count, epoch)
    return log


def take(log: PartitionLog, base: int, count: int, epoch: int = 0) -> None:
    batch = record_batch([b"x" * 20] * count, base_offset=base, leader_epoch=epoch, timestamps=1_000 + base)
    log.append_as_follower(bytes(batch), gaps=True)


PLACES = ((2, 3, 0), (9, 1, 0), (10, 2, 1), (20, 5, 3), (30, 1, 3), (31, 2, 3), (50, 4, 4))


@pytest.fixture
def disk() -> FakeFileSystem:
    return FakeFileSystem()


def test_a_gap_is_taken_only_where_the_leader_says_that_it_has_some(disk: FakeFileSystem) -> None:
    log = new_log(disk)
    append(log)
    for base in (0, 2, 5):
        with pytest.raises(CorruptRecordError, match="does not follow 1"):
            log.append_as_follower(bytes(record_batch(base_offset=base)))
    assert MARKER not in disk.files
    with pytest.raises(CorruptRecordError, match="does not follow 1"):
        log.append_as_follower(bytes(record_batch(base_offset=0)), gaps=True)
    log.append_as_follower(bytes(record_batch(base_offset=1)), gaps=True)
    assert MARKER not in disk.files  # none came
    log.append_as_follower(bytes(record_batch(base_offset=5)), gaps=True)
    assert MARKER in disk.files
    assert offsets(content(log)) == [(0, 1), (1, 2), (5, 6)]
    with pytest.raises(CorruptRecordError, match="does not follow 6"):
        log.append_as_follower(bytes(record_batch(base_offset=4)), gaps=True)


def test_an_offset_in_a_gap_gives_the_next_batch_in_any_segment(disk: FakeFileSystem) -> None:
    log = gappy(disk, *PLACES)
    assert log.segment_count > 2
    for _ in range(3):
        for offset in range(log.log_end_offset):
            following = next(base for base, count, _ in PLACES if base + count > offset)
            got = offsets(log.read(Offset(offset), max_bytes=1, end_offset=log.log_end_offset))
            assert got[0][0] == following, offset
        assert offsets(content(log)) == [(base, base + count) for base, count, _ in PLACES]


def test_a_read_stops_below_its_end_also_in_a_gap(disk: FakeFileSystem) -> None:
    log = gappy(disk, *PLACES)
    for end in range(log.log_end_offset):
        got = offsets(content(log, 0, end))
        assert got == [(base, base + count) for base, count, _ in PLACES if base + count <= end]


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("epochs", [True, False], ids=["with epochs", "epochs lost"])
def test_a_log_with_gaps_is_the_same_after_a_restart(disk: FakeFileSystem, clean: bool, epochs: bool) -> None:
    log = gappy(disk, *PLACES)
    before, entries = content(log), log.epoch_cache.entries
    if clean:
        log.close()
    else:
        disk.crash()
    if not epochs:
        disk.remove(f"{DIRECTORY}/leader-epoch-checkpoint")
    again = reopened(disk, clean=clean, recovery_point=54 if clean else 0)
    assert (content(again), again.log_end_offset, again.epoch_cache.entries) == (before, 54, entries)
    take(again, 60, 1, 4)
    assert again.log_end_offset == 61


def test_rule_18_without_the_marker_a_gap_is_damage(disk: FakeFileSystem) -> None:
    gappy(disk, *PLACES)
    disk.crash()
    disk.remove(MARKER)
    assert reopened(disk).log_end_offset == 0


def test_rule_18_the_marker_is_on_the_disk_before_the_gap(disk: FakeFileSystem) -> None:
    for seed in range(20):
        disk = FakeFileSystem()
        log = new_log(disk)
        append(log, b"first")
        log._flusher.flush_now(log.log_end_offset)
        disk.sync_folder("/data")
        disk.sync_folder("/")
        take(log, 5, 2)
        disk.power_cut(Random(seed))
        assert MARKER in disk.files
        assert reopened(disk, recovery_point=1).log_end_offset in (1, 7)


def test_rule_12_an_epoch_begins_where_the_batch_before_it_ends(disk: FakeFileSystem) -> None:
    """What another replica holds in the gap, from an epoch that ended before, may not be taken for the leader's."""
    log = gappy(disk, *PLACES)
    assert [tuple(entry) for entry in log.epoch_cache.entries] == [(0, 0), (1, 10), (3, 12), (4, 33)]
    assert log.end_offset_for_epoch(LeaderEpoch(1)) == (1, 12)
    assert log.end_offset_for_epoch(LeaderEpoch(2)) == (1, 12)
    assert log.end_offset_for_epoch(LeaderEpoch(3)) == (3, 33)


@pytest.mark.parametrize("target", range(56))
def test_a_truncation_leaves_a_log_that_a_restart_finds_the_same(target: int) -> None:
    disk = FakeFileSystem()
    log = gappy(disk, *PLACES)
    log.truncate_to(Offset(target))
    kept = [(base, base + count) for base, count, _ in PLACES if base + count <= target]
    end = kept[-1][1] if kept else 0
    assert (offsets(content(log)), log.log_end_offset) == (kept, end)
    assert all(entry.start_offset < end for entry in log.epoch_cache.entries)
    disk.crash()
    again = reopened(disk, recovery_point=log.recovery_point)
    assert (offsets(content(again)), again.log_end_offset) == (kept, end)
    take(again, 60, 1, 9)
    assert offsets(content(again)) == [*kept, (60, 61)]


def test_a_truncation_does_not_go_below_a_log_start_in_a_gap(disk: FakeFileSystem) -> None:
    log = gappy(disk, *PLACES)
    log.advance_log_start_to(Offset(15))
    log.truncate_to(Offset(18))
    assert (log.log_start_offset, log.log_end_offset, content(log)) == (15, 15, b"")
    disk.crash()
    again = reopened(disk, log_start_offset=15, recovery_point=15)
    assert (again.log_start_offset, again.log_end_offset, content(again)) == (15, 15, b"")


def test_look_ups_by_time_in_a_log_with_gaps() -> None:
    disk = CleanedDisk()
    for index in range(40):
        append_keyed(disk.log, (b"key-%d" % (index % 3), b"%d" % index), (b"%d" % index, b"x"), timestamp=index * 10)
    assert disk.clean()
    left = records(disk.log)
    for timestamp in range(0, 420, 3):
        found = disk.log.offset_for_timestamp(timestamp)
        expected = next(((r.timestamp, r.offset) for r in left if r.timestamp >= timestamp), None)
        assert found == expected
    assert disk.log.max_timestamp() == (391, left[-1].offset)


def test_the_newest_record_may_be_gone() -> None:
    """KIP-734: the offset of the newest record that is left, not of a batch that was emptied."""
    disk = CleanedDisk()
    append_keyed(disk.log, (b"key", b"from the future"), timestamp=900_000, producer_id=1, sequence=0)
    for index in range(40):
        append_keyed(disk.log, (b"key", b"%d" % index), timestamp=index)
    assert disk.log.max_timestamp() == (900_000, 0)
    assert disk.clean()
    assert disk.log.max_timestamp() == (39, 40)
    assert disk.log.offset_for_timestamp(40) is None
    for clean in (True, False):
        disk = disk.restarted(clean=clean)
        assert disk.log.max_timestamp() == (39, 40)


def test_a_gap_wider_than_a_segment_counts_begins_a_segment_of_its_own(disk: FakeFileSystem) -> None:
    log = gappy(disk, (0, 1, 0), (2**33, 1, 0))
    assert log.segment_count == 2
    for offset in (1, 5, 2**33):
        assert offsets(log.read(Offset(offset), max_bytes=1, end_offset=log.log_end_offset)) == [(2**33, 2**33 + 1)]
    disk.crash()
    assert reopened(disk).log_end_offset == 2**33 + 1


@pytest.mark.parametrize("target", [1, 2, 2**32])
def test_a_truncation_in_such_a_gap_ends_where_the_last_batch_before_it_does(disk: FakeFileSystem, target: int) -> None:
    log = gappy(disk, (0, 1, 0), (2**33, 1, 1))
    log.truncate_to(Offset(target))
    assert (offsets(content(log)), log.log_end_offset, log.segment_count) == ([(0, 1)], 1, 1)
    take(log, 5, 1, 2)
    disk.crash()
    assert offsets(content(reopened(disk))) == [(0, 1), (5, 6)]


def test_a_truncation_between_the_last_batch_and_the_log_start(disk: FakeFileSystem) -> None:
    log = gappy(disk, *PLACES)
    log.advance_log_start_to(Offset(45))
    log.truncate_to(Offset(45))
    assert (log.log_start_offset, log.log_end_offset) == (45, 45)
    log.truncate_to(Offset(40))
    assert (log.log_start_offset, log.log_end_offset, content(log), log.failure) == (40, 40, b"", None)


@pytest.mark.parametrize("filled", range(3))
def test_rule_18_an_empty_segment_does_not_vouch_for_what_was_before_it(disk: FakeFileSystem, filled: int) -> None:
    """Simulator, seed 1755: the power failed, and of the newest segments only the names were on the disk. The log
    claimed all offsets up to the last name, and could not be cut where they parted from the leader's."""
    log = gappy(disk, *((base, 1, 0) for base in range(2, 60, 2)))
    segments = list(log.segments)
    assert len(segments) > 5
    disk.crash()
    for segment in segments[2:-1]:
        del disk.files[segment.path].data[:]
    if filled < 2:
        del disk.files[segments[-1].path].data[filled * 80 :]
    end = segments[2].base_offset
    again = reopened(disk, recovery_point=segments[2].base_offset)
    assert (again.log_end_offset, offsets(content(again))[-1][1]) == (end, end)
    again.truncate_to(Offset(end - 1))
    assert again.log_end_offset < end
    take(again, end, 1)
    assert reopened(disk).log_end_offset == end + 1


def test_a_segment_that_begins_at_the_log_start_may_have_a_gap_before_it(disk: FakeFileSystem) -> None:
    log = gappy(disk, (0, 1, 0), (1, 1, 0), (20, 1, 0))
    log.advance_log_start_to(Offset(10))
    log.truncate_to(Offset(10))
    take(log, 12, 15)
    assert [segment.base_offset for segment in log.segments] == [0, 10]
    disk.crash()
    again = reopened(disk, log_start_offset=10)
    assert (again.log_start_offset, offsets(content(again))) == (10, [(12, 27)])


def test_a_failed_append_behind_a_gap_leaves_the_log_as_it_was(disk: FakeFileSystem) -> None:
    log = gappy(disk, *PLACES[:3])
    before = content(log)
    for operation in ("pwrite", "open", "replace"):
        disk.fail_next(operation)
        with pytest.raises(KafkaStorageError):
            take(log, 20, 5, 7)
        disk.heal()
        assert content(log) == before
    take(log, 14, 1, 7)
    assert offsets(content(log))[-1] == (14, 15)


def test_a_follower_of_a_cleaned_log_holds_what_its_leader_does_and_may_lead() -> None:
    leader = CleanedDisk()
    for index in range(60):
        append_keyed(leader.log, (b"key-%d" % (index % 5), b"%d" % index), epoch=index // 20)
    assert leader.clean()
    follower = CleanedDisk()
    while follower.log.log_end_offset < leader.log.log_end_offset:
        data = leader.log.read(follower.log.log_end_offset, max_bytes=150, end_offset=leader.log.log_end_offset)
        follower.log.append_as_follower(data, gaps=leader.log.offset_gaps.allowed)
    assert content(follower.log) == content(leader.log)
    append_keyed(follower.log, (b"new", b"record"), epoch=5)
    assert follower.clean() or follower.log.segment_count == 1
    assert {r.key for r in records(follower.log)} == {r.key for r in records(leader.log)} | {b"new"}
    assert asyncio.run(follower.manager.shutdown())


@pytest.mark.parametrize("clean", [False, True])
def test_what_missing_records_went_for_is_remembered_by_the_next_process(clean: bool) -> None:
    """Rule 3: after kill -9 the checkpoint lags behind what was cleaned (simulator, profile unclean, seed 8)."""
    first = CleanedDisk()
    for index in range(60):
        append_keyed(first.log, (b"key-%d" % (index % 5), b"%d" % index))
    assert first.log.is_whole_below(Offset(1))
    assert first.clean()
    cleaned_by = first.log.cleaned_by
    assert 0 < cleaned_by <= first.log.log_end_offset
    second = first.restarted(clean=clean)
    assert not second.log.is_whole_below(Offset(cleaned_by - 1))
    assert second.log.is_whole_below(cleaned_by)


def test_a_file_of_an_earlier_version_says_nothing_of_what_went_for_what() -> None:
    first = CleanedDisk()
    for index in range(60):
        append_keyed(first.log, (b"key-%d" % (index % 5), b"%d" % index))
    assert first.clean()
    first.flush()
    first.disk.crash()
    del first.disk.files[MARKER].data[:]
    second = CleanedDisk(first.disk)
    assert not second.log.is_whole_below(Offset(second.log.log_end_offset - 1))
    assert second.log.is_whole_below(second.log.log_end_offset)


def test_a_follower_knows_what_its_leaders_missing_records_went_for() -> None:
    """Rule 3: of a batch that has lost records, and of one that is gone, something later took the place."""
    leader = CleanedDisk()
    append_keyed(leader.log, (b"a", b"1"), (b"b", b"1"))
    for index in range(60):
        append_keyed(leader.log, (b"a", b"%d" % index))
    assert leader.clean()
    follower = CleanedDisk()
    read = leader.log.read(Offset(0), max_bytes=1, end_offset=leader.log.log_end_offset)
    assert follower.log.is_whole_below(Offset(1))
    follower.log.append_as_follower(read, gaps=True, high_watermark=leader.log.log_end_offset)
    assert follower.log.log_end_offset == 2
    assert not follower.log.is_whole_below(Offset(leader.log.log_end_offset - 1))
    assert not follower.restarted().log.is_whole_below(Offset(1))
    whole = CleanedDisk()
    append_keyed(whole.log, (b"a", b"1"))
    data = whole.log.read(Offset(0), max_bytes=1, end_offset=Offset(1))
    other = CleanedDisk()
    other.log.append_as_follower(data, gaps=True, high_watermark=Offset(50))
    assert other.log.is_whole_below(Offset(0)) and MARKER not in other.disk.files


def emptied_after_cleaning() -> CleanedDisk:
    """A log with gaps that is on the disk, and was then emptied, which is not."""
    first = CleanedDisk()
    for index in range(60):
        append_keyed(first.log, (b"key-%d" % (index % 5), b"%d" % index))
    assert first.clean()
    first.flush()
    first.checkpoint()
    first.disk.sync_folder("/data")
    first.disk.sync_folder("/")
    first.log.truncate_fully_and_start_at(Offset(0))
    return first


def test_a_log_that_was_emptied_lacks_nothing_in_the_next_process_either() -> None:
    first = emptied_after_cleaning()
    for index in range(3):
        append_keyed(first.log, (b"key", b"%d" % index))
    second = first.restarted()
    assert second.log.log_end_offset == 3
    assert second.log.is_whole_below(Offset(1))
    assert second.log.offset_gaps.allowed
    second.log.will_be_cleaned_by(Offset(2))
    assert not second.restarted().log.is_whole_below(Offset(1))


@pytest.mark.parametrize("seed", range(20))
def test_what_a_power_cut_brings_back_of_an_emptied_log_is_known_to_lack_records(seed: int) -> None:
    first = emptied_after_cleaning()
    first.disk.power_cut(Random(seed))
    second = CleanedDisk(first.disk)
    lacks_records = len(records(second.log)) < second.log.log_end_offset
    assert not (lacks_records and second.log.is_whole_below(Offset(1)))


def test_rule_17_what_a_gap_held_may_have_been_of_any_producer(disk: FakeFileSystem) -> None:
    log = gappy(disk, (0, 2, 0), (2, 1, 0))
    assert log.producer_states.forgotten_up_to == NO_PRODUCER
    take(log, 9, 1)
    assert log.producer_states.forgotten_up_to == ANY_PRODUCER
    disk.crash()
    again = reopened(disk)
    assert again.producer_states.forgotten_up_to == ANY_PRODUCER
    again.truncate_to(Offset(3))  # and again nothing is missing
    assert again.producer_states.forgotten_up_to == NO_PRODUCER


def test_rule_17_a_gap_in_front_and_an_emptied_batch_count_too(disk: FakeFileSystem) -> None:
    assert gappy(disk, (1, 1, 0)).producer_states.forgotten_up_to == ANY_PRODUCER
    log = new_log(FakeFileSystem())
    batch = bytes(record_batch([b"x"] * 3, leader_epoch=0))
    log.append_as_follower(empty_batch(parse_header(batch)), gaps=True)
    assert log.producer_states.forgotten_up_to == ANY_PRODUCER
