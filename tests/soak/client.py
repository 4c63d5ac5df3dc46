"""One client of the soak in a process of its own: `python client.py '{"role": "produce-sdk", "servers": ...}'`.

Every second it prints a JSON line with what it has done and what it holds; a line on its standard input sets the rate
in records a second (-1: as fast as it can), `end` asks it to finish. Its last line has `"final": true`.

Each record's value begins with its number: numbers count up from 0 in each partition. So a reader sees by itself what
is missing, doubled or out of order.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections import deque
from typing import Any, Final, Protocol

TELL_S: Final = 1.0
SLICE_S: Final = 0.02
BEHIND_S_MAX: Final = 1.0
"""A stall is made up for by no more than this: the load is to stay steady."""
TO_ONE_PARTITION: Final = 20
NUMBER_BYTES: Final = 8
COMPLAINTS_MAX: Final = 20
COMMIT_MS: Final = 1000
FETCH_BYTES: Final = 8 * 1024 * 1024
"""What a reader that is behind holds: little enough to be reached in the warm-up."""
AS_FAST_AS_IT_CAN: Final = -1.0
RECONNECT_MS_MAX: Final = 1000
"""Kafka's own client has this one. With librdkafka's, 10 s, records that are for a broker which was restarted a little
while ago wait for seconds, though it is back: the wait before it connects again doubles with each vain try."""


class Orders:
    """What comes in on standard input."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.end = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            if line.strip() == "end":
                break
            self.rate = float(line)
        self.end.set()  # also when whoever started this is gone


class Counts:
    """What this client has done; told every second."""

    def __init__(self) -> None:
        self.done = 0  # records acked, or read
        self.complaints: list[str] = []
        self.extra: dict[str, Any] = {}
        self._due = time.monotonic()
        self._tasks = 0

    def complain(self, text: str) -> None:
        if len(self.complaints) < COMPLAINTS_MAX:
            self.complaints.append(text)

    def tell(self, *, final: bool = False) -> None:
        """If it is time to. Tasks are looked for among all objects: the SDK's loop is its own affair."""
        now = time.monotonic()
        if now < self._due and not final:
            return
        self._due = now + TELL_S
        tasks = sum(1 for each in gc.get_objects() if isinstance(each, asyncio.Task) and not each.done())
        words = {"done": self.done, "tasks": tasks, "blocks": sys.getallocatedblocks(), "complaints": self.complaints}
        print(json.dumps(words | self.extra | {"final": final}), flush=True)


class Pace:
    """How many records are due."""

    def __init__(self) -> None:
        self._sent_to = time.monotonic()

    def due(self, rate: float) -> int:
        """Records to send now; waits a moment if there are none."""
        now = time.monotonic()
        if rate < 0:
            self._sent_to = now
            return 1000
        self._sent_to = max(self._sent_to, now - BEHIND_S_MAX)
        count = int(rate * (now - self._sent_to))
        if count == 0:
            time.sleep(SLICE_S)
            return 0
        self._sent_to += count / rate
        return count


class Sender(Protocol):
    """The two libraries behind one face."""

    def send(self, partition: int, value: bytes) -> None: ...

    def settle(self) -> None: ...

    def close(self) -> None: ...


class SdkSender:
    """The SDK's producer: futures, looked at in the order in which they were made."""

    def __init__(self, servers: str, topic: str, counts: Counts, next_acked: list[int]) -> None:
        from klamm.client import Producer

        self._producer = Producer(
            bootstrap_servers=servers, acks="all", linger_ms=5, batch_size=65536, buffer_memory=8 * 1024 * 1024
        )
        self._topic, self._counts, self._next_acked = topic, counts, next_acked
        self._sent: deque[tuple[int, Any]] = deque()

    def send(self, partition: int, value: bytes) -> None:
        self._sent.append((partition, self._producer.send(self._topic, value, partition=partition)))

    def settle(self) -> None:
        """Counts what is acked."""
        while self._sent and self._sent[0][1].is_done:
            partition, future = self._sent.popleft()
            if future.exception is not None:
                self._counts.complain(f"partition {partition}: {future.exception}")
            else:
                self._next_acked[partition] += 1
                self._counts.done += 1

    def close(self) -> None:
        self._producer.close()
        self.settle()


class ConfluentSender:
    """librdkafka's producer: delivery reports.

    While brokers keep it waiting with as many requests under way as idempotence allows, it spins (2.16; issue 3692 of
    librdkafka): 1.3 to 1.6 cores were seen while one broker stood still. On two cores the brokers then wait for it,
    too, and what was a short wait for an ack becomes a long one.
    """

    QUEUED_MAX: Final = 20_000

    def __init__(self, servers: str, topic: str, counts: Counts, next_acked: list[int]) -> None:
        from confluent_kafka import Producer

        settings = {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 5, "log_level": 2}
        limits = {"queue.buffering.max.messages": 2 * self.QUEUED_MAX, "reconnect.backoff.max.ms": RECONNECT_MS_MAX}
        self._producer = Producer(settings | limits)
        self._topic, self._counts, self._next_acked = topic, counts, next_acked

    def send(self, partition: int, value: bytes) -> None:
        while len(self._producer) > self.QUEUED_MAX:
            self._producer.poll(0.01)
        self._producer.produce(self._topic, value, partition=partition, on_delivery=self._delivered)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._counts.complain(f"partition {message.partition()}: {error}")
        else:
            self._next_acked[message.partition()] += 1
            self._counts.done += 1

    def settle(self) -> None:
        self._producer.poll(0)

    def close(self) -> None:
        left = self._producer.flush(120)
        if left:
            self._counts.complain(f"{left} records were neither acked nor refused")


