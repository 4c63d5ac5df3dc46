"""Consumer and AsyncConsumer: the same core, one for a thread, one for an event loop.

With a `group_id` a consumer shares the partitions of its topics with the other members of its group and commits
offsets; without one it reads every partition of its topics, or those that `assign` names, and keeps its positions to
itself.

    with Consumer("orders", group_id="billing", auto_offset_reset="earliest") as consumer:
        for record in consumer:
            print(record.partition, record.offset, record.value)
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import math
import os
import re
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Collection, Generator, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from ..proto.errors import IllegalStateError, KafkaError, WakeupError
from ..proto.identifiers import TopicPartition
from .config import ConsumerConfig, consumer_config
from .consumer_core import ConsumerCore, Polled
from .consumer_group import ConsumerGroup, offsets_given
from .group_offsets import CommitCallback
from .loop_thread import loop_thread
from .positions import EARLIEST, LATEST, PartitionPosition
from .rebalance import OnLoop, Steps
from .structs import (
    ConsumerGroupMetadata,
    ConsumerRebalanceListener,
    ConsumerRecord,
    OffsetAndMetadata,
    OffsetAndTimestamp,
)

logger = logging.getLogger(__name__)

Partition = TopicPartition | tuple[str, int]
GivenOffsets = Mapping[TopicPartition, OffsetAndMetadata | int]


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

    def subscribe(
        self,
        topics: Iterable[str] = (),
        pattern: str | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        """Reads these topics, or all whose name begins as the regular expression says, and no others, from now on.

        In a group the partitions come with the next calls of `poll`; the listener is told of each that comes and goes.

        :raises IllegalStateError: partitions were assigned by hand. :raises KafkaError: an argument is wrong.
        """
        core = self._of_core()
        names = [topics] if isinstance(topics, str) else list(topics)
        if bool(names) == (pattern is not None):
            raise KafkaError("subscribe: give topics or a pattern, one of them")
        for name in names:
            if not isinstance(name, str) or not name:
                raise KafkaError(f"subscribe: {name!r} is not a topic's name")
        if listener is not None and not all(
            callable(getattr(listener, method, None)) for method in ("on_partitions_revoked", "on_partitions_assigned")
        ):
            raise KafkaError(f"subscribe: {listener!r} is not a ConsumerRebalanceListener")
        try:
            compiled = None if pattern is None else re.compile(pattern)
        except re.error as error:
            raise KafkaError(f"subscribe: pattern {pattern!r} is not a regular expression: {error}") from None
        core.subscribe(names, compiled, listener)

    def subscription(self) -> set[str]:
        """The topics subscribed to; under a pattern, those that match now."""
        return set(self._of_core().subscribed)

    def group_metadata(self) -> ConsumerGroupMetadata:
        """The membership as it is; without a group, one that names none."""
        group = self._of_core().group
        return ConsumerGroupMetadata(None) if group is None else group.member.metadata

    consumer_group_metadata = group_metadata

    def wakeup(self) -> None:
        """From any thread: ends the `poll` under way, or the next one, with a WakeupError."""
        core = self._of_core()
        core.woken = True
        self._on_wakeup()

    def _on_wakeup(self) -> None:
        raise NotImplementedError

    def _check_wakeup(self, core: ConsumerCore) -> None:
        if core.woken:
            core.woken = False
            raise WakeupError("wakeup() was called")

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

    def _group(self, what: str) -> ConsumerGroup:
        group = self._of_core().group
        if group is None:
            raise IllegalStateError(f"{what}: the consumer has no group_id, and so no committed offsets")
        return group

    def _to_commit(self, group: ConsumerGroup, offsets: GivenOffsets | None) -> dict[TopicPartition, OffsetAndMetadata]:
        return group.offsets.consumed() if offsets is None else offsets_given(offsets)

    def _records_max(self, max_records: int | None) -> int:
        if max_records is None:
            return self._config.max_poll_records
        if isinstance(max_records, bool) or not isinstance(max_records, int) or max_records < 1:
            raise KafkaError(f"poll: max_records {max_records!r} is not a whole number from 1 on")
        return max_records

    def _check_assigned(self, core: ConsumerCore) -> None:
        if not core.positions and not core.is_subscribed:
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
        group = core.group
        if group is None:
            return self._poll(core, None, timeout_ms, records_max)
        group.poll_begins()
        try:
            return self._poll(core, group, timeout_ms, records_max)
        finally:
            group.poll_ends()

    def _poll(self, core: ConsumerCore, group: ConsumerGroup | None, timeout_ms: float, records_max: int) -> Polled:
        deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms > 0 else 0.0
        while True:
            self._check_wakeup(core)
            if group is not None:
                if group.has_work:
                    self._drive(group.poll_steps())
                group.maybe_auto_commit()
            polled = core.take(records_max)
            if polled or not deadline or (remaining := deadline - time.monotonic()) <= 0:
                return polled
            self._thread.check()
            self._wait(core, group, remaining)

    def _wait(self, core: ConsumerCore, group: ConsumerGroup | None, seconds: float) -> None:
        due = None if group is None else group.auto_commit_due_in_s()
        seconds = min(seconds, 3600) if due is None else min(seconds, due, 3600)
        with self._ready:
            self._ready.wait_for(lambda: core.has_data or (group is not None and group.has_work), seconds)

    def _on_wakeup(self) -> None:
        self._on_data()

    def _drive(self, steps: Steps) -> None:
        """Carries out steps: on the loop, waiting here for it, or in this thread."""
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration:
                return
            answer = error = None
            try:
                if isinstance(step, OnLoop):
                    answer = self._thread.run(step.call())
                else:
                    answer = step.function(*step.arguments)
                    if asyncio.iscoroutine(answer):
                        answer.close()
                        raise KafkaError(f"{step.function!r} is a coroutine function: only an AsyncConsumer awaits it")
            except Exception as failure:  # noqa: BLE001  # whose step it is decides, and raises what it does not expect
                error = failure

    def commit(self, offsets: GivenOffsets | None = None, timeout_ms: float | None = None) -> None:
        """Commits these offsets, or those of everything given out; returns when it is done.

            consumer.commit({TopicPartition("orders", 0): OffsetAndMetadata(record.offset + 1, "", None)})

        :raises CommitFailedError: the consumer is no member of its group's generation any more, or the group
            rebalances; `poll` takes part in that. :raises KafkaTimeoutError: no coordinator took it in time; whether it
            holds is not known. :raises IllegalStateError: there is no group_id.
        """
        group = self._group("commit")
        timeout_ms = self._config.default_api_timeout_ms if timeout_ms is None else timeout_ms
        self._thread.run(group.offsets.commit(self._to_commit(group, offsets), timeout_ms))
        self._drive(group.rebalance.completed_commits())

    def commit_async(self, offsets: GivenOffsets | None = None, callback: CommitCallback | None = None) -> Future[None]:
        """Begins to commit and returns at once.

        `callback(offsets, error)` is called by a later `poll`, `commit` or `close`, in their thread; `error` is None if
        all is well. Commits are carried out in the order in which they were asked for.
        """
        group = self._group("commit_async")
        given = self._to_commit(group, offsets)
        self._thread.check()
        timeout_ms = self._config.default_api_timeout_ms
        callback = group.commit_callback(callback)
        return asyncio.run_coroutine_threadsafe(
            group.offsets.commit_soon(given, callback, timeout_ms), self._thread.loop
        )

    def committed(
        self, partition: Partition, metadata: bool = False, timeout_ms: float | None = None
    ) -> int | OffsetAndMetadata | None:
        """The offset that the group has committed, with `metadata=True` all of it; None if it has committed none."""
        group = self._group("committed")
        timeout_ms = self._config.default_api_timeout_ms if timeout_ms is None else timeout_ms
        found = self._thread.run(group.committed(TopicPartition(*partition), timeout_ms))
        return found if found is None or metadata else found.offset

    def unsubscribe(self) -> None:
        """Reads nothing from now on; a member commits, under auto-commit, and leaves its group."""
        core = self._of_core()
        try:
            if core.group is not None:
                self._drive(core.group.close_steps("the consumer has unsubscribed", autocommit=True))
        finally:
            core.unsubscribe()

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

    def close(self, autocommit: bool = True, timeout_ms: float | None = None) -> None:
        """Stops reading; a member commits, under auto-commit, and leaves its group. Again: does nothing.

        A static member (`group_instance_id`) does not leave: within `session_timeout_ms` it may come back and find its
        partitions as they were. `timeout_ms` limits the commit. :raises KafkaError: a rebalance listener failed.
        """
        _open_consumers.discard(self)
        core = self._core
        if core.closed:
            return
        try:
            if core.group is not None:
                steps = core.group.close_steps("the consumer closes", autocommit=autocommit, timeout_ms=timeout_ms)
                self._drive(steps)
        finally:
            self._thread.run(core.close())

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
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Binds the consumer to the running event loop."""
        if self._core is None:
            self._ready = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            self._core = await _make_core(self._config, self._ready.set)
            await self._core.begin(self._topics)

    async def poll(self, timeout_ms: float = 0, max_records: int | None = None) -> Polled:
        """As `Consumer.poll`."""
        core = self._of_core()
        self._check_assigned(core)
        records_max = self._records_max(max_records)
        group = core.group
        if group is None:
            return await self._poll(core, None, timeout_ms, records_max)
        group.poll_begins()
        try:
            return await self._poll(core, group, timeout_ms, records_max)
        finally:
            group.poll_ends()

    async def _poll(
        self, core: ConsumerCore, group: ConsumerGroup | None, timeout_ms: float, records_max: int
    ) -> Polled:
        assert self._ready is not None
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            self._ready.clear()
            self._check_wakeup(core)
            if group is not None:
                if group.has_work:
                    await self._drive(group.poll_steps())
                group.maybe_auto_commit()
            polled = core.take(records_max)
            remaining = deadline - time.monotonic()
            if polled or remaining <= 0:
                return polled
            if not core.has_data and (group is None or not group.has_work):
                due = None if group is None else group.auto_commit_due_in_s()
                try:
                    async with asyncio.timeout(remaining if due is None else min(remaining, due)):
                        await self._ready.wait()
                except TimeoutError:
                    continue

    def _on_wakeup(self) -> None:
        assert self._ready is not None and self._loop is not None
        self._loop.call_soon_threadsafe(self._ready.set)

    async def _drive(self, steps: Steps) -> None:
        """As `Consumer._drive`; what a user's function gives is awaited where it can be."""
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration:
                return
            answer = error = None
            try:
                answer = await step.call() if isinstance(step, OnLoop) else step.function(*step.arguments)
                if not isinstance(step, OnLoop) and inspect.isawaitable(answer):
                    answer = await answer
            except Exception as failure:  # noqa: BLE001  # whose step it is decides, and raises what it does not expect
                error = failure

    async def commit(self, offsets: GivenOffsets | None = None, timeout_ms: float | None = None) -> None:
        """As `Consumer.commit`."""
        group = self._group("commit")
        timeout_ms = self._config.default_api_timeout_ms if timeout_ms is None else timeout_ms
        given = self._to_commit(group, offsets)
        await asyncio.sleep(0)  # what commit_async has begun comes first
        await group.offsets.commit(given, timeout_ms)
        await self._drive(group.rebalance.completed_commits())

    def commit_async(
        self, offsets: GivenOffsets | None = None, callback: CommitCallback | None = None
    ) -> asyncio.Task[None]:
        """As `Consumer.commit_async`."""
        group = self._group("commit_async")
        begun = group.offsets.commit_soon(
            self._to_commit(group, offsets), group.commit_callback(callback), self._config.default_api_timeout_ms
        )
        return group.offsets.keep(begun)

    async def committed(
        self, partition: Partition, metadata: bool = False, timeout_ms: float | None = None
    ) -> int | OffsetAndMetadata | None:
        """As `Consumer.committed`."""
        group = self._group("committed")
        timeout_ms = self._config.default_api_timeout_ms if timeout_ms is None else timeout_ms
        found = await group.committed(TopicPartition(*partition), timeout_ms)
        return found if found is None or metadata else found.offset

    def unsubscribe(self) -> Awaitable[None]:
        """As `Consumer.unsubscribe`; in a group, await it. Without one, it is done at once."""
        return asyncio.ensure_future(self._unsubscribe())

    async def _unsubscribe(self) -> None:
        core = self._of_core()
        try:
            if core.group is not None:
                await self._drive(core.group.close_steps("the consumer has unsubscribed", autocommit=True))
        finally:
            core.unsubscribe()

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

    async def close(self, autocommit: bool = True, timeout_ms: float | None = None) -> None:
        """As `Consumer.close`."""
        core = self._core
        if core is None or core.closed:
            return
        try:
            if core.group is not None:
                steps = core.group.close_steps("the consumer closes", autocommit=autocommit, timeout_ms=timeout_ms)
                await self._drive(steps)
        finally:
            await core.close()

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
            position.position_epoch = None
    return held


def _one_by_one(
    core: ConsumerCore, position: PartitionPosition, records: list[ConsumerRecord], moves: int, end: int | None
) -> Generator[ConsumerRecord, None, None]:
    """The records, with `position` in step. A seek or a new assignment meanwhile drops those that are left."""
    for record in records:
        if position.moves != moves or core.positions.get(position.topic_partition) is not position:
            return
        position.position = record.offset + 1
        position.position_epoch = record.leader_epoch
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
