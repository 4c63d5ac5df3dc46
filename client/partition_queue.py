"""What one producer has under way for one partition: order, sequences, retries. Rules 16 and 17 from the client's side.

Batches move: waiting -> in flight -> acked | failed | back to waiting. Order is kept through retries: once a batch has
to be sent again, nothing leaves until every answer under way is in (draining), then all go again in their order with
the sequences they had. A batch that may have been appended keeps its producer id, epoch and sequence until a broker
says what became of it, so that no retry can double it.

A partition's answers may come out of order: a request is answered when all its partitions are, and one of them may wait
for a slow follower. A leader knows only the last five batches of a producer again, so the window counts from the oldest
batch without an answer: what was sent after it counts, also if it was acked meanwhile.

A batch that failed for good, or ran out of time, leaves a gap in the sequences. What was sent after it either turns
out to be written (then there was no gap), or is refused as out of order (then it is not in that leader's log). Only
then the epoch is raised and the rest starts anew at sequence 0 (KIP-360), so that a late arrival of the lost batch is
fenced. What an earlier leader may have in its log cannot start anew, for that leader may lead again: it is given up.
"""

from __future__ import annotations

from collections import deque
from typing import Final
from uuid import UUID

from ..proto.identifiers import TopicPartition
from .producer_batch import ProducerBatch

PRODUCER_EPOCH_MAX: Final = 32767
SEQUENCE_MASK: Final = 0x7FFFFFFF
SERIAL_SPAN: Final = 1 << 32
"""Serials lie this far apart, so that the parts of a batch that is split find room in order."""
KNOWN_MS: Final = 60_000
"""A leader that acked nothing for so long may have forgotten the producer id, as brokers do after a day without any.
To find out costs a round trip."""


