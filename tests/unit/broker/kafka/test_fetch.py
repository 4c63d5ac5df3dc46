"""Fetch through the listener, in every version, over one broker's real replicas."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from harness.kafka_client import KafkaClient, part
from harness.kafka_listener import OneBroker, one_broker, run_as_a_broker_does, soon
from harness.kafka_rooms import versions_of
from harness.keyed_logs import keyed_batch
from harness.record_batches import record_batch
from kio.schema.errors import ErrorCode
from klamm.broker.partition import Partition
from klamm.broker.partition_request import PartitionProduce
from klamm.proto.identifiers import BrokerId, Offset
from klamm.proto.record_batch import batches
from klamm.proto.replication_pb2 import ReplicaPartitionData

VERSIONS = versions_of("fetch")
NEWEST = VERSIONS[-1]
LARGE = 1 << 20


def fetch_topics(broker: OneBroker, version: int, topics: dict[str, dict[int, dict[str, int]]]) -> tuple[Any, ...]:
    out = []
    for name, partitions in topics.items():
        wanted = []
        for number, fields in partitions.items():
            values: dict[str, Any] = {"fetch_offset": 0, "partition_max_bytes": LARGE, **fields}
            if version < 9:
                values.pop("current_leader_epoch", None)
            if version < 12:
                values.pop("last_fetched_epoch", None)
            wanted.append(part("fetch", version, "FetchPartition", partition=number, **values))
        known = broker.cluster.image.topics.get(name)
        naming = {"topic": name} if version < 13 else {"topic_id": known.topic_id if known else UUID(int=99)}
        out.append(part("fetch", version, "FetchTopic", partitions=tuple(wanted), **naming))
    return tuple(out)


def fetch_fields(
    broker: OneBroker,
    topics: dict[str, dict[int, dict[str, int]]],
    version: int = NEWEST,
    *,
    wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = LARGE,
    session: tuple[int, int] = (0, -1),
    rack: str = "",
    replica_id: int = -1,
    isolation: int = 0,
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "max_wait": timedelta(milliseconds=wait_ms),
        "min_bytes": min_bytes,
        "max_bytes": max_bytes,
        "isolation_level": isolation,
        "topics": fetch_topics(broker, version, topics),
    }
    if version >= 7:
        fields |= {"session_id": session[0], "session_epoch": session[1], "forgotten_topics_data": ()}
    if version >= 11:
        fields["rack_id"] = rack
    if version < 15:
        fields["replica_id"] = replica_id
    elif replica_id >= 0:
        fields["replica_state"] = part("fetch", version, "ReplicaState", replica_id=replica_id)
    return fields


async def fetch(
    broker: OneBroker,
    client: KafkaClient,
    topics: dict[str, dict[int, dict[str, int]]],
    version: int = NEWEST,
    **options: Any,
) -> Any:
    return await client.call("fetch", version, **fetch_fields(broker, topics, version, **options))


def partitions_of(response: Any) -> list[Any]:
    return [partition for topic in response.responses for partition in topic.partitions]


async def fill(broker: OneBroker, name: str, number: int, *values: bytes) -> bytes:
    """Appends a batch; returns it as it lies in the log."""
    records = bytes(record_batch(values, timestamps=1_700_000_000_000))
    [outcome] = await broker.replica_manager.produce([PartitionProduce(name, None, number, None, records)], 1, 1000)
    assert not outcome.error and outcome.base_offset is not None
    return bytes(record_batch(values, timestamps=1_700_000_000_000, base_offset=outcome.base_offset))


def replica(broker: OneBroker, name: str = "t", number: int = 0) -> Partition:
    found = broker.replica_manager.get(name, number)
    assert found is not None
    return found


def run(tmp_path: Path, test: Any, **config: Any) -> None:
    async def main() -> None:
        async with one_broker(tmp_path, **config) as (broker, served), served.client() as client:
            await test(broker, client)

    run_as_a_broker_does(main())


@pytest.mark.parametrize("isolation", [0, 1])
def test_every_version_reads_batches_as_they_lie(tmp_path: Path, isolation: int) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("a", [1], [1])
        await broker.create_topic("b", [1])
        first, second = await fill(broker, "a", 0, b"1", b"2"), await fill(broker, "a", 0, b"3")
        other = await fill(broker, "b", 0, b"x" * 100)
        topics = {"a": {0: {"fetch_offset": 1}, 1: {}}, "b": {0: {}}}
        for version in VERSIONS:
            response = await fetch(broker, client, topics, version, isolation=isolation)
            outcomes = partitions_of(response)
            assert [(outcome.partition_index, outcome.error_code) for outcome in outcomes] == [
                (0, ErrorCode.none),
                (1, ErrorCode.none),
                (0, ErrorCode.none),
            ]
            assert [outcome.records for outcome in outcomes] == [first + second, b"", other]
            assert [outcome.high_watermark for outcome in outcomes] == [3, 0, 1]
            assert [outcome.last_stable_offset for outcome in outcomes] == [3, 0, 1]
            assert outcomes[0].aborted_transactions == (() if isolation else None)
            if version >= 11:
                assert outcomes[0].preferred_read_replica == -1
            if version < 13:
                assert [topic.topic for topic in response.responses] == ["a", "b"]
            else:
                image = broker.cluster.image
                assert [topic.topic_id for topic in response.responses] == [
                    image.topics["a"].topic_id,
                    image.topics["b"].topic_id,
                ]

    run(tmp_path, test)


def test_each_partition_has_its_own_error(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1])
        await broker.create_topic("moved", [2, 1])
        await fill(broker, "t", 0, b"1")
        for version in VERSIONS:
            response = await fetch(
                broker,
                client,
                {"t": {0: {}, 9: {}, -1: {}}, "moved": {0: {}}, "nobody": {0: {}}},
                version,
                wait_ms=60_000,
                min_bytes=LARGE,
            )
            good, *unknown, moved, nobody = partitions_of(response)
            assert good.error_code is ErrorCode.none and good.records
            # A follower answers consumers that know of followers (KIP-392).
            assert moved.error_code is (ErrorCode.none if version >= 11 else ErrorCode.not_leader_or_follower)
            assert {outcome.error_code for outcome in unknown} == {ErrorCode.unknown_topic_or_partition}
            assert nobody.error_code is (
                ErrorCode.unknown_topic_id if version >= 13 else ErrorCode.unknown_topic_or_partition
            )
            assert nobody.high_watermark == -1 and nobody.records == b""
            for offset in (2, -1):
                [outcome] = partitions_of(await fetch(broker, client, {"t": {0: {"fetch_offset": offset}}}, version))
                assert outcome.error_code is ErrorCode.offset_out_of_range

    run(tmp_path, test, racks=("", ""))


def test_epochs_are_checked_and_new_leaders_named(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [2, 1])
        broker.cluster.fence(2)
        await broker.replay()
        await fill(broker, "t", 0, b"1")
        assert replica(broker).leader_epoch == 1
        for version in range(9, NEWEST + 1):
            for epoch, error in ((0, "fenced_leader_epoch"), (2, "unknown_leader_epoch"), (1, "none")):
                response = await fetch(broker, client, {"t": {0: {"current_leader_epoch": epoch}}}, version)
                [outcome] = partitions_of(response)
                assert outcome.error_code is ErrorCode[error]
                if version >= 16:
                    fenced = error == "fenced_leader_epoch"
                    assert outcome.current_leader.leader_id == (1 if fenced else -1)
                    assert [node.node_id for node in response.node_endpoints] == ([1] if fenced else [])
        for version in range(12, NEWEST + 1):
            wanted = {"fetch_offset": 1, "last_fetched_epoch": 0}
            [outcome] = partitions_of(await fetch(broker, client, {"t": {0: wanted}}, version, wait_ms=60_000))
            assert (outcome.diverging_epoch.epoch, outcome.diverging_epoch.end_offset) == (0, 0)
            wanted = {"fetch_offset": 1, "last_fetched_epoch": 1}
            [outcome] = partitions_of(await fetch(broker, client, {"t": {0: wanted}}, version))
            assert outcome.diverging_epoch.epoch == -1 and not outcome.error_code.value

    run(tmp_path, test, racks=("", ""))


def test_limits_of_size_but_never_less_than_a_batch(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1], [1], [1])
        size = 0
        for number in range(3):
            for _ in range(4):
                size = len(await fill(broker, "t", number, b"x" * 1000))

        async def sizes(max_bytes: int, *partition_max: int) -> list[int]:
            topics = {"t": {number: {"partition_max_bytes": limit} for number, limit in enumerate(partition_max)}}
            outcomes = partitions_of(await fetch(broker, client, topics, max_bytes=max_bytes))
            return [len(outcome.records) // size for outcome in outcomes]

        assert await sizes(LARGE, LARGE, LARGE, LARGE) == [4, 4, 4]
        assert await sizes(LARGE, 2 * size, LARGE, 0) == [2, 4, 0]
        assert await sizes(5 * size, LARGE, LARGE, LARGE) == [4, 1, 0]
        assert await sizes(0, LARGE, LARGE, LARGE) == [1, 0, 0]
        assert await sizes(-1, -5, -5, -5) == [1, 0, 0]
        broker.rooms.unsent_answers.bytes = 1 << 40  # clients that do not read hold all the memory there may be
        assert await sizes(LARGE, LARGE, LARGE, LARGE) == [1, 0, 0]

    run(tmp_path, test)
    run_limit_of_the_broker(tmp_path)


def run_limit_of_the_broker(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("u", [1])
        for _ in range(4):
            await fill(broker, "u", 0, b"x" * 1000)
        [outcome] = partitions_of(await fetch(broker, client, {"u": {0: {}}}, max_bytes=2**31 - 1, min_bytes=2**31 - 1))
        assert 2000 < len(outcome.records) < 3300

    (tmp_path / "second").mkdir()
    run(tmp_path / "second", test, fetch_bytes_max=3300)


def test_a_fetch_waits_for_enough_or_for_its_time(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1])
        loop = asyncio.get_running_loop()
        begun = loop.time()
        [outcome] = partitions_of(await fetch(broker, client, {"t": {0: {}}}, wait_ms=50))
        assert outcome.records == b"" and round(loop.time() - begun, 3) >= 0.05  # the loop's clock has milliseconds
        client.send("fetch", NEWEST, **fetch_fields(broker, {"t": {0: {}}}, wait_ms=60_000, min_bytes=1500))
        await soon(lambda: replica(broker).fetches.fetches)
        first = await fill(broker, "t", 0, b"x" * 1000)
        assert replica(broker).fetches.fetches  # not enough yet
        second = await fill(broker, "t", 0, b"x" * 1000)
        _, response = await client.receive()
        assert partitions_of(response)[0].records == first + second
        assert not replica(broker).fetches.fetches

    run(tmp_path, test)


def test_who_wants_more_than_it_may_have_does_not_wait_for_it(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1])
        records = await fill(broker, "t", 0, b"x" * 1000)
        async with asyncio.timeout(10):
            response = await fetch(broker, client, {"t": {0: {}}}, wait_ms=60_000, min_bytes=5000, max_bytes=1000)
        assert partitions_of(response)[0].records == records

    run(tmp_path, test)


def test_a_fetch_that_waits_ends_with_the_leadership_the_topic_or_the_client(tmp_path: Path) -> None:
    async def main() -> None:
        async with one_broker(tmp_path, racks=("", "")) as (broker, served):
            await broker.create_topic("t", [1, 2])
            async with served.client() as client:
                client.send("fetch", 10, **fetch_fields(broker, {"t": {0: {}}}, 10, wait_ms=60_000))
                await soon(lambda: replica(broker).fetches.fetches)
                queue = replica(broker).fetches
            await soon(lambda: not queue.fetches)
            async with served.client() as client:
                client.send("fetch", 10, **fetch_fields(broker, {"t": {0: {}}}, 10, wait_ms=60_000))
                await soon(lambda: replica(broker).fetches.fetches)
                broker.cluster.delete_topic("t")
                await broker.replay()
                _, response = await client.receive()
                [outcome] = partitions_of(response)
                assert outcome.error_code is ErrorCode.unknown_topic_or_partition

    run_as_a_broker_does(main())


@pytest.mark.parametrize("version", range(7, NEWEST + 1))
def test_sessions_over_the_wire(tmp_path: Path, version: int) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1], [1])
        response = await fetch(broker, client, {"t": {0: {}, 1: {}}}, version, session=(0, 0))
        session_id = response.session_id
        assert session_id > 0 and len(partitions_of(response)) == 2
        response = await fetch(broker, client, {}, version, session=(session_id, 1), wait_ms=10)
        assert (response.error_code, response.session_id, response.responses) == (ErrorCode.none, session_id, ())
        records = await fill(broker, "t", 1, b"1")
        response = await fetch(broker, client, {}, version, session=(session_id, 2), wait_ms=60_000)
        [outcome] = partitions_of(response)
        assert (outcome.partition_index, outcome.records) == (1, records)
        response = await fetch(broker, client, {}, version, session=(session_id, 9))
        assert response.error_code is ErrorCode.invalid_fetch_session_epoch and response.session_id == 0
        response = await fetch(broker, client, {}, version, session=(session_id ^ 1, 1))
        assert response.error_code is ErrorCode.fetch_session_id_not_found
        other = 12 if version >= 13 else 13
        response = await fetch(broker, client, {}, other, session=(session_id, 3))
        assert response.error_code is ErrorCode.fetch_session_topic_id_error

    run(tmp_path, test)


def test_replicas_of_others_do_not_copy_from_here(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1])
        await fill(broker, "t", 0, b"1")
        for version in VERSIONS:
            [outcome] = partitions_of(await fetch(broker, client, {"t": {0: {}}}, version, replica_id=2))
            assert outcome.error_code is ErrorCode.topic_authorization_failed and not outcome.records

    run(tmp_path, test)


# --- followers (KIP-392) ---------------------------------------------------------------------------------------


async def copied(broker: OneBroker, records: bytes, high_watermark: int) -> None:
    """What the leader of "t", broker 2, sends to this follower."""
    found = replica(broker)
    found.apply_leader_answer(
        ReplicaPartitionData(
            leader_epoch=found.leader_epoch or 0,
            fetch_offset=found.log.log_end_offset,
            high_watermark=high_watermark,
            records=records,
        )
    )


def test_a_follower_answers_up_to_what_it_knows_to_be_committed(tmp_path: Path) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [2, 1])
        first, second = (bytes(record_batch((b"x",), base_offset=offset)) for offset in (0, 1))
        await copied(broker, first + second, 1)

        async def ask(offset: int, **options: Any) -> Any:
            wanted = {"t": {0: {"fetch_offset": offset, "current_leader_epoch": 0}}}
            return partitions_of(await fetch(broker, client, wanted, 11, **options))[0]

        outcome = await ask(0)
        assert (outcome.error_code, outcome.records, outcome.high_watermark) == (ErrorCode.none, first, 1)
        assert (await ask(1)).records == b""
        assert (await ask(2, wait_ms=60_000)).error_code is ErrorCode.offset_not_available
        assert (await ask(3)).error_code is ErrorCode.offset_out_of_range
        client.send("fetch", 11, **fetch_fields(broker, {"t": {0: {"fetch_offset": 1}}}, 11, wait_ms=60_000))
        await soon(lambda: replica(broker).fetches.fetches)
        await copied(broker, b"", 2)
        assert partitions_of((await client.receive())[1])[0].records == second
        # It waits at the follower while that becomes the leader: it looks again, and gets the rest from it.
        client.send("fetch", 11, **fetch_fields(broker, {"t": {0: {"fetch_offset": 2}}}, 11, wait_ms=100))
        await soon(lambda: replica(broker).fetches.fetches)
        broker.cluster.fence(2)
        await broker.replay()
        assert not partitions_of((await client.receive())[1])[0].error_code.value

    run(tmp_path, test, racks=("", ""))


@pytest.mark.parametrize("aware", [True, False])
def test_a_consumer_is_sent_to_a_replica_in_its_rack(tmp_path: Path, aware: bool) -> None:
    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1, 2, 3, 4])
        leader = replica(broker).leader
        assert leader is not None
        epochs = {number: broker.cluster.epoch(number) for number in (2, 3, 4)}

        async def preferred(rack: str, offset: int = 0, version: int = NEWEST, wait_ms: int = 60_000) -> int:
            wanted = {"t": {0: {"fetch_offset": offset}}}
            response = await fetch(broker, client, wanted, version, rack=rack, wait_ms=wait_ms)
            [outcome] = partitions_of(response)
            if outcome.preferred_read_replica >= 0:
                assert not outcome.records
            return int(outcome.preferred_read_replica)

        records = await fill(broker, "t", 0, b"1")
        assert records
        if not aware:
            assert await preferred("b", wait_ms=0) == -1
            return
        for number, end in ((2, 1), (3, 0), (4, 1)):
            leader.follower_fetched(number, epochs[number], end, 0)  # type: ignore[arg-type]
        assert await preferred("b") == 2
        assert await preferred("c") == 4  # further ahead than broker 3
        leader.follower_log_start(BrokerId(2), Offset(1))
        assert await preferred("b", wait_ms=0) == -1  # its log begins later
        assert await preferred("b", 1) == 2
        assert await preferred("c", version=11) == 4
        assert [await preferred(rack, wait_ms=0) for rack in ("a", "", "nowhere")] == [-1] * 3
        broker.cluster.fence(2)
        await broker.replay()
        assert await preferred("b", wait_ms=0) == -1

    run(tmp_path, test, racks=("a", "b", "c", "c"), rack_aware_fetch=aware)


def test_an_offset_in_a_segment_that_compaction_left_empty_brings_the_next_records(tmp_path: Path) -> None:
    """kafka-go asks for the same offset again as long as an answer holds batches, but no record."""

    async def test(broker: OneBroker, client: KafkaClient) -> None:
        await broker.create_topic("t", [1], cleanup_policy="compact", segment_bytes="100")
        log = replica(broker).log
        for key in (b"a", b"b", b"b", b"b", b"last"):
            records = bytes(keyed_batch([(key, b"value")], timestamp=1_700_000_000_000))
            [outcome] = await broker.replica_manager.produce([PartitionProduce("t", None, 0, None, records)], 1, 1000)
            assert not outcome.error
        await log.flush()
        broker.log_manager._high_watermark_of = broker.replica_manager.high_watermark_of
        assert await broker.log_manager.cleaner.clean_filthiest()
        assert [header.record_count for segment in log.segments for _, header in segment.headers()] == [1, 0, 0, 1, 1]
        [found] = partitions_of(await fetch(broker, client, {"t": {0: {"fetch_offset": 1}}}))
        assert [(header.base_offset, header.record_count) for _, header in batches(found.records)] == [(3, 1)]

    run(tmp_path, test)
