"""A controller's files torn or damaged: it says which and what to do, and never starts as if it knew nothing; the other
two go on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from harness.acked_records import AckedRecords
from harness.raw_client import node_log
from klamm.client import Admin, NewTopic
from klamm.controller.journal import Journal
from klamm.controller.journal_format import HEADER_SIZE, MAGIC, scan_journal
from klamm.controller.quorum_folder import MARKER
from klamm.controller.snapshot_store import SnapshotStore
from klamm.controller.vote_store import VoteStore
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

JOURNAL, VOTES, SNAPSHOT = Journal.FILE_NAME, VoteStore.FILE_NAME, SnapshotStore.FILE_NAME
EXIT_SECONDS = 30
SNAPSHOT_ENTRIES = 20
_numbers = count()

Damage = Callable[[bytearray], bytes]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    config = {"metadata.snapshot.entries.max": str(SNAPSHOT_ENTRIES)}
    with LocalCluster(brokers=1, controllers=3, controller_config=config) as started:
        _change_metadata(started, 2 * SNAPSHOT_ENTRIES + 5)
        for spec in started.layout.controllers:
            started.wait_until((spec.data_folder / SNAPSHOT).exists, what=f"a snapshot of {spec.name}")
        yield started


@pytest.fixture(scope="module")
def records(cluster: LocalCluster) -> AckedRecords:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic("kept", 1, 1)])
    records = AckedRecords(cluster, "kept")
    records.produce(10)
    return records


def _change_metadata(cluster: LocalCluster, times: int) -> None:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        for _ in range(times):
            admin.create_topics([NewTopic(f"topic-{next(_numbers)}", 1, 1)])


@pytest.fixture
def victim(cluster: LocalCluster, tmp_path: Path) -> Iterator[str]:
    """A controller that is down and does not lead; whatever a test does to its folder is undone after it."""
    active = cluster.wait_until(cluster.active_controller, what="an active controller")
    name = next(f"controller-{number}" for number in (1, 2, 3) if f"controller-{number}" != active)
    if not cluster.is_running(name):
        cluster.start_node(name)
    cluster.stop_node(name)
    folder = cluster.layout.node(name).data_folder
    shutil.copytree(folder, tmp_path / "sound")
    yield name
    if not cluster.is_running(name):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "sound", folder)
        cluster.start_node(name)
    _assert_follows(cluster, name)
    assert "Traceback" not in node_log(cluster, name)


def _assert_follows(cluster: LocalCluster, name: str) -> None:
    """It has all that the active controller has committed."""
    spec = cluster.layout.node(name)

    def is_current() -> bool:
        quorum, own = cluster.observer.quorum(), cluster.observer.ask_controller(spec)
        return quorum is not None and own is not None and own.voter and own.commit_index >= quorum.commit_index > 0

    cluster.wait_until(is_current, what=f"{name} to catch up")


def _start_and_fail(cluster: LocalCluster, name: str) -> str:
    """Starts it; it must give up by itself, before the deadline, and say why in one line."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "klamm.controller", "--config", str(cluster.layout.node(name).config_path)],
        capture_output=True,
        text=True,
        timeout=EXIT_SECONDS,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "READY" not in done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


def _used(data: bytes) -> int:
    """How much of a file says something: a journal ends with room for more."""
    return scan_journal(bytes(data), Path(JOURNAL)).end if data.startswith(MAGIC) else len(data)


def _flip(share: float) -> Damage:
    def flip(data: bytearray) -> bytes:
        used = _used(data)
        data[min(int(used * share), used - 1)] ^= 0x08
        return bytes(data)

    return flip


def _cut(share: float) -> Damage:
    def cut(data: bytearray) -> bytes:
        used = _used(data)
        return bytes(data[: min(int(used * share), used - 1)])

    return cut


def _zero(share: float) -> Damage:
    """What a file system may make of a page that it lost."""

    def zero(data: bytearray) -> bytes:
        used = _used(data)
        first = int(used * share)
        return bytes(data[:first]) + bytes(used - first) + bytes(data[used:])

    return zero


def _flip_first_entry(data: bytearray) -> bytes:
    data[HEADER_SIZE + 10] ^= 0x01
    return bytes(data)


_DAMAGES: dict[str, list[Damage]] = {
    JOURNAL: [_flip(0.0), _flip_first_entry, _flip(0.6), _flip(1.0), _cut(0.0), _cut(0.1), _cut(1.0), _zero(0.5)],
    SNAPSHOT: [_flip(0.0), _flip(0.5), _flip(1.0), _cut(0.0), _cut(0.5), _cut(1.0)],
    VOTES: [_flip(0.3), _flip(1.0), _cut(0.0), _cut(0.5), _cut(1.0)],
    MARKER: [_flip(0.5), _cut(0.0), _cut(1.0)],
}


