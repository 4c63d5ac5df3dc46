"""A disk that fails under a running log (rule 27): nothing torn stays, nothing is acked, nothing is forgotten."""

from __future__ import annotations

import asyncio
import errno

import pytest
from harness.fake_file_system import FakeFileSystem
from harness.log_builder import DIRECTORY, append, content, new_log, offsets, reopened
from harness.record_batches import record_batch
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.partition_log import PartitionLog
from klamm.proto.errors import KafkaStorageError
from klamm.proto.identifiers import LeaderEpoch, Offset


@pytest.fixture
def disk() -> FakeFileSystem:
    return FakeFileSystem()


@pytest.fixture
def log(disk: FakeFileSystem) -> PartitionLog:
    log = new_log(disk)
    for number in range(10):
        append(log, b"%d" % number, producer_id=1, base_sequence=number)
    return log


def test_rule_27_a_full_disk_leaves_no_torn_batch(disk: FakeFileSystem, log: PartitionLog) -> None:
    before, path = content(log), log._segments.active.path
    size = len(disk.files[path].data)
    for room in (0, 1, 40, 70):
        disk.capacity = disk.used + room
        with pytest.raises(KafkaStorageError):
            append(log, b"new", producer_id=1, base_sequence=10)
        assert len(disk.files[path].data) == size
        assert (log.log_end_offset, log.failure) == (10, None)
        assert content(log) == before
    disk.capacity = None
    assert append(log, b"new", producer_id=1, base_sequence=10).base_offset == 10
    assert content(log).startswith(before)


def test_rule_27_what_cannot_be_cut_off_marks_the_log_as_failed(disk: FakeFileSystem, log: PartitionLog) -> None:
    disk.capacity = disk.used + 40
    disk.fail_next("truncate", errno.EIO, path_end=".log")
    with pytest.raises(KafkaStorageError):
        append(log, b"new")
    disk.capacity = None
    assert log.failure is not None
    with pytest.raises(KafkaStorageError):
        append(log, b"new")
    with pytest.raises(KafkaStorageError):
        log.append_as_follower(bytes(record_batch(base_offset=10)))
    with pytest.raises(KafkaStorageError):
        log.close()
    assert offsets(content(log))[-1] == (9, 10)  # reads go on
    again = reopened(disk)
    assert content(again) == content(log)


@pytest.mark.parametrize("operation", ["open", "pwrite", "truncate", "replace"])
def test_rule_27_a_failed_roll_leaves_the_old_segment_active(operation: str, disk: FakeFileSystem) -> None:
    for skip in range(8):
        disk = FakeFileSystem()
        log = new_log(disk)
        while not log._segments.active.must_roll(100, 0, log.log_end_offset, 0, log.config):
            append(log, b"x" * 20)
        before, end = content(log), log.log_end_offset
        disk.fail_next(operation, skip=skip)
        failed = False
        for _ in range(3):
            try:
                append(log, b"y" * 20)
            except KafkaStorageError:
                failed = True
        disk.heal()
        assert log.failure is None
        assert log.log_end_offset == end + 3 - failed
        assert content(log).startswith(before)
        again = reopened(disk)
        assert content(again) == content(log)


def test_rule_27_a_follower_keeps_the_batches_before_the_failure(disk: FakeFileSystem, log: PartitionLog) -> None:
    batches = [bytes(record_batch([b"z" * 60], base_offset=10 + number)) for number in range(6)]
    disk.fail_next("pwrite", path_end=".log", skip=1)
    with pytest.raises(KafkaStorageError):
        log.append_as_follower(b"".join(batches))
    end = log.log_end_offset
    assert 10 < end < 16
    log.append_as_follower(b"".join(batches[end - 10 :]))
    assert log.log_end_offset == 16
    assert content(reopened(disk)) == content(log)


def test_a_failed_epoch_checkpoint_appends_nothing(disk: FakeFileSystem, log: PartitionLog) -> None:
    disk.fail_next("replace", path_end=".tmp")
    with pytest.raises(KafkaStorageError):
        append(log, b"new", epoch=4)
    assert log.epoch_cache.entries == ((0, 0),)
    assert log.log_end_offset == 10
    append(log, b"new", epoch=4)
    assert log.epoch_cache.entries == ((0, 0), (4, 10))
    disk.fail_next("pwrite", path_end=".tmp")
    with pytest.raises(KafkaStorageError):
        log.assign_epoch(LeaderEpoch(6), log.log_end_offset)


