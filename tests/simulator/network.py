"""The simulated network: connections between processes, each way in order, delayed, held up or broken as the seed says.

A connection is what TCP gives: a message sent arrives once and in order, or the connection breaks. While a way is cut
what is sent waits; after some time without a sign of life both ends give the connection up, each by itself.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from simulator.process import Process

if TYPE_CHECKING:
    from simulator.loop import SimulatedLoop, _Handle

KEEPALIVE_S: Final = 2.0
"""After so long on a cut way a connection is given up. Shorter than in life, as the runs are."""
_CONNECT_TIMEOUT_S: Final = 1.0
_READ_WITHIN_S: Final = 0.05
_TIME: Final = struct.Struct("<d")
FIN: Final = "closed by the peer"
RESET: Final = "connection reset by peer"

Accept = Callable[["End"], None]


class Way:
    """One direction of a connection."""

    def __init__(self, network: Network, source: End, target: End) -> None:
        self._network = network
        self._source, self._target = source, target
        self._label = f"{source.host}:{source.port}>{target.host}:{target.port}@".encode()
        self._under_way: deque[tuple[float, Any, bool]] = deque()
        self._last_s = 0.0
        self._timer: _Handle | None = None

    def send(self, message: Any, *, last: bool = False) -> None:
        network = self._network
        due = network.loop.now_s + network.delay_s(self._source.host, self._target.host)
        if due < self._last_s:
            due = self._last_s
        self._last_s = due
        network.note(self._label, due, message)
        self._under_way.append((due, message, last))
        if self._timer is None:
            self.go_on()

    def not_before(self, when_s: float) -> None:
        """What is sent from now on arrives then or later."""
        self._last_s = max(self._last_s, when_s)

    def go_on(self) -> None:
        """Sets the timer for what is next, unless the way is cut."""
        if self._timer is None and self._under_way and not self._network.is_cut(self._source.host, self._target.host):
            due = max(self._under_way[0][0], self._network.loop.now_s)
            self._timer = self._network.loop.call_at(due, self._arrive, context=self._target.process.context)

    def _arrive(self) -> None:
        self._timer = None
        if self._network.is_cut(self._source.host, self._target.host):
            return
        now, under_way, target = self._network.loop.now_s, self._under_way, self._target
        while under_way and under_way[0][0] <= now:
            _, message, last = under_way.popleft()
            if last:
                target.broken(message)
            elif target.open:
                target.on_message(message)
        if under_way:
            self.go_on()


class End:
    """One process' end of a connection. Set `on_message` and `on_close` before control goes back to the loop."""

    def __init__(self, network: Network, process: Process, port: int) -> None:
        self.network = network
        self.process = process
        self.host = process.host
        self.port = port
        self.peer: End
        self.way: Way
        self.open = True
        self.patient = False  # has no keepalive: a way that is cut is waited for
        self.on_message: Callable[[Any], None] = _ignore
        self.on_close: Callable[[str], None] = _ignore
        process.ends[self] = None

    def send(self, message: Any) -> None:
        """Sends; dropped without a word where the connection is gone, as in life the news comes by `on_close`."""
        if self.open:
            self.way.send(message)

    def close(self, reason: str = FIN) -> None:
        """Ends the connection; the peer hears of it once what was sent before has arrived."""
        if self.open:
            self._forget()
            self.way.send(reason, last=True)

    def broken(self, reason: str) -> None:
        """The connection is gone for this end."""
        if self.open:
            self._forget()
            self.on_close(reason)

    def _forget(self) -> None:
        self.open = False
        self.process.ends.pop(self, None)


