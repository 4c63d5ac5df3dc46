"""Rule 17: what an idempotent producer sent behind a batch that was refused waits for that to come again.

librdkafka has five requests under way. Told OUT_OF_ORDER_SEQUENCE_NUMBER, it writes under a new producer epoch what it
has no answer for; told that the second was taken, it holds the first for written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from harness.record_batches import record_batch
from harness.simulated_cluster import SimulatedCluster
from harness.virtual_loop import VirtualLoop, run_virtual
from klamm.broker.partition import Partition
from klamm.broker.partition_request import PartitionProduce, ProduceOutcome
from klamm.broker.refused_batches import FORGOTTEN_AFTER_MS, GIVEN_UP_AFTER_MS
from klamm.proto.errors import ErrorCode

Test = Callable[[SimulatedCluster], Awaitable[None]]


def simulated(test: Test, **configs: str) -> None:
    """Runs a test on a started cluster of three with one partition, led by the first."""

    async def main(loop: VirtualLoop) -> None:
        cluster = SimulatedCluster(loop, Random(7))
        await cluster.start()
        cluster.create_topic("t", [[1, 2, 3]], **configs)
        await cluster.until(lambda: all(replica(cluster, number) for number in (1, 2, 3)) and leads(cluster, 1))
        await test(cluster)
        await cluster.stop()
        assert not cluster.errors

    run_virtual(main)


def replica(cluster: SimulatedCluster, number: int) -> Partition | None:
    manager = cluster.brokers[number].manager  # type: ignore[index]
    return None if manager is None else manager.get("t", 0)


def leads(cluster: SimulatedCluster, number: int) -> bool:
    found = replica(cluster, number)
    return found is not None and found.leader is not None


async def produce(cluster: SimulatedCluster, number: int, sequence: int, *, epoch: int = 0) -> ProduceOutcome:
    records = bytes(
        record_batch(timestamps=cluster.now_ms, producer_id=7, producer_epoch=epoch, base_sequence=sequence)
    )
    manager = cluster.brokers[number].manager  # type: ignore[index]
    assert manager is not None
    [outcome] = await manager.produce([PartitionProduce("t", None, 0, None, records)], -1, 60_000)
    return outcome


async def lose_the_isr(cluster: SimulatedCluster) -> None:
    for other in (2, 3):
        cluster.cut(1, other, break_streams=False)
    # Nobody takes anything new, so nobody is behind: a record makes it seen.
    manager = cluster.brokers[1].manager  # type: ignore[index]
    assert manager is not None
    records = bytes(record_batch(timestamps=cluster.now_ms))
    await manager.produce([PartitionProduce("t", None, 0, None, records)], -1, 60_000)
    assert cluster.partition("t", 0).isr == (1,)


async def find_the_isr(cluster: SimulatedCluster) -> None:
    cluster.mend_all()
    await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)


def test_rule_17_what_overtakes_a_batch_refused_for_a_small_isr_is_refused_likewise() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        assert (await produce(cluster, 1, 0)).base_offset == 0
        await lose_the_isr(cluster)
        # A retry of what was written is refused as well, and is not what is missing.
        for sequence in (0, 1, 2):
            assert (await produce(cluster, 1, sequence)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        await find_the_isr(cluster)
        for sequence in (3, 4):
            assert (await produce(cluster, 1, sequence)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        offsets = [(await produce(cluster, 1, sequence)).base_offset for sequence in range(5)]
        assert offsets == [0, 2, 3, 4, 5]
        assert (await produce(cluster, 1, 6)).error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    simulated(test)


def test_rule_17_nothing_is_taken_of_a_new_producer_before_its_first_batch_that_was_refused() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await lose_the_isr(cluster)
        assert (await produce(cluster, 1, 0)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        await find_the_isr(cluster)
        assert (await produce(cluster, 1, 1)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        assert [(await produce(cluster, 1, sequence)).base_offset for sequence in (0, 1)] == [1, 2]

    simulated(test)


def test_rule_17_what_overtakes_a_batch_that_came_before_the_leadership_is_refused_likewise() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        assert (await produce(cluster, 1, 0)).base_offset == 0
        await cluster.brokers[1].kill()  # type: ignore[index]
        assert (await produce(cluster, 2, 1)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        await cluster.until(lambda: leads(cluster, 2))
        assert (await produce(cluster, 2, 2)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert [(await produce(cluster, 2, sequence)).base_offset for sequence in (1, 2)] == [1, 2]

    simulated(test)


def test_rule_17_a_batch_that_another_leader_took_meanwhile_is_not_waited_for() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        assert (await produce(cluster, 2, 0)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await produce(cluster, 1, 0)).base_offset == 0
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: leads(cluster, 2))
        assert (await produce(cluster, 2, 1)).base_offset == 1

    simulated(test)


def test_rule_17_a_batch_that_its_producer_gave_up_is_not_waited_for() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        assert (await produce(cluster, 1, 0)).base_offset == 0
        await lose_the_isr(cluster)
        assert (await produce(cluster, 1, 1)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        await find_the_isr(cluster)
        assert (await produce(cluster, 1, 2)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        await asyncio.sleep(FORGOTTEN_AFTER_MS / 1000)
        assert (await produce(cluster, 1, 2)).error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert (await produce(cluster, 1, 0, epoch=1)).base_offset == 2

    simulated(test)


def test_rule_17_a_new_producer_epoch_waits_for_nothing_of_the_one_before() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await lose_the_isr(cluster)
        assert (await produce(cluster, 1, 3)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        await find_the_isr(cluster)
        assert [(await produce(cluster, 1, sequence, epoch=1)).base_offset for sequence in range(6)] == [*range(1, 7)]

    simulated(test)


def test_rule_17_a_later_leader_has_a_batch_that_comes_too_early_come_again() -> None:
    """librdkafka goes on with the next leader while it has no answer of the last one."""

    async def test(cluster: SimulatedCluster) -> None:
        assert (await produce(cluster, 1, 0)).base_offset == 0
        for other in (0, 2, 3):
            cluster.cut(1, other, break_streams=False)
        await cluster.until(lambda: leads(cluster, 2))
        for sequence in (3, 4):
            assert (await produce(cluster, 2, sequence)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        for sequence in (1, 2, 3, 4):
            assert (await produce(cluster, 2, sequence)).base_offset == sequence
        cluster.mend_all()

    simulated(test)


def test_rule_17_what_is_the_first_to_come_again_is_told_that_something_is_missing() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        assert (await produce(cluster, 1, 0)).base_offset == 0
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: leads(cluster, 2))
        for error in (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER) * 2:
            assert (await produce(cluster, 2, 5)).error is error
        assert (await produce(cluster, 2, 2, epoch=1)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        assert (await produce(cluster, 2, 0, epoch=1)).base_offset == 1

    simulated(test)


def test_rule_17_a_first_leader_says_at_once_that_something_is_missing() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        assert (await produce(cluster, 1, 0)).base_offset == 0
        assert (await produce(cluster, 1, 2)).error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    simulated(test)


def test_a_producer_that_goes_on_though_it_is_out_of_order_is_taken_after_a_minute() -> None:
    """aiokafka fails batch after batch, and never begins a new producer epoch."""

    async def test(cluster: SimulatedCluster) -> None:
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: leads(cluster, 2))
        sequence = 1  # its first batch was given up for want of a leader
        while (await produce(cluster, 2, sequence)).error is ErrorCode.NOT_ENOUGH_REPLICAS:
            outcome = await produce(cluster, 2, sequence)
            if outcome.error is ErrorCode.NONE:
                break
            assert outcome.error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            sequence += 1
            await asyncio.sleep(1)
        assert sequence >= GIVEN_UP_AFTER_MS // 1_000
        assert (await produce(cluster, 2, sequence + 1)).error is ErrorCode.NONE
        assert (await produce(cluster, 2, sequence + 3)).error is ErrorCode.NOT_ENOUGH_REPLICAS, "it is known now"

    simulated(test)
