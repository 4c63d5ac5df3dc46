from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from klamm.client.positions import EARLIEST, BatchReader, PartitionPosition
from klamm.proto.errors import CorruptRecordError, OffsetOutOfRangeError
from klamm.proto.identifiers import TopicPartition
from klamm.proto.record_batch import RecordBatchHeader, set_offset_and_epoch
from klamm.proto.record_codec import build_batch, crc_is_right, decode_errors, new_builder, read_batch


class Reader(BatchReader):
    def crc_is_right(self, buffer: bytes, position: int, header: RecordBatchHeader) -> bool:
        return crc_is_right(buffer, position, header)

    def records(self, data: bytes) -> Iterator[Any]:
        return read_batch(data)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return decode_errors()


def batch(base: int, count: int, epoch: int = 0) -> bytes:
    builder = new_builder(1 << 16)
    for number in range(count):
        builder.append(number, 1, None, b"%d" % (base + number), [])
    data = build_batch(builder, 0)
    set_offset_and_epoch(data, base, epoch)
    return bytes(data)


def at(offset: int) -> PartitionPosition:
    position = PartitionPosition(TopicPartition("orders", 0), reset=None)
    position.seek(offset)
    return position


def taken(position: PartitionPosition, most: int = 100) -> list[int]:
    return [record.offset for record in position.take(most, Reader(), check_crc=True)]


def test_a_batch_that_begins_below_the_position_is_cut() -> None:
    position = at(7)
    position.add(batch(5, 5) + batch(10, 2))
    assert taken(position) == [7, 8, 9, 10, 11]
    assert (position.position, position.fetch_offset) == (12, 12)


def test_taking_stops_and_goes_on_within_a_batch() -> None:
    position = at(0)
    position.add(batch(0, 10))
    assert [taken(position, 4), position.position, taken(position, 4), taken(position, 4)] == [
        [0, 1, 2, 3],
        4,
        [4, 5, 6, 7],
        [8, 9],
    ]


def test_reads_ahead_by_one_chunk_and_no_more() -> None:
    position = at(0)
    assert position.wants_data
    position.add(batch(0, 2))
    assert position.wants_data and position.has_data
    position.add(batch(2, 2))
    assert not position.wants_data
    assert taken(position) == [0, 1, 2, 3]
    assert position.wants_data and not position.has_data


def test_a_seek_drops_what_is_buffered_and_marks_answers_under_way_as_late() -> None:
    position = at(0)
    position.add(batch(0, 10))
    assert taken(position, 3) == [0, 1, 2]
    generation = position.generation
    position.fetching = 1
    position.seek(50)
    assert (position.generation > generation, position.fetching, taken(position)) == (True, None, [])
    assert (position.position, position.fetch_offset) == (50, 50)


def test_what_is_buffered_comes_before_a_reset() -> None:
    position = at(0)
    position.add(batch(0, 2))
    position.out_of_range(EARLIEST)
    assert not position.wants_data
    position.reset_to(90)
    position.add(batch(90, 1))
    assert taken(position) == [0, 1, 90]


def test_what_is_buffered_comes_before_an_error() -> None:
    position = at(0)
    position.add(batch(0, 2))
    position.error = OffsetOutOfRangeError()
    assert taken(position) == [0, 1]
    assert position.has_data
    with pytest.raises(OffsetOutOfRangeError):
        taken(position)
    assert not position.has_data


def test_offsets_may_be_missing() -> None:
    position = at(3)
    position.add(batch(20, 2) + batch(40, 1))
    assert taken(position) == [20, 21, 40]


def test_kip_320_the_epoch_of_the_last_batch_goes_with_the_next_fetch() -> None:
    position = at(0)
    assert position.last_fetched_epoch is None
    position.add(batch(0, 2, epoch=3) + batch(2, 2, epoch=5))
    assert position.last_fetched_epoch == 5
    assert taken(position) == [0, 1, 2, 3]
    position.truncated_to(2, 3)
    assert (position.position, position.fetch_offset, position.last_fetched_epoch) == (2, 2, 3)
    position.seek(0)
    assert position.last_fetched_epoch is None


def test_a_damaged_batch_keeps_its_place() -> None:
    position = at(0)
    damaged = bytearray(batch(2, 2))
    damaged[-2] ^= 1
    position.add(batch(0, 2) + bytes(damaged))
    assert taken(position) == [0, 1]
    with pytest.raises(CorruptRecordError, match="orders-0 at offset 2 is damaged"):
        taken(position)
    assert (position.position, position.fetch_offset) == (2, 2)


def test_a_paused_partition_gives_and_wants_nothing() -> None:
    position = at(0)
    position.add(batch(0, 2))
    position.paused = True
    assert not position.has_data and not position.wants_data
