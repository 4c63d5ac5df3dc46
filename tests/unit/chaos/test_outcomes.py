"""What each library's errors say about a send. `failed` is said only of what was certainly not appended."""

from __future__ import annotations

from typing import Any

import kafka.errors  # type: ignore[import-untyped]
import pytest
from chaos.outcomes import (
    CONFLUENT_NOT_APPENDED,
    KAFKA_PYTHON_FATAL,
    KAFKA_PYTHON_NOT_APPENDED,
    KLAMM_NOT_APPENDED,
    confluent_outcome,
    kafka_python_outcome,
    klamm_outcome,
    operation_outcome,
)
from confluent_kafka import KafkaError as ConfluentError
from klamm.proto import errors as klamm_errors

NOT_KNOWN: tuple[str, ...] = (
    "_MSG_TIMED_OUT",
    "_TIMED_OUT",
    "_TRANSPORT",
    "_PURGE_INFLIGHT",
    "_ALL_BROKERS_DOWN",
    "REQUEST_TIMED_OUT",
)
NOT_KNOWN += ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", "NOT_LEADER_FOR_PARTITION", "OUT_OF_ORDER_SEQUENCE_NUMBER")


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_confluent_unknown(name: str) -> None:
    assert ConfluentError(getattr(ConfluentError, name)).name() == name
    assert confluent_outcome(name) == "unknown"


@pytest.mark.parametrize("name", sorted(CONFLUENT_NOT_APPENDED))
def test_confluent_failed(name: str) -> None:
    assert ConfluentError(getattr(ConfluentError, name)).name() == name, "librdkafka has an error of this name"
    assert confluent_outcome(name) == "failed"


@pytest.mark.parametrize(
    "name",
    [
        "KafkaTimeoutError",
        "RequestTimedOutError",
        "KafkaConnectionError",
        "NotEnoughReplicasAfterAppendError",
        "NotLeaderForPartitionError",
        "OutOfOrderSequenceNumberError",
        "UnknownError",
    ],
)
def test_kafka_python_unknown(name: str) -> None:
    assert kafka_python_outcome(getattr(kafka.errors, name)("; not written")) == "unknown"


@pytest.mark.parametrize("name", sorted(KAFKA_PYTHON_NOT_APPENDED))
def test_kafka_python_failed(name: str) -> None:
    assert kafka_python_outcome(getattr(kafka.errors, name)()) == "failed"


@pytest.mark.parametrize("name", sorted(KAFKA_PYTHON_FATAL))
def test_kafka_python_has_every_error_that_is_named(name: str) -> None:
    assert issubclass(getattr(kafka.errors, name), kafka.errors.KafkaError)


@pytest.mark.parametrize("name", sorted(KLAMM_NOT_APPENDED))
def test_klamm_failed(name: str) -> None:
    assert klamm_outcome(getattr(klamm_errors, name)("too large")) == "failed"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (klamm_errors.KafkaTimeoutError("1 records were not acknowledged; not written"), "failed"),
        (klamm_errors.KafkaTimeoutError("1 records were not acknowledged; its outcome is not known"), "unknown"),
        (klamm_errors.RequestTimedOutError("; not written"), "unknown"),
        (klamm_errors.NotEnoughReplicasAfterAppendError(), "unknown"),
        (klamm_errors.KafkaStorageError(), "unknown"),
        (klamm_errors.KafkaError("?"), "unknown"),
    ],
)
def test_klamm_is_held_to_its_word(error: klamm_errors.KafkaError, outcome: str) -> None:
    assert klamm_outcome(error) == outcome


@pytest.mark.parametrize(
    ("outcomes", "of_all"),
    [
        (["ok"], "ok"),
        (["ok", "ok"], "ok"),
        (["failed", "failed"], "failed"),
        (["unknown", "unknown"], "unknown"),
        (["ok", "failed"], "unknown"),
        (["ok", "unknown", "ok"], "unknown"),
    ],
)
def test_a_send_is_what_all_its_records_are(outcomes: list[Any], of_all: str) -> None:
    assert operation_outcome(outcomes) == of_all
