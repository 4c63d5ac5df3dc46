"""Batches of idempotent producers that were refused for a reason that passes, and what they sent right behind. Pure.

A producer has several batches under way to a partition. Say that the first is refused, as the ISR is too small or this
broker does not lead yet, and that the reason has passed when the second arrives. It must not be appended, for that
would be a gap (rule 17). By Kafka's rules it is told OUT_OF_ORDER_SEQUENCE_NUMBER. Kafka's own client knows how that
came about; librdkafka takes a new producer epoch, and sends under it all that it has no answer for, of every partition:
what had been written already is then there twice. And where nothing is known of a producer yet, Kafka's rules take the
second batch; librdkafka takes the ack of it for an ack of the first, which is nowhere.

So the second is refused as the first was, until that has come again: the client then sends both once more, in order.
Who does not send the first again within `FORGOTTEN_AFTER_MS` has given it up, and Kafka's rules hold.

What is missing before a batch may also be under way to an earlier leader, where librdkafka goes on with the next one
before it has an answer. So a later leader says once of a batch that comes too early that it is to come again. The
client then waits for all that is under way and sends it in order; if this batch is the first to come again, what is
missing will not come.

Some clients (aiokafka) neither begin a new producer epoch then nor give up, but fail what they are given, batch by
batch. Who goes on like that for `GIVEN_UP_AFTER_MS`, longer than any request is under way, has told its user that the
first ones failed. Of such a producer, if nothing is known of it, any sequence is taken, as Kafka does from the start.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ..proto.errors import ErrorCode
from ..proto.identifiers import LeaderEpoch
from ..proto.record_batch import RecordBatchHeader
from .log.producer_state import ProducerStates

FORGOTTEN_AFTER_MS: Final = 10_000
"""Clients try again within a second or so."""
GIVEN_UP_AFTER_MS: Final = 60_000
"""No client waits longer for an answer by its defaults."""
REFUSED_MAX: Final = 10_000
"""Of all partitions together; past that the oldest are forgotten."""
_SEQUENCE_MASK: Final = 0x7FFFFFFF
_HALF: Final = 1 << 30


class _Refused(NamedTuple):
    """The first batch of a producer that a partition lacks."""

    producer_epoch: int
    sequence: int
    error: ErrorCode
    at_ms: int


class _Early(NamedTuple):
    """A batch that was told to come again."""

    producer_epoch: int
    sequence: int
    leader_epoch: int
    at_ms: int


class RefusedBatches:
    """Of all partitions of a broker, by topic, partition and producer id."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, int, int], _Refused] = {}  # the oldest first
        self._early: dict[tuple[str, int, int], _Early] = {}  # likewise
        # Producer epochs, and since when these were told that they are out of order; likewise.
        self._out_of_order: dict[tuple[str, int, int], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._refused)

    def refused(
        self,
        topic: str,
        partition: int,
        header: RecordBatchHeader,
        states: ProducerStates | None,
        error: ErrorCode,
        now_ms: int,
    ) -> None:
        """This batch of a client was not appended, and its client will send it again.

        `states`: what the partition knows of its producers; None where there is no replica of it here.
        """
        if header.producer_id < 0 or header.base_sequence < 0:
            return
        new = _Refused(header.producer_epoch, header.base_sequence, error, now_ms)
        if states is not None and not _is_missing(new, header.producer_id, states):
            return  # it is a duplicate, or its producer has a newer epoch
        key = (topic, partition, header.producer_id)
        known = self._refused.get(key)
        if known is not None:
            if _waits_for_it_still(known, header, states, now_ms) and _is_behind(new.sequence, known.sequence):
                return
            del self._refused[key]
        _make_room(self._refused)
        self._refused[key] = new

    def overtaken_by(
        self, topic: str, partition: int, header: RecordBatchHeader, states: ProducerStates, now_ms: int
    ) -> ErrorCode | None:
        """What the client is to be told of a batch that came past one that was refused; None: it did not.

        `states`: what the partition knows of its producers.
        """
        self._forget(now_ms)
        key = (topic, partition, header.producer_id)
        known = self._refused.get(key)
        if known is None:
            return None
        if header.producer_epoch < known.producer_epoch:
            return None
        if header.base_sequence == known.sequence or not _waits_for_it_still(known, header, states, now_ms):
            del self._refused[key]
            return None
        return known.error if _is_behind(header.base_sequence, known.sequence) else None

    def _forget(self, now_ms: int) -> None:
        """Those that are old: whoever sent them goes elsewhere, and nobody else is to pay for them."""
        if self._refused and now_ms >= next(iter(self._refused.values())).at_ms + FORGOTTEN_AFTER_MS:
            self._refused = {
                key: refused for key, refused in self._refused.items() if now_ms < refused.at_ms + FORGOTTEN_AFTER_MS
            }

    def came_early(
        self,
        topic: str,
        partition: int,
        header: RecordBatchHeader,
        states: ProducerStates,
        leader_epoch: LeaderEpoch,
        now_ms: int,
    ) -> ErrorCode | None:
        """What the client of a batch that is out of order is to be told by the leader of this epoch; None: that, for
        nothing that is missing before it will come, or nothing is.
        """
        key = (topic, partition, header.producer_id)
        early = self._early.pop(key, None)
        came = _Early(header.producer_epoch, header.base_sequence, leader_epoch, now_ms)
        again = early is not None and early[:3] == came[:3] and now_ms < early.at_ms + GIVEN_UP_AFTER_MS
        error = ErrorCode.NOT_ENOUGH_REPLICAS  # all clients know it for one that passes, and that nothing was appended
        refused = _Refused(came.producer_epoch, came.sequence, error, now_ms)
        if again or not _is_missing(refused, header.producer_id, states):
            if self._out_of_order.get(key, (-1, 0))[0] != header.producer_epoch:
                _make_room(self._out_of_order)
                self._out_of_order[key] = (header.producer_epoch, now_ms)
            return None
        _make_room(self._early)
        self._early[key] = came
        self.refused(topic, partition, header, states, error, now_ms)
        return error

    def gave_up(self, topic: str, partition: int, header: RecordBatchHeader, now_ms: int) -> bool:
        """Its client was told long ago that it is out of order, and goes on in the same producer epoch."""
        epoch, since_ms = self._out_of_order.get((topic, partition, header.producer_id), (-1, 0))
        return epoch == header.producer_epoch and now_ms >= since_ms + GIVEN_UP_AFTER_MS


