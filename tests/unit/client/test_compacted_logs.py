"""What compaction leaves in a log, as a consumer gets it: batches in part, batches without records, gaps."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from harness.keyed_logs import CleanedDisk, Record, append_keyed, records
from klamm.client.positions import BatchReader, PartitionPosition
from klamm.proto.identifiers import Offset, TopicPartition
from klamm.proto.record_batch import RecordBatchHeader, batches
from klamm.proto.record_codec import crc_is_right, decode_errors, read_batch


class Reader(BatchReader):
    def crc_is_right(self, buffer: bytes, position: int, header: RecordBatchHeader) -> bool:
        return crc_is_right(buffer, position, header)

    def records(self, data: bytes) -> Iterator[Any]:
        return read_batch(data)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return decode_errors()


def compacted() -> CleanedDisk:
    disk = CleanedDisk()
    for index in range(60):
        pairs = [(b"key-%d" % (index % 4), b"%d" % index), (b"once-%d" % (index // 20), None if index == 1 else b"x")]
        append_keyed(disk.log, *pairs, compression=index % 5, producer_id=1, sequence=2 * index)
    assert disk.clean()
    return disk


@pytest.mark.parametrize("seed", range(5))
def test_a_consumer_gets_each_record_that_is_left_from_wherever_it_begins(seed: int) -> None:
    random = Random(seed)
    log = compacted().log
    kinds = set()
    for start in range(0, log.log_end_offset, 7):
        position = PartitionPosition(TopicPartition("topic", 0), reset=None)
        position.seek(start)
        got: list[Record] = []
        while position.position != log.log_end_offset:
            assert position.fetch_offset is not None
            if position.wants_data and position.fetch_offset < log.log_end_offset:
                data = log.read(
                    Offset(position.fetch_offset), max_bytes=random.choice((1, 300)), end_offset=log.log_end_offset
                )
                kinds |= {(header.record_count, header.last_offset_delta + 1) for _, header in batches(data)}
                position.add(data)
            taken = position.take(random.choice((1, 2, 100)), Reader(), check_crc=True)
            got += [Record(each.offset, each.timestamp, each.key, each.value) for each in taken]
        assert got == [record for record in records(log) if record.offset >= start]
    assert kinds == {(0, 2), (1, 2), (2, 2)}
