"""AsyncConsumer: the consumer for asyncio."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from types import TracebackType
from typing import Any, Self

from ..proto.identifiers import TopicPartition
from .config import consumer_config
from .consumer_base import ConsumerBase, GivenOffsets, Partition, checked_times, hold, known, make_core
from .consumer_core import ConsumerCore, Polled
from .consumer_group import ConsumerGroup
from .group_offsets import CommitCallback
from .positions import EARLIEST, LATEST
from .rebalance import OnLoop, Steps
from .structs import ConsumerRecord, OffsetAndMetadata, OffsetAndTimestamp


class AsyncConsumer(ConsumerBase):
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
            self._core = await make_core(self._config, self._ready.set)
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
                if offsets := group.due_auto_commit():
                    group.offsets.auto_commit(offsets)
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
        await group.offsets.begin(self._to_commit(group, offsets), timeout_ms)
        await self._drive(group.rebalance.completed_commits())

    def commit_async(
        self, offsets: GivenOffsets | None = None, callback: CommitCallback | None = None
    ) -> asyncio.Task[None]:
        """As `Consumer.commit_async`."""
        group = self._group("commit_async")
        timeout_ms = self._config.default_api_timeout_ms
        return group.offsets.begin(self._to_commit(group, offsets), timeout_ms, group.commit_callback(callback))

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
        core = self._of_core()
        if core.group is not None:
            return asyncio.ensure_future(self._leave(core, core.group))
        core.unsubscribe()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def _leave(self, core: ConsumerCore, group: ConsumerGroup) -> None:
        try:
            await self._drive(group.close_steps("the consumer has unsubscribed", autocommit=True))
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
            for held in hold(core, polled):
                for record in held:
                    yield record

    async def position(self, partition: Partition, timeout_ms: float | None = None) -> int:
        """As `Consumer.position`."""
        timeout_ms = self._config.default_api_timeout_ms if timeout_ms is None else timeout_ms
        return await self._of_core().position(partition, timeout_ms)

    async def beginning_offsets(self, partitions: Collection[Partition]) -> dict[TopicPartition, int]:
        """As `Consumer.beginning_offsets`."""
        return known(await self._offsets({TopicPartition(*partition): EARLIEST for partition in partitions}))

    async def end_offsets(self, partitions: Collection[Partition]) -> dict[TopicPartition, int]:
        """As `Consumer.end_offsets`."""
        return known(await self._offsets({TopicPartition(*partition): LATEST for partition in partitions}))

    async def offsets_for_times(
        self, timestamps: Mapping[Partition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """As `Consumer.offsets_for_times`."""
        return await self._offsets(checked_times(timestamps))

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