def _make_room(entries: dict[tuple[str, int, int], Any]) -> None:
    if len(entries) >= REFUSED_MAX:
        del entries[next(iter(entries))]


def _waits_for_it_still(
    refused: _Refused, header: RecordBatchHeader, states: ProducerStates | None, now_ms: int
) -> bool:
    """False if it is not to be counted on any more, now that this batch of the producer has come."""
    return (
        now_ms < refused.at_ms + FORGOTTEN_AFTER_MS
        and header.producer_epoch == refused.producer_epoch
        and (states is None or _is_missing(refused, header.producer_id, states))
    )


def _is_behind(sequence: int, other: int) -> bool:
    """Sequences begin anew at 0 after 2**31 - 1."""
    return 0 < (sequence - other) & _SEQUENCE_MASK < _HALF


def _is_missing(refused: _Refused, producer_id: int, states: ProducerStates) -> bool:
    """False if it was appended meanwhile, here or by another leader."""
    entry = states.get(producer_id)
    if entry is None or entry.epoch < refused.producer_epoch:
        return True
    if entry.epoch > refused.producer_epoch:
        return False
    batches = entry.batches
    expected = (batches[-1].last_sequence + 1) & _SEQUENCE_MASK if batches else 0
    return not _is_behind(expected, refused.sequence)
