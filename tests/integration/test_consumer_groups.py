"""Consumer groups of the SDK on real brokers that die: nothing acked is missed, and no committed offset goes back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from harness.waiting import wait_for
from klamm.client import (
    Admin,
    CommitFailedError,
    Consumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    KafkaError,
    NewTopic,
    Producer,
    TopicPartition,
)
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

PARTITIONS = 6
GROUP = "workers"


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(brokers=3, controllers=1, broker_config={"offsets.topic.num.partitions": "3"}) as running:
        yield running


def create(cluster: LocalCluster, topic: str) -> None:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(topic, PARTITIONS, 3)])


class Worker(ConsumerRebalanceListener):
    """Polls, notes what it was given, and commits it: by hand, or under auto-commit with `auto=True`."""

    def __init__(self, cluster: LocalCluster, topic: str, seen: Counter[bytes], *, auto: bool, strategy: str) -> None:
        self.owned: frozenset[TopicPartition] = frozenset()
        self.failures: list[BaseException] = []
        self._auto = auto
        self._seen = seen
        self._revoked: set[TopicPartition] = set()
        self._ends = threading.Event()
        self._consumer = Consumer(
            bootstrap_servers=cluster.bootstrap_servers,
            group_id=GROUP,
            auto_offset_reset="earliest",
            enable_auto_commit=auto,
            auto_commit_interval_ms=100,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            max_poll_records=50,
            partition_assignment_strategy=[strategy],
        )
        self._consumer.subscribe([topic], listener=self)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._revoked |= revoked

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._revoked -= assigned

    def _run(self) -> None:
        try:
            while not self._ends.is_set():
                self._work()
        except BaseException as failure:  # noqa: BLE001  # `close` tells of it
            self.failures.append(failure)
        finally:
            self._consumer.close()
            self.owned = frozenset()

    def _work(self) -> None:
        polled = self._consumer.poll(100)
        assert not self._revoked & set(polled), "records of a partition that was given up"
        for records in polled.values():
            self._seen.update(record.value for record in records)
        self.owned = frozenset(self._consumer.assignment())
        if polled and not self._auto:
            try:
                self._consumer.commit()
            except CommitFailedError:
                pass  # a rebalance: someone reads it again

    def close(self) -> None:
        self._ends.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert not self.failures, self.failures


class Load:
    """Produces until it is ended, idempotently, and remembers what was acked."""

    def __init__(self, cluster: LocalCluster, topic: str) -> None:
        self.acked: set[bytes] = set()
        self.failures: list[BaseException] = []
        self._ends = threading.Event()
        self._producer = Producer(bootstrap_servers=cluster.bootstrap_servers, linger_ms=5)
        self._topic = topic
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        with self._producer as producer:
            while not self._ends.is_set():
                values = [b"%d" % one for one in range(number, number + 20)]
                number += len(values)
                futures = [producer.send(self._topic, value) for value in values]
                for value, future in zip(values, futures, strict=True):
                    try:
                        future.get(timeout=60)
                        self.acked.add(value)
                    except KafkaError as error:
                        self.failures.append(error)
                time.sleep(0.005)  # a load, not a benchmark

    def close(self) -> None:
        self._ends.set()
        self._thread.join(90)
        assert not self._thread.is_alive()
        assert not self.failures, self.failures[:3]


class CommittedOffsets:
    """Watches the group's committed offsets: they never go back (rule 21)."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.backward: list[tuple[TopicPartition, int, int]] = []
        self.last: dict[TopicPartition, int] = {}
        self._ends = threading.Event()
        self._cluster = cluster
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def look(self, admin: Admin) -> None:
        for partition, entry in admin.list_consumer_group_offsets(GROUP).items():
            before = self.last.get(partition, 0)
            if entry.offset < before:
                self.backward.append((partition, before, entry.offset))
            self.last[partition] = entry.offset

    def _run(self) -> None:
        with Admin(bootstrap_servers=self._cluster.bootstrap_servers) as admin:
            while not self._ends.wait(0.05):
                try:
                    self.look(admin)
                except KafkaError:
                    pass  # its coordinator is down: nothing was seen

    def close(self) -> None:
        self._ends.set()
        self._thread.join(60)
        assert self.last, "nothing was ever committed"
        assert not self.backward, self.backward


