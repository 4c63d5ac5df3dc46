"""One batch of records on its way from a producer to a partition, and who waits for it.

State of a batch: open (takes records) -> closed (built; queued or in flight, perhaps several times) -> done (acked,
failed) or split (replaced by smaller ones, because the broker found it too large).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ..proto.errors import KafkaError
from ..proto.identifiers import TopicPartition

Listener = Callable[[], None]
_NONE: Final[frozenset[int]] = frozenset()


class ProducerBatch:
    """Filled by callers' threads under the producer's lock; sent, completed and split by its event loop alone."""

    __slots__ = (
        "attempts",
        "base_offset",
        "base_sequence",
        "builder",
        "created_ms",
        "data",
        "done",
        "error",
        "leader_epoch",
        "listeners",
        "log_append_time_ms",
        "parts",
        "place",
        "producer_epoch",
        "producer_id",
        "record_count",
        "serial",
        "size_bytes",
        "span",
        "topic_partition",
        "unknown_epochs",
    )

    def __init__(self, topic_partition: TopicPartition, builder: Any, serial: int, created_ms: int) -> None:
        self.topic_partition = topic_partition
        self.builder = builder  # None once built
        self.serial = serial  # order among the batches of the partition
        self.span = 0  # room for the serials of its parts, see PartitionQueue.replace
        self.created_ms = created_ms
        self.record_count = 0
        self.size_bytes = 0  # of the records, before compression
        self.data: bytearray | None = None
        self.attempts = 0
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1  # -1: none given yet
        self.place = -1  # how many batches of the partition got a sequence before this one
        self.leader_epoch = -1  # of the leader that the latest attempt went to
        self.unknown_epochs = (
            _NONE  # of the leaders in whose log it may be: an attempt ended without word of its outcome
        )
        self.base_offset = -1
        self.log_append_time_ms = -1
        self.error: KafkaError | None = None
        self.done = False
        self.parts: list[tuple[int, ProducerBatch]] | None = None  # (first index, batch) after a split
        self.listeners: deque[Listener] = deque()

    @property
    def maybe_appended(self) -> bool:
        """True if it may be in a log."""
        return bool(self.unknown_epochs)

    @property
    def maybe_in_earlier_log(self) -> bool:
        """True if it may be in the log of another leader than the one that was asked last."""
        return bool(self.unknown_epochs - {self.leader_epoch})

    def succeed(self, base_offset: int, log_append_time_ms: int) -> None:
        """The broker has it; `base_offset` is -1 where that is not known."""
        self.base_offset = base_offset
        self.log_append_time_ms = log_append_time_ms
        self._finish()

    def fail(self, error: KafkaError) -> None:
        """It will not be tried again."""
        if not self.done:
            self.error = error
            self._finish()

    def split_into(self, parts: list[tuple[int, ProducerBatch]]) -> None:
        """The records go on in smaller batches; who waits is to ask those."""
        self.parts = parts
        self._finish()

    def add_listener(self, listener: Listener) -> None:
        """Calls `listener` once when the batch is done: now, if it is already.

        Needs no lock: both ends take listeners off with popleft(), and of two that race for one only one gets it.
        """
        self.listeners.append(listener)
        if self.done:
            self._call_listeners()

    def part_of(self, index: int) -> tuple[ProducerBatch, int]:
        """The batch that the record at `index` ended up in, and its index there."""
        batch = self
        while batch.parts is not None:
            first, part = next(entry for entry in reversed(batch.parts) if entry[0] <= index)
            batch, index = part, index - first
        return batch, index

    def _finish(self) -> None:
        self.builder = None
        self.data = None
        self.done = True
        self._call_listeners()

    def _call_listeners(self) -> None:
        # In the order they came; a listener added meanwhile is the adder's to call, or ours, but not both.
        listeners = self.listeners
        while listeners:
            try:
                listener = listeners.popleft()
            except IndexError:
                return
            listener()
