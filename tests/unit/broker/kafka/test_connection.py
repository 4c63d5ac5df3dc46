"""Connections of the Kafka listener over real sockets: order, limits, and clients that behave badly."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from harness.kafka_client import KafkaClient, decode_response, encode_header
from harness.kafka_listener import HOST, LISTEN, Serving, handlers, run_as_a_broker_does, serving, soon
from harness.kafka_rooms import Rooms
from harness.metadata_cluster import MetadataCluster
from klamm.broker.kafka import route
from klamm.broker.kafka.listener import KafkaListener
from klamm.broker.kafka.table import APIS
from klamm.proto.errors import ErrorCode, KafkaError

_ZERO = timedelta(0)


def run(test: Any, **config: Any) -> None:
    """Runs a test on a listener over rooms without replicas."""

    async def main() -> None:
        cluster = MetadataCluster()
        cluster.become_controller()
        async with serving(Rooms(cluster).rooms, replace(LISTEN, **config)) as served:
            await test(served)

    run_as_a_broker_does(main())


def heartbeat(served: Serving, client: KafkaClient, member: str = "m") -> int:
    return client.send("heartbeat", 3, group_id="g", generation_id=1, member_id=member, group_instance_id=None)


class Parked:
    """A handler of Heartbeat that answers when it is told to, for the member "now" at once."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    def __call__(self, request: Any, context: Any) -> Any:
        self.begun.append(request.member_id)
        answer = context.schema.HeartbeatResponse(throttle_time=_ZERO, error_code=ErrorCode.NONE)
        return answer if request.member_id == "now" else self._wait(request.member_id, answer)

    async def _wait(self, member: str, answer: Any) -> Any:
        future = self.waiting[member] = asyncio.get_running_loop().create_future()
        try:
            await future
        except asyncio.CancelledError:
            self.cancelled.append(member)
            raise
        return answer


# --- order -----------------------------------------------------------------------------------------------------


def test_a_request_begins_when_those_ahead_of_it_are_answered() -> None:
    parked = Parked()

    async def test(served: Serving) -> None:
        async with served.client() as client, served.client() as other:
            sent = [heartbeat(served, client, member) for member in ("a", "now", "b")]
            await soon(lambda: "a" in parked.waiting)
            # A parked request holds up nobody else.
            await other.call("heartbeat", 3, group_id="g", generation_id=1, member_id="now", group_instance_id=None)
            assert parked.begun == ["a", "now"]
            parked.waiting["a"].set_result(None)
            await soon(lambda: "b" in parked.waiting)
            parked.waiting["b"].set_result(None)
            assert [(await client.receive())[0] for _ in sent] == sent

    with handlers(heartbeat=parked):
        run(test)


def test_nothing_behind_what_is_no_request_is_served() -> None:
    parked = Parked()

    async def test(served: Serving) -> None:
        async with served.client() as client:
            client.send_frame(b"\0")
            heartbeat(served, client, "now")
            assert await client.is_closed()

    with handlers(heartbeat=parked):
        run(test)
    assert not parked.begun


def test_what_a_connection_waits_for_is_cancelled_when_it_is_gone() -> None:
    parked = Parked()

    async def test(served: Serving) -> None:
        async with served.client() as client:
            heartbeat(served, client, "a")
            await soon(lambda: "a" in parked.waiting)
        await soon(lambda: parked.cancelled == ["a"])

    with handlers(heartbeat=parked):
        run(test)


def test_nothing_is_carried_out_behind_a_request_that_ends_its_connection() -> None:
    parked = Parked()

    async def test(served: Serving) -> None:
        def frame(body: bytes) -> bytes:
            data = encode_header(12, 3, 1, "test", flexible=False) + body
            return struct.pack(">i", len(data)) + data

        good = b"\0\1g" + struct.pack(">i", 1) + b"\0\3now" + b"\xff\xff"
        async with served.client() as client:
            client.send_bytes(frame(good) + frame(b"\0\1") + frame(good))
            assert await client.is_closed()
        assert parked.begun == ["now"]

    with handlers(heartbeat=parked):
        run(test)


