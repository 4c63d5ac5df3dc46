"""The asyncio producer against a fake cluster over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from harness.fake_broker import FakeCluster, ProduceFault, stored_headers
from harness.fake_controllers import until
from klamm.client import AsyncProducer, DeliveryFuture
from klamm.proto.broker_pb2 import MetadataRequest, ProduceRequest
from klamm.proto.errors import (
    ErrorCode,
    IllegalStateError,
    InvalidRecordError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumberError,
)
from klamm.proto.record_codec import read_batch

HOUR_MS = 3_600_000
"""Longer than any test: what waits for it does not end in time."""

PATIENT = dict.fromkeys(("request_timeout_ms", "delivery_timeout_ms", "metadata_max_age_ms"), HOUR_MS)

Body = Callable[[FakeCluster, AsyncProducer], Awaitable[None]]


def run(body: Body, *, partitions: int = 1, brokers: int = 3, **arguments: Any) -> None:
    async def main() -> None:
        async with FakeCluster(brokers) as cluster:
            cluster.create_topic("orders", partitions)
            producer = AsyncProducer(bootstrap_servers=cluster.bootstrap_servers, **arguments)
            await producer.start()
            try:
                async with asyncio.timeout(30):
                    await body(cluster, producer)
                    await producer.close()
            finally:
                await producer.close(timeout=0)

    asyncio.run(main())


async def send_many(producer: AsyncProducer, count: int, *, start: int = 0, partition: int = 0) -> list[DeliveryFuture]:
    """Records numbered from `start`, in several batches."""
    futures = []
    for number in range(start, start + count):
        futures.append(await producer.send("orders", b"%d" % number, partition=partition))
        if number % 10 == 9:
            await asyncio.sleep(0)
    return futures


def under_way(producer: AsyncProducer) -> int:
    """How many batches are with brokers, unanswered."""
    assert producer._core is not None
    queues = producer._core._sender._accumulator.active.values()
    return sum(len(queue.in_flight) for queue in queues)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_a_record_lands_where_its_metadata_says() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        future = await producer.send("orders", b"v", key=b"k", headers=[("h", b"x")], timestamp_ms=123)
        sent = await future
        assert (sent.topic, sent.partition, sent.offset, sent.timestamp) == ("orders", sent.partition, 0, 123)
        assert (sent.serialized_key_size, sent.serialized_value_size) == (1, 1)
        (batch,) = cluster.partition("orders", sent.partition).batches
        (record,) = read_batch(batch.data)
        assert (record.key, record.value, record.headers, record.timestamp) == (b"k", b"v", [("h", b"x")], 123)
        assert future.succeeded() and future.value == sent and future.exception is None

    run(body, partitions=4)


def test_one_key_always_lands_in_javas_partition() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        sent = [await producer.send_and_wait("orders", b"v", key=b"foobar") for _ in range(3)]
        assert {metadata.partition for metadata in sent} == {(-790332482 & 0x7FFFFFFF) % 7}

    run(body, partitions=7)


def test_records_keep_their_order_and_offsets() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        futures = await send_many(producer, 500)
        assert [(await future).offset for future in futures] == list(range(500))
        assert cluster.partition("orders").values() == numbers(500)
        assert all(header.producer_id >= 0 for header in stored_headers(cluster.partition("orders")))

    run(body)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compression(compression: str) -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        for number in range(100):
            await producer.send("orders", b"%d" % number * 50)
        await producer.flush()
        partition = cluster.partition("orders")
        assert partition.values() == [b"%d" % number * 50 for number in range(100)]
        assert any(header.compression for header in stored_headers(partition))

    run(body, compression_type=compression, linger_ms=5)


def test_linger_gathers_records() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await producer.partitions_for("orders")
        futures = [await producer.send("orders", b"x") for _ in range(5)]
        for future in futures:
            await future
        assert cluster.partition("orders").appends == 1

    run(body, linger_ms=30)


def test_flush_does_not_linger() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await producer.send("orders", b"x")
        await producer.flush()
        assert cluster.partition("orders").end_offset == 1

    run(body, linger_ms=HOUR_MS, delivery_timeout_ms=HOUR_MS)


@pytest.mark.parametrize(
    "fault",
    [
        ProduceFault(break_stream=True, times=3),
        ProduceFault(break_stream=True, append=True, times=3),
        ProduceFault(error=ErrorCode.REQUEST_TIMED_OUT, append=True, times=4),
        ProduceFault(error=ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, append=True, times=4),
        ProduceFault(error=ErrorCode.NOT_ENOUGH_REPLICAS, times=4),
        ProduceFault(error=ErrorCode.NOT_LEADER_OR_FOLLOWER, times=4),
        ProduceFault(error=ErrorCode.KAFKA_STORAGE_ERROR, times=2),
        ProduceFault(error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, times=2),
    ],
    ids=lambda fault: f"{fault.error and fault.error.name}-{fault.append}",
)
def test_rule_16_17_retries_neither_lose_double_nor_reorder(fault: ProduceFault) -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        cluster.faults.append(fault)
        futures = await send_many(producer, 300, start=1)
        assert [(await future).offset for future in futures] == list(range(1, 301))
        assert cluster.partition("orders").values() == numbers(301)

    run(body, batch_size=100)


def test_kip_951_a_leader_hint_is_followed_at_once() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        cluster.move_leader("orders", 0, 2)
        for broker in cluster.brokers:
            broker.metadata_snapshot = await broker.GetMetadata(MetadataRequest(topics=["orders"]), None)
            broker.metadata_snapshot.topics[0].partitions[0].leader_id = 0
            broker.metadata_snapshot.topics[0].partitions[0].leader_epoch = 0
        cluster.requests.clear()
        assert (await producer.send_and_wait("orders", b"1", partition=0)).offset == 1
        asked = [request for request in cluster.requests if isinstance(request, ProduceRequest)]
        assert len(asked) == 2, "refused by the old leader, taken by the new one"

    run(body, retry_backoff_ms=HOUR_MS)


def test_a_dead_leader_is_replaced_as_soon_as_another_is_elected() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        await cluster.brokers[0].kill()
        futures = await send_many(producer, 50, start=1)
        await asyncio.sleep(0.2)
        assert not futures[0].is_done
        cluster.move_leader("orders", 0, 1)
        assert [(await future).offset for future in futures] == list(range(1, 51))
        assert cluster.partition("orders").values() == numbers(51)

    run(body, **PATIENT)


def test_a_hung_leader_is_left_as_soon_as_another_is_elected() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        cluster.brokers[0].pause()
        futures = await send_many(producer, 50, start=1)
        await until(lambda: cluster.brokers[0].waiting)
        cluster.move_leader("orders", 0, 1)
        assert [(await future).offset for future in futures] == list(range(1, 51))
        cluster.brokers[0].resume()
        assert cluster.partition("orders").values() == numbers(51)

    run(body, **PATIENT)


def test_rule_17_records_keep_their_order_into_a_topic_that_is_made_anew() -> None:
    # Its leader takes any first sequence: while the old topic's answer is due, nothing may go to the new one.
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        held = asyncio.Event()
        cluster.faults.append(ProduceFault(held=held))
        before = await producer.send("orders", b"before", partition=0)
        await until(lambda: not cluster.faults[0].times)  # the broker has it, and holds the answer back
        cluster.create_topic("orders")
        assert producer._core is not None
        await producer._core.cluster.refresh()
        after = await producer.send("orders", b"after", partition=0)
        await asyncio.sleep(0.1)
        assert cluster.partition("orders").values() == []
        held.set()
        assert [(await before).offset, (await after).offset] == [0, 1]
        assert cluster.partition("orders").values() == [b"before", b"after"]

    run(body)


def test_rule_17_records_keep_their_order_into_a_new_epoch_of_the_same_broker() -> None:
    # It may have lost what it knew of the producer id (an unclean election): it refuses what bears its old epoch, so
    # while an answer of that is due, nothing may go to it under the new one.
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        held = asyncio.Event()
        cluster.faults.append(ProduceFault(held=held))
        before = await producer.send("orders", b"before", partition=0)
        await until(lambda: not cluster.faults[0].times)  # it is on its way, and slow
        cluster.partition("orders").truncate_to(0)
        cluster.partition("orders").producers.clear()
        cluster.metadata_offset += 1
        assert producer._core is not None
        await producer._core.cluster.refresh()
        after = await producer.send("orders", b"after", partition=0)
        await asyncio.sleep(0.1)
        held.set()
        assert [(await before).offset, (await after).offset] == [0, 1]
        assert cluster.partition("orders").values() == [b"before", b"after"]

    run(body)


def test_a_hung_bootstrap_broker_does_not_hang_the_producer() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        for broker in cluster.brokers[1:]:
            broker.pause()
        assert (await producer.send_and_wait("orders", b"x", partition=0)).offset == 0
        for broker in cluster.brokers[1:]:
            broker.resume()

    run(body)


def test_a_broker_that_comes_back_on_another_port_is_found() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        await cluster.brokers[0].kill()
        cluster.brokers[0].port = 0
        await cluster.brokers[0].start()
        cluster.metadata_offset += 1
        assert (await producer.send_and_wait("orders", b"1", partition=0)).offset == 1

    run(body)


def test_kip_360_lost_acked_records_start_a_new_epoch_and_nothing_stops() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        for number in range(3):
            await producer.send_and_wait("orders", b"%d" % number, partition=0)
        cluster.partition("orders").truncate_to(1)
        cluster.metadata_offset += 1
        for future in await send_many(producer, 20, start=3):
            await future
        assert cluster.partition("orders").values() == [b"0", *numbers(23)[3:]]
        assert stored_headers(cluster.partition("orders"))[-1].producer_epoch == 1

    run(body)


def test_rule_17_what_an_earlier_leader_may_have_is_given_up_where_a_later_one_lacks_what_was_before_it() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        for number in range(2):
            await producer.send_and_wait("orders", b"%d" % number, partition=0)
        cluster.brokers[0].pause()
        sent = await producer.send("orders", b"perhaps in the log of broker 0", partition=0)
        await until(lambda: cluster.brokers[0].waiting)
        cluster.partition("orders").truncate_to(1)
        cluster.move_leader("orders", 0, 1)
        with pytest.raises(OutOfOrderSequenceNumberError, match="its outcome is not known"):
            await sent
        assert (await producer.send_and_wait("orders", b"2", partition=0)).offset == 1
        cluster.brokers[0].resume()
        assert cluster.partition("orders").values() == [b"0", b"2"]

    run(body)


def test_rule_17_what_an_earlier_leader_may_have_is_not_split() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await producer.send_and_wait("orders", b"0", partition=0)
        cluster.brokers[0].pause()
        sent = [await producer.send("orders", b"x" * 50, partition=0) for _ in range(2)]
        await until(lambda: cluster.brokers[0].waiting)
        cluster.message_bytes_max = 120
        cluster.move_leader("orders", 0, 1)
        for future in sent:
            with pytest.raises(MessageSizeTooLargeError, match="its outcome is not known"):
                await future
        cluster.brokers[0].resume()

    run(body, linger_ms=20)


def test_a_record_that_fails_for_good_fails_alone() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        cluster.faults.append(ProduceFault(error=ErrorCode.INVALID_RECORD, message="no such thing"))
        failed = await producer.send("orders", b"bad", partition=0)
        with pytest.raises(InvalidRecordError, match="no such thing"):
            await failed
        assert failed.failed() and isinstance(failed.exception, InvalidRecordError)
        futures = await send_many(producer, 30, start=1)
        assert [(await future).offset for future in futures] == list(range(1, 31))

    run(body)


def test_rule_17_a_timed_out_batch_is_not_doubled_when_it_turns_up_late() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        cluster.brokers[0].pause()
        lost = await producer.send("orders", b"lost", partition=0)
        with pytest.raises(KafkaTimeoutError, match="delivery_timeout_ms=1000; its outcome is not known"):
            await lost
        cluster.brokers[0].resume()
        for future in await send_many(producer, 20, start=1):
            await future
        values = cluster.partition("orders").values()
        assert [value for value in values if value != b"lost"] == numbers(21)
        assert values.count(b"lost") <= 1

    run(body, delivery_timeout_ms=1_000)


def test_rule_17_a_batch_without_an_answer_is_written_if_a_later_one_is() -> None:
    # To be told that its outcome is not known, the user would write the record a second time.
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        held = asyncio.Event()
        unknown = ProduceFault(error=ErrorCode.REQUEST_TIMED_OUT, append=True, held=held)
        cluster.faults += [unknown, ProduceFault(), replace(unknown, times=1_000)]
        first = await producer.send("orders", b"1", partition=0)
        await until(lambda: not unknown.times)
        second = await producer.send("orders", b"2", partition=0)
        await until(lambda: under_way(producer) == 2)
        held.set()
        assert (await second).offset == 2
        assert not first.is_done
        assert (await first).offset == -1
        cluster.faults.clear()
        assert (await (await send_many(producer, 1, start=3))[0]).offset == 3
        assert cluster.partition("orders").values() == numbers(4)
        assert {header.producer_epoch for header in stored_headers(cluster.partition("orders"))} == {0}

    run(body, delivery_timeout_ms=2_000)


@pytest.mark.parametrize("error", [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])
def test_rule_16_a_leader_that_resigns_may_have_appended_what_it_refuses(error: ErrorCode) -> None:
    # It answers who waits for the ISR in the same words as who asks it later. Behind a batch that was given up the
    # sequence must therefore stay, or the batch would be written once more in a new epoch.
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await (await send_many(producer, 1))[0]
        held = asyncio.Event()
        cluster.faults.append(ProduceFault(error=ErrorCode.INVALID_RECORD, append=True, held=held))
        cluster.faults.append(ProduceFault(error=error, append=True))
        given_up = await producer.send("orders", b"given up" * 20, partition=0)
        await until(lambda: not cluster.faults[0].times)
        kept = await producer.send("orders", b"kept" * 30, partition=0)
        await until(lambda: under_way(producer) == 2)
        held.set()
        with pytest.raises(InvalidRecordError):
            await given_up
        assert (await kept).offset == 2
        assert cluster.partition("orders").values().count(b"kept" * 30) == 1

    run(body, batch_size=100)


def test_a_batch_that_the_topic_finds_too_large_is_split() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        cluster.message_bytes_max = 2_000
        await producer.partitions_for("orders")
        futures = [await producer.send("orders", b"%06d" % number * 10, partition=0) for number in range(200)]
        assert [(await future).offset for future in futures] == list(range(200))
        assert cluster.partition("orders").values() == [b"%06d" % number * 10 for number in range(200)]

    run(body, linger_ms=20)


def test_a_single_record_that_is_too_large_is_an_error() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        cluster.message_bytes_max = 2_000
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait("orders", b"x" * 5_000)
        with pytest.raises(MessageSizeTooLargeError, match="max_request_size allows 10000"):
            await producer.send("orders", b"x" * 20_000)

    run(body, max_request_size=10_000)


def test_a_full_buffer_holds_the_sender_back_and_then_fails() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        await producer.partitions_for("orders")
        cluster.brokers[0].pause()
        with pytest.raises(KafkaTimeoutError, match="buffer_memory=5000 is full"):
            for _ in range(100):
                await producer.send("orders", b"x" * 500)
        cluster.brokers[0].resume()
        await producer.send_and_wait("orders", b"y" * 500)

    run(body, buffer_memory=5_000, max_block_ms=100)


def test_back_pressure_lets_go_when_memory_is_free() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        for number in range(300):
            await producer.send("orders", b"%d" % number, partition=0)
        await producer.flush()
        assert cluster.partition("orders").values() == numbers(300)

    run(body, buffer_memory=300)


def test_an_unknown_topic_ends_with_what_was_wrong() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        with pytest.raises(KafkaTimeoutError, match="'missing' within 200 ms: this broker knows no such topic"):
            await producer.send("missing", b"x")
        with pytest.raises(InvalidTopicError):
            await producer.send("no/slash", b"x")
        with pytest.raises(KafkaError, match="partition 7 of orders"):
            await producer.send("orders", b"x", partition=7)

    run(body, max_block_ms=200)


def test_a_topic_that_appears_is_used() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        task = asyncio.ensure_future(producer.send_and_wait("late", b"x"))
        await until(lambda: len([each for each in cluster.requests if "late" in getattr(each, "topics", ())]) > 1)
        cluster.create_topic("late")
        assert (await task).offset == 0

    run(body)


def test_acks_0_does_not_wait() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        sent = await producer.send_and_wait("orders", b"x")
        assert sent.offset == -1
        async with asyncio.timeout(5), cluster.partition("orders").grown:
            await cluster.partition("orders").grown.wait_for(lambda: cluster.partition("orders").end_offset == 1)

    run(body, acks=0)


def test_a_closed_producer_says_so() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        cluster.brokers[0].pause()
        future = await producer.send("orders", b"x", partition=0)
        await producer.close(timeout=0.05)
        with pytest.raises(IllegalStateError, match="closed before the record was acknowledged"):
            await future
        with pytest.raises(IllegalStateError, match="closed"):
            await producer.send("orders", b"x")

    run(body)


def test_a_producer_that_was_not_started_says_so() -> None:
    with pytest.raises(IllegalStateError, match="not started"):
        asyncio.run(AsyncProducer(bootstrap_servers="h:1").flush())


def test_many_partitions_and_leaders_in_turmoil() -> None:
    async def body(cluster: FakeCluster, producer: AsyncProducer) -> None:
        futures: list[list[DeliveryFuture]] = [[] for _ in range(6)]
        for number in range(1200):
            partition = number % 6
            futures[partition].append(await producer.send("orders", b"%d" % number, partition=partition))
            if number % 100 == 50:
                cluster.move_leader("orders", (number // 100) % 6, number % 3)
            if number % 170 == 100:
                cluster.faults.append(ProduceFault(break_stream=True, append=number % 2 == 0))
            if number % 40 == 0:
                await asyncio.sleep(0.002)
        for partition, sent in enumerate(futures):
            assert [(await future).offset for future in sent] == list(range(200))
            assert cluster.partition("orders", partition).values() == [b"%d" % n for n in range(partition, 1200, 6)]

    run(body, partitions=6, batch_size=200)
