"""Replication streams between simulated brokers: in order, delayed, held up or broken, as a seed has it."""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random
from typing import TYPE_CHECKING, Generic, TypeVar

from klamm.cluster.broker import Endpoint
from klamm.proto.errors import NetworkError
from klamm.proto.identifiers import BrokerId
from klamm.proto.replication_pb2 import ReplicaFetchRequest, ReplicaFetchResponse

if TYPE_CHECKING:
    from harness.simulated_cluster import SimulatedCluster

T = TypeVar("T", ReplicaFetchRequest, ReplicaFetchResponse)


class _Pipe(Generic[T]):
    """One direction of a stream. Messages held up by a cut link come out, in order, when it is mended."""

    def __init__(self, stream: SimulatedStream, random: Random) -> None:
        self._stream = stream
        self._random = random
        self._under_way: deque[bytes] = deque()
        self._arrived: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._delivering = False

    def send(self, data: bytes) -> None:
        self._under_way.append(data)
        self.deliver()

    def deliver(self) -> None:
        if self._under_way and not self._delivering and self._stream.linked:
            self._delivering = True
            delay_ms = self._random.choice(self._stream.delays_ms)
            asyncio.get_running_loop().call_later(delay_ms / 1000, self._arrive)

    def _arrive(self) -> None:
        self._delivering = False
        if self._stream.linked and self._under_way:
            self._arrived.append(self._under_way.popleft())
            self._news.set()
        self.deliver()

    def wake(self) -> None:
        self._news.set()

    async def receive(self) -> bytes | None:
        while not self._arrived:
            if self._stream.broken:
                return None
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()


class SimulatedStream:
    """Both ends of one stream: the follower's methods here, the leader's in `server`."""

    def __init__(self, cluster: SimulatedCluster, follower: BrokerId, leader: BrokerId) -> None:
        self._cluster = cluster
        self.follower = follower
        self.leader = leader
        self.broken = False
        self._up: _Pipe[ReplicaFetchRequest] = _Pipe(self, cluster.random)
        self._down: _Pipe[ReplicaFetchResponse] = _Pipe(self, cluster.random)

    @property
    def delays_ms(self) -> tuple[float, ...]:
        return self._cluster.delays_ms

    @property
    def linked(self) -> bool:
        return not self.broken and self._cluster.linked(self.follower, self.leader)

    def mended(self) -> None:
        self._up.deliver()
        self._down.deliver()

    def break_off(self) -> None:
        self.broken = True
        self._up.wake()
        self._down.wake()

    async def connected(self) -> None:
        if self.broken:
            raise NetworkError("broken")

    async def write(self, request: ReplicaFetchRequest, /) -> None:
        if self.broken:
            raise NetworkError("broken")
        self._up.send(request.SerializeToString())
        await asyncio.sleep(0)

    async def read(self) -> ReplicaFetchResponse:
        data = await self._down.receive()
        if data is None:
            raise NetworkError("broken")
        return ReplicaFetchResponse.FromString(data)

    async def close(self) -> None:
        self.break_off()

    @property
    def server(self) -> _ServerEnd:
        return _ServerEnd(self)

    async def server_read(self) -> ReplicaFetchRequest | None:
        data = await self._up.receive()
        return None if data is None else ReplicaFetchRequest.FromString(data)

    async def server_write(self, response: ReplicaFetchResponse) -> None:
        if not self.broken:
            self._down.send(response.SerializeToString())
        await asyncio.sleep(0)


class _ServerEnd:
    def __init__(self, stream: SimulatedStream) -> None:
        self._stream = stream

    async def read(self) -> ReplicaFetchRequest | None:
        return await self._stream.server_read()

    async def write(self, response: ReplicaFetchResponse, /) -> None:
        await self._stream.server_write(response)


class SimulatedTransport:
    """Opens streams from one broker. An endpoint's port is the broker's id."""

    def __init__(self, cluster: SimulatedCluster, broker_id: BrokerId) -> None:
        self._cluster = cluster
        self._broker_id = broker_id

    def open(self, endpoint: Endpoint) -> SimulatedStream:
        leader = BrokerId(endpoint.port)
        stream = SimulatedStream(self._cluster, self._broker_id, leader)
        self._cluster.opened(stream)
        return stream
