"""The SDK's producer and consumer for the workload."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

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
from chaos.outcomes import klamm_outcome
from klamm.client import Consumer, ConsumerRebalanceListener, Producer, TopicPartition
from klamm.proto.errors import KafkaError


class KlammClient:
    """Klamm's own library, over gRPC."""

    keeps_subscription = False

    def __init__(self, settings: ClientSettings) -> None:
        self._producer = Producer(
            bootstrap_servers=settings.servers,
            client_id=settings.client_id,
            compression_type=settings.compression,
            batch_size=settings.batch_bytes,
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_block_ms=DELIVERY_TIMEOUT_MS,
        )
        self._consumer = Consumer(
            bootstrap_servers=settings.servers,
            client_id=settings.client_id,
            group_id=settings.group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            default_api_timeout_ms=int(COMMIT_SECONDS * 1000),
        )
        self._listener = _Listener()

    def send(self, records: Sequence[tuple[Spot, bytes]]) -> Sending:
        """As `Client.send`."""
        sending = Sending(len(records))
        for index, ((topic, partition), value) in enumerate(records):
            try:
                future = self._producer.send(topic, value, key=b"%d" % partition, partition=partition)
            except KafkaError as error:  # it was not taken
                sending.answer(index, SendResult("failed", None, time.monotonic_ns(), _text(error)))
                continue
            future.add_callback(lambda sent, index=index: sending.answer(index, _acked(sent.offset)))
            future.add_errback(lambda error, index=index: sending.answer(index, _not_acked(error)))
        return sending

    def poll(self) -> PollResult:
        """As `Client.poll`."""
        result = PollResult()
        self._listener.result = result
        try:
            for partition, records in self._consumer.poll(timeout_ms=POLL_SECONDS * 1000).items():
                spot = (partition.topic, partition.partition)
                result.records += [PolledRecord(spot, record.offset, record.value) for record in records]
        except KafkaError as error:
            # It raises before it takes anything out of what was fetched.
            result.outcome, result.error = "failed", _text(error)
        return result

    def assign(self, positions: Mapping[Spot, int]) -> None:
        """As `Client.assign`."""
        try:
            self._consumer.unsubscribe()
            self._consumer.assign(list(positions))
            for spot, offset in positions.items():
                self._consumer.seek(spot, offset)
        except KafkaError as error:
            raise ClientError("unknown", _text(error), fatal=True) from error

    def subscribe(self, topics: Sequence[str]) -> None:
        """As `Client.subscribe`."""
        try:
            self._consumer.unsubscribe()
            self._listener = _Listener()
            self._consumer.subscribe(topics, listener=self._listener)
        except KafkaError as error:
            raise ClientError("unknown", _text(error), fatal=True) from error

    def commit(self, positions: Mapping[Spot, int]) -> None:
        """As `Client.commit`."""
        try:
            self._consumer.commit(
                {TopicPartition(*spot): offset for spot, offset in positions.items()}, timeout_ms=COMMIT_SECONDS * 1000
            )
        except KafkaError as error:
            # Also when it is refused at last: it may be a retry that is, and the first try was taken.
            raise ClientError("unknown", _text(error)) from error

    def committed(self, spots: Sequence[Spot]) -> dict[Spot, int | None]:
        """As `Client.committed`."""
        found: dict[Spot, int | None] = {}
        try:
            for spot in spots:
                offset = self._consumer.committed(spot, timeout_ms=COMMIT_SECONDS * 1000)
                assert offset is None or isinstance(offset, int)  # metadata was not asked for
                found[spot] = offset
        except KafkaError as error:
            raise ClientError("unknown", _text(error)) from error
        return found

    def close(self) -> None:
        """As `Client.close`."""
        try:
            self._producer.close(timeout=ANSWER_SECONDS_MAX)
            self._consumer.close()
        except KafkaError as error:
            raise ClientError("unknown", _text(error)) from error


class _Listener(ConsumerRebalanceListener):
    """Notes what comes and goes; the SDK calls it within poll, before that poll gives records."""

    def __init__(self) -> None:
        self.result: PollResult | None = None

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._note(revoked, ())

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._note((), assigned)

    def _note(self, revoked: set[TopicPartition] | tuple[()], assigned: set[TopicPartition] | tuple[()]) -> None:
        if self.result is not None:
            before = len(self.result.records)
            self.result.ownerships.append(Ownership(_spots(revoked), _spots(assigned), before))


def _spots(partitions: set[TopicPartition] | tuple[()]) -> tuple[Spot, ...]:
    return tuple(sorted((one.topic, one.partition) for one in partitions))


def _acked(offset: int) -> SendResult:
    return SendResult("ok", offset if offset >= 0 else None, time.monotonic_ns())


def _not_acked(error: KafkaError) -> SendResult:
    return SendResult(klamm_outcome(error), None, time.monotonic_ns(), _text(error))


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
