"""Replication and compaction at once: each broker cleans its own logs, whenever it likes, while everything fails.

Rules 2 and 3 hold per record here: replicas clean at different times, so one may hold a batch whole that another holds
in part or not at all. What both hold at an offset is the same, and what no later record replaces is everywhere.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, NamedTuple

import pytest
from harness.keyed_logs import keyed_batch, records
from harness.virtual_loop import VirtualLoop, run_virtual
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.replica_manager import PartitionProduce
from klamm.proto.identifiers import LeaderEpoch, TopicIdPartition
from klamm.proto.record_batch import batches
from klamm.proto.record_codec import read_batch
from simulation.replication_oracles import Oracles
from simulation.test_replication import TOPIC, Run

ONE_SEED = os.environ.get("KLAMM_SEED")
SEEDS = range(int(os.environ.get("KLAMM_SEEDS", "8"))) if ONE_SEED is None else [int(ONE_SEED)]

Content = tuple[bytes | None, bytes | None]


class Acked(NamedTuple):
    """Where a record was acked."""

    offset: int
    content: Content


class CompactionOracles(Oracles):
    """As `Oracles`, record by record."""

    def __init__(self, cluster: Any) -> None:
        super().__init__(cluster)
        self.latest: dict[TopicIdPartition, dict[bytes | None, Acked]] = {}
        self.seen: dict[TopicIdPartition, dict[int, Content]] = {}
        self.cleaned = 0

    def acked_batch(self, tp: TopicIdPartition, base_offset: int, batch: bytes) -> None:
        for record in read_batch(batch):
            offset = base_offset + record.offset
            before = self.latest.setdefault(tp, {}).get(record.key)
            assert before is None or before.offset < offset, "rule 17: a producer's records are out of order"
            self.latest[tp][record.key] = Acked(offset, (record.key, record.value))

    def saw(self, tp: TopicIdPartition, data: bytes, high_watermark: int) -> None:
        for position, header in batches(data):
            assert header.next_offset <= high_watermark, "rule 4: read past the high watermark"
            for record in read_batch(data[position : position + header.size_bytes]):
                self._same(tp, record.offset, (record.key, record.value))

    def _same(self, tp: TopicIdPartition, offset: int, content: Content) -> None:
        assert self.seen.setdefault(tp, {}).setdefault(offset, content) == content, f"rule 2: {tp} differs at {offset}"

    def finish(self) -> None:
        for _, image in self._cluster.image.partitions():
            tp = image.topic_id_partition
            for member in image.replicas:
                log = self._log_of(member, tp)
                if log is not None:
                    self._check(tp, log)

    def _check(self, tp: TopicIdPartition, log: PartitionLog) -> None:
        found = {record.offset: (record.key, record.value) for record in records(log)}
        for offset, content in found.items():
            self._same(tp, offset, content)
        for acked in self.latest.get(tp, {}).values():
            assert found.get(acked.offset) == acked.content, f"rule 3: {acked} is lost or moved in {log}"
        last = {key: offset for offset, (key, _) in found.items()}
        careful = {key: offset for key, offset in last.items() if key in self.latest.get(tp, {})}
        assert careful == {key: acked.offset for key, acked in self.latest.get(tp, {}).items()}, "a key came back"
        self.cleaned += log.cleaned_to > 0


class CompactionRun(Run):
    """One seed."""

    oracles: CompactionOracles

    def make_oracles(self) -> Oracles:
        return CompactionOracles(self.cluster)

    def topic_configs(self) -> dict[str, str]:
        return {
            "cleanup_policy": "compact",
            "segment_bytes": self.random.choice(("400", "1000")),
            "min_cleanable_dirty_ratio": self.random.choice(("0.01", "0.5")),
            "index_interval_bytes": "100",
        }

    async def _produce(self, producer: int, number: int) -> None:
        sequence, epoch = 0, LeaderEpoch(0)
        while self.running:
            await asyncio.sleep(self.random.choice((0.002, 0.01, 0.05)))
            pairs = [
                (b"%d-%d" % (producer, self.random.randrange(4)), self._value(sequence + index))
                for index in range(self.random.choice((1, 1, 3)))
            ]
            batch = bytes(
                keyed_batch(
                    pairs,
                    producer_id=100 + producer,
                    sequence=sequence,
                    timestamp=self.cluster.now_ms,
                    compression=self.random.choice((0, 4)),
                )
            )
            epoch = await self._until_acked(number, batch, epoch)
            sequence += len(pairs)

    def _value(self, sequence: int) -> bytes | None:
        return None if self.random.random() < 0.1 else b"%d" % sequence + bytes(40)

    def _acked(self, partition: Any, offset: Any, batch: bytes) -> None:
        super()._acked(partition, offset, batch)
        self.oracles.acked_batch(partition.topic_id_partition, offset, batch)

    async def _produce_carelessly(self, number: int) -> None:
        """acks=1: what this writes may be lost, and makes the logs of deposed leaders diverge."""
        while self.running:
            await asyncio.sleep(self.random.choice((0.005, 0.02, 0.1)))
            broker = self._believed_leader(number)
            if broker is not None and broker.manager is not None:
                pair = (b"careless-%d" % self.random.randrange(3), self.random.randbytes(8))
                batch = bytes(keyed_batch([pair], timestamp=self.cluster.now_ms))
                await broker.manager.produce([PartitionProduce(TOPIC, None, number, None, batch)], 1, 1_000)


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_2_3_and_17_hold_where_every_broker_compacts_for_itself(seed: int) -> None:
    runs: list[CompactionRun] = []

    async def main(loop: VirtualLoop) -> None:
        runs.append(CompactionRun(loop, seed))
        try:
            await runs[0].run()
        except BaseException:
            print(f"KLAMM_SEED={seed}")
            print(runs[0].cluster.describe())
            raise

    run_virtual(main)
    print(f"seed {seed}: acks {runs[0].acks} replicas cleaned {runs[0].oracles.cleaned}")
