"""Rows 4 to 6, 8 and 9: how long things take that somebody waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Producer

from . import loads
from .row import Sample, Work
from .topic_creation import create_first

LATENCY_CLIENT: Final = loads.BENCHMARKS / "compare" / "latency_client.py"
RATE: Final = 1000
LEADER_KILLS: Final = 2
CONTROLLER_KILLS: Final = 1


def latency(work: Work) -> Iterator[Sample]:
    """Three brokers, a topic of one partition, 3 replicas. One confluent-kafka producer (acks=all, linger 0, at most
    5 requests in flight, as Java's producer has it) sends 1,000 records of 100 B each second for 10 s; a consumer with
    its defaults, in another process, takes the time since each was handed to the producer, which stands in the record.
    The first second does not count, nor does a run of 4 s before. Every record must arrive. A round's sample is the
    percentile of its 10,000 records. Several partitions, or more requests in flight, would be less kind to Kafka: it
    serves one request of a connection at a time, and then the producer could not gather what waits."""
    _percentiles(work, 3)
    percentiles = _percentiles(work, 10)
    for name, value in zip(("median", "99th percentile", "99.9th percentile"), percentiles, strict=True):
        yield Sample(name, value)


def _percentiles(work: Work, seconds: int) -> list[float]:
    """In ms, of the records of so many seconds after the first."""
    topic, count = work.topic(1, 3), work.count(seconds * RATE)
    arguments = (work.servers, topic, 1, count, RATE)
    clients = [loads.ClientProcess(LATENCY_CLIENT, what, *arguments) for what in ("receive", "send")]
    try:
        for client in clients:
            client.await_ready()
        for client in clients:
            client.go()
        percentiles = clients[0].numbers()
        clients[1].numbers()
    finally:
        for client in clients:
            client.end()
    loads.check_count(work.servers, topic, 1, count + RATE)
    return percentiles


def one_record_requests(work: Work) -> Iterator[Sample]:
    """One broker. Produce requests (version 9, acks=1) with one record of 100 B each, written to plain sockets: 32 in
    flight over 4 connections (30,000 requests), and 1 in flight on one connection (6,000 requests). Time is from the
    first request to the last answer; each is done twice, and the second time counts. At the end as many records must be
    there."""
    for connections, in_flight, requests in ((4, 32, 30_000), (1, 1, 6_000)):
        topic, count, seconds = work.topic(connections), work.count(requests), 0.0
        for _ in range(2):
            arguments = (work.servers, topic, count, connections, in_flight)
            (seconds,) = loads.run(loads.ONE_RECORD_REQUESTS, *arguments)
        loads.check_count(work.servers, topic, connections, 2 * (count + connections))
        yield Sample(f"{in_flight} in flight", count / seconds)


def start(work: Work) -> Iterator[Sample]:
    """A new cluster of three brokers, its folders made before (Kafka's are formatted): from the start of its processes
    until a topic with 3 replicas could be created and a record with acks=all is acked there. A client tries to connect
    each 10 ms, and to create the topic as often as it is refused."""
    yield Sample("start to first acked record", work.start_seconds)


def leader_failover(work: Work) -> Iterator[Sample]:
    """Three brokers with default settings, a topic of 3 partitions with 3 replicas, all in sync. kill -9 of a leader,
    then at once a record with acks=all to the partition that it led, by a confluent-kafka producer that was connected
    before and that tries again each 10 to 50 ms: time from the kill to the ack. For Kafka, whose nodes are controllers
    too, a leader is taken that is not the active controller. Then the node comes back, and all replicas are awaited.
    Twice each round. Every acked record must be there in the end."""
    topic, admin, acked = work.topic(3, 3), loads.admin(work.servers), [0, 0, 0]
    producer = Producer({"bootstrap.servers": work.servers, "acks": "all", **loads.IMPATIENT})
    for _ in range(LEADER_KILLS):
        _await_whole(work, topic, 3)
        for number in range(3):
            loads.acked_record(producer, topic, number)
            acked[number] += 1
        active = work.cluster.active_controller()
        partition, leader = next((n, who) for n, who in loads.leaders(admin, topic).items() if who != active)
        began = time.monotonic()
        work.cluster.kill(leader)
        loads.acked_record(producer, topic, partition)
        seconds = time.monotonic() - began
        acked[partition] += 1
        work.cluster.start_node(leader)
        yield Sample("kill to next acked record", seconds)
    _await_whole(work, topic, 3)
    found = loads.end_offsets(work.servers, topic, range(3))
    if found != acked:
        raise loads.ClientError(f"{acked} records were acked, {found} are there")


def controller_failover(work: Work) -> Iterator[Sample]:
    """Three brokers with default settings. kill -9 of the active controller; from then on each 100 ms a request to each
    broker that lives to create one more topic (1 partition, 1 replica), over plain sockets, each waiting for its
    answer: time from the kill to the first that succeeds. Kafka's active controller is a broker, too; the others may
    create topics nonetheless. Then the node comes back. Once each round."""
    topic = work.topic(3, 3)
    for number in range(CONTROLLER_KILLS):
        _await_whole(work, topic, 3)
        active = work.cluster.active_controller()
        living = [address for broker, address in work.cluster.addresses.items() if broker != active]
        began = time.monotonic()
        work.cluster.kill(active)
        name = create_first(living, f"{topic}-after-{number}")
        seconds = time.monotonic() - began
        work.cluster.start_node(active)
        _await_in_sync(work, name, 1, 1)
        yield Sample("kill to next created topic", seconds)
    _await_whole(work, topic, 3)


def _await_whole(work: Work, topic: str, partitions: int) -> None:
    _await_in_sync(work, topic, partitions, 3)
    loads.wait_until(work.cluster.quorum_is_whole, what="all controllers")


def _await_in_sync(work: Work, topic: str, partitions: int, replication_factor: int) -> None:
    admin = loads.admin(work.servers)
    loads.wait_until(lambda: loads.in_sync(admin, [topic], partitions, replication_factor), what=f"{topic} in sync")