@pytest.mark.parametrize("file_name", _DAMAGES)
def test_rule_25_a_damaged_file_stops_the_controller_with_its_name(
    cluster: LocalCluster, records: AckedRecords, victim: str, file_name: str
) -> None:
    path = cluster.layout.node(victim).data_folder / file_name
    sound = path.read_bytes()
    for number, damage in enumerate(_DAMAGES[file_name]):
        damaged = damage(bytearray(sound))
        path.write_bytes(damaged)
        complaint = _start_and_fail(cluster, victim)
        assert str(path) in complaint, f"damage {number}"
        assert "readmit" in complaint
        assert path.read_bytes() == damaged, "it is left for its owner to look at"
    _change_metadata(cluster, 1)
    records.assert_all_there()


def test_rule_25_a_missing_file_stops_the_controller_with_its_name(cluster: LocalCluster, victim: str) -> None:
    for file_name in (JOURNAL, SNAPSHOT, VOTES, MARKER):
        path = cluster.layout.node(victim).data_folder / file_name
        sound = path.read_bytes()
        path.unlink()
        complaint = _start_and_fail(cluster, victim)
        assert str(path) in complaint
        assert "readmit" in complaint
        path.write_bytes(sound)
    _change_metadata(cluster, 1)


@pytest.mark.parametrize("tail", [b"\xff" * 20, b"\x10\0\0\0" + bytes(30) + b"\1" * 5_000])
def test_rule_18_a_torn_tail_that_was_never_synced_is_cut_off(cluster: LocalCluster, victim: str, tail: bytes) -> None:
    path = cluster.layout.node(victim).data_folder / JOURNAL
    logged_before = len(node_log(cluster, victim))
    data = path.read_bytes()
    end = _used(data)
    path.write_bytes(data[:end] + tail + data[end + len(tail) :])
    cluster.start_node(victim)
    _change_metadata(cluster, 1)
    _assert_follows(cluster, victim)
    assert f"journal_tail_cut file={path}" in node_log(cluster, victim)[logged_before:]


def test_rule_25_an_entry_damaged_under_a_killed_controller(cluster: LocalCluster, victim: str) -> None:
    """Killed, it could not note how far it had synced; but a later sync's entry follows, so this one was durable."""
    path = cluster.layout.node(victim).data_folder / JOURNAL
    cluster.start_node(victim)
    _change_metadata(cluster, 5)
    _assert_follows(cluster, victim)
    cluster.kill(victim)
    sound = path.read_bytes()
    offsets = scan_journal(sound, path).offsets
    begins_group = [offset for offset in offsets if sound[offset + 24 : offset + 28] == bytes(4)]
    assert len(begins_group) > 1, "one sync for all that it holds"
    for offset in (offsets[0], max(offset for offset in offsets if offset < begins_group[-1])):
        damaged = bytearray(sound)
        damaged[offset + 9] ^= 0x40
        path.write_bytes(damaged)
        assert str(path) in _start_and_fail(cluster, victim)
        assert path.read_bytes() == damaged
    path.write_bytes(sound)
    cluster.start_node(victim)


def test_rule_25_the_way_out_works(cluster: LocalCluster, records: AckedRecords, victim: str) -> None:
    """What the error tells to do: set aside and re-admitted, it learns all and counts again."""
    node = cluster.layout.node(victim)
    path = node.data_folder / JOURNAL
    path.write_bytes(_flip_first_entry(bytearray(path.read_bytes())))
    assert "--set-aside" in _start_and_fail(cluster, victim)
    command = [sys.executable, "-m", "klamm.controller.format", "readmit", "--set-aside", "--config"]
    done = subprocess.run([*command, str(node.config_path)], capture_output=True, text=True, timeout=EXIT_SECONDS)
    assert done.returncode == 0, done.stderr
    assert list(node.data_folder.glob(f"set-aside-*/{JOURNAL}")), "the damaged files are kept"
    cluster.start_node(victim)
    deadline = time.monotonic() + EXIT_SECONDS
    while not (answer := cluster.observer.ask_controller(node)) or not answer.voter:
        assert time.monotonic() < deadline, "it was not admitted"
        _change_metadata(cluster, 1)
    # It is needed now: the active one is gone.
    active = cluster.wait_until(cluster.active_controller, what="an active controller")
    cluster.kill(active)
    _change_metadata(cluster, 1)
    cluster.start_node(active)
    records.assert_all_there()


def test_rule_25_a_quorum_of_damaged_controllers_forgets_nothing(cluster: LocalCluster, records: AckedRecords) -> None:
    """Two of three damaged: no majority, so nothing is decided; with the files back, all is there."""
    active = cluster.wait_until(cluster.active_controller, what="an active controller")
    names = [f"controller-{number}" for number in (1, 2, 3) if f"controller-{number}" != active]
    sound: dict[Path, bytes] = {}
    for name in names:
        cluster.kill(name)
        path = cluster.layout.node(name).data_folder / VOTES
        sound[path] = path.read_bytes()
        path.write_bytes(b"")
        assert str(path) in _start_and_fail(cluster, name)
    records.produce(3)  # data needs no controller
    for path, content in sound.items():
        path.write_bytes(content)
    for name in names:
        cluster.start_node(name)
    _change_metadata(cluster, 1)
    records.assert_all_there()
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        assert {f"topic-{number}" for number in range(2 * SNAPSHOT_ENTRIES)} <= set(admin.list_topics())
