"""Raft messages over gRPC: one stream to each other controller, and the service that takes theirs.

A stream carries one sender's messages, in order; answers travel on the receiver's own stream. Raft copes with loss, so
nothing waits: a message to a peer that is away, or whose queue is full, is dropped. A stream that broke is opened anew
after a wait that doubles, up to a bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import grpc
from grpc import aio

from ..proto.identifiers import GRPC_MESSAGE_BYTES_MAX, NodeId
from ..proto.raft_pb2 import RaftMessage, RaftStreamEnd
from ..proto.raft_pb2_grpc import RaftServicer, RaftStub

logger = logging.getLogger(__name__)

QUEUE_MESSAGES_MAX: Final = 10_000
_QUEUE_BYTES_MAX: Final = 256 * 1024 * 1024
_RECONNECT_MS_FIRST: Final = 50
_RECONNECT_MS_MAX: Final = 1000
_CONNECT_TIMEOUT_S: Final = 2.0
_CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS_FIRST),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS_MAX),
    # A connection through a network that swallows packets is given up, instead of being retried ever more seldom.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcRaftTransport(RaftServicer):
    """`RaftTransport` over gRPC. Add it to a server with `add_RaftServicer_to_server` before the server starts."""

    def __init__(self, *, node_id: NodeId, voters: Mapping[NodeId, tuple[str, int]]) -> None:
        self._node_id = node_id
        self._peers = {peer: Peer(peer, host, port) for peer, (host, port) in voters.items() if peer != node_id}
        self._cluster_token: str | None = None
        self._on_message: Callable[[NodeId, RaftMessage], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(
        self,
        cluster_token: str,
        on_message: Callable[[NodeId, RaftMessage], None],
        on_connection: Callable[[NodeId, bool], None],
    ) -> None:
        """Begins to carry messages; the calls come on this loop."""
        self._cluster_token = cluster_token
        self._on_message = on_message
        for peer in self._peers.values():
            self._tasks.append(asyncio.create_task(peer.run(on_connection), name=f"raft-to-{peer.node_id}"))

    async def stop(self) -> None:
        """Ends the streams; what is queued is lost. Idempotent."""
        self._on_message = None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def send(self, node_id: NodeId, message: RaftMessage) -> None:
        """Queues a message; drops it where the peer is away or does not keep up."""
        message.cluster_token = self._cluster_token or ""
        self._peers[node_id].send(message)

    def is_connected(self, node_id: NodeId) -> bool:
        """True if a stream to the peer is open."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.connected

    async def Exchange(
        self, request_iterator: AsyncIterator[RaftMessage], context: aio.ServicerContext[RaftMessage, RaftStreamEnd]
    ) -> RaftStreamEnd:
        """Takes another controller's messages until its stream ends."""
        if self._on_message is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this controller does not take part in a quorum (yet)")
        await context.send_initial_metadata(())
        async for message in request_iterator:
            if message.cluster_token != self._cluster_token or message.sender_id not in self._peers:
                logger.error(
                    "raft_message_refused sender=%d quorum=%s own_quorum=%s",
                    message.sender_id,
                    message.cluster_token,
                    self._cluster_token,
                )
                await context.abort(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"controller {message.sender_id} of quorum {message.cluster_token!r} is no voter of this quorum",
                )
            if self._on_message is None:
                break
            self._on_message(NodeId(message.sender_id), message)
        return RaftStreamEnd()


class Peer:
    """The stream to one other controller."""

    def __init__(self, node_id: NodeId, host: str, port: int) -> None:
        self.node_id = node_id
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.connected = False
        self._queue: deque[RaftMessage] = deque()
        self._queue_bytes = 0
        self._dropping = False
        self._wake = asyncio.Event()

    @property
    def queued(self) -> int:
        """Messages that wait."""
        return len(self._queue)

    def send(self, message: RaftMessage) -> None:
        """Queues or drops."""
        if not self.connected:
            return
        size = message.ByteSize()
        if len(self._queue) >= QUEUE_MESSAGES_MAX or self._queue_bytes + size > _QUEUE_BYTES_MAX:
            if not self._dropping:
                logger.warning("raft_message_dropped peer=%d queued_bytes=%d", self.node_id, self._queue_bytes)
            self._dropping = True
            return
        self._dropping = False
        self._queue.append(message)
        self._queue_bytes += size
        self._wake.set()

    async def run(self, on_connection: Callable[[NodeId, bool], None]) -> None:
        """Keeps a stream open until cancelled."""
        wait_ms = _RECONNECT_MS_FIRST
        async with aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS) as channel:
            stub = RaftStub(channel)
            while True:
                call: Any = stub.Exchange()
                try:
                    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                        await call.wait_for_connection()
                        await call.initial_metadata()
                    wait_ms = _RECONNECT_MS_FIRST
                    self._set_connected(True, on_connection)
                    await self._carry(call)
                except (aio.AioRpcError, aio.UsageError, asyncio.InvalidStateError, TimeoutError) as error:
                    if self.connected:
                        logger.info("raft_stream_broken peer=%d error=%s", self.node_id, _brief(error))
                finally:
                    call.cancel()
                    self._set_connected(False, on_connection)
                await asyncio.sleep(wait_ms / 1000)
                wait_ms = min(2 * wait_ms, _RECONNECT_MS_MAX)

    async def _carry(self, call: Any) -> None:
        """Writes what is queued until the stream breaks; a break shows at once, also with nothing to write."""
        call.add_done_callback(lambda _: self._wake.set())
        while not call.done():
            while self._queue:
                message = self._queue.popleft()
                self._queue_bytes -= message.ByteSize()
                await call.write(message)
            self._wake.clear()
            if not self._queue and not call.done():
                await self._wake.wait()
        await call  # raises what broke it

    def _set_connected(self, connected: bool, on_connection: Callable[[NodeId, bool], None]) -> None:
        if connected == self.connected:
            return
        self.connected = connected
        self._queue.clear()
        self._queue_bytes = 0
        on_connection(self.node_id, connected)


def _brief(error: BaseException) -> str:
    return error.code().name if isinstance(error, aio.AioRpcError) else type(error).__name__