def coordinator_of(cluster: LocalCluster) -> int:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        address = admin.describe_consumer_groups([GROUP])[GROUP].coordinator
        brokers = {f"{entry.host}:{entry.port}": entry.broker_id for entry in admin.describe_cluster().brokers}
    return brokers[address]


def shared_out(workers: list[Worker]) -> bool:
    owned = [partition for worker in workers for partition in worker.owned]
    return len(owned) == len(set(owned)) == PARTITIONS and all(worker.owned for worker in workers)


@pytest.mark.parametrize(("auto", "strategy"), [(False, "range"), (True, "cooperative-sticky")])
def test_rule_21_brokers_die_under_a_group_and_no_acked_record_is_missed(
    cluster: LocalCluster, auto: bool, strategy: str
) -> None:
    create(cluster, "jobs")
    seen: Counter[bytes] = Counter()
    workers = [Worker(cluster, "jobs", seen, auto=auto, strategy=strategy) for _ in range(3)]
    load = Load(cluster, "jobs")
    watch = None
    try:
        wait_for(lambda: shared_out(workers), timeout_s=40)
        watch = CommittedOffsets(cluster)
        first = coordinator_of(cluster)
        for broker in [first, *(number for number in (1, 2, 3) if number != first)]:
            before = len(seen)
            cluster.kill(broker)
            wait_for(lambda before=before: len(seen) > before + 500, timeout_s=40)  # type: ignore[misc]
            cluster.start_node(broker)
            wait_for(lambda: shared_out(workers), timeout_s=40)
            cluster.wait_until(
                lambda: all(len(found.isr) == 3 for n in range(PARTITIONS) if (found := cluster.partition("jobs", n))),
                what="full ISRs",
            )
        workers.pop().close()
        wait_for(lambda: shared_out(workers), timeout_s=40)
        load.close()
        wait_for(lambda: load.acked <= set(seen), timeout_s=40)
    finally:
        for part in (load, *workers, *([] if watch is None else [watch])):
            part.close()
    assert len(load.acked) > 1000
    again = sum(count - 1 for count in seen.values())
    assert again < len(seen), f"{again} of {len(seen)} were given out again"


def test_two_share_one_leaves_and_a_restart_goes_on(cluster: LocalCluster) -> None:
    create(cluster, "jobs")
    seen: Counter[bytes] = Counter()
    one, two = (Worker(cluster, "jobs", seen, auto=True, strategy="range") for _ in range(2))
    try:
        wait_for(lambda: shared_out([one, two]), timeout_s=40)
        with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
            for number in range(300):
                producer.send("jobs", b"%d" % number)
        wait_for(lambda: len(seen) == 300, timeout_s=40)
        two.close()
        wait_for(lambda: shared_out([one]), timeout_s=40)
    finally:
        one.close()
        two.close()
    read: dict[TopicPartition, list[ConsumerRecord]] = {}
    assert set(seen.values()) == {1}, "each record once: both committed before they left"
    with Consumer("jobs", bootstrap_servers=cluster.bootstrap_servers, group_id=GROUP) as consumer:
        wait_for(lambda: (read.update(consumer.poll(100)), len(consumer.assignment()) == PARTITIONS)[1], timeout_s=40)
        assert sum(consumer.position(partition) for partition in consumer.assignment()) == 300
        assert not read and not consumer.poll(500), "a restart goes on where the group was"
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        committed = admin.list_consumer_group_offsets(GROUP)
        assert sum(entry.offset for entry in committed.values()) == 300
        assert admin.describe_consumer_groups([GROUP])[GROUP].state == "Empty"
        admin.delete_consumer_groups([GROUP])
        assert admin.list_consumer_groups() == []
