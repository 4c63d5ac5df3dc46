"""The server's half of gRPC over the simulated network: what `grpc.aio.server` gives, as far as Klamm uses it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import Message
from simulator.network import End, Network
from simulator.process import Process

_KINDS: Final[Mapping[tuple[bool, bool], str]] = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


def encoded(serializer: Callable[[Any], bytes] | None, message: Any) -> bytes:
    """As the serializer does; a map's entries are in order: else they would be in another one in every process."""
    if isinstance(message, Message):
        return message.SerializeToString(deterministic=True)
    return message if serializer is None else serializer(message)


class Bell:
    """Wakes all who wait for it."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def next(self) -> asyncio.Future[None]:
        """To be awaited: done when it is rung."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        return future

    def ring(self) -> None:
        if self._waiting:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
            self._waiting.clear()


class CallDetails(NamedTuple):
    """What handlers are looked up by."""

    method: str
    invocation_metadata: Any


class SimulatedServer:
    """Answers calls in the process that made it. What a handler fails with is told to `on_error` too."""

    def __init__(self, network: Network, process: Process, on_error: Callable[[str, BaseException], None]) -> None:
        self._network = network
        self._process = process
        self.on_error = on_error
        self._handlers: list[Any] = []
        self._registered: dict[str, Any] = {}
        self._ports: list[int] = []
        self._ends: dict[End, dict[int, ServerCall]] = {}
        self._stopping = False

    # --- as grpc.aio.Server ----------------------------------------------------------------------------------

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._registered.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def add_insecure_port(self, address: str) -> int:
        port = int(address.rpartition(":")[2])
        if not port:
            self._process.next_port += 1
            port = self._process.next_port
        self._ports.append(port)
        return port

    async def start(self) -> None:
        for port in self._ports:
            self._network.listen(self._process, port, self._accept)

    async def stop(self, grace: float | None = None) -> None:
        """No new calls; what is under way may end within `grace` seconds, and is cancelled then."""
        self._stopping = True
        for port in self._ports:
            self._network.unlisten(self._process, port)
        calls = [call.task for calls in self._ends.values() for call in calls.values()]
        if calls and grace:
            await asyncio.wait(calls, timeout=grace)
        for end, by_number in list(self._ends.items()):
            for call in list(by_number.values()):
                call.cancel()
            end.close("Socket closed")
        self._ends.clear()
        pending = [task for task in calls if not task.done()]
        if pending:
            await asyncio.wait(pending)

    # --- connections -----------------------------------------------------------------------------------------

    def _accept(self, end: End) -> None:
        calls: dict[int, ServerCall] = {}
        if self._stopping:
            end.close("Socket closed")
            return
        self._ends[end] = calls

        def received(frame: Any) -> None:
            if frame[0] == "call":
                self._begin(end, calls, *frame[1:])
            elif (call := calls.get(frame[1])) is not None:
                call.received(frame)

        def closed(_: str) -> None:
            self._ends.pop(end, None)
            for call in list(calls.values()):
                call.cancel()

        end.on_message, end.on_close = received, closed

    def _begin(
        self,
        end: End,
        calls: dict[int, ServerCall],
        number: int,
        path: str,
        timeout: float | None,
        metadata: Any,
        content: bytes | None,
    ) -> None:
        handler = self._registered.get(path)
        for each in () if handler is not None else self._handlers:
            handler = handler or each.service(CallDetails(path, metadata))
        if handler is None or self._stopping:
            code = grpc.StatusCode.UNAVAILABLE if self._stopping else grpc.StatusCode.UNIMPLEMENTED
            end.send(("status", number, code, "Method not found!", ()))
            return
        call = ServerCall(self, end, calls, number, handler, path, timeout, metadata)
        calls[number] = call
        if content is not None:
            call.takes_one(content)
        call.task = asyncio.ensure_future(call.run())


