"""Replicas as they lie on disks, and what nodes may not log."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.aftermath import (
    DamagedReplicaError,
    complaints_in_logs,
    read_compacted,
    read_compacted_logs,
    read_replica,
    read_replicas,
)
from harness.keyed_logs import keyed_batch
from harness.record_batches import record_batch
from klamm.proto.record_batch import set_offset_and_epoch


def batch(offset: int, *values: bytes, epoch: int = 3) -> bytes:
    made = bytearray(record_batch(list(values)))
    set_offset_and_epoch(made, offset, epoch)
    return bytes(made)


def replica(folder: Path, *segments: bytes) -> Path:
    partition = folder / "orders-1"
    partition.mkdir(parents=True)
    for number, data in enumerate(segments):
        (partition / f"{number:020}.log").write_bytes(data)
    return folder


def test_batches_of_all_segments_in_order(tmp_path: Path) -> None:
    folder = replica(tmp_path, batch(0, b"a", b"b") + batch(2, b"c", epoch=4), batch(3, b"d", epoch=4))
    log = read_replica(folder, 2, "orders", 1, 7)
    assert (log.broker, log.topic, log.partition) == (2, "orders", 7)
    found = [(entry.base_offset, entry.last_offset, entry.leader_epoch) for entry in log.entries]
    assert found == [(0, 1, 3), (2, 2, 4), (3, 3, 4)]


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    folders = {
        1: replica(tmp_path / "1", batch(0, b"a")),
        2: replica(tmp_path / "2", batch(0, b"a")),
        3: replica(tmp_path / "3", batch(0, b"z")),
    }
    one, two, three = read_replicas(folders, [("orders", 1)], {("orders", 1): [1, 2, 3]})
    assert one.entries == two.entries != three.entries


def test_a_damaged_batch_is_named(tmp_path: Path) -> None:
    data = bytearray(batch(0, b"a") + batch(1, b"b"))
    data[-1] ^= 1
    with pytest.raises(DamagedReplicaError, match="broker-2"):
        read_replica(replica(tmp_path, bytes(data)), 2, "orders", 1, 0)


def test_an_offset_that_is_there_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedReplicaError, match="offset 0 again"):
        read_replica(replica(tmp_path, batch(0, b"a"), batch(0, b"a")), 2, "orders", 1, 0)


def test_segments_of_a_compacted_log_in_order(tmp_path: Path) -> None:
    folder = replica(tmp_path, batch(0, b"a"), batch(1, b"b")) / "orders-1"
    (folder / "00000000000000000000.log.cleaned").write_bytes(b"half")
    assert read_compacted(folder) == [(0, batch(0, b"a")), (1, batch(1, b"b"))]


def test_a_swap_that_a_stop_interrupted_is_brought_to_its_end(tmp_path: Path) -> None:
    folder = replica(tmp_path, batch(0, b"a"), batch(1, b"b"), batch(2, b"c")) / "orders-1"
    (folder / "00000000000000000000.log.swap").write_bytes(batch(1, b"b"))
    assert read_compacted(folder) == [(0, batch(1, b"b")), (2, batch(2, b"c"))]


def test_a_swap_of_nothing_is_named(tmp_path: Path) -> None:
    folder = replica(tmp_path, batch(0, b"a")) / "orders-1"
    (folder / "00000000000000000000.log.swap").write_bytes(b"")
    with pytest.raises(DamagedReplicaError, match="holds no batch"):
        read_compacted(folder)


def test_replicas_of_a_compacted_topic(tmp_path: Path) -> None:
    whole = bytes(keyed_batch([(b"\0\7k", b"1")]) + keyed_batch([(b"\0\7k", b"2")], base_offset=1))
    folders = {
        1: replica(tmp_path / "1", whole),
        2: replica(tmp_path / "2", bytes(keyed_batch([(b"\0\7k", b"2")], base_offset=1))),
    }
    one, two = read_compacted_logs(folders, "orders", {1: [1, 2]}, {1: 2}, {})
    assert (one.broker, one.partition, one.high_watermark, one.log_end_offset) == (1, 1, 2, 2)
    assert one.records == two.records == ((1, b"\0\7k".hex(), b"2".hex()),)
    assert one.committed == two.committed == ()


def test_a_damaged_replica_of_a_compacted_topic_is_named(tmp_path: Path) -> None:
    folder = replica(tmp_path, batch(0, b"no key"))
    with pytest.raises(DamagedReplicaError, match=r"broker-2 .*orders-1: segment 0 at byte 0: .* has no key"):
        list(read_compacted_logs({2: folder}, "orders", {1: [2]}, {1: 1}, {}))


@pytest.mark.parametrize(
    "words",
    ["Traceback (most recent call last):", "2026 CRITICAL broker-1 broker_failed", "invariant broken: hw <= leo"],
)
def test_complaints_are_found_with_their_place(tmp_path: Path, words: str) -> None:
    path = tmp_path / "log.txt"
    path.write_text(f"INFO one\n{words}\n  more\n", encoding="utf-8")
    (found,) = complaints_in_logs({"broker-1": path, "broker-2": tmp_path / "none"})
    assert found.startswith("broker-1 logged, in line 2 of")
    assert words in found and "  more" in found


def test_errors_and_warnings_that_faults_bring_are_no_complaints(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("WARNING fetch_failed\nERROR replica_failed partition=orders-0\n", encoding="utf-8")
    assert complaints_in_logs({"broker-1": path}) == []
