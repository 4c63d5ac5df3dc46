"""What rows do to a cluster through Kafka clients: topics, records, and client processes; the same for both systems."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

BENCHMARKS: Final = Path(__file__).parents[1]
CONFLUENT: Final = BENCHMARKS / "confluent_client.py"
ONE_RECORD_REQUESTS: Final = BENCHMARKS / "one_record_requests.py"

CLIENT_SECONDS_MAX: Final = 300.0
WAIT_SECONDS_MAX: Final = 180.0
POLL_SECONDS: Final = 0.01
IMPATIENT: Final = {
    # A client that was told that a node is gone asks again at once: the wait is the cluster's, not the client's.
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 50,
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 50,
    "topic.metadata.refresh.fast.interval.ms": 50,
    "log_level": 0,
}

LEADERLESS: Final = ("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "_TRANSPORT", "_TIMED_OUT")

T = TypeVar("T")


class ClientError(Exception):
    """A client failed, or what it did is not what was asked for."""


class ClientProcess:
    """One of the programs above. Made, it gets ready; `go` starts its work, `numbers` waits for what it prints last."""

    def __init__(self, program: Path, *arguments: object) -> None:
        command = [sys.executable, str(program), *map(str, arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._is_ready = False

    def await_ready(self) -> None:
        """:raises ClientError: it ended before."""
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            self.numbers()
            raise ClientError("it said something else before it was ready")

    def go(self) -> None:
        """Lets it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def numbers(self, timeout_s: float = CLIENT_SECONDS_MAX) -> list[float]:
        """The numbers in its last line. :raises ClientError: it failed or did not end in time."""
        try:
            out, complaint = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.end()
            raise ClientError(f"a client did not end within {timeout_s:g} s") from None
        if self._process.returncode != 0:
            raise ClientError(f"a client failed: {complaint[-1500:]}")
        return [float(word) for word in out.splitlines()[-1].split()]

    def end(self) -> None:
        """Kills it if it is there still."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def run_together(program: Path, argument_lists: Iterable[Sequence[object]]) -> list[list[float]]:
    """Starts one process for each list, lets them go once all are ready, and returns what they print.

    :raises ClientError: one of them failed; all are ended.
    """
    clients = [ClientProcess(program, *arguments) for arguments in argument_lists]
    try:
        for client in clients:
            client.await_ready()
        for client in clients:
            client.go()
        return [client.numbers() for client in clients]
    except BaseException:
        for client in clients:
            client.end()
        raise


def run(program: Path, *arguments: object) -> list[float]:
    """The same for a program that does not wait to be told. :raises ClientError: it failed."""
    return ClientProcess(program, *arguments).numbers()


def produce(servers: str, topic: str, count: int, partitions: int, size: int, acks: str, clients: int = 1) -> float:
    """Records per second, from the first to the last ack. That all are there is asked of the brokers.

    :raises ClientError: they are not.
    """
    ((began, ended),) = run_together(CONFLUENT, [("produce", servers, topic, count, partitions, size, acks, clients)])
    check_count(servers, topic, partitions, count + clients)
    return count / (ended - began)


def consume(servers: str, topic: str, count: int, partitions: int, processes: int = 1, clients: int = 1) -> float:
    """Records per second of all consumers, from the first assignment to the last record.

    :raises ClientError: they did not get `count` records.
    """
    edges = [partitions * number // processes for number in range(processes + 1)]
    shares = [("consume", servers, topic, first, end, clients) for first, end in pairwise(edges)]
    results = run_together(CONFLUENT, shares)
    got = sum(result[2] for result in results)
    if got != count:
        raise ClientError(f"{got:.0f} records were consumed, there are {count}")
    return count / (max(result[1] for result in results) - min(result[0] for result in results))


def end_offsets(servers: str, topic: str, partitions: Iterable[int]) -> list[int]:
    """The end offset of each of the partitions; one that has no leader for a while is waited for."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "counter", "log_level": 0})
    try:
        return [_end_offset(consumer, TopicPartition(topic, number)) for number in partitions]
    finally:
        consumer.close()


def _end_offset(consumer: Consumer, partition: TopicPartition) -> int:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        try:
            return int(consumer.get_watermark_offsets(partition, timeout=10)[1])
        except KafkaException as error:
            if error.args[0].name() not in LEADERLESS or time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)


def check_count(servers: str, topic: str, partitions: int, count: int) -> None:
    """:raises ClientError: there are fewer or more records than these."""
    found = sum(end_offsets(servers, topic, range(partitions)))
    if found != count:
        raise ClientError(f"{topic} has {found} records, {count} were acked")


def admin(servers: str) -> AdminClient:
    """An admin client that tries again at once."""
    return AdminClient({"bootstrap.servers": servers, **IMPATIENT})


def create_topics(servers: str, names: Sequence[str], partitions: int, replication_factor: int) -> None:
    """Creates them in one request; returns when each partition has its leader and its full ISR.

    :raises KafkaException: they could not be created.
    """
    client = admin(servers)
    topics = [NewTopic(name, num_partitions=partitions, replication_factor=replication_factor) for name in names]
    for future in client.create_topics(topics, request_timeout=60, operation_timeout=60).values():
        future.result()
    wait_until(lambda: in_sync(client, names, partitions, replication_factor), what=f"{len(names)} topics in sync")


def delete_topic(servers: str, name: str) -> None:
    """:raises KafkaException: it could not be deleted."""
    client = admin(servers)  # it must live until it has its answer
    for future in client.delete_topics([name], request_timeout=60, operation_timeout=60).values():
        future.result()


def in_sync(client: AdminClient, names: Sequence[str], partitions: int, replication_factor: int) -> bool:
    """True if every partition of these topics has a leader and that many replicas in its ISR."""
    try:
        known = client.list_topics(timeout=10).topics
    except KafkaException:
        return False
    return all(
        name in known
        and len(known[name].partitions) == partitions
        and all(p.leader >= 0 and len(p.isrs) == replication_factor for p in known[name].partitions.values())
        for name in names
    )


def leaders(client: AdminClient, name: str) -> dict[int, int]:
    """The leader of each partition that has one."""
    partitions = client.list_topics(name, timeout=10).topics[name].partitions
    return {number: p.leader for number, p in partitions.items() if p.leader >= 0}


def first_record(servers: str, topic: str, replication_factor: int) -> None:
    """Creates a topic of one partition as soon as that can be done, and returns when a record in it is acked (all)."""
    client, producer = admin(servers), Producer({"bootstrap.servers": servers, "acks": "all", **IMPATIENT})

    def is_created() -> bool:
        wanted = NewTopic(topic, num_partitions=1, replication_factor=replication_factor)
        (future,) = client.create_topics([wanted], request_timeout=5, operation_timeout=5).values()
        try:
            future.result()
        except KafkaException as error:
            return bool(error.args[0].name() == "TOPIC_ALREADY_EXISTS")
        return True

    wait_until(is_created, what="a first topic")
    acked_record(producer, topic)


def acked_record(producer: Producer, topic: str, partition: int = 0) -> None:
    """:raises ClientError: the record is not acked in the time that the producer allows."""
    failures: list[object] = []
    producer.produce(topic, b"record", partition=partition, on_delivery=lambda error, _: failures.append(error))
    while not failures:
        producer.poll(1.0)
    if failures != [None]:
        raise ClientError(f"a record was not acked: {failures}")


def wait_until(
    condition: Callable[[], T], *, what: str, timeout_s: float = WAIT_SECONDS_MAX, each_s: float = POLL_SECONDS
) -> T:
    """Asks until the answer is true. :raises ClientError: it was not in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise ClientError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(each_s)
