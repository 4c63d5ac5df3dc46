"""Append, read, truncate: what `PartitionLog` promises while its disk is well."""

from __future__ import annotations

import asyncio

import pytest
from harness.fake_file_system import FakeFileSystem
from harness.log_builder import DIRECTORY, NOW_MS, SMALL, append, content, new_log, offsets, reopened
from harness.record_batches import record_batch
from klamm.broker.log.descriptor_pool import DescriptorPool
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.partition_log import PartitionLog
from klamm.proto.errors import CorruptRecordError, OffsetOutOfRangeError, RecordListTooLargeError
from klamm.proto.identifiers import LeaderEpoch, Offset
from klamm.proto.record_batch import batches, check_batch, parse_header


@pytest.fixture
def disk() -> FakeFileSystem:
    return FakeFileSystem()


@pytest.fixture
def log(disk: FakeFileSystem) -> PartitionLog:
    return new_log(disk)


def test_a_leader_assigns_offsets_and_its_epoch(log: PartitionLog) -> None:
    first = append(log, b"a", b"b", epoch=3)
    second = append(log, b"c", epoch=4)
    assert (first.base_offset, first.last_offset, first.duplicate, first.log_append_time_ms) == (0, 1, False, None)
    assert (second.base_offset, log.log_end_offset) == (2, 3)
    headers = [header for _, header in batches(content(log))]
    assert [(header.base_offset, header.partition_leader_epoch) for header in headers] == [(0, 3), (2, 4)]
    assert log.epoch_cache.entries == ((3, 0), (4, 2))


def test_log_append_time_is_stamped_and_signed(log: PartitionLog) -> None:
    appended = log.append_as_leader(record_batch(), leader_epoch=LeaderEpoch(0), now_ms=77, log_append_time=True)
    header = check_batch(content(log))
    assert appended.log_append_time_ms == header.max_timestamp == 77
    assert header.attributes & 0x08


def test_reads_give_whole_batches_up_to_the_end_offset_and_about_max_bytes(log: PartitionLog) -> None:
    for _ in range(3):
        append(log, b"a", b"b")
    size = len(log.read(Offset(0), max_bytes=0, end_offset=Offset(6)))
    assert offsets(log.read(Offset(0), max_bytes=2 * size + 3, end_offset=Offset(6))) == [(0, 2), (2, 4)]
    assert offsets(log.read(Offset(1), max_bytes=size, end_offset=Offset(6))) == [(0, 2)]
    assert offsets(log.read(Offset(3), max_bytes=9999, end_offset=Offset(4))) == [(2, 4)]
    assert log.read(Offset(3), max_bytes=9999, end_offset=Offset(3)) == b""
    # an end offset inside a batch: the batch is not below it as a whole
    assert log.read(Offset(2), max_bytes=9999, end_offset=Offset(3)) == b""
    assert log.read(Offset(2), max_bytes=size - 1, end_offset=Offset(6), min_one_batch=False) == b""
    assert log.read(Offset(6), max_bytes=9999, end_offset=Offset(6)) == b""


def test_a_view_is_no_copy_unless_little_of_what_was_read_is_wanted(log: PartitionLog) -> None:
    for _ in range(3):
        append(log, b"a", b"b")
    size = len(log.read(Offset(0), max_bytes=0, end_offset=Offset(6)))
    most = log.view(Offset(0), max_bytes=2 * size + 3, end_offset=Offset(6))
    assert isinstance(most, memoryview)
    assert most.nbytes == 2 * size < len(most.obj)
    assert offsets(bytes(most)) == [(0, 2), (2, 4)]
    # A reader that is slow must not hold three batches for the sake of one.
    assert isinstance(log.view(Offset(0), max_bytes=3 * size, end_offset=Offset(2)), bytes)


def test_an_offset_outside_the_log_is_an_error(log: PartitionLog) -> None:
    append(log, b"a", b"b")
    append(log, b"c")
    log.advance_log_start_to(Offset(2))
    for offset in (0, 1, 4):
        with pytest.raises(OffsetOutOfRangeError):
            log.read(Offset(offset), max_bytes=100, end_offset=log.log_end_offset)
    with pytest.raises(OffsetOutOfRangeError):
        log.advance_log_start_to(Offset(4))
    assert log.advance_log_start_to(Offset(1)) is False


