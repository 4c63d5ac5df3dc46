from __future__ import annotations

import pytest
from harness.keyed_logs import keyed_batch
from klamm.broker import keyed_records
from klamm.broker.keyed_records import NO_KEY, InvalidRecordsError, check_keys
from klamm.proto.errors import CorruptRecordError, InvalidRecordError
from klamm.proto.record_batch import COMPRESSION_NAMES, DELETE_HORIZON_FLAG, check_batch, parse_header

FEW = [(b"key", b"value"), (b"other", None), (b"", b"")]
MANY = [(b"key%d" % index, b"value of some length") for index in range(200)]


@pytest.mark.parametrize("compression", range(5), ids=COMPRESSION_NAMES)
@pytest.mark.parametrize("pairs", [FEW, MANY], ids=["few", "many"])
def test_every_record_needs_a_key(compression: int, pairs: list[tuple[bytes, bytes | None]]) -> None:
    good = bytes(keyed_batch(pairs, compression=compression))
    check_keys(good, check_batch(good))
    bad = bytes(keyed_batch([*pairs, (None, b"value")], compression=compression))
    with pytest.raises(InvalidRecordsError, match=f"without key: .* the first is record {len(pairs)}") as caught:
        check_keys(bad, check_batch(bad))
    assert caught.value.record_errors == ((len(pairs), NO_KEY),)


def test_each_record_without_a_key_is_named() -> None:
    """KIP-467: librdkafka and the Java client tell the other records of the batch apart from these."""
    batch = bytes(keyed_batch([(None, b"a"), (b"key", b"b"), (None, b"c")]))
    with pytest.raises(InvalidRecordsError) as caught:
        check_keys(batch, check_batch(batch))
    assert [record for record, _ in caught.value.record_errors] == [0, 2]


@pytest.mark.parametrize("pairs", [FEW, MANY], ids=["few", "many"])
def test_records_that_are_not_what_the_header_says_are_refused(pairs: list[tuple[bytes, bytes | None]]) -> None:
    batch = bytes(keyed_batch(pairs))
    header = parse_header(batch)
    for wrong in (len(pairs) - 1, len(pairs) + 1):
        changed = batch[:57] + wrong.to_bytes(4, "big") + batch[61:]
        with pytest.raises(CorruptRecordError):
            check_keys(changed, header._replace(record_count=wrong))


def test_offsets_inside_a_batch_count_up() -> None:
    batch = keyed_batch([(b"a", b"1"), (b"b", b"2")])
    position = batch.index(b"\x02\x02b")  # offset delta 1, key length 1
    batch[position] = 4
    with pytest.raises(InvalidRecordError, match="record 1 of the batch has offset delta 2"):
        check_keys(bytes(batch), parse_header(batch))


def test_nobody_but_a_broker_sets_the_delete_horizon() -> None:
    batch = keyed_batch([(b"a", None)])
    batch[22] |= DELETE_HORIZON_FLAG
    with pytest.raises(InvalidRecordError, match="delete horizon"):
        check_keys(bytes(batch), parse_header(batch))


def test_the_bound_of_few_lies_between_the_cases() -> None:
    assert len(FEW) < keyed_records._SCANNED_MAX < len(MANY)
