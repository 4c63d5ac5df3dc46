"""What the workload asks of a client library: one producer and one consumer, driven by one thread.

Three libraries stand behind it: client_klamm.py, client_confluent.py, client_kafka_python.py. A partition is named by
topic and number; nothing here knows the history's numbering.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from harness.history import Outcome

DELIVERY_TIMEOUT_MS: Final = 12_000
"""Short enough that sends end as unknown while a partition is cut off; long enough for most failovers."""
REQUEST_TIMEOUT_MS: Final = 4_000
ANSWER_SECONDS_MAX: Final = 40.0
"""A library that has not told what came of a record by then is taken to never tell."""
POLL_SECONDS: Final = 0.1
SESSION_TIMEOUT_MS: Final = 6_000
HEARTBEAT_INTERVAL_MS: Final = 500
COMMIT_SECONDS: Final = 8.0

Spot = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one record."""

    outcome: Outcome
    offset: int | None
    ended_ns: int
    error: str | None = None
    fatal: bool = False  # the producer sends nothing more


class Sending:
    """Records handed to a producer, and what came of each so far; the library's threads fill it in."""

    def __init__(self, records: int, *, silence_is_fatal: bool = False) -> None:
        """`silence_is_fatal`: a producer that has told nothing when it is given up will tell nothing of others."""
        self.began = time.monotonic()
        self.fatal = False  # the producer sends nothing more, a record was told
        self._records = records
        self._silence_is_fatal = silence_is_fatal
        self._answers: dict[int, SendResult] = {}

    def answer(self, index: int, result: SendResult) -> None:
        """What became of the record at this place. The first answer counts."""
        self._answers.setdefault(index, result)
        self.fatal = self.fatal or result.fatal

    @property
    def done(self) -> bool:
        """True once there is an answer for every record."""
        return len(self._answers) == self._records

    def results(self) -> list[SendResult]:
        """In the order of the records; where there is no answer, unknown, as of now."""
        given_up = SendResult(
            "unknown", None, time.monotonic_ns(), "nothing was told of it", fatal=self._silence_is_fatal
        )
        return [self._answers.get(index, given_up) for index in range(self._records)]


@dataclass(frozen=True, slots=True)
class PolledRecord:
    """One record that the consumer gave."""

    spot: Spot
    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Ownership:
    """A change of what the consumer owns, told while it polled."""

    revoked: tuple[Spot, ...]
    assigned: tuple[Spot, ...]
    polled_before: int


@dataclass(slots=True)
class PollResult:
    """What one poll gave."""

    records: list[PolledRecord] = field(default_factory=list)
    ownerships: list[Ownership] = field(default_factory=list)
    outcome: Outcome = "ok"
    error: str | None = None
    fatal: bool = False  # the consumer gives nothing more


class ClientError(Exception):
    """The library refused or failed to do it; `outcome` says what that means."""

    def __init__(self, outcome: Outcome, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome
        self.fatal = fatal


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where the cluster is, and what may differ from client to client."""

    servers: str
    group: str
    client_id: str
    compression: str | None = None
    batch_bytes: int = 16_384  # small: several batches of a partition are under way at once


class Client(Protocol):
    """One library's producer and consumer. Only `ClientError` comes out of it."""

    keeps_subscription: bool
    """Subscribing again to the same topics changes nothing: what it has, it keeps, and no listener is told."""

    def send(self, records: Sequence[tuple[Spot, bytes]]) -> Sending:
        """Hands the records to the producer in this order, after all that were handed to it before; waits for none."""

    def poll(self) -> PollResult:
        """What the consumer has, or gets within `POLL_SECONDS`."""

    def assign(self, positions: Mapping[Spot, int]) -> None:
        """Reads these partitions from these offsets. :raises ClientError: it does not."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """Shares these topics with the group. :raises ClientError: it does not."""

    def commit(self, positions: Mapping[Spot, int]) -> None:
        """Commits these offsets. :raises ClientError: they are not, or may not be."""

    def committed(self, spots: Sequence[Spot]) -> dict[Spot, int | None]:
        """What the group has committed. :raises ClientError: nobody tells."""

    def close(self) -> None:
        """Ends both. :raises ClientError: one of them did not end in good order."""
