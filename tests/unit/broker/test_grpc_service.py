"""The gRPC door's part in a produce request that names an internal topic beside others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from klamm.broker.groups.offsets_topic import OFFSETS_TOPIC
from klamm.broker.grpc_service import BrokerService
from klamm.broker.partition_request import ProduceOutcome
from klamm.proto import broker_pb2
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import Offset

MIXED = broker_pb2.ProduceRequest(
    request_id=7,
    acks=-1,
    partitions=[
        broker_pb2.PartitionProduceRequest(topic=topic, partition=0, records=b"")
        for topic in ("orders", OFFSETS_TOPIC, "bills")
    ],
)


class Appends:
    """In the replica manager's place: `future` brings what it has appended."""

    def __init__(self) -> None:
        self.future: asyncio.Future[list[ProduceOutcome]] = asyncio.get_running_loop().create_future()
        self.topics: list[str] = []

    def produce(self, requests: Sequence[Any], **_: Any) -> asyncio.Future[list[ProduceOutcome]]:
        self.topics = [request.topic for request in requests]
        return self.future


def started() -> tuple[Appends, asyncio.Future[Sequence[ProduceOutcome]]]:
    appends = Appends()
    nobody: Any = None
    replica_manager: Any = appends
    service = BrokerService(nobody, replica_manager, nobody, nobody)
    produced = asyncio.ensure_future(service._start_produce(MIXED))
    assert appends.topics == ["orders", "bills"], "they are appended at once"
    return appends, produced


def test_the_refusal_of_an_internal_topic_takes_its_place_among_the_answers() -> None:
    async def main() -> None:
        appends, produced = started()
        appends.future.set_result([ProduceOutcome(ErrorCode.NONE, base_offset=Offset(number)) for number in (3, 5)])
        outcomes = await produced
        assert [outcome.error for outcome in outcomes] == [0, ErrorCode.INVALID_TOPIC_EXCEPTION, 0]
        assert [outcome.base_offset for outcome in outcomes] == [3, None, 5]

    asyncio.run(main())


def test_a_failure_of_the_appends_reaches_who_asked_for_an_internal_topic_as_well() -> None:
    async def main() -> None:
        appends, produced = started()
        appends.future.set_exception(RuntimeError("a bug"))
        async with asyncio.timeout(10):
            with pytest.raises(RuntimeError, match="a bug"):
                await produced
        appends, produced = started()
        appends.future.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([produced])
        assert produced.cancelled()

    asyncio.run(main())


def test_who_is_gone_is_gone_for_the_appends_as_well() -> None:
    async def main() -> None:
        appends, produced = started()
        await asyncio.sleep(0)
        produced.cancel()
        await asyncio.wait([produced])
        assert appends.future.cancelled()

    asyncio.run(main())


def test_a_stop_ends_the_produce_streams_that_clients_keep_open() -> None:
    async def silent() -> AsyncIterator[broker_pb2.ProduceRequest]:
        await asyncio.Event().wait()
        yield MIXED

    async def main() -> None:
        nobody: Any = None
        service = BrokerService(nobody, nobody, nobody, nobody)

        async def responses() -> list[broker_pb2.ProduceResponse]:
            return [response async for response in service.ProduceStream(silent(), nobody)]

        streams = [asyncio.create_task(responses()) for _ in range(2)]
        await asyncio.sleep(0)
        await service.shutdown()
        async with asyncio.timeout(10):
            assert await asyncio.gather(*streams) == [[], []]

    asyncio.run(main())
