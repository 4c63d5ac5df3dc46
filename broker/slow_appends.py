"""Appends that cannot be done at once: the batch must be prepared first, or another one of its partition is at that.

Those of one partition are done in the order in which they came, so a producer's batches stay in theirs, and no sequence
seems to be missing that only waits for its turn (rule 17). Partitions do not wait for one another. All that was checked
when a batch came is checked again when it is appended (rules 11 and 15).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ..proto.errors import ErrorCode, KafkaError, NotLeaderOrFollowerError
from ..proto.identifiers import Offset, TopicId
from .batch_preparation import BatchPreparation, PreparedBatch, UnpreparedBatch
from .partition_request import PartitionProduce, ProduceOutcome

if TYPE_CHECKING:
    from .leader_replica import LeaderReplica

logger = logging.getLogger(__name__)

ABANDONED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Batches whose producer is gone, and wanted no answer, are still appended while no more than so much waits in all."""

Wait = tuple[int, "LeaderReplica", Offset]
"""A place in a produce request, and what the ack of what stands there waits for."""
Appended = tuple[ProduceOutcome, "LeaderReplica | None", Offset | None]
"""The outcome so far, and under acks=all what to wait for, unless that is reached already."""
Outcomes = list[ProduceOutcome]


class Appender(Protocol):
    """What the replica manager does for it."""

    def append_one(
        self, request: PartitionProduce, acks: int, prepared: PreparedBatch | None
    ) -> Appended | UnpreparedBatch:
        """Appends now, after all checks."""

    def refusal(self, error: KafkaError) -> ProduceOutcome:
        """What is told of a batch that cannot be taken."""

    def wait_for_isr(
        self, outcomes: Outcomes, waits: Sequence[Wait], timeout_ms: int, future: asyncio.Future[Outcomes]
    ) -> None:
        """`future` brings `outcomes` once their acks are due."""

    def topic_id_of(self, topic: str, partition: int) -> TopicId | None:
        """Of the replica that has this name now."""


class SlowRequest:
    """One produce request of which some appends have to wait; `future` brings its outcomes once all is decided."""

    def __init__(self, appender: Appender, outcomes: Outcomes, acks: int, timeout_ms: int) -> None:
        self.future: Final[asyncio.Future[Outcomes]] = asyncio.get_running_loop().create_future()
        self.acks: Final = acks
        self._appender = appender
        self._outcomes = outcomes
        self._timeout_ms = timeout_ms
        self._left = 0

    def expect(self) -> None:
        """There is one more to be decided."""
        self._left += 1

    def _one_less(self, _: object = None) -> None:
        self._left -= 1
        if not self._left and not self.future.done():
            self.future.set_result(self._outcomes)

    def wait_for_isr(self, waits: Sequence[Wait]) -> None:
        """What was expected is appended, and waits for its acks."""
        waited: asyncio.Future[Outcomes] = asyncio.get_running_loop().create_future()
        waited.add_done_callback(self._one_less)
        self._appender.wait_for_isr(self._outcomes, waits, self._timeout_ms, waited)

    def decide(self, index: int, appended: Appended) -> None:
        """What was expected is appended, or refused."""
        self._outcomes[index], leader, required = appended
        if leader is None or required is None:
            self._one_less()
        else:
            self.wait_for_isr([(index, leader, required)])

    def fail(self, error: Exception) -> None:
        """A bug: nobody knows the outcome."""
        if not self.future.done():
            self.future.set_exception(error)


