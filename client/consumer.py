"""Consumer: reads records from a thread. `async_consumer.py` has its twin for an event loop; the core is the same.

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
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Collection, Generator, Mapping
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Final, Self

from ..proto.errors import KafkaError
from ..proto.identifiers import TopicPartition
from .config import consumer_config
from .consumer_base import ConsumerBase, GivenOffsets, Partition, checked_times, hold, known, make_core
from .consumer_core import ConsumerCore, Polled
from .consumer_group import ConsumerGroup
from .group_offsets import CommitCallback
from .loop_thread import loop_thread
from .positions import EARLIEST, LATEST
from .rebalance import OnLoop, Steps
from .structs import ConsumerRecord, OffsetAndMetadata, OffsetAndTimestamp

logger = logging.getLogger(__name__)

_AT_EXIT_TIMEOUT_MS: Final = 2000
"""For the last commit of a consumer that was never closed: the cluster may be gone already."""


class Consumer(ConsumerBase):
    """Reads records; for one thread at a time. Arguments are kafka-python's; see `config.py` for the defaults.

    `Consumer("topic")` reads every partition of the topic. Iterating never ends, unless `consumer_timeout_ms` is set.
    """

    def __init__(self, *topics: str, **arguments: Any) -> None:
        """:raises KafkaConfigurationError: names the argument that is wrong."""
        self._config = consumer_config(arguments)
        self._ready = threading.Condition()
        self._thread = loop_thread()
        self._iterator: Generator[ConsumerRecord, None, None] | None = None
        self._core: ConsumerCore = self._thread.run(make_core(self._config, self._on_data))
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
                if offsets := group.due_auto_commit():
                    self._thread.loop.call_soon_threadsafe(group.offsets.auto_commit, offsets)
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
        self._begin_commit(group, self._to_commit(group, offsets), timeout_ms, None).result()
        self._drive(group.rebalance.completed_commits())

    def commit_async(self, offsets: GivenOffsets | None = None, callback: CommitCallback | None = None) -> Future[None]:
        """Begins to commit and returns at once.

        `callback(offsets, error)` is called by a later `poll`, `commit` or `close`, in their thread; `error` is None if
        all is well. Commits are carried out in the order in which they were asked for.
        """
        group = self._group("commit_async")
        given = self._to_commit(group, offsets)
        return self._begin_commit(group, given, self._config.default_api_timeout_ms, group.commit_callback(callback))

    def _begin_commit(
        self,
        group: ConsumerGroup,
        offsets: dict[TopicPartition, OffsetAndMetadata],
        timeout_ms: float,
        callback: CommitCallback | None,
    ) -> Future[None]:
        self._thread.check()
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()

        def done(task: asyncio.Task[None]) -> None:
            error = CancelledError() if task.cancelled() else task.exception()
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        # Straight on the loop, not by way of a coroutine: commits keep the order in which they were asked for.
        self._thread.loop.call_soon_threadsafe(
            lambda: group.offsets.begin(offsets, timeout_ms, callback).add_done_callback(done)
        )
        return future

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
            for held in hold(core, polled):
                yield from held

    def position(self, partition: Partition, timeout_ms: float | None = None) -> int:
        """The offset of the record that comes next. :raises KafkaTimeoutError: not known in that time."""
        timeout_ms = self._config.default_api_timeout_ms if timeout_ms is None else timeout_ms
        return self._thread.run(self._of_core().position(partition, timeout_ms))

    def beginning_offsets(self, partitions: Collection[Partition]) -> dict[TopicPartition, int]:
        """The earliest offset of each. :raises KafkaTimeoutError: a leader could not be reached."""
        return known(self._offsets({TopicPartition(*partition): EARLIEST for partition in partitions}))

    def end_offsets(self, partitions: Collection[Partition]) -> dict[TopicPartition, int]:
        """The offset after the last record that may be read, of each."""
        return known(self._offsets({TopicPartition(*partition): LATEST for partition in partitions}))

    def offsets_for_times(self, timestamps: Mapping[Partition, int]) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after each time, in ms since 1970; None where there is none."""
        return self._offsets(checked_times(timestamps))

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


_open_consumers: weakref.WeakSet[Consumer] = weakref.WeakSet()


def _close_at_exit() -> None:
    for consumer in list(_open_consumers):
        try:
            consumer.close(timeout_ms=_AT_EXIT_TIMEOUT_MS)
        except KafkaError as error:
            logger.warning("consumer_close_failed error=%s", error)


atexit.register(_close_at_exit)
os.register_at_fork(after_in_child=_open_consumers.clear)
