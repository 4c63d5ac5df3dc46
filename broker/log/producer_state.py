"""What a partition remembers of its idempotent producers (KIP-98): the last five batches of each. Pure.

Rule 17: (producer id, epoch, sequence) is appended at most once. A leader asks `check` before it appends; leader and
follower call `record` after. The rules are those of Kafka's ProducerAppendInfo, but for the fifth:

    the batch equals one of the last five            a duplicate: it gets its first offset back
    older producer epoch                             InvalidProducerEpochError (a newer instance took over)
    newer producer epoch                             must begin at sequence 0
    same epoch                                       must be the last sequence + 1; 2**31 - 1 is followed by 0
    unknown, was never here; leader epoch past 0     must begin at sequence 0
    unknown otherwise (expired, or its data deleted) any sequence

Kafka takes any sequence of a producer that it does not know. But there are producers (librdkafka's) that send on to a
new leader while batches to the one before it have no answer yet, and take an ack for the ack of all that they sent
before. Where these batches are lost with the old leader, an ack of the one behind them would be an ack of what is
nowhere. So a log keeps in mind the highest producer id that it may have forgotten: ids above it are not unknown because
they were forgotten, but because they never wrote to it. A first leader (epoch 0) has none before it whose batches could
be lost; there any sequence is taken as in Kafka, for a topic may be deleted and made anew under a living producer.

The snapshot is Kafka's, version 1, so that kafka-dump-log reads it: version, CRC-32C, and per producer its last batch
only. The earlier batches follow behind, under the same CRC, where Kafka's reader does not look: without them a
restart would turn a retry of an earlier batch into an error. So does the highest id that may have been forgotten, in
the place of a producer id, with -1 for the number of batches. Where it is missing any may have been.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from ...proto.errors import InvalidProducerEpochError, InvalidRecordError, OutOfOrderSequenceNumberError
from ...proto.identifiers import LeaderEpoch, Offset
from ...proto.record_batch import RecordBatchHeader
from .errors import CorruptFileError

BATCHES_RETAINED: Final = 5
NO_PRODUCER: Final = -1
"""For `forgotten_up_to`: this log knows every producer that ever wrote to it."""
ANY_PRODUCER: Final = 2**63 - 1
"""For `forgotten_up_to`: it is not known whom this log has forgotten."""
_SEQUENCE_MASK: Final = 0x7FFFFFFF
_NO_EPOCH: Final = -1

_SNAPSHOT_VERSION: Final = 1
_PREFIX: Final = struct.Struct(">hI")
_COUNT: Final = struct.Struct(">i")
_ENTRY: Final = struct.Struct(">qhiqiqiq")
_EARLIER: Final = struct.Struct(">qb")
_BATCH: Final = struct.Struct(">iqiq")
_FORGOTTEN: Final = -1  # in the place of a number of batches: an earlier version of this code reads over it


class ProducedBatch(NamedTuple):
    """One batch that was appended."""

    first_sequence: int
    last_sequence: int
    first_offset: int
    last_offset: int
    timestamp_ms: int


class ProducerEntry:
    """One producer id in one partition."""

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "epoch",
        "idle_since_ms",
        "last_timestamp_ms",
        "seen",
        "transaction_start",
    )

    def __init__(self) -> None:
        self.epoch = _NO_EPOCH
        self.coordinator_epoch = -1
        self.last_timestamp_ms = -1
        self.batches: deque[ProducedBatch] = deque(maxlen=BATCHES_RETAINED)
        self.transaction_start: Offset | None = None
        # Idleness is counted by the monotonic clock from the first look that finds nothing new: neither old record
        # timestamps nor a jump of the wall clock may make a partition forget a live producer (rules 17, 28).
        self.seen = True
        self.idle_since_ms = 0


class ProducerStates:
    """All producers of one partition, up to `end_offset` of its log. A new one is of a log that begins there."""

    def __init__(self, end_offset: int = 0) -> None:
        self._entries: dict[int, ProducerEntry] = {}
        self.end_offset = end_offset
        # No producer with an id above this wrote to the log and was forgotten. What lies below the begin of a log was
        # written by whomever.
        self.forgotten_up_to = NO_PRODUCER if end_offset == 0 else ANY_PRODUCER
        self._any_sequence: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def get(self, producer_id: int) -> ProducerEntry | None:
        """The entry of one producer."""
        return self._entries.get(producer_id)

    def last_offsets(self) -> frozenset[int]:
        """Of the batches that are remembered; compaction keeps these batches, if need be without records."""
        return frozenset(batch.last_offset for entry in self._entries.values() for batch in entry.batches)

    def check(self, header: RecordBatchHeader, leader_epoch: LeaderEpoch) -> ProducedBatch | None:
        """May this batch of a client be appended by the leader of this epoch? None: yes. A batch: it was already,
        there.

        :raises OutOfOrderSequenceNumberError: sequences are missing before it, or it is a duplicate older than the
        last five.
        :raises InvalidProducerEpochError: a newer epoch of this producer was seen.
        :raises InvalidRecordError: it has a producer id but no sequence.
        """
        first_sequence = header.base_sequence
        if first_sequence < 0:
            raise InvalidRecordError(f"producer {header.producer_id} sent a batch without a sequence")
        entry = self._entries.get(header.producer_id)
        if entry is None or entry.epoch == _NO_EPOCH:
            self._check_unknown(header, leader_epoch)
            return None
        if header.producer_epoch != entry.epoch:
            self._check_other_epoch(header, entry)
            return None
        batches = entry.batches
        expected = (batches[-1].last_sequence + 1) & _SEQUENCE_MASK if batches else 0
        if first_sequence == expected:
            return None
        last_sequence = header.last_sequence
        for batch in batches:
            if batch.first_sequence == first_sequence and batch.last_sequence == last_sequence:
                return batch
        raise OutOfOrderSequenceNumberError(
            f"producer {header.producer_id} epoch {entry.epoch}: sequence {first_sequence} came, {expected} is next"
        )

    def _check_unknown(self, header: RecordBatchHeader, leader_epoch: LeaderEpoch) -> None:
        if header.base_sequence == 0 or leader_epoch == 0 or header.producer_id <= self.forgotten_up_to:
            return
        if header.producer_id not in self._any_sequence:
            raise OutOfOrderSequenceNumberError(
                f"producer {header.producer_id} epoch {header.producer_epoch}: sequence {header.base_sequence} came, "
                f"but it never wrote to this log; what it sent before, to an earlier leader, is not here"
            )

    @staticmethod
    def _check_other_epoch(header: RecordBatchHeader, entry: ProducerEntry) -> None:
        if header.producer_epoch < entry.epoch:
            raise InvalidProducerEpochError(
                f"producer {header.producer_id}: epoch {header.producer_epoch} came, {entry.epoch} was seen"
            )
        if header.base_sequence != 0:
            raise OutOfOrderSequenceNumberError(
                f"producer {header.producer_id}: new epoch {header.producer_epoch} begins at sequence "
                f"{header.base_sequence}, not 0"
            )

    def record(self, header: RecordBatchHeader, base_offset: int, timestamp_ms: int) -> None:
        """Remembers a batch that is in the log at `base_offset`; never refuses one (the leader has decided)."""
        entry = self._entries.get(header.producer_id)
        if entry is None:
            entry = self._entries[header.producer_id] = ProducerEntry()
            self._any_sequence.discard(header.producer_id)
        if entry.epoch != header.producer_epoch:
            entry.batches.clear()
            entry.epoch = header.producer_epoch
        entry.seen = True
        entry.last_timestamp_ms = timestamp_ms
        if header.is_control:  # the end of a transaction; it carries no sequence
            entry.transaction_start = None
            return
        last_offset = base_offset + header.last_offset_delta
        entry.batches.append(
            ProducedBatch(header.base_sequence, header.last_sequence, base_offset, last_offset, timestamp_ms)
        )
        if header.is_transactional and entry.transaction_start is None:
            entry.transaction_start = Offset(base_offset)

    def expire(self, monotonic_ms: int, expiration_ms: int) -> int:
        """Forgets producers that were idle for `expiration_ms`; returns how many. To be called every few minutes."""
        expired = []
        for producer_id, entry in self._entries.items():
            if entry.seen:
                entry.seen = False
                entry.idle_since_ms = monotonic_ms
            elif entry.transaction_start is None and monotonic_ms - entry.idle_since_ms >= expiration_ms:
                expired.append(producer_id)
        for producer_id in expired:
            del self._entries[producer_id]
            self.forgotten_up_to = max(self.forgotten_up_to, producer_id)
        return len(expired)

    def clear(self, end_offset: Offset) -> None:
        """Forgets everything; the log begins anew at `end_offset`."""
        self._entries.clear()
        self.end_offset = end_offset
        # From 0 on all comes once more; where compaction has left something out, `batch_missing` is called.
        self.forgotten_up_to = NO_PRODUCER if end_offset == 0 else ANY_PRODUCER

    def take_any_sequence_of(self, producer_id: int) -> None:
        """This producer, of which nothing is known, may begin anywhere after all."""
        self._any_sequence.add(producer_id)

    def batch_missing(self) -> None:
        """Something was in the log that this has not seen, of whatever producer."""
        self.forgotten_up_to = ANY_PRODUCER

    def encode(self) -> bytes:
        """The snapshot file's content."""
        parts = [_COUNT.pack(len(self._entries))]
        earlier = []
        for producer_id, entry in self._entries.items():
            batches = entry.batches
            last = batches[-1] if batches else ProducedBatch(-1, -1, -1, -1, -1)
            parts.append(
                _ENTRY.pack(
                    producer_id,
                    entry.epoch,
                    last.last_sequence,
                    last.last_offset,
                    last.last_offset - last.first_offset,
                    entry.last_timestamp_ms,
                    entry.coordinator_epoch,
                    -1 if entry.transaction_start is None else entry.transaction_start,
                )
            )
            if len(batches) > 1:
                earlier.append(_EARLIER.pack(producer_id, len(batches) - 1))
                earlier.extend(
                    _BATCH.pack(b.last_sequence, b.last_offset, b.last_offset - b.first_offset, b.timestamp_ms)
                    for b in list(batches)[:-1]
                )
        earlier.append(_EARLIER.pack(self.forgotten_up_to, _FORGOTTEN))
        body = b"".join(parts + earlier)
        return _PREFIX.pack(_SNAPSHOT_VERSION, crc32c(body)) + body

    @classmethod
    def decode(cls, data: bytes, end_offset: Offset) -> ProducerStates:
        """Reads a snapshot taken at `end_offset`. :raises CorruptFileError: it is torn, damaged or of another
        version.
        """
        try:
            version, crc = _PREFIX.unpack_from(data)
            if version != _SNAPSHOT_VERSION:
                raise CorruptFileError(f"producer snapshot of version {version}; only {_SNAPSHOT_VERSION} is known")
            if crc32c(data[_PREFIX.size :]) != crc:
                raise CorruptFileError("producer snapshot with a wrong CRC")
            states = cls(end_offset)
            states.forgotten_up_to = ANY_PRODUCER
            states._decode_body(data, _PREFIX.size)
        except struct.error as error:
            raise CorruptFileError(f"producer snapshot ends early: {error}") from error
        return states

    def _decode_body(self, data: bytes, position: int) -> None:
        last_batches = {}
        (count,) = _COUNT.unpack_from(data, position)
        position += _COUNT.size
        for _ in range(count):
            producer_id, epoch, sequence, offset, delta, timestamp, coordinator, start = _ENTRY.unpack_from(
                data, position
            )
            position += _ENTRY.size
            entry = self._entries[producer_id] = ProducerEntry()
            entry.epoch, entry.last_timestamp_ms, entry.coordinator_epoch = epoch, timestamp, coordinator
            entry.transaction_start = None if start < 0 else Offset(start)
            if offset >= 0:
                last_batches[producer_id] = _batch(sequence, offset, delta, timestamp)
        while position < len(data):
            producer_id, count = _EARLIER.unpack_from(data, position)
            position += _EARLIER.size
            if count == _FORGOTTEN:
                self.forgotten_up_to = producer_id
            for _ in range(count):
                batch = _batch(*_BATCH.unpack_from(data, position))
                position += _BATCH.size
                if producer_id in last_batches:
                    self._entries[producer_id].batches.append(batch)
        for producer_id, batch in last_batches.items():
            self._entries[producer_id].batches.append(batch)


def _batch(last_sequence: int, last_offset: int, offset_delta: int, timestamp_ms: int) -> ProducedBatch:
    first_sequence = (last_sequence - offset_delta) & _SEQUENCE_MASK
    return ProducedBatch(first_sequence, last_sequence, last_offset - offset_delta, last_offset, timestamp_ms)
