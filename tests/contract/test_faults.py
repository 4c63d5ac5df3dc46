"""kill -9 of leaders, coordinators and bootstrap brokers while each client produces and consumes in groups.

No acked record is lost, none is there twice, every group goes on, and what was committed stays committed. One round
kills one broker of each kind; `make contract-long` asks for many rounds through KLAMM_CONTRACT_ROUNDS.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from harness.kafka_clients import create_topic, read_confluent
from harness.kafka_programs import (
    ConfluentConsuming,
    ConfluentProducing,
    Consuming,
    KafkaPythonConsuming,
    KafkaPythonProducing,
    KlammConsuming,
    KlammProducing,
    Producing,
)
from klamm.deploy.local import LocalCluster

ROUNDS = int(os.environ.get("KLAMM_CONTRACT_ROUNDS", "1"))
PARTITIONS = 3
ACKED_BETWEEN_KILLS = 100
SECONDS_MAX = 60.0

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120 + 60 * ROUNDS)]


def coordinator_of(cluster: LocalCluster, group: str) -> int:
    admin = AdminClient({"bootstrap.servers": cluster.kafka_bootstrap_servers})
    node: int = admin.describe_consumer_groups([group])[group].result(30).coordinator.id
    return node


def committed_offsets(cluster: LocalCluster, group: str, topic: str) -> dict[int, int]:
    admin = AdminClient({"bootstrap.servers": cluster.kafka_bootstrap_servers})
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, number) for number in range(PARTITIONS)])
    found = admin.list_consumer_group_offsets([asked])[group].result(30)
    return {partition.partition: partition.offset for partition in found.topic_partitions}


class Load:
    """One producer and one group of each client, each with a topic of its own."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        kafka, grpc = cluster.kafka_bootstrap_servers, cluster.bootstrap_servers
        for topic in ("python", "confluent", "klamm"):
            create_topic(kafka, topic, PARTITIONS)
        self.producers: list[Producing] = [
            KafkaPythonProducing(kafka, "python"),
            ConfluentProducing(kafka, "confluent"),
            KlammProducing(grpc, "klamm"),
        ]
        self.groups: dict[tuple[str, str], list[Consuming]] = {
            ("python", "kafka-python"): [KafkaPythonConsuming(kafka, "python", "kafka-python") for _ in range(2)],
            ("confluent", "classic"): [ConfluentConsuming(kafka, "confluent", "classic") for _ in range(2)],
            ("confluent", "kip-848"): [ConfluentConsuming(kafka, "confluent", "kip-848", "consumer")],
            ("klamm", "klamm"): [KlammConsuming(grpc, "klamm", "klamm") for _ in range(2)],
        }

    @property
    def members(self) -> list[Consuming]:
        return [member for members in self.groups.values() for member in members]

    def wait_for_progress(self) -> None:
        """Until every producer has sent, and every group was given, that much more."""
        produced = [(producer, producer._next) for producer in self.producers]
        given = [(members, sum(member.given for member in members)) for members in self.groups.values()]
        self.cluster.wait_until(
            lambda: (
                all(producer._next >= before + ACKED_BETWEEN_KILLS for producer, before in produced)
                and all(sum(m.given for m in members) >= before + ACKED_BETWEEN_KILLS for members, before in given)
            ),
            timeout_s=SECONDS_MAX,
            what="progress of every producer and every group",
        )

    def wait_for_all(self) -> None:
        """Until every group was given every record that was acked."""
        for (topic, group), members in self.groups.items():
            acked = {spot for producer in self.producers if producer.topic == topic for spot in producer.acked}
            self.cluster.wait_until(
                lambda acked=acked, members=members: acked <= set().union(*[set(m.seen) for m in members]),  # type: ignore[misc]
                timeout_s=SECONDS_MAX,
                what=f"group {group} to be given all {len(acked)} records of {topic}",
            )


def stored(cluster: LocalCluster, topic: str) -> dict[tuple[int, int], bytes]:
    """Everything in the topic, read without a group."""
    consumer = Consumer({"bootstrap.servers": cluster.kafka_bootstrap_servers, "group.id": "reader"})
    found = {}
    for number in range(PARTITIONS):
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
        consumer.assign([TopicPartition(topic, number, first)])
        for message in read_confluent(consumer, end - first):
            found[number, message.offset()] = message.value() or b""
    consumer.close()
    return found


def test_brokers_are_killed_and_nobody_loses_anything() -> None:
    with LocalCluster(brokers=3, controllers=3) as cluster, ExitStack() as exits:
        load = Load(cluster)
        for program in (*load.producers, *load.members):
            exits.enter_context(program)
        load.wait_for_progress()
        for _ in range(ROUNDS):
            victims = (
                lambda: cluster.leader_of("python", 0) or 1,
                lambda: coordinator_of(cluster, "classic"),
                lambda: 1,  # the first of everybody's bootstrap servers
            )
            for victim in victims:
                killed = victim()
                cluster.kill(killed)
                load.wait_for_progress()
                cluster.start_node(killed)
                cluster.wait_until(lambda: cluster.describe().healthy, timeout_s=SECONDS_MAX, what="full ISRs")
        for producer in load.producers:
            producer.stop()
        load.wait_for_all()
        for member in load.members:
            member.stop()
        for producer in load.producers:
            found = stored(cluster, producer.topic)
            assert {spot: found.get(spot) for spot in producer.acked} == producer.acked, "an acked record is lost"
            (most,) = Counter(found.values()).most_common(1)
            assert most[1] == 1, f"{most} in {producer.topic}: a record is there twice"
            assert set(found.values()) <= set(producer.acked.values()) | producer.doubtful
        for (topic, group), members in load.groups.items():
            committed = committed_offsets(cluster, group, topic)
            for member in members:
                for partition, offset in member.committed.items():
                    assert committed[partition] >= offset, f"{group}: a committed offset of {topic} went back"
