"""The data folder: lock, owner, clean marker, checkpoints, deletions, and what a start makes of leftovers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from harness.fake_clock import FakeClock
from harness.fake_file_system import FakeFileSystem
from harness.log_builder import append, content
from klamm.broker.log.errors import LogDirectoryError
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.log_manager import LogManager, LogManagerConfig
from klamm.proto.identifiers import BrokerEpoch, BrokerId, Offset, TopicId, TopicIdPartition

TOPIC_ID = UUID(int=1)
KEY = TopicIdPartition(TOPIC_ID, 0)
CONFIG = LogConfig(segment_bytes=400, index_interval_bytes=100)
Place = tuple[FakeFileSystem, FakeClock]


@pytest.fixture
def place() -> Place:
    return FakeFileSystem(), FakeClock()


def opened(place: Place, **arguments: object) -> LogManager:
    disk, clock = place
    values = {"node_id": BrokerId(1), "clock": clock, "file_system": disk, "log_config_of": lambda _: CONFIG}
    return LogManager.open("/data", **{**values, **arguments})  # type: ignore[arg-type]


def stop(manager: LogManager, *, clean: bool = True, epoch: int | None = 5) -> bool:
    return asyncio.run(manager.shutdown(clean=clean, broker_epoch=None if epoch is None else BrokerEpoch(epoch)))


def filled(place: Place, count: int = 20) -> LogManager:
    manager = opened(place)
    log = manager.create("t", TOPIC_ID, 0, CONFIG)
    for number in range(count):
        append(log, b"%d" % number, epoch=number // 8, producer_id=2, base_sequence=number)
    return manager


def test_a_clean_stop_is_seen_once(place: Place) -> None:
    disk, _ = place
    manager = filled(place)
    before = content(manager.logs[KEY])
    assert manager.previous_broker_epoch is None
    assert stop(manager, epoch=42)
    assert json.loads(bytes(disk.files["/data/.kafka_cleanshutdown"].data)) == {"version": 0, "brokerEpoch": 42}
    again = opened(place)
    assert again.previous_broker_epoch == 42 and again.was_clean
    assert "/data/.kafka_cleanshutdown" not in disk.files
    assert content(again.logs[KEY]) == before
    assert again.log_dir_id == manager.log_dir_id
    disk.crash()
    assert opened(place).previous_broker_epoch is None


def test_a_stop_without_a_new_epoch_keeps_the_old_one(place: Place) -> None:
    assert stop(filled(place), epoch=42)
    assert stop(opened(place), epoch=None)
    assert opened(place).previous_broker_epoch == 42


def test_rule_19_an_empty_log_that_goes_with_the_power_does_not_make_a_clean_stop_unclean(place: Place) -> None:
    disk, _ = place
    manager = filled(place)
    manager.create("empty", TopicId(int=2), 0, CONFIG)
    assert stop(manager, epoch=42)
    disk.files["/data/empty-0/partition.metadata"].data.clear()
    assert opened(place).previous_broker_epoch == 42


def test_rule_18_without_a_marker_every_log_is_recovered(place: Place) -> None:
    disk, _ = place
    manager = filled(place)
    before = content(manager.logs[KEY])
    active = sorted(path for path in disk.files if path.endswith(".log"))[-1]
    disk.files[active].data.extend(b"torn")
    disk.crash()
    assert content(opened(place).logs[KEY]) == before


def test_rule_19_a_log_that_is_shorter_than_at_the_clean_stop_makes_the_stop_unclean(place: Place) -> None:
    disk, _ = place
    assert stop(filled(place))
    for damage in ("cut", "segment", "folder"):
        damaged = disk.copy()
        logs = sorted(path for path in damaged.files if path.endswith(".log"))
        if damage == "cut":
            del damaged.files[logs[-1]].data[-3:]
        elif damage == "segment":
            del damaged.files[logs[-1]]
        else:
            damaged.remove_tree("/data/t-0")
        assert opened((damaged, place[1])).previous_broker_epoch is None


def test_torn_checkpoints_lose_nothing(place: Place) -> None:
    disk, _ = place
    manager = filled(place)
    manager.logs[KEY].advance_log_start_to(Offset(3))
    before = content(manager.logs[KEY], 3)
    assert stop(manager)
    for name in ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "replication-offset-checkpoint"):
        text = bytes(disk.files[f"/data/{name}"].data)
        for size in range(len(text)):
            for clean in (True, False):
                damaged = disk.copy()
                damaged.files[f"/data/{name}"].data = bytearray(text[:size])
                if not clean:
                    del damaged.files["/data/.kafka_cleanshutdown"]
                log = opened((damaged, place[1])).logs[KEY]
                assert content(log, 3) == before
                assert log.log_start_offset == (0 if name.startswith("log-start") else 3)


def test_the_checkpoints_are_kafkas(place: Place) -> None:
    disk, _ = place
    manager = filled(place)
    manager.create("a", uuid4(), 11, CONFIG)
    assert stop(manager)
    text = {path.rpartition("/")[2]: bytes(file.data) for path, file in disk.files.items() if "checkpoint" in path}
    assert text["recovery-point-offset-checkpoint"] == b"0\n2\na 11 0\nt 0 20\n"
    assert text["log-start-offset-checkpoint"] == b"0\n2\na 11 0\nt 0 0\n"
    assert text["replication-offset-checkpoint"] == b"0\n2\na 11 0\nt 0 0\n"


def test_the_high_watermark_survives(place: Place) -> None:
    manager = filled(place)

    async def main() -> None:
        manager.start(lambda key: Offset(17) if key == KEY else None)
        await manager.checkpoint()
        await manager.shutdown(clean=False)

    asyncio.run(main())
    again = opened(place)
    assert again.high_watermark(KEY) == 17
    again.logs[KEY].truncate_to(Offset(9))
    assert again.high_watermark(KEY) == 9


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    manager = LogManager.open(tmp_path, node_id=BrokerId(1), clock=FakeClock())
    code = f"""
