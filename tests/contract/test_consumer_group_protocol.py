"""KIP-848 with librdkafka: `group.protocol=consumer` against a real cluster of three brokers."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from harness.confluent_consumers import Partition, PolledConsumer, shared_out
from harness.metadata_everywhere import wait_until_known_everywhere
from harness.waiting import wait_for
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

BROKER_CONFIG = {
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "offsets.topic.num.partitions": "5",
}
TIMEOUT_S = 40.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(brokers=3, broker_config=BROKER_CONFIG) as running:
        yield running


class Topic:
    """A topic of its own for each test."""

    def __init__(self, cluster: LocalCluster, partitions: int, name: str | None = None) -> None:
        self.name = name or f"t-{uuid.uuid4().hex[:8]}"
        self.servers = cluster.kafka_bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": self.servers})
        self.admin.create_topics([NewTopic(self.name, partitions, 3)])[self.name].result()
        wait_until_known_everywhere(cluster)
        self.group = f"g-{self.name}"
        settings = {"enable.idempotence": True, "topic.metadata.refresh.interval.ms": 200}
        self.producer = Producer({"bootstrap.servers": self.servers} | settings)
        self.count = partitions

    @property
    def partitions(self) -> list[Partition]:
        return [(self.name, partition) for partition in range(self.count)]

    def produce(self, values: range) -> None:
        # A topic that has just grown: the producer must have heard of it.
        wait_for(lambda: len(self.producer.list_topics(self.name).topics[self.name].partitions) == self.count)
        for value in values:
            self.producer.produce(self.name, str(value).encode(), partition=value % self.count)
        assert self.producer.flush(TIMEOUT_S) == 0

    def consumer(self, **config: object) -> PolledConsumer:
        return PolledConsumer(self.servers, self.group, [self.name], **config)


def test_members_come_and_go_and_a_topic_grows(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 4)
    topic.produce(range(100))
    with ExitStack() as stack:
        first = stack.enter_context(topic.consumer(client_id="first"))
        wait_for(lambda: shared_out([first], topic.partitions), timeout_s=TIMEOUT_S)
        wait_for(lambda: len(first.values) == 100, timeout_s=TIMEOUT_S)
        second = topic.consumer(client_id="second")
        wait_for(lambda: shared_out([first, second], topic.partitions), timeout_s=TIMEOUT_S)
        third = stack.enter_context(topic.consumer(client_id="third"))
        wait_for(lambda: shared_out([first, second, third], topic.partitions), timeout_s=TIMEOUT_S)
        # A member that neither gives nor gets takes up the new epoch with its next heartbeat.
        wait_for(lambda: _described(topic).state.name == "STABLE", timeout_s=TIMEOUT_S)
        described = _described(topic)
        assert (described.type.name, described.partition_assignor) == ("CONSUMER", "uniform")
        assert sorted(member.client_id for member in described.members) == ["first", "second", "third"]
        listed = topic.admin.list_consumer_groups().result()
        assert (topic.group, "CONSUMER") in [(group.group_id, group.type.name) for group in listed.valid]
        topic.count = 6
        topic.admin.create_partitions([NewPartitions(topic.name, 6)])[topic.name].result()
        wait_until_known_everywhere(cluster)  # or the producer may ask one that knows four
        wait_for(lambda: shared_out([first, second, third], topic.partitions), timeout_s=TIMEOUT_S)
        second.close()
        wait_for(lambda: shared_out([first, third], topic.partitions), timeout_s=TIMEOUT_S)
        topic.produce(range(100, 200))
        wait_for(lambda: len(first.values | third.values | second.values) == 200, timeout_s=TIMEOUT_S)
    total = first.values + second.values + third.values
    assert max(total.values()) == 1  # what was committed when a partition moved was not read again
    wait_for(lambda: _is_empty(topic), timeout_s=TIMEOUT_S)
    topic.admin.delete_consumer_groups([topic.group])[topic.group].result()


def _described(topic: Topic) -> Any:
    return topic.admin.describe_consumer_groups([topic.group])[topic.group].result()


def _is_empty(topic: Topic) -> bool:
    return str(_described(topic).state.name) == "EMPTY"


def test_a_regular_expression_finds_topics_that_come_later(cluster: LocalCluster) -> None:
    prefix = f"re-{uuid.uuid4().hex[:8]}"
    first = Topic(cluster, 2, f"{prefix}.1")
    with PolledConsumer(first.servers, prefix, [f"^{prefix}\\..*"]) as consumer:
        wait_for(lambda: shared_out([consumer], first.partitions), timeout_s=TIMEOUT_S)
        second = Topic(cluster, 1, f"{prefix}.2")
        wait_for(lambda: shared_out([consumer], first.partitions + second.partitions), timeout_s=TIMEOUT_S)
        first.admin.delete_topics([first.name])[first.name].result()
        wait_for(lambda: shared_out([consumer], second.partitions), timeout_s=TIMEOUT_S)


def test_a_static_member_comes_back_without_a_rebalance(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 4)
    with topic.consumer(group_instance_id="i1") as first:
        second = topic.consumer(group_instance_id="i2")
        wait_for(lambda: shared_out([first, second], topic.partitions), timeout_s=TIMEOUT_S)
        before = first.owned, second.owned
        second.close()
        with topic.consumer(group_instance_id="i2") as again:
            wait_for(lambda: (first.owned, again.owned) == before, timeout_s=TIMEOUT_S)
            assert first.revoked == [] or first.revoked == sorted(before[1])  # nothing after the first sharing out
            with topic.consumer(group_instance_id="i2") as usurper:
                wait_for(lambda: usurper.errors, timeout_s=TIMEOUT_S)
                assert "instance ID is still used" in usurper.errors[0]
            assert again.errors == []


_MEMBER = """
import sys
from confluent_kafka import Consumer
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "group.protocol": "consumer"})
consumer.subscribe([sys.argv[3]])
while True:
    consumer.poll(0.05)
    if consumer.assignment():
        print("assigned", flush=True)
