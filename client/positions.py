"""Where a consumer is in each of its partitions, and what it holds fetched but not yet given out. Pure.

Two offsets: `position` is the next record to give to the user, `fetch_offset` the next to ask a broker for; what lies
between is buffered. Each change of place that is not reading on (seek, reset, truncation) starts a new `generation`, so
that an answer to an older request is known and dropped: no lost and no doubled record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from ..proto.errors import CorruptRecordError, KafkaError
from ..proto.identifiers import TopicPartition
from ..proto.record_batch import LOG_APPEND_TIME_FLAG, RecordBatchHeader, batches
from .structs import ConsumerRecord

EARLIEST: Final = -2
LATEST: Final = -1
_CHUNKS_MAX: Final = 2
"""One to read and one ahead."""

_new_record: Final = tuple.__new__


class BatchReader:
    """How batches are read: kept out of here, since the codec is foreign code."""

    def crc_is_right(self, buffer: bytes, position: int, header: RecordBatchHeader) -> bool:
        raise NotImplementedError

    def records(self, data: bytes) -> Iterator[Any]:
        raise NotImplementedError

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What iterating over `records` may raise where the bytes are not what the header says."""
        raise NotImplementedError


class Chunk:
    """The bytes of one fetch for one partition."""

    __slots__ = ("batches", "data", "size_bytes", "start_offset")

    def __init__(self, data: bytes, start_offset: int) -> None:
        self.data = data
        self.size_bytes = len(data)
        self.start_offset = start_offset
        self.batches = batches(data)


