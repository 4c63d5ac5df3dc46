"""kafka-python's producer and consumer for the workload."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from chaos.client import (
    ANSWER_SECONDS_MAX,
    COMMIT_SECONDS,
    DELIVERY_TIMEOUT_MS,
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
from chaos.outcomes import KAFKA_PYTHON_FATAL, kafka_python_outcome
from harness.kafka_clients import forget_committed, poll_patiently
from kafka import (  # type: ignore[import-untyped]
    ConsumerRebalanceListener,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.errors import KafkaError, KafkaTimeoutError  # type: ignore[import-untyped]


class KafkaPythonClient:
    """kafka-python, over Kafka's protocol."""

    keeps_subscription = False

    def __init__(self, settings: ClientSettings) -> None:
        common = {
            "bootstrap_servers": settings.servers,
            "client_id": settings.client_id,
            "reconnect_backoff_max_ms": 1000,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
        }
        try:
            self._producer = KafkaProducer(
                **common,
                acks="all",
                enable_idempotence=True,
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                max_block_ms=DELIVERY_TIMEOUT_MS,
                compression_type=settings.compression,
                batch_size=settings.batch_bytes,
            )
            self._consumer = KafkaConsumer(
                **{**common, "request_timeout_ms": 2 * SESSION_TIMEOUT_MS},  # it must exceed the session's
                group_id=settings.group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
                fetch_max_wait_ms=200,
            )
        except KafkaError as error:
            raise ClientError("failed", _text(error)) from error
        self._listener = _Listener(self._consumer)

    def send(self, records: Sequence[tuple[Spot, bytes]]) -> Sending:
        """As `Client.send`."""
        # Once it has lost its producer id (see _not_acked) it takes records, and tells nothing of them.
        sending = Sending(len(records), silence_is_fatal=True)
        for index, ((topic, partition), value) in enumerate(records):
            try:
                future = self._producer.send(topic, value, key=b"%d" % partition, partition=partition)
            except KafkaError as error:  # it was not taken
                fatal = type(error).__name__ in KAFKA_PYTHON_FATAL
                sending.answer(index, SendResult("failed", None, time.monotonic_ns(), _text(error), fatal))
                continue
            future.add_callback(lambda sent, index=index: sending.answer(index, _acked(sent.offset)))
            future.add_errback(lambda error, index=index: sending.answer(index, _not_acked(error)))
        return sending

    def poll(self) -> PollResult:
        """As `Client.poll`."""
        result = PollResult()
        self._listener.result = result
        deadline = time.monotonic() + POLL_SECONDS
        try:
            while not result.records and time.monotonic() < deadline:
                for partition, records in poll_patiently(self._consumer).items():
                    spot = (partition.topic, partition.partition)
                    result.records += [PolledRecord(spot, record.offset, record.value) for record in records]
        except (KafkaError, AssertionError) as error:  # it asserts, too, where its state and an answer disagree
            result.outcome, result.error = "unknown", _text(error)
        return result

    def assign(self, positions: Mapping[Spot, int]) -> None:
        """As `Client.assign`."""
        try:
            self._consumer.unsubscribe()
            self._consumer.assign([TopicPartition(*spot) for spot in positions])
            for spot, offset in positions.items():
                self._consumer.seek(TopicPartition(*spot), offset)
        except (KafkaError, AssertionError) as error:
            raise ClientError("unknown", _text(error), fatal=True) from error

    def subscribe(self, topics: Sequence[str]) -> None:
        """As `Client.subscribe`."""
        try:
            self._consumer.unsubscribe()
            self._listener = _Listener(self._consumer)
            self._consumer.subscribe(list(topics), listener=self._listener)
        except (KafkaError, AssertionError) as error:
            raise ClientError("unknown", _text(error), fatal=True) from error

    def commit(self, positions: Mapping[Spot, int]) -> None:
        """As `Client.commit`."""
        offsets = {TopicPartition(*spot): OffsetAndMetadata(offset, "", -1) for spot, offset in positions.items()}
        try:
            self._consumer.commit(offsets, timeout_ms=COMMIT_SECONDS * 1000)
        except (KafkaError, AssertionError) as error:
            # Also when it is refused at last: it may be a retry that is, and the first try was taken.
            raise ClientError("unknown", _text(error)) from error

    def committed(self, spots: Sequence[Spot]) -> dict[Spot, int | None]:
        """As `Client.committed`."""
        forget_committed(self._consumer)
        try:
            return {
                spot: self._consumer.committed(TopicPartition(*spot), timeout_ms=COMMIT_SECONDS * 1000)
                for spot in spots
            }
        except (KafkaError, AssertionError) as error:
            raise ClientError("unknown", _text(error)) from error

    def close(self) -> None:
        """As `Client.close`."""
        try:
            self._producer.close(timeout=ANSWER_SECONDS_MAX)
            self._consumer.close(autocommit=False)
        except (KafkaError, AssertionError) as error:
            raise ClientError("unknown", _text(error)) from error


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Notes what comes and goes; called within poll, before that poll gives records.

    "Revoked" is an announcement, even under an eager assignor: kafka-python goes on, where it stood, with the
    partitions that the next assignment leaves it. So what counts is what an assignment changes.
    """

    def __init__(self, consumer: KafkaConsumer) -> None:
        self.result: PollResult | None = None
        self._consumer = consumer
        self._owned: frozenset[TopicPartition] = frozenset()

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        return

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        forget_committed(self._consumer)
        self._now_owns(frozenset(assigned))

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self._now_owns(self._owned - frozenset(lost))

    def _now_owns(self, owned: frozenset[TopicPartition]) -> None:
        revoked, assigned, self._owned = self._owned - owned, owned - self._owned, owned
        if self.result is not None:
            before = len(self.result.records)
            self.result.ownerships.append(Ownership(_spots(revoked), _spots(assigned), before))


def _spots(partitions: Collection[TopicPartition]) -> tuple[Spot, ...]:
    return tuple(sorted((one.topic, one.partition) for one in partitions))


def _acked(offset: int) -> SendResult:
    return SendResult("ok", offset if offset >= 0 else None, time.monotonic_ns())


def _not_acked(error: BaseException) -> SendResult:
    # When a batch that was sent runs out of time, release 3.0.12 gives its producer id up and never asks for another:
    # such a producer sends nothing more.
    fatal = isinstance(error, KafkaTimeoutError) or type(error).__name__ in KAFKA_PYTHON_FATAL
    return SendResult(kafka_python_outcome(error), None, time.monotonic_ns(), _text(error), fatal)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
