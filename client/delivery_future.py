"""The future that `send` gives back: one record's place in a batch, and so nothing to complete one by one."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final

from ..proto.errors import KafkaError, KafkaTimeoutError
from .producer_batch import ProducerBatch
from .structs import RecordMetadata

logger = logging.getLogger(__name__)

_new_metadata: Final = tuple.__new__  # a third of the time of the class's own


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
        return self._place()[0].done

    def done(self) -> bool:
        return self.is_done

    def succeeded(self) -> bool:
        batch, _ = self._place()
        return batch.done and batch.error is None

    def failed(self) -> bool:
        return self._place()[0].error is not None

    @property
    def exception(self) -> KafkaError | None:
        """Why the record failed; None while under way and after success."""
        return self._place()[0].error

    @property
    def value(self) -> RecordMetadata | None:
        """Where the record landed; None while under way and after failure."""
        batch, index = self._place()
        return self._metadata(batch, index) if batch.done and batch.error is None else None

    def get(self, timeout: float | None = None) -> RecordMetadata:
        """Waits, at most `timeout` seconds, until the record is written.

        :raises KafkaTimeoutError: the time is up; the record is still under way.
        :raises KafkaError: what made it fail. A time-out of delivery means that its outcome is not known.
        """
        if not self.is_done:
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
        self._listen(partial(self._on_success, callback, args, kwargs))
        return self

    def add_errback(self, errback: Callable[..., Any], *args: Any, **kwargs: Any) -> DeliveryFuture:
        """Calls `errback(*args, exception, **kwargs)` on failure, in the producer's own thread."""
        self._listen(partial(self._on_failure, errback, args, kwargs))
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

            self._listen(partial(self._on_done, wake_from_anywhere))
            yield from waiter
        return self._result()

    def _place(self) -> tuple[ProducerBatch, int]:
        """The batch that the record is in now, and its index there: batches may be split."""
        batch = self._batch
        return (batch, self._index) if batch.parts is None else batch.part_of(self._index)

    def _listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when this record's batch is done or split."""
        self._place()[0].add_listener(listener)

    def _on_success(self, callback: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        batch, index = self._place()
        if not batch.done:  # split: the record goes on in a part
            batch.add_listener(partial(self._on_success, callback, args, kwargs))
        elif batch.error is None:
            _guarded(callback, *args, self._metadata(batch, index), **kwargs)

    def _on_failure(self, errback: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        batch, _ = self._place()
        if not batch.done:
            batch.add_listener(partial(self._on_failure, errback, args, kwargs))
        elif batch.error is not None:
            _guarded(errback, *args, batch.error, **kwargs)

    def _on_done(self, listener: Callable[[], None]) -> None:
        batch, _ = self._place()
        if batch.done:
            listener()
        else:
            batch.add_listener(partial(self._on_done, listener))

    def _wait(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        event = threading.Event()
        self._listen(partial(self._on_done, event.set))
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not event.wait(remaining):
            raise KafkaTimeoutError(f"no answer within {timeout} s; the record is still under way")

    def _result(self) -> RecordMetadata:
        batch, index = self._place()
        if batch.error is not None:
            raise batch.error.with_traceback(None)
        return self._metadata(batch, index)

    def _metadata(self, batch: ProducerBatch, index: int) -> RecordMetadata:
        topic_partition = batch.topic_partition
        base_offset = batch.base_offset
        log_append_time_ms = batch.log_append_time_ms
        return _new_metadata(
            RecordMetadata,
            (
                topic_partition[0],
                topic_partition[1],
                topic_partition,
                base_offset + index if base_offset >= 0 else -1,
                log_append_time_ms if log_append_time_ms >= 0 else self._timestamp,
                None,
                self._key_size,
                self._value_size,
                -1,
            ),
        )


def _guarded(callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """A user's callback must not take the producer down with it; what it raises is logged, as in kafka-python."""
    try:
        callback(*args, **kwargs)
    except Exception:  # foreign code at the border
        logger.exception("producer_callback_failed callback=%r", callback)
