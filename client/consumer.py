"""Consumer and AsyncConsumer: the same core, one for a thread, one for an event loop.

There are no consumer groups yet: a consumer reads every partition of its topics, or those that `assign` names, and
keeps its positions to itself. `group_id`, `commit` and `committed` come with groups; asking for one is an error that
says so.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Collection, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from ..proto.errors import IllegalStateError, KafkaError, UnsupportedVersionError
from ..proto.identifiers import TopicPartition
from .config import ConsumerConfig, consumer_config
from .consumer_core import ConsumerCore, Polled
from .loop_thread import loop_thread
from .positions import EARLIEST, LATEST, PartitionPosition
from .structs import ConsumerRecord, OffsetAndTimestamp

logger = logging.getLogger(__name__)

Partition = TopicPartition | tuple[str, int]
_NO_GROUPS: Final = "this version has no consumer groups yet, and so no committed offsets"


class _ConsumerBase:
    """What needs no waiting and is the same for both."""

    _config: ConsumerConfig
    _core: ConsumerCore | None

    def _of_core(self) -> ConsumerCore:
        core = self._core
        if core is None:
            raise IllegalStateError("the consumer is not started: await start(), or use it in async with")
        if core.closed:
            raise IllegalStateError("the consumer is closed")
        return core

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Reads these partitions, and no others, from now on."""
        self._of_core().assign(partitions)

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read now."""
        return set(self._of_core().positions)

    def subscribe(self, topics: Iterable[str]) -> None:
        """Reads every partition of these topics, and no others, from now on."""
        core = self._of_core()
        core.subscribe([topics] if isinstance(topics, str) else topics)

    def subscription(self) -> set[str]:
        """The topics subscribed to."""
        return set(self._of_core().subscribed)

    def unsubscribe(self) -> None:
        """Reads nothing from now on."""
        self._of_core().assign(())

    def seek(self, partition: Partition, offset: int) -> None:
        """Goes on at `offset`. :raises IllegalStateError: the partition is not assigned."""
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise KafkaError(f"seek: offset {offset!r} is not a whole number from 0 on")
        self._of_core().seek(partition, offset)

    def seek_to_beginning(self, *partitions: Partition) -> None:
        """Goes to the earliest offset of these partitions, or of all that are assigned."""
        core = self._of_core()
        for partition in partitions or list(core.positions):
            core.seek(partition, None, EARLIEST)

    def seek_to_end(self, *partitions: Partition) -> None:
        """Goes to the end of these partitions, or of all that are assigned."""
        core = self._of_core()
        for partition in partitions or list(core.positions):
            core.seek(partition, None, LATEST)

    def pause(self, *partitions: Partition) -> None:
        """Gives out nothing of these partitions until `resume`."""
        self._of_core().set_paused(partitions, True)

    def resume(self, *partitions: Partition) -> None:
        """Gives out records of these partitions again."""
        self._of_core().set_paused(partitions, False)

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return {known for known, position in list(self._of_core().positions.items()) if position.paused}

    def highwater(self, partition: Partition) -> int | None:
        """The high watermark as the last fetch told it; None before the first."""
        return self._of_core().of(partition).high_watermark

    def commit(self, *_: Any, **__: Any) -> NoReturn:
        """:raises UnsupportedVersionError: always, until there are groups."""
        raise UnsupportedVersionError(f"commit: {_NO_GROUPS}")

    def committed(self, *_: Any, **__: Any) -> NoReturn:
        """:raises UnsupportedVersionError: always, until there are groups."""
        raise UnsupportedVersionError(f"committed: {_NO_GROUPS}")

    def _records_max(self, max_records: int | None) -> int:
        if max_records is None:
            return self._config.max_poll_records
        if isinstance(max_records, bool) or not isinstance(max_records, int) or max_records < 1:
            raise KafkaError(f"poll: max_records {max_records!r} is not a whole number from 1 on")
        return max_records

    def _check_assigned(self, core: ConsumerCore) -> None:
        if not core.positions and not core.subscribed:
            raise IllegalStateError("nothing to read: name topics when making the consumer, or call assign()")


class Consumer(_ConsumerBase):
    """Reads records; for one thread at a time. Arguments are kafka-python's; see `config.py` for the defaults.

    `Consumer("topic")` reads every partition of the topic. Iterating never ends, unless `consumer_timeout_ms` is set.
    """

    def __init__(self, *topics: str, **arguments: Any) -> None:
        """:raises KafkaConfigurationError: names the argument that is wrong."""
        self._config = consumer_config(arguments)
        self._ready = threading.Condition()
        self._thread = loop_thread()
        self._iterator: Generator[ConsumerRecord, None, None] | None = None
        self._core: ConsumerCore = self._thread.run(_make_core(self._config, self._on_data))
        _open_consumers.add(self)
        if topics:
            self._thread.run(self._core.begin(topics))

    def _on_data(self) -> None:
        with self._ready:
            self._ready.notify_all()

    def poll(self, timeout_ms: float = 0, max_records: int | None = None) -> Polled:
        """Records by partition, in order: those here already, else the first to come within `timeout_ms`, else none.

        :raises OffsetOutOfRangeError: the position is not in the log and `auto_offset_reset` is "none".
        :raises CorruptRecordError: a batch is damaged; names partition and offset.
        """
        core = self._of_core()
        self._check_assigned(core)
        records_max = self._records_max(max_records)
        polled = core.take(records_max)
        if polled or timeout_ms <= 0:
            return polled
        self._thread.check()
        deadline = time.monotonic() + timeout_ms / 1000
        while not polled:
            with self._ready:
                remaining = deadline - time.monotonic()
                if not core.has_data and (remaining <= 0 or not self._wait(core, remaining)):
                    return {}
            polled = core.take(records_max)
            if not polled and time.monotonic() >= deadline:
                return {}
        return polled

    def _wait(self, core: ConsumerCore, seconds: float) -> bool:
        return self._ready.wait_for(lambda: core.has_data, min(seconds, 3600))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConsumerRecord:
        if self._iterator is None:
            self._iterator = self._records()
        try:
            return next(self._iterator)
        except BaseException:
            self._iterator = None
            raise

    def _records(self) -> Generator[ConsumerRecord, None, None]:
        core = self._of_core()
        timeout_ms = self._config.consumer_timeout_ms
        while True:
            polled = self.poll(timeout_ms=3_600_000 if math.isinf(timeout_ms) else timeout_ms)
            if not polled:
                if math.isinf(timeout_ms):
                    continue
                return
            for held in _hold(core, polled):
                yield from held

    def position(self, partition: Partition, timeout_ms: float | None = None) -> int:
        """The offset of the record that comes next. :raises KafkaTimeoutError: not known in that time."""
        timeout_ms = self._config.default_api_timeout_ms if timeout_ms is None else timeout_ms
        return self._thread.run(self._of_core().position(partition, timeout_ms))

    def beginning_offsets(self, partitions: Collection[Partition]) -> dict[TopicPartition, int]:
        """The earliest offset of each. :raises KafkaTimeoutError: a leader could not be reached."""
        return _known(self._offsets({TopicPartition(*partition): EARLIEST for partition in partitions}))

    def end_offsets(self, partitions: Collection[Partition]) -> dict[TopicPartition, int]:
        """The offset after the last record that may be read, of each."""
        return _known(self._offsets({TopicPartition(*partition): LATEST for partition in partitions}))

    def offsets_for_times(self, timestamps: Mapping[Partition, int]) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after each time, in ms since 1970; None where there is none."""
        return self._offsets(_checked_times(timestamps))

    def _offsets(self, timestamps: dict[TopicPartition, int]) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        return self._thread.run(self._of_core().offsets(timestamps, self._config.default_api_timeout_ms))

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """The topic's partitions; None if there is no such topic."""
        return self._thread.run(self._of_core().partitions_for_topic(topic))

    def topics(self) -> set[str]:
        """Every topic there is."""
        return self._thread.run(self._of_core().topics())

    def bootstrap_connected(self) -> bool:
        """True if a broker answers."""
        try:
            self._thread.run(self._of_core().cluster.refresh())
        except KafkaError:
            return False
        return True

    def close(self) -> None:
        """Stops reading. Again: does nothing."""
        _open_consumers.discard(self)
        if not self._core.closed:
            self._thread.run(self._core.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncConsumer(_ConsumerBase):
    """The same for asyncio: made anywhere, started and used on one event loop."""

    def __init__(self, *topics: str, **arguments: Any) -> None:
        """:raises KafkaConfigurationError: names the argument that is wrong."""
        self._config = consumer_config(arguments)
        self._topics = topics
        self._core: ConsumerCore | None = None
        self._ready: asyncio.Event | None = None

    async def start(self) -> None:
        """Binds the consumer to the running event loop."""
        if self._core is None:
            self._ready = asyncio.Event()
            self._core = await _make_core(self._config, self._ready.set)
            await self._core.begin(self._topics)

    async def poll(self, timeout_ms: float = 0, max_records: int | None = None) -> Polled:
        """As `Consumer.poll`."""
        core = self._of_core()
        self._check_assigned(core)
        records_max = self._records_max(max_records)
        assert self._ready is not None
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            self._ready.clear()
            polled = core.take(records_max)
            remaining = deadline - time.monotonic()
            if polled or remaining <= 0:
                return polled
            if not core.has_data:
                try:
                    async with asyncio.timeout(remaining):
                        await self._ready.wait()
                except TimeoutError:
                    return {}

    getmany = poll

    async def getone(self) -> ConsumerRecord:
        """The next record, whenever it comes."""
        while True:
            polled = await self.poll(timeout_ms=3_600_000, max_records=1)
            for records in polled.values():
                return records[0]

    async def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        core = self._of_core()
        timeout_ms = self._config.consumer_timeout_ms
        while True:
            polled = await self.poll(timeout_ms=3_600_000 if math.isinf(timeout_ms) else timeout_ms)
            if not polled and not math.isinf(timeout_ms):
                return
            for held in _hold(core, polled):
                for record in held:
                    yield record

    async def position(self, partition: Partition, timeout_ms: float | None = None) -> int:
        """As `Consumer.position`."""
        timeout_ms = self._config.default_api_timeout_ms if timeout_ms is None else timeout_ms
        return await self._of_core().position(partition, timeout_ms)

    async def beginning_offsets(self, partitions: Collection[Partition]) -> dict[TopicPartition, int]:
        """As `Consumer.beginning_offsets`."""
        return _known(await self._offsets({TopicPartition(*partition): EARLIEST for partition in partitions}))

    async def end_offsets(self, partitions: Collection[Partition]) -> dict[TopicPartition, int]:
        """As `Consumer.end_offsets`."""
        return _known(await self._offsets({TopicPartition(*partition): LATEST for partition in partitions}))

    async def offsets_for_times(
        self, timestamps: Mapping[Partition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """As `Consumer.offsets_for_times`."""
        return await self._offsets(_checked_times(timestamps))

    async def _offsets(self, timestamps: dict[TopicPartition, int]) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        return await self._of_core().offsets(timestamps, self._config.default_api_timeout_ms)

    async def partitions_for_topic(self, topic: str) -> set[int] | None:
        """As `Consumer.partitions_for_topic`."""
        return await self._of_core().partitions_for_topic(topic)

    async def topics(self) -> set[str]:
        """As `Consumer.topics`."""
        return await self._of_core().topics()

    async def close(self) -> None:
        """As `Consumer.close`."""
        if self._core is not None and not self._core.closed:
            await self._core.close()

    stop = close

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _hold(core: ConsumerCore, polled: Polled) -> list[Generator[ConsumerRecord, None, None]]:
    """Polled records to be given out one at a time: each partition's position goes back, to move with them again."""
    held = []
    for topic_partition, records in polled.items():
        position = core.positions.get(topic_partition)
        if position is not None:
            held.append(_one_by_one(core, position, records, position.moves, position.position))
            position.position = records[0].offset
    return held


def _one_by_one(
    core: ConsumerCore, position: PartitionPosition, records: list[ConsumerRecord], moves: int, end: int | None
) -> Generator[ConsumerRecord, None, None]:
    """The records, with `position` in step. A seek or a new assignment meanwhile drops those that are left."""
    for record in records:
        if position.moves != moves or core.positions.get(position.topic_partition) is not position:
            return
        position.position = record.offset + 1
        yield record
    if position.moves == moves:
        position.position = end


def _known(offsets: Mapping[TopicPartition, OffsetAndTimestamp | None]) -> dict[TopicPartition, int]:
    return {partition: found.offset for partition, found in offsets.items() if found is not None}


def _checked_times(timestamps: Mapping[Partition, int]) -> dict[TopicPartition, int]:
    for partition, timestamp in timestamps.items():
        if isinstance(timestamp, bool) or not isinstance(timestamp, int) or timestamp < 0:
            raise KafkaError(f"offsets_for_times: {timestamp!r} of {TopicPartition(*partition)} is not ms since 1970")
    return {TopicPartition(*partition): timestamp for partition, timestamp in timestamps.items()}


async def _make_core(config: ConsumerConfig, on_data: Any) -> ConsumerCore:
    return ConsumerCore(config, on_data)


_open_consumers: weakref.WeakSet[Consumer] = weakref.WeakSet()


def _close_at_exit() -> None:
    for consumer in list(_open_consumers):
        try:
            consumer.close()
        except KafkaError as error:
            logger.warning("consumer_close_failed error=%s", error)


atexit.register(_close_at_exit)
os.register_at_fork(after_in_child=_open_consumers.clear)
