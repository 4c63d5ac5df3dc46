"""Produced batches whose records take long to look through or to compress: others need not wait for them, and every
order that a producer counts on is kept.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from harness.kafka_client import KafkaClient, part
from harness.kafka_listener import OneBroker, Serving, one_broker, run_as_a_broker_does, soon
from harness.keyed_logs import keyed_batch
from kio.schema.errors import ErrorCode
from klamm.broker import batch_preparation, topic_compression
from klamm.broker.batch_preparation import IN_LINE_RECORDS_MAX
from klamm.broker.replica_manager import PartitionProduce, ReplicaManager
from klamm.proto.identifiers import Offset
from klamm.proto.record_batch import RecordBatchHeader, batches, check_batch
from klamm.proto.record_compression import DECOMPRESSED_BYTES_MAX

MANY = 20_000
LARGE = bytes(keyed_batch([(b"key", b"value " * 20_000)], timestamp=1_700_000_000_000))
Test = Callable[[OneBroker, Serving], Coroutine[Any, Any, None]]


def run(tmp_path: Path, test: Test) -> None:
    async def main() -> None:
        async with one_broker(tmp_path) as (broker, served):
            await broker.create_topic("compacted", [1], [1], **{"cleanup.policy": "compact"})
            await broker.create_topic("squeezed", [1], **{"compression.type": "gzip"})
            await broker.create_topic("plain", [1])
            await test(broker, served)

    run_as_a_broker_does(main())


def keyed(count: int, **fields: Any) -> bytes:
    """A batch of so many small records."""
    return bytes(keyed_batch([(b"key", b"")] * count, timestamp=1_700_000_000_000, **fields))


def send(client: KafkaClient, topic: str, *records: bytes, acks: int = 1, number: int = 0) -> int:
    """Sends a request with one batch for each partition from `number` on; returns its correlation id."""
    data = tuple(
        part("produce", 9, "PartitionProduceData", index=index, records=batch)
        for index, batch in enumerate(records, start=number)
    )
    topics = (part("produce", 9, "TopicProduceData", name=topic, partition_data=data),)
    return client.send("produce", 9, transactional_id=None, acks=acks, timeout=timedelta(seconds=10), topic_data=topics)


async def receive(client: KafkaClient) -> tuple[int, list[Any]]:
    """The next answer's correlation id, and its partitions."""
    correlation_id, response = await client.receive()
    return correlation_id, [partition for topic in response.responses for partition in topic.partition_responses]


def stored(broker: OneBroker, topic: str, number: int = 0) -> list[RecordBatchHeader]:
    """The headers of what is in the log."""
    found = broker.replica_manager.get(topic, number)
    assert found is not None
    data = found.log.read(Offset(0), max_bytes=1 << 30, end_offset=found.log.log_end_offset)
    return [check_batch(data, position) for position, _ in batches(data)]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a produce has reached the replica manager."""
    event, append = asyncio.Event(), ReplicaManager.append

    def note(manager: ReplicaManager, *arguments: Any) -> Any:
        event.set()
        return append(manager, *arguments)

    monkeypatch.setattr(ReplicaManager, "append", note)
    return event


def test_a_partition_named_twice_keeps_its_order(tmp_path: Path) -> None:
    """The second batch needs no preparation, but the first, of the same request, does."""

    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as client:
            data = tuple(
                part("produce", 9, "PartitionProduceData", index=0, records=keyed(count)) for count in (MANY, 1)
            )
            topics = (part("produce", 9, "TopicProduceData", name="compacted", partition_data=data),)
            client.send("produce", 9, transactional_id=None, acks=1, timeout=timedelta(seconds=10), topic_data=topics)
            _, partitions = await receive(client)
        assert [partition.base_offset for partition in partitions] == [0, MANY]
        assert [header.record_count for header in stored(broker, "compacted")] == [MANY, 1]

    run(tmp_path, test)


def test_another_connection_is_answered_before_many_records_are_looked_through(
    tmp_path: Path, begun: asyncio.Event
) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as slow, served.client() as quick:
            await quick.call("api_versions", 0)
            send(slow, "compacted", keyed(3 * MANY))
            answer = asyncio.ensure_future(receive(slow))
            await begun.wait()
            await quick.call("api_versions", 0)
            assert not answer.done()
            [outcome] = (await answer)[1]
            assert outcome.error_code is ErrorCode.none
            assert [header.record_count for header in stored(broker, "compacted")] == [3 * MANY]

    run(tmp_path, test)


class Gate:
    """Holds the thread that compresses until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self._opened = threading.Event(), threading.Event()
        recompress = topic_compression.recompress

        def wait(*arguments: Any) -> Any:
            self.entered.set()
            assert self._opened.wait(20)
            return recompress(*arguments)

        monkeypatch.setattr(batch_preparation, "recompress", wait)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