class PartitionQueue:
    """Batches of one partition. Who appends and who takes must hold the producer's lock."""

    def __init__(self, topic_partition: TopicPartition, *, max_in_flight: int, idempotent: bool) -> None:
        self.topic_partition = topic_partition
        self.max_in_flight = max_in_flight
        self.idempotent = idempotent
        self.waiting: deque[ProducerBatch] = deque()  # oldest first; only the last may be open
        self.in_flight: deque[ProducerBatch] = deque()  # oldest first
        self.retry_at_ms = 0
        self.producer_id = -1
        self.producer_epoch = -1
        self.next_sequence = 0
        self.next_serial = 0
        self._next_place = 0
        self.sent_to = -1  # the broker that has what is in flight
        self.topic_id: UUID | None = None  # of the topic that it was sent to
        self.leader_epoch = -1
        self.last_error = ""  # what made the last retry necessary, for the message when time runs out
        self._draining = False
        self._spent_producer_id = -1
        self._gap_after: int | None = None  # serial of the last batch that was lost; None: the sequences are whole
        self._known_producer_id = -1  # the one that the leader has seen here; -1: none yet
        self._known_at_ms = 0  # when it last said so
        self._acked_place = -1  # the highest, and under which id and epoch
        self._acked_producer = (-1, -1)

    @property
    def needs_producer_id(self) -> bool:
        """True if the next batch cannot leave before `adopt_producer_id` was called."""
        return self.idempotent and self.producer_id < 0

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not self.in_flight

    def new_serial(self) -> int:
        """The serial of the next new batch."""
        serial = self.next_serial
        self.next_serial += SERIAL_SPAN
        return serial

    @property
    def spent_producer_id(self) -> int:
        """The last producer id that came to its end here; it must not be taken again."""
        return self._spent_producer_id

    def adopt_producer_id(self, producer_id: int, producer_epoch: int) -> None:
        """Starts anew under another producer id, with sequence 0."""
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.next_sequence = 0

    def send_to(self, broker_id: int, topic_id: UUID | None, leader_epoch: int) -> None:
        """What is taken from now on goes to this leader.

        A new one has perhaps not seen the producer id, nor has a topic that was made anew under the same name.
        """
        if topic_id != self.topic_id or leader_epoch != self.leader_epoch:
            self._known_producer_id = -1
        self.sent_to = broker_id
        self.topic_id = topic_id
        self.leader_epoch = leader_epoch

    def may_send(self, now_ms: int, leader_epoch: int | None = None) -> bool:
        """True if nothing of the partition's own state holds its oldest waiting batch back.

        `leader_epoch` is the one to send under; None: the same as before.
        """
        if not self.waiting or len(self.in_flight) >= self.max_in_flight or now_ms < self.retry_at_ms:
            return False
        if self.in_flight:
            if self._draining:
                return False
            # The same broker was elected anew, perhaps uncleanly, and has forgotten the producer id: it refuses what
            # is under way, for that bears the old leader epoch, and would take what comes behind it.
            if self.idempotent and leader_epoch is not None and leader_epoch != self.leader_epoch:
                return False
            # The new epoch must not begin while answers of the old one are due.
            if self._gap_after is not None and not self.waiting[0].maybe_appended:
                return False
            # A leader takes any first sequence from a producer id that it may have forgotten (as from one that it does
            # not know at all, in a topic made anew): were the first batch refused and the second taken, the records
            # would change places. So the first goes alone.
            if self.idempotent and (
                self._known_producer_id != self.producer_id or now_ms - self._known_at_ms > KNOWN_MS
            ):
                return False
            if self.idempotent and self._place_of(self.waiting[0]) - self.in_flight[0].place >= self.max_in_flight:
                return False
        return True

    def take(self) -> ProducerBatch | None:
        """The oldest waiting batch, now in flight, its id, epoch and sequence set; call only if `may_send`.

        None: a new producer id is needed first.
        """
        self._draining = False
        batch = self.waiting[0]
        if self.idempotent:
            if self._gap_after is not None and not batch.maybe_appended:
                self._start_new_epoch()
            if self.producer_id < 0:
                return None
            if batch.base_sequence < 0:
                batch.producer_id = self.producer_id
                batch.producer_epoch = self.producer_epoch
                batch.base_sequence = self.next_sequence
                self.next_sequence = (self.next_sequence + batch.record_count) & SEQUENCE_MASK
                batch.place = self._next_place
                self._next_place += 1
        self.waiting.popleft()
        self.in_flight.append(batch)
        batch.attempts += 1
        batch.leader_epoch = self.leader_epoch
        return batch

    def acked(self, batch: ProducerBatch, now_ms: int) -> None:
        """The batch is written."""
        self.in_flight.remove(batch)
        self.retry_at_ms = 0
        self._known_producer_id = batch.producer_id
        self._known_at_ms = now_ms
        if batch.place > self._acked_place:
            self._acked_place = batch.place
            self._acked_producer = (batch.producer_id, batch.producer_epoch)
        if (
            self._gap_after is not None
            and batch.serial > self._gap_after
            and batch.producer_epoch == (self.producer_epoch)
        ):
            self._gap_after = None  # what came after it was taken, so it is written too

    def is_written(self, batch: ProducerBatch) -> bool:
        """True if the batch has no answer, but a later one of its epoch was acked: leaders leave none out."""
        return (
            batch.place < self._acked_place
            and (batch.producer_id, batch.producer_epoch) == self._acked_producer
            and (batch.maybe_appended or batch in self.in_flight)
        )

    def given_up_as_written(self, batch: ProducerBatch) -> None:
        """Nothing more will be asked of the batch; it `is_written`, so it leaves no gap."""
        self._remove(batch)

    def retry(self, batch: ProducerBatch, *, outcome_known: bool, retry_at_ms: int) -> None:
        """The batch goes again, in its old place; `outcome_known`: it certainly was not appended this time."""
        self.in_flight.remove(batch)
        if not outcome_known:
            batch.unknown_epochs |= {batch.leader_epoch}
        position = 0
        while position < len(self.waiting) and self.waiting[position].serial < batch.serial:
            position += 1
        self.waiting.insert(position, batch)
        self._draining = True
        self.retry_at_ms = retry_at_ms

    def out_of_order(self, batch: ProducerBatch, retry_at_ms: int) -> bool:
        """The leader says that the batch does not follow what it has: it is not in its log.

        If an earlier batch is still unresolved that is the reason, and it goes first. Else the log has lost what was
        acked before (acks=1, or an unclean election): the rest starts in a new epoch. False: it cannot, and is to be
        given up, for an earlier leader may have it in its log and lead again.
        """
        batch.unknown_epochs -= {batch.leader_epoch}
        if self._oldest() is batch:
            if batch.maybe_appended:
                return False
            if self._gap_after is None:
                self._gap_after = batch.serial - 1
        # The wait of the earlier batch holds: without it this one cannot be taken.
        self.retry(batch, outcome_known=True, retry_at_ms=max(self.retry_at_ms, retry_at_ms))
        return True

    def failed(self, batch: ProducerBatch) -> None:
        """The batch is given up. If a sequence was given to it, that leaves a gap."""
        self._remove(batch)
        if batch.base_sequence >= 0:
            self._gap_after = batch.serial if self._gap_after is None else max(batch.serial, self._gap_after)

    def producer_id_lost(self) -> None:
        """The broker fences this producer id here: what follows needs a new one."""
        if self.producer_id >= 0:
            self._spent_producer_id = self.producer_id
        self.producer_id = -1

    def replace(self, batch: ProducerBatch, parts: list[ProducerBatch]) -> None:
        """Puts the parts of a batch that was too large in its place; they are new batches, with no sequence yet."""
        serial = batch.serial
        self.failed(batch)
        span = batch.span // len(parts)
        position = 0
        while position < len(self.waiting) and self.waiting[position].serial < serial:
            position += 1
        for number, part in enumerate(parts):
            part.serial = serial + number * span
            part.span = span
            self.waiting.insert(position + number, part)
        self._draining = True

    def expired(self, created_before_ms: int) -> list[ProducerBatch]:
        """Batches, oldest first, that were created before then and are still not acked."""
        found = [batch for batch in self.in_flight if batch.created_ms < created_before_ms]
        found += [batch for batch in self.waiting if batch.created_ms < created_before_ms]
        return found

    def _remove(self, batch: ProducerBatch) -> None:
        (self.in_flight if batch in self.in_flight else self.waiting).remove(batch)

    def _place_of(self, batch: ProducerBatch) -> int:
        return batch.place if batch.base_sequence >= 0 else self._next_place

    def _oldest(self) -> ProducerBatch:
        if not self.waiting:
            return self.in_flight[0]
        if not self.in_flight:
            return self.waiting[0]
        return min(self.in_flight[0], self.waiting[0], key=lambda batch: batch.serial)

    def _start_new_epoch(self) -> None:
        self._gap_after = None
        # The oldest is in no log, so nor are those behind it: leaders take batches in the order of their sequences.
        for batch in self.waiting:
            batch.base_sequence = -1
            batch.unknown_epochs = frozenset()
        if self.producer_id < 0 or self.producer_epoch >= PRODUCER_EPOCH_MAX:
            self.producer_id_lost()
        else:
            self.adopt_producer_id(self.producer_id, self.producer_epoch + 1)
