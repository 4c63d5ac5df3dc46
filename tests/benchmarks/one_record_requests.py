"""Produce requests of one record each, acks=1, over plain sockets, in a process of its own; prints seconds.

python one_record_requests.py SERVER TOPIC REQUESTS CONNECTIONS IN_FLIGHT

Each connection writes to the partition of its number. One more request for each connection goes before, which does not
count. All answers have one size, so counting bytes is counting answers: the client costs next to nothing. Whoever
called counts what is in the topic.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys
import time
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.kafka_client import KEYS, decode_response, encode, encode_header, part, request
from harness.record_batches import record_batch

PRODUCE_VERSION = 9


def send(server: str, topic: str, requests: int, connections: int, in_flight: int) -> float:
    """Seconds from the first request to the last answer; `in_flight` is the sum over all connections."""
    host, _, port = server.partition(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(connections)]
    frames, answer_size = [], 0
    for partition, each in enumerate(sockets):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        frames.append(_frame(topic, partition))
        each.sendall(frames[-1])
        (answer_size,) = struct.unpack(">i", each.recv(4, socket.MSG_WAITALL))
        _check(each.recv(answer_size, socket.MSG_WAITALL))
    answer_size += 4
    unsent = requests
    with selectors.DefaultSelector() as selector:
        began = time.monotonic()
        for each, frame in zip(sockets, frames, strict=True):
            first = min(unsent, in_flight // connections)
            each.sendall(frame * first)
            unsent -= first
            selector.register(each, selectors.EVENT_READ, [frame, 0])
        answered = 0
        while answered < requests:
            for key, _ in selector.select():
                frame, received = key.data
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                assert data, "the broker closed the connection"
                done, key.data[1] = divmod(received + len(data), answer_size)
                answered += done
                more = min(done, unsent)
                if more:
                    unsent -= more
                    key.fileobj.sendall(frame * more)  # type: ignore[union-attr]
        seconds = time.monotonic() - began
    for each in sockets:
        each.close()
    return seconds


def _check(answer: bytes) -> None:
    response = decode_response("produce", PRODUCE_VERSION, answer[4:])
    (partition,) = response.responses[0].partition_responses
    assert partition.error_code == 0, response


def _frame(topic: str, partition: int) -> bytes:
    version = PRODUCE_VERSION
    records = bytes(record_batch([b"x" * 100], timestamps=int(1000 * time.time())))
    data = part("produce", version, "PartitionProduceData", index=partition, records=records)
    topics = (part("produce", version, "TopicProduceData", name=topic, partition_data=(data,)),)
    timeout = timedelta(seconds=10)
    message = request("produce", version, transactional_id=None, acks=1, timeout=timeout, topic_data=topics)
    body = encode_header(KEYS["produce"], version, 1, "bench", flexible=True) + encode(message)
    return struct.pack(">i", len(body)) + body


def main() -> None:
    """Prints the seconds."""
    server, topic, *rest = sys.argv[1:]
    print(send(server, topic, *map(int, rest)))


if __name__ == "__main__":
    main()
