"""One group of members of three libraries at once: Klamm's SDK over gRPC, kafka-python and librdkafka over Kafka."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import pytest
from harness.confluent_consumers import Partition, PolledConsumer, shared_out
from harness.kafka_clients import poll_patiently
from harness.metadata_everywhere import wait_until_known_everywhere
from harness.waiting import wait_for
from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from klamm.client import Admin, Consumer, ConsumerRebalanceListener, NewTopic, Producer, TopicPartition
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

TIMEOUT_S = 40.0
PARTITIONS = 6
THEIR_ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


class PythonMember:
    """A consumer of Klamm or of kafka-python, whose methods are called alike, polled by a thread until `close`."""

    def __init__(self, consumer: Any, topic: str, listener: Any = None) -> None:
        self.values: Counter[bytes] = Counter()
        self.owned: frozenset[Partition] = frozenset()
        self.failure: BaseException | None = None
        self._consumer = consumer
        self._poll: Callable[[], dict[Any, list[Any]]] = (
            partial(poll_patiently, consumer) if isinstance(consumer, KafkaConsumer) else partial(consumer.poll, 500)
        )
        self._ends = threading.Event()
        consumer.subscribe([topic], listener=listener)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ends.is_set():
                for records in self._poll().values():
                    self.values.update(record.value for record in records)
                self.owned = frozenset((one.topic, one.partition) for one in self._consumer.assignment())
        except BaseException as failure:  # noqa: BLE001  # `close` tells of it
            self.failure = failure
        finally:
            self._consumer.close()
            self.owned = frozenset()

    def close(self) -> None:
        self._ends.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self.failure is None, self.failure

    def __enter__(self) -> PythonMember:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()


class Revocations(ConsumerRebalanceListener):
    def __init__(self) -> None:
        self.revoked: list[TopicPartition] = []

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.revoked += revoked


class Mixed:
    """The members of one group, by the name of their library."""

    def __init__(self, cluster: LocalCluster, name: str, strategy: str) -> None:
        self.cluster = cluster
        self.name = name
        self.strategy = strategy
        self.revocations = Revocations()

    def start(self, library: str) -> Any:
        if library == "confluent":
            return PolledConsumer(
                self.cluster.kafka_bootstrap_servers,
                self.name,
                [self.name],
                group_protocol="classic",
                session_timeout_ms=6_000,
                heartbeat_interval_ms=200,
                partition_assignment_strategy=self.strategy,
            )
        settings = {
            "group_id": self.name,
            "auto_offset_reset": "earliest",
            "session_timeout_ms": 6_000,
            "heartbeat_interval_ms": 200,
        }
        if library == "klamm":
            servers = self.cluster.bootstrap_servers
            ours = Consumer(bootstrap_servers=servers, partition_assignment_strategy=[self.strategy], **settings)
            return PythonMember(ours, self.name, self.revocations)
        theirs = KafkaConsumer(
            bootstrap_servers=self.cluster.kafka_bootstrap_servers,
            partition_assignment_strategy=[THEIR_ASSIGNORS[self.strategy]],
            **settings,
        )
        return PythonMember(theirs, self.name)


def produce(cluster: LocalCluster, topic: str, values: list[bytes]) -> None:
    with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        for number, value in enumerate(values):
            producer.send(topic, value, partition=number % PARTITIONS)
        producer.flush(30)


@pytest.mark.parametrize(
    ("strategy", "libraries"),
    [
        ("range", ["klamm", "kafka-python", "confluent"]),
        ("roundrobin", ["confluent", "klamm", "kafka-python"]),
        ("sticky", ["kafka-python", "klamm"]),
        ("sticky", ["klamm", "kafka-python"]),
        ("cooperative-sticky", ["klamm", "kafka-python", "confluent"]),
        ("cooperative-sticky", ["kafka-python", "confluent", "klamm"]),
        ("cooperative-sticky", ["confluent", "klamm", "kafka-python"]),
    ],
)
def test_one_group_holds_members_of_three_libraries(
    klamm_cluster: LocalCluster, name: str, strategy: str, libraries: list[str]
) -> None:
    with Admin(bootstrap_servers=klamm_cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(name, PARTITIONS)])
    # kafka-python, leading a group, does not ask again for a topic that the broker it asked had not heard of yet.
    wait_until_known_everywhere(klamm_cluster)
    partitions = [(name, partition) for partition in range(PARTITIONS)]
    mixed = Mixed(klamm_cluster, name, strategy)
    values = [b"%d" % number for number in range(120)]
    produce(klamm_cluster, name, values)
    with ExitStack() as stack:
        members: list[Any] = []
        for library in libraries:
            members.append(stack.enter_context(mixed.start(library)))
            wait_for(lambda: shared_out(members, partitions), timeout_s=TIMEOUT_S)
        leader = members[0]
        more = [b"more %d" % number for number in range(60)]
        produce(klamm_cluster, name, more)
        wait_for(
            lambda: set(values + more) <= set(sum((one.values for one in members), Counter())), timeout_s=TIMEOUT_S
        )
        leader.close()
        wait_for(lambda: shared_out(members[1:], partitions), timeout_s=TIMEOUT_S)
        last = [b"last %d" % number for number in range(60)]
        produce(klamm_cluster, name, last)
        wait_for(lambda: set(last) <= set(sum((one.values for one in members[1:]), Counter())), timeout_s=TIMEOUT_S)
    if strategy == "cooperative-sticky":
        # What moved away before the end: a member gives up no more than the others lacked, and all of it at its close.
        assert len(mixed.revocations.revoked) <= PARTITIONS + 4, mixed.revocations.revoked
