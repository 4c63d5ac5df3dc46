"""What the Kafka listener tells of logs: offsets, epochs, folders, producers; over a real replica manager."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from harness.kafka_rooms import Rooms, versions_of
from harness.record_batches import record_batch
from harness.simulated_cluster import SimulatedCluster
from harness.virtual_loop import VirtualLoop, run_virtual
from kio.schema.errors import ErrorCode
from klamm.broker.replica_manager import PartitionProduce
from klamm.proto.identifiers import BrokerId

Ask = Callable[..., Awaitable[Any]]

EARLIEST, LATEST, MAX, LOCAL, TIERED, PENDING = -2, -1, -3, -4, -5, -6
FIRST_MS = 1_000


def asking(test: Callable[[SimulatedCluster, Callable[[int], Rooms]], Awaitable[None]]) -> None:
    """Runs a test on three brokers, with topic t (1 leads) that holds five records of one producer."""

    async def main(loop: VirtualLoop) -> None:
        cluster = SimulatedCluster(loop, Random(7))
        await cluster.start()

        def rooms(number: int) -> Rooms:
            broker = cluster.brokers[BrokerId(number)]
            return Rooms(
                cluster,  # type: ignore[arg-type]
                broker_id=number,
                replica_manager=broker.manager,
                log_manager=broker.log_manager,
            )

        cluster.create_topic("t", [[1, 2, 3]], message_timestamp_after_max_ms=str(2**62))
        await cluster.until(lambda: leads(rooms(1)) and leads(rooms(2)) is False and leads(rooms(3)) is False)
        for sequence, timestamp in enumerate((0, 10, 30, 20, 30)):
            batch = record_batch(
                (b"v",), timestamps=FIRST_MS + timestamp, producer_id=77, producer_epoch=2, base_sequence=sequence
            )
            request = PartitionProduce("t", None, 0, None, bytes(batch))
            [outcome] = await rooms(1).rooms.replica_manager.produce([request], -1, 1_000)
            assert not outcome.error, outcome
        await test(cluster, rooms)
        await cluster.stop()
        assert not cluster.errors

    run_virtual(main)


def leads(rooms: Rooms) -> bool | None:
    partition = None if rooms.rooms.replica_manager is None else rooms.rooms.replica_manager.get("t", 0)
    return None if partition is None else partition.leader is not None


async def listed(rooms: Rooms, version: int, timestamp: int, **values: Any) -> tuple[str, int, int, int]:
    request = {"replica_id": values.pop("replica_id", -1), "isolation_level": values.pop("isolation_level", 0)}
    partition = {"partition_index": 0, "timestamp": timestamp, "current_leader_epoch": -1, **values}
    topics = [{"name": partition.pop("topic", "t"), "partitions": [partition]}]
    answer = await rooms.ask_async("list_offsets", version, topics=topics, **request)
    [found] = answer.topics[0].partitions
    return found.error_code.name, found.timestamp, found.offset, getattr(found, "leader_epoch", 0)


@pytest.mark.parametrize("version", versions_of("list_offsets"))
def test_offsets_by_time(version: int) -> None:
    async def test(cluster: SimulatedCluster, rooms: Callable[[int], Rooms]) -> None:
        unsupported = ("unsupported_version", -1, -1, -1 if version >= 4 else 0)
        none = ("none", -1, -1, -1 if version >= 4 else 0)
        for timestamp, expected in (
            (EARLIEST, ("none", -1, 0, 0)),
            (LATEST, ("none", -1, 5, 0)),
            (0, ("none", FIRST_MS, 0, 0)),
            (FIRST_MS + 11, ("none", FIRST_MS + 30, 2, 0)),
            (FIRST_MS + 31, none),
            (MAX, ("none", FIRST_MS + 30, 2, 0) if version >= 7 else unsupported),
            (LOCAL, ("none", -1, 0, 0) if version >= 8 else unsupported),
            (TIERED, none if version >= 9 else unsupported),
            (PENDING, none if version >= 11 else unsupported),
            (-99, unsupported),
        ):
            assert await listed(rooms(1), version, timestamp) == expected, timestamp
        if version >= 2:
            assert (await listed(rooms(1), version, LATEST, isolation_level=1))[2] == 5

    asking(test)


@pytest.mark.parametrize("version", versions_of("list_offsets"))
def test_offsets_that_cannot_be_told(version: int) -> None:
    async def test(cluster: SimulatedCluster, rooms: Callable[[int], Rooms]) -> None:
        assert (await listed(rooms(2), version, LATEST))[0] == "not_leader_or_follower"
        assert (await listed(rooms(2), version, LATEST, replica_id=-2))[:3] == ("none", -1, 5)  # any replica may say
        assert (await listed(rooms(1), version, LATEST, topic="u"))[0] == "unknown_topic_or_partition"
        assert (await listed(rooms(1), version, LATEST, partition_index=9))[0] == "unknown_topic_or_partition"
        if version >= 4:
            assert (await listed(rooms(1), version, LATEST, current_leader_epoch=7))[0] == "unknown_leader_epoch"
        twice = [{"name": "t", "partitions": [{"partition_index": 0, "timestamp": LATEST}] * 2}]
        answer = await rooms(1).ask_async("list_offsets", version, replica_id=-1, topics=twice)
        errors = [partition.error_code for topic in answer.topics for partition in topic.partitions]
        assert errors == [ErrorCode.invalid_request] * 2
        # A leader that does not know yet how far its predecessor told (KIP-207).
        leader = rooms(1).rooms.replica_manager.get("t", 0)
        assert leader is not None
        leader.high_watermark = 3  # type: ignore[assignment]
        assert leader.leader is not None
        object.__setattr__(leader.leader.state, "leader_epoch_start_offset", 4)
        unknown = "offset_not_available" if version >= 5 else "leader_not_available"
        assert (await listed(rooms(1), version, LATEST))[0] == unknown
        assert (await listed(rooms(1), version, FIRST_MS + 31))[0] == unknown
        assert (await listed(rooms(1), version, EARLIEST))[0] == "none"
        assert (await listed(rooms(1), version, FIRST_MS))[:3] == ("none", FIRST_MS, 0)

    asking(test)


@pytest.mark.parametrize("version", versions_of("offset_for_leader_epoch"))
def test_where_epochs_end(version: int) -> None:
    async def test(cluster: SimulatedCluster, rooms: Callable[[int], Rooms]) -> None:
        async def ended(number: int, epoch: int, current: int = -1, topic: str = "t") -> tuple[str, int, int]:
            partition = {"partition": 0, "leader_epoch": epoch, "current_leader_epoch": current}
            answer = await rooms(number).ask_async(
                "offset_for_leader_epoch", version, topics=[{"topic": topic, "partitions": [partition]}]
            )
            [found] = answer.topics[0].partitions
            return found.error_code.name, found.leader_epoch, found.end_offset

        assert await ended(1, 0) == ("none", 0, 5)
        assert await ended(1, 0, 0) == ("none", 0, 5)
        assert await ended(1, 3) == ("none", -1, -1)  # an epoch yet to come
        assert await ended(1, -1) == ("none", -1, -1)
        assert await ended(1, 0, 5) == ("unknown_leader_epoch", -1, -1)
        assert await ended(2, 0) == ("not_leader_or_follower", -1, -1)
        assert await ended(1, 0, topic="u") == ("unknown_topic_or_partition", -1, -1)

    asking(test)


@pytest.mark.parametrize("version", versions_of("delete_records"))
def test_records_are_deleted(version: int) -> None:
    async def test(cluster: SimulatedCluster, rooms: Callable[[int], Rooms]) -> None:
        partitions = [{"partition_index": 0, "offset": 3}, {"partition_index": 8, "offset": 3}]
        topics = [{"name": "t", "partitions": partitions}, {"name": "u", "partitions": partitions[:1]}]
        answer = await rooms(1).ask_async("delete_records", version, topics=topics, timeout=5_000)
        assert [
            (topic.name, each.partition_index, each.error_code.name, each.low_watermark)
            for topic in answer.topics
            for each in topic.partitions
        ] == [
            ("t", 0, "none", 3),
            ("t", 8, "unknown_topic_or_partition", -1),
            ("u", 0, "unknown_topic_or_partition", -1),
        ]
        assert (await listed(rooms(1), 1, EARLIEST))[2] == 3

    asking(test)


@pytest.mark.parametrize("version", versions_of("describe_log_dirs"))
def test_the_folder_and_its_logs(version: int) -> None:
    async def test(cluster: SimulatedCluster, rooms: Callable[[int], Rooms]) -> None:
        everything = await rooms(2).ask_async("describe_log_dirs", version, topics=None)
        [folder] = everything.results
        assert (folder.error_code, folder.log_dir) == (ErrorCode.none, "/broker-2")
        [log] = folder.topics[0].partitions
        assert (folder.topics[0].name, log.partition_index, log.offset_lag, log.is_future_key) == ("t", 0, 0, False)
        manager = rooms(2).rooms.replica_manager.get("t", 0)
        assert manager is not None
        assert log.partition_size == manager.log.size_bytes > 0
        if version >= 4:  # the folder of the simulation is on no disk
            assert (folder.total_bytes, folder.usable_bytes) == (-1, -1)
        for topics, count in (([{"topic": "t", "partitions": (0, 5)}], 1), ([{"topic": "t", "partitions": (5,)}], 0)):
            some = await rooms(2).ask_async("describe_log_dirs", version, topics=topics)
            assert len(some.results[0].topics) == count
        assert (await rooms(2).ask_async("describe_log_dirs", version, topics=[])).results[0].topics == ()

    asking(test)


def test_producers_of_a_partition() -> None:
    async def test(cluster: SimulatedCluster, rooms: Callable[[int], Rooms]) -> None:
        topics = [
            {"name": "t", "partition_indexes": (0, 4)},
            {"name": "u", "partition_indexes": (0,)},
            {"name": "u v", "partition_indexes": (0,)},
        ]
        for number in (1, 2):
            answer = await rooms(number).ask_async("describe_producers", 0, topics=topics)
            partitions = [partition for topic in answer.topics for partition in topic.partitions]
            assert [partition.error_code.name for partition in partitions] == [
                "none",
                "unknown_topic_or_partition",
                "unknown_topic_or_partition",
                "invalid_topic_exception",
            ]
            [producer] = partitions[0].active_producers
            assert (producer.producer_id, producer.producer_epoch, producer.last_sequence) == (77, 2, 4)
            assert (producer.last_timestamp, producer.current_txn_start_offset) == (FIRST_MS + 30, -1)

    asking(test)
