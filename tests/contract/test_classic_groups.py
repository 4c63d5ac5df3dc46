"""Groups of the classic protocol with the members that people run: kafka-python and librdkafka, alone and together."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from harness.confluent_consumers import Partition, PolledConsumer, shared_out
from harness.kafka_clients import poll_patiently
from harness.metadata_everywhere import wait_until_known_everywhere
from harness.waiting import wait_for
from kafka import KafkaConsumer
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

TIMEOUT_S = 40.0
SESSION_MS = 6_000
HEARTBEAT_MS = 200
LOADING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(brokers=3, controllers=1, broker_config={"offsets.topic.num.partitions": "5"}) as running:
        yield running


class PythonConsumer:
    """kafka-python's consumer, polled by a thread until `close`; as `PolledConsumer`."""

    def __init__(self, bootstrap_servers: str, group_id: str, topic: str, **config: Any) -> None:
        self.owned: frozenset[Partition] = frozenset()
        self._ends = threading.Event()
        self._consumer = KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap_servers,
            group_id=group_id,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            **config,
        )
        self._thread = threading.Thread(target=self._poll, name=f"consumer-{group_id}")
        self._thread.start()

    def _poll(self) -> None:
        while not self._ends.is_set():
            poll_patiently(self._consumer)
            self.owned = frozenset((one.topic, one.partition) for one in self._consumer.assignment())
        self._consumer.close()
        self.owned = frozenset()

    def close(self) -> None:
        self._ends.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def __enter__(self) -> PythonConsumer:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()


class Topic:
    """A topic and a group of its own for each test."""

    def __init__(self, cluster: LocalCluster, count: int) -> None:
        self.name = f"t-{uuid.uuid4().hex[:8]}"
        self.group = f"g-{self.name}"
        self.servers = cluster.kafka_bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": self.servers})
        self.admin.create_topics([NewTopic(self.name, count, 3)])[self.name].result()
        wait_until_known_everywhere(cluster)
        self.partitions = [(self.name, partition) for partition in range(count)]

    def consumer(self, **config: Any) -> PolledConsumer:
        """One of librdkafka."""
        settings = {
            "group_protocol": "classic",
            "session_timeout_ms": SESSION_MS,
            "heartbeat_interval_ms": HEARTBEAT_MS,
            "partition_assignment_strategy": "range",
        }
        return PolledConsumer(self.servers, self.group, [self.name], **settings | config)

    def python_consumer(self, **config: Any) -> PythonConsumer:
        return PythonConsumer(self.servers, self.group, self.name, **config)

    def described(self) -> Any:
        return self.admin.describe_consumer_groups([self.group])[self.group].result()

    def wait_shared_out(self, *consumers: Any) -> None:
        wait_for(lambda: shared_out(consumers, self.partitions), timeout_s=TIMEOUT_S)


def test_members_of_two_libraries_share_a_topic(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 6)
    with ExitStack() as stack:
        python = stack.enter_context(topic.python_consumer())
        topic.wait_shared_out(python)
        first = stack.enter_context(topic.consumer())
        topic.wait_shared_out(python, first)
        second = topic.consumer()
        topic.wait_shared_out(python, first, second)
        group = topic.described()
        assert (group.state.name, group.type.name, group.partition_assignor) == ("STABLE", "CLASSIC", "range")
        assigned = sorted((tp.topic, tp.partition) for m in group.members for tp in m.assignment.topic_partitions)
        assert assigned == topic.partitions
        second.close()
        topic.wait_shared_out(python, first)
    wait_for(lambda: topic.described().state.name == "EMPTY")
    topic.admin.delete_consumer_groups([topic.group])[topic.group].result()


def test_cooperative_members_keep_what_they_need_not_give_away(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 6)
    config = {"partition_assignment_strategy": "cooperative-sticky"}
    with ExitStack() as stack:
        first = stack.enter_context(topic.consumer(**config))
        topic.wait_shared_out(first)
        second = stack.enter_context(topic.consumer(**config))
        topic.wait_shared_out(first, second)
        assert len(first.revoked) == 3
        third = stack.enter_context(topic.consumer(**config))
        topic.wait_shared_out(first, second, third)
        assert (len(first.revoked), len(second.revoked)) == (4, 1)


def test_a_static_member_that_restarts_disturbs_nobody_and_its_double_is_fenced(cluster: LocalCluster) -> None:
    topic = Topic(cluster, 4)
    with ExitStack() as stack:
        first = stack.enter_context(topic.consumer(group_instance_id="one"))
        second = topic.consumer(group_instance_id="two")
        topic.wait_shared_out(first, second)
        mine, others = second.owned, first.owned
        first.revoked.clear()
        second.close()
        again = topic.consumer(group_instance_id="two")
        wait_for(lambda: again.owned == mine, timeout_s=TIMEOUT_S)
        assert (first.owned, first.revoked) == (others, [])
        double = stack.enter_context(topic.consumer(group_instance_id="two"))
        wait_for(lambda: double.owned == mine, timeout_s=TIMEOUT_S)
        wait_for(lambda: any("fenced" in error for error in again.errors), timeout_s=TIMEOUT_S)
        again.close()


def test_a_group_outlives_its_coordinator(cluster: LocalCluster) -> None:
    # Without kafka-python: it leaves sockets behind that could not connect, and warnings are errors here.
    topic = Topic(cluster, 4)
    with ExitStack() as stack:
        first, second = [stack.enter_context(topic.consumer()) for _ in range(2)]
        topic.wait_shared_out(first, second)
        before = first.owned, second.owned
        coordinator = topic.described().coordinator.id
        cluster.kill(coordinator)
        described = wait_for(lambda: _elsewhere(topic, coordinator), timeout_s=TIMEOUT_S)
        assert (described.state.name, len(described.members)) == ("STABLE", 2)
        assert (first.owned, second.owned) == before
        third = stack.enter_context(topic.consumer())
        topic.wait_shared_out(first, second, third)
        cluster.start_node(coordinator)


def _elsewhere(topic: Topic, coordinator: int) -> Any:
    """The group as its next coordinator describes it; None while there is none, or it is still loading the group.

    A request on its way to the one that was killed just now is told as a transport failure, which librdkafka does not
    call retriable.
    """
    try:
        described = topic.described()
    except KafkaException as error:
        if not error.args[0].retriable() and error.args[0].code() not in (*LOADING, KafkaError._TRANSPORT):
            raise
        return None
    return described if described.coordinator.id != coordinator else None
