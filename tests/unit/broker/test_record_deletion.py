"""DeleteRecords: the log start moves on the leader, its followers follow, and the answer waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from harness.keyed_logs import keyed_batch
from harness.simulated_cluster import SimulatedCluster
from harness.virtual_loop import VirtualLoop, run_virtual
from klamm.broker.record_deletion import RecordDeletion, RecordDeletionOutcome
from klamm.broker.replica_manager import PartitionProduce, ReplicaManager
from klamm.proto.command_pb2 import Command, DeleteTopicsCommand, TopicReference
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId, Offset, TopicPartition


def simulated(test: Callable[[SimulatedCluster], Awaitable[None]]) -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = SimulatedCluster(loop, Random(7))
        await cluster.start()
        await test(cluster)
        await cluster.stop()
        assert not cluster.errors

    run_virtual(main)


def manager(cluster: SimulatedCluster, number: int) -> ReplicaManager:
    found = cluster.brokers[BrokerId(number)].manager
    assert found is not None
    return found


async def topic_with_records(cluster: SimulatedCluster, count: int = 10, name: str = "t", **configs: str) -> None:
    cluster.create_topic(name, [[1, 2, 3]], **configs)
    await cluster.until(
        lambda: (
            all(manager(cluster, number).get(name, 0) for number in (1, 2, 3))
            and getattr(manager(cluster, 1).get(name, 0), "leader", None)
        )
    )
    for _ in range(count):
        records = bytes(keyed_batch(((b"key", b"value"),), timestamp=cluster.now_ms))
        await manager(cluster, 1).produce([PartitionProduce(name, None, 0, None, records)], -1, 1_000)


async def delete(
    cluster: SimulatedCluster,
    offset: int,
    *,
    number: int = 1,
    timeout_ms: int = 5_000,
    name: str = "t",
    partition: int = 0,
) -> RecordDeletionOutcome:
    wanted = RecordDeletion(TopicPartition(name, partition), offset)
    [outcome] = await manager(cluster, number).delete_records([wanted], timeout_ms)
    return outcome


def log_starts(cluster: SimulatedCluster) -> list[int]:
    managers = [broker.manager for broker in cluster.brokers.values()]
    replicas = [None if found is None else found.get("t", 0) for found in managers]
    return [-1 if replica is None else replica.log.log_start_offset for replica in replicas]


def test_all_replicas_begin_later_when_it_is_answered() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic_with_records(cluster)
        assert await delete(cluster, 4) == RecordDeletionOutcome(ErrorCode.NONE, Offset(4))
        assert log_starts(cluster) == [4, 4, 4]
        assert await delete(cluster, 2) == RecordDeletionOutcome(ErrorCode.NONE, Offset(4))  # it never falls
        assert await delete(cluster, -1) == RecordDeletionOutcome(ErrorCode.NONE, Offset(10))
        assert log_starts(cluster) == [10, 10, 10]

    simulated(test)


@pytest.mark.parametrize("offset", [-2, 11, 2**62])
def test_what_is_not_committed_cannot_be_deleted(offset: int) -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic_with_records(cluster)
        assert await delete(cluster, offset) == RecordDeletionOutcome(ErrorCode.OFFSET_OUT_OF_RANGE)
        assert log_starts(cluster) == [0, 0, 0]

    simulated(test)


def test_who_does_not_lead_a_compacted_topic_and_an_internal_one_are_refused() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic_with_records(cluster, 1)
        await topic_with_records(cluster, 1, "c", cleanup_policy="compact")
        await topic_with_records(cluster, 1, "both", cleanup_policy="compact,delete")
        errors = [
            (await delete(cluster, 1, number=2)).error,
            (await delete(cluster, 1, name="unknown")).error,
            (await delete(cluster, 1, partition=7)).error,
            (await delete(cluster, 1, name="c")).error,
            (await delete(cluster, 1, name="__consumer_offsets")).error,
            (await delete(cluster, 1, name="both")).error,
        ]
        assert errors == [
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.POLICY_VIOLATION,
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            ErrorCode.NONE,
        ]

    simulated(test)


def test_a_silent_replica_is_waited_for_until_the_time_is_up_or_it_is_fenced() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic_with_records(cluster)
        cluster.cut(1, 3, break_streams=True)
        assert await delete(cluster, 4, timeout_ms=300) == RecordDeletionOutcome(ErrorCode.REQUEST_TIMED_OUT, Offset(0))
        assert log_starts(cluster) == [4, 4, 0]
        assert await delete(cluster, 5, timeout_ms=0) == RecordDeletionOutcome(ErrorCode.REQUEST_TIMED_OUT, Offset(0))
        waiting = asyncio.ensure_future(delete(cluster, 6, timeout_ms=60_000))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await cluster.brokers[BrokerId(3)].kill()
        assert await waiting == RecordDeletionOutcome(ErrorCode.NONE, Offset(6))
        cluster.mend_all()
        await cluster.brokers[BrokerId(3)].start()
        await cluster.until(lambda: log_starts(cluster) == [6, 6, 6])

    simulated(test)


def test_who_waits_is_told_when_the_topic_or_the_leadership_goes() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic_with_records(cluster)
        cluster.cut(1, 3, break_streams=True)
        waiting = asyncio.ensure_future(delete(cluster, 4, timeout_ms=60_000))
        await asyncio.sleep(0.1)
        cluster.submit(Command(delete_topics=DeleteTopicsCommand(topics=[TopicReference(name="t")])))
        assert (await waiting).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    simulated(test)
