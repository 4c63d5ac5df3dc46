"""Random faults over a simulated cluster: nothing acked is lost, and every rule holds at every step.

A failure prints its seed; `KLAMM_SEED=n pytest tests/simulation` runs that one alone, `KLAMM_SEEDS=n` runs more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from harness.record_batches import record_batch
from harness.simulated_cluster import SimulatedBroker, SimulatedCluster
from harness.virtual_loop import VirtualLoop, run_virtual
from klamm.broker.partition import Partition
from klamm.broker.replica_manager import PartitionFetch, PartitionProduce
from klamm.broker.replication import replication_service
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import LeaderEpoch, Offset
from klamm.proto.record_batch import batches, set_offset_and_epoch
from simulation.replication_oracles import Oracles, whole_log

ONE_SEED = os.environ.get("KLAMM_SEED")
SEEDS = range(int(os.environ.get("KLAMM_SEEDS", "60"))) if ONE_SEED is None else [int(ONE_SEED)]
FAULTS = (
    *("kill", "kill", "restart", "restart", "stop", "controller", "preferred", "calm", "calm"),
    *("cut", "cut_controller", "isolate", "mend", "power", "reassign", "min_isr"),
)
TOPIC = "t"


class Run:
    """One seed."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.random = Random(seed)
        self.cluster = SimulatedCluster(loop, self.random)
        self.oracles = self.make_oracles()
        self.running = True
        self.acks = 0

    def make_oracles(self) -> Oracles:
        return Oracles(self.cluster)

    def topic_configs(self) -> dict[str, str]:
        configs = {"segment_bytes": "1000"} if self.random.random() < 0.3 else {}
        if self.random.random() < 0.3:
            configs["min_insync_replicas"] = "1"
        return configs

    def clients(self) -> list[Coroutine[Any, Any, None]]:
        clients = [self._produce(number, number % 2) for number in range(4)]
        clients += [self._produce_carelessly(number) for number in range(2)]
        return clients + [self._consume(number) for number in range(2)]

    async def run(self) -> None:
        cluster, random = self.cluster, self.random
        await cluster.start()
        configs = self.topic_configs()
        cluster.create_topic(TOPIC, [random.sample([1, 2, 3], 3) for _ in range(2)], **configs)
        cluster.loss = random.choice((0.0, 0.0, 0.2))
        cluster.delays_ms = random.choice((cluster.delays_ms, (0.2, 1.0, 30.0), (1.0, 20.0, 150.0)))
        cluster.controller_delays_ms = random.choice((cluster.controller_delays_ms, (1.0, 50.0, 200.0)))
        cluster.metadata_delays_ms = random.choice((cluster.metadata_delays_ms, (1.0, 100.0, 300.0)))
        tasks = [asyncio.create_task(client) for client in self.clients()]
        watcher = asyncio.create_task(self._watch())
        for _ in range(random.randint(3, 14)):
            await asyncio.sleep(random.choice((0.003, 0.02, 0.05, 0.2, 0.5, 1.0)))
            await self._fault(random.choice(FAULTS))
            _raise_failures([*tasks, watcher])
        await self._heal()
        self.running = False
        await asyncio.wait(tasks, timeout=60)
        _raise_failures(tasks)
        await cluster.until(self.oracles.healed, timeout_s=60)
        watcher.cancel()
        await asyncio.gather(watcher, *tasks, return_exceptions=True)
        _raise_failures([*tasks, watcher])
        self.oracles.step()
        self.oracles.finish()
        assert not cluster.errors, cluster.errors
        await cluster.stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.004)
            self.oracles.step()

    # --- faults ----------------------------------------------------------------------------------------------

    async def _fault(self, kind: str) -> None:
        cluster, random = self.cluster, self.random
        running = [broker for broker in cluster.brokers.values() if broker.running and broker.manager is not None]
        stopped = [broker for broker in cluster.brokers.values() if not broker.running]
        if kind == "kill" and running:
            await random.choice(running).kill()
        elif kind == "restart" and stopped:
            await random.choice(stopped).start()
        elif kind == "stop" and running:
            await random.choice(running).stop()
        elif kind == "power" and running:
            await self._cut_power(random.choice(running))
        elif kind == "cut":
            cluster.cut(*random.sample([1, 2, 3], 2), break_streams=random.random() < 0.5)
        elif kind == "cut_controller":
            cluster.cut(0, random.choice([1, 2, 3]), break_streams=True)
        elif kind == "isolate":
            victim = random.choice([1, 2, 3])
            for other in {0, 1, 2, 3} - {victim}:
                cluster.cut(victim, other, break_streams=random.random() < 0.5)
        elif kind == "mend":
            cluster.mend_all()
        elif kind == "controller":
            cluster.new_controller()
        elif kind == "preferred":
            cluster.elect_preferred()
        elif kind == "reassign":
            # Never to one replica alone, which a power cut may empty without breaking any promise.
            cluster.reassign(TOPIC, random.randrange(2), random.sample([1, 2, 3], random.choice((2, 3))))
        elif kind == "min_isr":
            cluster.configure(TOPIC, {"min.insync.replicas": random.choice(("1", "2", "3", None))})

    async def _cut_power(self, victim: SimulatedBroker) -> None:
        """Rule 19: it may lose what it acked, so long as another in the ISR of each partition does not."""
        others = {
            broker.broker_id
            for broker in self.cluster.brokers.values()
            if broker.manager is not None and broker != victim
        }
        if all(others & set(image.isr) for _, image in self.cluster.image.partitions()):
            self.cluster.mend_all()
            before = victim.epoch
            await victim.cut_power()
            await victim.start()
            await self.cluster.until(lambda: victim.epoch != before)

    async def _heal(self) -> None:
        self.cluster.loss = 0.0
        self.cluster.mend_all()
        for broker in self.cluster.brokers.values():
            if not broker.running:
                await broker.start()

    # --- clients ---------------------------------------------------------------------------------------------

    def _believed_leader(self, number: int) -> SimulatedBroker | None:
        """Whoever thinks that it leads, the stale ones too: clients may be behind."""
        leaders = [
            broker
            for broker in self.cluster.brokers.values()
            if broker.manager is not None
            and (partition := broker.manager.get(TOPIC, number)) is not None
            and partition.leader is not None
        ]
        return self.random.choice(leaders) if leaders else None

    async def _produce(self, producer: int, number: int) -> None:
        """An idempotent producer at acks=all: one batch at a time, sent again until it is acked."""
        sequence, epoch = 0, LeaderEpoch(0)
        while self.running:
            await asyncio.sleep(self.random.choice((0.002, 0.01, 0.05)))
            values = [f"{producer}-{sequence + index}".encode() for index in range(self.random.choice((1, 1, 3)))]
            batch = bytes(
                record_batch(values, producer_id=100 + producer, base_sequence=sequence, timestamps=self.cluster.now_ms)
            )
            epoch = await self._until_acked(number, batch, epoch)
            sequence += len(values)

    async def _until_acked(self, number: int, batch: bytes, epoch: LeaderEpoch) -> LeaderEpoch:
        """The leader epoch of the answer: like any client, this one never goes back to an older leader."""
        while True:
            broker = self._believed_leader(number)
            if broker is None or broker.manager is None:
                await asyncio.sleep(0.02)
                continue
            partition = broker.manager.get(TOPIC, number)
            assert partition is not None and partition.leader_epoch is not None
            epoch = max(epoch, partition.leader_epoch)
            [outcome] = await broker.manager.produce([PartitionProduce(TOPIC, None, number, epoch, batch)], -1, 300)
            lost = not broker.running or self.random.random() < 0.05  # the answer does not reach the client
            if outcome.error is ErrorCode.NONE and not lost:
                assert outcome.base_offset is not None
                self._acked(partition, outcome.base_offset, batch)
                return epoch
            assert outcome.error is ErrorCode.NONE or outcome.error.retriable, outcome
            await asyncio.sleep(self.random.choice((0.001, 0.02, 0.1)))

    def _acked(self, partition: Partition, offset: Offset, batch: bytes) -> None:
        self.acks += 1
        stored = bytearray(batch)
        epoch = partition.log.epoch_cache.epoch_for_offset(offset)
        assert epoch is not None
        set_offset_and_epoch(stored, offset, epoch)
        self.oracles.acked.setdefault(partition.topic_id_partition, {})[offset] = bytes(stored)

    async def _produce_carelessly(self, number: int) -> None:
        """acks=1: what this writes may be lost, and makes the logs of deposed leaders diverge."""
        while self.running:
            await asyncio.sleep(self.random.choice((0.005, 0.02, 0.1)))
            broker = self._believed_leader(number)
            if broker is not None and broker.manager is not None:
                batch = bytes(record_batch([self.random.randbytes(8)], timestamps=self.cluster.now_ms))
                await broker.manager.produce([PartitionProduce(TOPIC, None, number, None, batch)], 1, 1_000)

    async def _consume(self, number: int) -> None:
        offset = Offset(0)
        while self.running:
            broker = self._believed_leader(number)
            if broker is None or broker.manager is None:
                await asyncio.sleep(0.05)
                continue
            partition = broker.manager.get(TOPIC, number)
            assert partition is not None
            [outcome] = await broker.manager.fetch(
                [PartitionFetch(TOPIC, None, number, None, offset, 1 << 20)],
                200,
                self.random.choice((1, 1, 500)),
                1 << 20,
            )
            if outcome.records and broker.running:
                assert outcome.high_watermark is not None
                self.oracles.saw(partition.topic_id_partition, outcome.records, outcome.high_watermark)
                offset = _end_of(outcome.records)
            else:
                await asyncio.sleep(0.01)


