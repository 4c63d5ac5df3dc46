"""What a consumer gets of a compacted log: batches with records, not what is left of those that lost all of theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.keyed_logs import COMPACTED, CleanedDisk, append_keyed
from klamm.broker.log import consumer_read
from klamm.broker.log.consumer_read import read_for_consumer
from klamm.broker.log.partition_log import PartitionLog
from klamm.proto.identifiers import Offset
from klamm.proto.record_batch import batches

ONE_BATCH_A_SEGMENT = replace(COMPACTED, segment_bytes=120)


def read(log: PartitionLog, offset: int, max_bytes: int = 1 << 20, end: int | None = None) -> list[tuple[int, int]]:
    """(base offset, records) of each batch."""
    end_offset = log.log_end_offset if end is None else Offset(end)
    data = read_for_consumer(log, Offset(offset), max_bytes=max_bytes, end_offset=end_offset)
    return [(header.base_offset, header.record_count) for _, header in batches(data)]


def compacted(*keys: bytes, **batch: int) -> PartitionLog:
    """One segment a record; of each key the last one stays, the active segment is not cleaned."""
    disk = CleanedDisk(config=ONE_BATCH_A_SEGMENT)
    sequences = range(len(keys)) if batch else [-1] * len(keys)
    for key, sequence in zip(keys, sequences, strict=True):
        append_keyed(disk.log, (key, b"v" * 20), sequence=sequence, **batch)
    assert disk.log.segment_count == len(keys)
    assert disk.clean()
    return disk.log


def test_segments_of_which_only_the_end_is_left_are_passed_over() -> None:
    log = compacted(b"a", b"b", b"b", b"b", b"last")
    assert [h.record_count for s in log.segments for _, h in s.headers()] == [1, 0, 0, 1, 1]
    assert read(log, 0) == [(0, 1)]
    assert read(log, 1) == [(3, 1)]
    assert read(log, 2, max_bytes=1) == [(3, 1)]


def test_empty_batches_of_producers_are_left_out_between_others() -> None:
    disk = CleanedDisk()
    for index, key in enumerate([b"a", b"b", b"b", b"c"]):
        append_keyed(disk.log, (key, b"v"), producer_id=7, sequence=index)
    for index in range(10):
        append_keyed(disk.log, (b"filler%d" % index, b"v" * 50))
    assert disk.clean()
    assert (1, 0) in [(h.base_offset, h.record_count) for s in disk.log.segments for _, h in s.headers()]
    found = read(disk.log, 0)
    assert found[:3] == [(0, 1), (2, 1), (3, 1)]
    assert all(count for _, count in found)


def test_where_there_is_nothing_else_the_empty_batch_moves_the_consumer_on() -> None:
    log = compacted(b"a", b"b", b"b", b"b", b"last")
    assert read(log, 1, end=2) == [(1, 0)]
    assert read(log, 1, end=3) == [(2, 0)]


def test_one_read_does_not_walk_through_any_number_of_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    log = compacted(*[b"same"] * 8, b"last")
    monkeypatch.setattr(consumer_read, "SKIPPED_READS_MAX", 3)
    assert read(log, 0) == [(3, 0)]
    assert read(log, 5) == [(7, 1)]


def test_bytes_that_only_look_like_an_empty_batch_stay() -> None:
    disk = CleanedDisk()
    disk.log.offset_gaps.allow(0)
    append_keyed(disk.log, (b"key", b"\0\0\0\x31"))
    whole = disk.log.read(Offset(0), max_bytes=1 << 20, end_offset=disk.log.log_end_offset)
    assert read_for_consumer(disk.log, Offset(0), max_bytes=1 << 20, end_offset=disk.log.log_end_offset) == whole
