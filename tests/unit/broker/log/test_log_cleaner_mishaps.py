"""What may not go wrong while logs are cleaned: one log's mishap is no other log's, and nothing is half done."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import Any

import pytest
from harness.keyed_logs import COMPACTED, TOPIC_ID, CleanedDisk, append_keyed, keyed_batch, records, run_in_line, table
from klamm.broker.log.batch_filter import _signed
from klamm.broker.log.cleaning import Cleaning, Pace
from klamm.broker.log.offset_map import OffsetMap
from klamm.broker.log.partition_log import PartitionLog
from klamm.proto.identifiers import LeaderEpoch
from klamm.proto.record_batch import HEADER_SIZE, parse_header

DAY_MS = 86_400_000


def fill(log: PartitionLog, count: int = 40) -> None:
    for index in range(count):
        append_keyed(log, (b"key-%d" % (index % 3), b"%d" % index))


@pytest.mark.parametrize("skip", range(12))
def test_a_swap_that_fails_in_its_last_step_marks_the_log_as_failed(skip: int) -> None:
    """Or the next swap would write its file over that of the segment that is being read."""
    disk = CleanedDisk()
    fill(disk.log)
    disk.flush()
    expected = table(disk.log)
    disk.disk.fail_next("replace", errno.EIO, skip=skip)
    run_in_line(disk.manager.cleaner.clean_filthiest())
    disk.disk.heal()
    if disk.log.failure is None:
        assert not [s.path for s in disk.log.segments if s.path.endswith(".swap")]
    again = disk.restarted()
    assert table(again.log) == expected


def test_a_tombstone_that_the_map_had_no_room_for_stays_for_its_own_time() -> None:
    """It lies in one batch with a tombstone that was cleaned: that one's time is not its own."""
    disk = CleanedDisk(config=replace(COMPACTED, delete_retention_ms=1_000))
    cleaner = disk.manager.cleaner
    cleaner._config = replace(cleaner._config, dedupe_buffer_size=192 * 2)
    append_keyed(disk.log, (b"b", b"value"))
    append_keyed(disk.log, (b"a", None), (b"c", b"x"), (b"b", None))
    for _ in range(20):
        append_keyed(disk.log, (b"c", b"later" * 10))
    assert disk.clean()
    assert disk.log.cleaned_to < 4
    cleaner._config = replace(cleaner._config, dedupe_buffer_size=1 << 20)
    disk.clock.advance(1_000)
    assert disk.clean()
    assert [record.value for record in records(disk.log) if record.key == b"b"] == [None]


@pytest.mark.parametrize("mishap", ["disk", "codec"])
def test_a_log_that_cannot_be_cleaned_does_not_keep_the_others_dirty(
    mishap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = CleanedDisk()
    other = disk.manager.create("other", TOPIC_ID, 1, COMPACTED)
    disk.manager._high_watermark_of = lambda key: (
        disk.log.log_end_offset if key.partition == 0 else other.log_end_offset
    )
    fill(disk.log, 80)
    fill(other, 60)
    disk.flush()
    other._flusher.flush_now(other.log_end_offset)
    path = next(iter(disk.log.segments)).path
    opened = disk.disk.open

    def refuse(name: str, *, create: bool = False) -> int:
        if name == path:
            raise OSError(errno.EIO, "bad sector") if mishap == "disk" else AssertionError("a bug in the codec")
        return opened(name, create=create)

    monkeypatch.setattr(disk.disk, "open", refuse)
    candidates = disk.manager.cleaner._candidates()
    assert max(candidates, key=lambda each: each.cleanable.dirty_ratio).log is disk.log

    async def main() -> None:
        disk.manager.cleaner._config = replace(disk.manager.cleaner._config, backoff_ms=1)
        disk.manager.cleaner.start()
        try:
            async with asyncio.timeout(5):
                while not other.cleaned_to:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.002)
        finally:
            await disk.manager.cleaner.stop()

    asyncio.run(main())
    assert disk.log.cleaned_to == 0
    assert (disk.log.uncleanable is None) == (mishap == "disk")


def test_times_that_no_log_can_hold_make_a_log_uncleanable() -> None:
    disk = CleanedDisk()
    plain = keyed_batch([(b"a", b"1"), (b"b", b"2")])
    header = parse_header(plain)
    late = _signed(header._replace(base_timestamp=2**63 - 1, max_timestamp=2**63 - 1), bytes(plain[HEADER_SIZE:]))
    disk.log.append_as_leader(bytearray(late), leader_epoch=LeaderEpoch(0), now_ms=0)
    append_keyed(disk.log, (b"a", b"newer"))
    disk.log._roll(disk.log.log_end_offset, 0)
    expected = [record.key for record in records(disk.log) if record.offset > 1]
    assert not disk.clean()
    assert disk.log.uncleanable is not None
    assert [record.key for record in records(disk.log) if record.offset > 1] == expected


def test_a_pause_for_the_rate_ends_when_no_more_work_is_wanted() -> None:
    pauses: list[float] = []
    pace = Pace(bytes_per_second_max=1, sleep=pauses.append)
    pace.worked(1 << 20, lambda: len(pauses) >= 3)
    assert len(pauses) == 3
    assert max(pauses) <= 0.1
    pauses.clear()
    Pace(bytes_per_second_max=1, sleep=pauses.append).worked(2, lambda: False)
    assert sum(pauses) == pytest.approx(2, abs=0.1)


def test_retention_that_takes_what_is_being_cleaned_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = CleanedDisk(config=replace(COMPACTED, retention_ms=1_000))
    fill(disk.log)
    disk.flush()
    map_offsets = Cleaning.map_offsets

    def meanwhile(cleaning: Cleaning, *arguments: Any) -> OffsetMap:
        offsets = map_offsets(cleaning, *arguments)
        disk.log.delete_old_segments(disk.clock.wall_ms() + DAY_MS, disk.log.segments.active.base_offset)
        return offsets

    monkeypatch.setattr(Cleaning, "map_offsets", meanwhile)
    assert not disk.clean()
    assert disk.log.segment_count == 1
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert not [name for name in disk.disk.files if name.endswith((".cleaned", ".swap"))]
