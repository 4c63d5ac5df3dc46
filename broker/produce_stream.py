"""One client's pipelined produce stream: requests are appended in the order they come, answers go out when ready.

Memory is bounded: at most `in_flight_max` requests are under way or answered but not yet sent. Past that the stream is
not read on, and the transport's own flow control holds the client back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from ..proto import broker_pb2
from ..proto.errors import ErrorCode
from .replica_manager import ProduceOutcome

logger = logging.getLogger(__name__)

Complaint = tuple[ErrorCode, str]


class ProduceStream:
    """Reads one stream with `read` and yields its answers from `responses`; `complaint` says why it ended early."""

    def __init__(
        self,
        *,
        check: Callable[[broker_pb2.ProduceRequest], Complaint | None],
        start: Callable[[broker_pb2.ProduceRequest], Awaitable[Sequence[ProduceOutcome]]],
        answer: Callable[[broker_pb2.ProduceRequest, Sequence[ProduceOutcome]], broker_pb2.ProduceResponse],
        in_flight_max: int,
    ) -> None:
        self._check = check
        self._start = start
        self._answer = answer
        self._slots = asyncio.Semaphore(in_flight_max)
        self._outbox: asyncio.Queue[broker_pb2.ProduceResponse | None] = asyncio.Queue()
        self._pending: set[asyncio.Future[Sequence[ProduceOutcome]]] = set()
        self._read_all = False
        self.complaint: Complaint | None = None

    async def read(self, requests: AsyncIterator[broker_pb2.ProduceRequest]) -> None:
        """Starts each request as it comes; returns when the client has no more, or sent one that makes no sense."""
        try:
            async for request in requests:
                self.complaint = self._check(request)
                if self.complaint:
                    break
                await self._slots.acquire()
                self._begin(request)
        finally:
            self._read_all = True
            self._end_if_idle()

    def _begin(self, request: broker_pb2.ProduceRequest) -> None:
        future = asyncio.ensure_future(self._start(request))
        # The records are on disk now; an answer needs only the names.
        for partition in request.partitions:
            partition.ClearField("records")
        self._pending.add(future)
        future.add_done_callback(lambda done: self._finish(request, done))

    def _finish(self, request: broker_pb2.ProduceRequest, future: asyncio.Future[Sequence[ProduceOutcome]]) -> None:
        self._pending.discard(future)
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._outbox.put_nowait(self._answer(request, future.result()))
        else:
            logger.error("produce_failed request_id=%d error=%r", request.request_id, error, exc_info=error)
            self.complaint = (ErrorCode.UNKNOWN_SERVER_ERROR, "the broker failed on this request; its log says more")
            self._outbox.put_nowait(None)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._read_all and not self._pending:
            self._outbox.put_nowait(None)

    async def responses(self) -> AsyncIterator[broker_pb2.ProduceResponse]:
        """Answers as they become ready, until the last; the next one is made only once this one was taken."""
        while (response := await self._outbox.get()) is not None:
            yield response
            self._slots.release()

    def end(self) -> None:
        """The broker stops: once what was read is answered, there is no more. A client takes what it sent since to
        another leader (rule 16).
        """
        self._read_all = True
        self._end_if_idle()

    def close(self) -> None:
        """The client is gone: nobody waits for these answers. What was appended stays."""
        for future in list(self._pending):
            future.cancel()
