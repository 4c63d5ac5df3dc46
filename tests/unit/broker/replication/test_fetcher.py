"""What a fetcher asks for: every partition it follows, and of each message no more than its reader can bear."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

from klamm.broker.replication.fetcher import REQUEST_PARTITIONS_MAX, ReplicaFetcher
from klamm.broker.replication.follower_session import CREDIT_BYTES
from klamm.cluster.broker import Endpoint
from klamm.proto.identifiers import BrokerEpoch, BrokerId
from klamm.proto.replication_pb2 import ReplicaFetchRequest, ReplicaFetchResponse

SECONDS_MAX = 10


class Stream:
    """Takes what is written and never answers."""

    def __init__(self) -> None:
        self.requests: list[ReplicaFetchRequest] = []
        self.asked: set[int] = set()
        self.changed = asyncio.Event()

    async def connected(self) -> None: ...

    async def write(self, request: ReplicaFetchRequest, /) -> None:
        self.requests.append(request)
        self.asked |= {position.partition for position in request.positions}
        self.changed.set()
        await asyncio.sleep(0)

    async def read(self) -> ReplicaFetchResponse:
        never: asyncio.Future[ReplicaFetchResponse] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None: ...

    async def until_asked(self, count: int) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while len(self.asked) < count:
                self.changed.clear()
                await self.changed.wait()


def replica(number: int) -> Any:
    log = SimpleNamespace(epoch_cache=SimpleNamespace(latest_epoch=None), log_end_offset=0, log_start_offset=0)
    return SimpleNamespace(key=(bytes(16), number), leader_epoch=1, log=log, high_watermark=0, confirmed_round=0)


def fetcher_of(stream: Stream) -> ReplicaFetcher:
    def fail(error: Exception) -> None:
        raise error

    transport: Any = SimpleNamespace(open=lambda _: stream)
    return ReplicaFetcher(
        broker_id=BrokerId(2),
        leader_id=BrokerId(1),
        endpoint=Endpoint("127.0.0.1", 1),
        broker_epoch=lambda: BrokerEpoch(7),
        transport=transport,
        random=Random(1),
        on_fatal=fail,
    )


def test_thousands_of_partitions_are_asked_for_in_several_messages() -> None:
    async def main() -> None:
        stream = Stream()
        fetcher = fetcher_of(stream)
        count = 2 * REQUEST_PARTITIONS_MAX + 7
        for number in range(count):
            fetcher.follow(replica(number))
        fetcher.start()
        await stream.until_asked(count)
        assert [len(each.positions) for each in stream.requests] == [REQUEST_PARTITIONS_MAX, REQUEST_PARTITIONS_MAX, 7]
        assert [each.credit_bytes for each in stream.requests] == [CREDIT_BYTES, 0, 0]
        for number in range(count, count + REQUEST_PARTITIONS_MAX + 1):
            fetcher.follow(replica(number))
        await stream.until_asked(count + REQUEST_PARTITIONS_MAX + 1)
        assert [len(each.positions) for each in stream.requests[3:]] == [REQUEST_PARTITIONS_MAX, 1]
        await fetcher.stop()

    asyncio.run(main())


def test_a_stream_of_nothing_begins_with_its_credit() -> None:
    async def main() -> None:
        stream = Stream()
        fetcher = fetcher_of(stream)
        fetcher.start()
        async with asyncio.timeout(SECONDS_MAX):
            await stream.changed.wait()
        assert [(len(each.positions), each.credit_bytes) for each in stream.requests] == [(0, CREDIT_BYTES)]
        await fetcher.stop()

    asyncio.run(main())