class SlowAppend:
    """One batch of a request."""

    __slots__ = ("_appender", "_index", "_request", "_topic_id", "_whole", "size")

    def __init__(self, appender: Appender, whole: SlowRequest, index: int, request: PartitionProduce) -> None:
        self._appender = appender
        self._whole = whole
        self._index = index
        self._request = request
        self._topic_id = appender.topic_id_of(request.topic, request.partition)
        self.size = len(request.records)
        whole.expect()

    def is_wanted(self, waiting_bytes: int) -> bool:
        """Who is gone gets no answer. Who wants none has reason to think that all is done that was sent."""
        return not self._whole.future.cancelled() or (self._whole.acks == 0 and waiting_bytes <= ABANDONED_BYTES_MAX)

    def append(self, prepared: PreparedBatch | None) -> UnpreparedBatch | None:
        """None: it is done, or refused."""
        request = self._request
        if request.topic_id is None and self._appender.topic_id_of(request.topic, request.partition) != self._topic_id:
            gone = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION  # another topic has the name by now
            self._whole.decide(self._index, (ProduceOutcome(gone, gone.message), None, None))
            return None
        appended = self._appender.append_one(request, self._whole.acks, prepared)
        if isinstance(appended, UnpreparedBatch):
            return appended
        self._whole.decide(self._index, appended)
        return None

    def refuse(self, error: KafkaError) -> None:
        self._whole.decide(self._index, (self._appender.refusal(error), None, None))

    def fail(self, error: Exception) -> None:
        """A bug."""
        self._whole.fail(error)


class SlowAppends:
    """Of one broker. `in` says whether an append to the partition of this name would have to wait for its turn."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._preparation = BatchPreparation()
        self._queues: dict[tuple[str, int], deque[SlowAppend]] = {}
        self.any = False  # cheaper to ask than `in`, at each append
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0  # of what waits
        self._closing = False

    def __contains__(self, name: tuple[str, int]) -> bool:
        return name in self._queues

    def add(
        self,
        slow: Sequence[tuple[int, PartitionProduce]],
        outcomes: Outcomes,
        waits: Sequence[Wait],
        acks: int,
        timeout_ms: int,
    ) -> asyncio.Future[Outcomes]:
        """To be appended after all that were added before for the same partitions: the `slow` ones of a request, each
        with its place in `outcomes`. The others of the request are appended, and wait for `waits`.
        """
        whole = SlowRequest(self._appender, outcomes, acks, timeout_ms)
        appends = [SlowAppend(self._appender, whole, index, request) for index, request in slow]
        if waits:
            whole.expect()
        for append, (_, request) in zip(appends, slow, strict=True):
            if self._closing:
                append.refuse(_stops())
            else:
                self._enqueue((request.topic, request.partition), append)
        if waits:
            whole.wait_for_isr(waits)
        return whole.future

    def _enqueue(self, name: tuple[str, int], append: SlowAppend) -> None:
        self._bytes += append.size
        queue = self._queues.get(name)
        if queue is not None:
            queue.append(append)
            return
        queue = self._queues[name] = deque([append])
        self.any = True
        task = asyncio.get_running_loop().create_task(self._work_off(name, queue), name=f"append-{name[0]}-{name[1]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_off(self, name: tuple[str, int], queue: deque[SlowAppend]) -> None:
        # Without a pause between those that need no preparation: they may come faster than the event loop turns.
        while queue:
            append = queue[0]
            try:
                await self._do(append)
            except KafkaError as error:
                append.refuse(error)
            except Exception as error:  # the outermost loop of the task: whoever sent it is told
                logger.exception("append_failed partition=%s-%d", *name)
                append.fail(error)
            queue.popleft()
            self._bytes -= append.size
        del self._queues[name]
        self.any = bool(self._queues)

    async def _do(self, append: SlowAppend) -> None:
        prepared: PreparedBatch | None = None
        while append.is_wanted(self._bytes):
            unprepared = append.append(prepared)
            if unprepared is None:
                return
            prepared = await self._preparation.prepare(unprepared)

    async def shutdown(self) -> None:
        """The broker stops: what still waits is not appended here, nor is what comes from now on."""
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for queue in self._queues.values():
            for append in queue:
                append.refuse(_stops())
        self._queues.clear()
        self.any = False


def _stops() -> KafkaError:
    return NotLeaderOrFollowerError("the broker stops")
