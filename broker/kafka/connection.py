"""One client's connection: requests in, answers out in the order of the requests.

A request begins when those ahead of it are answered; only a produce may begin behind other produces, whose appends are
done at once and which then wait for replicas. There is no task per connection, and none for a request that can be
answered at once.

Who sends faster than the broker answers, or does not read its answers, is not read from. What a connection waits for is
cancelled when it is gone.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import struct
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from .framing import FrameReader
from .outbox import Outbox
from .rooms import RequestContext
from .route import (
    API_VERSIONS_KEY,
    PLAIN_REQUEST_BYTES_MAX,
    Deferred,
    Parts,
    Route,
    UnsupportedVersionError,
    find_route,
)
from .table import APIS
from .wire import Cursor, WireError

if TYPE_CHECKING:
    from .listener import KafkaListener

logger = logging.getLogger(__name__)

QUEUED_REQUESTS_MAX: Final = 16
"""Received and not begun: past that the connection is not read from."""
PIPELINED_MAX: Final = 256
"""Produces of one connection that wait for replicas."""
WRITE_BUFFER_BYTES: Final = 128 * 1024
"""Answers not yet taken by the kernel: past that no further request of the connection begins."""

_KNOWN_HEADER_BYTES_MAX: Final = 256

_HEADER: Final = struct.Struct(">hhi")
_PIPELINED: Final = frozenset(key for key, api in APIS.items() if api.pipelined)


class _Header(NamedTuple):
    """Of a request before: what its first bytes were, but for the correlation id, and what they mean."""

    key_and_version: bytes
    rest: bytes
    route: Route
    context: RequestContext
    position: int  # where the body begins


class Slot:
    """A request that has begun and is not answered: its answer goes out once all ahead of it have."""

    __slots__ = ("correlation_id", "done", "parts", "route", "size", "work")

    def __init__(self, correlation_id: int, route: Route, size: int) -> None:
        self.size = size
        self.correlation_id = correlation_id
        self.route = route
        self.work: asyncio.Future[Any] | None = None
        self.parts: Parts | None = None  # None once done: no answer is wanted
        self.done = False


class Connection(asyncio.BufferedProtocol):
    """Made by the listener for each connection that it accepts."""

    __slots__ = (
        "_client_host",
        "_closing",
        "_frames",
        "_last_header",
        "_listener",
        "_outbox",
        "_paused",
        "_queue",
        "_requests_bytes",
        "_running",
        "_transport",
        "_unsent_bytes",
        "_writing_paused",
        "active_at",
        "connection_id",
        "held_bytes",
        "peer",
    )

    def __init__(self, listener: KafkaListener, connection_id: int) -> None:
        self._listener = listener
        self._frames = FrameReader(listener.shared_buffer, listener.config.request_bytes_max)
        self._queue: deque[bytearray] = deque()
        self._running: deque[Slot] = deque()
        self._last_header: _Header | None = None
        self._paused = False
        self._writing_paused = False
        self._closing = False
        self._unsent_bytes = 0  # when writing was paused, or last looked at since
        self._requests_bytes = 0  # of requests that wait or are being served
        self._client_host = ""
        self.connection_id = connection_id
        self.peer = ""
        self.held_bytes = 0  # of requests, begun or not
        self.active_at = listener.now()

    # --- what the event loop calls ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._outbox = Outbox(self._transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        address = transport.get_extra_info("peername") or ("", 0)
        self._client_host = f"/{address[0]}"
        self.peer = f"{address[0]}:{address[1]}"
        refusal = self._listener.opened(self, address[0])
        if refusal:
            self.close(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._queue.clear()
        for slot in self._running:
            if slot.work is not None:
                slot.work.cancel()
        self._running.clear()
        self._note_unsent(0)
        self._listener.closed(self)

    def eof_received(self) -> bool:
        return False  # close: nobody is there to be answered

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.active_at = self._listener.now()
        frames = self._frames.received(nbytes)
        if self._closing:
            return
        for frame in frames:
            if self._closing:
                break  # one of those ahead of it has ended the connection: nothing behind it may be carried out
            if self._queue or not self._may_begin(frame):
                self._queue.append(frame)
                self._requests_bytes += len(frame)
            else:
                self._begin(frame)
        if self._frames.error is not None and not self._closing:
            self.close(str(self._frames.error))
        self._settle()

    def _settle(self) -> None:
        """After requests came or answers are there: sends, and looks whether to read on."""
        self._outbox.flush()
        self.control_reading()
        held = self._frames.held_bytes + self._requests_bytes
        if held != self.held_bytes:
            change, self.held_bytes = held - self.held_bytes, held
            self._listener.held(self, change)

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._note_unsent(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._note_unsent(0)
        self.active_at = self._listener.now()
        self._pump()
        self._settle()

    def _note_unsent(self, size: int) -> None:
        self._listener.unsent(size - self._unsent_bytes)
        self._unsent_bytes = size

    # --- closing ---------------------------------------------------------------------------------------------

    def is_idle(self) -> bool:
        """Nothing is being done that its client could be waiting for; a client that takes no answers waits for none."""
        if self._writing_paused or self._closing:
            size = self._transport.get_write_buffer_size()
            if size != self._unsent_bytes:  # slowly, but it reads
                self._note_unsent(size)
                self.active_at = self._listener.now()
            return True
        return not self._running

    def close(self, reason: str) -> None:
        """Sends what is ready to be sent, and ends."""
        if not self._closing:
            logger.info("kafka_connection_closed peer=%s reason=%s", self.peer, reason)
        self._closing = True
        self._drop_queue()
        self._outbox.flush()
        self._transport.close()

    def _drop_queue(self) -> None:
        self._requests_bytes -= sum(map(len, self._queue))
        self._queue.clear()

    def abort(self, reason: str) -> None:
        """Ends now."""
        logger.info("kafka_connection_closed peer=%s reason=%s", self.peer, reason)
        self._closing = True
        self._transport.abort()

    def drain(self) -> bool:
        """The broker stops: no more requests, but the answers that are due; True once there are none."""
        self._drop_queue()
        self.pause_reading()
        if not self._running:
            self._closing = True
            self._transport.close()
        return not self._running

    # --- requests --------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Begins all that may begin."""
        queue = self._queue
        while queue and self._may_begin(queue[0]):
            frame = queue.popleft()
            self._requests_bytes -= len(frame)
            self._begin(frame)

    def _may_begin(self, frame: bytearray) -> bool:
        if self._writing_paused:
            return False
        if not self._running:
            return True
        key = self._running[-1].route.api.key
        return key in _PIPELINED and frame[0] == 0 and frame[1] == key and len(self._running) < PIPELINED_MAX

    @property
    def unfinished_bytes(self) -> int:
        """Held by a request of which not all has come."""
        return self._frames.held_bytes

    def control_reading(self) -> None:
        """Reads on if there is room for what comes."""
        if self._closing:
            return
        blocked = self._writing_paused or len(self._queue) > QUEUED_REQUESTS_MAX
        if blocked or (self._listener.full and not self._listener.may_read(self)):
            self.pause_reading()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

    def pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _begin(self, frame: bytearray) -> None:
        try:
            self._serve(frame)
        except WireError as error:
            self.close(str(error))
        except Exception:
            logger.exception("kafka_request_failed peer=%s", self.peer)
            self.close("a request failed")

    def _serve(self, frame: bytearray) -> None:
        if len(frame) < _HEADER.size:
            raise WireError(f"a request of {len(frame)} bytes has no header")
        key, version, correlation_id = _HEADER.unpack_from(frame)
        last = self._last_header
        # Most requests begin with the very same words as the one before, but for the correlation id.
        if last is not None and frame.startswith(last.key_and_version) and frame.startswith(last.rest, _HEADER.size):
            route, context, position = last.route, last.context, last.position
        else:
            try:
                route = find_route(key, version)
            except UnsupportedVersionError:
                if key != API_VERSIONS_KEY:
                    raise
                self._answer_unsupported(correlation_id)
                return
            context, position = self._read_header(frame, route)
        if len(frame) > PLAIN_REQUEST_BYTES_MAX and not route.api.bulky:
            raise WireError(f"{route.api.name} request of {len(frame)} bytes")
        if route.read is None:
            result = route.handle(frame, position, context)
        else:
            result = route.handle(route.read(frame, position)[0], context)
        self._take(correlation_id, route, result, len(frame))

    def _read_header(self, frame: bytearray, route: Route) -> tuple[RequestContext, int]:
        """What its handler needs to know of a request, and where its body begins."""
        cursor = Cursor(frame, _HEADER.size)
        client_id = cursor.nullable_string(False) or ""  # null counts as empty, as in Apache Kafka
        if route.flexible:
            cursor.skip_tags()
        context = self._context(route, client_id)
        position = cursor.position
        if position <= _KNOWN_HEADER_BYTES_MAX:
            rest = bytes(frame[_HEADER.size : position])
            self._last_header = _Header(bytes(frame[:4]), rest, route, context, position)
        return context, position

    def _context(self, route: Route, client_id: str) -> RequestContext:
        return RequestContext(
            self._listener.rooms, route.version, client_id, self._client_host, route.schema, self.connection_id
        )

    def _answer_unsupported(self, correlation_id: int) -> None:
        """ApiVersions in a version that is not served: version 0 of the answer says which are (KIP-511)."""
        from .api_versions import unsupported_version

        route = find_route(API_VERSIONS_KEY, 0)
        self._answer(correlation_id, route, _encoded(route, unsupported_version(self._context(route, ""))))

    # --- answers ---------------------------------------------------------------------------------------------

    def _take(self, correlation_id: int, route: Route, result: Any, size: int) -> None:
        """What the handler gave: an answer, or something to wait for."""
        if route.read is None:
            if type(result) is not Deferred:
                self._answer(correlation_id, route, result)
                return
            future, finish = result
        elif inspect.isawaitable(result):
            future = asyncio.ensure_future(result)
            finish = partial(_encoded, route)
        else:
            self._answer(correlation_id, route, _encoded(route, result))
            return
        slot = Slot(correlation_id, route, size)
        slot.work = future
        self._requests_bytes += size
        self._running.append(slot)
        future.add_done_callback(partial(self._finish, slot, finish))

    def _finish(self, slot: Slot, finish: Any, future: asyncio.Future[Any]) -> None:
        slot.work = None
        self._requests_bytes -= slot.size
        if self._closing:
            if not future.cancelled():
                future.exception()  # it was asked for: nobody is left to be told
            return
        if future.cancelled():
            self.close(f"{slot.route.api.name} was given up")
            return
        self.active_at = self._listener.now()
        try:
            slot.parts = finish(future.result())
        except WireError as error:
            self.close(str(error))
            return
        except Exception:
            logger.exception("kafka_request_failed peer=%s api=%s", self.peer, slot.route.api.name)
            self.close("a request failed")
            return
        slot.done = True
        self._send_ready()
        self._pump()
        self._settle()

    def _answer(self, correlation_id: int, route: Route, parts: Parts | None) -> None:
        if not self._running:
            if parts is not None:
                self._outbox.add(correlation_id, route.tagged_answer, parts)
            return
        slot = Slot(correlation_id, route, 0)
        slot.parts = parts
        slot.done = True
        self._running.append(slot)

    def _send_ready(self) -> None:
        running = self._running
        while running and running[0].done:
            slot = running.popleft()
            if slot.parts is not None:
                self._outbox.add(slot.correlation_id, slot.route.tagged_answer, slot.parts)


def _encoded(route: Route, response: Any) -> Parts:
    if type(response) is bytes:  # the handler has encoded it
        return (response,)
    assert route.write is not None
    body = io.BytesIO()
    route.write(body, response)
    return (body.getvalue(),)
