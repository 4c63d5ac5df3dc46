"""What ten thousand clients that do nothing cost a broker."""

from __future__ import annotations

import resource
import socket
import struct
import sys
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.kafka_client import KEYS, encode, encode_header, request
from klamm.deploy.local import LocalCluster
from measurement import Measurement

WANTED = 10_000
SPARE = 500  # what else a process has open


def idle(runs: int = 3) -> list[Measurement]:
    """Memory of the broker per connection, each of which has asked for ApiVersions and Metadata as clients do first."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(WANTED + SPARE, limit[1]) if limit[1] != resource.RLIM_INFINITY else WANTED + SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit[0], allowed), limit[1]))  # the broker inherits it
    count = min(WANTED, allowed - SPARE)
    try:
        samples = [_bytes_per_connection(count) for _ in range(runs)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    what = f"{count:,} idle connections to one broker, memory for each"
    return [Measurement(what, "KB", "20 KB", tuple(samples), lambda m: m.worst < 20 and count == WANTED)]


def _bytes_per_connection(count: int) -> float:
    with LocalCluster(brokers=1, controllers=1) as cluster:
        host, _, port = cluster.kafka_bootstrap_servers.partition(":")
        broker = psutil.Process(cluster.pid_of(1))
        connections = [_connect(host, int(port))]  # the first request imports what it needs
        before = broker.memory_info().rss
        connections += [_connect(host, int(port)) for _ in range(count)]
        after = broker.memory_info().rss
        assert _ask(connections[-1], _metadata()), "it serves still"
        assert broker.num_fds() > count
        for connection in connections:
            connection.close()
    return (after - before) / count / 1000


def _connect(host: str, port: int) -> socket.socket:
    connection = socket.create_connection((host, port))
    _ask(connection, _api_versions())
    _ask(connection, _metadata())
    return connection


def _ask(connection: socket.socket, frame: bytes) -> bytes:
    connection.sendall(frame)
    (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
    return connection.recv(size, socket.MSG_WAITALL)


def _api_versions() -> bytes:
    return _frame("api_versions", 0, encode(request("api_versions", 0)))


def _metadata() -> bytes:
    return _frame("metadata", 1, encode(request("metadata", 1, topics=())))


def _frame(name: str, version: int, body: bytes) -> bytes:
    body = encode_header(KEYS[name], version, 1, "bench", flexible=False) + body
    return struct.pack(">i", len(body)) + body
