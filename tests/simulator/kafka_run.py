"""A run in which all clients speak Kafka's protocol: two producers, one that pipelines over leaders, a careless one, a
reader, a group; some crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from simulator.kafka_clients import kafka_assigned_consumer, kafka_group_member, kafka_producer
from simulator.pipelining_producer import pipelining_producer
from simulator.run import Run
from simulator.schedule import Fault, Topic, draw
from simulator.workload import Workload
from simulator.world import World, simulate

_FAULT_EVERY_MS: Final = 400
_TOPICS: Final = (
    Topic("t", 2, 3, {"min.insync.replicas": "2"}),
    Topic("compacted", 1, 3, {"cleanup.policy": "compact", "segment.bytes": "1000"}),
)


class KafkaWorkload(Workload):
    """In the place of the SDK's clients."""

    def start(self) -> None:
        world, stop = self.world, self.stop
        for number in range(2):
            self.run(f"producer-{number}", lambda name: kafka_producer(world, name, "t", stop))
        self.run("careless", lambda name: kafka_producer(world, name, "compacted", stop, strong=False))
        self.run("pipelining", lambda name: pipelining_producer(world, name, "t", 1, stop))
        self.run("reader", lambda name: kafka_assigned_consumer(world, name, "t", 0, stop))
        for number in range(2):
            self.run(f"member-{number}", lambda name: kafka_group_member(world, name, "g", ["t", "compacted"], stop))


def run_kafka_clients(seed: int, kinds: Sequence[str], *, crashes: int = 0) -> World:
    """The world after a run with these faults, one after the other. :raises Breach: a rule was broken."""
    random = Random(seed)
    faults = tuple(
        Fault(_FAULT_EVERY_MS * place, kind, random.getrandbits(32)) for place, kind in enumerate(kinds, start=1)
    )
    plan = replace(draw(seed), brokers=3, topics=_TOPICS, faults=faults, delays_ms=(0.2, 0.5, 5.0))

    async def main(world: World) -> World:
        whole = Run(world, plan)
        workload = whole.workload = KafkaWorkload(world, plan.workload)
        for crash in range(crashes):
            world.loop.call_later(2.0 + crash, workload.crash, random)
        await whole.go()
        return world

    return simulate(seed, main, brokers=plan.brokers)
