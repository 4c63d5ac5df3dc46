"""Whole cleanings on a fake disk: against a model, across restarts, and cut short wherever the disk is touched."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from random import Random

import pytest
from harness.fake_clock import FakeClock
from harness.fake_file_system import FakeFileSystem, Killed
from harness.keyed_logs import (
    COMPACTED,
    DIRECTORY,
    KEY,
    CleanedDisk,
    Record,
    append_keyed,
    keyed_batch,
    records,
    table,
)
from klamm.broker.log.checkpoints import CLEANER_CHECKPOINT, read_offsets
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.log.producer_state import ANY_PRODUCER
from klamm.proto.errors import KafkaStorageError, OutOfOrderSequenceNumberError
from klamm.proto.identifiers import LeaderEpoch, Offset, TopicPartition
from klamm.proto.record_batch import batches, check_batch

DAY_MS = 86_400_000


def fill(log: PartitionLog, random: Random, count: int, *, producers: dict[int, int] | None = None) -> None:
    """Appends batches of a few keys, some of them tombstones, some compressed."""
    for _ in range(count):
        pairs = [
            (b"key-%d" % random.randrange(12), None if random.random() < 0.15 else b"%d" % random.randrange(10**6))
            for _ in range(random.randint(1, 4))
        ]
        producer, sequence = -1, -1
        if producers and random.random() < 0.5:
            producer = random.choice(sorted(producers))
            sequence = producers[producer]
            producers[producer] += len(pairs)
        append_keyed(
            log,
            *pairs,
            producer_id=producer,
            sequence=sequence,
            compression=random.choice([0, 0, 4]),
            timestamp=1_000 + log.log_end_offset,
        )


def shape(log: PartitionLog) -> list[tuple[int, int, int]]:
    """(base offset, next offset, record count) of each batch."""
    found = []
    for segment in log.segments:
        for _, header in segment.headers():
            found.append((header.base_offset, header.next_offset, header.record_count))
    return found


def check_invariants(log: PartitionLog) -> None:
    """What must hold of any log: whole batches in order, segments that join, indexes that lead where they say."""
    segments = list(log.segments)
    for segment, end in zip(segments, log.segments.ends(log.log_end_offset), strict=True):
        expected = segment.base_offset
        for data, at in segment.scan():
            header = check_batch(data, at)
            assert header.base_offset >= expected
            expected = header.next_offset
        assert expected == end
    for offset in range(log.log_start_offset, log.log_end_offset):
        data = log.read(Offset(offset), max_bytes=1, end_offset=log.log_end_offset)
        assert check_batch(data).last_offset >= offset
        assert len(list(batches(data))) == 1
    newest = max((record.timestamp for record in records(log)), default=None)
    found = log.max_timestamp()
    assert (None if found is None else found[0]) == newest


class Model:
    """What compaction may and may not do to the records of a log."""

    def __init__(self, before: list[Record], cleaned_to: int, active_base: int) -> None:
        self.before = before
        self.latest: dict[bytes | None, int] = {r.key: r.offset for r in before if r.offset < cleaned_to}
        self.cleaned_to = cleaned_to
        self.active_base = active_base

    def check(self, after: list[Record], *, tombstones_may_go: bool = False) -> None:
        assert set(after) <= set(self.before), "a record has changed, or come from nowhere"
        kept = {record.offset for record in after}
        for record in self.before:
            if record.offset >= self.cleaned_to:
                assert record.offset in kept, "a record that was not to be cleaned is gone"
            elif self.latest[record.key] > record.offset:
                assert record.offset not in kept, "a record stays that has a later one"
            elif record.value is not None or not tombstones_may_go:
                assert record.offset in kept, "the last record of a key is gone"


@pytest.mark.parametrize("seed", range(25))
def test_a_cleaned_log_is_the_latest_of_each_key(seed: int) -> None:
    random = Random(seed)
    disk = CleanedDisk(dedupe_buffer_size=random.choice([1 << 20, 192 * 5]))
    producers = {1: 0, 2: 0}
    for _ in range(3):
        fill(disk.log, random, 40, producers=producers)
        before, expected = records(disk.log), table(disk.log)
        active = disk.log.segments.active.base_offset
        rounds = 0
        while disk.clean():
            rounds += 1
        assert rounds
        assert disk.log.cleaned_to == active
        Model(before, active, active).check(records(disk.log))
        assert table(disk.log) == expected
        check_invariants(disk.log)
        if random.random() < 0.5:
            log_before, shape_before = records(disk.log), shape(disk.log)
            disk.checkpoint()
            disk = disk.restarted(clean=random.random() < 0.5)
            assert records(disk.log) == log_before
            assert shape(disk.log) == shape_before
            assert disk.log.cleaned_to == active
            check_invariants(disk.log)
    # Time passes: the tombstones have been seen.
    expected = table(disk.log)
    disk.clock.advance(DAY_MS)
    fill(disk.log, random, 40)
    expected, before = table(disk.log), records(disk.log)
    active = disk.log.segments.active.base_offset
    while disk.clean():
        pass
    Model(before, active, active).check(records(disk.log), tombstones_may_go=True)
    assert table(disk.log) == expected
    check_invariants(disk.log)


def test_tombstones_go_when_delete_retention_has_passed_since_their_first_cleaning() -> None:
    disk = CleanedDisk(config=replace(COMPACTED, delete_retention_ms=1_000))

    def more() -> None:
        for index in range(20):
            append_keyed(disk.log, (b"other", b"%d" % index * 20))

    append_keyed(disk.log, (b"key", b"value"))
    append_keyed(disk.log, (b"key", None))
    more()
    disk.clock.advance(DAY_MS)  # before the first cleaning no time counts
    assert disk.clean()
    assert [r.value for r in records(disk.log) if r.key == b"key"] == [None]
    disk.clock.advance(999)
    more()
    assert disk.clean()
    assert [r.value for r in records(disk.log) if r.key == b"key"] == [None]
    disk.clock.advance(1)
    more()
    assert disk.clean()
    assert [r.value for r in records(disk.log) if r.key == b"key"] == []


def test_rule_17_a_retry_is_told_from_a_new_batch_after_cleaning_and_restart() -> None:
    disk = CleanedDisk()
    for sequence in range(8):
        append_keyed(disk.log, (b"key", b"%d" % sequence), producer_id=5, sequence=sequence)
    for _ in range(30):
        append_keyed(disk.log, (b"key", b"later" * 10))
    assert disk.clean()
    assert all(record.value == b"later" * 10 for record in records(disk.log))
    for way in ("as it is", "clean", "crash", "without snapshots"):
        if way in ("clean", "crash"):
            disk = disk.restarted(clean=way == "clean")
        elif way == "without snapshots":
            disk.disk.crash()
            for path in [path for path in disk.disk.files if path.endswith(".snapshot")]:
                disk.disk.remove(path)
            disk = CleanedDisk(disk.disk)
        end = disk.log.log_end_offset
        for sequence in range(3, 8):
            appended = append_keyed(disk.log, (b"key", b"%d" % sequence), producer_id=5, sequence=sequence)
            assert (appended.duplicate, appended.base_offset) == (True, sequence), way
        with pytest.raises(OutOfOrderSequenceNumberError):
            append_keyed(disk.log, (b"key", b"x"), producer_id=5, sequence=9)
        assert disk.log.log_end_offset == end


def test_a_new_follower_of_a_cleaned_log_knows_its_producers_too() -> None:
    disk = CleanedDisk()
    for sequence in range(8):
        append_keyed(disk.log, (b"key", b"%d" % sequence), producer_id=5, sequence=sequence)
    for _ in range(30):
        append_keyed(disk.log, (b"key", b"later" * 10))
    assert disk.clean()
    follower = CleanedDisk().log
    while follower.log_end_offset < disk.log.log_end_offset:
        end = disk.log.log_end_offset
        data = disk.log.read(follower.log_end_offset, max_bytes=200, end_offset=end)
        follower.append_as_follower(data, gaps=disk.log.offset_gaps.allowed)
    assert records(follower) == records(disk.log)
    for sequence in range(3, 8):
        appended = append_keyed(follower, (b"key", b"x"), producer_id=5, sequence=sequence)
        assert (appended.duplicate, appended.base_offset) == (True, sequence)


def test_producers_that_are_forgotten_leave_no_batch() -> None:
    disk = CleanedDisk()
    append_keyed(disk.log, (b"key", b"value"), producer_id=5, sequence=0)
    for _ in range(20):
        append_keyed(disk.log, (b"key", b"later" * 10))
    assert disk.clean()
    assert shape(disk.log)[0] == (0, 1, 0)
    disk.log.producer_states.expire(1, 0)
    disk.log.producer_states.expire(2, 0)
    for _ in range(20):
        append_keyed(disk.log, (b"key", b"later" * 10))
    assert disk.clean()
    assert shape(disk.log)[0][0] > 0


def test_rule_17_a_cleaned_log_that_is_read_anew_may_lack_any_producer() -> None:
    disk = CleanedDisk()
    append_keyed(disk.log, (b"key", b"value"), producer_id=5, sequence=0)
    for now in (1, 2):
        disk.log.producer_states.expire(now, 0)
    for _ in range(20):
        append_keyed(disk.log, (b"key", b"later" * 10))
    assert disk.clean()
    assert shape(disk.log)[0][0] > 0
    assert disk.log.producer_states.forgotten_up_to == 5
    disk.log._snapshots.remove_all()
    disk.log.truncate_to(Offset(disk.log.log_end_offset - 1))
    assert disk.log.producer_states.forgotten_up_to == ANY_PRODUCER


# -- what is cleaned, and what is not


def filled(config_changes: dict[str, object] | None = None) -> CleanedDisk:
    disk = CleanedDisk(config=replace(COMPACTED, **(config_changes or {})))  # type: ignore[arg-type]
    fill(disk.log, Random(1), 60)
    return disk


def test_nothing_past_the_high_watermark_or_the_recovery_point_is_cleaned() -> None:
    disk = filled()
    before = records(disk.log)
    bases = [segment.base_offset for segment in disk.log.segments]
    assert asyncio.run(disk.manager.cleaner.clean_filthiest()) is False  # nothing is on the disk for sure
    disk.high_watermark = bases[3] - 1
    assert disk.clean()
    assert disk.log.cleaned_to == bases[2]
    Model(before, bases[2], bases[-1]).check(records(disk.log))
    assert not disk.clean()
    disk.high_watermark = bases[3]
    assert disk.clean()
    assert disk.log.cleaned_to == bases[3]


def test_a_topic_that_is_not_compacted_is_left_alone() -> None:
    disk = filled({"compacted": False})
    assert not disk.clean()
    disk.manager.update_config(KEY, COMPACTED)
    assert disk.clean()


def test_the_dirtiest_log_comes_first() -> None:
    disk = CleanedDisk()
    other = disk.manager.create("other", KEY.topic_id, 1, COMPACTED)
    disk.manager._high_watermark_of = None
    disk.manager._high_watermarks = {
        TopicPartition("topic", 0): Offset(10**6),
        TopicPartition("other", 1): Offset(10**6),
    }
    fill(disk.log, Random(1), 60)
    assert disk.clean()
    fill(disk.log, Random(2), 30)
    fill(other, Random(3), 30)
    other._flusher.flush_now(other.log_end_offset)
    assert disk.clean()
    assert other.cleaned_to == other.segments.active.base_offset
    assert disk.log.cleaned_to < disk.log.segments.active.base_offset
    assert disk.clean()
    assert not disk.clean()


def test_deleted_records_do_not_come_back_and_their_segments_go() -> None:
    disk = filled()
    disk.log.advance_log_start_to(Offset(50))
    assert disk.clean()
    assert all(record.offset >= 50 for record in records(disk.log))
    disk.log.delete_old_segments(disk.clock.wall_ms() + 10 * DAY_MS, disk.log.log_end_offset)
    first, second = list(disk.log.segments)[:2]
    assert first.base_offset <= 50 < second.base_offset
    assert disk.log.log_start_offset == 50  # and age does not count
    check_invariants(disk.log)
    before = records(disk.log)
    disk.checkpoint()
    assert records(disk.restarted().log) == before


def test_compact_and_delete_does_both() -> None:
    disk = filled({"retention_ms": 1_000})
    assert disk.clean()
    count, end = disk.log.segment_count - 2, disk.log.segments.active.base_offset
    last = list(disk.log.segments)[count]
    now_ms = last.largest[0] + 1_000
    assert disk.log.delete_old_segments(now_ms, disk.log.log_end_offset) == count
    assert disk.log.log_start_offset == last.base_offset < end
    check_invariants(disk.log)


def test_small_segments_merge_and_the_snapshots_of_those_that_are_gone_go() -> None:
    disk = filled({"segment_bytes": 1 << 20})
    disk.log.update_config(replace(COMPACTED, segment_bytes=160))
    fill(disk.log, Random(5), 30)
    disk.log.update_config(COMPACTED)
    count = disk.log.segment_count
    assert count > 20
    assert disk.clean()
    assert disk.log.segment_count < count / 3
    names = {path.rpartition("/")[2] for path in disk.disk.files if path.startswith(DIRECTORY)}
    stems = {f"{segment.base_offset:020d}" for segment in disk.log.segments}
    for suffix in (".log", ".index", ".timeindex"):
        assert {name.removesuffix(suffix) for name in names if name.endswith(suffix)} == stems
    assert {name.removesuffix(".snapshot") for name in names if name.endswith(".snapshot")} <= stems
    assert not [name for name in names if name.endswith((".cleaned", ".swap"))]
    check_invariants(disk.log)


# -- the checkpoint


def checkpointed(disk: CleanedDisk) -> int | None:
    found = read_offsets(disk.disk, f"/data/{CLEANER_CHECKPOINT}")
    return found.get(TopicPartition("topic", 0))


def test_the_checkpoint_is_kafkas_and_goes_back_with_a_truncation_before_anything_is_appended() -> None:
    disk = filled()
    disk.checkpoint()
    assert f"/data/{CLEANER_CHECKPOINT}" not in disk.disk.files
    assert disk.clean()
    disk.checkpoint()
    text = bytes(disk.disk.files[f"/data/{CLEANER_CHECKPOINT}"].data).decode()
    assert text == f"0\n1\ntopic 0 {disk.log.cleaned_to}\n"
    bases = [segment.base_offset for segment in disk.log.segments]
    disk.log.truncate_to(Offset(bases[2]))
    assert disk.log.log_end_offset == disk.log.cleaned_to == checkpointed(disk) == bases[2]
    disk.log.truncate_fully_and_start_at(Offset(7))
    assert disk.log.cleaned_to == 0
    assert checkpointed(disk) is None


def test_a_checkpoint_past_the_end_of_the_log_is_forgotten() -> None:
    disk = filled()
    assert disk.clean()
    disk.checkpoint()
    for path in sorted(path for path in disk.disk.files if path.startswith(DIRECTORY) and path.endswith(".log"))[2:]:
        disk.disk.remove(path)
    again = disk.restarted()
    assert again.log.log_end_offset < disk.log.cleaned_to
    assert again.log.cleaned_to == 0
    assert checkpointed(again) is None


def test_a_new_topic_of_the_same_name_is_not_clean() -> None:
    disk = filled()
    assert disk.clean()
    disk.checkpoint()
    disk.manager.delete(KEY)
    disk.log = disk.manager.create("topic", KEY.topic_id, 0, COMPACTED)
    assert disk.log.cleaned_to == 0
    assert checkpointed(disk) is None


# -- what goes wrong


def test_a_damaged_record_makes_a_log_uncleanable_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    disk = filled()
    disk.flush()
    path = next(iter(disk.log.segments)).path
    disk.disk.flip_bit(path, 8 * 70)
    assert not disk.clean()
    assert not disk.clean()
    assert [r.message for r in caplog.records if r.message.startswith("log_uncleanable partition=topic-0")] != []
    assert len([r for r in caplog.records if r.message.startswith("log_uncleanable")]) == 1
    assert disk.log.failure is None
    assert not [name for name in disk.disk.files if name.endswith((".cleaned", ".swap"))]
    append_keyed(disk.log, (b"key", b"value"))
    disk.log.truncate_fully_and_start_at(Offset(0))
    assert disk.log.uncleanable is None


@pytest.mark.parametrize("operation", ["open", "pread", "pwrite", "truncate", "sync", "sync_folder", "replace"])
@pytest.mark.parametrize("skip", range(0, 12, 2))
def test_a_disk_that_fails_once_leaves_the_log_whole(operation: str, skip: int) -> None:
    disk = filled()
    before, expected = records(disk.log), table(disk.log)
    disk.flush()
    disk.disk.fail_next(operation, errno.EIO, skip=skip)
    for _ in range(3):
        disk.clean() if disk.log.failure is None else None
    disk.disk.heal()
    if disk.log.failure is None:
        assert table(disk.log) == expected
        while disk.clean():
            pass
        assert set(records(disk.log)) <= set(before)
        check_invariants(disk.log)
    again = disk.restarted()
    assert table(again.log) == expected
    while again.clean():
        pass
    active = again.log.segments.active.base_offset
    Model(before, active, active).check(records(again.log))
    assert not [name for name in again.disk.files if name.endswith((".cleaned", ".swap"))]


def test_a_full_disk_leaves_the_log_as_it_was() -> None:
    disk = filled()
    disk.flush()
    before = records(disk.log)
    disk.disk.capacity = disk.disk.used
    assert not disk.clean()
    disk.disk.heal()
    assert records(disk.log) == before
    assert disk.clean()
    check_invariants(disk.log)


# -- rule 18: crashes


def prepared(seed: int) -> tuple[FakeFileSystem, FakeClock, list[Record]]:
    """A log that was cleaned once, with dirt and tombstones that are due; everything is on the disk."""
    random = Random(seed)
    disk = CleanedDisk(config=replace(COMPACTED, delete_retention_ms=10))
    fill(disk.log, random, 12, producers={1: 0})
    disk.clean()
    disk.clock.advance(100)
    disk.log.update_config(replace(COMPACTED, delete_retention_ms=10, segment_bytes=200))
    fill(disk.log, random, 9)
    disk = disk.restarted(clean=True)
    before = records(disk.log)
    disk.disk.crash()
    return disk.disk, disk.clock, before


@pytest.mark.parametrize(
    ("power", "seed"), [(False, 0), (True, 0), (True, 1)], ids=["kill", "power cut", "another power cut"]
)
def test_rule_18_a_crash_at_any_step_of_a_cleaning_loses_and_revives_nothing(power: bool, seed: int) -> None:
    original, clock, before = prepared(seed)
    last = {record.key: record.value for record in before}
    expected = {key: value for key, value in last.items() if value is not None}
    steps = 0
    while True:
        copy = original.copy()
        disk = CleanedDisk(copy, clock=clock)
        disk.flush()
        copy.changes_until_kill = steps
        try:
            disk.clean()
        except Killed:
            done = False
        else:
            done = True
        if power:
            copy.power_cut(Random(steps + seed))
        again = CleanedDisk(copy, clock=clock) if power else disk.restarted()
        assert table(again.log) == expected, f"step {steps}"
        assert again.log.log_end_offset == before[-1].offset + 1
        assert set(records(again.log)) <= set(before)
        check_invariants(again.log)
        while again.clean():
            pass
        active = again.log.segments.active.base_offset
        Model(before, active, active).check(records(again.log), tombstones_may_go=True)
        assert table(again.log) == expected
        assert not [name for name in copy.files if name.endswith((".cleaned", ".swap"))]
        if done:
            break
        steps += 1
    assert steps > 40


# -- changes of the log while it is cleaned


def test_whatever_is_done_to_the_log_during_a_swap_wins() -> None:
    """Truncation, start-over and retention between the steps of a swap, and a crash after each."""
    for change in ("truncate", "start over", "retain", "delete", "append"):
        for point in range(1, 4):
            disk = filled()
            disk.flush()
            whole = records(disk.log)
            bases = [segment.base_offset for segment in disk.log.segments]
            count = 0

            def interfere(path: str, sync: object = disk.disk.sync_folder) -> None:
                nonlocal count
                sync(path)  # type: ignore[operator]
                count += 1
                if count == point:  # noqa: B023
                    apply(change, disk, bases)  # noqa: B023

            disk.disk.sync_folder = interfere  # type: ignore[method-assign]
            disk.clean()
            del disk.disk.sync_folder
            check_after(change, disk, whole, bases)


def apply(change: str, disk: CleanedDisk, bases: list[int]) -> None:
    if change == "truncate":
        disk.log.truncate_to(Offset(bases[1]))
    elif change == "start over":
        disk.log.truncate_fully_and_start_at(Offset(1_000))
    elif change == "retain":
        disk.log.advance_log_start_to(Offset(bases[2]))
        disk.log.delete_old_segments(0, disk.log.log_end_offset)
    elif change == "delete":
        disk.manager.delete(KEY)
    else:
        append_keyed(disk.log, (b"new", b"value"))


def check_after(change: str, disk: CleanedDisk, whole: list[Record], bases: list[int]) -> None:
    if change == "delete":
        assert not [path for path in disk.disk.files if path.startswith(DIRECTORY + "/")]
        return
    for _ in range(2):
        log = disk.log
        if change == "truncate":
            assert log.log_end_offset == bases[1]
            assert set(records(log)) <= {r for r in whole if r.offset < bases[1]}
        elif change == "start over":
            assert (log.log_start_offset, log.log_end_offset, records(log)) == (1_000, 1_000, [])
        else:
            if change == "retain":
                assert log.log_start_offset == bases[2]
            assert {r.key for r in records(log)} >= {r.key for r in whole if r.offset >= bases[2]}
        if log.log_end_offset > log.log_start_offset:
            check_invariants(log)
        disk.flush()
        disk.checkpoint()
        disk = disk.restarted()


def test_a_stop_during_a_cleaning_waits_for_the_thread_and_leaves_the_log_whole() -> None:
    disk = filled()
    disk.flush()
    expected = table(disk.log)

    async def main() -> None:
        disk.disk.sync_gate.clear()
        disk.disk.sync_began.clear()
        cleaner = disk.manager.cleaner
        cleaner._task = asyncio.create_task(cleaner.clean_filthiest())  # type: ignore[assignment]
        assert await asyncio.to_thread(disk.disk.sync_began.wait, 10)
        stop = asyncio.create_task(cleaner.stop())
        await asyncio.sleep(0)
        assert not stop.done()
        disk.disk.sync_gate.set()
        await stop

    asyncio.run(main())
    assert table(disk.log) == expected
    again = disk.restarted(clean=True)
    assert again.manager.was_clean
    assert table(again.log) == expected
    check_invariants(again.log)


def test_reads_go_on_while_a_log_is_cleaned() -> None:
    disk = filled()
    disk.flush()
    expected = table(disk.log)

    async def main() -> None:
        task = asyncio.create_task(disk.manager.cleaner.clean_filthiest())
        reads = 0
        while not task.done():
            assert table(disk.log) == expected
            reads += 1
            await asyncio.sleep(0.001)  # reads without a pause would leave the cleaner's thread little time
        assert await task
        assert reads > 1

    asyncio.run(main())


def test_a_batch_as_large_as_a_segment_is_cleaned() -> None:
    disk = CleanedDisk(config=replace(COMPACTED, segment_bytes=1 << 20))
    big = keyed_batch([(b"key-%d" % index, b"x" * 100) for index in range(5_000)])
    for _ in range(3):
        disk.log.append_as_leader(bytearray(big), leader_epoch=LeaderEpoch(0), now_ms=1_000)
    append_keyed(disk.log, *[(b"key-%d" % index, b"last" * 100) for index in range(2_000)])
    disk.log._roll(disk.log.log_end_offset, 0)
    assert disk.clean()
    assert [record.offset for record in records(disk.log)] == [*range(12_000, 17_000)]
    assert shape(disk.log) == [(0, 5_000, 0), (5_000, 10_000, 0), (10_000, 15_000, 3_000), (15_000, 17_000, 2_000)]


def test_a_failed_log_is_not_cleaned() -> None:
    disk = filled()
    disk.flush()
    disk.log.fail("it broke")
    assert not disk.clean()
    with pytest.raises(KafkaStorageError):
        disk.log.close()
