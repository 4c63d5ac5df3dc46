"""What clients of the Kafka listener are told of brokers and topics."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from harness.kafka_rooms import Rooms, over_the_wire, versions_of
from harness.metadata_cluster import MetadataCluster, cluster_of
from kio.schema.errors import ErrorCode as KafkaErrorCode
from klamm.broker.kafka import authorized_operations, messages
from klamm.broker.kafka.metadata_encoding import TopicDescriptions
from klamm.broker.kafka.topic_view import alive_brokers, leader_of, offline_replicas
from klamm.cluster.image import TopicImage
from klamm.proto.identifiers import BrokerId

NONE = KafkaErrorCode.none


def rooms_of(*brokers: int, **rooms: Any) -> Rooms:
    return Rooms(cluster_of(*brokers), **rooms)


def names(answer: Any) -> list[str | None]:
    return [topic.name for topic in answer.topics]


def errors(answer: Any) -> list[KafkaErrorCode]:
    return [topic.error_code for topic in answer.topics]


@pytest.mark.parametrize("version", versions_of("metadata"))
def test_all_topics_and_brokers(version: int) -> None:
    rooms = rooms_of(1, 2, 3)
    for name in ("b", "a", "__consumer_offsets", "__not_internal"):
        rooms.cluster.create_topic(name, 2, 3)
    answer = rooms.ask("metadata", version, topics=None if version else [])
    assert names(answer) == ["__consumer_offsets", "__not_internal", "a", "b"]
    assert [broker.node_id for broker in answer.brokers] == [1, 2, 3]
    assert (answer.brokers[0].host, answer.brokers[0].port) == ("localhost", 9092)
    assert [len(topic.partitions) for topic in answer.topics] == [2, 2, 2, 2]
    first = answer.topics[2].partitions[0]
    wanted = rooms.image.topics["a"].partitions[0]
    assert (first.leader_id, first.replica_nodes, first.isr_nodes) == (wanted.leader, wanted.replicas, wanted.isr)
    if version >= 1:
        assert [topic.is_internal for topic in answer.topics] == [True, False, False, False]
        assert answer.controller_id == 1  # any broker takes what a controller would
    if version >= 2:
        assert answer.cluster_id == rooms.image.cluster_id
    if version >= 10:
        assert answer.topics[2].topic_id == rooms.image.topics["a"].topic_id
    if version >= 1:
        assert rooms.ask("metadata", version, topics=[]).topics == ()


@pytest.mark.parametrize("version", versions_of("metadata"))
def test_partitions_of_brokers_that_are_gone(version: int) -> None:
    rooms = rooms_of(1, 2)
    rooms.cluster.create_topic("shared", assignments=[[1, 2]])
    rooms.cluster.create_topic("lost", assignments=[[2]])
    rooms.cluster.fence(2)
    answer = rooms.ask("metadata", version, topics=[{"name": "shared"}, {"name": "lost"}])
    assert [broker.node_id for broker in answer.brokers] == [1]
    shared, lost = (topic.partitions[0] for topic in answer.topics)
    assert (shared.leader_id, lost.leader_id) == (1, -1)
    assert lost.error_code is KafkaErrorCode.leader_not_available
    if version == 0:  # what is not alive is left out, and that is an error
        assert (shared.error_code, shared.replica_nodes) == (KafkaErrorCode.replica_not_available, (1,))
    else:
        assert (shared.error_code, shared.replica_nodes) == (NONE, (1, 2))
    if version >= 5:
        assert (shared.offline_replicas, lost.offline_replicas) == ((2,), (2,))
    if version >= 7:
        assert (shared.leader_epoch, lost.leader_epoch) == (0, 1)
    rooms.cluster.unfence(2)
    assert rooms.ask("metadata", version, topics=[{"name": "lost"}]).topics[0].partitions[0].leader_id == 2


@pytest.mark.parametrize("version", versions_of("metadata"))
def test_a_leader_without_the_listener(version: int) -> None:
    rooms = rooms_of(1, 2)
    rooms.cluster.create_topic("a", assignments=[[2, 1]])
    image = rooms.image
    broker = image.brokers[BrokerId(2)]
    endpoints = {"GRPC": broker.endpoints["GRPC"]}
    kept = {**image.brokers, BrokerId(2): type(broker)(**{**fields_of(broker), "endpoints": endpoints})}
    other = type(image)(**{**fields_of(image), "brokers": kept})
    rooms.cluster.state = type(rooms.cluster.state)(other, rooms.cluster.state.answers, 0)
    partition = rooms.ask("metadata", version, topics=[{"name": "a"}]).topics[0].partitions[0]
    assert partition.leader_id == -1
    error = KafkaErrorCode.listener_not_found if version >= 6 else KafkaErrorCode.leader_not_available
    assert partition.error_code is error


def fields_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def test_topics_by_id() -> None:
    rooms = rooms_of(1)
    rooms.cluster.create_topic("a", 1, 1)
    known, unknown = rooms.image.topics["a"].topic_id, uuid4()
    for version in (12, 13):
        answer = rooms.ask("metadata", version, topics=[{"topic_id": unknown}, {"topic_id": known}, {"name": "b"}])
        # With one topic by id the names do not count, as in Apache Kafka; nor is anything created.
        assert [(topic.name, topic.topic_id) for topic in answer.topics] == [("a", known), (None, unknown)]
        assert errors(answer) == [NONE, KafkaErrorCode.unknown_topic_id]
        assert "b" not in rooms.image.topics


@pytest.mark.parametrize("topic", [{"name": None}, {"name": "a", "topic_id": UUID(int=5)}])
@pytest.mark.parametrize("version", [10, 11])
def test_versions_10_and_11_know_names_alone(version: int, topic: dict[str, Any]) -> None:
    answer = rooms_of(1).ask("metadata", version, topics=[topic])
    assert errors(answer) == [KafkaErrorCode.invalid_request]


@pytest.mark.parametrize("version", versions_of("metadata"))
def test_topics_come_to_be_when_they_are_asked_for(version: int) -> None:
    rooms = rooms_of(1)
    wanted = [{"name": "new"}, {"name": "no good"}, {"name": "new"}, {"name": "__consumer_offsets"}]
    if version >= 4:
        answer = rooms.ask("metadata", version, topics=wanted, allow_auto_topic_creation=False)
        assert errors(answer)[0] is KafkaErrorCode.unknown_topic_or_partition
        assert not rooms.controllers.commands
    answer = rooms.ask("metadata", version, topics=wanted, allow_auto_topic_creation=True)
    assert dict(zip(names(answer), errors(answer), strict=True)) == {
        "new": NONE,
        "no good": KafkaErrorCode.invalid_topic_exception,
        "__consumer_offsets": KafkaErrorCode.unknown_topic_or_partition,  # its owner makes it
    }
    assert names(answer).count("new") == 1
    assert answer.topics[0].partitions[0].leader_id == 1
    assert rooms.waits == [rooms.image.end_offset]


def test_no_topic_comes_to_be_where_that_is_switched_off() -> None:
    rooms = rooms_of(1, auto_create_topics=False)
    answer = rooms.ask("metadata", topics=[{"name": "new"}], allow_auto_topic_creation=True)
    assert errors(answer) == [KafkaErrorCode.unknown_topic_or_partition]
    assert not rooms.controllers.commands


@pytest.mark.parametrize("version", range(8, 14))
def test_authorized_operations_are_all_there_are_and_only_when_asked_for(version: int) -> None:
    rooms = rooms_of(1)
    rooms.cluster.create_topic("a", 1, 1)
    asked = {"include_topic_authorized_operations": True, "include_cluster_authorized_operations": True}
    without = rooms.ask("metadata", version, topics=None)
    with_them = rooms.ask("metadata", version, topics=[{"name": "a"}], **asked)
    assert without.topics[0].topic_authorized_operations == -(2**31)
    assert with_them.topics[0].topic_authorized_operations == authorized_operations.TOPIC == 0b1101_1111_1000
    if version <= 10:
        assert without.cluster_authorized_operations == -(2**31)
        assert with_them.cluster_authorized_operations == authorized_operations.CLUSTER


@pytest.mark.parametrize("version", versions_of("metadata"))
def test_what_is_written_by_hand_is_what_kio_writes(version: int) -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", 300, 3)
    cluster.create_topic("b" * 200, assignments=[[3], [1]])
    cluster.fence(3)
    schema = messages.response_schema("metadata", version)
    encoded = TopicDescriptions().of(cluster.image, version, 77)
    for topic in cluster.image.topics.values():
        by_hand = over_the_wire(encoded.topic(topic), schema.MetadataResponseTopic)
        assert by_hand == described(schema, version, cluster, topic)


def described(schema: Any, version: int, cluster: MetadataCluster, topic: TopicImage) -> Any:
    image, alive = cluster.image, alive_brokers(cluster.image)
    partitions = []
    for partition in topic.partitions:
        leader_id, error = leader_of(image, partition)
        replicas, isr = partition.replicas, partition.isr
        if version == 0:
            replicas = tuple(replica for replica in replicas if replica != 3)
            if len(replicas) < len(partition.replicas) and leader_id > 0:
                error = error.REPLICA_NOT_AVAILABLE
        partitions.append(
            messages.make(
                schema.MetadataResponsePartition,
                error_code=KafkaErrorCode(int(error)),
                partition_index=partition.partition,
                leader_id=leader_id,
                leader_epoch=partition.leader_epoch,
                replica_nodes=replicas,
                isr_nodes=isr,
                offline_replicas=offline_replicas(partition, alive),
            )
        )
    return messages.make(
        schema.MetadataResponseTopic,
        error_code=NONE,
        name=topic.name,
        topic_id=topic.topic_id,
        topic_authorized_operations=77,
        partitions=tuple(partitions),
    )


def test_what_was_encoded_holds_until_the_topic_or_the_brokers_change() -> None:
    cluster = cluster_of(1, 2)
    for name in ("a", "b"):
        cluster.create_topic(name, assignments=[[1, 2]])
    descriptions = TopicDescriptions()

    def encoded(name: str) -> bytes:
        return descriptions.of(cluster.image, 12, 0).topic(cluster.image.topics[name])

    a, b = encoded("a"), encoded("b")
    cluster.alter_isr("a", 0, [1])
    assert encoded("a") != a
    assert encoded("b") is b
    cluster.fence(2)
    assert encoded("b") is not b
    for number in range(200):
        cluster.create_topic(f"t{number}", assignments=[[1]])
        encoded(f"t{number}")
        cluster.run(delete_topics=delete_command(f"t{number}"))
    assert len(descriptions.of(cluster.image, 12, 0)._encoded) < 150


def delete_command(name: str) -> Any:
    from klamm.proto.command_pb2 import DeleteTopicsCommand, TopicReference

    return DeleteTopicsCommand(topics=[TopicReference(name=name)])


def test_thousands_of_topics_do_not_hold_up_others() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    image = cluster.image
    one = image.topics["a"]
    topics = {}
    for number in range(10_000):
        topic_id = UUID(int=number + 1)
        partition = type(one.partitions[0])(**{**fields_of(one.partitions[0]), "topic_id": topic_id})
        topics[f"topic-{number}"] = TopicImage(f"topic-{number}", topic_id, (partition,) * 3)
    names_by_id = {topic.topic_id: name for name, topic in topics.items()}
    cluster.state = type(cluster.state)(
        type(image)(**{**fields_of(image), "topics": topics, "topic_names": names_by_id}), cluster.state.answers, 0
    )
    descriptions = TopicDescriptions().of(cluster.image, 12, 0)
    turns = 0

    async def main() -> list[bytes]:
        nonlocal turns
        answer = asyncio.ensure_future(descriptions.topics(tuple(topics.values())))
        while not answer.done():
            turns += 1
            await asyncio.sleep(0)
        return await answer

    assert len(asyncio.run(main())) == 10_000
    assert turns > 5
