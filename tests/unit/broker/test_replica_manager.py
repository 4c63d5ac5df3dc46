"""Three replica managers over real logs and the real controller decisions, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any

import pytest
from crc32c import crc32c
from harness.record_batches import record_batch
from harness.simulated_cluster import SimulatedBroker, SimulatedCluster
from harness.virtual_loop import VirtualLoop, run_virtual
from klamm.broker.partition import Partition
from klamm.broker.replica_manager import (
    FetchOutcome,
    PartitionFetch,
    PartitionProduce,
    ProduceOutcome,
    ReplicaManager,
)
from klamm.proto.command_pb2 import AlterPartitionReassignmentsCommand, Command, ReassignablePartition
from klamm.proto.errors import ErrorCode, InvalidRecordError
from klamm.proto.identifiers import LeaderEpoch, Offset, TopicId, TopicIdPartition, TopicPartition
from klamm.proto.record_batch import batches, parse_header
from simulation.replication_oracles import whole_log

_CRC = 17  # where it stands in a batch; it covers all that follows
_ATTRIBUTES_LOW_BYTE = 22
_CONTROL = 0x20

Test = Callable[[SimulatedCluster], Awaitable[None]]


def simulated(test: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    """Runs a test on a started cluster of three."""

    async def main(loop: VirtualLoop) -> None:
        cluster = SimulatedCluster(loop, Random(7))
        await cluster.start()
        try:
            await test(cluster, *arguments)
        except BaseException:
            print(cluster.describe())
            raise
        await cluster.stop()
        assert not cluster.errors

    run_virtual(main)


async def topic(
    cluster: SimulatedCluster, name: str = "t", replicas: tuple[int, ...] = (1, 2, 3), **configs: str
) -> None:
    cluster.create_topic(name, [list(replicas)], **configs)
    await cluster.until(lambda: all(replica(cluster, number, name) for number in replicas))
    await cluster.until(lambda: led(cluster, replicas[0], name))


def manager(cluster: SimulatedCluster, number: int) -> ReplicaManager:
    found = cluster.brokers[number].manager  # type: ignore[index]
    assert found is not None
    return found


def replica(cluster: SimulatedCluster, number: int, name: str = "t") -> Partition | None:
    found: SimulatedBroker = cluster.brokers[number]  # type: ignore[index]
    return None if found.manager is None else found.manager.get(name, 0)


def partition(cluster: SimulatedCluster, number: int, name: str = "t") -> Partition:
    found = replica(cluster, number, name)
    assert found is not None
    return found


def led(cluster: SimulatedCluster, number: int, name: str = "t") -> bool:
    found = replica(cluster, number, name)
    return found is not None and found.leader is not None and found.failure is None


async def produce(
    cluster: SimulatedCluster,
    number: int,
    *values: bytes,
    acks: int = -1,
    timeout_ms: int = 1_000,
    name: str = "t",
    epoch: int | None = None,
    topic_id: TopicId | None = None,
    **batch: Any,
) -> ProduceOutcome:
    records = bytes(record_batch(values or (b"value",), timestamps=cluster.now_ms, **batch))
    request = PartitionProduce(name, topic_id, 0, None if epoch is None else LeaderEpoch(epoch), records)
    [outcome] = await manager(cluster, number).produce([request], acks, timeout_ms)
    return outcome


async def fetch(
    cluster: SimulatedCluster,
    number: int,
    offset: int,
    *,
    wait_ms: int = 0,
    min_bytes: int = 1,
    last_epoch: int | None = None,
    epoch: int | None = None,
) -> FetchOutcome:
    request = PartitionFetch(
        "t",
        None,
        0,
        None if epoch is None else LeaderEpoch(epoch),
        Offset(offset),
        1 << 20,
        None if last_epoch is None else LeaderEpoch(last_epoch),
    )
    [outcome] = await manager(cluster, number).fetch([request], wait_ms, min_bytes, 1 << 20)
    return outcome


def cut_off(cluster: SimulatedCluster, number: int, *others: int) -> None:
    for other in others:
        cluster.cut(number, other, break_streams=False)


# --- produce -------------------------------------------------------------------------------------------------


def test_acks_all_means_on_every_replica() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        outcome = await produce(cluster, 1, b"a", b"b")
        assert (outcome.error, outcome.base_offset, outcome.log_start_offset) == (ErrorCode.NONE, 0, 0)
        assert [partition(cluster, number).log.log_end_offset for number in (1, 2, 3)] == [2, 2, 2]
        # Followers hear of the high watermark though nothing follows.
        await cluster.until(lambda: all(partition(cluster, number).high_watermark == 2 for number in (1, 2, 3)), 0.5)

    simulated(test)


def test_rule_15_a_stale_epoch_a_deleted_topic_or_a_follower_appends_nothing() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        other_id = TopicId(int=1)
        assert (await produce(cluster, 2)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await produce(cluster, 1, epoch=9)).error is ErrorCode.UNKNOWN_LEADER_EPOCH
        assert (await produce(cluster, 1, topic_id=other_id)).error is ErrorCode.UNKNOWN_TOPIC_ID
        assert (await produce(cluster, 1, name="nothing")).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: led(cluster, 2))
        assert (await produce(cluster, 2, epoch=0)).error is ErrorCode.FENCED_LEADER_EPOCH
        for error in ("NOT_LEADER_OR_FOLLOWER", "UNKNOWN_LEADER_EPOCH", "UNKNOWN_TOPIC_ID", "FENCED_LEADER_EPOCH"):
            assert ErrorCode[error].retriable
        assert partition(cluster, 2).log.log_end_offset == 0

    simulated(test)


def test_rule_15_a_topic_made_again_under_its_name_is_another() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1)
        old = partition(cluster, 1)
        waiting = asyncio.ensure_future(fetch(cluster, 1, 1, wait_ms=60_000))
        await asyncio.sleep(0.1)
        cluster.delete_topic("t")
        assert (await waiting).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await cluster.until(lambda: replica(cluster, 1) is None)
        await topic(cluster)
        outcome = await produce(cluster, 1, topic_id=old.topic_id_partition.topic_id)
        assert outcome.error is ErrorCode.UNKNOWN_TOPIC_ID
        assert partition(cluster, 1).log.log_end_offset == 0

    simulated(test)


def test_rule_16_a_time_out_is_unknown_and_the_retry_finds_the_batch() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        cut_off(cluster, 1, 2, 3)
        sent = {"producer_id": 7, "base_sequence": 0}
        assert (await produce(cluster, 1, timeout_ms=100, **sent)).error is ErrorCode.REQUEST_TIMED_OUT
        assert partition(cluster, 1).log.log_end_offset == 1
        retry = asyncio.ensure_future(produce(cluster, 1, timeout_ms=5_000, **sent))
        await asyncio.sleep(0.05)
        assert not retry.done()  # rule 17: a duplicate is acked no sooner than the batch itself
        cluster.mend_all()
        assert (await retry).base_offset == 0
        assert partition(cluster, 1).log.log_end_offset == 1

    simulated(test)


def test_rule_16_an_isr_that_shrinks_below_the_minimum_leaves_the_outcome_unknown() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        cut_off(cluster, 1, 2, 3)
        outcome = await produce(cluster, 1, timeout_ms=60_000)
        assert outcome.error is ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
        assert cluster.partition("t", 0).isr == (1,)
        # From now on nothing is appended at all, and the high watermark stands still (rule 6).
        assert (await produce(cluster, 1)).error is ErrorCode.NOT_ENOUGH_REPLICAS
        assert (await produce(cluster, 1, acks=1)).error is ErrorCode.NONE
        assert (partition(cluster, 1).log.log_end_offset, partition(cluster, 1).high_watermark) == (2, 0)
        cluster.mend_all()
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)
        assert partition(cluster, 1).high_watermark == 2

    simulated(test)


def test_rule_17_a_duplicate_gets_its_first_offset_and_a_gap_an_error() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        for sequence in range(3):
            await produce(cluster, 1, producer_id=7, base_sequence=sequence)
        assert (await produce(cluster, 1, producer_id=7, base_sequence=1)).base_offset == 1
        gap = await produce(cluster, 1, producer_id=7, base_sequence=5)
        assert gap.error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: led(cluster, 2))
        assert (await produce(cluster, 2, producer_id=7, base_sequence=2)).base_offset == 2
        newer = await produce(cluster, 2, producer_id=7, producer_epoch=1, base_sequence=0)
        assert newer.base_offset == 3
        older = await produce(cluster, 2, producer_id=7, base_sequence=3)
        assert older.error is ErrorCode.INVALID_PRODUCER_EPOCH

    simulated(test)


def test_rule_17_a_new_leader_knows_the_last_five_batches_of_its_predecessor() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        for sequence in range(7):
            assert (await produce(cluster, 1, b"v", producer_id=9, base_sequence=sequence)).base_offset == sequence
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: led(cluster, 2))
        await cluster.until(lambda: partition(cluster, 2).high_watermark == 7)
        for sequence in range(2, 7):
            again = await produce(cluster, 2, b"v", producer_id=9, base_sequence=sequence)
            assert (again.error, again.base_offset) == (ErrorCode.NONE, sequence)
        for sequence, error in (
            (1, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
            (8, ErrorCode.NOT_ENOUGH_REPLICAS),  # what is missing may be under way to the leader before
            (8, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        ):
            assert (await produce(cluster, 2, b"v", producer_id=9, base_sequence=sequence)).error is error
        assert partition(cluster, 2).log.log_end_offset == 7

    simulated(test)


def test_rule_17_a_new_leader_does_not_take_what_comes_behind_batches_that_it_never_got() -> None:
    """librdkafka sends on to the new leader while the old one owes it answers, and takes a later ack for theirs."""

    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        cut_off(cluster, 1, 0, 2, 3)
        for sequence in range(3):
            assert (await produce(cluster, 1, acks=1, producer_id=7, base_sequence=sequence)).error is ErrorCode.NONE
        await cluster.until(lambda: led(cluster, 2))
        for error in (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER):
            assert (await produce(cluster, 2, producer_id=7, base_sequence=3)).error is error
        assert partition(cluster, 2).log.log_end_offset == 0
        for sequence in range(4):
            outcome = await produce(cluster, 2, producer_id=7, base_sequence=sequence)
            assert (outcome.error, outcome.base_offset) == (ErrorCode.NONE, sequence)
        cluster.mend_all()

    simulated(test)


def test_rule_2_replicas_hold_the_same_bytes_at_one_offset_and_epoch() -> None:
    # A deposed leader goes on writing what nobody copies: its offsets are the next leader's too, its epoch is not.
    async def test(cluster: SimulatedCluster) -> None:
        held: dict[tuple[int, int], bytes] = {}

        def compare() -> None:
            for number in (1, 2, 3):
                for data in whole_log(partition(cluster, number).log).values():
                    header = parse_header(data)
                    key = (header.base_offset, header.partition_leader_epoch)
                    assert held.setdefault(key, data) == data, key

        await topic(cluster)
        await produce(cluster, 1, b"common")
        cut_off(cluster, 1, 0, 2, 3)
        for number in range(3):
            await produce(cluster, 1, b"lost %d" % number, acks=1)
        await cluster.until(lambda: led(cluster, 2))
        await produce(cluster, 2, b"kept", b"kept too")
        compare()
        assert {(1, 0), (1, 1)} <= set(held)
        cluster.mend_all()
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)
        await produce(cluster, 2, b"last")
        await cluster.until(lambda: len({partition(cluster, number).log.log_end_offset for number in (1, 2, 3)}) == 1)
        compare()
        assert whole_log(partition(cluster, 1).log) == whole_log(partition(cluster, 2).log)

    simulated(test)


def test_rule_10_a_leader_without_a_controller_stops_acking() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        cut_off(cluster, 1, 0, 3)
        outcome = await produce(cluster, 1, timeout_ms=300)
        assert outcome.error is ErrorCode.REQUEST_TIMED_OUT
        # It is deposed meanwhile, and learns of it when it hears again.
        await cluster.until(lambda: led(cluster, 2))
        assert partition(cluster, 1).high_watermark == 0
        cluster.mend_all()
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)
        assert partition(cluster, 1).leader is None

    simulated(test)


def test_a_deposed_leader_answers_who_waits() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        cut_off(cluster, 1, 2, 3)
        waiting = asyncio.ensure_future(produce(cluster, 1, timeout_ms=60_000))
        reader = asyncio.ensure_future(fetch(cluster, 1, 0, wait_ms=60_000))
        await asyncio.sleep(0.05)
        cluster.fence(cluster.brokers[1].broker_id)  # type: ignore[index]
        assert (await waiting).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await reader).error is ErrorCode.NOT_LEADER_OR_FOLLOWER

    simulated(test)


def test_bad_batches_are_refused_one_by_one() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, max_message_bytes="300")
        good = bytes(record_batch(timestamps=cluster.now_ms))
        flipped = bytearray(good)
        flipped[-1] ^= 1
        large = bytes(record_batch([b"x" * 400], timestamps=cluster.now_ms))
        control = bytearray(good)
        control[22] |= 0x20
        requests = [
            PartitionProduce("t", None, 0, None, records)
            for records in (good, bytes(flipped), large, b"", b"junk", good)
        ]
        outcomes = await manager(cluster, 1).produce(requests, -1, 1_000)
        assert [outcome.error for outcome in outcomes] == [
            ErrorCode.NONE,
            ErrorCode.CORRUPT_MESSAGE,
            ErrorCode.MESSAGE_TOO_LARGE,
            ErrorCode.CORRUPT_MESSAGE,
            ErrorCode.CORRUPT_MESSAGE,
            ErrorCode.NONE,
        ]
        assert outcomes[-1].base_offset == 1
        assert (await produce(cluster, 1, acks=2)).error is ErrorCode.INVALID_REQUIRED_ACKS

    simulated(test)


def test_rule_28_a_jump_of_the_clock_changes_no_offset_and_no_ack() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, message_timestamp_type="LogAppendTime")
        first = await produce(cluster, 1)
        for broker in cluster.brokers.values():
            broker.clock.wall_offset_ms -= 3_600_000
        second = await produce(cluster, 1)
        assert (first.base_offset, second.base_offset) == (0, 1)
        assert first.log_append_time_ms is not None and second.log_append_time_ms is not None
        assert second.log_append_time_ms < first.log_append_time_ms
        await asyncio.sleep(5)
        assert len(cluster.partition("t", 0).isr) == 3
        assert cluster.partition("t", 0).leader_epoch == 0

    simulated(test)


# --- fetch ---------------------------------------------------------------------------------------------------


def test_rule_4_a_reader_sees_nothing_that_is_not_committed() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        cut_off(cluster, 1, 2, 3)
        await produce(cluster, 1, b"b", acks=1)
        outcome = await fetch(cluster, 1, 0)
        assert [header.base_offset for _, header in batches(outcome.records)] == [0]
        assert outcome.high_watermark == 1
        assert (await fetch(cluster, 1, 1)).records == b""
        assert (await fetch(cluster, 1, 3)).error is ErrorCode.OFFSET_OUT_OF_RANGE

    simulated(test)


def test_a_fetch_waits_for_bytes_and_no_longer_than_asked() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        began = cluster.loop.time()
        assert (await fetch(cluster, 1, 0, wait_ms=300)).records == b""
        assert 0.3 <= cluster.loop.time() - began < 0.32
        waiting = asyncio.ensure_future(fetch(cluster, 1, 0, wait_ms=60_000))
        large = asyncio.ensure_future(fetch(cluster, 1, 0, wait_ms=60_000, min_bytes=250))
        await asyncio.sleep(0.1)
        await produce(cluster, 1, b"x" * 40)
        assert len((await waiting).records) > 100
        await asyncio.sleep(1)
        assert not large.done()
        await produce(cluster, 1, b"x" * 200)
        assert len((await large).records) > 250
        queue = partition(cluster, 1).leader
        assert queue is not None and not queue.fetches.fetches

    simulated(test)


def test_a_fetch_that_its_limits_stop_short_does_not_wait_for_more() -> None:
    """One batch is there and one more, and both are above max_bytes: each alone is below min_bytes."""

    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"x" * 40)
        await produce(cluster, 1, b"y" * 40)
        began = cluster.loop.time()
        request = PartitionFetch("t", None, 0, None, Offset(0), 1 << 20)
        [first] = await manager(cluster, 1).fetch([request], 60_000, 150, 150)
        assert 0 < len(first.records) < 150
        [limited] = await manager(cluster, 1).fetch([request._replace(partition_max_bytes=150)], 60_000, 200, 1 << 20)
        assert limited.records == first.records
        assert cluster.loop.time() - began < 1
        last = asyncio.ensure_future(fetch(cluster, 1, 1, wait_ms=300, min_bytes=150))
        assert 0 < len((await last).records) < 150
        assert cluster.loop.time() - began >= 0.3  # of the last one there is no more

    simulated(test)


def test_a_fetch_that_is_given_up_leaves_nothing_behind() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        waiting = asyncio.ensure_future(fetch(cluster, 1, 0, wait_ms=60_000))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        leader = partition(cluster, 1).leader
        assert leader is not None and not leader.fetches.fetches
        assert manager(cluster, 1)._fetch_timer._deadlines.next_ms() is None

    simulated(test)


def test_max_bytes_holds_over_all_partitions_but_one_batch_always_comes() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        cluster.create_topic("t", [[1, 2, 3], [1, 2, 3]])
        await cluster.until(lambda: led(cluster, 1))
        records = bytes(record_batch([b"x" * 500], timestamps=cluster.now_ms))
        requests = [PartitionProduce("t", None, number, None, records) for number in (0, 0, 1)]
        await manager(cluster, 1).produce(requests, -1, 1_000)
        reads = [PartitionFetch("t", None, number, None, Offset(0), 1 << 20) for number in (0, 1)]
        sizes = []
        for max_bytes in (0, 100, len(records), 2 * len(records), 1 << 20):
            outcomes = await manager(cluster, 1).fetch(reads, 0, 1, max_bytes)
            sizes.append([len(outcome.records) // len(records) for outcome in outcomes])
        assert sizes == [[1, 0], [1, 0], [1, 0], [2, 0], [2, 1]]

    simulated(test)


def test_kip_320_a_reader_is_told_where_its_history_leaves_the_log() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        cut_off(cluster, 1, 2, 3)
        await produce(cluster, 1, b"lost", acks=1)
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: led(cluster, 2))
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 2)
        await produce(cluster, 2, b"b")
        outcome = await fetch(cluster, 2, 2, last_epoch=0)
        assert (outcome.error, outcome.diverging_epoch) == (ErrorCode.NONE, (0, 1))
        assert (await fetch(cluster, 2, 1, last_epoch=0)).records
        assert (await fetch(cluster, 2, 1, epoch=0)).error is ErrorCode.FENCED_LEADER_EPOCH
        assert (await fetch(cluster, 2, 1, epoch=5)).error is ErrorCode.UNKNOWN_LEADER_EPOCH
        # The deposed leader's tail goes when it comes back.
        cluster.mend_all()
        await cluster.brokers[1].start()  # type: ignore[index]
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)
        assert partition(cluster, 1).log.log_end_offset == 2

    simulated(test)


def test_kip_320_a_leader_that_is_behind_its_reader_sends_nobody_back() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        # Such as one that was cut off while another led: its reader has read in a later epoch already.
        outcome = await fetch(cluster, 1, 5, last_epoch=1)
        assert (outcome.error, outcome.diverging_epoch) == (ErrorCode.UNKNOWN_LEADER_EPOCH, None)
        assert (await fetch(cluster, 1, 1, last_epoch=0)).error is ErrorCode.NONE

    simulated(test)


# --- offsets -------------------------------------------------------------------------------------------------


def test_list_offsets() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        first_ms = cluster.now_ms
        await produce(cluster, 1, b"a", b"b")
        await asyncio.sleep(1)
        second_ms = cluster.now_ms
        await produce(cluster, 1, b"c")
        ask = manager(cluster, 1).list_offset
        tp = TopicPartition("t", 0)
        assert ask(tp, -2, None).offset == 0
        assert ask(tp, -1, None).offset == 3
        assert (ask(tp, -3, None).offset, ask(tp, -3, None).timestamp) == (2, second_ms)
        assert (ask(tp, first_ms, None).offset, ask(tp, first_ms + 1, None).offset) == (0, 2)
        assert ask(tp, second_ms + 1, None).offset is None
        assert ask(tp, -1, LeaderEpoch(4)).error is ErrorCode.UNKNOWN_LEADER_EPOCH
        assert ask(TopicPartition("t", 9), -1, None).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert manager(cluster, 2).list_offset(tp, -1, None).error is ErrorCode.NOT_LEADER_OR_FOLLOWER

    simulated(test)


def test_rule_13_a_new_leader_tells_no_end_below_what_its_predecessor_told() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        assert partition(cluster, 2).high_watermark == 0  # it has not heard yet
        cut_off(cluster, 2, 3)
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: led(cluster, 2))
        tp = TopicPartition("t", 0)
        assert partition(cluster, 2).log.epoch_cache.entries[-1] == (1, 1)
        assert manager(cluster, 2).list_offset(tp, -1, None).error is ErrorCode.OFFSET_NOT_AVAILABLE
        assert (await fetch(cluster, 2, 0)).records == b""
        cluster.mend_all()
        await cluster.until(lambda: manager(cluster, 2).list_offset(tp, -1, None).offset == 1)

    simulated(test)


# --- failing disks -------------------------------------------------------------------------------------------


def test_rule_27_a_full_disk_takes_the_leadership_away_and_acks_nothing() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        disk = cluster.brokers[1].disk  # type: ignore[index]
        disk.fail_next("pwrite", 28, path_end=".log")
        outcome = await produce(cluster, 1, b"b")
        assert outcome.error is ErrorCode.KAFKA_STORAGE_ERROR and outcome.error.retriable
        await cluster.until(lambda: led(cluster, 2))
        assert (await produce(cluster, 2, b"b")).base_offset == 1
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)

    simulated(test)


def test_rule_27_with_nobody_else_the_leader_goes_on() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, replicas=(1,))
        cluster.brokers[1].disk.fail_next("pwrite", 28, path_end=".log")  # type: ignore[index]
        assert (await produce(cluster, 1, b"a")).error is ErrorCode.KAFKA_STORAGE_ERROR
        await cluster.until(lambda: led(cluster, 1))
        assert (await produce(cluster, 1, b"a")).base_offset == 0

    simulated(test)


def test_rule_13_with_nobody_else_a_leader_begins_once_its_epoch_is_written_down() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, replicas=(1, 2), min_insync_replicas="1")
        disk = cluster.brokers[2].disk  # type: ignore[index]
        for _ in range(3):
            disk.fail_next("open", 28, path_end="leader-epoch-checkpoint.tmp")
        await cluster.brokers[1].kill()  # type: ignore[index]
        await cluster.until(lambda: cluster.partition("t", 0).leader == 2)
        await cluster.until(lambda: led(cluster, 2) and partition(cluster, 2).failure is None)
        assert partition(cluster, 2).log.epoch_cache.entries[-1] == (1, 0)
        assert (await produce(cluster, 2, b"a")).base_offset == 0

    simulated(test)


def test_a_follower_whose_disk_fails_leaves_the_isr_at_once() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        cluster.brokers[3].disk.fail_next("pwrite", 28, path_end=".log")  # type: ignore[index]
        began = cluster.loop.time()
        assert (await produce(cluster, 1, b"a")).error is ErrorCode.NONE
        assert cluster.loop.time() - began < 0.3
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)
        assert partition(cluster, 3).log.log_end_offset == 1

    simulated(test)


def test_a_replica_that_cannot_have_a_folder_does_not_lead() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        cluster.brokers[1].disk.fail_next("make_folder", 28, path_end="t-0")  # type: ignore[index]
        cluster.create_topic("t", [[1, 2, 3]])
        await cluster.until(lambda: led(cluster, 2))
        assert (await produce(cluster, 2, b"a")).error is ErrorCode.NONE
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)  # it tries again

    simulated(test)


@pytest.mark.parametrize("bit", [8 * 16, 8 * 30, 8 * 66])
def test_a_corrupt_segment_is_never_served_and_fetched_anew(bit: int) -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        for number in range(5):
            await produce(cluster, 1, f"{number}".encode())
        first = cluster.brokers[1]  # type: ignore[index]
        good = bytes(first.disk.files[first.segment("t", 0)].data)
        first.disk.flip_bit(first.segment("t", 0), bit)
        outcome = await fetch(cluster, 1, 0)
        assert outcome.error is ErrorCode.KAFKA_STORAGE_ERROR and outcome.records == b""
        await cluster.until(lambda: led(cluster, 2))
        await cluster.until(lambda: partition(cluster, 2).high_watermark == 5)
        assert (await fetch(cluster, 2, 0)).records == good
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3)
        assert bytes(first.disk.files[first.segment("t", 0)].data) == good

    simulated(test)


def test_rule_19_a_corrupt_replica_keeps_its_log_as_long_as_it_may_be_elected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its leadership ends by fencing before it could say that its log is corrupt, and leaves it eligible (KIP-966).
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, min_insync_replicas="3")
        for number in range(5):
            await produce(cluster, 1, f"{number}".encode())
        emptied = []
        start_over = Partition._start_over

        def watched(self: Partition, offset: Offset) -> None:
            image = cluster.partition("t", 0)
            emptied.append((self.host.broker_id, image.isr, image.eligible_leader_replicas))
            start_over(self, offset)

        monkeypatch.setattr(Partition, "_start_over", watched)
        cluster.cut(1, 0, break_streams=True)
        first = cluster.brokers[1]  # type: ignore[index]
        first.disk.flip_bit(first.segment("t", 0), 8 * 30)
        assert (await fetch(cluster, 1, 0)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await cluster.until(lambda: led(cluster, 2))
        assert cluster.partition("t", 0).eligible_leader_replicas == (1,)
        cluster.mend_all()
        await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3 and emptied)
        assert [(broker, broker in isr, broker in elr) for broker, isr, elr in emptied] == [(1, False, False)]
        assert (await fetch(cluster, 2, 0)).error is ErrorCode.NONE
        assert partition(cluster, 1).log.log_end_offset == 5

    simulated(test)


def test_a_corrupt_segment_with_nobody_else_is_not_served_but_the_rest_is() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, replicas=(1,))
        for number in range(3):
            await produce(cluster, 1, f"{number}".encode())
        first = cluster.brokers[1]  # type: ignore[index]
        size = len(first.disk.files[first.segment("t", 0)].data) // 3
        first.disk.flip_bit(first.segment("t", 0), 8 * (size + 30))
        assert [header.base_offset for _, header in batches((await fetch(cluster, 1, 0)).records)] == [0]
        assert (await fetch(cluster, 1, 1)).error is ErrorCode.KAFKA_STORAGE_ERROR
        await cluster.until(lambda: led(cluster, 1))
        assert (await fetch(cluster, 1, 1)).error is ErrorCode.KAFKA_STORAGE_ERROR
        assert (await fetch(cluster, 1, 2)).records
        assert (await produce(cluster, 1, b"more")).base_offset == 3

    simulated(test)


def test_a_broken_partition_does_not_hold_up_its_neighbour() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        cluster.create_topic("t", [[1, 2, 3], [1, 2, 3]])
        await cluster.until(lambda: led(cluster, 1))
        disk = cluster.brokers[3].disk  # type: ignore[index]
        for skip in range(20):
            disk.fail_next("pwrite", 5, path_end="t-0/00000000000000000000.log", skip=0 * skip)
        records = bytes(record_batch(timestamps=cluster.now_ms))
        await manager(cluster, 1).produce([PartitionProduce("t", None, 0, None, records)], 1, 1_000)
        for _ in range(20):
            began = cluster.loop.time()
            [outcome] = await manager(cluster, 1).produce([PartitionProduce("t", None, 1, None, records)], -1, 1_000)
            assert outcome.error is ErrorCode.NONE
            assert cluster.loop.time() - began < 0.1
        assert cluster.partition("t", 0).isr == (1, 2)

    simulated(test)


# --- metadata ------------------------------------------------------------------------------------------------


def test_rule_24_a_log_of_an_unknown_topic_is_set_aside_and_kept() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        await cluster.brokers[3].kill()  # type: ignore[index]
        cluster.delete_topic("t")
        await cluster.brokers[3].start()  # type: ignore[index]
        third = cluster.brokers[3]  # type: ignore[index]
        await cluster.until(lambda: any("-stray" in folder for folder in third.disk.folders))
        assert third.log_manager is not None and not third.log_manager.logs
        [stray] = [folder for folder in third.disk.folders if "-stray" in folder]
        assert third.disk.files[f"{stray}/00000000000000000000.log"].data

    simulated(test)


def test_rule_11_a_follower_of_an_older_registration_is_turned_away() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        third = cluster.brokers[3]  # type: ignore[index]
        before, third.epoch = third.epoch, third.epoch.__class__(0)
        cluster.break_streams(third.broker_id)
        await cluster.until(lambda: 3 not in cluster.partition("t", 0).isr or third.epoch != 0, 1)
        outcome = await produce(cluster, 1, b"a", timeout_ms=200)
        assert partition(cluster, 3).log.log_end_offset == 0
        assert outcome.error in (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NONE)
        third.epoch = before
        await cluster.until(lambda: partition(cluster, 3).log.log_end_offset == 1)

    simulated(test)


def test_rule_17_a_duplicate_is_one_also_where_the_topic_would_no_longer_take_it() -> None:
    """Told MESSAGE_TOO_LARGE on a retry, the client would split the batch and write it a second time."""

    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        assert (await produce(cluster, 1, producer_id=7, base_sequence=0)).base_offset == 0
        cluster.configure("t", {"max.message.bytes": "20"})
        await cluster.until(lambda: partition(cluster, 1).config.max_message_bytes == 20)
        again = await produce(cluster, 1, producer_id=7, base_sequence=0)
        assert (again.error, again.base_offset) == (ErrorCode.NONE, 0)
        new = await produce(cluster, 1, producer_id=7, base_sequence=1)
        assert new.error is ErrorCode.MESSAGE_TOO_LARGE
        assert partition(cluster, 1).log.log_end_offset == 1

    simulated(test)


def test_rule_17_a_control_batch_of_a_client_is_refused_also_where_it_looks_like_a_duplicate() -> None:
    """The log does not look for duplicates among control batches: taken for one, it was appended unchecked."""

    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, producer_id=7, base_sequence=0)
        leader = partition(cluster, 1).leader
        assert leader is not None
        batch = record_batch(timestamps=cluster.now_ms, producer_id=7, base_sequence=0)
        batch[_ATTRIBUTES_LOW_BYTE] |= _CONTROL
        batch[_CRC : _CRC + 4] = crc32c(bytes(batch[_CRC + 4 :])).to_bytes(4, "big")
        with pytest.raises(InvalidRecordError, match="control"):
            leader.append(batch, partition(cluster, 1).config, cluster.now_ms, cluster.now_ms)
        assert partition(cluster, 1).log.log_end_offset == 1

    simulated(test)


def test_min_isr_and_config_changes_reach_leaders() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, min_insync_replicas="1")
        leader = partition(cluster, 1).leader
        assert leader is not None and leader.state.min_isr == 1

    simulated(test)


def test_an_idle_cluster_has_nothing_to_tick() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        await asyncio.sleep(2)
        for number in (1, 2, 3):
            assert not manager(cluster, number)._partitions._unsettled
        assert partition(cluster, 1).topic_id_partition == TopicIdPartition(*partition(cluster, 2).topic_id_partition)

    simulated(test)


def test_a_replica_that_is_added_is_ticked_for_until_it_is_in_sync() -> None:
    # Else one whom the controllers refused once, and who stands at the log end, would be proposed never again.
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, replicas=(1, 2))
        await asyncio.sleep(2)
        cluster.cut(1, 3, break_streams=True)
        wanted = ReassignablePartition(topic="t", partition=0, replicas=[1, 2, 3])
        reassign = AlterPartitionReassignmentsCommand(partitions=[wanted])
        cluster.submit(Command(alter_partition_reassignments=reassign))
        await cluster.until(lambda: len(partition(cluster, 1).leader.state.followers) == 2)  # type: ignore[union-attr]
        await asyncio.sleep(2)
        assert partition(cluster, 1) in manager(cluster, 1)._partitions._unsettled
        cluster.mend_all()
        await cluster.until(lambda: cluster.partition("t", 0).isr == (1, 2, 3))
        await asyncio.sleep(2)
        assert not manager(cluster, 1)._partitions._unsettled

    simulated(test)


def test_shutdown_answers_who_waits() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        cut_off(cluster, 1, 2, 3)
        waiting = asyncio.ensure_future(produce(cluster, 1, timeout_ms=60_000))
        reader = asyncio.ensure_future(fetch(cluster, 1, 0, wait_ms=60_000))
        await asyncio.sleep(0.01)
        await manager(cluster, 1).shutdown()
        assert (await waiting).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await reader).error is ErrorCode.NOT_LEADER_OR_FOLLOWER

    simulated(test)
