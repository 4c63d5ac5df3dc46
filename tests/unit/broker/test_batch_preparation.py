"""Which batches are prepared in line, and that it makes no difference to what becomes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.keyed_logs import Pair, keyed_batch
from klamm.broker.batch_preparation import (
    IN_LINE_BYTES_MAX,
    IN_LINE_RECORDS_MAX,
    BatchPreparation,
    UnpreparedBatch,
    needs_preparation,
    prepare,
    prepare_in_line,
)
from klamm.broker.keyed_records import STEP_RECORDS, InvalidRecordsError, key_checks
from klamm.cluster.topic_config import TopicConfig
from klamm.proto.errors import CorruptRecordError, InvalidRecordError, KafkaError
from klamm.proto.record_batch import HEADER_SIZE, check_batch
from klamm.proto.record_compression import records_of

PLAIN = TopicConfig.resolve({})
COMPACTED = TopicConfig.resolve({"cleanup.policy": "compact"})
GZIP = TopicConfig.resolve({"compression.type": "gzip"})
BOTH = TopicConfig.resolve({"cleanup.policy": "compact", "compression.type": "zstd"})
FEW: list[Pair] = [(b"key", b"value")] * 3
MANY: list[Pair] = [(b"key", b"")] * (IN_LINE_RECORDS_MAX + 1)
LARGE: list[Pair] = [(b"key", bytes(IN_LINE_BYTES_MAX))]


@pytest.mark.parametrize(
    ("pairs", "compression", "config", "in_line"),
    [
        (FEW, 0, COMPACTED, True),
        (FEW, 4, COMPACTED, True),
        (FEW, 3, GZIP, True),
        (MANY, 0, COMPACTED, False),
        (MANY, 0, GZIP, True),  # nobody looks at each
        (LARGE, 0, COMPACTED, True),  # no codec has to do with it
        (LARGE, 0, GZIP, False),
        *((LARGE, compression, BOTH, False) for compression in range(5)),  # some hundred bytes, before they unfold
    ],
)
def test_what_takes_long_is_not_prepared_in_line(
    pairs: list[Pair], compression: int, config: TopicConfig, in_line: bool
) -> None:
    batch = bytes(keyed_batch(pairs, compression=compression))
    header = check_batch(batch)
    prepared = prepare_in_line(batch, header, config)
    assert (prepared is not None) == in_line
    aside = asyncio.run(BatchPreparation().prepare(UnpreparedBatch(batch, header, config)))
    at_once = prepare(batch, header, config)
    for other in (aside, prepared or aside):
        assert other.header == at_once.header
        assert bytes(other.records) == bytes(at_once.records)
    assert at_once.suits(config) and not at_once.suits(PLAIN)


def test_a_batch_that_may_go_as_it_is_needs_none() -> None:
    header = check_batch(bytes(keyed_batch(FEW, compression=1)))
    assert [needs_preparation(header, config) for config in (PLAIN, GZIP, COMPACTED, BOTH)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("pairs", "damage", "error"),
    [
        ([*MANY, (None, b"")], None, InvalidRecordsError),
        (MANY, (HEADER_SIZE + 3, 9), InvalidRecordError),  # the first record's offset delta
        (MANY, (HEADER_SIZE, 9), CorruptRecordError),  # its length
    ],
)
def test_what_cannot_be_taken_is_refused_alike(
    pairs: list[Pair], damage: tuple[int, int] | None, error: type[KafkaError]
) -> None:
    batch = keyed_batch(pairs)
    header = check_batch(bytes(batch))
    if damage is not None:
        batch[damage[0]] = damage[1]
    unprepared = UnpreparedBatch(bytes(batch), header, COMPACTED)
    with pytest.raises(error) as at_once:
        prepare(*unprepared)
    with pytest.raises(error) as aside:
        asyncio.run(BatchPreparation().prepare(unprepared))
    assert str(aside.value) == str(at_once.value)


def test_records_are_looked_through_in_steps() -> None:
    batch = bytes(keyed_batch([(b"key", b"")] * (3 * STEP_RECORDS + 1)))
    header = check_batch(batch)
    assert len(list(key_checks(batch, header, records_of(batch, header)))) == 3


def test_one_batch_is_prepared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from klamm.broker import batch_preparation

    events: list[str] = []

    def records(batch: bytes, header: Any) -> bytes:
        events.append("begun")
        return records_of(batch, header)

    monkeypatch.setattr(batch_preparation, "records_of", records)
    batch = bytes(keyed_batch(MANY))
    unprepared = UnpreparedBatch(batch, check_batch(batch), COMPACTED)

    async def main() -> None:
        preparation = BatchPreparation()

        async def one() -> None:
            await preparation.prepare(unprepared)
            events.append("ended")

        await asyncio.gather(one(), one(), one())

    asyncio.run(main())
    assert events == ["begun", "ended"] * 3
