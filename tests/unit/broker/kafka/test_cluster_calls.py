"""What the Kafka listener tells of the cluster and its controllers, and what it passes on to them."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from harness.kafka_rooms import Rooms, versions_of
from harness.metadata_cluster import cluster_of
from kio.schema.errors import ErrorCode
from klamm.broker.kafka import authorized_operations
from klamm.proto.controller_pb2 import DescribeQuorumResponse, QuorumNode
from klamm.proto.identifiers import BrokerId

MINUTE = 60_000


# --- DescribeCluster ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions_of("describe_cluster"))
def test_the_cluster(version: int) -> None:
    rooms = Rooms(cluster_of(1, 2, 3), broker_id=2)
    rooms.cluster.fence(3)
    answer = rooms.ask("describe_cluster", version)
    assert (answer.error_code, answer.cluster_id) == (ErrorCode.none, rooms.image.cluster_id)
    assert [(broker.broker_id, broker.host, broker.port) for broker in answer.brokers] == [
        (1, "localhost", 9092),
        (2, "localhost", 9092),
    ]
    assert answer.controller_id == 2  # any live broker: the one that was asked
    assert answer.cluster_authorized_operations == authorized_operations.NOT_ASKED
    asked = rooms.ask("describe_cluster", version, include_cluster_authorized_operations=True)
    assert asked.cluster_authorized_operations == authorized_operations.CLUSTER
    if version >= 1:
        for endpoint_type, error in ((2, "mismatched_endpoint_type"), (7, "unsupported_endpoint_type")):
            refused = rooms.ask("describe_cluster", version, endpoint_type=endpoint_type)
            assert (refused.error_code.name, refused.brokers) == (error, ())
    if version >= 2:
        fenced = rooms.ask("describe_cluster", version, include_fenced_brokers=True)
        assert [(broker.broker_id, broker.is_fenced) for broker in fenced.brokers] == [
            (1, False),
            (2, False),
            (3, True),
        ]
    rooms.cluster.fence(2)
    assert rooms.ask("describe_cluster", version).controller_id == 1


# --- DescribeTopicPartitions -------------------------------------------------------------------------------------


def pages(rooms: Rooms, limit: int, **request: Any) -> list[list[tuple[str, int]]]:
    """(topic, partition) page by page."""
    found, cursor = [], None
    while True:
        answer = rooms.ask("describe_topic_partitions", 0, response_partition_limit=limit, cursor=cursor, **request)
        found.append([(topic.name, each.partition_index) for topic in answer.topics for each in topic.partitions])
        if answer.next_cursor is None:
            return found
        cursor = {
            "topic_name": answer.next_cursor.topic_name,
            "partition_index": answer.next_cursor.partition_index,
        }


def test_topics_page_by_page() -> None:
    rooms = Rooms(cluster_of(1))
    for name, count in (("b", 3), ("a", 2), ("c", 1)):
        rooms.cluster.create_topic(name, count, 1)
    everything = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]
    for limit in range(1, 8):
        found = pages(rooms, limit)
        assert [each for page in found for each in page] == everything
        assert all(len(page) <= limit for page in found)
    assert pages(rooms, 2000, topics=[{"name": "c"}, {"name": "a"}, {"name": "c"}]) == [[("a", 0), ("a", 1), ("c", 0)]]
    assert [len(page) for page in pages(rooms, -1)] == [1] * 6  # at least one


def test_one_page_in_full() -> None:
    rooms = Rooms(cluster_of(1, 2, 3))
    rooms.cluster.create_topic("a", assignments=[[1, 2, 3]])
    rooms.cluster.fence(2, 3)
    answer = rooms.ask("describe_topic_partitions", 0, topics=[{"name": "a"}, {"name": "b"}, {"name": "c d"}])
    a, b, c = answer.topics
    [partition] = a.partitions
    assert (a.topic_id, a.error_code) == (rooms.image.topics["a"].topic_id, ErrorCode.none)
    assert a.topic_authorized_operations == authorized_operations.TOPIC
    assert (partition.leader_id, partition.isr_nodes, partition.offline_replicas) == (1, (1,), (2, 3))
    assert (partition.eligible_leader_replicas, partition.last_known_elr) == ((2, 3), ())
    assert (b.error_code, c.error_code) == (
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.invalid_topic_exception,
    )
    for cursor in ({"topic_name": "z", "partition_index": 0}, {"topic_name": "a", "partition_index": -1}):
        refused = rooms.ask("describe_topic_partitions", 0, topics=[{"name": "a"}], cursor=cursor)
        assert [topic.error_code for topic in refused.topics] == [ErrorCode.invalid_request]
    past = rooms.ask(
        "describe_topic_partitions",
        0,
        response_partition_limit=10,
        topics=[{"name": "a"}],
        cursor={"topic_name": "a", "partition_index": 2**31 - 1},
    )
    assert (past.topics[0].partitions, past.next_cursor) == ((), None)


# --- ElectLeaders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions_of("elect_leaders"))
def test_leaders_are_elected(version: int) -> None:
    rooms = Rooms(cluster_of(1, 2))
    rooms.cluster.create_topic("a", assignments=[[1, 2], [2, 1]])
    rooms.cluster.fence(1)
    rooms.cluster.unfence(1)
    rooms.cluster.alter_isr("a", 0, [2, 1])
    wanted = [{"topic": "a", "partitions": (0, 1, 7)}, {"topic": "b", "partitions": (0,)}]
    answer = rooms.ask("elect_leaders", version, topic_partitions=wanted, timeout=MINUTE)
    assert {
        (result.topic, each.partition_id): each.error_code.name
        for result in answer.replica_election_results
        for each in result.partition_result
    } == {
        ("a", 0): "none",
        ("a", 1): "election_not_needed",
        ("a", 7): "unknown_topic_or_partition",
        ("b", 0): "unknown_topic_or_partition",
    }
    assert rooms.cluster.partition("a", 0).leader == 1
    assert rooms.ask("elect_leaders", version, topic_partitions=None, timeout=MINUTE).replica_election_results == ()
    assert rooms.ask("elect_leaders", version, topic_partitions=[], timeout=MINUTE).replica_election_results == ()
    late = rooms.ask("elect_leaders", version, topic_partitions=wanted, timeout=0)
    assert late.replica_election_results[0].partition_result[0].error_code is ErrorCode.request_timed_out
    if version >= 1:
        assert (answer.error_code, late.error_code) == (ErrorCode.none, ErrorCode.request_timed_out)
        unclean = rooms.ask("elect_leaders", version, topic_partitions=wanted, timeout=MINUTE, election_type=1)
        assert unclean.replica_election_results[0].partition_result[0].error_code is ErrorCode.election_not_needed
        unknown = rooms.ask("elect_leaders", version, topic_partitions=wanted, timeout=MINUTE, election_type=9)
        assert unknown.error_code is ErrorCode.invalid_request


# --- reassignments -----------------------------------------------------------------------------------------------


def moved(*partitions: tuple[str, int, list[int] | None]) -> list[dict[str, Any]]:
    return [
        {"name": name, "partitions": [{"partition_index": partition, "replicas": replicas}]}
        for name, partition, replicas in partitions
    ]


def listed(rooms: Rooms, topics: Any) -> dict[tuple[str, int], tuple[Any, ...]]:
    answer = rooms.ask("list_partition_reassignments", 0, topics=topics, timeout=MINUTE)
    assert (answer.error_code, answer.error_message) == (ErrorCode.none, None)
    return {
        (topic.name, each.partition_index): (each.replicas, each.adding_replicas, each.removing_replicas)
        for topic in answer.topics
        for each in topic.partitions
    }


@pytest.mark.parametrize("version", versions_of("alter_partition_reassignments"))
def test_partitions_move(version: int) -> None:
    rooms = Rooms(cluster_of(1, 2, 3))
    rooms.cluster.create_topic("a", assignments=[[1], [1]])
    rooms.cluster.create_topic("b", assignments=[[1]])
    wanted = moved(("a", 0, [2]), ("a", 1, None), ("b", 0, [9]), ("c", 0, [1]))
    answer = rooms.ask("alter_partition_reassignments", version, topics=wanted, timeout=MINUTE)
    assert answer.error_code is ErrorCode.none
    assert [
        (topic.name, each.partition_index, each.error_code.name)
        for topic in answer.responses
        for each in topic.partitions
    ] == [
        ("a", 0, "none"),
        ("a", 1, "no_reassignment_in_progress"),
        ("b", 0, "invalid_replica_assignment"),
        ("c", 0, "unknown_topic_or_partition"),
    ]
    moving = {("a", 0): ((2, 1), (2,), (1,))}
    assert listed(rooms, None) == moving
    assert listed(rooms, [{"name": "a", "partition_indexes": (0, 1, 5)}, {"name": "zz"}]) == moving
    assert listed(rooms, [{"name": "a", "partition_indexes": (1,)}]) == listed(rooms, []) == {}
    late = rooms.ask("alter_partition_reassignments", version, topics=wanted, timeout=0)
    assert (late.error_code, late.responses) == (ErrorCode.request_timed_out, ())
    cancel = moved(("a", 0, None))
    answer = rooms.ask("alter_partition_reassignments", version, topics=cancel, timeout=MINUTE)
    assert answer.responses[0].partitions[0].error_code is ErrorCode.none
    assert listed(rooms, None) == {}
    assert rooms.ask("alter_partition_reassignments", version, topics=[], timeout=MINUTE).responses == ()


def test_the_replication_factor_may_be_held_kip_860() -> None:
    rooms = Rooms(cluster_of(1, 2, 3))
    rooms.cluster.create_topic("a", assignments=[[1]])

    def error(replicas: list[int], **request: Any) -> str:
        wanted = moved(("a", 0, replicas))
        answer = rooms.ask("alter_partition_reassignments", 1, topics=wanted, timeout=MINUTE, **request)
        name: str = answer.responses[0].partitions[0].error_code.name
        return name

    assert error([1, 2], allow_replication_factor_change=False) == "invalid_replication_factor"
    assert error([2], allow_replication_factor_change=False) == "none"
    # What counts is what the reassignment under way will leave.
    assert error([3, 1], allow_replication_factor_change=False) == "invalid_replication_factor"
    assert error([3], allow_replication_factor_change=False) == "none"
    assert error([3, 1]) == "none"


# --- DescribeQuorum ----------------------------------------------------------------------------------------------

METADATA = [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]


@pytest.mark.parametrize("version", versions_of("describe_quorum"))
def test_the_quorum(version: int) -> None:
    rooms = Rooms(cluster_of(1))
    rooms.controllers.quorum = DescribeQuorumResponse(
        controller_id=1,
        active_controller_id=2,
        controller_epoch=7,
        commit_index=90,
        nodes=[
            QuorumNode(controller_id=1, host="one", port=9292, log_end_index=-1),
            QuorumNode(controller_id=2, host="two", port=9293, log_end_index=91, is_leader=True),
        ],
    )
    answer = rooms.ask("describe_quorum", version, topics=METADATA)
    assert answer.error_code is ErrorCode.none
    [partition] = answer.topics[0].partitions
    assert (partition.error_code, partition.leader_id, partition.leader_epoch) == (ErrorCode.none, 2, 7)
    assert partition.high_watermark == 90
    assert [(voter.replica_id, voter.log_end_offset) for voter in partition.current_voters] == [(1, -1), (2, 91)]
    if version >= 2:
        assert [(node.node_id, node.listeners[0].host, node.listeners[0].port) for node in answer.nodes] == [
            (1, "one", 9292),
            (2, "two", 9293),
        ]
    rooms.controllers.quorum.active_controller_id = -1
    answer = rooms.ask("describe_quorum", version, topics=METADATA)
    assert answer.topics[0].partitions[0].error_code is ErrorCode.not_leader_or_follower
    rooms.controllers.quorum = None
    assert rooms.ask("describe_quorum", version, topics=METADATA).error_code is ErrorCode.request_timed_out
    for topics in ([], [{"topic_name": "a", "partitions": [{"partition_index": 0}]}], METADATA * 2):
        answer = rooms.ask("describe_quorum", version, topics=topics)
        assert {each.error_code for topic in answer.topics for each in topic.partitions} <= {
            ErrorCode.unknown_topic_or_partition
        }


# --- telemetry ---------------------------------------------------------------------------------------------------


def test_no_metrics_are_wanted_kip_714() -> None:
    rooms = Rooms(cluster_of(1))
    for nobody in (None, UUID(int=1)):
        new = rooms.ask("get_telemetry_subscriptions", 0, client_instance_id=nobody)
        assert new.client_instance_id.int > 1
    known = uuid4()
    answer = rooms.ask("get_telemetry_subscriptions", 0, client_instance_id=known)
    assert (answer.error_code, answer.client_instance_id) == (ErrorCode.none, known)
    assert (answer.requested_metrics, answer.telemetry_max_bytes) == ((), 1024 * 1024)
    assert answer.push_interval.total_seconds() == 300

    def pushed(**request: Any) -> str:
        values = {"client_instance_id": known, "subscription_id": answer.subscription_id, "metrics": b"m", **request}
        name: str = rooms.ask("push_telemetry", 0, **values).error_code.name
        return name

    assert pushed() == pushed(compression_type=4, terminating=True) == "none"
    assert pushed(subscription_id=answer.subscription_id ^ 1) == "unknown_subscription_id"
    assert pushed(client_instance_id=uuid4()) == "unknown_subscription_id"
    assert pushed(client_instance_id=None) == pushed(client_instance_id=UUID(int=1)) == "invalid_request"
    assert pushed(compression_type=9) == pushed(compression_type=-1) == "unsupported_compression_type"
    assert pushed(metrics=bytes(1024 * 1024 + 1)) == "telemetry_too_large"


# --- InitProducerId ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions_of("init_producer_id"))
def test_producer_ids(version: int) -> None:
    rooms = Rooms(cluster_of(1))

    def init(**request: Any) -> tuple[str, int, int]:
        answer = rooms.ask("init_producer_id", version, **request)
        return answer.error_code.name, answer.producer_id, answer.producer_epoch

    async def two() -> list[Any]:
        return [await rooms.ask_async("init_producer_id", version) for _ in range(2)]

    assert [(each.error_code, each.producer_id, each.producer_epoch) for each in asyncio.run(two())] == [
        (ErrorCode.none, 0, 0),
        (ErrorCode.none, 1, 0),
    ]
    assert init(transactional_id="t") == ("unsupported_version", -1, -1)
    assert init(transactional_id="") == ("invalid_request", -1, -1)
    if version >= 3:
        assert init(producer_id=5, producer_epoch=-1) == ("invalid_request", -1, -1)
        assert init(producer_id=-1, producer_epoch=1) == ("invalid_request", -1, -1)
        assert init(producer_id=1, producer_epoch=0) == ("none", 2, 0)
    rooms.cluster.register(1)  # a newer incarnation: this one gets no more blocks
    rooms.rooms.producer_ids._next = rooms.rooms.producer_ids._end
    rooms.rooms.producer_ids._broker_epoch = lambda: 0  # type: ignore[assignment, return-value]
    assert init()[1:] == (-1, -1)
    assert rooms.rooms.broker_id == BrokerId(1)
