"""What a broker tells of the cluster is what its image holds."""

from __future__ import annotations

import asyncio
from uuid import UUID

from klamm.broker.description import leader_hint, list_reassignments
from klamm.broker.metadata_description import MetadataDescriptions
from klamm.cluster.image import MetadataImage
from klamm.proto.broker_pb2 import MetadataResponse
from klamm.proto.errors import ErrorCode
from klamm.proto.metadata_pb2 import (
    BrokerRegistrationChangeRecord,
    ClusterRecord,
    ControllerChangeRecord,
    Endpoint,
    MetadataRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    TopicRecord,
)

TOPIC_ID = UUID(int=7)


def image(*, leader: int = 1, adding: tuple[int, ...] = ()) -> MetadataImage:
    records = [
        MetadataRecord(cluster=ClusterRecord(cluster_id="cluster")),
        MetadataRecord(controller_change=ControllerChangeRecord(controller_id=2, controller_epoch=5)),
        *(
            MetadataRecord(
                register_broker=RegisterBrokerRecord(
                    broker_id=broker_id,
                    incarnation_id=bytes([broker_id]) * 16,
                    broker_epoch=broker_id,
                    endpoints=[Endpoint(name="GRPC", host="127.0.0.1", port=9000 + broker_id)],
                    fenced=True,
                    log_dir_id=bytes([broker_id]) * 16,
                )
            )
            for broker_id in (1, 2)
        ),
        MetadataRecord(broker_registration_change=BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=1)),
        MetadataRecord(topic=TopicRecord(name="events", topic_id=TOPIC_ID.bytes)),
        MetadataRecord(
            partition=PartitionRecord(
                topic_id=TOPIC_ID.bytes,
                replicas=[1, 2],
                isr=[1],
                adding_replicas=adding,
                leader=leader,
                leader_epoch=3,
                partition_epoch=4,
                last_known_leader=-1,
            )
        ),
    ]
    return MetadataImage.empty().replay(records, len(records))


def describe_metadata(
    image: MetadataImage, names: list[str] | None, descriptions: MetadataDescriptions | None = None
) -> MetadataResponse:
    return asyncio.run((descriptions or MetadataDescriptions()).describe(image, names))


def test_fenced_brokers_are_left_out_and_their_replicas_are_offline() -> None:
    answer = describe_metadata(image(), None)
    assert (answer.cluster_id, answer.controller_id) == ("cluster", 2)
    assert [(broker.broker_id, broker.port) for broker in answer.brokers] == [(1, 9001)]
    (partition,) = answer.topics[0].partitions
    assert (partition.leader_id, partition.leader_epoch, list(partition.isr)) == (1, 3, [1])
    assert list(partition.offline_replicas) == [2]
    assert partition.error_code == ErrorCode.NONE


def test_what_was_described_holds_until_the_topic_or_the_brokers_change() -> None:
    descriptions = MetadataDescriptions()
    first = image()
    assert list(describe_metadata(first, None, descriptions).topics[0].partitions[0].offline_replicas) == [2]
    [known] = descriptions._known.values()
    describe_metadata(first, ["events"], descriptions)
    assert list(descriptions._known.values()) == [known]
    led = image(leader=-1)
    assert describe_metadata(led, None, descriptions).topics[0].partitions[0].leader_id == -1
    unfenced = led.replay(
        [MetadataRecord(broker_registration_change=BrokerRegistrationChangeRecord(broker_id=2, broker_epoch=2))],
        led.end_offset + 1,
    )
    assert not describe_metadata(unfenced, None, descriptions).topics[0].partitions[0].offline_replicas


def test_a_partition_without_a_leader_says_so() -> None:
    (topic,) = describe_metadata(image(leader=-1), ["events"]).topics
    assert topic.partitions[0].error_code == ErrorCode.LEADER_NOT_AVAILABLE
    assert topic.partitions[0].leader_id == -1


def test_an_unknown_topic_has_its_error() -> None:
    (topic,) = describe_metadata(image(), ["nothing"]).topics
    assert (topic.name, topic.error_code) == ("nothing", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


def test_a_name_that_no_topic_can_have_is_not_worth_waiting_for() -> None:
    answer = describe_metadata(image(), ["", "a b", "x" * 250])
    assert [topic.error_code for topic in answer.topics] == [ErrorCode.INVALID_TOPIC_EXCEPTION] * 3


def test_the_leader_hint_names_epoch_and_address() -> None:
    hint = leader_hint(image(), "events", 0)
    assert hint is not None
    assert (hint.leader_id, hint.leader_epoch, hint.host, hint.port) == (1, 3, "127.0.0.1", 9001)
    assert leader_hint(image(), "events", 1) is None
    assert leader_hint(image(), "nothing", 0) is None
    nobody = leader_hint(image(leader=-1), "events", 0)
    assert nobody is not None
    assert (nobody.leader_id, nobody.port) == (-1, 0)


def test_reassignments_are_those_under_way_of_those_asked_for() -> None:
    assert list_reassignments(image(), None) == []
    moving = image(adding=(2,))
    (one,) = list_reassignments(moving, None)
    assert (one.topic, list(one.adding_replicas)) == ("events", [2])
    assert list_reassignments(moving, [("events", 1)]) == []