def test_every_offset_is_found_again_in_every_segment(log: PartitionLog) -> None:
    for number in range(40):
        append(log, *[b"%d" % number] * (number % 4 + 1))
    assert log.segment_count > 4
    for offset in [*range(log.log_end_offset), *reversed(range(log.log_end_offset))]:
        base, following = offsets(log.read(Offset(offset), max_bytes=1, end_offset=log.log_end_offset))[0]
        assert base <= offset < following
    whole = content(log)
    assert offsets(whole)[-1][1] == log.log_end_offset


def test_a_batch_above_max_bytes_comes_whole_as_the_first(disk: FakeFileSystem) -> None:
    log = new_log(disk, LogConfig(segment_bytes=1 << 20))
    append(log, b"x" * 5000)
    append(log, b"y")
    for max_bytes in (0, 30, 61, 100, 4999):
        assert offsets(log.read(Offset(0), max_bytes=max_bytes, end_offset=Offset(2))) == [(0, 1)]


def test_a_batch_larger_than_a_segment_is_refused(log: PartitionLog) -> None:
    with pytest.raises(RecordListTooLargeError):
        append(log, b"x" * 500)
    assert log.log_end_offset == 0


def test_a_follower_takes_what_the_leader_has_byte_by_byte(disk: FakeFileSystem, log: PartitionLog) -> None:
    for number in range(20):
        append(log, b"%d" % number, epoch=number // 6, producer_id=5, base_sequence=number)
    other = FakeFileSystem()
    follower = new_log(other)
    while follower.log_end_offset < log.log_end_offset:
        follower.append_as_follower(
            memoryview(log.read(follower.log_end_offset, max_bytes=500, end_offset=log.log_end_offset))
        )
    assert content(follower) == content(log)
    assert follower.epoch_cache.entries == log.epoch_cache.entries
    assert follower.producer_states.encode() == log.producer_states.encode()


def test_a_follower_takes_nothing_that_is_damaged_or_does_not_follow(log: PartitionLog) -> None:
    append(log, b"a")
    good, gap = record_batch(base_offset=1), record_batch(base_offset=3)
    damaged = record_batch(base_offset=2)
    damaged[-1] ^= 1
    for records in (good + damaged, good + gap, bytes(good)[:-1], record_batch(base_offset=0)):
        with pytest.raises(CorruptRecordError):
            log.append_as_follower(bytes(records))
        assert log.log_end_offset == 1
    log.append_as_follower(b"")
    log.append_as_follower(bytes(good))
    assert log.log_end_offset == 2


def test_a_new_follower_may_begin_inside_a_batch(log: PartitionLog) -> None:
    log.truncate_fully_and_start_at(Offset(7))
    log.append_as_follower(bytes(record_batch([b"a"] * 4, base_offset=5)))
    assert (log.log_start_offset, log.log_end_offset) == (7, 9)
    assert offsets(log.read(Offset(7), max_bytes=100, end_offset=Offset(9))) == [(5, 9)]
    with pytest.raises(OffsetOutOfRangeError):
        log.read(Offset(6), max_bytes=100, end_offset=Offset(9))


def test_truncation_takes_the_batch_that_holds_the_offset(log: PartitionLog) -> None:
    for _ in range(12):
        append(log, b"a", b"b", b"c")
    before = content(log)
    segments = log.segment_count
    log.truncate_to(Offset(40))
    assert log.log_end_offset == 36
    log.truncate_to(Offset(10))
    assert log.log_end_offset == 9
    assert log.segment_count < segments
    assert before.startswith(content(log)) and offsets(content(log))[-1][1] == 9
    append(log, b"new")
    assert offsets(content(log))[-1] == (9, 10)


def test_truncation_below_the_first_segment_starts_anew(log: PartitionLog) -> None:
    log.truncate_fully_and_start_at(Offset(100))
    append(log, b"a")
    log.truncate_to(Offset(50))
    assert (log.log_start_offset, log.log_end_offset) == (50, 50)
    append(log, b"b")
    assert offsets(content(log)) == [(50, 51)]


def test_rule_13_the_epoch_is_on_disk_before_the_first_append(disk: FakeFileSystem, log: PartitionLog) -> None:
    append(log, b"a", epoch=1)
    log.assign_epoch(LeaderEpoch(5), log.log_end_offset)
    assert bytes(disk.files[f"{DIRECTORY}/leader-epoch-checkpoint"].data) == b"0\n2\n1 0\n5 1\n"
    assert log.end_offset_for_epoch(LeaderEpoch(4)) == (1, 1)
    assert log.end_offset_for_epoch(LeaderEpoch(5)) == (5, 1)


def test_rule_14_the_epoch_cache_is_cut_even_where_the_log_is_not(log: PartitionLog) -> None:
    append(log, b"a", epoch=1)
    log.assign_epoch(LeaderEpoch(5), log.log_end_offset)
    log.truncate_to(Offset(1))  # KAFKA-10706
    assert log.epoch_cache.entries == ((1, 0),)
    log.append_as_follower(bytes(record_batch(base_offset=1, leader_epoch=3)))
    assert log.epoch_cache.entries == ((1, 0), (3, 1))


def test_rule_14_the_epoch_cache_follows_the_log_start(log: PartitionLog) -> None:
    for epoch in range(5):
        append(log, b"a", b"b", epoch=epoch)
    log.advance_log_start_to(Offset(5))
    assert log.epoch_cache.entries == ((2, 5), (3, 6), (4, 8))
    assert log.end_offset_for_epoch(LeaderEpoch(0)) == (0, 5)


def test_offset_for_timestamp_finds_the_first_record_at_least_as_new(log: PartitionLog) -> None:
    for number in range(10):
        log.append_as_leader(
            record_batch([b"v"] * 3, timestamps=[number * 100, number * 100 + 10, number * 100 + 20]),
            leader_epoch=LeaderEpoch(0),
            now_ms=NOW_MS,
        )
    assert log.segment_count > 2
    assert log.offset_for_timestamp(0) == (0, 0)
    assert log.offset_for_timestamp(405) == (410, 13)
    assert log.offset_for_timestamp(421) == (500, 15)
    assert log.offset_for_timestamp(920) == (920, 29)
    assert log.offset_for_timestamp(921) is None
    assert log.max_timestamp() == (920, 29)
    log.advance_log_start_to(Offset(14))
    assert log.offset_for_timestamp(0) == (420, 14)


def test_offset_for_timestamp_needs_no_order_of_timestamps(log: PartitionLog) -> None:
    for timestamp in (500, 100, 900, 200, 300, 900, 50):
        append(log, b"v" * 50, timestamp=timestamp)
    assert log.offset_for_timestamp(501) == (900, 2)
    assert log.offset_for_timestamp(60) == (500, 0)
    assert log.max_timestamp() == (900, 2)


@pytest.mark.parametrize("start", range(22))
def test_the_newest_record_is_one_that_was_not_deleted(log: PartitionLog, start: int) -> None:
    """KIP-734, after DeleteRecords: Apache Kafka gives an offset below the log start, or none."""
    timestamps = [900, 50, 800, 20, 40, 10, 700, 710, 705, 30, 30, 600, 500, 500, 400, 60, 60, 70, 5, 6, 7]
    for first in range(0, len(timestamps), 3):
        batch = record_batch([b"v" * 20] * 3, timestamps=timestamps[first : first + 3])
        log.append_as_leader(batch, leader_epoch=LeaderEpoch(0), now_ms=NOW_MS)
    assert log.segment_count > 2
    log.advance_log_start_to(Offset(start))
    left = [(timestamp, -offset) for offset, timestamp in enumerate(timestamps) if offset >= start]
    expected = (max(left)[0], -max(left)[1]) if left else None
    assert log.max_timestamp() == expected


@pytest.mark.parametrize("compression", [1, 2, 3, 4])
def test_offset_for_timestamp_reads_compressed_batches(log: PartitionLog, compression: int) -> None:
    log.append_as_leader(
        record_batch([b"v"] * 3, timestamps=[10, 20, 30], compression=compression),
        leader_epoch=LeaderEpoch(0),
        now_ms=NOW_MS,
    )
    assert log.offset_for_timestamp(15) == (20, 1)


def test_an_empty_log_has_no_timestamps(log: PartitionLog) -> None:
    assert log.offset_for_timestamp(0) is None
    assert log.max_timestamp() is None


def test_segments_roll_by_size_time_and_index(disk: FakeFileSystem) -> None:
    by_time = new_log(disk, LogConfig(segment_ms=1000))
    for timestamp in (5_000, 5_900, 6_001, 6_500):
        append(by_time, b"v", timestamp=timestamp)
    assert by_time.segment_count == 2
    full_index = new_log(FakeFileSystem(), LogConfig(index_interval_bytes=1, segment_index_bytes=8 * 4))
    for _ in range(12):
        append(full_index, b"v")
    assert full_index.segment_count > 2
    assert offsets(content(full_index))[-1][1] == 12


def test_a_segment_rolls_before_its_offsets_overflow(log: PartitionLog) -> None:
    log.truncate_fully_and_start_at(Offset(0))
    far = record_batch(base_offset=1)
    append(log, b"v")
    log.log_end_offset = Offset(2**31)
    far = record_batch(base_offset=2**31)
    log.append_as_follower(bytes(far))
    assert log.segment_count == 2
    assert f"{DIRECTORY}/{2**31:020d}.log" in log._file_system.files


def test_descriptors_are_bounded(disk: FakeFileSystem) -> None:
    log = new_log(disk, pool=DescriptorPool(3))
    for number in range(60):
        append(log, b"%d" % number)
        log.read(Offset(number // 2), max_bytes=1, end_offset=log.log_end_offset)
        assert disk.open_count <= 3
    for offset in range(60):
        log.read(Offset(offset), max_bytes=1, end_offset=log.log_end_offset)
        assert disk.open_count <= 3
    log.close()
    assert disk.open_count == 0


def test_close_and_reopen_keep_everything(disk: FakeFileSystem, log: PartitionLog) -> None:
    for number in range(25):
        append(log, b"%d" % number, epoch=number // 10, producer_id=9, base_sequence=number, timestamp=number)
    before, states = content(log), log.producer_states.encode()
    log.close()
    again = reopened(disk, clean=True, recovery_point=25)
    assert content(again) == before
    assert again.epoch_cache.entries == log.epoch_cache.entries
    assert again.producer_states.encode() == states
    assert again.recovery_point == 25
    assert again.offset_for_timestamp(17) == (17, 17)
    assert again.max_timestamp() == (24, 24)
    append(again, b"more", producer_id=9, base_sequence=25, epoch=2)
    assert content(again).startswith(before)


def test_the_files_are_kafkas(disk: FakeFileSystem) -> None:
    log = new_log(disk, SMALL)
    for number in range(6):
        append(log, b"v" * 30, timestamp=1_000 + number)
    log.close()
    size = parse_header(content(reopened(disk, clean=True))).size_bytes
    index = bytes(disk.files[f"{DIRECTORY}/{0:020d}.index"].data)
    assert index == (2).to_bytes(4, "big") + (2 * size).to_bytes(4, "big")
    time_index = bytes(disk.files[f"{DIRECTORY}/{0:020d}.timeindex"].data)
    entries = [(1002, 2), (1003, 3)]  # the last one was added when the segment was closed
    assert time_index == b"".join(time.to_bytes(8, "big") + offset.to_bytes(4, "big") for time, offset in entries)
    assert bytes(disk.files[f"{DIRECTORY}/partition.metadata"].data) == b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABw"
    assert sorted(name.rpartition("/")[2] for name in disk.files if name.endswith((".log", ".snapshot"))) == [
        f"{0:020d}.log",
        f"{4:020d}.log",
        f"{4:020d}.snapshot",
        f"{6:020d}.snapshot",
    ]


def test_an_epoch_is_synced_soon_after_and_at_once_over_a_truncated_tail() -> None:
    path = f"{DIRECTORY}/leader-epoch-checkpoint"

    async def main() -> None:
        disk = FakeFileSystem()
        log = new_log(disk)
        append(log, b"a", b"b", epoch=1)
        append(log, b"c", epoch=2)
        assert disk.files[path].durable != disk.files[path].data
        await log.sync_epochs()
        assert disk.files[path].durable == disk.files[path].data
        log.truncate_to(Offset(2))
        append(log, b"d", epoch=3)
        assert disk.files[path].durable == disk.files[path].data

    asyncio.run(main())
