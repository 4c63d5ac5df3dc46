"""The leader's end of replication streams: service Replication, one `LeaderSession` for each follower's stream.

A stream that has nothing to say costs nothing: its sender sleeps until a partition wakes it. What a follower does not
take stays in the log, not in memory: the next message is made only when the last one was taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc.aio

from ...cluster.clock import Clock
from ...proto import replication_pb2_grpc
from ...proto.errors import ErrorCode
from ...proto.identifiers import BrokerEpoch, BrokerId
from ...proto.replication_pb2 import ReplicaFetchRequest, ReplicaFetchResponse
from .leader_session import LeaderSession

if TYPE_CHECKING:
    from ..leader_replica import PartitionKey
    from ..partition import Partition

logger = logging.getLogger(__name__)

LAZY_DELAY_MS: Final = 50
"""How long a high watermark waits for records to ride on."""

SERVER_OPTIONS: Final = (
    # Followers ping on idle streams, and so do we: a peer that was stopped or cut off must not keep a stream forever.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)
"""For the gRPC server that this service is added to."""


class ServerStream(Protocol):
    """The leader's end of one stream."""

    async def read(self) -> ReplicaFetchRequest | None:
        """The next message; None once the follower is gone."""

    async def write(self, response: ReplicaFetchResponse, /) -> None:
        """Returns once the transport has taken the message."""


class _OpenStream:
    """One follower's stream while it is open."""

    def __init__(self, stream: ServerStream) -> None:
        self.stream: Final = stream
        self.session: LeaderSession | None = None
        self.ended: ErrorCode | None = None
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        self._news.set()

    def wake_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LAZY_DELAY_MS / 1000, self._release)

    def _release(self) -> None:
        self._timer = None
        if self.session is not None:
            self.session.release_lazy()

    def end(self, error: ErrorCode) -> None:
        """The sender stops, with this as its last word."""
        self.ended = error
        self.wake()

    async def send(self, session: LeaderSession) -> None:
        """Sends whatever there is to say, until `end`."""
        while self.ended is None:
            await self._news.wait()
            self._news.clear()
            while self.ended is None and (response := session.next_response()) is not None:
                await self.stream.write(response)
        if self.ended is not ErrorCode.NONE:
            await self.stream.write(ReplicaFetchResponse(error_code=self.ended))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.session is not None:
            self.session.close()


class ReplicationStreams:
    """Every follower's stream to this broker, whatever carries it."""

    def __init__(
        self,
        partitions: Mapping[PartitionKey, Partition],
        clock: Clock,
        registered_epoch: Callable[[BrokerId], BrokerEpoch | None],
    ) -> None:
        """`registered_epoch` is a broker's epoch as the metadata has it; None if it knows no such broker yet."""
        self._partitions = partitions
        self._clock = clock
        self._registered_epoch = registered_epoch
        self._open: dict[BrokerId, _OpenStream] = {}

    async def serve(self, stream: ServerStream) -> None:
        """Serves one stream until it ends."""
        first = await stream.read()
        if first is None:
            return
        broker_id, broker_epoch = BrokerId(first.broker_id), BrokerEpoch(first.broker_epoch)
        open_stream = _OpenStream(stream)
        before = self._open.get(broker_id)
        if self._is_stale(broker_id, broker_epoch) or (
            before is not None and before.session is not None and before.session.broker_epoch > broker_epoch
        ):
            await stream.write(ReplicaFetchResponse(error_code=ErrorCode.STALE_BROKER_EPOCH))
            return
        if before is not None:
            # A follower has one stream; what the older one still says is of the past.
            before.close()
            before.end(ErrorCode.NONE)
        session = LeaderSession(
            broker_id,
            broker_epoch,
            partitions=self._partitions,
            clock=self._clock,
            wake=open_stream.wake,
            wake_later=open_stream.wake_later,
        )
        open_stream.session = session
        self._open[broker_id] = open_stream
        logger.info("replica_stream_opened follower=%d broker_epoch=%d", broker_id, broker_epoch)
        try:
            session.receive(first)
            await _until_first_ends(self._receive(open_stream, session), open_stream.send(session))
        finally:
            open_stream.close()
            if self._open.get(broker_id) is open_stream:
                del self._open[broker_id]
            logger.info("replica_stream_closed follower=%d broker_epoch=%d", broker_id, broker_epoch)

    async def _receive(self, open_stream: _OpenStream, session: LeaderSession) -> None:
        while open_stream.ended is None:
            request = await open_stream.stream.read()
            if request is None:
                return
            if open_stream.ended is None:
                session.receive(request)

    def _is_stale(self, broker_id: BrokerId, broker_epoch: BrokerEpoch) -> bool:
        registered = self._registered_epoch(broker_id)
        return registered is not None and registered > broker_epoch

    def metadata_changed(self) -> None:
        """Followers of an older registration are turned away; positions that were ahead of us are looked at again."""
        for broker_id, open_stream in tuple(self._open.items()):
            session = open_stream.session
            if session is None:
                continue
            if self._is_stale(broker_id, session.broker_epoch):
                session.close()
                open_stream.end(ErrorCode.STALE_BROKER_EPOCH)
            else:
                session.metadata_changed()

    def close(self) -> None:
        """This broker stops leading anything."""
        for open_stream in tuple(self._open.values()):
            open_stream.end(ErrorCode.NONE)


async def _until_first_ends(*work: Awaitable[None]) -> None:
    """Runs both until one ends, then stops the other; raises what the one raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


class _GrpcServerStream:
    """A stream over gRPC."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context

    async def read(self) -> ReplicaFetchRequest | None:
        message = await self._context.read()
        return message if isinstance(message, ReplicaFetchRequest) else None

    async def write(self, response: ReplicaFetchResponse, /) -> None:
        await self._context.write(response)


class ReplicationServicer(replication_pb2_grpc.ReplicationServicer):
    """Service Replication over gRPC."""

    def __init__(self, streams: ReplicationStreams) -> None:
        self._streams = streams

    async def Replicate(  # type: ignore[override]  # the stub knows generators only; grpc.aio serves both forms
        self, request_iterator: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        await self._streams.serve(_GrpcServerStream(context))
