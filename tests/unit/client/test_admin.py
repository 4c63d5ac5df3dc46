from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from harness.fake_broker import FakeCluster
from klamm.client import Admin, AsyncAdmin, NewTopic
from klamm.proto.errors import (
    IllegalStateError,
    NodeNotReadyError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)


def run(body: Callable[[FakeCluster, AsyncAdmin], Awaitable[None]]) -> None:
    async def main() -> None:
        async with FakeCluster() as cluster, AsyncAdmin(bootstrap_servers=cluster.bootstrap_servers) as admin:
            async with asyncio.timeout(20):
                await body(cluster, admin)

    asyncio.run(main())


def test_topics_from_creation_to_deletion() -> None:
    async def body(cluster: FakeCluster, admin: AsyncAdmin) -> None:
        created = await admin.create_topics([NewTopic("b", 2), NewTopic("a", 1)])
        assert [(topic.name, topic.num_partitions) for topic in created] == [("b", 2), ("a", 1)]
        assert await admin.list_topics() == ["a", "b"]
        with pytest.raises(TopicAlreadyExistsError, match=r"^a: "):
            await admin.create_topics([NewTopic("a")])
        (described,) = await admin.describe_topics(["b"])
        assert [(entry.partition, entry.leader, entry.isr) for entry in described.partitions] == [
            (0, 0, (0, 1, 2)),
            (1, 1, (1, 2, 0)),
        ]
        await admin.delete_topics(["a", "b"])
        assert await admin.list_topics() == []
        with pytest.raises(UnknownTopicOrPartitionError, match="gone"):
            await admin.delete_topics(["gone"])
        with pytest.raises(UnknownTopicOrPartitionError, match="topic 'gone'"):
            await admin.describe_topics(["gone"])

    run(body)


def test_defaults_and_assignments_are_told_as_kafka_tells_them() -> None:
    async def body(cluster: FakeCluster, admin: AsyncAdmin) -> None:
        await admin.create_topics(
            [NewTopic("a"), NewTopic("b", replica_assignments={1: [2], 0: [1]}, topic_configs={"retention.ms": "5"})],
            validate_only=True,
        )
        request = cluster.requests[-1]
        first, second = request.command.topics
        assert request.command.validate_only and request.timeout_ms == 30_000
        assert (first.num_partitions, first.replication_factor) == (-1, -1)
        assert [(entry.partition, list(entry.broker_ids)) for entry in second.assignments] == [(0, [1]), (1, [2])]
        assert dict(second.configs) == {"retention.ms": "5"}

    run(body)


def test_the_cluster() -> None:
    async def body(cluster: FakeCluster, admin: AsyncAdmin) -> None:
        described = await admin.describe_cluster()
        assert (described.cluster_id, [broker.broker_id for broker in described.brokers]) == ("fake-cluster", [0, 1, 2])
        assert described.quorum is not None and described.quorum.ready

    run(body)


def test_a_hung_or_dead_broker_is_passed_over() -> None:
    async def body(cluster: FakeCluster, admin: AsyncAdmin) -> None:
        await cluster.brokers[0].kill()
        cluster.brokers[1].pause()
        for name in ("a", "b", "c"):
            await admin.create_topics([NewTopic(name)])
        assert await admin.list_topics() == ["a", "b", "c"]
        cluster.brokers[1].resume()

    run(body)


def test_what_a_broker_does_not_know_is_named() -> None:
    async def body(cluster: FakeCluster, admin: AsyncAdmin) -> None:
        with pytest.raises(UnsupportedVersionError, match="does not know this call"):
            await admin.elect_leaders()

    run(body)


def test_nobody_answers() -> None:
    admin = Admin(bootstrap_servers="127.0.0.1:1", request_timeout_ms=100)
    with pytest.raises(NodeNotReadyError, match=r"no broker answers at 127\.0\.0\.1:1"):
        admin.check_connection()
    admin.close()
    with pytest.raises(IllegalStateError, match="closed"):
        admin.list_topics()
