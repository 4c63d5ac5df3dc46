"""What a produced batch may need before its leader appends it: a look at its records, or another codec.

Only compacted topics and those with a codec of their own ask for it (`keyed_records.py`, `topic_compression.py`). Most
batches are small and prepared in line. What would take longer is prepared aside: codecs work in a thread, where they
leave the interpreter to others, and records are looked through in steps between which the event loop serves others. A
thread would be no help for that: it would hold the interpreter, and the event loop would wait for it at every turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Final, NamedTuple, TypeVar

from ..cluster.topic_config import TopicConfig
from ..proto.errors import InvalidRecordError
from ..proto.identifiers import RECORD_BATCH_BYTES_MAX
from ..proto.record_batch import Buffer, RecordBatchHeader, check_produced_batch
from ..proto.record_compression import records_of
from .keyed_records import check_keys, key_checks
from .topic_compression import needs_recompression, recompress

IN_LINE_RECORDS_MAX: Final = 1_000
"""Looking through so many takes a millisecond or two."""
IN_LINE_BYTES_MAX: Final = 64 * 1024
"""Uncompressed: so many are compressed by the slowest codec in that time."""

T = TypeVar("T")


class PreparedBatch(NamedTuple):
    """A batch that a topic with these two settings may take."""

    records: Buffer
    header: RecordBatchHeader
    compacted: bool
    compression_type: str

    def suits(self, config: TopicConfig) -> bool:
        """Whether the topic's settings still are those that it was prepared for."""
        return (self.compacted, self.compression_type) == (config.compacted, config.compression_type)


class UnpreparedBatch(NamedTuple):
    """A checked batch that is to be prepared aside, for a topic with these settings."""

    records: Buffer
    header: RecordBatchHeader
    config: TopicConfig


def needs_preparation(header: RecordBatchHeader, config: TopicConfig) -> bool:
    """False for almost every batch."""
    return config.compacted or needs_recompression(header, config.compression_type)


def prepare(records: Buffer, header: RecordBatchHeader, config: TopicConfig) -> PreparedBatch:
    """However long it takes.

    :raises InvalidRecordError, CorruptRecordError, MessageSizeTooLargeError: the batch cannot be taken; see
        `check_keys` and `recompress`.
    """
    batch = bytes(records)
    return _prepare(records, batch, header, config, records_of(batch, header))


def prepare_in_line(records: Buffer, header: RecordBatchHeader, config: TopicConfig) -> PreparedBatch | None:
    """As `prepare`; None: it would take too long."""
    if config.compacted and header.record_count > IN_LINE_RECORDS_MAX:
        return None
    uses_codec = header.compression or needs_recompression(header, config.compression_type)
    if uses_codec and header.size_bytes > IN_LINE_BYTES_MAX:
        return None
    batch = bytes(records)
    try:
        plain = records_of(batch, header, IN_LINE_BYTES_MAX)
    except InvalidRecordError:  # they come to more than that; whether to more than is allowed shows aside
        return None
    return _prepare(records, batch, header, config, plain)


def _prepare(
    records: Buffer, batch: bytes, header: RecordBatchHeader, config: TopicConfig, plain: bytes
) -> PreparedBatch:
    if config.compacted:
        check_keys(batch, header, plain)
    return _in_codec_of_topic(records, batch, header, config, plain)


def _in_codec_of_topic(
    records: Buffer, batch: bytes, header: RecordBatchHeader, config: TopicConfig, plain: bytes
) -> PreparedBatch:
    if needs_recompression(header, config.compression_type):
        records = recompress(batch, header, config.compression_type, plain)
        header = check_produced_batch(records, size_bytes_max=RECORD_BATCH_BYTES_MAX)
    return PreparedBatch(records, header, config.compacted, config.compression_type)


class BatchPreparation:
    """Prepares batches aside, one at a time: uncompressed each may take a lot of memory."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self, unprepared: UnpreparedBatch) -> PreparedBatch:
        """As the function of that name, while others are served.

        :raises KafkaError: as there.
        """
        records, header, config = unprepared
        async with self._one_at_a_time:
            batch = bytes(records)
            plain, checks = await _in_thread(lambda: _opened(batch, header, config))
            for _ in checks:
                await asyncio.sleep(0)
            return await _in_thread(lambda: _in_codec_of_topic(records, batch, header, config, plain))


def _opened(batch: bytes, header: RecordBatchHeader, config: TopicConfig) -> tuple[bytes, Iterator[None]]:
    """The uncompressed records, and what looks through them slice by slice."""
    plain = records_of(batch, header)
    if not config.compacted:
        return plain, iter(())
    import_module("..proto.record_codec", __package__)  # the first time it takes long, and is needed from here on
    return plain, key_checks(batch, header, plain)


async def _in_thread(work: Callable[[], T]) -> T:
    """What the work gives. Who is cancelled waits for its end all the same, so that there never are two at once."""
    future = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.gather(future, return_exceptions=True)
        raise
