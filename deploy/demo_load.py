"""The load of the failover demo: a body of text, a producer that sends its lines, a consumer that reads along.

The body is every .py file of the running Python's standard library. Files are sent interleaved, so that all partitions
have something under way at any moment; within a file, which is a key, lines go in order.
"""

from __future__ import annotations

import sysconfig
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..client import Consumer, DeliveryFuture, Producer, RecordMetadata
from ..proto.identifiers import TopicPartition
from .demo_check import SentRecord, encode_value, number_of

FILES_AT_ONCE: Final = 200
PACE_SLICE_SECONDS: Final = 0.01
TAIL_SECONDS: Final = 5.0
POLL_MS: Final = 200
NOT_ACKED: Final = -1
LISTEN_EACH: Final = 25


def read_body(folder: Path | None = None, *, lines_max: int | None = None) -> list[SentRecord]:
    """The lines of all .py files, keyed by the file's path, interleaved."""
    root = folder or Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in root.rglob("*.py") if not {"site-packages", "dist-packages"} & set(path.parts))
    files = ((str(path.relative_to(root)).encode(), path.read_bytes().splitlines()) for path in paths if path.is_file())
    body: list[SentRecord] = []
    for record in _interleaved(files):
        if lines_max is not None and len(body) >= lines_max:
            break
        body.append(record)
    return body


def _interleaved(files: Iterator[tuple[bytes, list[bytes]]]) -> Iterator[SentRecord]:
    waiting: deque[tuple[bytes, Iterator[bytes]]] = deque()
    while True:
        while len(waiting) < FILES_AT_ONCE and (file := next(files, None)) is not None:
            waiting.append((file[0], iter(file[1])))
        if not waiting:
            return
        key, lines = waiting.popleft()
        line = next(lines, None)
        if line is not None:
            yield SentRecord(key, line)
            waiting.append((key, lines))


class AckLedger:
    """Which record was acked where, and how long each partition went without an ack.

    Where each record went is asked of its future once all is over. Meanwhile every n-th ack is listened to: enough to
    see writes wait, and a listener per record would cost ten times what sending it does.
    """

    def __init__(self, partitions: int) -> None:
        self.offsets = array("q")  # by number
        self.partitions = array("i")
        self.failures: list[str] = []
        self.acked = 0  # an estimate until `settle`
        self._last_ack = [time.monotonic()] * partitions
        self._longest_gap = [0.0] * partitions

    def listen(self, future: DeliveryFuture) -> None:
        """Listens to this one, for itself and those since the last."""
        future.add_callback(self._on_ack)

    def settle(self, futures: list[DeliveryFuture]) -> None:
        """Takes down the outcome of every record; the futures are in the order of the numbers, and done."""
        for number, future in enumerate(futures):
            metadata = future.value
            self.offsets.append(NOT_ACKED if metadata is None else metadata.offset)
            self.partitions.append(NOT_ACKED if metadata is None else metadata.partition)
            if metadata is None:
                self.failures.append(f"record {number}: {future.exception}")
        self.acked = len(futures) - len(self.failures)

    def begin_measuring(self) -> None:
        """From now on, how long do writes wait?"""
        now = time.monotonic()
        for partition in range(len(self._last_ack)):
            self._last_ack[partition], self._longest_gap[partition] = now, 0.0

    def longest_waits(self) -> list[float]:
        """Per partition the longest time without an ack since `begin_measuring`, in seconds."""
        now = time.monotonic()
        return [max(gap, now - last) for gap, last in zip(self._longest_gap, self._last_ack, strict=True)]

    def partitions_acked_since(self, moment: float) -> set[int]:
        """The partitions that acked something after this moment (monotonic clock)."""
        return {partition for partition, last in enumerate(self._last_ack) if last > moment}

    def acked_in(self, partition: int) -> dict[int, int]:
        """The acked offset of each record of a partition, by the record's number."""
        rows = enumerate(zip(self.partitions, self.offsets, strict=True))
        return {number: offset for number, (where, offset) in rows if where == partition}

    def _on_ack(self, metadata: RecordMetadata) -> None:
        """In the producer's thread."""
        now = time.monotonic()
        partition = metadata.partition
        gap = now - self._last_ack[partition]
        if gap > self._longest_gap[partition]:
            self._longest_gap[partition] = gap
        self._last_ack[partition] = now
        self.acked += LISTEN_EACH


class LoadProducer:
    """Sends the body, evenly over `pace_seconds`; never ends before `finish` is called, then sends the rest at once."""

    def __init__(self, body: list[SentRecord], ledger: AckLedger, *, pace_seconds: float) -> None:
        self._body = body
        self._ledger = ledger
        self._rate_max = len(body) / pace_seconds
        self._finish = threading.Event()
        self._stop = threading.Event()
        self._futures: list[DeliveryFuture] = []
        self.sent = 0

    def run(self, bootstrap_servers: str, topic: str) -> None:
        """Until all is sent and its outcome known. :raises KafkaError: the producer cannot go on."""
        with Producer(
            bootstrap_servers=bootstrap_servers, acks="all", linger_ms=5, batch_size=65536, delivery_timeout_ms=60_000
        ) as producer:
            while self.sent < len(self._body) and not self._stop.is_set():
                until = time.monotonic() + PACE_SLICE_SECONDS
                self._send_some(producer, topic, self._allowance())
                if not self._finish.is_set():
                    self._stop.wait(max(0.0, until - time.monotonic()))
            producer.flush()
        self._ledger.settle(self._futures)

    def finish(self) -> None:
        """No more pace: the rest goes out."""
        self._finish.set()

    def stop(self) -> None:
        """Sends nothing more."""
        self._stop.set()

    def _allowance(self) -> int:
        left = len(self._body) - self.sent
        if self._finish.is_set():
            return min(left, 5000)
        # Towards the end ever slower: the load lasts as long as the faults do.
        rate = min(self._rate_max, left / TAIL_SECONDS)
        return min(max(1, round(rate * PACE_SLICE_SECONDS)), max(0, left - 1))

    def _send_some(self, producer: Producer, topic: str, count: int) -> None:
        for number in range(self.sent, self.sent + count):
            key, line = self._body[number]
            future = producer.send(topic, encode_value(number, line), key=key)
            self._futures.append(future)
            if number % LISTEN_EACH == 0:
                self._ledger.listen(future)
        self.sent += count


class LoadConsumer:
    """Reads all partitions from the beginning and keeps (offset, number) of every record."""

    def __init__(self, partitions: int) -> None:
        self.seen: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]
        self.count = 0
        self._until: list[int] | None = None
        self._stop = threading.Event()

    def run(self, bootstrap_servers: str, topic: str) -> None:
        """Until `read_to` is reached or `stop` is called."""
        with Consumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(topic, partition) for partition in range(len(self.seen))])
            while not self._stop.is_set() and not self._is_through():
                for partition, records in consumer.poll(timeout_ms=POLL_MS, max_records=5000).items():
                    seen = self.seen[partition.partition]
                    for record in records:
                        number = number_of(record.value)
                        seen.append((record.offset, -1 if number is None else number))
                    self.count += len(records)

    def read_to(self, end_offsets: list[int]) -> None:
        """Ends once each partition is read to its end offset."""
        self._until = end_offsets

    def stop(self) -> None:
        """Ends at once."""
        self._stop.set()

    def _is_through(self) -> bool:
        if self._until is None:
            return False
        return all(
            bool(seen) and seen[-1][0] + 1 >= end for seen, end in zip(self.seen, self._until, strict=True) if end
        )