def produce(make: Any, options: dict[str, Any]) -> None:
    """Sends at the rate it is told, in runs to one partition after the other, until told to end."""
    orders, counts, pace = Orders(options["rate"]), Counts(), Pace()
    partitions, padding = options["partitions"], b"x" * (options["size"] - NUMBER_BYTES)
    numbers, next_acked = [0] * partitions, [0] * partitions
    sender: Sender = make(options["servers"], options["topics"][0], counts, next_acked)
    sent, seen, last_ack, longest_wait_s = 0, 0, time.monotonic(), 0.0
    while not orders.end.is_set():
        for _ in range(pace.due(orders.rate)):
            partition = sent // TO_ONE_PARTITION % partitions
            sender.send(partition, numbers[partition].to_bytes(NUMBER_BYTES, "big") + padding)
            numbers[partition] += 1
            sent += 1
        sender.settle()
        if orders.rate == 0:
            last_ack = time.monotonic()  # held back: nothing is waited for
        if counts.done != seen:
            now, seen = time.monotonic(), counts.done
            longest_wait_s, last_ack = max(longest_wait_s, now - last_ack), now
        counts.tell()
    sender.close()
    counts.extra = {"sent": numbers, "acked": next_acked, "longest_wait_s": longest_wait_s}
    counts.tell(final=True)


class Reading:
    """Which numbers came, per topic and partition: as runs [first, end), joined where they meet."""

    def __init__(self, counts: Counts) -> None:
        self.runs: dict[tuple[str, int], list[list[int]]] = {}
        self._counts = counts

    def take(self, topic: str, partition: int, value: bytes) -> None:
        number = int.from_bytes(value[:NUMBER_BYTES], "big")
        runs = self.runs.setdefault((topic, partition), [])
        if runs and runs[-1][1] == number:
            runs[-1][1] = number + 1
        else:
            runs.append([number, number + 1])
        self._counts.done += 1

    def told(self) -> dict[str, Any]:
        return {"runs": [[topic, partition, runs] for (topic, partition), runs in sorted(self.runs.items())]}


def consume_sdk(options: dict[str, Any]) -> None:
    """The SDK's consumer: every partition if it has no group, else what the group gives it."""
    from klamm.client import Consumer, TopicPartition
    from klamm.proto.errors import KafkaError

    orders, counts = Orders(AS_FAST_AS_IT_CAN), Counts()
    reading = Reading(counts)
    group, topics = options.get("group"), options["topics"]
    with Consumer(
        bootstrap_servers=options["servers"],
        group_id=group,
        auto_offset_reset="earliest" if group else "none",
        auto_commit_interval_ms=COMMIT_MS,
        max_poll_records=2000,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=FETCH_BYTES // 16,
    ) as consumer:
        if group:
            consumer.subscribe(topics)
        else:
            partitions = [TopicPartition(topic, number) for topic in topics for number in range(options["partitions"])]
            consumer.assign(partitions)
            for each in partitions:
                consumer.seek(each, 0)
        try:
            while not orders.end.is_set():
                for partition, records in consumer.poll(timeout_ms=200).items():
                    for record in records:
                        reading.take(partition.topic, partition.partition, record.value)
                counts.tell()
        except KafkaError as error:  # the others go on: what they see says more about it
            began, ended = (
                consumer.beginning_offsets(consumer.assignment()),
                consumer.end_offsets(consumer.assignment()),
            )
            counts.complain(f"{error}; the logs begin at {began} and end at {ended}")
            orders.end.wait()
    counts.extra = reading.told()
    counts.tell(final=True)


def consume_confluent(options: dict[str, Any]) -> None:
    """librdkafka's consumer, in the same two ways."""
    from confluent_kafka import Consumer, TopicPartition

    orders, counts = Orders(AS_FAST_AS_IT_CAN), Counts()
    reading = Reading(counts)
    group, topics = options.get("group"), options["topics"]
    consumer = Consumer(
        {
            "bootstrap.servers": options["servers"],
            "group.id": group or "no-group",
            "enable.auto.commit": bool(group),
            "auto.commit.interval.ms": COMMIT_MS,
            "auto.offset.reset": "earliest" if group else "error",
            "partition.assignment.strategy": "range",
            "queued.max.messages.kbytes": FETCH_BYTES // 1024,
            "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
            "log_level": 2,
        }
    )
    if group:
        consumer.subscribe(topics)
    else:
        consumer.assign([TopicPartition(topic, n, 0) for topic in topics for n in range(options["partitions"])])
    while not orders.end.is_set():
        for message in consumer.consume(2000, timeout=0.2):
            error = message.error()
            if error is not None:
                counts.complain(str(error))
            else:
                topic, number, value = message.topic(), message.partition(), message.value()
                assert topic is not None and number is not None and value is not None  # None belongs to errors
                reading.take(topic, number, value)
        counts.tell()
    consumer.close()
    counts.extra = reading.told()
    counts.tell(final=True)


ROLES: Final = {
    "produce-sdk": lambda options: produce(SdkSender, options),
    "produce-confluent": lambda options: produce(ConfluentSender, options),
    "consume-sdk": consume_sdk,
    "consume-confluent": consume_confluent,
}


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    ROLES[arguments["role"]](arguments)
