"""Where records wait to be sent: one queue of batches for each partition, and the memory they take together.

A batch may leave once it holds `batch_size` bytes or has waited `linger_ms`. Until it does leave it goes on taking
records, up to GROWTH times `batch_size`: where a partition is backed up, larger batches cost nobody any waiting and
the brokers much less work.

Callers' threads append, the producer's event loop takes; all of it under the producer's lock, and nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ..proto.identifiers import TopicPartition
from .partition_queue import SERIAL_SPAN, PartitionQueue
from .producer_batch import ProducerBatch

GROWTH: Final = 16


class Accumulator:
    """Invariant: `used_bytes` is the sum of `size_bytes` over all batches that are not done."""

    def __init__(
        self,
        *,
        batch_size: int,
        linger_ms: int,
        request_size_max: int,
        max_in_flight: int,
        idempotent: bool,
        new_builder: Callable[[int], Any],
        now_ms: Callable[[], int],
    ) -> None:
        self.batch_size = batch_size
        self.batch_size_max = min(batch_size * GROWTH, request_size_max)
        self.linger_ms = linger_ms
        self.used_bytes = 0
        self.flushing = 0  # how many wait in flush(): nothing lingers meanwhile
        self.active: dict[
            TopicPartition, PartitionQueue
        ] = {}  # those that hold batches; who was served last comes last
        self._queues: dict[TopicPartition, PartitionQueue] = {}
        self._max_in_flight = max_in_flight
        self._idempotent = idempotent
        self._new_builder = new_builder
        self._now_ms = now_ms

    def queue(self, topic_partition: TopicPartition) -> PartitionQueue:
        """The partition's queue, made when it is first asked for."""
        queue = self._queues.get(topic_partition)
        if queue is None:
            queue = PartitionQueue(topic_partition, max_in_flight=self._max_in_flight, idempotent=self._idempotent)
            self._queues[topic_partition] = queue
        return queue

    def append(
        self,
        queue: PartitionQueue,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes | None]],
    ) -> tuple[ProducerBatch, int, int, bool]:
        """Adds a record; returns its batch, its index there, its size, and whether the sender should look at it now."""
        waiting = queue.waiting
        if waiting:
            batch = waiting[-1]
            builder = batch.builder
            if builder is not None:
                index = batch.record_count
                added = builder.append(index, timestamp_ms, key, value, headers)
                if added is not None:
                    size: int = added.size
                    batch.record_count = index + 1
                    before = batch.size_bytes
                    batch.size_bytes = before + size
                    self.used_bytes += size
                    return batch, index, size, before < self.batch_size <= before + size
        elif not queue.in_flight:
            self.active[queue.topic_partition] = queue
        batch = ProducerBatch(
            queue.topic_partition, self._new_builder(self.batch_size_max), queue.new_serial(), self._now_ms()
        )
        batch.span = SERIAL_SPAN
        size = batch.builder.append(0, timestamp_ms, key, value, headers).size
        batch.record_count = 1
        batch.size_bytes = size
        self.used_bytes += size
        waiting.append(batch)
        return batch, 0, size, True

    def ready_at_ms(self, queue: PartitionQueue) -> int:
        """When the queue's oldest waiting batch may leave; only if it has one."""
        batch = queue.waiting[0]
        if batch.attempts or len(queue.waiting) > 1 or batch.size_bytes >= self.batch_size or self.flushing:
            return queue.retry_at_ms
        return max(queue.retry_at_ms, batch.created_ms + self.linger_ms)

    def served(self, queue: PartitionQueue) -> None:
        """Moves the queue behind the others, so that none goes hungry when a request is full."""
        if self.active.pop(queue.topic_partition, None) is not None:
            self.active[queue.topic_partition] = queue

    def release(self, queue: PartitionQueue, batch: ProducerBatch) -> None:
        """The batch is done (or split): its memory is free."""
        self.used_bytes -= batch.size_bytes
        if queue.is_empty:
            self.active.pop(queue.topic_partition, None)

    def unfinished(self) -> Iterator[ProducerBatch]:
        """Every batch that is not done."""
        for queue in self.active.values():
            yield from queue.in_flight
            yield from queue.waiting
