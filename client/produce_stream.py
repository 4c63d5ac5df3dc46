"""One broker's produce stream: requests go out in order and many at once, each answer finds its request by its id.

A stream that breaks, or that leaves a request without an answer for `request_timeout_ms`, is given up as a whole: what
was under way on it has an unknown outcome (rule 16). The next request opens a new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import grpc.aio

from ..proto.broker_pb2 import PartitionProduceResponse, ProduceRequest, ProduceResponse
from ..proto.errors import KafkaError, NetworkError, RequestTimedOutError
from ..proto.identifiers import TopicPartition
from .metadata_cache import BrokerAddress
from .partition_queue import PartitionQueue
from .producer_batch import ProducerBatch
from .system_clock import SystemClock
from .transport import Channels, translate

logger = logging.getLogger(__name__)


class SentBatch(NamedTuple):
    """A batch as it went out; `attempt` tells a late answer from one to the latest try."""

    queue: PartitionQueue
    batch: ProducerBatch
    attempt: int


class SentRequest(NamedTuple):
    """A request without an answer yet."""

    sent_at_ms: int
    batches: dict[TopicPartition, SentBatch]


OnAnswer = Callable[[SentBatch, PartitionProduceResponse], None]
OnBroken = Callable[["ProduceStream", list[SentBatch], KafkaError], None]


class ProduceStream:
    """The stream to one broker; lives on the producer's event loop.

    States: idle (no call) -> open (a call, a reader) -> idle again when the call ends, however it ends.
    """

    def __init__(
        self,
        broker_id: int,
        channels: Channels,
        clock: SystemClock,
        *,
        on_answer: OnAnswer,
        on_broken: OnBroken,
        on_writable: Callable[[], None],
    ) -> None:
        self.broker_id = broker_id
        self.writing = False
        self.address: BrokerAddress | None = None  # of the call, where there is one
        self.retry_at_ms = 0  # set by the owner after a break
        self._channels = channels
        self._clock = clock
        self._on_answer = on_answer
        self._on_broken = on_broken
        self._on_writable = on_writable
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._requests: dict[int, SentRequest] = {}
        self._next_request_id = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def oldest_sent_at_ms(self) -> int | None:
        """When the request was sent that has waited longest; None if none waits."""
        return next(iter(self._requests.values())).sent_at_ms if self._requests else None

    def send(self, address: BrokerAddress, request: ProduceRequest, batches: list[SentBatch]) -> None:
        """Starts to write a request; `writing` stays true until the stream has taken it. Call only when it is false."""
        if self._call is None:
            self._open(address)
        self._next_request_id += 1
        request.request_id = self._next_request_id
        sent = {entry.batch.topic_partition: entry for entry in batches}
        self._requests[self._next_request_id] = SentRequest(self._clock.monotonic_ms(), sent)
        self.writing = True
        task = asyncio.get_running_loop().create_task(self._write(self._call, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def break_off(self, error: KafkaError) -> None:
        """Gives the stream up: everything on it has an unknown outcome."""
        call, self._call, self._reader = self._call, None, None
        self.writing = False
        self.address = None
        if call is not None:
            call.cancel()
        requests, self._requests = self._requests, {}
        self._on_broken(self, [entry for sent in requests.values() for entry in sent.batches.values()], error)

    def check_timeout(self, now_ms: int, request_timeout_ms: int) -> None:
        """Gives the stream up if its oldest request has waited too long."""
        oldest = self.oldest_sent_at_ms
        if oldest is not None and now_ms - oldest > request_timeout_ms:
            self.break_off(RequestTimedOutError(f"broker {self.broker_id} did not answer in {request_timeout_ms} ms"))

    async def close(self) -> None:
        """Ends the stream without a word to the owner."""
        call, self._call = self._call, None
        self._requests = {}
        tasks = [*self._tasks, *([self._reader] if self._reader is not None else [])]
        if call is not None:
            call.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self, address: BrokerAddress) -> None:
        self.address = address
        self._call = self._channels.stub(address).ProduceStream(wait_for_ready=False)
        self._reader = asyncio.get_running_loop().create_task(self._read(self._call))
        self._tasks.add(self._reader)
        self._reader.add_done_callback(self._tasks.discard)

    async def _write(self, call: Any, request: ProduceRequest) -> None:
        try:
            await call.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            self._ended(call, translate(error) if isinstance(error, grpc.RpcError) else None)
        else:
            if call is self._call:
                self.writing = False
                self._on_writable()

    async def _read(self, call: Any) -> None:
        error: KafkaError | None = None
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                self._answered(call, response)
            status = await call.code()
            if status is not grpc.StatusCode.OK:
                error = NetworkError(f"{status.name}: {await call.details()}")
        except grpc.RpcError as failure:
            error = translate(failure)
        self._ended(call, error)

    def _answered(self, call: Any, response: ProduceResponse) -> None:
        if call is not self._call:
            return
        sent = self._requests.pop(response.request_id, None)
        if sent is None:
            return
        for answer in response.partitions:
            entry = sent.batches.pop(TopicPartition(answer.topic, answer.partition), None)
            if entry is not None:
                self._on_answer(entry, answer)
        for entry in sent.batches.values():  # a broker that forgets a partition must not make it wait for ever
            missing = PartitionProduceResponse(error_code=RequestTimedOutError.error_code, base_offset=-1)
            self._on_answer(entry, missing)

    def _ended(self, call: Any, error: KafkaError | None) -> None:
        if call is self._call:
            self.break_off(error or NetworkError(f"broker {self.broker_id} ended the stream"))
