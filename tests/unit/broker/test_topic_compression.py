"""A topic with a codec of its own: what producers send in others is put into it."""

from __future__ import annotations

import pytest
from harness.keyed_logs import keyed_batch
from klamm.broker.topic_compression import needs_recompression, recompress
from klamm.proto.errors import CorruptRecordError
from klamm.proto.record_batch import COMPRESSION_NAMES, check_batch
from klamm.proto.record_codec import read_batch

PAIRS = [(b"key%d" % index, b"value " * 20) for index in range(50)]
TYPES = ["uncompressed", *COMPRESSION_NAMES[1:]]


@pytest.mark.parametrize("number", range(5), ids=COMPRESSION_NAMES)
@pytest.mark.parametrize("wanted", TYPES)
def test_records_stay_and_the_codec_is_the_topics(number: int, wanted: str) -> None:
    batch = bytes(keyed_batch(PAIRS, compression=number))
    header = check_batch(batch)
    assert needs_recompression(header, wanted) == (TYPES[header.compression] != wanted)
    written = bytes(recompress(batch, header, wanted))
    after = check_batch(written)
    assert TYPES[after.compression] == wanted
    assert after[6:] == header[6:]  # deltas, times, producer, sequence and count
    assert [(r.offset, r.timestamp, r.key, r.value) for r in read_batch(written)] == [
        (r.offset, r.timestamp, r.key, r.value) for r in read_batch(batch)
    ]


def test_by_default_nothing_is_touched() -> None:
    for number in range(5):
        assert not needs_recompression(check_batch(bytes(keyed_batch(PAIRS, compression=number))), "producer")


def test_records_that_cannot_be_decompressed_are_refused() -> None:
    batch = bytes(keyed_batch(PAIRS, compression=1))
    header = check_batch(batch)
    with pytest.raises(CorruptRecordError):
        recompress(batch[:70] + b"\x00" * (len(batch) - 70), header, "zstd")
