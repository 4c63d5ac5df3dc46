"""Rule 21 under random faults: several coordinators over one replicated partition of __consumer_offsets, one seed.

Leaders change, brokers hear of it late and go on as if nothing had happened, followers copy when they like, appends are
refused or time out, replicas leave the ISR and come back. Clients commit ever larger offsets, each for a group of its
own, to whichever coordinator they last heard of, and fetch in between.

What is checked: whoever answers a fetch shows at least what any coordinator had acked, or shown, before the fetch was
asked; and never something that nobody committed. (A coordinator that was deposed and does not know it yet shows nothing
once another has begun; in Apache Kafka it shows what was true when it was deposed.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from harness.coordinator import CoordinatorUnderTest, commit_request, fetch_request
from harness.replicated_group_log import ReplicatedGroupLog
from harness.virtual_loop import VirtualLoop, run_virtual
from klamm.broker.groups.group_config import GroupConfig
from klamm.proto.errors import ErrorCode

SEEDS = range(12)
BROKERS = (1, 2, 3)
CLIENTS = 6
DURATION_S = 20.0
_REFUSALS = (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.KAFKA_STORAGE_ERROR)


@dataclass
class World:
    loop: VirtualLoop
    random: Random
    log: ReplicatedGroupLog
    brokers: dict[int, CoordinatorUnderTest]
    counts: Counter[str] = field(default_factory=Counter)
    ends_s: float = 0.0

    @property
    def over(self) -> bool:
        return self.loop.time() >= self.ends_s

    async def pause(self, most_s: float) -> None:
        await asyncio.sleep(self.random.uniform(0, most_s))

    def epoch_of(self, broker: int) -> int | None:
        """In which the broker believes to lead."""
        return self.log.replicas[broker].leads_in


@dataclass
class Client:
    """Its group has one offset, which only grows; nobody may go below `floor`."""

    group_id: str
    tried: int = 0
    floor: int = -1


async def live(world: World, client: Client) -> None:
    """Commits and fetches, now here, now there."""
    broker = world.random.choice(BROKERS)
    while not world.over:
        await world.pause(0.2)
        if world.random.random() < 0.2:
            broker = world.random.choice((world.log.leader, *BROKERS))
        epoch = world.epoch_of(broker)
        if world.random.random() < 0.5:
            error = await _commit(world, client, broker, epoch)
        else:
            error = await _fetch(world, client, broker, epoch)
        world.counts[error.name] += 1
        if error is not ErrorCode.NONE:
            broker = world.random.choice((world.log.leader, world.log.leader, *BROKERS))


async def _commit(world: World, client: Client, broker: int, epoch: int | None) -> ErrorCode:
    client.tried += 1
    value = client.tried
    request = commit_request(client.group_id, {("t", 0): value})
    error = (await world.brokers[broker].coordinator.commit_offsets(request)).errors[0]
    if error is ErrorCode.NONE:
        assert epoch is not None and world.epoch_of(broker) == epoch, "acked outside of the leadership that appended it"
        client.floor = max(client.floor, value)
        world.counts["acked"] += 1
    return error


async def _fetch(world: World, client: Client, broker: int, epoch: int | None) -> ErrorCode:
    floor = client.floor
    request = fetch_request(client.group_id, ("t", 0), require_stable=world.random.random() < 0.5)
    answer = await world.brokers[broker].coordinator.fetch_offsets(request)
    if answer.error is ErrorCode.NONE:
        assert epoch is not None and world.epoch_of(broker) == epoch, "shown outside of its leadership"
        shown = -1 if answer.offsets[0].offset is None else int(answer.offsets[0].offset)
        assert floor <= shown <= client.tried, f"{client.group_id} epoch {epoch}: {shown}, was {floor}"
        client.floor = max(client.floor, shown)
    return answer.error


async def replicate(world: World) -> None:
    slowness_s = world.random.choice((0.05, 0.5))
    while not world.over:
        await world.pause(slowness_s)
        for broker in BROKERS:
            if world.random.random() < 0.6:
                for _ in range(world.random.randint(1, 5)):
                    world.log.fetch(broker)


async def misfortune(world: World) -> None:
    """What happens to leaders, replicas and appends. A replica out of the ISR comes back once it has caught up."""
    log, random = world.log, world.random
    while not world.over:
        await world.pause(1.5)
        kind = random.choice(("elect", "elect", "shrink", "expand", "refuse", "time out"))
        if kind == "elect":
            shortest = min(sorted(log.isr), key=lambda broker: len(log.replicas[broker].batches))
            log.elect(random.choice((shortest, *sorted(log.isr))))
        elif kind == "shrink" and len(log.isr) > 1:
            log.isr.discard(random.choice([broker for broker in sorted(log.isr) if broker != log.leader]))
            log.advance()
        elif kind == "expand":
            leader = log.replicas[log.leader]
            for broker in BROKERS:
                replica = log.replicas[broker]
                if replica.epoch == log.epoch == leader.leads_in and replica.batches == leader.batches:
                    log.isr.add(broker)
        elif kind == "refuse":
            log.append_errors = [random.choice(_REFUSALS)]
        elif kind == "time out":
            log.time_out(random.choice(BROKERS))
        world.counts[kind] += 1


async def hear(world: World, broker: int) -> None:
    """The metadata reach each broker in their own time."""
    while not world.over:
        await world.pause(1.0)
        await world.brokers[broker].metadata()


async def simulate(loop: VirtualLoop, seed: int) -> World:
    random = Random(seed)
    log = ReplicatedGroupLog(BROKERS, auto=False, min_isr=random.choice((1, 2)))
    config = GroupConfig(offsets_commit_timeout_ms=1_000)
    brokers = {broker: CoordinatorUnderTest(loop, config=config, log=log, broker=broker) for broker in BROKERS}
    world = World(loop, random, log, brokers, ends_s=loop.time() + DURATION_S)
    clients = [Client(f"group-{number}") for number in range(CLIENTS)]
    async with asyncio.TaskGroup() as group:
        group.create_task(replicate(world))
        group.create_task(misfortune(world))
        for broker in BROKERS:
            group.create_task(hear(world, broker))
        for client in clients:
            group.create_task(live(world, client))
    await _in_the_end(world, clients)
    return world


async def _in_the_end(world: World, clients: list[Client]) -> None:
    """All is well again: nothing that was ever acked is missing."""
    log = world.log
    log.append_errors = []
    for broker in BROKERS:
        await world.brokers[broker].metadata()
    log.replicate()
    log.isr = set(BROKERS)
    log.advance()
    leader = world.brokers[log.leader]
    await leader.loaded()
    for client in clients:
        assert await _fetch(world, client, log.leader, log.epoch) is ErrorCode.NONE
    for under_test in world.brokers.values():
        await under_test.coordinator.shutdown()
        assert under_test.failures == []


@pytest.mark.parametrize("seed", SEEDS)
def test_rule_21_an_acked_commit_is_seen_by_every_later_coordinator_under_random_faults(seed: int) -> None:
    async def main(loop: VirtualLoop) -> World:
        return await simulate(loop, seed)

    world: Any = run_virtual(main)
    assert world.counts["acked"] > 20
    assert world.counts["elect"] > 3
