"""aiokafka: the asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from harness.kafka_clients import create_topic

pytestmark = pytest.mark.integration

SECONDS_MAX = 30.0


async def read(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    async def read_them() -> list[bytes]:
        return [(await consumer.getone()).value for _ in range(count)]

    return await asyncio.wait_for(read_them(), SECONDS_MAX)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 - aiokafka offers no event for it
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
def test_idempotent_producer(three_servers: str, name: str, compression: str | None) -> None:
    async def main() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=three_servers, enable_idempotence=True, compression_type=compression
        ) as producer:
            sent = await asyncio.gather(*[await producer.send(name, b"%d" % n, partition=0) for n in range(200)])
        assert [answer.offset for answer in sent] == list(range(200))
        async with AIOKafkaConsumer(name, bootstrap_servers=three_servers, auto_offset_reset="earliest") as consumer:
            assert await read(consumer, 200) == [b"%d" % n for n in range(200)]

    asyncio.run(main())


def test_group_commit_and_resume(servers: str, name: str) -> None:
    options = {"bootstrap_servers": servers, "group_id": name, "auto_offset_reset": "earliest"}

    async def main() -> None:
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            for number in range(10):
                await producer.send_and_wait(name, b"%d" % number)
        async with AIOKafkaConsumer(name, enable_auto_commit=False, **options) as consumer:
            assert await read(consumer, 4) == [b"0", b"1", b"2", b"3"]
            await consumer.commit()
            assert await consumer.committed(TopicPartition(name, 0)) == 4
        async with AIOKafkaConsumer(name, **options) as consumer:
            assert await read(consumer, 6) == [b"4", b"5", b"6", b"7", b"8", b"9"]
            await consumer.seek_to_beginning()
            assert await read(consumer, 1) == [b"0"]
            assert await consumer.end_offsets([TopicPartition(name, 0)]) == {TopicPartition(name, 0): 10}

    asyncio.run(main())


def test_two_members_and_one_leaves(servers: str, name: str) -> None:
    create_topic(servers, name, 2)

    async def main() -> None:
        first, second = (
            AIOKafkaConsumer(name, bootstrap_servers=servers, group_id=name, heartbeat_interval_ms=300) for _ in "12"
        )
        await first.start()
        await second.start()
        try:
            await until(lambda: len(first.assignment()) == len(second.assignment()) == 1)
        finally:
            await second.stop()
        try:
            await until(lambda: len(first.assignment()) == 2)
        finally:
            await first.stop()

    asyncio.run(main())