class ServerCall:
    """One call, and the context that its handler gets."""

    task: asyncio.Future[None]

    def __init__(
        self,
        server: SimulatedServer,
        end: End,
        calls: dict[int, ServerCall],
        number: int,
        handler: Any,
        path: str,
        timeout: float | None,
        metadata: Any,
    ) -> None:
        self._server, self._end, self._calls, self._number = server, end, calls, number
        self._handler = handler
        self._path = path
        self._metadata = metadata
        self._loop = asyncio.get_running_loop()
        self._deadline = None if timeout is None else self._loop.time() + timeout
        self._requests: deque[bytes] = deque()
        self._half_closed = False
        self._bell = Bell(self._loop)
        self._initial_sent = False
        self._answer: bytes | None = None  # the one there is, which goes with the status
        self._trailing: Any = ()
        self._code, self._details = grpc.StatusCode.OK, ""
        self._callbacks: list[Callable[[Any], None]] = []
        self._gone = False  # the client
        self._over = False  # the handler has ended

    def takes_one(self, request: bytes) -> None:
        """The only request came with the call."""
        self._requests.append(request)
        self._half_closed = True

    def received(self, frame: Any) -> None:
        kind = frame[0]
        if kind == "message":
            self._requests.append(frame[2])
        elif kind == "half_close":
            self._half_closed = True
        else:
            self.cancel()
        self._bell.ring()

    def cancel(self) -> None:
        """The client gave up or is gone: who reads sees the end of the requests, then the handler is cancelled."""
        if not (self._gone or self._over):
            self._gone = True
            self._calls.pop(self._number, None)
            self._requests.clear()
            self._half_closed = True
            self._bell.ring()
            self._loop.call_soon(self.task.cancel)

    async def run(self) -> None:
        try:
            await self._run()
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            self._code, self._details = grpc.StatusCode.CANCELLED, "cancelled"
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler fails with, as grpc.aio does
            if not (self._gone and isinstance(error, grpc.aio.InternalError)):
                self._server.on_error(self._path, error)
            self._code = grpc.StatusCode.UNKNOWN
            self._details = f"Unexpected {type(error)}: {error}"
        finally:
            self._finish()

    def _finish(self) -> None:
        self._over = True
        if not self._gone:
            self._calls.pop(self._number, None)
            status = (self._code, self._details, self._trailing)
            if self._answer is not None and self._code is grpc.StatusCode.OK:
                self._end.send(("answer", self._number, self._answer, *status))
            else:
                self._end.send(("status", self._number, *status))
        for callback in self._callbacks:
            self._loop.call_soon(callback, self)

    async def _run(self) -> None:
        handler = self._handler
        method = getattr(handler, _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)])
        if handler.request_streaming:
            request: Any = self._iterate()
        else:
            request = await self.read()
            if request is grpc.aio.EOF:
                return
        response = method(request, self)
        if isinstance(response, AsyncGenerator):
            async for each in response:
                await self.write(each)
            return
        if isinstance(response, Awaitable):
            response = await response
        if not handler.response_streaming:
            self._answer = encoded(handler.response_serializer, response)

    async def _iterate(self) -> AsyncIterator[Any]:
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    # --- as grpc.aio.ServicerContext -------------------------------------------------------------------------

    async def read(self) -> Any:
        while not self._requests:
            if self._half_closed:
                return grpc.aio.EOF
            await self._bell.next()
        deserializer = self._handler.request_deserializer
        data = self._requests.popleft()
        return data if deserializer is None else deserializer(data)

    async def write(self, response: Any) -> None:
        if self._gone:
            raise grpc.aio.InternalError("Failed grpc_call_start_batch: the client is gone")
        self._initial_sent = True  # with the first message
        self._end.send(("message", self._number, encoded(self._handler.response_serializer, response)))
        await asyncio.sleep(0)

    async def send_initial_metadata(self, metadata: Any) -> None:
        if not self._initial_sent:
            self._initial_sent = True
            self._end.send(("initial", self._number, tuple(metadata)))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        self._code, self._details = code, details
        self._trailing = tuple(trailing_metadata) or self._trailing
        raise grpc.aio.AbortError("Locally aborted.")

    def set_trailing_metadata(self, metadata: Any) -> None:
        self._trailing = tuple(metadata)

    def invocation_metadata(self) -> Any:
        return self._metadata

    def peer(self) -> str:
        return f"ipv4:{self._end.peer.host}:{self._end.peer.port}"

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        return self._over and self._code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._over