class Network:
    """Hosts are names; `delays_ms` are drawn from for every message."""

    def __init__(self, loop: SimulatedLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.tcp_random = Random(random.getrandbits(64))
        self.delays_ms: tuple[float, ...] = (0.2, 0.2, 0.5, 1.0)
        self.slow_hosts: dict[str, float] = {}  # more delay for all of a host's messages, in ms
        self._cut: set[tuple[str, str]] = set()
        self._listeners: dict[tuple[str, int], tuple[Process, Accept]] = {}
        self._ends: dict[End, None] = {}
        self._digest = hashlib.blake2b(digest_size=16)
        self.closed = False  # the run is over: what is still said nobody hears

    # --- connections -----------------------------------------------------------------------------------------

    def listen(self, process: Process, port: int, accept: Accept) -> None:
        """:raises OSError: the port is in use."""
        if self.listens(process.host, port):
            raise OSError(errno.EADDRINUSE, f"port {port} is in use")
        self._listeners[process.host, port] = (process, accept)

    def listens(self, host: str, port: int) -> bool:
        found = self._listeners.get((host, port))
        return found is not None and found[0].alive

    def unlisten(self, process: Process, port: int) -> None:
        found = self._listeners.get((process.host, port))
        if found is not None and found[0] is process:
            del self._listeners[process.host, port]

    async def connect(self, process: Process, host: str, port: int) -> End:
        """:raises ConnectionError: nobody listens there. :raises TimeoutError: no way there and back."""
        loop = self.loop
        began = loop.time()
        while self.is_cut(process.host, host) or self.is_cut(host, process.host):
            if loop.time() - began >= _CONNECT_TIMEOUT_S:
                raise TimeoutError(f"{host}:{port} does not answer")
            await asyncio.sleep(0.1)
        await asyncio.sleep(self.delay_s(process.host, host) + self.delay_s(host, process.host))
        found = self._listeners.get((host, port))
        if found is None or not found[0].alive:
            raise ConnectionRefusedError(f"{host}:{port} refuses connections")
        server, accept = found
        process.next_port += 1
        near, far = End(self, process, process.next_port), End(self, server, port)
        near.peer, far.peer = far, near
        near.way, far.way = Way(self, near, far), Way(self, far, near)
        self._ends[near] = self._ends[far] = None
        if len(self._ends) > 500:
            self._ends = {end: None for end in self._ends if end.open or end.peer.open}
        loop.call_soon(accept, far, context=server.context.copy())
        return near

    def delay_s(self, source: str, target: str) -> float:
        delays = self.delays_ms
        delay = delays[int(self.random.random() * len(delays))]
        if self.slow_hosts:
            delay += self.slow_hosts.get(source, 0.0) + self.slow_hosts.get(target, 0.0)
        return delay / 1000

    # --- faults ----------------------------------------------------------------------------------------------

    def is_cut(self, source: str, target: str) -> bool:
        return bool(self._cut) and (source, target) in self._cut

    def cut(self, source: str, target: str) -> None:
        """Nothing gets from `source` to `target` any more; the other way is another matter."""
        self._cut.add((source, target))
        self.loop.call_at(self.loop.time() + KEEPALIVE_S, self._give_up, source, target)

    def mend(self, ways: Iterable[tuple[str, str]] | None = None) -> None:
        """These ways are open; None: all."""
        self._cut.difference_update(tuple(self._cut) if ways is None else ways)
        for end in list(self._ends):
            end.way.go_on()

    def _give_up(self, source: str, target: str) -> None:
        if not self.is_cut(source, target):
            return
        for end in list(self._ends):
            if {end.host, end.peer.host} == {source, target} and end.open and not end.patient:
                self.loop.call_soon(end.broken, "keepalive watchdog timeout", context=end.process.context)

    def reset(self, end: End) -> None:
        """Breaks a connection; both ends hear of it at once, what was under way is gone."""
        for each in (end, end.peer):
            if each.open:
                self.loop.call_soon(each.broken, RESET, context=each.process.context)

    def strand(self, end: End, hold_s: float, late_s: float) -> None:
        """What this end sends from now on is held up; after `hold_s` it gives the connection up, and may make another.
        What it had sent arrives all the same, `late_s` later, and then the news of the end: so it is with packets that
        were sent again and again, or that lay where nobody read them."""
        now = self.loop.time()
        end.way.not_before(now + hold_s + late_s)
        self.loop.call_at(now + hold_s, self._abandon, end, now + hold_s + late_s + _READ_WITHIN_S)

    def _abandon(self, end: End, known_s: float) -> None:
        if end.open:
            end.way.not_before(known_s)  # before it hears of the end the other one reads what has come
            end.way.send(RESET, last=True)
            self.loop.call_soon(end.broken, RESET, context=end.process.context)

    def died(self, process: Process) -> None:
        """The kernel of a killed process' machine closes its connections and ports."""
        for address in [address for address, (owner, _) in self._listeners.items() if owner is process]:
            del self._listeners[address]
        for end in list(process.ends):
            orderly = end.patient and self.tcp_random.random() < 0.5  # nothing had come that was not read
            end.close(FIN if orderly else RESET)

    # --- for comparing runs ----------------------------------------------------------------------------------

    def note(self, way: bytes, due_s: float, message: Any) -> None:
        """Every message goes into the digest: from where, to where, when, and its bytes."""
        if self.closed:
            return
        parts = message if type(message) is tuple else (message,)
        content = b" ".join([part if type(part) is bytes else repr(part).encode() for part in parts])
        self._digest.update(b"%b%b %b" % (way, _TIME.pack(due_s), content))

    def digest(self) -> str:
        """Of all that was sent; two runs of one seed have the same."""
        return self._digest.copy().hexdigest()

    def connections(self) -> list[End]:
        """One end of each that is open."""
        return [end for end in self._ends if end.open and end.peer.open and end.port >= 40_000]


def _ignore(_: Any) -> None:
    """Until somebody wants to know."""