def test_another_connection_is_answered_while_a_large_batch_is_compressed_anew(tmp_path: Path, gate: Gate) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as slow, served.client() as quick:
            send(slow, "squeezed", LARGE)
            answer = asyncio.ensure_future(receive(slow))
            await soon(gate.entered.is_set)
            await quick.call("api_versions", 0)
            assert not answer.done()
            gate.open()
            [outcome] = (await answer)[1]
            assert outcome.error_code is ErrorCode.none
            [header] = stored(broker, "squeezed")
            assert header.compression == 1

    run(tmp_path, test)


def test_what_comes_behind_a_slow_batch_of_its_partition_is_appended_behind_it(tmp_path: Path) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as client, served.client() as other:
            sent = [send(client, "compacted", keyed(count)) for count in (MANY, 1, 2 * MANY, 2, 3)]
            await soon(lambda: ("compacted", 0) in broker.replica_manager._slow_appends)
            send(other, "compacted", keyed(4))
            send(other, "compacted", keyed(5), number=1)
            got = [await receive(client) for _ in sent]
            assert [correlation_id for correlation_id, _ in got] == sent
            offsets = [outcome.base_offset for _, [outcome] in got]
            headers = stored(broker, "compacted")
            own = [header for header in headers if header.record_count != 4]
            assert [header.record_count for header in own] == [MANY, 1, 2 * MANY, 2, 3]
            assert offsets == [header.base_offset for header in own]
            assert [outcome.error_code for _, [outcome] in (await receive(other), await receive(other))] == [
                ErrorCode.none
            ] * 2
            assert [header.record_count for header in stored(broker, "compacted", 1)] == [5]

    run(tmp_path, test)


def test_another_partition_does_not_wait_and_one_request_may_have_both(tmp_path: Path, gate: Gate) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as slow, served.client() as quick:
            topics = []
            for name, records in (("plain", keyed(1)), ("squeezed", LARGE), ("nowhere", keyed(1))):
                data = (part("produce", 9, "PartitionProduceData", index=0, records=records),)
                topics.append(part("produce", 9, "TopicProduceData", name=name, partition_data=data))
            seconds = timedelta(seconds=10)
            slow.send("produce", 9, transactional_id=None, acks=-1, timeout=seconds, topic_data=tuple(topics))
            await soon(gate.entered.is_set)
            assert len(stored(broker, "plain")) == 1
            send(quick, "plain", keyed(1), acks=-1)
            assert (await receive(quick))[1][0].base_offset == 1
            gate.open()
            codes = [outcome.error_code for outcome in (await receive(slow))[1]]
            assert codes == [ErrorCode.none, ErrorCode.none, ErrorCode.unknown_topic_or_partition]

    run(tmp_path, test)


def test_sequences_behind_a_slow_batch_are_not_missed_and_its_retry_is_a_duplicate(tmp_path: Path) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as client, served.client() as again:
            first = keyed(MANY, producer_id=7, sequence=0)
            send(client, "compacted", first, acks=-1)
            send(client, "compacted", keyed(2, producer_id=7, sequence=MANY), acks=-1)
            await soon(lambda: ("compacted", 0) in broker.replica_manager._slow_appends)
            send(again, "compacted", first, acks=-1)
            outcomes = [(await receive(each))[1][0] for each in (client, client, again)]
            assert [(outcome.error_code, outcome.base_offset) for outcome in outcomes] == [
                (ErrorCode.none, 0),
                (ErrorCode.none, MANY),
                (ErrorCode.none, 0),
            ]
            assert len(stored(broker, "compacted")) == 2

    run(tmp_path, test)


