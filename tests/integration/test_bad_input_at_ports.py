"""What comes to a node's port that no decent client sends: the node lives, serves others, and does not grow."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from harness.raw_client import (
    CALL_SECONDS,
    NOW_MS,
    RawBroker,
    fetch_partition,
    lying_batch,
    node_log,
    raw_leader,
    resident_bytes,
)
from harness.record_batches import record_batch
from klamm.client import Admin, NewTopic
from klamm.deploy.local import LocalCluster
from klamm.proto import broker_pb2, controller_pb2, raft_pb2, replication_pb2
from klamm.proto.broker_pb2 import FetchRequest, PartitionProduceRequest, ProduceRequest
from klamm.proto.identifiers import GRPC_MESSAGE_BYTES_MAX

pytestmark = pytest.mark.integration

MEBIBYTE = 1 << 20
CALL_MS = int(CALL_SECONDS * 1000)
STALL_SECONDS_MAX = 40.0
REQUESTS = 20_000
SEED = 20_240_607
TOPIC = "served"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")  # with empty settings


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(brokers=1, controllers=1) as started:
        with Admin(bootstrap_servers=started.bootstrap_servers) as admin:
            admin.create_topics([NewTopic(TOPIC, 1, 1), NewTopic("large", 1, 1)])
        pids = [node.pid for node in started.nodes()]
        yield started
        assert [node.pid for node in started.nodes()] == pids, "a node did not live through it"


def _assert_served(cluster: LocalCluster) -> None:
    """Both nodes do what they are for, each call within its deadline."""
    with raw_leader(cluster, TOPIC) as broker:
        answer = broker.produce(TOPIC, bytes(record_batch([b"value"], timestamps=NOW_MS)))
        assert answer.error_code == 0
        assert broker.fetch(TOPIC, answer.base_offset).records
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        name = f"after-{time.monotonic_ns()}"
        admin.create_topics([NewTopic(name, 1, 1)], timeout_ms=CALL_MS)
        admin.delete_topics([name], timeout_ms=CALL_MS)


def _frame(random_source: random.Random) -> bytes:
    """An HTTP/2 frame with a sound head and anything in it."""
    payload = random_source.randbytes(random_source.choice([0, 1, 8, 100, 16_384]))
    kind, flags = random_source.randrange(12), random_source.randrange(256)
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + random_source.randbytes(4) + payload


def _junk(random_source: random.Random) -> bytes:
    kind = random_source.randrange(6)
    if kind == 0:
        return random_source.randbytes(random_source.choice([1, 10, 1_000, 100_000]))
    if kind == 1:
        return b"GET / HTTP/1.1\r\nHost: klamm\r\n\r\n"
    if kind == 2:
        return bytes.fromhex("0000002f00120003000000010007636c69656e74") + random_source.randbytes(40)  # Kafka's
    if kind == 3:
        return b"\x16\x03\x01" + random_source.randbytes(300)  # TLS
    if kind == 4:
        return PREFACE + random_source.randbytes(random_source.choice([10, 5_000]))
    return PREFACE + b"".join(_frame(random_source) for _ in range(20))


def _throw(host: str, port: int, data: bytes, *, read: bool) -> None:
    """Sends, perhaps reads a little, and leaves without a word; the node may hang up at any moment."""
    try:
        with socket.create_connection((host, port), timeout=CALL_SECONDS) as connection:
            connection.settimeout(0.05)
            connection.sendall(data)
            if read:
                connection.recv(65_536)
    except OSError:
        return


@pytest.mark.parametrize("node", ["broker-1", "controller-1"])
def test_random_bytes_at_every_port(cluster: LocalCluster, node: str) -> None:
    spec = cluster.layout.node(node)
    random_source = random.Random(SEED)
    logged_before = len(node_log(cluster, node))

    def storm(count: int) -> None:
        for _ in range(count):
            _throw(spec.host, spec.port, _junk(random_source), read=random_source.random() < 0.3)

    storm(100)
    _assert_served(cluster)
    before = resident_bytes(cluster, node)
    storm(400)
    _assert_served(cluster)
    assert resident_bytes(cluster, node) - before < 16 * MEBIBYTE, f"seed {SEED}"
    assert "Traceback" not in node_log(cluster, node)[logged_before:]


def test_connections_that_say_nothing_do_not_keep_others_out(cluster: LocalCluster) -> None:
    with ExitStack() as stack:
        for spec in cluster.layout.nodes:
            for number in range(100):
                connection = stack.enter_context(socket.create_connection((spec.host, spec.port)))
                if number % 2:
                    connection.sendall(PREFACE[:20])
        _assert_served(cluster)


def _methods() -> list[tuple[str, str]]:
    """(role, path) of every call that a node serves."""
    found = []
    for role, module in (
        ("broker", broker_pb2),
        ("broker", replication_pb2),
        ("controller", controller_pb2),
        ("controller", raft_pb2),
    ):
        for service in module.DESCRIPTOR.services_by_name.values():
            found += [(role, f"/{service.full_name}/{method.name}") for method in service.methods]
    return found


@pytest.mark.parametrize(("role", "path"), _methods())
def test_bytes_that_are_no_message_at_every_call(cluster: LocalCluster, role: str, path: str) -> None:
    """Each is answered, by an error or by what the call makes of an odd request; none hangs, none ends the node."""
    random_source = random.Random(path)
    messages = [
        b"\xff" * 10,
        b"\x0a\xff\xff\xff\xff\x0f",
        random_source.randbytes(50),
        random_source.randbytes(3_000),
        b"",
    ]
    with grpc.insecure_channel(cluster.layout.node(f"{role}-1").address) as channel:
        call = channel.stream_stream(path)
        for message in messages:
            try:
                for _ in call(iter([message]), timeout=0.3 if not message else CALL_SECONDS):
                    break
            except grpc.RpcError as error:
                if message:
                    assert error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED, path
    _assert_served(cluster)


@pytest.mark.parametrize("role", ["broker", "controller"])
def test_message_above_the_limit(cluster: LocalCluster, role: str) -> None:
    path = "/klamm.v1.Broker/Produce" if role == "broker" else "/klamm.v1.Controller/Submit"
    assert path in {path for _, path in _methods()}
    before = resident_bytes(cluster, f"{role}-1")
    with grpc.insecure_channel(
        cluster.layout.node(f"{role}-1").address, options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        for size in (GRPC_MESSAGE_BYTES_MAX + 1, 3 * GRPC_MESSAGE_BYTES_MAX):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(bytes(size), timeout=CALL_SECONDS)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert str(GRPC_MESSAGE_BYTES_MAX) in (caught.value.details() or "")
    _assert_served(cluster)
    assert resident_bytes(cluster, f"{role}-1") - before < 40 * MEBIBYTE


# --- clients that stop reading -------------------------------------------------------------------------------------


def _grown(cluster: LocalCluster, before: int) -> int:
    return resident_bytes(cluster, "broker-1") - before


def _while_served(cluster: LocalCluster, seconds: float, check: Callable[[], None]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _assert_served(cluster)
        check()


def test_a_produce_stream_whose_answers_are_never_read(cluster: LocalCluster) -> None:
    """The broker stops reading such a client, by the transport's own flow control, and keeps a bounded rest."""
    # The long topic names make every answer large: answers, not requests, are what the client leaves lying.
    refused = lying_batch(crc=1, sign=False)
    partitions = [
        PartitionProduceRequest(topic=f"{number:x<200}", partition=0, current_leader_epoch=-1, records=refused)
        for number in range(300)
    ]
    sent = 0
    stop = threading.Event()

    def requests() -> Iterator[ProduceRequest]:
        nonlocal sent
        for number in range(REQUESTS):
            if stop.is_set():
                return
            sent = number
            yield ProduceRequest(request_id=number, acks=1, timeout_ms=1_000, partitions=partitions)

    before = resident_bytes(cluster, "broker-1")
    broker = RawBroker(cluster.layout.node(1).address)
    with broker.channel:
        call = broker.stub.ProduceStream(requests())
        try:
            deadline = time.monotonic() + STALL_SECONDS_MAX
            goes_on = "the broker goes on reading a client that does not"
            stalled_at = -1
            while sent > stalled_at:
                assert time.monotonic() < deadline, goes_on
                stalled_at = sent
                _while_served(cluster, 0.5, lambda: _check_bound(cluster, before))
            assert 0 < sent < REQUESTS - 1, goes_on
        finally:
            stop.set()
            call.cancel()
    _assert_served(cluster)


