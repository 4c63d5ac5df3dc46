"""The simulated TCP does what the kernel's does, as asyncio's protocols see it: both are held to each expectation."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from harness.two_tcps import Hosts, Scenario, SimulatedHosts, run_real, run_simulated
from simulator.network import KEEPALIVE_S
from simulator.tcp import WINDOW_BYTES

Run = Callable[[Scenario], None]
FEW_SEEDS = range(5)


@pytest.fixture(params=["real", "simulated"])
def run(request: pytest.FixtureRequest) -> Run:
    return run_real if request.param == "real" else run_simulated


class Peer(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = bytearray()
        self.pieces = 0
        self.eof = False
        self.keep_open = False
        self.lost: list[Exception | None] = []
        self.writing: list[str] = []
        self.refuses: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data
        if self.refuses is not None:
            raise self.refuses
        self.received += data
        self.pieces += 1

    def eof_received(self) -> bool:
        self.eof = True
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.writing.append("pause")

    def resume_writing(self) -> None:
        self.writing.append("resume")


class BufferedPeer(asyncio.BufferedProtocol):
    """The same with a buffer of its own, which is small."""

    def __init__(self) -> None:
        self.notes = Peer()
        self._buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.notes.data_received(bytes(self._buffer[:nbytes]))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.notes.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.notes.connection_lost(exc)

    def eof_received(self) -> bool:
        return self.notes.eof_received()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - protocols tell by being called
            await asyncio.sleep(0.002)


async def pair(hosts: Hosts, make: Callable[[], Any] = Peer) -> tuple[Peer, Peer]:
    """Client and server of a new connection, and nobody listens any more."""
    accepted: list[Any] = []

    def accept() -> Any:
        accepted.append(make())
        return accepted[0]

    server = await hosts.listen(accept)
    _, client = await hosts.connect(Peer)
    await until(lambda: bool(accepted) and getattr(accepted[0], "notes", accepted[0]).transport is not None)
    server.close()
    await server.wait_closed()
    return client, getattr(accepted[0], "notes", accepted[0])


async def end(*peers: Peer) -> None:
    """Closes what is open, and waits for it."""
    for peer in peers:
        peer.transport.abort()
    await until(lambda: all(len(peer.lost) == 1 for peer in peers))


def some_bytes(size: int) -> bytes:
    return Random(size).randbytes(size)


@pytest.mark.parametrize("make", [Peer, BufferedPeer])
def test_bytes_come_in_order_both_ways(run: Run, make: Callable[[], Any]) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts, make)
        random = Random(1)
        sent = some_bytes(300_000)
        position = 0
        while position < len(sent):
            size = random.choice((1, 3, 100, 20_000, 100_000))
            client.transport.write(sent[position : position + size])
            position += size
            if random.random() < 0.3:
                await asyncio.sleep(0)
        server.transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three")])
        server.transport.write(b"")
        await until(lambda: len(server.received) == len(sent) and len(client.received) == 13)
        assert server.received == sent
        assert client.received == b"one two three"
        assert client.transport.get_write_buffer_size() == 0
        await end(client, server)

    run(scenario)


def test_each_knows_the_other(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        here, there = client.transport, server.transport
        assert here.get_extra_info("peername") == there.get_extra_info("sockname")
        assert here.get_extra_info("sockname") == there.get_extra_info("peername")
        assert here.get_extra_info("peername")[1] == hosts.port
        assert here.get_extra_info("socket").getpeername() == here.get_extra_info("peername")
        assert here.get_extra_info("what") is None
        assert here.get_protocol() is client
        assert not here.is_closing() and here.is_reading() and here.can_write_eof()
        await end(client, server)

    run(scenario)


def test_who_does_not_read_holds_the_sender_up(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.set_write_buffer_limits(high=50_000, low=10_000)
        assert client.transport.get_write_buffer_limits() == (10_000, 50_000)
        sent = bytearray()
        while not client.writing and len(sent) < 100_000_000:
            more = some_bytes(100_000)
            client.transport.write(more)
            sent += more
            await asyncio.sleep(0)
        assert client.writing == ["pause"]
        assert client.transport.get_write_buffer_size() > 50_000
        assert not server.received
        server.transport.resume_reading()
        await until(lambda: len(server.received) == len(sent))
        assert server.received == sent
        await until(lambda: client.writing == ["pause", "resume"])
        await end(client, server)

    run(scenario)


def test_the_limits_are_checked(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        for limits, expected in (({}, (16_384, 65_536)), ({"high": 400}, (100, 400)), ({"low": 100}, (100, 400))):
            client.transport.set_write_buffer_limits(**limits)
            assert client.transport.get_write_buffer_limits() == expected
        with pytest.raises(ValueError):
            client.transport.set_write_buffer_limits(high=1, low=2)
        with pytest.raises(TypeError):
            client.transport.write("text")
        await end(client, server)

    run(scenario)


def test_closing_sends_what_was_written(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        sent = some_bytes(3_000_000)
        client.transport.write(sent)
        client.transport.close()
        client.transport.close()
        assert client.transport.is_closing()
        await until(lambda: server.lost == [None] and client.lost == [None])
        assert server.received == sent and server.eof
        client.transport.write(b"nobody is there")  # without a word
        assert server.transport.is_closing()

    run(scenario)


def test_half_closed(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        server.keep_open = True
        client.transport.write(b"question")
        client.transport.write_eof()
        with pytest.raises(RuntimeError):
            client.transport.write(b"more")
        await until(lambda: server.eof)
        assert server.received == b"question"
        server.transport.write(b"answer")
        server.transport.close()
        await until(lambda: client.lost == [None] and server.lost == [None])
        assert client.received == b"answer"

    run(scenario)


def test_abort(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        client.transport.write(b"x")
        await until(lambda: server.received == b"x")
        client.transport.abort()
        client.transport.abort()
        await until(lambda: len(client.lost) == len(server.lost) == 1)
        assert client.lost == [None]
        assert server.lost[0] is None or isinstance(server.lost[0], ConnectionError)

    run(scenario)


def test_closed_with_bytes_unread_is_a_reset(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        server.transport.pause_reading()
        client.transport.write(b"unread")
        await asyncio.sleep(0.05)
        server.transport.close()
        await until(lambda: len(client.lost) == 1)
        assert isinstance(client.lost[0], ConnectionResetError)
        assert server.lost == [None]

    run(scenario)


def test_writing_to_a_peer_that_is_gone(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        client.keep_open = True
        server.transport.close()
        await until(lambda: client.eof)
        async with asyncio.timeout(10):
            while not client.lost:
                client.transport.write(b"x")
                await asyncio.sleep(0.002)
        assert isinstance(client.lost[0], ConnectionError)

    run(scenario)


def test_a_protocol_that_fails(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        server.refuses = ValueError("boom")
        client.transport.write(b"x")
        await until(lambda: len(client.lost) == len(server.lost) == 1)
        assert server.lost == [server.refuses]
        assert [problem["exception"] for problem in hosts.problems] == [server.refuses]

    run(scenario)


def test_nobody_listens(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        client, server = await pair(hosts)
        with pytest.raises(ConnectionRefusedError):
            await hosts.connect(Peer)
        client.transport.write(b"still here")  # connections outlive the server
        await until(lambda: server.received == b"still here")
        await end(client, server)

    run(scenario)


def test_a_port_is_taken_once(run: Run) -> None:
    async def scenario(hosts: Hosts) -> None:
        server = await hosts.listen(Peer)
        assert server.is_serving() and server.sockets[0].getsockname()[1] == hosts.port
        with pytest.raises(OSError) as caught:
            await hosts.listen(Peer)
        assert caught.value.errno == errno.EADDRINUSE
        server.close()
        await server.wait_closed()
        again = await hosts.listen(Peer)
        again.close()
        await again.wait_closed()

    run(scenario)


# --- what the kernel does not do on demand -------------------------------------------------------------------


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_bytes_are_split_and_joined(seed: int) -> None:
    async def scenario(hosts: SimulatedHosts) -> None:
        client, server = await pair(hosts)
        for _ in range(300):
            client.transport.write(b"0123456789")
            await asyncio.sleep(0.001)
        await until(lambda: len(server.received) == 3000)
        assert server.received == b"0123456789" * 300
        pieces.append(server.pieces)

    pieces: list[int] = []
    run_simulated(scenario, seed)
    run_simulated(scenario, seed)
    assert pieces[0] == pieces[1] != 300


def test_a_window_is_all_that_is_under_way() -> None:
    async def scenario(hosts: SimulatedHosts) -> None:
        client, server = await pair(hosts)
        hosts.server.paused = True
        client.transport.write(bytes(200_000))
        await asyncio.sleep(1)
        assert client.transport.get_write_buffer_size() == 200_000 - WINDOW_BYTES
        hosts.server.paused = False
        hosts.network.loop.resume(hosts.server.held)
        await until(lambda: len(server.received) == 200_000)

    run_simulated(scenario)


def test_a_way_that_is_cut_holds_bytes_up_for_however_long() -> None:
    async def scenario(hosts: SimulatedHosts) -> None:
        client, server = await pair(hosts)
        hosts.network.cut(hosts.client.host, hosts.server.host)
        client.transport.write(b"question")
        server.transport.write(b"the other way is open")
        await asyncio.sleep(3 * KEEPALIVE_S)
        assert not server.received and client.received == b"the other way is open"
        with pytest.raises(TimeoutError):
            await hosts.connect(Peer)
        hosts.network.mend()
        await until(lambda: server.received == b"question")
        assert not client.lost and not server.lost

    run_simulated(scenario)


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_a_kill_breaks_connections(seed: int) -> None:
    async def scenario(hosts: SimulatedHosts) -> None:
        client, server = await pair(hosts)
        server.transport.write(b"last words")
        hosts.kill(hosts.server)
        await until(lambda: len(client.lost) == 1)
        assert client.received == b"last words"
        assert client.lost[0] is None or isinstance(client.lost[0], ConnectionResetError)
        assert not server.lost  # it is dead
        with pytest.raises(ConnectionRefusedError):
            await hosts.connect(Peer)

    run_simulated(scenario, seed)


def test_a_reset_breaks_both_ends() -> None:
    async def scenario(hosts: SimulatedHosts) -> None:
        client, server = await pair(hosts)
        client.transport.write(b"lost under way")
        hosts.network.reset(hosts.network.connections()[0])
        await until(lambda: len(client.lost) == len(server.lost) == 1)
        assert all(isinstance(peer.lost[0], ConnectionResetError) for peer in (client, server))
        assert not server.received

    run_simulated(scenario)
