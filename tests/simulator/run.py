"""One run: a cluster, its clients, the faults of a plan, healing, and the oracles all the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from klamm.client import AsyncAdmin, NewTopic
from klamm.proto.errors import InvalidReplicationFactorError
from simulator.faults import FAULTS, heal
from simulator.loop import _Handle
from simulator.oracles import Oracles
from simulator.schedule import Plan
from simulator.workload import Workload
from simulator.world import World, simulate

STEP_S: Final = 0.01
_HEALED_WITHIN_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run; `error` is None where every rule held."""

    plan: Plan
    error: BaseException | None
    transcript: str
    acked: int
    simulated_s: float
    digest: str


class Run:
    """Drives one plan over a world."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.oracles = Oracles(world)
        self.workload = Workload(world, plan.workload)
        self._watching: _Handle | None = None
        self._breach: Exception | None = None

    async def go(self) -> None:
        """:raises Breach: a rule was broken. :raises AssertionError: something took for ever."""
        world, plan = self.world, self.plan
        world.network.delays_ms = plan.delays_ms
        world.broker_properties |= plan.broker_settings
        world.controller_settings |= plan.controller_settings
        world.start()
        await world.until(lambda: all(broker.serving for broker in world.brokers.values()), "the brokers start")
        await self._create_topics()
        self._watch_later()
        self.workload.start()
        began_s = world.loop.time()
        for fault in plan.faults:
            await asyncio.sleep(max(0.0, began_s + fault.at_ms / 1000 - world.loop.time()))
            self._check()
            world.transcript.note(f"fault {fault.kind}")
            FAULTS[fault.kind](world, Random(fault.choice))
        await asyncio.sleep(0.5)
        await heal(world)
        self._check()
        await self.workload.end()
        await self._until_healed()
        self._check()
        if self._watching is not None:
            self._watching.cancel()
        self.oracles.step()
        await self.oracles.finish()
        for task in world.tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _create_topics(self) -> None:
        async def create() -> None:
            topics = [
                NewTopic(each.name, each.partitions, each.replication_factor, topic_configs=dict(each.configs))
                for each in self.plan.topics
            ]
            async with AsyncAdmin(bootstrap_servers=self.world.bootstrap_servers) as admin:
                while True:
                    try:
                        await admin.create_topics(topics)
                        return
                    except InvalidReplicationFactorError:
                        await asyncio.sleep(0.1)  # the broker that was asked has not heard of all of them yet

        process = self.world.client("founder", 251)
        task: asyncio.Task[None] = process.run(lambda: self.world.loop.create_task(create()))
        await self.world.until(task.done, "the topics are made")
        task.result()

    def _watch_later(self) -> None:
        self._watching = self.world.loop.call_later(STEP_S, self._watch)

    def _watch(self) -> None:
        try:
            self.oracles.step()
        except Exception as error:  # noqa: BLE001 - raised where the run looks next
            self._breach = error
        else:
            self._watch_later()

    def _check(self) -> None:
        if self._breach is not None:
            raise self._breach
        self.workload.check()

    async def _until_healed(self) -> None:
        loop = self.world.loop
        deadline = loop.time() + _HEALED_WITHIN_S
        while (lacking := self.oracles.healed()) is not None:
            self._check()
            if loop.time() > deadline:
                raise AssertionError(f"liveness: {_HEALED_WITHIN_S:g} s after healing {lacking}")
            await asyncio.sleep(0.1)


def run_plan(plan: Plan, around: Callable[[World], None] | None = None) -> Outcome:
    """Runs a plan to its end or to the first breach. `around` may change the world before it starts (mutants)."""
    worlds: list[World] = []

    async def main(world: World) -> None:
        worlds.append(world)
        if around is not None:
            around(world)
        try:
            await Run(world, plan).go()
        except Exception as error:
            world.transcript.note(f"breach {error}")
            raise

    error: BaseException | None = None
    try:
        simulate(plan.seed, main, brokers=plan.brokers)
    except Exception as failure:  # noqa: BLE001 - whatever it is, it is the outcome
        error = failure
    world = worlds[0]
    return Outcome(
        plan=plan,
        error=error,
        transcript=world.transcript.text(),
        acked=world.ledger.acked_count,
        simulated_s=world.loop.now_s - 1_000,
        digest=world.network.digest() if hasattr(world.network, "digest") else "",
    )