def test_a_failed_read_is_a_storage_error(disk: FakeFileSystem, log: PartitionLog) -> None:
    disk.fail_next("pread")
    with pytest.raises(KafkaStorageError):
        log.read(Offset(0), max_bytes=100, end_offset=Offset(10))
    assert log.read(Offset(0), max_bytes=100, end_offset=Offset(10))


def test_a_failed_truncation_fails_the_log(disk: FakeFileSystem, log: PartitionLog) -> None:
    disk.fail_next("truncate", path_end=".log")
    with pytest.raises(KafkaStorageError):
        log.truncate_to(Offset(3))
    assert log.failure is not None
    log.truncate_fully_and_start_at(Offset(3))  # begun anew, nothing is in doubt any more
    assert append(log, b"new").base_offset == 3
    log.close()
    assert content(reopened(disk, clean=True, recovery_point=4)) == content(log)


def test_the_recovery_point_moves_only_after_the_sync(disk: FakeFileSystem, log: PartitionLog) -> None:
    async def main() -> None:
        disk.sync_gate.clear()
        flush = asyncio.ensure_future(log.flush())
        assert await asyncio.to_thread(disk.sync_began.wait, 10)
        assert log.recovery_point == 0
        append(log, b"meanwhile", producer_id=1, base_sequence=10)  # the loop is free, and so is the log
        disk.sync_gate.set()
        await flush
        assert log.recovery_point == 10
        await log.flush()
        assert log.recovery_point == 11

    asyncio.run(main())


def test_a_truncation_during_the_sync_holds_the_recovery_point_back(disk: FakeFileSystem, log: PartitionLog) -> None:
    async def main() -> None:
        disk.sync_gate.clear()
        flush = asyncio.ensure_future(log.flush())
        assert await asyncio.to_thread(disk.sync_began.wait, 10)
        log.truncate_to(Offset(4))
        append(log, b"other", epoch=1)
        points = []
        disk.sync_gate.set()
        while not flush.done():
            await asyncio.sleep(0)
            points.append(log.recovery_point)
        await flush
        # The sync that ran knew nothing of the other batch at 4; only the next one may pass it.
        assert set(points) <= {0, 4, 5}
        assert content(log)

    asyncio.run(main())


def test_flushes_of_one_log_run_one_after_the_other(disk: FakeFileSystem, log: PartitionLog) -> None:
    async def main() -> None:
        await asyncio.gather(*[log.flush() for _ in range(5)])
        syncs = disk.syncs
        await log.flush()
        assert disk.syncs == syncs  # nothing new to flush
        assert log.recovery_point == 10

    asyncio.run(main())


def test_a_failed_sync_fails_the_log(disk: FakeFileSystem, log: PartitionLog) -> None:
    async def main() -> None:
        disk.fail_next("sync", path_end=".log")
        results = await asyncio.gather(log.flush(), log.flush(), return_exceptions=True)
        assert all(isinstance(result, KafkaStorageError) for result in results)
        assert log.recovery_point == 0
        with pytest.raises(KafkaStorageError):
            append(log, b"new")

    asyncio.run(main())


def test_flush_messages_asks_for_a_flush(disk: FakeFileSystem) -> None:
    log = new_log(disk, LogConfig(flush_messages=3))
    wanted: list[int] = []
    log.on_flush_wanted = lambda each: wanted.append(each.log_end_offset)
    append(log, b"1", b"2")
    assert not wanted and not log.flush_due
    append(log, b"3")
    assert wanted == [3] and log.flush_due
    asyncio.run(log.flush_if_due())
    assert log.recovery_point == 3 and not log.flush_due
    append(log, b"4")
    assert wanted == [3]


def test_a_roll_asks_for_the_old_segment_to_be_flushed(disk: FakeFileSystem) -> None:
    log = new_log(disk)
    wanted: list[int] = []
    log.on_flush_wanted = lambda each: wanted.append(each.log_end_offset)
    while log.segment_count == 1:
        append(log, b"x" * 20)
    assert wanted and log.flush_due
    asyncio.run(log.flush_if_due())
    assert log.recovery_point == log._segments.active.base_offset < log.log_end_offset
    assert disk.files[f"{DIRECTORY}/{0:020d}.index"].durable == bytes(disk.files[f"{DIRECTORY}/{0:020d}.index"].data)
    assert not log.flush_due