from klamm.broker.log.log_manager import LogManager
from klamm.broker.log.errors import LogDirectoryError
from klamm.broker.system_clock import SystemClock
try:
    LogManager.open({str(tmp_path)!r}, node_id=1, clock=SystemClock())
except LogDirectoryError as error:
    print(error)
"""
    import os

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert f"in use by process {os.getpid()}" in answer.stdout
    stop(manager)
    stop(LogManager.open(tmp_path, node_id=BrokerId(1), clock=FakeClock()))


def test_anothers_folder_is_refused(place: Place) -> None:
    manager = opened(place, cluster_id="one")
    manager.set_cluster_id("one")
    with pytest.raises(LogDirectoryError, match="cluster one, not of two"):
        manager.set_cluster_id("two")
    stop(manager)
    with pytest.raises(LogDirectoryError, match="data of broker 1, not of broker 2"):
        opened(place, node_id=BrokerId(2))
    with pytest.raises(LogDirectoryError, match="cluster one, not of two"):
        opened(place, cluster_id="two")
    # What was refused has taken no lock and no marker away.
    assert opened(place, cluster_id="one").previous_broker_epoch == 5


def test_the_cluster_id_comes_with_the_first_contact(place: Place) -> None:
    manager = opened(place)
    assert manager.cluster_id is None
    manager.set_cluster_id("one")
    stop(manager)
    assert opened(place).cluster_id == "one"


def test_damaged_meta_properties_stop_the_node(place: Place) -> None:
    disk, _ = place
    stop(opened(place))
    text = bytes(disk.files["/data/meta.properties"].data)
    for damage in (b"", text[: len(text) // 2], b"version=7\n", b"\xff\xfe"):
        disk.files["/data/meta.properties"].data = bytearray(damage)
        with pytest.raises(LogDirectoryError, match=r"meta\.properties"):
            opened(place)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogDirectoryError, match="cannot be used"):
        LogManager.open(tmp_path / "file", node_id=BrokerId(1), clock=FakeClock())


def test_create_gives_the_log_that_is_there(place: Place) -> None:
    manager = filled(place)
    log = manager.create("t", TOPIC_ID, 0, LogConfig(segment_bytes=999))
    assert log is manager.logs[KEY] and log.log_end_offset == 20
    assert log.config.segment_bytes == 999


def test_rule_24_a_topic_made_again_under_its_name_sets_the_old_log_aside(place: Place) -> None:
    disk, _ = place
    manager = filled(place)
    other = uuid4()
    log = manager.create("t", other, 0, CONFIG)
    assert log.log_end_offset == 0
    assert set(manager.logs) == {TopicIdPartition(other, 0)}
    (stray,) = [path for path in disk.folders if path.endswith("-stray")]
    assert len(disk.files[f"{stray}/{0:020d}.log"].data) > 0
    stop(manager)
    assert set(opened(place).logs) == {TopicIdPartition(other, 0)}
    assert stray in disk.folders


@pytest.mark.parametrize("how", ["deleted", "set aside", "gone before the start"])
def test_rule_3_a_topic_made_again_inherits_no_checkpoint(place: Place, how: str) -> None:
    # The checkpoints go by name: after kill -9 an old log start would hide, or cut off, what the new topic holds.
    disk, _ = place
    manager = filled(place)
    manager.logs[KEY].advance_log_start_to(Offset(15))
    asyncio.run(manager.checkpoint())
    if how == "deleted":
        manager.delete(KEY)
    elif how == "gone before the start":
        stop(manager, clean=False)
        for path in [path for path in disk.files if path.startswith("/data/t-0/")]:
            del disk.files[path]
        disk.folders.discard("/data/t-0")
        manager = opened(place)
    other = TopicIdPartition(uuid4(), 0)
    log = manager.create("t", other.topic_id, 0, CONFIG)
    append(log, b"first")
    append(log, b"second")
    before = content(log)
    disk.crash()
    again = opened(place)
    assert content(again.logs[other]) == before
    assert again.logs[other].log_start_offset == 0
    assert again.high_watermark(other) == 0


def test_a_checkpoint_collected_before_a_deletion_is_not_written_after_it(place: Place) -> None:
    disk, _ = place
    manager = filled(place)
    manager.logs[KEY].advance_log_start_to(Offset(15))

    async def main() -> None:
        late = asyncio.ensure_future(manager.checkpoint())
        await asyncio.sleep(0)  # collected, and handed to a thread
        manager.delete(KEY)
        manager.create("t", uuid4(), 0, CONFIG)
        await late

    asyncio.run(main())
    written = disk.files.get("/data/log-start-offset-checkpoint")
    assert written is None or b"t 0 15" not in bytes(written.data)


def test_a_deleted_log_is_renamed_and_removed_later(place: Place) -> None:
    disk, clock = place
    manager = filled(place)

    async def main() -> None:
        manager.delete(KEY)
        assert manager.get(KEY) is None
        (gone,) = [path for path in disk.folders if path.endswith("-delete")]
        manager.create("t", TOPIC_ID, 0, CONFIG)
        await manager._housekeeping.remove_due()
        assert gone in disk.folders
        clock.advance(CONFIG.file_delete_delay_ms)
        await manager._housekeeping.remove_due()
        assert gone not in disk.folders and "/data/t-0" in disk.folders
        manager.delete(KEY)
        await manager.shutdown(clean=True, broker_epoch=BrokerEpoch(1))
        again = opened(place)
        assert not again.logs
        await again._housekeeping.remove_due()
        assert not [path for path in disk.folders if path.endswith("-delete")]

    asyncio.run(main())


def test_long_topic_names_can_be_deleted(tmp_path: Path) -> None:
    manager = LogManager.open(tmp_path, node_id=BrokerId(1), clock=FakeClock())
    manager.create("x" * 249, TOPIC_ID, 9999, CONFIG)
    manager.delete(TopicIdPartition(TOPIC_ID, 9999))
    stop(manager)


@pytest.mark.parametrize("cut", ["no metadata", "no files", "torn metadata", "no segment"])
def test_a_crash_while_a_log_was_made_leaves_no_log(cut: str, place: Place) -> None:
    disk, _ = place
    manager = opened(place)
    manager.create("t", TOPIC_ID, 0, CONFIG)
    disk.crash()
    if cut == "no segment":
        del disk.files[f"/data/t-0/{0:020d}.log"]
        assert opened(place).logs[KEY].log_end_offset == 0
        return
    metadata = disk.files.pop("/data/t-0/partition.metadata")
    if cut == "no files":
        del disk.files[f"/data/t-0/{0:020d}.log"]
    elif cut == "torn metadata":
        del metadata.data[-1:]
        disk.files["/data/t-0/partition.metadata"] = metadata
    manager = opened(place)
    assert not manager.logs
    assert manager.create("t", TOPIC_ID, 0, CONFIG).log_end_offset == 0


def test_rule_24_data_that_lost_its_topic_id_is_set_aside(place: Place) -> None:
    disk, _ = place
    filled(place)
    disk.crash()
    del disk.files["/data/t-0/partition.metadata"]
    assert not opened(place).logs
    (stray,) = [path for path in disk.folders if path.endswith("-stray")]
    assert f"{stray}/{0:020d}.log" in disk.files


def test_the_marker_is_not_written_if_a_log_cannot_be_closed(place: Place) -> None:
    disk, _ = place
    for operation, path_end in (("sync", ".log"), ("sync", "-checkpoint.tmp"), ("replace", ".kafka_cleanshutdown.tmp")):
        manager = filled(place)
        disk.fail_next(operation, path_end=path_end)
        assert not stop(manager)
        disk.heal()
        again = opened(place)
        assert not again.was_clean
        assert again.logs[KEY].log_end_offset >= 20
        disk.crash()
        disk.remove_tree("/data/t-0")


async def _until(condition: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


def test_the_background_flushes_what_is_rolled_or_asked_for(place: Place) -> None:
    async def main() -> None:
        disk, clock = place
        manager = opened(place, config=LogManagerConfig(checkpoint_interval_ms=20))
        manager.start()
        await asyncio.sleep(0)
        log = manager.create("t", TOPIC_ID, 0, CONFIG)
        while log.segment_count < 3:
            append(log, b"x" * 30)
        base = log._segments.active.base_offset
        await _until(lambda: log.recovery_point == base)
        clock.advance(50)
        checkpoint = "/data/recovery-point-offset-checkpoint"
        await _until(
            lambda: b"t 0 %d\n" % base in bytes(disk.files[checkpoint].data) if checkpoint in disk.files else 0
        )
        manager.update_config(KEY, LogConfig(flush_messages=1))
        append(log, b"y")
        await _until(lambda: log.recovery_point == log.log_end_offset)
        manager.update_config(KEY, LogConfig(flush_ms=1000))
        append(log, b"z")
        clock.advance(5000)
        await _until(lambda: log.recovery_point == log.log_end_offset)
        await manager.shutdown(clean=False)

    asyncio.run(main())


def test_retention_runs_in_the_background_and_spares_what_is_not_committed(place: Place) -> None:
    async def main() -> None:
        disk, clock = place
        high_watermark = Offset(7)
        manager = opened(place, config=LogManagerConfig(checkpoint_interval_ms=20, retention_check_interval_ms=1000))
        manager.start(lambda _: high_watermark)
        await asyncio.sleep(0)
        log = manager.create("t", TOPIC_ID, 0, LogConfig(segment_bytes=400, retention_ms=60_000))
        for number in range(20):
            append(log, b"%d" % number, timestamp=clock.wall_ms())
        clock.advance(70_000)
        await _until(lambda: log.log_start_offset > 0)
        assert log.log_start_offset <= 7
        high_watermark = Offset(20)
        clock.advance(2_000)
        await _until(lambda: log.log_start_offset == 20)
        assert [path for path in disk.files if path.endswith(".deleted")]
        clock.advance(70_000)
        await _until(lambda: not [path for path in disk.files if path.endswith(".deleted")])
        append(log, b"more")
        await manager.shutdown(clean=True, broker_epoch=BrokerEpoch(1))
        again = opened(place)
        assert (again.logs[KEY].log_start_offset, again.logs[KEY].log_end_offset) == (20, 21)

    asyncio.run(main())


def test_a_log_deleted_under_a_flush_does_no_harm(place: Place) -> None:
    async def main() -> None:
        disk, _ = place
        manager = filled(place)
        manager.start()
        log = manager.logs[KEY]
        disk.sync_gate.clear()
        flush = asyncio.ensure_future(log.flush())
        assert await asyncio.to_thread(disk.sync_began.wait, 10)
        manager.delete(KEY)
        disk.sync_gate.set()
        await flush
        assert await manager.shutdown(clean=True, broker_epoch=BrokerEpoch(1))
        assert disk.open_count == 0

    asyncio.run(main())
