"""The follower's end of a stream over real gRPC: however it breaks, every call says so in the one way it promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from klamm.broker.replication.transport import GrpcReplicaTransport
from klamm.cluster.broker import Endpoint
from klamm.proto.errors import NetworkError
from klamm.proto.replication_pb2 import ReplicaFetchRequest, ReplicaFetchResponse
from klamm.proto.replication_pb2_grpc import ReplicationServicer, add_ReplicationServicer_to_server


class Leader(ReplicationServicer):
    """Answers once, and then ends the stream as it is told."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    async def Replicate(self, requests: AsyncIterator[ReplicaFetchRequest], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            yield ReplicaFetchResponse()
            if self._code is not grpc.StatusCode.OK:
                await context.abort(self._code, "enough")
            return


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.ABORTED])
def test_every_call_after_the_end_is_a_network_error(code: grpc.StatusCode) -> None:
    async def main() -> None:
        server = grpc.aio.server()
        add_ReplicationServicer_to_server(Leader(code), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stream = GrpcReplicaTransport().open(Endpoint("127.0.0.1", port))
        try:
            await stream.connected()
            await stream.write(ReplicaFetchRequest())
            assert await stream.read() == ReplicaFetchResponse()
            with pytest.raises(NetworkError):
                await stream.read()
            with pytest.raises(NetworkError):
                await stream.write(ReplicaFetchRequest())
            with pytest.raises(NetworkError):
                await stream.read()
        finally:
            await stream.close()
            await server.stop(None)

    asyncio.run(main())
