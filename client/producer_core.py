"""What both producers are: serialize, choose a partition, append, and a sender on an event loop that does the rest."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from ..proto import record_codec
from ..proto.errors import (
    ErrorCode,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    error_for,
)
from ..proto.identifiers import TopicPartition
from ..proto.record_batch import HEADER_SIZE
from ..proto.record_codec import NO_HEADERS, RECORD_OVERHEAD_MAX
from .accumulator import Accumulator
from .backoff import Backoff
from .cluster_client import ClusterClient
from .config import ProducerConfig, as_bytes
from .delivery_future import DeliveryFuture
from .partition_queue import PartitionQueue
from .partitioner import KeyHashes, StickyPartition
from .sender import Sender

logger = logging.getLogger(__name__)

_time_ns: Final = time.time_ns


class _Topic:
    """What sending to a topic needs, at hand."""

    __slots__ = ("available", "partition_count", "queues", "sticky", "version")

    def __init__(
        self, queues: list[PartitionQueue], available: list[int], sticky: StickyPartition, version: int
    ) -> None:
        self.queues = queues
        self.partition_count = len(queues)
        self.available = available
        self.sticky = sticky
        self.version = version  # of the metadata cache


class ProducerCore:
    """Made on the event loop that it will use; `try_send` may then be called from any thread."""

    def __init__(self, config: ProducerConfig) -> None:
        self.config = config
        self.cluster = ClusterClient(config)
        self.cluster.allow_auto_create_topics = config.allow_auto_create_topics
        self._cache = self.cluster.cache
        self.lock = threading.Lock()
        self.memory_freed = threading.Condition(self.lock)
        self.memory_waiters = 0
        self.closed = False
        self.closed_reason = "the producer is closed"
        self._loop = asyncio.get_running_loop()
        self._memory_futures: list[asyncio.Future[None]] = []
        self._accumulator = Accumulator(
            batch_size=config.batch_size,
            linger_ms=config.linger_ms,
            request_size_max=config.max_request_size,
            max_in_flight=config.max_in_flight_requests_per_connection,
            idempotent=config.enable_idempotence,
            new_builder=record_codec.new_builder,
            now_ms=self.cluster.clock.monotonic_ms,
        )
        self._sender = Sender(config, self.cluster, self._accumulator, self.lock, self._on_release)
        self._topics: dict[str, _Topic] = {}
        self._key_hashes = KeyHashes()

    # --- any thread -----------------------------------------------------------------------------------------------

    def try_send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] | None,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> DeliveryFuture | None:
        """Appends a record. None: the topic must be looked up first, see `wait_for_topic`, or memory is full.

        :raises KafkaError: the record itself is at fault.
        """
        # This runs once for each record: what looks clumsy here is what a frame, a look-up or a `with` would cost.
        known = self._topics.get(topic)
        if known is None or known.version != self._cache.version:
            known = self._look_up(topic)
            if known is None:
                return None
        if timestamp_ms is None:
            timestamp_ms = _time_ns() // 1_000_000
        key_size = -1 if key is None else len(key)
        value_size = -1 if value is None else len(value)
        record_headers = NO_HEADERS if not headers else _checked_headers(headers)
        config = self.config
        if key_size + value_size > 8192 or record_headers:
            self._check_size(key, value, record_headers)
        sticky = None
        if partition is None:
            if config.partitioner is not None:
                partition = self._ask_partitioner(config.partitioner, key, known)
            elif key is None:
                sticky = known.sticky
            else:
                partition = self._key_hashes.partition(key, known.partition_count)
        elif not 0 <= partition < known.partition_count:
            raise KafkaError(f"partition {partition} of {topic}: it has {known.partition_count}, numbered from 0")
        accumulator = self._accumulator
        lock = self.lock
        lock.acquire()
        try:
            if self.closed:
                raise IllegalStateError(self.closed_reason)
            if accumulator.used_bytes >= config.buffer_memory:
                return None
            if sticky is not None:
                if sticky.bytes_left <= 0:
                    sticky.choose(known.partition_count, known.available)
                partition = sticky.partition
            batch, index, size, wake = accumulator.append(
                known.queues[partition],  # type: ignore[index]
                timestamp_ms,
                key,
                value,
                record_headers,
            )
            if sticky is not None:
                sticky.bytes_left -= size
        finally:
            lock.release()
        if wake:
            self._sender.wake()
        return DeliveryFuture(batch, index, timestamp_ms, key_size, value_size)

    @property
    def memory_is_full(self) -> bool:
        return self._accumulator.used_bytes >= self.config.buffer_memory

    def knows(self, topic: str) -> bool:
        """True if a record for the topic can be appended without asking a broker."""
        return self.cluster.cache.topic(topic) is not None

    def partitions_for(self, topic: str) -> set[int] | None:
        info = self.cluster.cache.topic(topic)
        return None if info is None else {partition.partition for partition in info.partitions}

    def begin_flush(self) -> list[DeliveryFuture]:
        """Lets nothing linger until `end_flush`; returns a future for each batch that is not done."""
        with self.lock:
            self._accumulator.flushing += 1
            unfinished = list(self._accumulator.unfinished())
        self._sender.wake()
        return [DeliveryFuture(batch, batch.record_count - 1, -1, -1, -1) for batch in unfinished]

    def end_flush(self) -> None:
        with self.lock:
            self._accumulator.flushing -= 1

    def _look_up(self, topic: str) -> _Topic | None:
        cache = self.cluster.cache
        version = cache.version
        info = cache.topic(topic)
        if info is None or not info.partitions:
            return None
        available = cache.available_partitions(topic)
        with self.lock:
            before = self._topics.get(topic)
            sticky = before.sticky if before else StickyPartition(self.cluster.random, self.config.batch_size)
            sticky.keep_below(len(info.partitions))
            queues = [
                self._accumulator.queue(TopicPartition(topic, partition)) for partition in range(len(info.partitions))
            ]
            known = self._topics[topic] = _Topic(queues, available, sticky, version)
        return known

    def _ask_partitioner(self, partitioner: Any, key: bytes | None, known: _Topic) -> int:
        partitions = list(range(known.partition_count))
        chosen = partitioner(key, partitions, known.available)
        if chosen not in partitions:
            raise KafkaError(f"the partitioner chose {chosen!r}, which is none of the topic's partitions")
        return int(chosen)

    def _check_size(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
        size = len(key or b"") + len(value or b"") + HEADER_SIZE + RECORD_OVERHEAD_MAX + 15
        for name, content in headers:
            size += 4 * len(name) + len(content or b"") + 10
        limit = min(self.config.max_request_size, self.config.buffer_memory)
        if size > limit:
            name = "max_request_size" if limit == self.config.max_request_size else "buffer_memory"
            raise MessageSizeTooLargeError(f"record of about {size} bytes; {name} allows {limit}")

    # --- the event loop -------------------------------------------------------------------------------------------

    async def wait_for_topic(self, topic: str, timeout_ms: float) -> None:
        """Returns once the topic's partitions are known.

        :raises KafkaTimeoutError: they were not in that time; says why. :raises KafkaError: they will never be.
        """
        if topic not in (self.cluster.topics or ()):
            self.cluster.topics = (self.cluster.topics or set()) | {topic}
        deadline_ms = self.cluster.clock.monotonic_ms() + timeout_ms
        backoff = Backoff(self.cluster.random, initial_ms=25)
        reason = "no broker has answered yet"
        while not self.knows(topic):
            remaining_ms = deadline_ms - self.cluster.clock.monotonic_ms()
            if remaining_ms <= 0:
                raise KafkaTimeoutError(f"no metadata of topic {topic!r} within {timeout_ms:g} ms: {reason}")
            try:
                await asyncio.wait_for(self.cluster.refresh((topic,)), remaining_ms / 1000)
            except TimeoutError:
                continue
            except KafkaError as error:
                reason = str(error)
            if self.knows(topic):
                return
            code = self.cluster.cache.topic_errors.get(topic, ErrorCode.NONE)
            if code is not ErrorCode.NONE:
                reason = code.message
                if not code.retriable:
                    raise error_for(code, f"topic {topic!r}: {code.message}")
            await asyncio.sleep(min(backoff.next_ms(), max(1.0, remaining_ms)) / 1000)

    async def wait_for_memory(self, timeout_ms: float) -> None:
        """Returns once some memory is free. :raises KafkaTimeoutError: none came free in that time."""
        while self.memory_is_full and not self.closed:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._memory_futures.append(waiter)
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await waiter
            except TimeoutError:
                raise self.memory_error() from None

    def memory_error(self) -> KafkaTimeoutError:
        return KafkaTimeoutError(
            f"buffer_memory={self.config.buffer_memory} is full and nothing was acknowledged "
            f"within max_block_ms={self.config.max_block_ms}"
        )

    def forget_after_fork(self) -> None:
        """In the child: the event loop's thread is the parent's alone, and its lock may have been held by anyone."""
        self.lock = threading.Lock()
        self.memory_freed = threading.Condition(self.lock)
        self.closed = True
        self.closed_reason = "this producer was made before a fork; make a new one in the child"

    async def close(self, error: KafkaError) -> None:
        """Stops at once; records under way fail with `error`."""
        with self.lock:
            self.closed = True
        await self._sender.close(error)
        await self.cluster.close()

    def _on_release(self) -> None:
        if self.memory_waiters:
            with self.memory_freed:
                self.memory_freed.notify_all()
        if self._memory_futures:
            waiters, self._memory_futures = self._memory_futures, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def serialize(self, key: Any, value: Any) -> tuple[bytes | None, bytes | None]:
        """Key and value as bytes. :raises KafkaError: they are not, and no serializer makes them so."""
        return as_bytes("key", self.config.key_serializer, key), as_bytes("value", self.config.value_serializer, value)


def _checked_headers(headers: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    checked = []
    for header in headers:
        if not isinstance(header, tuple) or len(header) != 2 or not isinstance(header[0], str):
            raise KafkaError(f"header {header!r} is not a tuple of a string and bytes")
        if header[1] is not None and not isinstance(header[1], bytes):
            raise KafkaError(f"header {header[0]!r} holds {type(header[1]).__name__}, not bytes")
        checked.append(header)
    return checked
