"""Rule 19: kill -9 is told from a power cut, and a log that is not whole from one that is."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from uuid import UUID

import pytest
from harness.fake_clock import FakeClock
from harness.fake_file_system import FakeFileSystem, Killed
from harness.log_builder import append
from klamm.broker.log.checkpoints import RECOVERY_POINT_CHECKPOINT
from klamm.broker.log.file_system import RealFileSystem
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.log_manager import LogManager
from klamm.broker.log.run_marker import RUN_MARKER
from klamm.proto.errors import KafkaStorageError
from klamm.proto.identifiers import BrokerEpoch, BrokerId, TopicIdPartition

TOPIC_ID = UUID(int=1)
KEY = TopicIdPartition(TOPIC_ID, 0)
LOG = "/data/t-0/00000000000000000000.log"
CHECKPOINT = f"/data/{RECOVERY_POINT_CHECKPOINT}"
CONFIG = LogConfig()


def opened(disk: FakeFileSystem) -> LogManager:
    return LogManager.open(
        "/data", node_id=BrokerId(1), clock=FakeClock(), file_system=disk, log_config_of=lambda _: CONFIG
    )


def registered(disk: FakeFileSystem, epoch: int = 7) -> LogManager:
    """A broker that has registered and has appended ten batches of about 70 bytes."""
    manager = opened(disk)
    asyncio.run(manager.note_registered(BrokerEpoch(epoch)))
    log = manager.create("t", TOPIC_ID, 0, CONFIG)
    for number in range(10):
        append(log, b"%d" % number)
    return manager


def test_rule_19_after_kill_9_the_epoch_of_the_process_is_known() -> None:
    disk = FakeFileSystem()
    registered(disk)
    disk.crash()
    again = opened(disk)
    assert (again.previous_broker_epoch, again.killed_broker_epoch) == (None, 7)
    disk.crash()  # before it has registered anew
    assert opened(disk).killed_broker_epoch == 7


@pytest.mark.parametrize("seed", range(20))
def test_rule_19_after_a_power_cut_it_is_not(seed: int) -> None:
    disk = FakeFileSystem()
    registered(disk)
    disk.power_cut(Random(seed))
    assert opened(disk).killed_broker_epoch is None


def test_rule_19_a_power_cut_is_not_forgotten_by_a_start_that_does_not_register() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)
    disk.power_cut(Random(1))
    opened(disk)
    disk.crash()
    assert opened(disk).killed_broker_epoch is None
    assert manager.killed_broker_epoch is None


def test_a_clean_stop_needs_no_other_witness() -> None:
    disk = FakeFileSystem()
    assert asyncio.run(registered(disk).shutdown(broker_epoch=BrokerEpoch(7)))
    again = opened(disk)
    assert (again.previous_broker_epoch, again.killed_broker_epoch) == (7, None)


def torn(disk: FakeFileSystem) -> None:
    del disk.files[LOG].data[-20:]


def all_but_a_few_bytes_of_the_last_batch_gone(disk: FakeFileSystem) -> None:
    size = len(disk.files[LOG].data) // 10
    del disk.files[LOG].data[5 - size :]


@pytest.mark.parametrize("damage", [torn, all_but_a_few_bytes_of_the_last_batch_gone])
def test_a_batch_that_was_not_written_to_its_end_is_what_kill_9_leaves(
    damage: Callable[[FakeFileSystem], None],
) -> None:
    disk = FakeFileSystem()
    registered(disk)
    disk.crash()
    damage(disk)
    again = opened(disk)
    assert again.killed_broker_epoch == 7
    assert again.logs[KEY].log_end_offset == 9


def flipped_in_the_middle(disk: FakeFileSystem) -> None:
    disk.flip_bit(LOG, 8 * (len(disk.files[LOG].data) // 2))


def flipped_in_the_last_batch(disk: FakeFileSystem) -> None:
    disk.flip_bit(LOG, 8 * (len(disk.files[LOG].data) - 3))


def zeros_behind_it(disk: FakeFileSystem) -> None:
    disk.files[LOG].data.extend(bytes(500))


@pytest.mark.parametrize("damage", [flipped_in_the_middle, flipped_in_the_last_batch, zeros_behind_it])
def test_rule_19_a_log_that_had_to_be_cut_further_is_not_trusted(damage: Callable[[FakeFileSystem], None]) -> None:
    disk = FakeFileSystem()
    registered(disk)
    disk.crash()
    damage(disk)
    assert opened(disk).killed_broker_epoch is None


@pytest.mark.parametrize("damage", [flipped_in_the_middle, flipped_in_the_last_batch, zeros_behind_it])
def test_rule_19_a_cut_log_is_not_trusted_by_a_later_start_either(damage: Callable[[FakeFileSystem], None]) -> None:
    """The broker had not registered in between, so the controllers have not heard of it."""
    disk = FakeFileSystem()
    registered(disk)
    disk.crash()
    damage(disk)
    opened(disk)
    disk.crash()
    again = opened(disk)
    assert (again.previous_broker_epoch, again.killed_broker_epoch) == (None, None)
    asyncio.run(again.note_registered(BrokerEpoch(8)))  # from here on they know what it has
    disk.crash()
    assert opened(disk).killed_broker_epoch == 8


@pytest.mark.parametrize("clean", [False, True])
def test_rule_19_a_log_that_was_cut_by_a_start_that_was_killed_is_not_trusted(clean: bool) -> None:
    whole = FakeFileSystem()
    manager = registered(whole)
    if clean:
        assert asyncio.run(manager.shutdown(broker_epoch=BrokerEpoch(7)))
    whole.crash()
    flipped_in_the_middle(whole)
    changes, was_killed = 0, True
    while was_killed:
        disk = whole.copy()
        disk.changes_until_kill = changes
        was_killed = False
        try:
            opened(disk)
        except Killed:
            was_killed = True
        disk.crash()
        again = opened(disk)
        assert (again.previous_broker_epoch, again.killed_broker_epoch) == (None, None), changes
        changes += 1
    assert changes > 5


def test_rule_19_a_log_that_ends_before_its_recovery_point_is_not_trusted() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)

    async def flush() -> None:
        await manager.logs[KEY].flush()
        await manager.checkpoint()

    asyncio.run(flush())
    disk.crash()
    torn(disk)
    assert opened(disk).killed_broker_epoch is None


def test_rule_19_a_log_that_is_gone_is_missed() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)
    asyncio.run(manager.checkpoint())
    disk.crash()
    disk.remove_tree("/data/t-0")
    assert opened(disk).killed_broker_epoch is None


def test_rule_19_after_a_failed_sync_nobody_knows_what_is_on_the_disk() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)
    disk.fail_next("sync", path_end=".log")
    with pytest.raises(KafkaStorageError):
        asyncio.run(manager.logs[KEY].flush())
    disk.crash()
    assert opened(disk).killed_broker_epoch is None


def test_rule_19_after_a_failed_sync_at_the_stop_neither_marker_vouches() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)
    disk.fail_next("sync", path_end=".log")
    assert not asyncio.run(manager.shutdown(broker_epoch=BrokerEpoch(7)))
    again = opened(disk)
    assert (again.previous_broker_epoch, again.killed_broker_epoch) == (None, None)


def test_a_log_that_was_deleted_is_soon_not_missed_any_more() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)

    async def delete() -> None:
        manager.start()  # on a clock that stands still: no checkpoint ever is due
        await manager.logs[KEY].flush()
        await manager.checkpoint()
        manager.delete(KEY)
        async with asyncio.timeout(30):
            while b"t 0 10" in disk.files[CHECKPOINT].data:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)

    asyncio.run(delete())
    disk.crash()
    assert opened(disk).killed_broker_epoch == 7


def fail_a_sync(disk: FakeFileSystem, manager: LogManager) -> None:
    disk.fail_next("sync", path_end=".log")
    with pytest.raises(KafkaStorageError):
        asyncio.run(manager.logs[KEY].flush())


def test_rule_19_a_marker_that_cannot_be_removed_is_made_to_vouch_for_nothing() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)
    disk.fail_next("remove", path_end=RUN_MARKER)
    fail_a_sync(disk, manager)
    disk.crash()
    assert opened(disk).killed_broker_epoch is None


def test_a_marker_that_can_be_neither_removed_nor_overwritten_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    disk = FakeFileSystem()
    manager = registered(disk)
    for operation in ("remove", "open"):
        disk.fail_next(operation, errno.EROFS, path_end=RUN_MARKER)
    fail_a_sync(disk, manager)
    assert [r.levelname for r in caplog.records if r.message.startswith("run_marker_still_vouches")] == ["ERROR"]
    assert not asyncio.run(manager.shutdown(broker_epoch=BrokerEpoch(7)))  # which tries it once more
    assert opened(disk).killed_broker_epoch is None


def test_rule_19_who_registers_anew_after_a_failed_sync_is_not_vouched_for() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)
    fail_a_sync(disk, manager)
    asyncio.run(manager.note_registered(BrokerEpoch(8)))
    disk.crash()
    again = opened(disk)
    assert again.killed_broker_epoch is None
    asyncio.run(again.note_registered(BrokerEpoch(9)))  # recovery has seen what is there
    disk.crash()
    assert opened(disk).killed_broker_epoch == 9


class HeldMarker(FakeFileSystem):
    """Holds up the thread that writes a run marker, just before the marker has its name."""

    def __init__(self) -> None:
        super().__init__()
        self.is_held = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def replace(self, source: str, target: str, /) -> None:
        if target.endswith(RUN_MARKER):
            self.is_held.set()
            assert self.may_go_on.wait(30)
        super().replace(source, target)


def test_rule_19_a_sync_that_fails_while_the_marker_is_written_counts_too() -> None:
    disk = HeldMarker()
    manager = registered(disk)
    disk.is_held.clear()
    disk.may_go_on.clear()
    with ThreadPoolExecutor(2) as threads:
        written = threads.submit(lambda: asyncio.run(manager.note_registered(BrokerEpoch(8))))
        assert disk.is_held.wait(30)
        failed = threads.submit(manager.logs[KEY].fail, "flush failed")
        while manager.run_marker.may_vouch and not failed.done():
            time.sleep(0.001)
        disk.may_go_on.set()
        written.result(30)
        failed.result(30)
    disk.crash()
    assert opened(disk).killed_broker_epoch is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version":1,"brokerEpoch":7,"bootId":"boot 1"}', b"\xff"])
def test_a_marker_that_says_nothing_vouches_for_nothing(content: bytes) -> None:
    disk = FakeFileSystem()
    registered(disk)
    disk.crash()
    disk.files[f"/data/{RUN_MARKER}"].data[:] = content
    assert opened(disk).killed_broker_epoch is None


def test_a_system_without_a_boot_id_has_no_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeFileSystem()
    registered(disk)
    monkeypatch.setattr(FakeFileSystem, "boot_id", lambda _: None)
    disk.crash()
    manager = opened(disk)
    assert manager.killed_broker_epoch is None
    asyncio.run(manager.note_registered(BrokerEpoch(9)))
    assert f"/data/{RUN_MARKER}" not in disk.files


def test_a_full_disk_costs_the_trust_and_not_the_start() -> None:
    disk = FakeFileSystem()
    manager = registered(disk)
    disk.fail_next("pwrite", errno.ENOSPC, path_end=f"{RUN_MARKER}.tmp")
    asyncio.run(manager.note_registered(BrokerEpoch(8)))
    disk.crash()
    assert opened(disk).killed_broker_epoch is None


def test_the_machines_boot_id_stays_as_it_is() -> None:
    assert RealFileSystem().boot_id() == RealFileSystem().boot_id()