def _check_bound(cluster: LocalCluster, before: int) -> None:
    assert _grown(cluster, before) < 96 * MEBIBYTE, f"{_grown(cluster, before) / MEBIBYTE:.0f} MiB more"


def test_a_flood_of_fetches_that_is_never_read(cluster: LocalCluster) -> None:
    batch = bytes(record_batch([random.Random(SEED).randbytes(900_000)], timestamps=NOW_MS))
    with raw_leader(cluster, "large") as broker:
        for _ in range(8):
            assert broker.produce("large", batch).error_code == 0
    request = FetchRequest(
        max_bytes=8 * MEBIBYTE, partitions=[fetch_partition("large", 0, 0, 8 * MEBIBYTE)]
    ).SerializeToString()
    before = resident_bytes(cluster, "broker-1")
    clients, fetches = 3, 150
    with ExitStack() as stack:
        for _ in range(clients):
            node = cluster.layout.node(1)
            stack.enter_context(_DeafClient(node.host, node.port, request, fetches))
        peak = 0

        def measure() -> None:
            nonlocal peak
            peak = max(peak, _grown(cluster, before))

        deadline = time.monotonic() + STALL_SECONDS_MAX
        while peak <= 8 * MEBIBYTE:
            assert time.monotonic() < deadline, "the fetches were not even taken"
            _while_served(cluster, 0.5, measure)
        _while_served(cluster, 3.0, measure)
    assert peak < clients * 110 * MEBIBYTE, f"{peak / MEBIBYTE:.0f} MiB more, for {clients * fetches} fetches of 7 MiB"
    _assert_served(cluster)


class _DeafClient:
    """Speaks just enough HTTP/2 to start many calls, and never reads a byte: its socket's buffer fills, then the
    broker's.
    """

    def __init__(self, host: str, port: int, message: bytes, calls: int) -> None:
        self._connection = socket.socket()
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self._connection.connect((host, port))
        window = (2**31 - 1 - 65_535).to_bytes(4, "big")  # it says that it could take everything
        settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + b"\x00\x04" + (2**31 - 1).to_bytes(4, "big")
        head = PREFACE[:24] + settings + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + window
        body = b"\x00" + len(message).to_bytes(4, "big") + message
        parts = [head]
        for number in range(calls):
            stream = (2 * number + 1).to_bytes(4, "big")
            parts.append(_http2_frame(0x1, 0x4, stream, _headers("/klamm.v1.Broker/Fetch")))
            parts.append(_http2_frame(0x0, 0x1, stream, body))
        self._connection.settimeout(CALL_SECONDS)
        self._connection.sendall(b"".join(parts))

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _http2_frame(kind: int, flags: int, stream: bytes, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream + payload


def _headers(path: str) -> bytes:
    """A header block of literals that are not indexed (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "klamm",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b""
    for name, value in fields.items():
        block += b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return block