def test_a_handler_that_fails_closes_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(request: Any, context: Any) -> Any:
        raise RuntimeError("a bug")

    def fails_at_once(request: Any, context: Any) -> Any:
        raise RuntimeError("another bug")

    async def test(served: Serving) -> None:
        async with served.client() as other:
            for name, version in (("heartbeat", 3), ("list_groups", 0)):
                async with served.client() as client:
                    if name == "heartbeat":
                        heartbeat(served, client)
                    else:
                        client.send(name, version)
                    assert await client.is_closed()
            await other.call("api_versions", 0)

    with handlers(heartbeat=fails, list_groups=fails_at_once):
        run(test)
    assert [record.message for record in caplog.records if record.exc_info] != []


# --- headers and versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [5, 99, -1, 32767])
def test_api_versions_of_any_version_is_answered_in_version_0(version: int) -> None:
    async def test(served: Serving) -> None:
        async with served.client() as client:
            client.send_frame(struct.pack(">hhi", 18, version, 77) + b"whatever")
            frame = await client.receive_frame()
            answer = decode_response("api_versions", 0, frame[4:])
            assert struct.unpack(">i", frame[:4]) == (77,)
            assert answer.error_code == 35
            own = APIS[18]
            assert [(api.api_key, api.min_version, api.max_version) for api in answer.api_keys] == [
                (own.key, own.min_version, own.max_version)
            ]
            await client.call("api_versions", 3, client_software_name="a", client_software_version="1")

    run(test)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0",
        b"\0\x12\0\0\0\0\0",
        struct.pack(">hhih", 999, 0, 1, -1),
        struct.pack(">hhih", -1, 0, 1, -1),
        struct.pack(">hhih", 4, 0, 1, -1),
        struct.pack(">hhih", 12, 99, 1, -1),
        struct.pack(">hhih", 12, -1, 1, -1),
        struct.pack(">hhih", 12, 3, 1, 5) + b"abc",
        struct.pack(">hhih", 12, 3, 1, -2),
        struct.pack(">hhih", 12, 3, 1, 2) + b"\xff\xfe",
        struct.pack(">hhih", 12, 4, 1, -1) + b"\xff\xff\xff\xff\xff\xff",
    ],
)
def test_what_is_no_request_closes_its_connection_alone(frame: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test(served: Serving) -> None:
        async with served.client() as client, served.client() as other:
            client.send_frame(frame)
            assert await client.is_closed()
            await other.call("api_versions", 0)

    with caplog.at_level(logging.INFO):
        run(test)
    lines = [record.message for record in caplog.records if record.message.startswith("kafka_connection_closed")]
    assert len(lines) == 1 and "peer=127.0.0.1:" in lines[0]
    assert not any(record.exc_info for record in caplog.records)


def test_headers_may_have_no_client_id_or_tagged_fields() -> None:
    seen = []

    def handle(request: Any, context: Any) -> Any:
        seen.append((context.client_id, context.client_host, request.member_id))
        return context.schema.HeartbeatResponse(throttle_time=_ZERO, error_code=ErrorCode.NONE)

    async def test(served: Serving) -> None:
        body = b"\x02g\0\0\0\x01\x02m\0\0"
        async with served.client() as client:
            for header in (
                encode_header(12, 4, 1, None, flexible=True),
                encode_header(12, 4, 2, "", flexible=True),
                encode_header(12, 4, 3, "\u00fc", flexible=False) + b"\x01\x07\x02ab",
                encode_header(12, 4, 4, "\u00fc", flexible=False) + b"\x01\x07\x02cd",
            ):
                client.send_frame(header + body + b"garbage after the message")
            for number in (1, 2, 3, 4):
                assert (await client.receive_frame()) == struct.pack(">i", number) + b"\0" + b"\0" * 4 + b"\0\0" + b"\0"

    with handlers(heartbeat=handle):
        run(test)
    assert [client_id for client_id, _, _ in seen] == ["", "", "\u00fc", "\u00fc"]
    assert {(host, member) for _, host, member in seen} == {("/127.0.0.1", "m")}


# --- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [-1, -(2**31), 2**31 - 1, 5001])
def test_an_impossible_length_closes_the_connection(size: int, caplog: pytest.LogCaptureFixture) -> None:
    async def test(served: Serving) -> None:
        async with served.client() as client:
            client.send("api_versions", 0)
            client.send_bytes(struct.pack(">i", size) + b"x" * 100)
            await client.receive()
            assert await client.is_closed()

    with caplog.at_level(logging.INFO):
        run(test, request_bytes_max=5000)
    assert any(f"a request of {size} bytes" in record.message for record in caplog.records)


def test_plain_requests_may_not_be_as_large_as_produces(monkeypatch: pytest.MonkeyPatch) -> None:
    from klamm.broker.kafka import connection

    monkeypatch.setattr(connection, "PLAIN_REQUEST_BYTES_MAX", 1000)

    async def test(served: Serving) -> None:
        async with served.client() as client:
            client.send_frame(encode_header(3, 0, 1, None, flexible=False) + bytes(1000))
            assert await client.is_closed()

    run(test)


def test_connections_are_limited_in_all_and_per_address() -> None:
    async def test(served: Serving) -> None:
        async with served.client() as first, served.client() as second:
            await first.call("api_versions", 0)
            await second.call("api_versions", 0)
            async with served.client() as third:
                assert await third.is_closed()
        await soon(lambda: not served.listener._connections)
        async with served.client() as again:
            await again.call("api_versions", 0)

    run(test, connections_max=2)
    run(test, connections_per_ip_max=2)


def test_idle_connections_are_closed_and_busy_ones_are_not() -> None:
    parked = Parked()

    async def test(served: Serving) -> None:
        async with served.client() as silent, served.client() as half, served.client() as busy:
            half.send_bytes(b"\0\0")  # and never more: a slow loris, or half of a connection
            heartbeat(served, busy, "a")
            await soon(lambda: "a" in parked.waiting)
            assert await silent.is_closed()
            assert await half.is_closed()
            parked.waiting["a"].set_result(None)
            await busy.receive()
            assert await busy.is_closed()

    with handlers(heartbeat=parked):
        run(test, connections_idle_ms_max=200)


def test_who_does_not_read_is_bounded_and_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def large(request: Any, context: Any) -> Any:
        begun.append(1)
        return b"\0" * 1_000_000

    async def test(served: Serving) -> None:
        unsent = served.listener.rooms.unsent_answers
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((HOST, served.port))
            deaf.setblocking(False)
            frame = encode_header(16, 0, 1, None, flexible=False)
            for _ in range(1000):
                deaf.send(struct.pack(">i", len(frame)) + frame)
            await soon(lambda: unsent.bytes > 0)
            async with served.client() as other:
                await other.call("api_versions", 0)
            assert len(begun) < 20  # what the kernel takes, and one more
            await soon(lambda: not served.listener._connections)
            assert unsent.bytes == 0

    with handlers(list_groups=large):
        run(test, connections_idle_ms_max=300)


def test_requests_of_all_connections_share_one_limit() -> None:
    """Half-sent requests fill the memory: one after the other is let through, and none is lost."""
    size = 200_000

    def handle(request: Any, context: Any) -> Any:
        return context.schema.SyncGroupResponse(
            error_code=ErrorCode.NONE, assignment=request.assignments[0].assignment[:1]
        )

    async def test(served: Serving) -> None:
        listener = served.listener

        async def one(number: int) -> None:
            async with served.client() as client:
                body = b"\0\1g" + struct.pack(">i", 1) + b"\0\1m" + struct.pack(">i", 1) + b"\0\1m"
                body += struct.pack(">i", size) + bytes([number]) * size
                frame = encode_header(14, 0, 1, None, flexible=False) + body
                data = struct.pack(">i", len(frame)) + frame
                client.send_bytes(data[: size // 2])
                await client.writer.drain()
                await soon(lambda: listener.full or done)
                client.send_bytes(data[size // 2 :])
                assert (await client.receive_frame())[-1] == number
                done.append(number)

        done: list[int] = []
        await asyncio.gather(*(one(number) for number in range(20)))
        assert len(done) == 20
        await soon(lambda: listener._held_bytes == 0 and not listener.full)

    with handlers(sync_group=handle):
        run(test, queued_request_bytes_max=1_000_000)


def test_one_who_stalls_while_others_wait_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    from klamm.broker.kafka import listener as module

    monkeypatch.setattr(module, "_FAVOURED_SECONDS_MAX", 0.1)

    async def test(served: Serving) -> None:
        async with served.client() as stalled:
            stalled.send_bytes(struct.pack(">i", 4_000_000) + bytes(600_000))
            await soon(lambda: served.listener.full)
            assert await stalled.is_closed()
            await soon(lambda: not served.listener.full)

    run(test, queued_request_bytes_max=500_000, connections_idle_ms_max=1000)


def test_who_waits_while_begun_requests_hold_the_memory_is_not_closed() -> None:
    go_on = asyncio.Event()

    async def waits(request: Any, context: Any) -> Any:
        await go_on.wait()
        return context.schema.SyncGroupResponse(error_code=ErrorCode.NONE, assignment=b"")

    async def test(served: Serving) -> None:
        async with served.client() as innocent, served.client() as busy:
            await innocent.call("api_versions", 0)
            body = b"\0\1g" + struct.pack(">i", 1) + b"\0\1m" + struct.pack(">i", 1) + b"\0\1m"
            body += struct.pack(">i", 600_000) + bytes(600_000)
            frame = encode_header(14, 0, 1, None, flexible=False) + body
            busy.send_bytes(struct.pack(">i", len(frame)) + frame)
            listener = served.listener
            await soon(lambda: listener.full and not any(each.unfinished_bytes for each in listener._connections))
            assert listener._sweep is not None
            listener._sweep.cancel()
            listener._favoured_at -= 60
            listener._close_idle()
            go_on.set()
            await busy.receive_frame()
            await innocent.call("api_versions", 0)

    with handlers(sync_group=waits):
        run(test, queued_request_bytes_max=500_000)


def test_idle_connections_cost_little() -> None:
    """Python's own share, without the event loop's: what the kernel and uvloop hold is measured by the benchmark."""
    import tracemalloc

    async def test(served: Serving) -> None:
        async def ask() -> socket.socket:
            made = socket.create_connection((HOST, served.port))
            made.setblocking(False)
            loop = asyncio.get_running_loop()
            frame = encode_header(18, 0, 1, "test", flexible=False)
            await loop.sock_sendall(made, struct.pack(">i", len(frame)) + frame)
            await loop.sock_recv(made, 4096)
            return made

        opened = [await ask()]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        opened += [await ask() for _ in range(200)]
        each = (tracemalloc.get_traced_memory()[0] - before) / 200
        tracemalloc.stop()
        for made in opened:
            made.close()
        assert each < 10_000, each

    run(test)


# --- the end ---------------------------------------------------------------------------------------------------


def test_a_stop_answers_what_has_begun() -> None:
    parked = Parked()

    async def test(served: Serving) -> None:
        async with served.client() as client, served.client() as idle:
            heartbeat(served, client, "a")
            heartbeat(served, client, "never begun")
            await soon(lambda: "a" in parked.waiting)
            stopping = asyncio.create_task(served.listener.stop(10.0))
            assert await idle.is_closed()
            parked.waiting["a"].set_result(None)
            await client.receive()
            assert await client.is_closed()
            await stopping
            with pytest.raises(OSError):
                await asyncio.open_connection(HOST, served.port)
        assert parked.begun == ["a"]

    with handlers(heartbeat=parked):
        run(test)


def test_a_stop_waits_no_longer_than_it_may() -> None:
    parked = Parked()

    async def test(served: Serving) -> None:
        async with served.client() as client:
            heartbeat(served, client, "a")
            await soon(lambda: "a" in parked.waiting)
            await served.listener.stop(0.05)
            assert await client.is_closed()
        assert parked.cancelled == ["a"]

    with handlers(heartbeat=parked):
        run(test)


def test_rule_20_nobody_is_accepted_before_it_serves() -> None:
    """The port is known, as the registration names it, and refuses."""

    async def main() -> None:
        listener = KafkaListener(LISTEN)
        port = listener.bind()
        with pytest.raises(OSError):
            await asyncio.open_connection(HOST, port)
        await listener.stop(0)

    run_as_a_broker_does(main())


def test_a_port_that_is_taken_is_named() -> None:
    async def test(served: Serving) -> None:
        other = KafkaListener(replace(LISTEN, listen=LISTEN.listen._replace(port=served.port)))
        with pytest.raises(KafkaError, match="free the port"):
            other.bind()

    async def bound_twice() -> None:
        """Until one of them listens, the kernel lets two have a port."""
        first = KafkaListener(LISTEN)
        second = KafkaListener(replace(LISTEN, listen=LISTEN.listen._replace(port=first.bind())))
        second.bind()
        await first.serve(cast(Any, None))
        with pytest.raises(KafkaError, match="free the port"):
            await second.serve(cast(Any, None))
        await first.stop(0)
        await second.stop(0)

    run(test)
    run_as_a_broker_does(bound_twice())


def test_every_row_of_the_table_has_a_handler() -> None:
    for api in APIS.values():
        for version in range(api.min_version, api.max_version + 1):
            route.find_route(api.key, version)
