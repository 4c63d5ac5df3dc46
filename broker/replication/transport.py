"""How a follower reaches leaders: the seam that tests and the simulation stand in for, and gRPC behind it."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from ...cluster.broker import Endpoint
from ...proto.errors import NetworkError
from ...proto.identifiers import GRPC_MESSAGE_BYTES_MAX
from ...proto.replication_pb2 import ReplicaFetchRequest, ReplicaFetchResponse
from ...proto.replication_pb2_grpc import ReplicationStub

CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
    # Each stream has a channel of its own; the fetcher decides when to try again, not gRPC. The least back-off is also
    # the time that one attempt to connect may take, so it must not be short where a machine is busy.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A leader that was stopped or cut off without a word is noticed within this time.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
)


class ReplicaStream(Protocol):
    """The follower's end of one stream. Every call raises NetworkError once the stream is broken."""

    async def connected(self) -> None:
        """Returns once the leader can be reached: before, it is not worth saying anything."""

    async def write(self, request: ReplicaFetchRequest, /) -> None: ...

    async def read(self) -> ReplicaFetchResponse: ...

    async def close(self) -> None:
        """Ends the stream; never raises."""


class ReplicaTransport(Protocol):
    """Opens streams to leaders."""

    def open(self, endpoint: Endpoint) -> ReplicaStream: ...


class _GrpcReplicaStream:
    """One stream over a channel of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._channel = grpc.aio.insecure_channel(str(endpoint), options=CHANNEL_OPTIONS)
        stub: Any = ReplicationStub(self._channel)  # the channel decides whether calls are awaited
        self._call = stub.Replicate()

    async def connected(self) -> None:
        try:
            await self._call.wait_for_connection()
        except grpc.aio.AioRpcError as error:
            raise NetworkError(_reason(error)) from error

    async def write(self, request: ReplicaFetchRequest, /) -> None:
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise NetworkError(_reason(error)) from error

    async def read(self) -> ReplicaFetchResponse:
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise NetworkError(_reason(error)) from error
        if not isinstance(message, ReplicaFetchResponse):
            raise NetworkError("the leader ended the stream")
        return message

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()


class GrpcReplicaTransport:
    """Streams over gRPC."""

    def open(self, endpoint: Endpoint) -> ReplicaStream:
        return _GrpcReplicaStream(endpoint)


def _reason(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
