"""Kafka's protocol: librdkafka (confluent-kafka) producing and consuming, and requests that carry one record each."""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.kafka_client import KEYS, encode, encode_header, part, request
from harness.record_batches import record_batch
from klamm.client import Admin, Consumer, NewTopic, TopicPartition
from klamm.deploy.local import LocalCluster
from measurement import Measurement

CLIENT = Path(__file__).with_name("confluent_client.py")
CLIENT_SECONDS_MAX = 300
PARTITIONS = 6
PRODUCE_VERSION = 9


def produce_small(runs: int = 7, records: int = 2_000_000) -> list[Measurement]:
    """100 B records to one broker."""
    with LocalCluster(brokers=1, controllers=1) as cluster:
        rates = [_produce(cluster, 100, records, acks="1", replication_factor=1, run=run) for run in range(runs)]
    what = "confluent-kafka produce, one broker, acks=1, 100 B records"
    return [Measurement(what, "records/s", "1,000,000 records/s", tuple(rates), lambda m: m.median >= 1_000_000)]


def produce_large(runs: int = 7, records: int = 400_000) -> list[Measurement]:
    """1 KB records to one broker."""
    with LocalCluster(brokers=1, controllers=1) as cluster:
        rates = [_produce(cluster, 1000, records, acks="1", replication_factor=1, run=run) for run in range(runs)]
    what = "confluent-kafka produce, one broker, acks=1, 1 KB records"
    return [Measurement(what, "MB/s", "200 MB/s", tuple(r / 1000 for r in rates), lambda m: m.median >= 200)]


def produce_replicated(runs: int = 7, records: int = 150_000) -> list[Measurement]:
    """1 KB records to three brokers."""
    with LocalCluster() as cluster:
        rates = [_produce(cluster, 1000, records, acks="all", replication_factor=3, run=run) for run in range(runs)]
    what = "confluent-kafka produce, three brokers, RF 3, acks=all, 1 KB records"
    return [Measurement(what, "MB/s", "60 MB/s", tuple(r / 1000 for r in rates), lambda m: m.median >= 60)]


def consume(runs: int = 7, records: int = 500_000) -> list[Measurement]:
    """1 KB records from one broker, from the first to the last."""
    with LocalCluster(brokers=1, controllers=1) as cluster:
        _produce(cluster, 1000, records, acks="1", replication_factor=1, run=0)
        rates = []
        for _ in range(runs):
            seconds, size = _client("consume", cluster, "topic-0", records, PARTITIONS)
            rates.append(size / 1e6 / seconds)
    return [
        Measurement(
            "confluent-kafka consume, 1 KB records", "MB/s", "250 MB/s", tuple(rates), lambda m: m.median >= 250
        )
    ]


def single_records(
    runs: int = 7, requests: int = 60_000, connections: int = 4, in_flight: int = 32
) -> list[Measurement]:
    """A produce request for each record, acks=1, over plain sockets: what a broker does per request."""
    rates = []
    with LocalCluster(brokers=1, controllers=1) as cluster:
        _create(cluster, "singles", connections, 1)
        for _ in range(runs):
            results: multiprocessing.SimpleQueue[float] = multiprocessing.get_context("spawn").SimpleQueue()
            arguments = (cluster.kafka_bootstrap_servers, "singles", requests, connections, in_flight, results)
            client = multiprocessing.get_context("spawn").Process(target=_send_single_records, args=arguments)
            client.start()
            seconds = results.get()
            client.join()
            rates.append(requests / seconds)
    what = f"one-record produce requests, acks=1, {in_flight} in flight over {connections} connections"
    return [Measurement(what, "requests/s", "15,000 requests/s", tuple(rates), lambda m: m.median >= 15_000)]


def _send_single_records(
    servers: str,
    topic: str,
    requests: int,
    connections: int,
    in_flight: int,
    results: multiprocessing.SimpleQueue[float],
) -> None:
    """All answers have one size, so counting bytes is counting answers: the client costs next to nothing."""
    host, _, port = servers.partition(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(connections)]
    frames, answer_size = [], 0
    for partition, each in enumerate(sockets):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        frames.append(_produce_frame(topic, partition))
        each.sendall(frames[-1])
        (answer_size,) = struct.unpack(">i", each.recv(4, socket.MSG_WAITALL))
        answer = each.recv(answer_size, socket.MSG_WAITALL)
        assert b"\0\0\0\0\0\0" in answer, answer  # partition 0 or its error 0
    answer_size += 4
    unsent = requests
    with selectors.DefaultSelector() as selector:
        began = time.monotonic()
        for each, frame in zip(sockets, frames, strict=True):
            each.sendall(frame * (in_flight // connections))
            unsent -= in_flight // connections
            selector.register(each, selectors.EVENT_READ, [frame, 0])
        answered = 0
        while answered < requests:
            for key, _ in selector.select():
                frame, received = key.data
                received += len(key.fileobj.recv(65536))  # type: ignore[union-attr]
                done, key.data[1] = divmod(received, answer_size)
                answered += done
                more = min(done, unsent)
                if more:
                    unsent -= more
                    key.fileobj.sendall(frame * more)  # type: ignore[union-attr]
        results.put(time.monotonic() - began)
    for each in sockets:
        each.close()


def _produce_frame(topic: str, partition: int) -> bytes:
    from datetime import timedelta

    version = PRODUCE_VERSION
    records = bytes(record_batch([b"x" * 100], timestamps=int(1000 * time.time())))
    data = part("produce", version, "PartitionProduceData", index=partition, records=records)
    topics = (part("produce", version, "TopicProduceData", name=topic, partition_data=(data,)),)
    timeout = timedelta(seconds=10)
    message = request("produce", version, transactional_id=None, acks=1, timeout=timeout, topic_data=topics)
    body = encode_header(KEYS["produce"], version, 1, "bench", flexible=True) + encode(message)
    return struct.pack(">i", len(body)) + body


def _produce(cluster: LocalCluster, size: int, records: int, *, acks: str, replication_factor: int, run: int) -> float:
    """Records per second, in a topic of its own. That all are there is asked of the brokers."""
    topic = f"topic-{run}"
    _create(cluster, topic, PARTITIONS, replication_factor)
    (seconds,) = _client("produce", cluster, topic, records, PARTITIONS, size, acks)
    with Consumer(bootstrap_servers=cluster.bootstrap_servers) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        assert sum(consumer.end_offsets(partitions).values()) == records + 1
    return records / seconds


def _create(cluster: LocalCluster, topic: str, partitions: int, replication_factor: int) -> None:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(topic, partitions, replication_factor)])


def _client(what: str, cluster: LocalCluster, topic: str, *arguments: object) -> tuple[float, ...]:
    words = [what, cluster.kafka_bootstrap_servers, topic, *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, str(CLIENT), *words], capture_output=True, text=True, timeout=CLIENT_SECONDS_MAX, check=True
    )
    return tuple(float(word) for word in done.stdout.split())
