"""Produce through the listener, in every version, over one broker's real replicas."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from harness.kafka_client import KafkaClient, encode, part, request
from harness.kafka_listener import OneBroker, one_broker, run_as_a_broker_does, soon
from harness.kafka_messages import hostile
from harness.kafka_rooms import versions_of
from harness.record_batches import record_batch
from kio.schema.errors import ErrorCode
from klamm.broker.kafka.produce import _read_any, _read_one_batch

SECOND = timedelta(seconds=1)
VERSIONS = versions_of("produce")
NEWEST = VERSIONS[-1]


def topic_data(broker: OneBroker, version: int, topics: dict[str, dict[int, bytes | None]]) -> tuple[Any, ...]:
    data = []
    for name, records in topics.items():
        partitions = tuple(
            part("produce", version, "PartitionProduceData", index=number, records=batch)
            for number, batch in records.items()
        )
        known = broker.cluster.image.topics.get(name)
        naming = {"name": name} if version < 13 else {"topic_id": known.topic_id if known else UUID(int=99)}
        data.append(part("produce", version, "TopicProduceData", partition_data=partitions, **naming))
    return tuple(data)


async def produce(
    broker: OneBroker,
    client: KafkaClient,
    topics: dict[str, dict[int, bytes | None]],
    version: int = NEWEST,
    acks: int = 1,
    transactional_id: str | None = None,
    timeout: timedelta = SECOND,
) -> list[Any]:
    """The outcome of each partition."""
    response = await client.call(
        "produce",
        version,
        transactional_id=transactional_id,
        acks=acks,
        timeout=timeout,
        topic_data=topic_data(broker, version, topics),
    )
    if version < 13:
        assert [topic.name for topic in response.responses] == list(topics)
    return [partition for topic in response.responses for partition in topic.partition_responses]


def run(tmp_path: Path, test: Any, **config: Any) -> None:
    async def main() -> None:
        async with one_broker(tmp_path, **config) as (broker, served), served.client() as client:
            await test(broker, client)

    run_as_a_broker_does(main())


def batch(*values: bytes, **fields: Any) -> bytes:
    return bytes(record_batch(values or (b"value",), timestamps=1_700_000_000_000, **fields))


def test_every_version_appends_and_answers_offsets(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("a", [1], [1])
        await broker.create_topic("b", [1])
        for turn, version in enumerate(VERSIONS):
            outcomes = await produce(
                broker,
                client,
                {"a": {1: batch(b"1", b"2"), 0: batch()}, "b": {0: batch()}},
                version,
                acks=-(turn % 2) or 1,
            )
            assert [outcome.error_code for outcome in outcomes] == [ErrorCode.none] * 3
            assert [outcome.base_offset for outcome in outcomes] == [2 * turn, turn, turn]
            assert [outcome.index for outcome in outcomes] == [1, 0, 0]
            if version >= 5:
                assert outcomes[0].log_start_offset == 0
            if version >= 8:
                assert outcomes[0].error_message is None and outcomes[0].record_errors == ()
        replica = broker.replica_manager.get("a", 1)
        assert replica is not None and replica.log.log_end_offset == 2 * len(VERSIONS)

    run(tmp_path, test)


def test_each_partition_has_its_own_error(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", *[[1]] * 12)
        good = batch()
        magic_1 = good[:16] + b"\1" + good[17:]
        cases: dict[int, tuple[bytes | None, ErrorCode]] = {
            0: (good, ErrorCode.none),
            1: (None, ErrorCode.invalid_record),
            2: (b"", ErrorCode.invalid_record),
            3: (good[:60], ErrorCode.invalid_record),
            4: (magic_1, ErrorCode.unsupported_for_message_format),
            5: (magic_1[:30], ErrorCode.unsupported_for_message_format),
            6: (good[:16] + b"\3" + good[17:], ErrorCode.invalid_record),
            7: (good + batch(), ErrorCode.invalid_record),
            8: (good + b"x", ErrorCode.invalid_record),
            9: (good[:-1] + bytes([good[-1] ^ 1]), ErrorCode.corrupt_message),
            10: (batch(transactional=True, producer_id=1, base_sequence=0), _TRANSACTION_ERROR),
            11: (batch(base_offset=5), ErrorCode.invalid_record),
            12: (good, ErrorCode.unknown_topic_or_partition),
            -1: (good, ErrorCode.unknown_topic_or_partition),
        }
        for version in VERSIONS:
            for acks in (1, -1):
                outcomes = await produce(
                    broker, client, {"t": {number: records for number, (records, _) in cases.items()}}, version, acks
                )
                assert [outcome.error_code for outcome in outcomes] == [error for _, error in cases.values()]
                for outcome in outcomes[1:]:
                    assert outcome.base_offset == -1
                    assert version < 8 or outcome.error_message

    run(tmp_path, test)


_TRANSACTION_ERROR = ErrorCode.transactional_id_authorization_failed


def test_errors_of_whole_topics_and_requests(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1])
        for version in VERSIONS:
            [unknown] = await produce(broker, client, {"nobody": {0: batch()}}, version)
            expected = ErrorCode.unknown_topic_id if version >= 13 else ErrorCode.unknown_topic_or_partition
            assert unknown.error_code is expected
            [transactional] = await produce(broker, client, {"t": {0: batch()}}, version, transactional_id="x")
            assert transactional.error_code is _TRANSACTION_ERROR
            [acks] = await produce(broker, client, {"t": {0: batch()}}, version, acks=2)
            assert acks.error_code is ErrorCode.invalid_required_acks
            assert await produce(broker, client, {}, version) == []
            assert await produce(broker, client, {"t": {}}, version) == []
        [zstd] = await produce(broker, client, {"t": {0: batch(compression=4)}}, 6)
        assert zstd.error_code is ErrorCode.unsupported_compression_type
        [zstd] = await produce(broker, client, {"t": {0: batch(compression=4)}}, 7)
        assert zstd.error_code is ErrorCode.none
        await broker.create_topic("__consumer_offsets", [1])
        [internal] = await produce(broker, client, {"__consumer_offsets": {0: batch()}})
        assert internal.error_code is ErrorCode.invalid_topic_exception

    run(tmp_path, test)


def test_a_new_leader_is_named_with_its_address(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [2, 1], [1, 2])
        for version in VERSIONS:
            response = await client.call(
                "produce",
                version,
                transactional_id=None,
                acks=1,
                timeout=SECOND,
                topic_data=topic_data(broker, version, {"t": {0: batch(), 1: batch()}}),
            )
            moved, here = response.responses[0].partition_responses
            assert moved.error_code is ErrorCode.not_leader_or_follower
            assert here.error_code is ErrorCode.none
            if version >= 10:
                assert (moved.current_leader.leader_id, moved.current_leader.leader_epoch) == (2, 0)
                assert (here.current_leader.leader_id, here.current_leader.leader_epoch) == (-1, -1)
                [node] = response.node_endpoints
                assert (node.node_id, node.host, node.port, node.rack) == (2, "localhost", 9092, "far")

    run(tmp_path, test, racks=("near", "far"))


def test_acks_0_is_not_answered_and_an_error_closes_the_connection(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1])
        fields: dict[str, Any] = {"transactional_id": None, "acks": 0, "timeout": SECOND}
        for version in VERSIONS:
            client.send("produce", version, topic_data=topic_data(broker, version, {"t": {0: batch()}}), **fields)
            await client.call("api_versions", 0)  # its answer is the next one
        replica = broker.replica_manager.get("t", 0)
        assert replica is not None and replica.log.log_end_offset == len(VERSIONS)
        client.send("produce", 9, topic_data=topic_data(broker, 9, {"t": {0: batch(), 1: batch()}}), **fields)
        assert await client.is_closed()
        assert replica.log.log_end_offset == len(VERSIONS) + 1  # what was good stays

    run(tmp_path, test)


def test_produces_are_pipelined_and_answered_in_order(tmp_path: Path) -> None:
    """Each waits for the ISR; a request of another kind waits for all of them."""

    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1, 2], min_insync_replicas="1")
        await broker.create_topic("alone", [1])
        fields: dict[str, Any] = {"transactional_id": None, "timeout": 20 * SECOND}
        sent = []
        for name, acks in (("t", -1), ("t", -1), ("alone", -1), ("t", 1)):
            data = topic_data(broker, 9, {name: {0: batch()}})
            sent.append(client.send("produce", 9, topic_data=data, acks=acks, **fields))
        sent.append(client.send("api_versions", 0))
        replica = broker.replica_manager.get("t", 0)
        assert replica is not None
        await soon(lambda: replica.log.log_end_offset == 3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.readexactly(1), 0.05)
        broker.cluster.fence(2)  # the ISR is the leader alone: all is committed
        await broker.replay()
        got = [await client.receive() for _ in sent]
        assert [number for number, _ in got] == sent
        offsets = [response.responses[0].partition_responses[0].base_offset for _, response in got[:4]]
        assert offsets == [0, 1, 0, 2]

    run(tmp_path, test, racks=("", ""))


def test_a_wait_for_the_isr_ends_with_its_time(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1, 2])
        [outcome] = await produce(broker, client, {"t": {0: batch()}}, acks=-1, timeout=timedelta(milliseconds=20))
        assert outcome.error_code is ErrorCode.request_timed_out

    run(tmp_path, test, racks=("", ""))


def test_who_leaves_while_it_waits_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with one_broker(tmp_path, racks=("", "")) as (broker, served):
            await broker.create_topic("t", [1, 2])
            async with served.client() as client:
                data = topic_data(broker, 9, {"t": {0: batch()}})
                client.send("produce", 9, transactional_id=None, acks=-1, timeout=SECOND, topic_data=data)
                replica = broker.replica_manager.get("t", 0)
                assert replica is not None
                await soon(lambda: replica.log.log_end_offset == 1)
            await soon(lambda: not served.listener._connections)
            broker.cluster.fence(2)
            await broker.replay()
            assert replica.high_watermark == 1

    with caplog.at_level(logging.ERROR):
        run_as_a_broker_does(main())
    assert not caplog.records


def test_the_same_batch_again_is_a_duplicate(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1])
        first = batch(b"1", b"2", producer_id=7, base_sequence=0)
        assert [(await produce(broker, client, {"t": {0: first}}))[0].base_offset for _ in range(2)] == [0, 0]
        gap = batch(producer_id=7, base_sequence=9)
        [outcome] = await produce(broker, client, {"t": {0: gap}})
        assert outcome.error_code is ErrorCode.out_of_order_sequence_number

    run(tmp_path, test)


def test_log_append_time_is_told(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1], message_timestamp_type="LogAppendTime")
        await broker.create_topic("u", [1])
        for version in VERSIONS:
            stamped, own = await produce(broker, client, {"t": {0: batch()}, "u": {0: batch()}}, version)
            assert "1970" not in str(stamped.log_append_time) and stamped.log_append_time
            assert own.log_append_time in (None, -1)

    run(tmp_path, test)


@pytest.mark.parametrize("version", range(9, NEWEST + 1))
def test_the_short_way_through_a_request_finds_what_the_long_one_finds(version: int) -> None:
    random = Random(version)
    naming = {"name": "a-topic"} if version < 13 else {"topic_id": UUID(int=7)}
    taken = 0
    for size in (61, 126, 127, 128, 200, 16_500):
        partition = part("produce", version, "PartitionProduceData", index=3, records=bytes(size))
        topic = part("produce", version, "TopicProduceData", partition_data=(partition,), **naming)
        whole = encode(request("produce", version, transactional_id=None, acks=-1, timeout=SECOND, topic_data=(topic,)))
        assert _read_one_batch(bytearray(b"head" + whole), 4, version) is not None
        for data in hostile(whole[:100], random, 300):
            frame = bytearray(b"head" + data + whole[100:])
            short = _read_one_batch(frame, 4, version)
            if short is not None:
                taken += 1
                assert short == _read_any(frame, 4, version)
    assert taken > 50