"""


def test_a_member_that_is_killed_is_missed_when_its_session_ends(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 2)
    with topic.consumer() as survivor:
        wait_for(lambda: shared_out([survivor], topic.partitions), timeout_s=TIMEOUT_S)
        command = [sys.executable, "-c", _MEMBER, topic.servers, topic.group, topic.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            assert victim.stdout.readline() == "assigned\n"
            wait_for(lambda: len(survivor.owned) == 1, timeout_s=TIMEOUT_S)
            victim.send_signal(signal.SIGKILL)
        wait_for(lambda: shared_out([survivor], topic.partitions), timeout_s=TIMEOUT_S)


def test_the_coordinator_is_killed_and_nothing_is_lost_or_doubled(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 4)
    with topic.consumer() as first, topic.consumer() as second:
        wait_for(lambda: shared_out([first, second], topic.partitions), timeout_s=TIMEOUT_S)
        topic.produce(range(100))
        wait_for(lambda: len(first.values | second.values) == 100, timeout_s=TIMEOUT_S)
        described = topic.admin.describe_consumer_groups([topic.group])[topic.group].result()
        coordinator = described.coordinator.id
        cluster.kill(coordinator)
        topic.produce(range(100, 200))
        wait_for(lambda: len(first.values | second.values) == 200, timeout_s=TIMEOUT_S)
        with topic.consumer() as third:
            wait_for(lambda: shared_out([first, second, third], topic.partitions), timeout_s=TIMEOUT_S)
        cluster.start_node(coordinator)
        wait_for(lambda: shared_out([first, second], topic.partitions), timeout_s=TIMEOUT_S)
    assert max((first.values + second.values).values()) == 1


@pytest.mark.parametrize(("before", "after"), [("classic", "consumer"), ("consumer", "classic")])
def test_an_empty_group_takes_the_protocol_of_the_next_member_and_keeps_its_offsets(
    cluster: LocalCluster, before: str, after: str
) -> None:
    topic = Topic(cluster, 2)
    topic.produce(range(20))
    with topic.consumer(group_protocol=before) as consumer:
        wait_for(lambda: len(consumer.values) == 20, timeout_s=TIMEOUT_S)
    topic.produce(range(20, 30))
    with topic.consumer(group_protocol=after) as consumer:
        wait_for(lambda: len(consumer.values) == 10, timeout_s=TIMEOUT_S)
        assert consumer.values.keys() == {str(value).encode() for value in range(20, 30)}


def test_a_group_with_members_keeps_its_protocol(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 1)
    with topic.consumer() as member:
        wait_for(lambda: shared_out([member], topic.partitions), timeout_s=TIMEOUT_S)
        with topic.consumer(group_protocol="classic") as other:
            wait_for(lambda: other.errors, timeout_s=TIMEOUT_S)
        assert shared_out([member], topic.partitions)


def test_offsets_are_committed_by_hand_and_found_by_the_next(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 1)
    topic.produce(range(5))
    settings = {
        "bootstrap.servers": topic.servers,
        "group.id": topic.group,
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    for expected in (b"0", b"1", b"2"):
        consumer = Consumer(settings)
        consumer.subscribe([topic.name])
        message = wait_for(lambda consumer=consumer: consumer.poll(0.1), timeout_s=TIMEOUT_S)  # type: ignore[misc]
        assert message.value() == expected
        [committed] = consumer.commit(message, asynchronous=False)
        assert (committed.offset, committed.error) == (message.offset() + 1, None)
        consumer.close()
