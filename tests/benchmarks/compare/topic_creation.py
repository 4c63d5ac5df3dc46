"""Asks brokers over plain sockets to create topics, again and again, until one says that it has: for row 9.

An admin client would do it, but librdkafka's goes on asking the node that it knows as controller, also when that is
dead, and what is to be measured is the cluster.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from harness.kafka_client import KEYS, decode_response, encode, encode_header, part, request

from .loads import WAIT_SECONDS_MAX, ClientError

VERSION: Final = 5
EACH_SECONDS: Final = 0.1
ANSWER_SECONDS_MAX: Final = 30
CHUNK: Final = 65536

Answer = tuple[str, bytearray]
"""The name of a topic that was asked for, and what has come of the answer."""


def create_first(addresses: Sequence[tuple[str, int]], prefix: str) -> str:
    """Asks each address each 100 ms, on a connection of its own, for a topic of one partition and one replica.

    Returns the name of the first that was created. Some of the others will be, too.

    :raises ClientError: none was.
    """
    deadline, asked, refusals = time.monotonic() + WAIT_SECONDS_MAX, 0, list[int]()
    with contextlib.ExitStack() as connections, selectors.DefaultSelector() as selector:
        while time.monotonic() < deadline:
            for address in addresses:
                asked += 1
                name = f"{prefix}-{asked}"
                connection = connections.enter_context(socket.create_connection(address, timeout=ANSWER_SECONDS_MAX))
                connection.sendall(_frame(name))
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ, (name, bytearray()))
            until = time.monotonic() + EACH_SECONDS
            while (left := until - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    created = _read(selector, key, refusals)
                    if created is not None:
                        return created
    raise ClientError(f"no topic could be created; the last refusals: {refusals[-5:]}")


def _read(selector: selectors.BaseSelector, key: selectors.SelectorKey, refusals: list[int]) -> str | None:
    """The name of the topic if this completes an answer which says that it is there."""
    name, received = key.data
    connection = key.fileobj
    assert isinstance(connection, socket.socket)
    data = connection.recv(CHUNK)
    received += data
    (size,) = struct.unpack_from(">i", received) if len(received) >= 4 else (0,)
    is_whole = len(received) == 4 + size > 4
    if is_whole or not data:
        selector.unregister(connection)
    if not is_whole:
        return None
    (topic,) = decode_response("create_topics", VERSION, bytes(received[8:])).topics
    if topic.error_code != 0:
        refusals.append(int(topic.error_code))
        return None
    return str(name)


def _frame(name: str) -> bytes:
    topic = part(
        "create_topics",
        VERSION,
        "CreatableTopic",
        name=name,
        num_partitions=1,
        replication_factor=1,
        assignments=(),
        configs=(),
    )
    message = request("create_topics", VERSION, topics=(topic,), timeout=timedelta(seconds=ANSWER_SECONDS_MAX))
    body = encode_header(KEYS["create_topics"], VERSION, 1, "bench", flexible=True) + encode(message)
    return struct.pack(">i", len(body)) + body
