"""Committed offsets hold while the coordinator is killed, again and again (rule 21), as librdkafka sees them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from klamm.broker.groups.offsets_topic import partition_of
from klamm.deploy.local import LocalCluster

KILLS = 2


@dataclass
class Committer:
    """One program that commits ever larger offsets, and now and then asks for what is committed."""

    servers: str
    group: str
    topic: str
    acked: int = 0
    tried: int = 0
    complaints: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": self.group, "enable.auto.commit": False})
        try:
            while not self.stop.is_set():
                self.tried += 1
                self._commit(consumer)
                if self.tried % 5 == 0:
                    self._check(consumer)
        finally:
            consumer.close()

    def _commit(self, consumer: Consumer) -> None:
        try:
            done = consumer.commit(offsets=[TopicPartition(self.topic, 0, self.tried)], asynchronous=False)
        except KafkaException:
            return
        if done and done[0].error is None:
            self.acked = self.tried

    def _check(self, consumer: Consumer) -> None:
        acked = self.acked
        try:
            (found,) = consumer.committed([TopicPartition(self.topic, 0)], timeout=5)
        except KafkaException:
            return
        if found.error is None and not acked <= found.offset <= self.tried and acked:
            self.complaints.append(f"{found.offset} is committed, {acked} was acked, {self.tried} was tried")


def test_rule_21_acked_commits_outlive_their_coordinators(name: str) -> None:
    with LocalCluster(brokers=3, controllers=1) as cluster:
        servers = cluster.kafka_bootstrap_servers
        admin = AdminClient({"bootstrap.servers": servers})
        admin.create_topics([NewTopic(name, 1, 3)])[name].result(30)
        committers = [Committer(servers, f"{name}-{number}", name) for number in range(2)]
        threads = [threading.Thread(target=committer.run) for committer in committers]
        for thread in threads:
            thread.start()
        try:
            for _ in range(KILLS):
                _await_progress(committers)
                victim = _coordinator(cluster, committers[0].group)
                cluster.kill(victim)
                _await_progress(committers)
                cluster.start_node(victim)
            _await_progress(committers)
        finally:
            for committer in committers:
                committer.stop.set()
            for thread in threads:
                thread.join()
        assert [complaint for committer in committers for complaint in committer.complaints] == []


def _coordinator(cluster: LocalCluster, group: str) -> int:
    number = partition_of(group, 5)  # of a small cluster
    return cluster.wait_until(lambda: cluster.leader_of("__consumer_offsets", number))


def _await_progress(committers: list[Committer]) -> None:
    """Everyone has ten commits more acked."""
    goals = [committer.acked + 10 for committer in committers]
    deadline_s = time.monotonic() + 60
    while any(committer.acked < goal for committer, goal in zip(committers, goals, strict=True)):
        assert time.monotonic() < deadline_s, [(committer.acked, committer.tried) for committer in committers]
        time.sleep(0.05)