class PartitionPosition:
    """One assigned partition. The user's thread takes, the event loop adds; both under the consumer's lock."""

    def __init__(self, topic_partition: TopicPartition, *, reset: int | None, generation: int = 0) -> None:
        self.topic_partition = topic_partition
        self.position: int | None = None
        self.position_epoch: int | None = None  # the leader epoch of the record before `position`, if it is known
        self.awaits_committed = False  # the group's committed offset, if there is one, says where to begin
        self.fetch_offset: int | None = None
        self.reset = reset  # EARLIEST or LATEST: to be looked up before anything is fetched
        self.last_fetched_epoch: int | None = None
        self.topic_id: UUID | None = None  # of the topic that was fetched from since the last change of place
        self.paused = False
        self.generation = generation
        self.moves = 0  # grows with each change of place that is not reading on
        self.is_held = False  # taken records are still being given out one by one: `position` is behind them
        self.fetching: int | None = None  # the broker asked, while a fetch is under way
        self.retry_at_ms = 0
        self.error: KafkaError | None = None  # raised by the poll that has given out all before it
        self.high_watermark: int | None = None
        self._chunks: deque[Chunk] = deque()
        self._records: Iterator[Any] | None = None  # of the batch being read
        self._header: RecordBatchHeader | None = None

    @property
    def buffered_bytes(self) -> int:
        return sum(chunk.size_bytes for chunk in self._chunks)

    @property
    def has_data(self) -> bool:
        """True if `take` may find something, or an error is to be raised."""
        return not self.paused and (bool(self._chunks) or self.error is not None)

    @property
    def wants_data(self) -> bool:
        """True if more should be fetched."""
        return (
            self.fetch_offset is not None
            and not self.paused
            and self.fetching is None
            and self.error is None
            and len(self._chunks) < _CHUNKS_MAX
        )

    def seek(self, offset: int | None, *, reset: int | None = None) -> None:
        """Goes to an offset, or to where `reset` will be found to be; drops what is buffered."""
        self.generation += 1
        self.moves += 1
        self.is_held = False
        self.position = self.fetch_offset = offset
        self.position_epoch = None
        self.awaits_committed = False
        self.reset = reset
        self.last_fetched_epoch = None
        self.topic_id = None
        self.fetching = None
        self.retry_at_ms = 0
        self.error = None
        self._drop()

    def go_back(self) -> None:
        """Fetches again what was held and not given out: whoever iterated over it has broken off."""
        epoch, topic_id = self.position_epoch, self.topic_id
        self.seek(self.position)
        self.position_epoch = self.last_fetched_epoch = epoch
        self.topic_id = topic_id

    def is_of_another(self, topic_id: UUID) -> bool:
        """True if what is fetched next would come from another topic of the same name."""
        return self.topic_id not in (None, topic_id)

    @property
    def is_read_out(self) -> bool:
        """True if more should be fetched, and all that was fetched was given out."""
        return self.wants_data and not self._chunks and not self.is_held

    def reset_to(self, offset: int) -> None:
        """The offset that `reset` asked for. What is buffered is still given out first."""
        self.reset = None
        self.fetch_offset = offset
        self.last_fetched_epoch = None
        if not self._chunks:
            self.position = offset

    def out_of_range(self, reset: int) -> None:
        """The broker no longer has, or never had, what comes next; `reset` says where to go on."""
        self.fetch_offset = None
        self.reset = reset

    def truncated_to(self, end_offset: int, epoch: int) -> None:
        """The log was cut below what was read (KIP-320): goes back to where it still agrees."""
        offset = end_offset if self.position is None else min(self.position, end_offset)
        self.seek(offset)
        self.last_fetched_epoch = epoch

    def add(self, data: bytes) -> None:
        """Takes in what a fetch from `fetch_offset` brought. :raises CorruptRecordError: it is not batches."""
        assert self.fetch_offset is not None
        next_offset = self.fetch_offset
        epoch = self.last_fetched_epoch
        for _, header in batches(data):
            next_offset = header.next_offset
            epoch = header.partition_leader_epoch
        if next_offset > self.fetch_offset:
            self._chunks.append(Chunk(data, self.fetch_offset))
            self.fetch_offset = next_offset
            self.last_fetched_epoch = epoch

    def take(self, records_max: int, reader: BatchReader, *, check_crc: bool) -> list[ConsumerRecord]:
        """Up to `records_max` records, in order, keys and values as bytes; moves `position` past them.

        :raises CorruptRecordError: the next batch is damaged; the position stays before it.
        :raises KafkaError: what went wrong while fetching, once all before it was given out; each time until a seek
        where nothing says where to begin.
        """
        found: list[ConsumerRecord] = []
        while len(found) < records_max:
            if self._records is None and not self._next_batch(reader, check_crc=check_crc):
                break
            try:
                self._read(found, records_max)
            except reader.errors as error:
                assert self._header is not None
                if found:
                    self.position = found[-1].offset + 1
                self._damaged(self._header, str(error))
        failure = self.error
        if not found and failure is not None and not self._chunks:
            # To ask a broker again brings the error again, if it stands. Where there is nothing to ask for, it stays.
            if self.fetch_offset is not None or self.reset is not None:
                self.error = None
            raise failure
        return found

    def _next_batch(self, reader: BatchReader, *, check_crc: bool) -> bool:
        """Opens the next batch; False if there is none, or it is damaged, which `error` then says."""
        while self._chunks:
            chunk = self._chunks[0]
            if self.position is None or self.position < chunk.start_offset:
                self.position = chunk.start_offset
            for position, header in chunk.batches:
                if header.next_offset <= self.position or header.is_control:
                    self.position = max(self.position, header.next_offset)
                    continue
                if check_crc and not reader.crc_is_right(chunk.data, position, header):
                    self._damaged(header, "its CRC is wrong")
                    break
                try:
                    self._records = reader.records(chunk.data[position : position + header.size_bytes])
                except CorruptRecordError as error:
                    self._damaged(header, str(error))
                    break
                self._header = header
                return True
            else:
                self._chunks.popleft()
        return False

    def _damaged(self, header: RecordBatchHeader, what: str) -> None:
        """Drops all from the damaged batch on; the error comes when what is before it was given out.

        A poll after that fetches the batch once more: the damage may have happened on the way, or on one replica.
        """
        offset = self.position
        self.seek(offset)
        self.error = CorruptRecordError(
            f"record batch of {self.topic_partition} at offset {header.base_offset} is damaged: {what}; "
            f"seek to {header.next_offset} to go on behind it"
        )

    def _read(self, found: list[ConsumerRecord], records_max: int) -> None:
        """Takes records from the open batch until there are enough or it ends."""
        header, records = self._header, self._records
        assert header is not None and records is not None and self.position is not None
        topic, partition = self.topic_partition
        epoch = header.partition_leader_epoch
        leader_epoch = epoch if epoch >= 0 else None
        timestamp_type = 1 if header.attributes & LOG_APPEND_TIME_FLAG else 0
        first = self.position
        for record in records:
            offset = record.offset
            if offset < first:
                continue
            key = record.key
            value = record.value
            headers = record.headers
            found.append(
                _new_record(
                    ConsumerRecord,
                    (
                        topic,
                        partition,
                        leader_epoch,
                        offset,
                        record.timestamp,
                        timestamp_type,
                        key,
                        value,
                        headers,
                        None,
                        -1 if key is None else len(key),
                        -1 if value is None else len(value),
                        _headers_size(headers) if headers else -1,
                    ),
                )
            )
            if len(found) >= records_max:
                self.position = offset + 1
                self.position_epoch = leader_epoch
                return
        self.position = header.next_offset
        self.position_epoch = leader_epoch
        self._records = None
        self._header = None

    def _drop(self) -> None:
        self._chunks.clear()
        self._records = None
        self._header = None


def _headers_size(headers: list[tuple[str, bytes | None]]) -> int:
    return sum(len(name.encode()) + len(content or b"") for name, content in headers)
