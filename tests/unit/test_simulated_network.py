"""The simulated network by itself: what arrives late, after its connection was given up."""

from __future__ import annotations

from random import Random

from simulator.loop import SimulatedLoop
from simulator.network import RESET, End, Network
from simulator.process import Process


def test_what_was_sent_on_a_stranded_connection_arrives_after_what_comes_on_the_next_one() -> None:
    loop = SimulatedLoop()
    loop.network = network = Network(loop, Random(1))
    client, server = Process("client", "10.0.2.1"), Process("server", "10.0.1.1")
    heard: list[tuple[int, object, float]] = []
    ends: list[str] = []

    def accept(end: End) -> None:
        number = len(accepted)
        accepted.append(end)
        end.on_message = lambda message: heard.append((number, message, round(loop.time() - began_s)))
        end.on_close = lambda reason: ends.append(reason)

    async def talk() -> None:
        first = await network.connect(client, server.host, 1)
        first.on_close = lambda reason: ends.append(f"near {reason}")
        network.strand(first, hold_s=1.0, late_s=3.0)
        first.send("held")
        await loop_sleep(1.5)
        first.send("never: the connection is gone")
        second = await network.connect(client, server.host, 1)
        second.send("at once")
        await loop_sleep(5.0)

    async def loop_sleep(seconds: float) -> None:
        done = loop.create_future()
        loop.call_later(seconds, done.set_result, None)
        await done

    accepted: list[End] = []
    try:
        began_s = loop.time()
        network.listen(server, 1, accept)
        loop.run_until_complete(talk())
    finally:
        loop.close()
    assert heard == [(1, "at once", 2), (0, "held", 4)]
    assert ends == [f"near {RESET}", RESET]
