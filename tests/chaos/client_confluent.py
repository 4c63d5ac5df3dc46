"""confluent-kafka's producer and consumer for the workload."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.client import (
    ANSWER_SECONDS_MAX,
    COMMIT_SECONDS,
    HEARTBEAT_INTERVAL_MS,
    POLL_SECONDS,
    REQUEST_TIMEOUT_MS,
    SESSION_TIMEOUT_MS,
    ClientError,
    ClientSettings,
    Ownership,
    PolledRecord,
    PollResult,
    Sending,
    SendResult,
    Spot,
)
from chaos.outcomes import confluent_outcome
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

_POLL_RECORDS_MAX: Final = 500
_DELIVERY_TIMEOUT_MS: Final = 600_000
"""Longer than any fault lasts. When a record's time is up, librdkafka takes a new producer epoch and sends under it all
that it has no answer for, of other partitions too, whether or not it was written: what it calls idempotent then writes
twice (issue 4953 of confluentinc/librdkafka). So records do not time out here; after ANSWER_SECONDS_MAX the history
calls them unknown. Five requests may be under way to a broker, as is its default."""


class ConfluentClient:
    """librdkafka, over Kafka's protocol."""

    def __init__(self, settings: ClientSettings, *, group_protocol: str = "classic") -> None:
        self.keeps_subscription = group_protocol == "consumer"
        common = {
            "bootstrap.servers": settings.servers,
            "client.id": settings.client_id,
            "socket.timeout.ms": REQUEST_TIMEOUT_MS,
            "reconnect.backoff.max.ms": 1000,
            "log.connection.close": False,  # lost connections are what this is about
            "log_level": 7,  # to stderr, for whoever looks into an anomaly: why an epoch began, why an offset was reset
        }
        self._producer = Producer(
            {
                **common,
                "debug": "eos",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
                "delivery.timeout.ms": _DELIVERY_TIMEOUT_MS,
                "request.timeout.ms": REQUEST_TIMEOUT_MS,
                "compression.type": settings.compression or "none",
                "batch.size": settings.batch_bytes,
            }
        )
        group = {"group.id": settings.group, "group.protocol": group_protocol}
        if group_protocol == "classic":
            group |= {
                "session.timeout.ms": str(SESSION_TIMEOUT_MS),
                "heartbeat.interval.ms": str(HEARTBEAT_INTERVAL_MS),
            }
        self._consumer = Consumer(
            {
                **common,
                **group,
                "debug": "topic",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 200,
            }
        )
        self._result: PollResult | None = None
        self._assigned_by_hand = False
        self._closed = threading.Event()
        # Delivery reports are given within the producer's poll: at once, whatever the caller waits for.
        self._reporting = threading.Thread(target=self._report, daemon=True)
        self._reporting.start()

    def send(self, records: Sequence[tuple[Spot, bytes]]) -> Sending:
        """As `Client.send`."""
        sending = Sending(len(records))
        for index, ((topic, partition), value) in enumerate(records):

            def delivered(error: Any, message: Any, index: int = index) -> None:
                sending.answer(index, _not_acked(error) if error is not None else _acked(message.offset()))

            try:
                self._producer.produce(topic, value, key=b"%d" % partition, partition=partition, on_delivery=delivered)
            except (KafkaException, BufferError) as error:  # it was not taken
                fatal = isinstance(error, KafkaException) and error.args[0].fatal()
                sending.answer(index, SendResult("failed", None, time.monotonic_ns(), str(error), bool(fatal)))
        return sending

    def poll(self) -> PollResult:
        """As `Client.poll`."""
        result = self._result = PollResult()
        try:
            # The rebalance callbacks are called in here, before what is given is taken.
            messages = self._consumer.consume(_POLL_RECORDS_MAX, timeout=POLL_SECONDS)
        except KafkaException as error:
            result.outcome, result.error, result.fatal = "unknown", str(error), bool(error.args[0].fatal())
            return result
        for message in messages:
            news = message.error()
            if news is not None:  # of brokers and coordinators; no record was lost by it
                result.error, result.fatal = str(news), result.fatal or bool(news.fatal())
                continue
            topic, partition, offset, value = message.topic(), message.partition(), message.offset(), message.value()
            assert topic is not None and partition is not None and offset is not None and value is not None
            result.records.append(PolledRecord((topic, partition), offset, value))
        return result

    def assign(self, positions: Mapping[Spot, int]) -> None:
        """As `Client.assign`."""
        try:
            self._consumer.unsubscribe()
            self._consumer.assign([TopicPartition(*spot, offset) for spot, offset in positions.items()])
            self._assigned_by_hand = True
        except (KafkaException, RuntimeError) as error:
            raise ClientError("unknown", str(error), fatal=True) from error

    def subscribe(self, topics: Sequence[str]) -> None:
        """As `Client.subscribe`."""
        try:
            if self._assigned_by_hand:  # what a group has assigned is not ours to remove
                self._consumer.unassign()
                self._assigned_by_hand = False
            self._consumer.subscribe(
                list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
        except (KafkaException, RuntimeError) as error:
            raise ClientError("unknown", str(error), fatal=True) from error

    def commit(self, positions: Mapping[Spot, int]) -> None:
        """As `Client.commit`."""
        wanted = [TopicPartition(*spot, offset) for spot, offset in positions.items()]
        try:
            answers = self._consumer.commit(offsets=wanted, asynchronous=False)
        except KafkaException as error:
            # Also when it is refused at last: it may be a retry that is, and the first try was taken.
            raise ClientError("unknown", str(error)) from error
        wrong = [answer.error for answer in answers or () if answer.error is not None]
        if wrong:
            raise ClientError("unknown", "; ".join(str(error) for error in wrong))

    def committed(self, spots: Sequence[Spot]) -> dict[Spot, int | None]:
        """As `Client.committed`."""
        try:
            answers = self._consumer.committed([TopicPartition(*spot) for spot in spots], timeout=COMMIT_SECONDS)
        except KafkaException as error:
            raise ClientError("unknown", str(error)) from error
        wrong = [answer.error for answer in answers if answer.error is not None]
        if wrong:
            raise ClientError("unknown", "; ".join(str(error) for error in wrong))
        return {(one.topic, one.partition): one.offset if one.offset >= 0 else None for one in answers}

    def close(self) -> None:
        """As `Client.close`."""
        self._closed.set()
        self._reporting.join()
        left = self._producer.flush(ANSWER_SECONDS_MAX)
        self._result = PollResult()
        try:
            self._consumer.close()
        except (KafkaException, RuntimeError) as error:
            raise ClientError("unknown", str(error)) from error
        if left:
            raise ClientError("unknown", f"{left} records were not delivered")

    def _report(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(0.1)

    def _assigned(self, _: Any, partitions: Sequence[TopicPartition]) -> None:
        self._note((), partitions)

    def _revoked(self, _: Any, partitions: Sequence[TopicPartition]) -> None:
        self._note(partitions, ())

    def _note(self, revoked: Sequence[TopicPartition], assigned: Sequence[TopicPartition]) -> None:
        if self._result is not None:
            # What `consume` gives was taken after all rebalances of this call: those of revoked partitions are dropped.
            self._result.ownerships.append(Ownership(_spots(revoked), _spots(assigned), len(self._result.records)))


def _spots(partitions: Sequence[TopicPartition]) -> tuple[Spot, ...]:
    return tuple(sorted((one.topic, one.partition) for one in partitions))


def _acked(offset: int | None) -> SendResult:
    # librdkafka does not know the offset when a retry turns out to be a duplicate.
    return SendResult("ok", offset if offset is not None and offset >= 0 else None, time.monotonic_ns())


def _not_acked(error: Any) -> SendResult:
    return SendResult(confluent_outcome(error.name()), None, time.monotonic_ns(), str(error), bool(error.fatal()))