def _end_of(records: bytes) -> Offset:
    return Offset([header.next_offset for _, header in batches(records)][-1])


def _raise_failures(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled():
            error = task.exception()
            if error is not None:
                raise error


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_1_to_9_and_12_13_17_hold_under_random_faults(seed: int) -> None:
    runs: list[Run] = []
    truncate = Partition._truncate_to

    def truncating(partition: Partition, offset: Offset) -> None:
        before = whole_log(partition.log)
        truncate(partition, offset)
        cut = {base: data for base, data in before.items() if base >= partition.log.log_end_offset}
        runs[0].oracles.truncated(partition, cut)

    async def main(loop: VirtualLoop) -> None:
        runs.append(Run(loop, seed))
        try:
            await runs[0].run()
        except BaseException:
            print(f"KLAMM_SEED={seed}")
            print(runs[0].cluster.describe())
            raise

    # A high watermark that followers hear of late is what makes failovers hard.
    lazy_ms = Random(seed).choice((50, 400))
    with (
        patch.object(Partition, "_truncate_to", truncating),
        patch.object(replication_service, "LAZY_DELAY_MS", lazy_ms),
    ):
        run_virtual(main)
    oracles = runs[0].oracles
    print(f"seed {seed}: acks {runs[0].acks} leaderships {oracles.leaderships} truncations {oracles.truncations}")
