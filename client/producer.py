"""Producer and AsyncProducer: the same core, one for threads, one for an event loop."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import time
import weakref
from types import TracebackType
from typing import Any, Final, Self

from ..proto.errors import IllegalStateError, KafkaError, KafkaTimeoutError
from .config import producer_config
from .delivery_future import DeliveryFuture
from .loop_thread import loop_thread
from .producer_core import ProducerCore
from .structs import Headers, RecordMetadata

logger = logging.getLogger(__name__)

_EXIT_FLUSH_S: Final = 2.0
"""What a producer that was never closed may take at the end of the program to send what it still holds."""


class Producer:
    """Sends records, from any number of threads. Arguments are kafka-python's; see `config.py` for the defaults.

    `send` puts the record into a batch and returns at once; a background thread sends the batches, and again where a
    broker fails, until `delivery_timeout_ms` is over. With acks="all" and idempotence, the defaults, an acknowledged
    record is written once, in order, and survives the loss of a broker.
    """

    def __init__(self, **arguments: Any) -> None:
        """:raises KafkaConfigurationError: names the argument that is wrong. Connects to nobody yet."""
        self._config = producer_config(arguments)
        self._thread = loop_thread()
        self._closed = False
        self._core = self._thread.run(_make_core(self._config))
        self._serializes = self._config.key_serializer is not None or self._config.value_serializer is not None
        _open_producers.add(self)

    def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> DeliveryFuture:
        """Puts a record on its way. Blocks up to `max_block_ms` where the topic is new or the buffer is full.

        :raises KafkaTimeoutError: it blocked that long. :raises MessageSizeTooLargeError: over `max_request_size`.
        :raises KafkaError: key or value is not bytes, or there is no such partition.
        """
        core = self._core
        if (
            self._serializes
            or (type(value) is not bytes and value is not None)
            or (key is not None and type(key) is not bytes)
        ):
            key, value = core.serialize(key, value)
        future = core.try_send(topic, value, key, headers, partition, timestamp_ms)
        if future is not None:
            return future
        return self._send_slowly(topic, value, key, headers, partition, timestamp_ms)

    def _send_slowly(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Headers | None,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> DeliveryFuture:
        core = self._core
        deadline = time.monotonic() + self._config.max_block_ms / 1000
        self._thread.check()
        while True:
            if self._closed:
                raise IllegalStateError("the producer is closed")
            remaining_s = max(0.0, deadline - time.monotonic())
            if not core.knows(topic):
                self._thread.run(core.wait_for_topic(topic, remaining_s * 1000))
            else:
                with core.memory_freed:
                    core.memory_waiters += 1
                    try:
                        if not core.memory_freed.wait_for(lambda: not core.memory_is_full, remaining_s):
                            raise core.memory_error()
                    finally:
                        core.memory_waiters -= 1
            future = core.try_send(topic, value, key, headers, partition, timestamp_ms)
            if future is not None:
                return future

    def flush(self, timeout: float | None = None) -> None:
        """Sends everything now and waits until it is acknowledged or has failed.

        :raises KafkaTimeoutError: `timeout` seconds were not enough; what is left stays under way.
        """
        self._thread.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        pending = self._core.begin_flush()
        try:
            for future in pending:
                remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not future.wait(remaining):
                    raise KafkaTimeoutError(f"flush: records were still under way after {timeout} s")
        finally:
            self._core.end_flush()

    def partitions_for(self, topic: str, timeout_ms: float | None = None) -> set[int]:
        """The topic's partitions. :raises KafkaTimeoutError: unknown for `max_block_ms`, or `timeout_ms`."""
        if not self._core.knows(topic):
            timeout_ms = self._config.max_block_ms if timeout_ms is None else timeout_ms
            self._thread.run(self._core.wait_for_topic(topic, timeout_ms))
        return self._core.partitions_for(topic) or set()

    def bootstrap_connected(self) -> bool:
        """True if a broker answers."""
        try:
            self._thread.run(self._core.cluster.refresh())
        except KafkaError:
            return False
        return True

    def close(self, timeout: float | None = None) -> None:
        """Flushes, for `timeout` seconds at most, then stops; what is still under way then fails."""
        if self._closed:
            return
        try:
            if timeout is None or timeout > 0:
                self.flush(timeout)
        except KafkaTimeoutError:
            logger.warning("producer_closed_with_records_under_way timeout_s=%s", timeout)
        finally:
            self._closed = True
            _open_producers.discard(self)
            self._thread.run(self._core.close(_closed_error()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncProducer:
    """The same for asyncio: made anywhere, started and used on one event loop. Names follow aiokafka's."""

    def __init__(self, **arguments: Any) -> None:
        """:raises KafkaConfigurationError: names the argument that is wrong."""
        self._config = producer_config(arguments)
        self._core: ProducerCore | None = None

    async def start(self) -> None:
        """Binds the producer to the running event loop."""
        if self._core is None:
            self._core = await _make_core(self._config)

    async def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> DeliveryFuture:
        """Puts a record on its way; the future that comes back can be awaited. Raises as `Producer.send`."""
        core = self._started()
        key, value = core.serialize(key, value)
        deadline_ms = core.cluster.clock.monotonic_ms() + self._config.max_block_ms
        while (future := core.try_send(topic, value, key, headers, partition, timestamp_ms)) is None:
            remaining_ms = max(0, deadline_ms - core.cluster.clock.monotonic_ms())
            if not core.knows(topic):
                await core.wait_for_topic(topic, remaining_ms)
            else:
                await core.wait_for_memory(remaining_ms)
        return future

    async def send_and_wait(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Sends a record and waits until it is written."""
        return await (await self.send(topic, value, key, headers, partition, timestamp_ms))

    async def flush(self, timeout: float | None = None) -> None:
        """As `Producer.flush`."""
        core = self._started()
        pending = core.begin_flush()
        try:
            async with asyncio.timeout(timeout):
                for future in pending:
                    await future.settled()
        except TimeoutError:
            raise KafkaTimeoutError(f"flush: records were still under way after {timeout} s") from None
        finally:
            core.end_flush()

    async def partitions_for(self, topic: str) -> set[int]:
        """As `Producer.partitions_for`."""
        core = self._started()
        if not core.knows(topic):
            await core.wait_for_topic(topic, self._config.max_block_ms)
        return core.partitions_for(topic) or set()

    async def close(self, timeout: float | None = None) -> None:
        """As `Producer.close`."""
        core = self._core
        if core is None or core.closed:
            return
        try:
            if timeout is None or timeout > 0:
                await self.flush(timeout)
        except KafkaTimeoutError:
            logger.warning("producer_closed_with_records_under_way timeout_s=%s", timeout)
        finally:
            await core.close(_closed_error())

    stop = close

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _started(self) -> ProducerCore:
        if self._core is None:
            raise IllegalStateError("the producer is not started: await start(), or use it in async with")
        if self._core.closed:
            raise IllegalStateError("the producer is closed")
        return self._core


async def _make_core(config: Any) -> ProducerCore:
    return ProducerCore(config)


def _closed_error() -> KafkaError:
    return IllegalStateError("the producer was closed before the record was acknowledged; its outcome is not known")


_open_producers: weakref.WeakSet[Producer] = weakref.WeakSet()


def _close_at_exit() -> None:
    for producer in list(_open_producers):
        try:
            producer.close(timeout=_EXIT_FLUSH_S)
        except KafkaError as error:
            logger.warning("producer_close_failed error=%s", error)


def _forget_after_fork() -> None:
    for producer in list(_open_producers):
        producer._core.forget_after_fork()
    _open_producers.clear()


atexit.register(_close_at_exit)
os.register_at_fork(after_in_child=_forget_after_fork)