def test_a_slow_batch_that_cannot_be_taken_is_refused_alone(tmp_path: Path) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as client:
            pairs = [(b"key", b"")] * MANY + [(None, b"")]
            send(client, "compacted", bytes(keyed_batch(pairs, timestamp=1_700_000_000_000)))
            bomb = keyed_batch([(b"key", bytes(DECOMPRESSED_BYTES_MAX))], timestamp=1_700_000_000_000, compression=1)
            send(client, "compacted", bytes(bomb))
            send(client, "compacted", keyed(1))
            outcomes = [(await receive(client))[1][0] for _ in range(3)]
            assert [outcome.error_code for outcome in outcomes] == [
                ErrorCode.invalid_record,
                ErrorCode.invalid_record,
                ErrorCode.none,
            ]
            assert [error.batch_index for error in outcomes[0].record_errors] == [MANY]
            assert len(stored(broker, "compacted")) == 1

    run(tmp_path, test)


def test_the_leadership_is_looked_at_again(tmp_path: Path, gate: Gate) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as client:
            send(client, "squeezed", LARGE)
            await soon(gate.entered.is_set)
            partition = broker.replica_manager.get("squeezed", 0)
            assert partition is not None
            broker.cluster.delete_topic("squeezed")
            await broker.create_topic("squeezed", [1])
            gate.open()
            [outcome] = (await receive(client))[1]
            assert outcome.error_code is ErrorCode.unknown_topic_or_partition
            assert not partition.log.log_end_offset
            assert not stored(broker, "squeezed")

    run(tmp_path, test)


def test_the_topics_settings_are_looked_at_again(tmp_path: Path, gate: Gate) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as client:
            send(client, "squeezed", LARGE)
            await soon(gate.entered.is_set)
            broker.cluster.configure("squeezed", compression_type="lz4")
            await broker.replay()
            gate.open()
            [outcome] = (await receive(client))[1]
            assert outcome.error_code is ErrorCode.none
            assert [header.compression for header in stored(broker, "squeezed")] == [3]

    run(tmp_path, test)


@pytest.mark.parametrize("acks", [0, 1])
def test_whose_producer_is_gone_is_appended_if_it_wanted_no_answer(tmp_path: Path, gate: Gate, acks: int) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as stays:
            async with served.client() as goes:
                send(goes, "squeezed", LARGE, acks=acks)
                send(goes, "squeezed", keyed(2), acks=acks)
                await soon(gate.entered.is_set)
            await soon(lambda: len(served.listener._connections) == 1)
            send(stays, "squeezed", keyed(3))
            gate.open()
            await receive(stays)
            counts = [header.record_count for header in stored(broker, "squeezed")]
            assert counts == ([1, 2, 3] if acks == 0 else [3])
            await soon(lambda: ("squeezed", 0) not in broker.replica_manager._slow_appends)
            assert not broker.replica_manager._slow_appends._bytes

    run(tmp_path, test)


def test_a_broker_that_stops_tells_who_waits(tmp_path: Path, gate: Gate) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        async with served.client() as client:
            send(client, "squeezed", LARGE)
            send(client, "squeezed", keyed(1))
            await soon(gate.entered.is_set)
            await soon(lambda: broker.replica_manager._slow_appends._bytes > len(LARGE))
            stopping = asyncio.ensure_future(broker.replica_manager.shutdown())
            await asyncio.sleep(0)
            gate.open()
            await stopping
            codes = [(await receive(client))[1][0].error_code for _ in range(2)]
            assert codes == [ErrorCode.not_leader_or_follower] * 2

    run(tmp_path, test)


def test_coordinators_find_theirs_appended_at_once(tmp_path: Path) -> None:
    async def test(broker: OneBroker, served: Serving) -> None:
        await broker.create_topic("__consumer_offsets", [1], **{"cleanup.policy": "compact"})
        request = PartitionProduce("__consumer_offsets", None, 0, None, keyed(2 * IN_LINE_RECORDS_MAX))
        outcomes = broker.replica_manager.append([request], 1, 1_000)
        assert isinstance(outcomes, list)
        assert not outcomes[0].error

    run(tmp_path, test)
