"""A raw Kafka client for tests: any API in any version through kio, one connection, nothing in between.

    async with KafkaClient.connect("127.0.0.1", port) as client:
        answer = await client.call("metadata", 12, topics=None, allow_auto_topic_creation=False, ...)

`request` makes kio's class of the request (and `part` that of a nested one) for whoever builds larger ones by hand;
`send` and `receive` are the two halves of `call`, for tests that pipeline.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from types import ModuleType
from typing import Any

from klamm.broker.kafka.table import APIS

TIMEOUT_SECONDS = 20.0
KEYS = {api.name: api.key for api in APIS.values()}


@cache
def request_schema(name: str, version: int) -> ModuleType:
    """kio's module of a request."""
    return importlib.import_module(f"kio.schema.{name}.v{version}.request")


@cache
def response_schema(name: str, version: int) -> ModuleType:
    """kio's module of a response."""
    return importlib.import_module(f"kio.schema.{name}.v{version}.response")


def _class(module: ModuleType, name: str, suffix: str) -> Any:
    return getattr(module, "".join(word.capitalize() for word in name.split("_")) + suffix)


def part(name: str, version: int, kind: str, /, **fields: Any) -> Any:
    """A nested part of a request, such as part("metadata", 12, "MetadataRequestTopic", name="a")."""
    return getattr(request_schema(name, version), kind)(**fields)


def request(name: str, version: int, /, **fields: Any) -> Any:
    """kio's request; a field that this version lacks is an error."""
    return _class(request_schema(name, version), name, "Request")(**fields)


def encode(message: Any) -> bytes:
    """The bytes of a message of kio's."""
    from kio.serial import entity_writer

    buffer = io.BytesIO()
    entity_writer(type(message))(buffer, message)
    return buffer.getvalue()


def encode_header(key: int, version: int, correlation_id: int, client_id: str | None, *, flexible: bool) -> bytes:
    """A request's header, version 1 or 2."""
    name = b"" if client_id is None else client_id.encode()
    length = -1 if client_id is None else len(name)
    return struct.pack(">hhih", key, version, correlation_id, length) + name + (b"\0" if flexible else b"")


def decode_response(name: str, version: int, body: bytes) -> Any:
    """kio's response of an answer without its correlation id; all of its bytes must belong to it."""
    from kio.serial import entity_reader

    kind = _class(response_schema(name, version), name, "Response")
    start = 0
    if kind.__flexible__ and name != "api_versions":
        assert body[0] == 0, "a tagged field in a header"
        start = 1
    response, size = entity_reader(kind)(body, start)
    assert start + size == len(body), f"{len(body) - start - size} bytes after the answer"
    return response


class KafkaClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client_id: str | None) -> None:
        self.reader = reader
        self.writer = writer
        self.client_id = client_id
        self._correlation_id = 0
        self._sent: dict[int, tuple[str, int]] = {}

    @classmethod
    @asynccontextmanager
    async def connect(cls, host: str, port: int, client_id: str | None = "test") -> AsyncIterator[KafkaClient]:
        reader, writer = await asyncio.open_connection(host, port)
        client = cls(reader, writer, client_id)
        try:
            yield client
        finally:
            await client.close()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass  # the broker closed first

    # --- messages --------------------------------------------------------------------------------------------

    async def call(self, name: str, version: int, message: Any = None, /, **fields: Any) -> Any:
        """Sends a request (kio's, or made of fields) and returns kio's response to it."""
        correlation_id = self.send(name, version, message, **fields)
        got, response = await self.receive()
        assert got == correlation_id
        return response

    def send(self, name: str, version: int, message: Any = None, /, **fields: Any) -> int:
        """Sends a request; returns its correlation id."""
        body = encode(request(name, version, **fields) if message is None else message)
        flexible = _class(request_schema(name, version), name, "Request").__flexible__
        return self.send_body(name, version, body, flexible=flexible)

    def send_body(self, name: str, version: int, body: bytes, *, flexible: bool) -> int:
        """Sends these bytes as the body of a request; returns its correlation id."""
        self._correlation_id += 1
        self._sent[self._correlation_id] = name, version
        header = encode_header(KEYS[name], version, self._correlation_id, self.client_id, flexible=flexible)
        self.send_frame(header + body)
        return self._correlation_id

    async def receive(self) -> tuple[int, Any]:
        """The next answer: its correlation id, and kio's response."""
        frame = await self.receive_frame()
        (correlation_id,) = struct.unpack_from(">i", frame)
        name, version = self._sent.pop(correlation_id)
        return correlation_id, decode_response(name, version, frame[4:])

    # --- bytes -----------------------------------------------------------------------------------------------

    def send_frame(self, frame: bytes) -> None:
        """Sends bytes with their length."""
        self.writer.write(struct.pack(">i", len(frame)) + frame)

    def send_bytes(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(data)

    async def receive_frame(self) -> bytes:
        """The next answer without its length. :raises asyncio.IncompleteReadError, OSError: the broker closed."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            (size,) = struct.unpack(">i", await self.reader.readexactly(4))
            return await self.reader.readexactly(size)

    async def is_closed(self) -> bool:
        """Waits for the broker to close the connection; answers that come before are left out."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                while await self.reader.read(65536):
                    pass
            except OSError:
                pass
        return True
