"""The client's half of gRPC over the simulated network: what `grpc.aio.insecure_channel` gives, as Klamm uses it.

Its errors, and the words in which calls end, are those of grpc.aio: `AioRpcError` with a status, `InvalidStateError`
for a write to a call that is over, `EOF` at the end of a stream. tests/unit/test_simulated_grpc.py holds both to the
same expectations.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Final

import grpc
import grpc.aio
from simulator.grpc_server import Bell, encoded
from simulator.network import End, Network
from simulator.process import Process

_BACKOFF_S: Final = 0.1
_OVER: Final = "RPC already finished."

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]
Status = tuple[grpc.StatusCode, str, Any]
"""Code, details and trailing metadata."""


class SimulatedChannel:
    """Connects when it is first used, and again after a pause when that fails or the connection breaks."""

    def __init__(self, network: Network, process: Process, target: str) -> None:
        self._network = network
        self._process = process
        host, _, port = target.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._end: End | None = None
        self._connecting: asyncio.Task[End] | None = None
        self._failed_at_s = -1e9
        self._failure = ""
        self._calls: dict[int, Call] = {}
        self._numbers = itertools.count(1)
        self._closed = False

    # --- as grpc.aio.Channel ---------------------------------------------------------------------------------

    def unary_unary(self, path: str, *codec: Any, **options: Any) -> Callable[..., Call]:
        return self._method(path, False, False, codec, options)

    def unary_stream(self, path: str, *codec: Any, **options: Any) -> Callable[..., Call]:
        return self._method(path, False, True, codec, options)

    def stream_unary(self, path: str, *codec: Any, **options: Any) -> Callable[..., Call]:
        return self._method(path, True, False, codec, options)

    def stream_stream(self, path: str, *codec: Any, **options: Any) -> Callable[..., Call]:
        return self._method(path, True, True, codec, options)

    async def close(self, grace: float | None = None) -> None:
        """Cancels what is under way."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for call in list(self._calls.values()):
            call.cancel("Channel closed.")
        if self._end is not None:
            self._end.close()
            self._end = None

    async def __aenter__(self) -> SimulatedChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- for calls -------------------------------------------------------------------------------------------

    def _method(
        self, path: str, requests: bool, responses: bool, codec: tuple[Any, ...], options: dict[str, Any]
    ) -> Callable[..., Call]:
        given = dict(zip(("request_serializer", "response_deserializer"), codec, strict=False)) | options
        serializer, deserializer = given["request_serializer"], given["response_deserializer"]

        def begin(request: Any = None, *, timeout: float | None = None, metadata: Any = (), **_: Any) -> Call:
            if self._closed:
                raise grpc.aio.UsageError("Channel is closed.")
            call = Call(self, next(self._numbers), path, requests, responses, serializer, deserializer)
            self._calls[call.number] = call
            call.begin(request, timeout, tuple(metadata or ()))
            return call

        return begin

    @property
    def is_connected(self) -> bool:
        return self._end is not None

    async def connected(self) -> End:
        """:raises ConnectionError, TimeoutError: there is no connection."""
        if self._end is not None:
            return self._end
        if self._connecting is None:
            if self._network.loop.time() - self._failed_at_s < _BACKOFF_S:
                raise ConnectionError(self._failure)
            self._connecting = asyncio.ensure_future(self._network.connect(self._process, self._host, self._port))
            self._connecting.add_done_callback(self._on_connected)
        return await asyncio.shield(self._connecting)

    def _on_connected(self, task: asyncio.Task[End]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._failed_at_s, self._failure = self._network.loop.time(), f"failed to connect: {error}"
            return
        end = task.result()
        if self._closed:
            end.close()
            return
        end.on_message, end.on_close = self._received, self._broken
        if not end.open:
            self._broken("connection reset by peer")
            return
        self._end = end

    def _received(self, frame: Any) -> None:
        call = self._calls.get(frame[1])
        if call is not None:
            call.received(frame)

    def _broken(self, reason: str) -> None:
        self._end = None
        for call in list(self._calls.values()):
            if call.sent:
                call.end(grpc.StatusCode.UNAVAILABLE, reason)

    def send(self, frame: Any) -> None:
        if self._end is not None:
            self._end.send(frame)

    def over(self, call: Call) -> None:
        self._calls.pop(call.number, None)


class Call:
    """One call of any of the four kinds."""

    def __init__(
        self,
        channel: SimulatedChannel,
        number: int,
        path: str,
        requests: bool,
        responses: bool,
        serializer: Serializer,
        deserializer: Deserializer,
    ) -> None:
        self.number = number
        self.sent = False  # the server may know of it
        self._channel = channel
        self._path = path
        self._requests, self._responses = requests, responses
        self._serializer, self._deserializer = serializer, deserializer
        self._loop = asyncio.get_running_loop()
        self._bell = Bell(self._loop)  # rung when it is sent, when something comes and when it is over
        self._status: Status | None = None
        self._ending: Status | None = None  # how it ends once all messages are read
        self._initial: Any = None
        self._messages: deque[bytes] = deque()
        self._half_closed = False
        self._cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, request: Any, timeout: float | None, metadata: Any) -> None:
        """Sends the call as soon as there is a connection."""
        if timeout is not None:
            self._timer = self._loop.call_later(timeout, self._too_late)
        if self._channel.is_connected and (request is None or not self._requests):
            self._send(request, timeout, metadata)
        else:
            self._begun = asyncio.ensure_future(self._begin(request, timeout, metadata))

    async def _begin(self, request: Any, timeout: float | None, metadata: Any) -> None:
        try:
            await self._channel.connected()
        except (ConnectionError, TimeoutError) as error:
            self.end(grpc.StatusCode.UNAVAILABLE, str(error))
            return
        if self._status is not None:
            return
        self._send(request, timeout, metadata)
        if self._requests and request is not None:
            async for each in request:
                await self.write(each)
            await self.done_writing()

    def _send(self, request: Any, timeout: float | None, metadata: Any) -> None:
        """The call; with its request where there is no more than one, in one frame as gRPC's transport has it."""
        self.sent = True
        content = None if self._requests else encoded(self._serializer, request)
        self._channel.send(("call", self.number, self._path, timeout, metadata, content))
        self._bell.ring()

    def _too_late(self) -> None:
        self._channel.send(("cancel", self.number))
        self.end(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def received(self, frame: Any) -> None:
        """A message, the initial metadata, the status, or an answer: the one message and the status."""
        if self._ending is not None:
            return
        kind = frame[0]
        if kind == "message":
            self._messages.append(frame[2])
            if self._initial is None:
                self._initial = grpc.aio.Metadata()
            self._bell.ring()
        elif kind == "answer":
            self._messages.append(frame[2])
            self.end(*frame[3:])
        elif kind == "initial":
            self._initial = grpc.aio.Metadata(*frame[2])
            self._bell.ring()
        elif self._messages and self._responses:
            self._ending = frame[2:]
        else:
            self.end(*frame[2:])

    def end(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        """The call is over, if it was not before. What was not read of many answers is gone."""
        if self._status is not None:
            return
        if self._responses:
            self._messages.clear()
        self._status = (code, details, trailing)
        if self._timer is not None:
            self._timer.cancel()
        self._bell.ring()
        self._channel.over(self)
        for callback in self._callbacks:
            self._loop.call_soon(callback, self)

    # --- as grpc.aio's calls ---------------------------------------------------------------------------------

    def done(self) -> bool:
        return self._status is not None

    def cancelled(self) -> bool:
        return self._status is not None and self._status[0] is grpc.StatusCode.CANCELLED

    def cancel(self, details: str = "Locally cancelled by application!") -> bool:
        if self._status is not None:
            return False
        self._cancelled = True
        if self.sent:
            self._channel.send(("cancel", self.number))
        self.end(grpc.StatusCode.CANCELLED, details)
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._status is not None:
            self._loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    async def _ended(self) -> Status:
        while self._status is None:
            await self._bell.next()
        return self._status

    async def code(self) -> grpc.StatusCode:
        return (await self._ended())[0]

    async def details(self) -> str:
        return (await self._ended())[1]

    async def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata(*(await self._ended())[2])

    async def initial_metadata(self) -> Any:
        while self._initial is None and self._status is None:
            await self._bell.next()
        return self._initial

    async def wait_for_connection(self) -> None:
        while not self.sent and self._status is None:
            await self._bell.next()
        if self._status is not None:
            self._raise_for(self._status)

    async def write(self, request: Any) -> None:
        if self._status is not None:
            raise asyncio.InvalidStateError(_OVER)
        if self._half_closed:
            raise asyncio.InvalidStateError("RPC is half closed after calling `done_writing`.")
        try:
            while not self.sent and self._status is None:
                await self._bell.next()
            if self._status is not None:
                self._raise_for(self._status)
            self._channel.send(("message", self.number, encoded(self._serializer, request)))
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def done_writing(self) -> None:
        if not self._half_closed and self._status is None:
            self._half_closed = True
            while not self.sent and self._status is None:
                await self._next()
            self._channel.send(("half_close", self.number))

    async def read(self) -> Any:
        while not self._messages:
            if self._status is not None:
                self._raise_for(self._status)
                return grpc.aio.EOF
            await self._next()
        message = self._messages.popleft()
        if not self._messages and self._ending is not None:
            self.end(*self._ending)
        return self._deserializer(message)

    async def _next(self) -> None:
        """Until something happens. Who is cancelled while it waits cancels the call."""
        try:
            await self._bell.next()
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        while self._status is None:
            await self._next()
        self._raise_for(self._status)
        return self._deserializer(self._messages[0])

    def _raise_for(self, status: Status) -> None:
        code, details, trailing = status
        if self._cancelled:
            raise asyncio.CancelledError
        if code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details)
