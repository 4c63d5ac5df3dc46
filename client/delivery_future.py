"""The future that `send` gives back: one record's place in a batch, and so nothing to complete one by one."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from ..proto.errors import KafkaError, KafkaTimeoutError
from .producer_batch import ProducerBatch
from .structs import RecordMetadata

logger = logging.getLogger(__name__)


class DeliveryFuture:
    """What became of one record. Safe to use from any thread, and awaitable in any event loop."""

    __slots__ = ("_batch", "_index", "_key_size", "_timestamp", "_value_size")

    def __init__(self, batch: ProducerBatch, index: int, timestamp: int, key_size: int, value_size: int) -> None:
        self._batch = batch
        self._index = index
        self._timestamp = timestamp
        self._key_size = key_size
        self._value_size = value_size

    @property
    def is_done(self) -> bool:
        """True once the outcome is known (kafka-python's spelling; `done()` is the standard library's)."""
        return self._batch.part_of(self._index)[0].done

    def done(self) -> bool:
        return self.is_done

    def succeeded(self) -> bool:
        batch, _ = self._batch.part_of(self._index)
        return batch.done and batch.error is None

    def failed(self) -> bool:
        batch, _ = self._batch.part_of(self._index)
        return batch.done and batch.error is not None

    @property
    def exception(self) -> KafkaError | None:
        """Why the record failed; None while under way and after success."""
        return self._batch.part_of(self._index)[0].error

    @property
    def value(self) -> RecordMetadata | None:
        """Where the record landed; None while under way and after failure."""
        return self._metadata() if self.succeeded() else None

    def get(self, timeout: float | None = None) -> RecordMetadata:
        """Waits, at most `timeout` seconds, until the record is written.

        :raises KafkaTimeoutError: the time is up; the record is still under way.
        :raises KafkaError: what made it fail. A time-out of delivery means that its outcome is not known.
        """
        batch, _ = self._batch.part_of(self._index)
        if not batch.done:
            self._wait(timeout)
        return self._result()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the outcome is known, whatever it is; False if the time was up first."""
        if not self.is_done:
            try:
                self._wait(timeout)
            except KafkaTimeoutError:
                return False
        return True

    async def settled(self) -> None:
        """Returns once the outcome is known, whatever it is."""
        try:
            await self
        except KafkaError:
            return

    def add_callback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> DeliveryFuture:
        """Calls `callback(*args, metadata, **kwargs)` on success, in the producer's own thread: be quick there."""

        def on_done() -> None:
            if self.succeeded():
                _guarded(callback, *args, self._metadata(), **kwargs)

        self._listen(on_done)
        return self

    def add_errback(self, errback: Callable[..., Any], *args: Any, **kwargs: Any) -> DeliveryFuture:
        """Calls `errback(*args, exception, **kwargs)` on failure, in the producer's own thread."""

        def on_done() -> None:
            if (error := self.exception) is not None:
                _guarded(errback, *args, error, **kwargs)

        self._listen(on_done)
        return self

    def add_both(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> DeliveryFuture:
        """Calls `callback` with the metadata or the exception, whichever it becomes."""
        return self.add_callback(callback, *args, **kwargs).add_errback(callback, *args, **kwargs)

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        if not self.is_done:
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not waiter.done():
                    waiter.set_result(None)

            def wake_from_anywhere() -> None:
                loop.call_soon_threadsafe(wake)

            self._listen(wake_from_anywhere)
            yield from waiter
        return self._result()

    def _listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when this record's batch is done, following it through splits."""

        def on_batch_done() -> None:
            batch, _ = self._batch.part_of(self._index)
            if batch.done:
                listener()
            else:
                batch.add_listener(on_batch_done)

        self._batch.part_of(self._index)[0].add_listener(on_batch_done)

    def _wait(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        event = threading.Event()
        self._listen(event.set)
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not event.wait(remaining):
            raise KafkaTimeoutError(f"no answer within {timeout} s; the record is still under way")

    def _result(self) -> RecordMetadata:
        error = self.exception
        if error is not None:
            raise error.with_traceback(None)
        return self._metadata()

    def _metadata(self) -> RecordMetadata:
        batch, index = self._batch.part_of(self._index)
        topic_partition = batch.topic_partition
        return RecordMetadata(
            topic=topic_partition.topic,
            partition=topic_partition.partition,
            topic_partition=topic_partition,
            offset=batch.base_offset + index if batch.base_offset >= 0 else -1,
            timestamp=batch.log_append_time_ms if batch.log_append_time_ms >= 0 else self._timestamp,
            checksum=None,
            serialized_key_size=self._key_size,
            serialized_value_size=self._value_size,
            serialized_header_size=-1,
        )


def _guarded(callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """A user's callback must not take the producer down with it; what it raises is logged, as in kafka-python."""
    try:
        callback(*args, **kwargs)
    except Exception:  # foreign code at the border
        logger.exception("producer_callback_failed callback=%r", callback)
