"""What a client's error says about a send: was it certainly not appended, or is that unknown? Pure.

`failed` is a strong word: the record is not in the log and never will be. Only errors that say so count; a time-out, a
broken connection, an answer that came after the append, and everything that is not known here, is `unknown`.
"""

from __future__ import annotations

from typing import Final

from harness.history import Outcome

CONFLUENT_NOT_APPENDED: Final = frozenset(
    {
        "_QUEUE_FULL",  # produce() did not take it
        "_PURGE_QUEUE",  # it was thrown away before it was sent
        "_UNKNOWN_PARTITION",
        "_UNKNOWN_TOPIC",
        "MSG_SIZE_TOO_LARGE",
        "INVALID_RECORD",
        "TOPIC_EXCEPTION",
        "TOPIC_AUTHORIZATION_FAILED",
    }
)
"""librdkafka's names of errors, as `KafkaError.name()` tells them."""

KAFKA_PYTHON_NOT_APPENDED: Final = frozenset(
    {
        "MessageSizeTooLargeError",
        "RecordListTooLargeError",
        "InvalidRecordError",
        "InvalidTopicError",
        "TopicAuthorizationFailedError",
    }
)
KLAMM_NOT_APPENDED: Final = frozenset(
    {
        "MessageSizeTooLargeError",
        "RecordListTooLargeError",
        "InvalidRecordError",
        "InvalidTopicError",
        "TopicAuthorizationFailedError",
    }
)
"""Names of classes: the errors of both libraries bear Kafka's names."""

KAFKA_PYTHON_FATAL: Final = frozenset(
    {
        "OutOfOrderSequenceNumberError",
        "InvalidProducerEpochError",
        "ProducerFencedError",
        "UnknownProducerIdError",
        "IllegalStateError",
        "UnsupportedVersionError",
        "KafkaError",  # itself: it got no producer id in time, and does not ask for one again
    }
)
"""After these the producer sends nothing more; a new one takes its place."""

_SDK_NOT_WRITTEN: Final = "; not written"


def confluent_outcome(name: str) -> Outcome:
    """Of a delivery report with this error."""
    return "failed" if name in CONFLUENT_NOT_APPENDED else "unknown"


def kafka_python_outcome(error: BaseException) -> Outcome:
    """Of a future that failed with this error."""
    return "failed" if type(error).__name__ in KAFKA_PYTHON_NOT_APPENDED else "unknown"


def klamm_outcome(error: BaseException) -> Outcome:
    """Of a future of the SDK's that failed with this error.

    When time runs out the SDK says whether a batch was ever sent: it is held to its word.
    """
    if type(error).__name__ in KLAMM_NOT_APPENDED:
        return "failed"
    if type(error).__name__ == "KafkaTimeoutError" and _SDK_NOT_WRITTEN in str(error):
        return "failed"
    return "unknown"


def operation_outcome(outcomes: list[Outcome]) -> Outcome:
    """Of a send of several records: ok when all are, failed when all are, else unknown."""
    first = outcomes[0]
    return first if all(outcome == first for outcome in outcomes) else "unknown"
