"""The pipelined produce stream: appended in order, answered when ready, bounded, and never silent about a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence

from klamm.broker.produce_stream import ProduceStream
from klamm.proto import broker_pb2
from klamm.proto.errors import ErrorCode


class Desk:
    """Stands in for the replica manager: notes what was started and answers when told to."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.futures: dict[int, asyncio.Future[Sequence[object]]] = {}

    def start(self, request: broker_pb2.ProduceRequest) -> Awaitable[Sequence[object]]:
        self.started.append(request.request_id)
        future = asyncio.get_running_loop().create_future()
        self.futures[request.request_id] = future
        return future

    def stream(self, in_flight_max: int = 10) -> ProduceStream:
        return ProduceStream(
            check=lambda request: (ErrorCode.INVALID_REQUIRED_ACKS, "no") if request.acks > 1 else None,
            start=self.start,  # type: ignore[arg-type]
            answer=lambda request, _: broker_pb2.ProduceResponse(request_id=request.request_id),
            in_flight_max=in_flight_max,
        )


async def requests(*ids: int, acks: int = 1) -> AsyncIterator[broker_pb2.ProduceRequest]:
    for number in ids:
        yield broker_pb2.ProduceRequest(request_id=number, acks=acks)


async def never_ending(*ids: int) -> AsyncIterator[broker_pb2.ProduceRequest]:
    async for request in requests(*ids):
        yield request
    await asyncio.Event().wait()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_requests_start_in_order_and_answers_go_out_when_ready() -> None:
    async def main() -> None:
        desk = Desk()
        stream = desk.stream()
        await stream.read(requests(1, 2, 3))
        assert desk.started == [1, 2, 3]
        for number in (2, 3, 1):
            desk.futures[number].set_result([])
            await turns(2)
        assert [response.request_id async for response in stream.responses()] == [2, 3, 1]
        assert stream.complaint is None

    asyncio.run(main())


def test_a_stream_that_is_to_end_answers_what_was_read_first() -> None:
    async def main() -> None:
        desk = Desk()
        stream = desk.stream()
        reader = asyncio.create_task(stream.read(never_ending(1, 2)))
        await turns()
        assert desk.started == [1, 2]
        stream.end()
        for number in (1, 2):
            desk.futures[number].set_result([])
        assert [response.request_id async for response in stream.responses()] == [1, 2]
        assert stream.complaint is None
        reader.cancel()

    asyncio.run(main())


def test_an_idle_stream_ends_when_it_is_to() -> None:
    async def main() -> None:
        stream = Desk().stream()
        reader = asyncio.create_task(stream.read(never_ending()))
        await turns()
        stream.end()
        assert [response async for response in stream.responses()] == []
        reader.cancel()

    asyncio.run(main())


def test_a_client_that_does_not_read_its_answers_is_not_read_on() -> None:
    async def main() -> None:
        desk = Desk()
        stream = desk.stream(in_flight_max=2)
        reader = asyncio.create_task(stream.read(requests(1, 2, 3, 4)))
        await turns()
        assert desk.started == [1, 2]
        desk.futures[1].set_result([])
        await turns()
        assert desk.started == [1, 2], "an answer that was not taken still holds its place"
        responses = stream.responses()
        assert (await anext(responses)).request_id == 1
        desk.futures[2].set_result([])
        assert (await anext(responses)).request_id == 2
        await turns()
        assert desk.started == [1, 2, 3]
        reader.cancel()
        stream.close()

    asyncio.run(main())


def test_a_request_that_makes_no_sense_ends_the_stream_after_the_answers_before_it() -> None:
    async def main() -> None:
        desk = Desk()
        stream = desk.stream()

        async def mixed() -> AsyncIterator[broker_pb2.ProduceRequest]:
            yield broker_pb2.ProduceRequest(request_id=1, acks=-1)
            yield broker_pb2.ProduceRequest(request_id=2, acks=7)
            yield broker_pb2.ProduceRequest(request_id=3, acks=-1)

        await stream.read(mixed())
        desk.futures[1].set_result([])
        assert [response.request_id async for response in stream.responses()] == [1]
        assert stream.complaint == (ErrorCode.INVALID_REQUIRED_ACKS, "no")
        assert desk.started == [1]

    asyncio.run(main())


def test_a_failure_inside_ends_the_stream_with_an_error() -> None:
    async def main() -> None:
        desk = Desk()
        stream = desk.stream()
        await stream.read(requests(1))
        desk.futures[1].set_exception(RuntimeError("bug"))
        assert [response async for response in stream.responses()] == []
        assert stream.complaint is not None
        assert stream.complaint[0] is ErrorCode.UNKNOWN_SERVER_ERROR

    asyncio.run(main())


def test_the_records_are_let_go_once_they_are_appended() -> None:
    async def main() -> None:
        desk = Desk()
        stream = desk.stream()
        request = broker_pb2.ProduceRequest(request_id=1, acks=1)
        request.partitions.add(topic="t", records=b"x" * 1000)

        async def one() -> AsyncIterator[broker_pb2.ProduceRequest]:
            yield request

        await stream.read(one())
        assert request.partitions[0].records == b""
        stream.close()

    asyncio.run(main())
