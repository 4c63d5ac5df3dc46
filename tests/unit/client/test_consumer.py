"""The asyncio consumer against a fake cluster over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.fake_broker import FakeCluster
from harness.fake_controllers import until
from klamm.client import AsyncConsumer, ConsumerRecord, TopicPartition, fetcher
from klamm.client.offset_lookup import look_up_offsets
from klamm.proto.broker_pb2 import FetchRequest
from klamm.proto.errors import (
    CorruptRecordError,
    ErrorCode,
    IllegalStateError,
    InvalidRequestError,
    KafkaError,
    OffsetOutOfRangeError,
)
from klamm.proto.record_codec import build_batch, compression_number, new_builder

Body = Callable[[FakeCluster, AsyncConsumer], Awaitable[None]]
ORDERS = TopicPartition("orders", 0)


def run(body: Body, *topics: str, partitions: int = 1, records: int = 0, **arguments: Any) -> None:
    async def main() -> None:
        async with FakeCluster() as cluster:
            cluster.create_topic("orders", partitions)
            for partition in range(partitions):
                fill(cluster, partition, records)
            arguments.setdefault("auto_offset_reset", "earliest")
            consumer = AsyncConsumer(*topics, bootstrap_servers=cluster.bootstrap_servers, **arguments)
            async with asyncio.timeout(30), consumer:
                await body(cluster, consumer)

    asyncio.run(main())


def fill(cluster: FakeCluster, partition: int, count: int, *, batch: int = 10, compression: str | None = None) -> None:
    """Appends records whose values are their offsets, `batch` to a batch."""
    target = cluster.partition("orders", partition)
    end = target.end_offset + count
    while target.end_offset < end:
        builder = new_builder(1 << 20)
        for number in range(min(batch, end - target.end_offset)):
            offset = target.end_offset + number
            builder.append(number, 1000 + offset, b"k", b"%d" % offset, [("h", b"v")])
        code, _ = target.append(bytes(build_batch(builder, compression_number(compression))), 1 << 20)
        assert code is ErrorCode.NONE


async def read(consumer: AsyncConsumer, count: int, **arguments: Any) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            for records in (await consumer.poll(200, **arguments)).values():
                found += records
    return found


def offsets(records: list[ConsumerRecord]) -> list[int]:
    return [record.offset for record in records]


def test_reads_all_partitions_of_its_topics_in_order() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        records = await read(consumer, 300)
        for partition in range(3):
            assert offsets([r for r in records if r.partition == partition]) == list(range(100))
        first = records[0]
        assert first.value == b"%d" % first.offset
        assert (first.topic, first.key, first.headers, first.timestamp) == ("orders", b"k", [("h", b"v")], 1000)
        assert (first.serialized_key_size, first.leader_epoch, first.timestamp_type) == (1, 0, 0)
        assert consumer.assignment() == {TopicPartition("orders", partition) for partition in range(3)}

    run(body, "orders", partitions=3, records=100)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compression(compression: str) -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        fill(cluster, 0, 50, compression=compression)
        assert offsets(await read(consumer, 50)) == list(range(50))

    run(body, "orders")


def test_poll_gives_no_more_than_asked_for() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        found: list[int] = []
        while len(found) < 40:
            polled = await consumer.poll(200, max_records=7)
            assert sum(map(len, polled.values())) <= 7
            found += offsets([record for records in polled.values() for record in records])
        assert found == list(range(40))

    run(body, "orders", records=40)


def test_latest_begins_at_the_end() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        assert await consumer.position(ORDERS) == 20
        fill(cluster, 0, 5)
        assert offsets(await read(consumer, 5)) == list(range(20, 25))

    run(body, "orders", records=20, auto_offset_reset="latest")


def test_seek_into_the_middle_of_a_batch() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        consumer.assign([ORDERS])
        consumer.seek(ORDERS, 17)
        assert offsets(await read(consumer, 13)) == list(range(17, 30))
        consumer.seek(ORDERS, 3)
        assert offsets(await read(consumer, 2, max_records=2)) == [3, 4]
        consumer.seek_to_end()
        assert await consumer.position(ORDERS) == 30
        consumer.seek_to_beginning(ORDERS)
        assert offsets(await read(consumer, 1, max_records=1)) == [0]

    run(body, records=30)


def test_an_answer_to_a_fetch_of_an_earlier_assignment_is_late() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        consumer.assign([ORDERS])
        consumer.seek(ORDERS, 10)
        async with asyncio.timeout(10):
            while not any(isinstance(request, FetchRequest) for request in cluster.requests):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        # The same partition once more, as after an eager rebalance. The fetch of before is answered, no other one is.
        cluster.brokers[0].pause()
        consumer.unsubscribe()
        consumer.assign([ORDERS])
        consumer.seek(ORDERS, 2)
        fill(cluster, 0, 5)
        assert await consumer.poll(200) == {}
        cluster.brokers[0].resume()
        assert offsets(await read(consumer, 13)) == list(range(2, 15))

    run(body, records=10, fetch_max_wait_ms=10_000)


def test_position_follows_the_iteration_record_by_record() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        expected = 0
        async for record in consumer:
            assert record.offset == expected
            assert await consumer.position(ORDERS) == expected + 1
            expected += 1
            if expected == 25:
                consumer.seek(ORDERS, 90)
                expected = 90
            if expected == 100:
                break

    run(body, "orders", records=100)


def test_iteration_ends_after_consumer_timeout_ms() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        assert [record.offset async for record in consumer] == list(range(10))

    run(body, "orders", records=10, consumer_timeout_ms=200)


def test_pause_and_resume() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        one = TopicPartition("orders", 1)
        consumer.pause(one)
        assert consumer.paused() == {one}
        assert {record.partition for record in await read(consumer, 20)} == {0}
        assert await consumer.poll(100) == {}
        consumer.resume(one)
        assert {record.partition for record in await read(consumer, 20)} == {1}

    run(body, "orders", partitions=2, records=20)


def test_what_is_fetched_of_paused_partitions_leaves_room_for_the_others() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        others = [TopicPartition("orders", number) for number in range(1, 4)]
        consumer.assign([ORDERS, *others])
        consumer.seek_to_beginning()
        assert consumer._core is not None
        positions = consumer._core.positions
        await until(lambda: all(positions[partition].has_data for partition in others))
        consumer.pause(*others)
        assert offsets(await read(consumer, 100)) == list(range(100))

    run(body, partitions=4, records=100, fetch_max_bytes=1_000, max_partition_fetch_bytes=1_000)


def test_offsets_by_name_and_by_time() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        one = TopicPartition("orders", 1)
        assert await consumer.beginning_offsets([ORDERS, one]) == {ORDERS: 0, one: 0}
        assert await consumer.end_offsets([ORDERS]) == {ORDERS: 20}
        found = await consumer.offsets_for_times({ORDERS: 1005, one: 10**12})
        assert found[ORDERS] is not None and (found[ORDERS].offset, found[ORDERS].timestamp) == (5, 1005)
        assert found[one] is None
        assert await consumer.topics() == {"orders"}
        assert await consumer.partitions_for_topic("orders") == {0, 1}
        assert await consumer.partitions_for_topic("missing") is None
        with pytest.raises(KafkaError, match="ms since 1970"):
            await consumer.offsets_for_times({ORDERS: -1})

    run(body, partitions=2, records=20)


def test_neither_lost_nor_doubled_while_leaders_move_and_die() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        found: list[ConsumerRecord] = []

        async def reading() -> None:
            async for record in consumer:
                found.append(record)
                if len(found) == 600:
                    return

        task = asyncio.ensure_future(reading())
        for turn in range(20):
            for partition in range(3):
                fill(cluster, partition, 10)
            cluster.move_leader("orders", turn % 3, turn % 2)
            if turn == 10:
                await cluster.brokers[2].kill()
                cluster.move_leader("orders", 2, 0)
            if turn == 13:
                cluster.fetch_faults += [(ErrorCode.UNKNOWN_LEADER_EPOCH, 2), (ErrorCode.KAFKA_STORAGE_ERROR, 1)]
            await asyncio.sleep(0.01)
        async with asyncio.timeout(15):
            await task
        for partition in range(3):
            assert offsets([r for r in found if r.partition == partition]) == list(range(200))

    run(body, "orders", partitions=3)


def test_a_hung_leader_is_left_once_another_leads() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        assert len(await read(consumer, 10)) == 10
        cluster.brokers[0].pause()
        cluster.move_leader("orders", 0, 1)
        fill(cluster, 0, 5)
        assert offsets(await read(consumer, 5)) == list(range(10, 15))
        cluster.brokers[0].resume()

    run(body, "orders", records=10, fetch_max_wait_ms=50)


@pytest.mark.parametrize(("reset", "expected"), [("earliest", 10), ("latest", 30)])
def test_an_offset_out_of_range_is_reset(reset: str, expected: int) -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        cluster.partition("orders").log_start_offset = 10
        consumer.assign([ORDERS])
        consumer.seek(ORDERS, 3)
        async with asyncio.timeout(5):
            while await consumer.position(ORDERS) == 3:
                await consumer.poll(20, max_records=1)
        assert await consumer.position(ORDERS) - expected in (0, 1)

    run(body, records=30, auto_offset_reset=reset)


def test_an_offset_out_of_range_is_an_error_where_nothing_resets_it() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        consumer.assign([ORDERS])
        consumer.seek(ORDERS, 99)
        with pytest.raises(OffsetOutOfRangeError, match="orders-0 at offset 99"):
            await read(consumer, 1)
        consumer.seek(ORDERS, 5)
        assert offsets(await read(consumer, 5)) == [5, 6, 7, 8, 9]

    run(body, records=10, auto_offset_reset="none")


def test_kip_320_a_log_cut_below_what_was_read_is_noticed() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        assert len(await read(consumer, 30)) == 30
        partition = cluster.partition("orders")
        partition.truncate_to(20)
        cluster.metadata_offset += 1
        fill(cluster, 0, 20)
        assert offsets(await read(consumer, 20)) == list(range(20, 40))

    run(body, "orders", records=30, fetch_max_wait_ms=50)


def test_kip_320_a_log_cut_below_what_was_read_is_an_error_where_nothing_resets_it() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        consumer.assign([ORDERS])
        consumer.seek(ORDERS, 0)
        assert len(await read(consumer, 30)) == 30
        cluster.partition("orders").truncate_to(20)
        cluster.metadata_offset += 1
        fill(cluster, 0, 20)
        with pytest.raises(OffsetOutOfRangeError, match="truncated to offset 20"):
            await read(consumer, 1)

    run(body, records=30, fetch_max_wait_ms=50, auto_offset_reset="none")


@pytest.mark.parametrize("elections", [0, 2])
def test_a_topic_that_is_made_anew_is_begun_anew(elections: int) -> None:
    # Neither an offset nor a leader epoch of the old one means anything there.
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        for _ in range(elections):
            cluster.move_leader("orders", 0, 0)
        fill(cluster, 0, 30)
        assert offsets(await read(consumer, 1, max_records=1)) == [0]
        cluster.create_topic("orders")
        fill(cluster, 0, 20)
        assert consumer._core is not None
        await consumer._core.cluster.refresh()
        assert offsets(await read(consumer, 49)) == [*range(1, 30), *range(20)], "what was fetched comes first"
        assert await consumer.position(ORDERS) == 20

    run(body, "orders", fetch_max_wait_ms=50)


def test_a_topic_that_is_made_anew_is_an_error_where_nothing_resets_the_offset() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        consumer.assign([ORDERS])
        consumer.seek(ORDERS, 0)
        assert len(await read(consumer, 30)) == 30
        cluster.create_topic("orders")
        fill(cluster, 0, 20)
        for _ in range(2):
            with pytest.raises(OffsetOutOfRangeError, match="orders-0 was made anew"):
                await read(consumer, 1)
        consumer.seek(ORDERS, 5)
        assert offsets(await read(consumer, 15)) == list(range(5, 20))

    run(body, records=30, fetch_max_wait_ms=50, auto_offset_reset="none")


def test_a_reset_that_failed_is_tried_again_once_its_error_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [InvalidRequestError("once"), InvalidRequestError("twice")]

    async def fails_first(*given: Any, **named: Any) -> None:
        if failures:
            raise failures.pop(0)
        await look_up_offsets(*given, **named)

    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        consumer.assign([ORDERS])
        for word in ("once", "twice"):
            with pytest.raises(InvalidRequestError, match=word):
                await read(consumer, 1)
        assert offsets(await read(consumer, 10)) == list(range(10))

    monkeypatch.setattr(fetcher, "look_up_offsets", fails_first)
    run(body, records=10)


def test_a_damaged_batch_is_named_after_all_before_it_was_given() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        batch = cluster.partition("orders").batches[1]
        batch.data = batch.data[:-3] + bytes([batch.data[-3] ^ 1]) + batch.data[-2:]
        assert offsets(await read(consumer, 10)) == list(range(10))
        with pytest.raises(CorruptRecordError, match="orders-0 at offset 10 is damaged: its CRC is wrong"):
            await read(consumer, 1)
        assert await consumer.position(ORDERS) == 10
        consumer.seek(ORDERS, 20)
        assert offsets(await read(consumer, 10)) == list(range(20, 30))

    run(body, "orders", records=30)


def test_what_cannot_be_deserialized_stays_and_may_be_skipped() -> None:
    def only_small(value: bytes | None) -> int:
        number = int(value or b"")
        if number == 13:
            raise ValueError("unlucky")
        return number

    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        assert [record.value for record in await read(consumer, 13)] == list(range(13))
        with pytest.raises(ValueError, match="unlucky"):
            await read(consumer, 1)
        consumer.seek(ORDERS, 14)
        assert offsets(await read(consumer, 6)) == list(range(14, 20))

    run(body, "orders", records=20, value_deserializer=only_small)


def test_a_topic_and_partitions_that_appear_later_are_read_from_their_beginning() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        consumer.subscribe(["late"])
        assert await consumer.poll(50) == {}
        topic_id, partitions = cluster.topics["orders"][0], cluster.create_topic("late")
        assert topic_id != cluster.topics["late"][0]
        async with asyncio.timeout(5):
            while not consumer.assignment():
                await consumer.poll(20)
        assert consumer.subscription() == {"late"}
        assert len(partitions) == 1

    run(body)


def test_misuse_is_named() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        with pytest.raises(IllegalStateError, match="nothing to read"):
            await consumer.poll()
        with pytest.raises(IllegalStateError, match="orders-0 is not assigned"):
            consumer.seek(ORDERS, 1)
        consumer.assign([ORDERS])
        with pytest.raises(KafkaError, match="offset -5"):
            consumer.seek(ORDERS, -5)
        with pytest.raises(KafkaError, match="max_records"):
            await consumer.poll(max_records=0)
        with pytest.raises(IllegalStateError, match="no group_id"):
            await consumer.commit()
        with pytest.raises(IllegalStateError, match="no group_id"):
            await consumer.committed(ORDERS)
        assert consumer.group_metadata().group_id is None
        for arguments in ({}, {"topics": ["a"], "pattern": "b"}, {"topics": [""]}, {"pattern": "("}):
            with pytest.raises(KafkaError, match="subscribe"):
                consumer.subscribe(**arguments)
        with pytest.raises(KafkaError, match="ConsumerRebalanceListener"):
            consumer.subscribe(["orders"], listener=print)

    run(body)


def test_a_closed_consumer_says_so() -> None:
    async def body(cluster: FakeCluster, consumer: AsyncConsumer) -> None:
        await consumer.close()
        with pytest.raises(IllegalStateError, match="closed"):
            await consumer.poll()

    run(body, "orders")
