from __future__ import annotations

import tracemalloc

import pytest
from klamm.proto.errors import CorruptRecordError, InvalidRecordError, UnsupportedCompressionTypeError
from klamm.proto.record_batch import COMPRESSION_NAMES, parse_header
from klamm.proto.record_codec import build_batch, compress, new_builder
from klamm.proto.record_compression import decompress, records_of

CODECS = range(1, len(COMPRESSION_NAMES))
TEXT = b"".join(b"%d is not %d; " % (number, number + 1) for number in range(20_000))


@pytest.mark.parametrize("codec", CODECS, ids=COMPRESSION_NAMES[1:])
def test_what_was_compressed_comes_back_up_to_the_bound(codec: int) -> None:
    data = compress(TEXT, codec)
    assert decompress(data, codec, 1 << 24) == TEXT
    assert decompress(data, codec, len(TEXT)) == TEXT
    for bound in (len(TEXT) - 1, 1_000, 1):
        with pytest.raises(InvalidRecordError, match=f"more than {bound} bytes uncompressed"):
            decompress(data, codec, bound)


@pytest.mark.parametrize("codec", CODECS, ids=COMPRESSION_NAMES[1:])
def test_a_bomb_takes_no_more_memory_than_is_allowed(codec: int) -> None:
    bomb = compress(bytes(1 << 25), codec)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRecordError):
            decompress(bomb, codec, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", CODECS, ids=COMPRESSION_NAMES[1:])
def test_bytes_that_are_not_of_the_codec_are_refused(codec: int) -> None:
    data = compress(TEXT, codec)
    for cut in (1, 3, 20, len(data) // 2, len(data) - 1):
        with pytest.raises((CorruptRecordError, InvalidRecordError)):
            decompress(data[:cut], codec, 1 << 24)
    for garbage in (b"\x00" * 50, b"\xff" * 50, b"hello, world"):
        with pytest.raises((CorruptRecordError, InvalidRecordError)):
            decompress(garbage, codec, 1 << 24)


def test_plain_snappy_and_several_gzip_members_are_read() -> None:
    import cramjam

    assert decompress(bytes(cramjam.snappy.compress_raw(TEXT)), 2, 1 << 24) == TEXT
    assert decompress(compress(b"one", 1) + compress(b"two", 1), 1, 6) == b"onetwo"
    with pytest.raises(InvalidRecordError):
        decompress(compress(b"one", 1) + compress(b"two", 1), 1, 5)


def test_a_gzip_stream_of_very_many_members_is_refused() -> None:
    assert decompress(compress(b"x", 1) * 64, 1, 1 << 20) == b"x" * 64
    with pytest.raises(CorruptRecordError, match="more than 64 gzip members"):
        decompress(compress(b"", 1) * 50_000, 1, 1 << 20)


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(UnsupportedCompressionTypeError, match="compression 5"):
        decompress(b"x", 5, 10)


def test_records_of_a_batch() -> None:
    builder = new_builder(1 << 20)
    for index in range(50):
        builder.append(index, 1_000, b"key", b"a value that repeats", [])
    plain = bytes(build_batch(builder, 0))
    builder = new_builder(1 << 20)
    for index in range(50):
        builder.append(index, 1_000, b"key", b"a value that repeats", [])
    packed = bytes(build_batch(builder, 4))
    assert len(packed) < len(plain)
    assert records_of(packed, parse_header(packed)) == records_of(plain, parse_header(plain)) == plain[61:]
