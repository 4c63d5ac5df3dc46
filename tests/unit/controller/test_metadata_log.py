"""The tail of the metadata log: numbering, bounded memory, bounded batches, snapshots in pieces."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.cluster.image import MetadataImage
from klamm.cluster.records import cluster_record, config_record
from klamm.controller.metadata_log import MetadataLog, OffsetNotInLogError, snapshot_batches
from klamm.proto.metadata_pb2 import MetadataRecord


def records(count: int, size: int = 10) -> list[MetadataRecord]:
    return [config_record(4, "", f"key-{number}", "x" * size) for number in range(count)]


def test_records_are_numbered_and_read_from_any_offset() -> None:
    log = MetadataLog()
    log.append(records(3))
    log.append(records(2))
    batch = log.read(1)
    assert batch is not None
    assert (batch.base_offset, batch.end_offset, len(batch.records)) == (1, 5, 4)
    assert not batch.is_snapshot
    assert log.read(5) is None
    assert log.read(9) is None


def test_a_batch_is_bounded_but_holds_at_least_one_record() -> None:
    log = MetadataLog()
    log.append(records(10, size=1_000))
    batch = log.read(0, bytes_max=2_500)
    assert batch is not None
    assert len(batch.records) == 2
    single = log.read(0, bytes_max=1)
    assert single is not None
    assert single.end_offset == 1


def test_a_batch_tells_when_it_ends_within_a_command() -> None:
    log = MetadataLog()
    log.append(records(3, size=1_000))
    log.append(records(2, size=1_000))
    ends = []
    offset = 0
    while (batch := log.read(offset, bytes_max=2_200)) is not None:
        ends.append((batch.end_offset, batch.mid_command))
        offset = batch.end_offset
    assert ends == [(2, True), (4, True), (5, False)]
    whole = log.read(0)
    assert whole is not None
    assert not whole.mid_command


@pytest.mark.parametrize("bounds", [{"records_max": 10}, {"bytes_max": 1_000}])
def test_the_tail_is_bounded(bounds: dict[str, int]) -> None:
    log = MetadataLog(**bounds)
    for _ in range(100):
        log.append(records(1, size=80))
        assert log.end_offset - log.start_offset <= 10
    assert log.end_offset == 100
    with pytest.raises(OffsetNotInLogError):
        log.read(log.start_offset - 1)
    batch = log.read(log.start_offset)
    assert batch is not None
    assert batch.end_offset == 100


def test_reset_begins_at_a_snapshot_and_wakes_readers() -> None:
    async def main() -> None:
        log = MetadataLog()
        waiting = asyncio.ensure_future(log.wait_for_change())
        await asyncio.sleep(0)
        log.reset(50)
        await asyncio.wait_for(waiting, 5)
        assert (log.start_offset, log.end_offset) == (50, 50)
        later = asyncio.ensure_future(log.wait_for_change())
        await asyncio.sleep(0)
        assert not later.done()
        log.append(records(1))
        await asyncio.wait_for(later, 5)

    asyncio.run(main())


@given(st.integers(0, 40), st.integers(1, 3_000))
def test_a_snapshot_in_pieces_is_the_image(count: int, bytes_max: int) -> None:
    image = MetadataImage.empty().replay([cluster_record("c" * 22), *records(count, size=100)], count + 1)
    batches = list(snapshot_batches(image, bytes_max=bytes_max))
    assert [batch.last_of_snapshot for batch in batches] == [False] * (len(batches) - 1) + [True]
    rebuilt = MetadataImage.empty()
    for batch in batches:
        assert batch.is_snapshot
        assert len(batch.records) == 1 or sum(record.ByteSize() for record in batch.records) <= bytes_max
        rebuilt = rebuilt.replay(batch.records, batch.end_offset)
    assert rebuilt == image


def test_an_empty_image_makes_one_empty_batch() -> None:
    (batch,) = snapshot_batches(MetadataImage.empty())
    assert batch.last_of_snapshot
    assert not batch.records
