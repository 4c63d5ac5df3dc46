"""What a restart finds after each way to stop (rule 18), and after damage to any file."""

from __future__ import annotations

from random import Random

import pytest
from harness.fake_file_system import FakeFileSystem, Killed
from harness.log_builder import DIRECTORY, SMALL, append, content, new_log, offsets, reopened
from klamm.broker.log.errors import LogCorruptError
from klamm.broker.log.partition_log import PartitionLog
from klamm.proto.errors import KafkaStorageError
from klamm.proto.identifiers import LeaderEpoch, Offset


def _fill(log: PartitionLog, count: int = 20) -> None:
    for number in range(count):
        append(
            log,
            *[b"%03d" % number] * (number % 3 + 1),
            epoch=number // 7,
            producer_id=3,
            base_sequence=_sequence(number),
        )


def _sequence(number: int) -> int:
    return sum(each % 3 + 1 for each in range(number))


def _expected(count: int = 20) -> tuple[bytes, PartitionLog]:
    log = new_log(FakeFileSystem())
    _fill(log, count)
    return content(log), log


def _check_prefix(log: PartitionLog, whole: bytes) -> None:
    """The rule, and that what goes with the batches fits them."""
    data = content(log)
    found = offsets(data)
    assert whole.startswith(data)
    assert log.log_end_offset == (found[-1][1] if found else 0)
    rebuilt = new_log(FakeFileSystem())
    if data:
        rebuilt.append_as_follower(data)
    assert log.epoch_cache.entries == rebuilt.epoch_cache.entries
    assert log.producer_states.encode() == rebuilt.producer_states.encode()
    before = log.log_end_offset
    append(log, b"after", epoch=9)
    assert offsets(content(log))[-1] == (before, before + 1)


def test_rule_18_kill_at_every_byte_leaves_a_prefix() -> None:
    whole, log = _expected(12)
    assert log.segment_count >= 3
    previous = -1
    for budget in range(10_000):
        disk = FakeFileSystem()
        log = new_log(disk)
        disk.bytes_until_kill = budget
        try:
            _fill(log, 12)
        except Killed:
            acked = log.log_end_offset
            disk.crash()
            again = reopened(disk)
            # What was appended before the kill is there: kill -9 keeps the page cache.
            assert again.log_end_offset >= acked
            assert again.log_end_offset >= previous
            previous = again.log_end_offset
            _check_prefix(again, whole)
        else:
            break
    else:
        pytest.fail("the log never fitted")
    assert previous > 0


@pytest.mark.parametrize("seed", range(60))
def test_rule_18_a_power_cut_leaves_a_prefix_and_all_that_was_flushed(seed: int) -> None:
    random = Random(seed)
    whole, _ = _expected()
    disk = FakeFileSystem()
    log = new_log(disk)
    disk.sync_folder("/data")
    disk.sync_folder(DIRECTORY)
    _fill(log, 10)
    log._flusher.flush_now(log.log_end_offset)
    flushed = log.recovery_point
    assert flushed == log.log_end_offset
    _, rest = content(log), range(10, 20)
    for number in rest:
        append(
            log,
            *[b"%03d" % number] * (number % 3 + 1),
            epoch=number // 7,
            producer_id=3,
            base_sequence=_sequence(number),
        )
    disk.power_cut(random)
    again = reopened(disk, recovery_point=flushed)
    assert again.log_end_offset >= flushed
    _check_prefix(again, whole)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("flushed", [0, 3, 12])
