"""The simulated gRPC does what grpc.aio does, as far as Klamm relies on it: each expectation is held against both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from harness.two_grpcs import Pair, Scenario, run_real, run_simulated

Run = Callable[[dict[str, Any], Scenario], None]


@pytest.fixture(params=[run_real, run_simulated], ids=["real", "simulated"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


def identity(data: bytes) -> bytes:
    return data


def unary(handler: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(handler)


def server_stream(handler: Any) -> Any:
    return grpc.unary_stream_rpc_method_handler(handler)


def both_stream(handler: Any) -> Any:
    return grpc.stream_stream_rpc_method_handler(handler)


def unary_call(pair: Pair, name: str = "M", **options: Any) -> Any:
    return pair.channel.unary_unary(f"/test.Service/{name}", identity, identity)(b"ask", **options)


def stream_call(pair: Pair, **options: Any) -> Any:
    return pair.channel.unary_stream("/test.Service/M", identity, identity)(b"ask", **options)


def both_call(pair: Pair, requests: Any = None) -> Any:
    return pair.channel.stream_stream("/test.Service/M", identity, identity)(requests)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.002)


async def error_of(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


class Notes:
    """What a handler saw."""

    def __init__(self) -> None:
        self.began = 0
        self.cancelled = 0
        self.done = 0
        self.time_remaining: float | None = -1.0

    async def wait_for_ever(self, request: Any, context: Any) -> bytes:
        self.began += 1
        self.time_remaining = context.time_remaining()
        context.add_done_callback(self._count)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b""

    def _count(self, _: Any) -> None:
        self.done += 1


# --- one request, one answer ---------------------------------------------------------------------------------


def test_an_answer_and_its_metadata(run: Run) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("a", "b"),))
        return request + b"!"

    async def scenario(pair: Pair) -> None:
        call = unary_call(pair)
        told: list[bool] = []
        call.add_done_callback(lambda done: told.append(done.done()))
        assert await call == b"ask!"
        assert await call.code() is grpc.StatusCode.OK
        assert await call.details() == ""
        assert dict(await call.trailing_metadata()) == {"a": "b"}
        assert call.done() and not call.cancelled()
        assert not call.cancel()
        await until(lambda: told == [True])
        assert await call == b"ask!"  # again

    run({"M": unary(handler)}, scenario)


def test_requests_carry_metadata(run: Run) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return dict(context.invocation_metadata())["who"].encode()  # type: ignore[no-any-return]

    async def scenario(pair: Pair) -> None:
        assert await unary_call(pair, metadata=(("who", "me"),)) == b"me"

    run({"M": unary(handler)}, scenario)


def test_abort_carries_code_details_and_metadata(run: Run) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not yet", (("hint", "later"),))
        return b""

    async def scenario(pair: Pair) -> None:
        call = unary_call(pair)
        error = await error_of(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not yet")
        assert dict(error.trailing_metadata()) == {"hint": "later"}
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert call.done() and not call.cancelled()

    run({"M": unary(handler)}, scenario)


def test_a_handler_that_raises(run: Run) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        raise ValueError("boom")

    async def scenario(pair: Pair) -> None:
        error = await error_of(unary_call(pair))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.UNKNOWN,
            "Unexpected <class 'ValueError'>: boom",
        )

    run({"M": unary(handler)}, scenario)


def test_a_method_that_is_not_there(run: Run) -> None:
    async def scenario(pair: Pair) -> None:
        error = await error_of(unary_call(pair, "Other"))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    run({}, scenario)


def test_deadline(run: Run) -> None:
    notes = Notes()

    async def scenario(pair: Pair) -> None:
        error = await error_of(unary_call(pair, timeout=0.3))
        assert (error.code(), error.details()) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        await until(lambda: (notes.cancelled, notes.done) == (1, 1))
        assert notes.time_remaining is not None and 0 < notes.time_remaining <= 0.3

    run({"M": unary(notes.wait_for_ever)}, scenario)


def test_no_deadline_no_time_remaining(run: Run) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return repr(context.time_remaining()).encode()

    async def scenario(pair: Pair) -> None:
        assert await unary_call(pair) == b"None"

    run({"M": unary(handler)}, scenario)


def test_cancel(run: Run) -> None:
    notes = Notes()

    async def scenario(pair: Pair) -> None:
        call = unary_call(pair)
        told: list[bool] = []
        call.add_done_callback(lambda done: told.append(done.cancelled()))
        await until(lambda: notes.began == 1)
        assert call.cancel()
        assert not call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.done() and call.cancelled()
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert await call.details() == "Locally cancelled by application!"
        await until(lambda: (notes.cancelled, notes.done) == (1, 1) and told == [True])

    run({"M": unary(notes.wait_for_ever)}, scenario)


def test_who_awaits_is_cancelled(run: Run) -> None:
    notes = Notes()

    async def scenario(pair: Pair) -> None:
        call = unary_call(pair)

        async def wait() -> None:
            await call

        task = asyncio.create_task(wait())
        await until(lambda: notes.began == 1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() and call.cancelled()
        await until(lambda: notes.cancelled == 1)

    run({"M": unary(notes.wait_for_ever)}, scenario)


def test_closing_the_channel_cancels(run: Run) -> None:
    notes = Notes()

    async def scenario(pair: Pair) -> None:
        call = unary_call(pair)
        await until(lambda: notes.began == 1)
        await pair.channel.close()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await call.code() is grpc.StatusCode.CANCELLED
        await until(lambda: notes.cancelled == 1)
        with pytest.raises(grpc.aio.UsageError):
            await unary_call(pair)

    run({"M": unary(notes.wait_for_ever)}, scenario)


# --- servers that are not there ------------------------------------------------------------------------------


def test_nobody_listens(run: Run) -> None:
    async def scenario(pair: Pair) -> None:
        channel = pair.unreachable()
        try:
            error = await error_of(channel.unary_unary("/test.Service/M", identity, identity)(b""))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            call = channel.stream_stream("/test.Service/M", identity, identity)()
            assert (await error_of(call.wait_for_connection())).code() is grpc.StatusCode.UNAVAILABLE
            assert (await error_of(call.read())).code() is grpc.StatusCode.UNAVAILABLE
        finally:
            await channel.close()

    run({}, scenario)


def test_writing_to_where_nobody_listens(run: Run) -> None:
    async def scenario(pair: Pair) -> None:
        channel = pair.unreachable()
        try:
            call = channel.stream_stream("/test.Service/M", identity, identity)()
            assert (await error_of(call.write(b"x"))).code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(asyncio.InvalidStateError):
                await call.write(b"x")
        finally:
            await channel.close()

    run({}, scenario)


def test_a_kill_ends_the_call(run: Run) -> None:
    notes = Notes()

    async def scenario(pair: Pair) -> None:
        call = unary_call(pair)
        await until(lambda: notes.began == 1)
        await pair.kill()
        assert (await error_of(call)).code() is grpc.StatusCode.UNAVAILABLE

    run({"M": unary(notes.wait_for_ever)}, scenario)


def test_a_kill_in_the_middle_of_a_stream(run: Run) -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def scenario(pair: Pair) -> None:
        call = both_call(pair)
        await call.write(b"1")
        assert await call.read() == b"1"
        await pair.kill()
        assert (await error_of(call.read())).code() is grpc.StatusCode.UNAVAILABLE
        assert (await error_of(call.read())).code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"2")

    run({"M": both_stream(handler)}, scenario)


def test_a_server_that_stops_at_once_cancels_its_handlers(run: Run) -> None:
    notes = Notes()

    async def scenario(pair: Pair) -> None:
        call = unary_call(pair)
        await until(lambda: notes.began == 1)
        await pair.server.stop(None)
        assert (await error_of(call)).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        await until(lambda: notes.cancelled == 1)

    run({"M": unary(notes.wait_for_ever)}, scenario)


def test_a_server_that_stops_lets_calls_end(run: Run) -> None:
    go_on = asyncio.Event()
    began: list[bytes] = []

    async def handler(request: bytes, context: Any) -> bytes:
        began.append(request)
        await go_on.wait()
        return b"done"

    async def scenario(pair: Pair) -> None:
        call = unary_call(pair)
        await until(lambda: bool(began))
        stopping = asyncio.create_task(pair.server.stop(5))
        await asyncio.sleep(0.02)
        go_on.set()
        assert await call == b"done"
        await stopping

    run({"M": unary(handler)}, scenario)


# --- one request, many answers -------------------------------------------------------------------------------


async def three(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d" % number


async def write_three(request: bytes, context: Any) -> None:
    for number in range(3):
        await context.write(b"%d" % number)


@pytest.mark.parametrize("handler", [three, write_three])
def test_a_stream_of_answers(run: Run, handler: Any) -> None:
    async def scenario(pair: Pair) -> None:
        assert [message async for message in stream_call(pair)] == [b"0", b"1", b"2"]
        call = stream_call(pair)
        assert [await call.read() for _ in range(3)] == [b"0", b"1", b"2"]
        assert await call.read() is grpc.aio.EOF
        assert await call.read() is grpc.aio.EOF
        assert call.done() and await call.code() is grpc.StatusCode.OK

    run({"M": server_stream(handler)}, scenario)


def test_what_was_sent_before_the_end_is_read(run: Run) -> None:
    """The end of a call that went well is known once all was read."""

    async def scenario(pair: Pair) -> None:
        call = stream_call(pair)
        await asyncio.sleep(0.1)  # all has come
        assert not call.done()
        assert [await call.read() for _ in range(3)] == [b"0", b"1", b"2"]
        assert await call.read() is grpc.aio.EOF

    run({"M": server_stream(three)}, scenario)


def test_a_stream_that_is_aborted(run: Run) -> None:
    go_on = asyncio.Event()

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"0"
        await go_on.wait()
        await context.abort(grpc.StatusCode.ABORTED, "enough", (("a", "b"),))

    async def scenario(pair: Pair) -> None:
        call = stream_call(pair)
        assert await call.read() == b"0"
        go_on.set()
        error = await error_of(call.read())
        assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "enough")
        assert dict(error.trailing_metadata()) == {"a": "b"}
        assert (await error_of(call.read())).code() is grpc.StatusCode.ABORTED

    run({"M": server_stream(handler)}, scenario)


def test_a_stream_that_is_cancelled(run: Run) -> None:
    notes = Notes()

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"0"
        yield b"1"
        await notes.wait_for_ever(request, context)

    async def scenario(pair: Pair) -> None:
        call = stream_call(pair)
        assert await call.read() == b"0"
        await until(lambda: notes.began == 1)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()  # what came before is gone
        await until(lambda: notes.cancelled == 1)

    run({"M": server_stream(handler)}, scenario)


def test_a_reader_that_is_cancelled_cancels_the_call(run: Run) -> None:
    notes = Notes()

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await notes.wait_for_ever(request, context)
        yield b""

    async def scenario(pair: Pair) -> None:
        call = stream_call(pair)
        task = asyncio.create_task(call.read())
        await until(lambda: notes.began == 1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() and call.cancelled()
        await until(lambda: notes.cancelled == 1)

    run({"M": server_stream(handler)}, scenario)


def test_a_stream_has_a_deadline_too(run: Run) -> None:
    async def scenario(pair: Pair) -> None:
        call = stream_call(pair, timeout=0.3)
        assert (await error_of(call.read())).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: notes.cancelled == 1)

    notes = Notes()

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await notes.wait_for_ever(request, context)
        yield b""

    run({"M": server_stream(handler)}, scenario)


# --- many requests, many answers -----------------------------------------------------------------------------


async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
    yield b"end"


async def read_and_write(_: Any, context: Any) -> None:
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(request)
    await context.write(b"end")


@pytest.mark.parametrize("handler", [echo, read_and_write])
def test_both_ways(run: Run, handler: Any) -> None:
    async def scenario(pair: Pair) -> None:
        call = both_call(pair)
        await call.wait_for_connection()
        for number in range(3):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        await call.done_writing()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"late")
        assert await call.read() == b"end"
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"too late")
        await call.done_writing()

    run({"M": both_stream(handler)}, scenario)


def test_requests_from_an_iterator(run: Run) -> None:
    async def requests() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    async def scenario(pair: Pair) -> None:
        assert [message async for message in both_call(pair, requests())] == [b"0", b"1", b"2", b"end"]

    run({"M": both_stream(echo)}, scenario)


def test_the_server_ends_while_the_client_writes(run: Run) -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            return

    async def scenario(pair: Pair) -> None:
        call = both_call(pair)
        await call.write(b"1")
        assert await call.read() == b"1"
        assert await call.read() is grpc.aio.EOF
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"2")

    run({"M": both_stream(handler)}, scenario)


def test_the_server_refuses_a_stream(run: Run) -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
            yield b""

    async def scenario(pair: Pair) -> None:
        call = both_call(pair)
        await call.write(b"1")
        assert (await error_of(call.read())).code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"2")

    run({"M": both_stream(handler)}, scenario)


def test_cancelling_both_ways(run: Run) -> None:
    notes = Notes()

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await notes.wait_for_ever(requests, context)
        yield b""

    async def scenario(pair: Pair) -> None:
        call = both_call(pair)
        await call.write(b"1")
        await until(lambda: notes.began == 1)
        reading = asyncio.create_task(call.read())
        await asyncio.sleep(0.01)
        assert call.cancel()
        await asyncio.wait({reading})
        assert reading.cancelled()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"2")
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        await until(lambda: (notes.cancelled, notes.done) == (1, 1))

    run({"M": both_stream(handler)}, scenario)


@pytest.mark.parametrize("how", ["close", "cancel", "break"])
def test_a_handler_sees_the_client_go(run: Run, how: str) -> None:
    """First the end of the requests, as if the client had said so; then it is cancelled."""
    seen: list[object] = []

    async def handler(_: Any, context: Any) -> None:
        context.add_done_callback(lambda _: seen.append("done"))
        while (request := await context.read()) is not grpc.aio.EOF:
            seen.append(request)
        seen.append("end")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def scenario(pair: Pair) -> None:
        call = both_call(pair)
        await call.write(b"1")
        await until(lambda: seen == [b"1"])
        if how == "close":
            await pair.channel.close()
        elif how == "cancel":
            call.cancel()
        else:
            await pair.break_connections()
        await until(lambda: seen == [b"1", "end", "cancelled", "done"])

    run({"M": both_stream(handler)}, scenario)


def test_a_handler_writes_to_a_client_that_is_gone(run: Run) -> None:
    seen: list[object] = []
    gone = asyncio.Event()
    writers: list[asyncio.Task[None]] = []

    async def write(context: Any) -> None:
        await gone.wait()
        try:
            await context.write(b"")
        except grpc.aio.InternalError:
            seen.append("internal")

    async def handler(_: Any, context: Any) -> None:
        writers.append(asyncio.create_task(write(context)))
        seen.append(await context.read())
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def scenario(pair: Pair) -> None:
        call = both_call(pair)
        await call.write(b"1")
        await until(lambda: seen == [b"1"])
        call.cancel()
        await until(lambda: seen == [b"1", "cancelled"])
        gone.set()
        await until(lambda: seen == [b"1", "cancelled", "internal"])

    run({"M": both_stream(handler)}, scenario)
