"""Programs that keep on producing and consuming, through each client, while a test kills brokers.

A producer numbers its records and remembers where each was acked. A member of a group remembers what it was given, and
commits only what it has noted.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, Producer
from harness.kafka_clients import poll_patiently
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError as KafkaPythonError
from klamm.client import Consumer as KlammConsumer
from klamm.client import Producer as KlammProducer
from klamm.client import TopicPartition as KlammPartition
from klamm.proto.errors import KafkaError as KlammError

PACE_SECONDS = 0.003
STOP_SECONDS_MAX = 60.0

Spot = tuple[int, int]
"""Partition and offset."""


class Program(ABC):
    """A thread that runs from `with` on until its end; what it raises is raised again there."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.stop()
        if kind is None and self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Lets it finish what it has begun."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS_MAX)
        assert not self._thread.is_alive(), f"{type(self).__name__} does not end"

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - the outermost loop of a thread: raised again at its end
            self._failure = error

    @abstractmethod
    def work(self) -> None:
        """Until `_stopping` is set."""


class Producing(Program):
    """Sends b"0", b"1", ... to one topic."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.topic = topic
        self.acked: dict[Spot, bytes] = {}
        self.doubtful: set[bytes] = set()  # given up: may be there or not
        self._next = 0

    def next_value(self) -> bytes:
        """The next record's value, after a moment's rest."""
        self._stopping.wait(PACE_SECONDS)
        self._next += 1
        return b"%d" % (self._next - 1)

    def note(self, value: bytes, partition: int, offset: int) -> None:
        """An acked record."""
        spot = (partition, offset)
        assert spot not in self.acked, f"{self.topic} {spot} was acked for {self.acked[spot]!r} and for {value!r}"
        self.acked[spot] = value


class KafkaPythonProducing(Producing):
    """kafka-python, with its defaults: idempotent, acks=all."""

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__(topic)
        self._producer = KafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)

    def work(self) -> None:
        while not self._stopping.is_set():
            value = self.next_value()
            future = self._producer.send(self.topic, value)
            future.add_callback(lambda sent, value=value: self.note(value, sent.partition, sent.offset))
            future.add_errback(lambda _, value=value: self.doubtful.add(value))
        self._producer.flush(timeout=STOP_SECONDS_MAX)
        self._producer.close()


class ConfluentProducing(Producing):
    """confluent-kafka, idempotent."""

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__(topic)
        self._producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 2})

    def work(self) -> None:
        while not self._stopping.is_set():
            self._producer.produce(self.topic, self.next_value(), on_delivery=self._delivered)
            self._producer.poll(0)
        assert self._producer.flush(STOP_SECONDS_MAX) == 0

    def _delivered(self, error: Any, message: Any) -> None:
        if error is None:
            self.note(message.value(), message.partition(), message.offset())
        else:
            self.doubtful.add(message.value())


class KlammProducing(Producing):
    """Klamm's own producer over gRPC, with its defaults."""

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__(topic)
        self._producer = KlammProducer(bootstrap_servers=servers)

    def work(self) -> None:
        sent = []
        while not self._stopping.is_set():
            value = self.next_value()
            sent.append((value, self._producer.send(self.topic, value)))
        self._producer.flush()
        for value, future in sent:
            try:
                answer = future.get(timeout=STOP_SECONDS_MAX)
            except KlammError:
                self.doubtful.add(value)
            else:
                self.note(value, answer.partition, answer.offset)
        self._producer.close()


class Consuming(Program):
    """A member of a group that notes what it is given, and then commits it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[Spot, bytes] = {}
        self.given = 0  # repeated ones too
        self.committed: dict[int, int] = {}  # by partition, what the coordinator acked

    def note(self, partition: int, offset: int, value: bytes) -> None:
        """A record that was given to it."""
        known = self.seen.setdefault((partition, offset), value)
        assert known == value, f"{partition}-{offset} was {known!r} and is {value!r}"
        self.given += 1


class KafkaPythonConsuming(Consuming):
    """kafka-python."""

    def __init__(self, servers: str, topic: str, group: str) -> None:
        super().__init__()
        self._consumer = KafkaConsumer(
            topic,
            bootstrap_servers=servers,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=500,
        )

    def work(self) -> None:
        while not self._stopping.is_set():
            batches = poll_patiently(self._consumer)
            for records in batches.values():
                for record in records:
                    self.note(record.partition, record.offset, record.value)
            if batches:
                with contextlib.suppress(KafkaPythonError):  # not committed; what it gave comes again
                    self._consumer.commit()
                    self.committed.update({p.partition: some[-1].offset + 1 for p, some in batches.items()})
        self._consumer.close()


class ConfluentConsuming(Consuming):
    """confluent-kafka, of either group protocol."""

    def __init__(self, servers: str, topic: str, group: str, protocol: str = "classic") -> None:
        super().__init__()
        options: dict[str, Any] = {"bootstrap.servers": servers, "group.id": group, "group.protocol": protocol}
        if protocol == "classic":
            options["heartbeat.interval.ms"] = 500
        self._consumer = Consumer({**options, "auto.offset.reset": "earliest", "enable.auto.commit": False})
        self._consumer.subscribe([topic])

    def work(self) -> None:
        while not self._stopping.is_set():
            messages = [message for message in self._consumer.consume(500, timeout=0.2) if message.error() is None]
            for message in messages:
                self.note(message.partition(), message.offset(), message.value())
            if messages:
                with contextlib.suppress(KafkaException):
                    for done in self._consumer.commit(asynchronous=False) or ():
                        if done.error is None:
                            self.committed[done.partition] = done.offset
        self._consumer.close()


class KlammConsuming(Consuming):
    """Klamm's own consumer over gRPC."""

    def __init__(self, servers: str, topic: str, group: str) -> None:
        super().__init__()
        self._topic = topic
        self._consumer = KlammConsumer(
            topic,
            bootstrap_servers=servers,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=500,
        )

    def work(self) -> None:
        while not self._stopping.is_set():
            batches: dict[KlammPartition, Any] = self._consumer.poll(timeout_ms=200)
            for records in batches.values():
                for record in records:
                    self.note(record.partition, record.offset, record.value)
            if batches:
                with contextlib.suppress(KlammError):
                    self._consumer.commit()
                    self.committed.update({p.partition: some[-1].offset + 1 for p, some in batches.items()})
        self._consumer.close()