def test_rule_18_a_power_cut_may_take_an_epoch_but_none_that_a_flush_vouched_for(seed: int, flushed: int) -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    disk.sync_folder("/data")
    disk.sync_folder(DIRECTORY)
    for number in range(16):
        append(log, b"%03d" % number, epoch=4 + number // 5)
        if number + 1 == flushed:
            log._flusher.flush_now(log.log_end_offset)
    assert log.segment_count >= 3
    whole = content(log)
    disk.power_cut(Random(seed))
    again = reopened(disk, recovery_point=flushed)
    assert again.log_end_offset >= flushed
    _check_prefix(again, whole)


def test_rule_18_a_flipped_bit_ends_the_log_there_when_the_stop_was_not_clean() -> None:
    whole, _ = _expected()
    disk = FakeFileSystem()
    _fill(new_log(disk))
    sizes = {path: len(file.data) for path, file in sorted(disk.files.items()) if path.endswith(".log")}
    logs = list(sizes)
    for path in (logs[0], logs[len(logs) // 2], logs[-1]):
        size = sizes[path]
        for bit in (*range(61 * 8), size * 4, size * 8 - 1):
            damaged = disk.copy()
            damaged.flip_bit(path, bit)
            _check_prefix(reopened(damaged), whole)


def test_a_flipped_bit_is_never_served() -> None:
    whole, _ = _expected()
    disk = FakeFileSystem()
    log = new_log(disk)
    _fill(log)
    log.close()
    random = Random(5)
    for path in sorted(path for path in disk.files if path.endswith(".log")):
        size = len(disk.files[path].data) * 8
        for bit in {0, size // 2, size - 1, *(random.randrange(size) for _ in range(60))}:
            damaged = disk.copy()
            damaged.flip_bit(path, bit)
            again = reopened(damaged, clean=True, recovery_point=log.log_end_offset)
            for offset in range(again.log_end_offset):
                try:
                    data = again.read(Offset(offset), max_bytes=10_000, end_offset=again.log_end_offset)
                except LogCorruptError as error:
                    assert error.path == path
                else:
                    assert data in whole


def test_a_flipped_bit_is_not_served_by_a_running_broker_either() -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    _fill(log)
    path = f"{DIRECTORY}/{0:020d}.log"
    log.read(Offset(0), max_bytes=10, end_offset=log.log_end_offset)
    disk.flip_bit(path, 8 * 100)
    served = []
    with pytest.raises(LogCorruptError) as caught:
        offset = 0
        while True:
            data = log.read(Offset(offset), max_bytes=10_000, end_offset=log.log_end_offset)
            served += offsets(data)
            offset = served[-1][1]
    assert served and caught.value.offset == served[-1][1]
    assert isinstance(caught.value, KafkaStorageError)


def test_segments_below_the_recovery_point_are_not_scanned() -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    _fill(log)
    log.close()
    end = log.log_end_offset
    disk.flip_bit(f"{DIRECTORY}/{0:020d}.log", 8 * 100)
    assert reopened(disk, recovery_point=end - 1).log_end_offset == end
    assert reopened(disk, recovery_point=0).log_end_offset < end


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("damage", ["missing", "empty", "torn", "zeros", "garbage"])
def test_indexes_are_made_anew(clean: bool, suffix: str, damage: str) -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    for number in range(40):
        append(log, b"%d" % number, timestamp=number * 10)
    before = content(log)
    log.close()
    for path in [path for path in disk.files if path.endswith(suffix)]:
        data = disk.files[path].data
        if damage == "missing":
            del disk.files[path]
        elif damage == "empty":
            data.clear()
        elif damage == "torn":
            data.extend(b"\1\2\3")
        elif damage == "zeros":
            data.extend(bytes(240))
        else:
            data[:] = Random(1).randbytes(24 * 5)
    again = reopened(disk, clean=clean, recovery_point=40)
    assert content(again) == before
    for number in range(40):
        assert again.read(Offset(number), max_bytes=1, end_offset=Offset(40))
        assert again.offset_for_timestamp(number * 10 - 5) == (number * 10, number)
    append(again, b"more")
    assert content(again).startswith(before)


def test_an_index_entry_that_misleads_is_found_out() -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    for number in range(40):
        append(log, b"%d" % number)
    before = content(log)
    log.close()
    for path in [path for path in disk.files if path.endswith(".index") and len(disk.files[path].data) >= 8]:
        disk.files[path].data[-1] ^= 1
    again = reopened(disk, clean=True, recovery_point=40)
    assert again.log_end_offset == 40
    for number in range(40):
        assert offsets(again.read(Offset(number), max_bytes=1, end_offset=Offset(40)))[0][0] == number
    assert content(again) == before


@pytest.mark.parametrize("clean", [True, False])
def test_a_torn_epoch_checkpoint_is_rebuilt_from_the_batches(clean: bool) -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    _fill(log)
    log.close()
    path = f"{DIRECTORY}/leader-epoch-checkpoint"
    text = bytes(disk.files[path].data)
    assert text == b"0\n3\n0 0\n1 13\n2 27\n"
    for size in range(len(text)):
        disk.files[path].data = bytearray(text[:size])
        again = reopened(disk, clean=clean, recovery_point=log.log_end_offset)
        assert again.epoch_cache.entries == log.epoch_cache.entries
        assert bytes(disk.files[path].data) == text
    del disk.files[path]
    assert reopened(disk, clean=clean).epoch_cache.entries == log.epoch_cache.entries


def test_a_torn_snapshot_is_rebuilt_from_the_batches() -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    _fill(log)
    log.close()
    states = log.producer_states.encode()
    for path in [path for path in disk.files if path.endswith(".snapshot")]:
        del disk.files[path].data[-3:]
    again = reopened(disk, clean=True, recovery_point=log.log_end_offset)
    assert again.producer_states.encode() == states


def test_an_epoch_without_batches_is_forgotten_with_the_process() -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    append(log, epoch=2)
    log.assign_epoch(LeaderEpoch(5), log.log_end_offset)
    assert reopened(disk).epoch_cache.entries == ((2, 0),)


def test_a_truncation_cut_short_by_a_crash_is_completed() -> None:
    # The epoch checkpoint went back, the log did not: its tail contradicts the checkpoint and goes.
    disk = FakeFileSystem()
    log = new_log(disk)
    append(log, b"a", epoch=1)
    append(log, b"b", epoch=2)
    disk.files[f"{DIRECTORY}/leader-epoch-checkpoint"].data = bytearray(b"0\n1\n1 0\n")
    assert reopened(disk).log_end_offset == 1


def test_leftovers_of_deletions_and_rewrites_are_removed() -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    _fill(log)
    log.close()
    for name in (f"{0:020d}.log.deleted", "leader-epoch-checkpoint.tmp", f"{999:020d}.index", f"{999:020d}.timeindex"):
        disk.open(f"{DIRECTORY}/{name}", create=True)
    again = reopened(disk, clean=True, recovery_point=log.log_end_offset)
    names = [path.rpartition("/")[2] for path in disk.files]
    assert not [name for name in names if name.endswith((".deleted", ".tmp")) or "999" in name]
    assert again.log_end_offset == log.log_end_offset


def test_a_log_whose_segments_are_gone_starts_at_its_log_start() -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    _fill(log)
    for path in [path for path in disk.files if path.endswith(".log")]:
        del disk.files[path]
    again = reopened(disk, log_start_offset=17)
    assert (again.log_start_offset, again.log_end_offset) == (17, 17)
    append(again, b"new", epoch=8)
    assert offsets(content(again)) == [(17, 18)]


def test_a_log_that_ends_below_its_log_start_shows_nothing_of_the_rest() -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    append(log, b"a")
    append(log, b"b")
    again = reopened(disk, log_start_offset=5)
    assert (again.log_start_offset, again.log_end_offset) == (5, 5)
    append(again, b"c", epoch=4)
    assert offsets(content(again)) == [(5, 6)]


def test_the_log_start_is_kept() -> None:
    disk = FakeFileSystem()
    log = new_log(disk, SMALL)
    _fill(log)
    log.advance_log_start_to(Offset(5))
    log.close()
    again = reopened(disk, clean=True, recovery_point=log.log_end_offset, log_start_offset=5)
    assert again.log_start_offset == 5
    assert again.epoch_cache.entries == log.epoch_cache.entries
