"""Incremental fetch sessions (KIP-227), as Apache Kafka's FetchSession keeps them. Pure.

A consumer tells its partitions once; later requests name only what changed, and answers leave out partitions that have
nothing to tell. Which request makes which context:

    session id   epoch   context
    any          -1      sessionless; the session named, if any, is closed
    any          0       full: answers all, and opens a session if there is room; the session named is closed
    known        next    incremental
    otherwise            an error for the request as a whole
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from ...proto.errors import ErrorCode
from ..partition_request import FetchOutcome
from .fetch_request import TOPIC_IDS, FetchPartition, FetchRequest

NO_SESSION: Final = 0
INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
EVICTION_MS: Final = 120_000
"""A session unused for so long makes room for any; one younger than this cannot be pushed out by a larger one."""
CACHED_PARTITIONS_MAX: Final = 1_000_000
"""Over all sessions: past that none is opened, and one that grows is closed. Apache Kafka has no such limit."""

PartitionKey = tuple[str | UUID | None, int]
Answered = tuple[FetchPartition, FetchOutcome]


def partition_key(partition: FetchPartition) -> PartitionKey:
    """By id where topics are named by id, by name otherwise."""
    return partition.topic_id or partition.topic, partition.partition


def next_epoch(epoch: int) -> int:
    """The epoch of a session's next request; after the largest comes 1, as 0 opens a session."""
    return 1 if epoch == 2**31 - 1 else epoch + 1


class CachedPartition:
    """What a session wants of one partition, and what it was told last."""

    __slots__ = ("high_watermark", "log_start_offset", "wanted")

    def __init__(self, wanted: FetchPartition) -> None:
        self.wanted = wanted
        self.high_watermark: int | None = None
        self.log_start_offset: int | None = None

    def take(self, outcome: FetchOutcome) -> bool:
        """Notes what is told; True if there is anything to tell."""
        news = bool(outcome.records) or outcome.is_urgent
        if outcome.high_watermark != self.high_watermark:
            news = True
            self.high_watermark = outcome.high_watermark
        if outcome.log_start_offset != self.log_start_offset:
            news = True
            self.log_start_offset = outcome.log_start_offset
        if outcome.error:
            self.high_watermark = None  # once the error is over, the partition is told of again
        return news


class FetchSession:
    """One session; `cached_size` is what the cache counts it with."""

    __slots__ = ("cached_size", "created_ms", "epoch", "partitions", "session_id", "used_ms", "uses_topic_ids")

    def __init__(self, session_id: int, uses_topic_ids: bool, now_ms: int) -> None:
        self.session_id = session_id
        self.uses_topic_ids = uses_topic_ids
        self.created_ms = now_ms
        self.used_ms = now_ms
        self.epoch = next_epoch(INITIAL_EPOCH)
        self.partitions: dict[PartitionKey, CachedPartition] = {}
        self.cached_size = 0

    def update(self, request: FetchRequest) -> None:
        """What the request adds, changes and forgets."""
        for wanted in request.partitions:
            cached = self.partitions.get(partition_key(wanted))
            if cached is None:
                self.partitions[partition_key(wanted)] = CachedPartition(wanted)
            else:
                cached.wanted = wanted
        for topic, topic_id, number in request.forgotten:
            self.partitions.pop((topic_id or topic, number), None)

    def take(self, answered: Sequence[Answered]) -> list[Answered]:
        """What is to be told of it all. Partitions with records go to the end: all get their turn."""
        told = []
        for partition, outcome in answered:
            key = partition_key(partition)
            cached = self.partitions.get(key)
            if cached is None or not cached.take(outcome):
                continue
            told.append((partition, outcome))
            if outcome.records:
                self.partitions[key] = self.partitions.pop(key)
        return told


class FetchContext:
    """One fetch request and its session: what to read, and what to answer of it."""

    __slots__ = ("_answer", "error", "partitions")

    def __init__(
        self,
        partitions: Sequence[FetchPartition],
        answer: Callable[[Sequence[Answered]], tuple[ErrorCode, int, Sequence[Answered]]],
        error: ErrorCode = ErrorCode.NONE,
    ) -> None:
        self.partitions = partitions
        self.error = error  # of the request as a whole: there is nothing to read
        self._answer = answer

    def answer(self, answered: Sequence[Answered]) -> tuple[ErrorCode, int, Sequence[Answered]]:
        """The error of the whole, the session's id, and the partitions to tell of."""
        return self._answer(answered)


class FetchSessions:
    """All sessions of a broker."""

    def __init__(self, sessions_max: int, new_id: Callable[[], int], *, eviction_ms: int = EVICTION_MS) -> None:
        """`new_id` gives random ids, so that a client of before a restart does not take up the session of another."""
        self._sessions_max = sessions_max
        self._new_id = new_id
        self._eviction_ms = eviction_ms
        self._sessions: dict[int, FetchSession] = {}  # the one unused longest comes first
        self.partition_count = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def context(self, request: FetchRequest, version: int, now_ms: int) -> FetchContext:
        """Takes the request in."""
        if request.session_epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            self._remove(self._sessions.get(request.session_id))
            partitions = list({partition_key(wanted): wanted for wanted in request.partitions}.values())
            if request.session_epoch == FINAL_EPOCH:
                return FetchContext(partitions, _sessionless)
            return FetchContext(partitions, lambda answered: self._open(answered, version >= TOPIC_IDS, now_ms))
        session = self._sessions.get(request.session_id)
        if session is None:
            return _failed(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != request.session_epoch:
            return _failed(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if session.uses_topic_ids != (version >= TOPIC_IDS):
            return _failed(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        session.update(request)
        if self.partition_count - session.cached_size + len(session.partitions) > CACHED_PARTITIONS_MAX:
            self._remove(session)
            return _failed(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if not session.partitions:
            self._remove(session)
            return FetchContext(request.partitions, _sessionless)
        self._touch(session, now_ms)
        session.epoch = next_epoch(session.epoch)
        expected = session.epoch
        wanted = [cached.wanted for cached in session.partitions.values()]
        return FetchContext(wanted, lambda answered: _incremental(session, expected, answered))

    def _open(
        self, answered: Sequence[Answered], uses_topic_ids: bool, now_ms: int
    ) -> tuple[ErrorCode, int, Sequence[Answered]]:
        if not self._make_room(len(answered), now_ms):
            return ErrorCode.NONE, NO_SESSION, answered
        session_id = self._new_id()
        while session_id in self._sessions or not 0 < session_id < 2**31:
            session_id = self._new_id()
        session = FetchSession(session_id, uses_topic_ids, now_ms)
        for partition, outcome in answered:
            cached = session.partitions[partition_key(partition)] = CachedPartition(partition)
            cached.take(outcome)
        self._touch(session, now_ms)
        return ErrorCode.NONE, session_id, answered

    def _make_room(self, size: int, now_ms: int) -> bool:
        """True if there may be one more session, of so many partitions: a stale one goes first, else a smaller one."""
        if self._sessions_max <= 0 or self.partition_count + size > CACHED_PARTITIONS_MAX:
            return False
        if len(self._sessions) < self._sessions_max:
            return True
        oldest = next(iter(self._sessions.values()))
        if now_ms - oldest.used_ms > self._eviction_ms:
            self._remove(oldest)
            return True
        settled = [each for each in self._sessions.values() if now_ms - each.created_ms > self._eviction_ms]
        smallest = min(settled, key=lambda each: (each.cached_size, each.session_id), default=None)
        if smallest is None or (size, 0) < (smallest.cached_size, smallest.session_id):
            return False
        self._remove(smallest)
        return True

    def _touch(self, session: FetchSession, now_ms: int) -> None:
        self._sessions.pop(session.session_id, None)
        self._sessions[session.session_id] = session
        session.used_ms = now_ms
        self.partition_count += len(session.partitions) - session.cached_size
        session.cached_size = len(session.partitions)

    def _remove(self, session: FetchSession | None) -> None:
        if session is not None and self._sessions.pop(session.session_id, None) is not None:
            self.partition_count -= session.cached_size


def _sessionless(answered: Sequence[Answered]) -> tuple[ErrorCode, int, Sequence[Answered]]:
    return ErrorCode.NONE, NO_SESSION, answered


def _failed(error: ErrorCode) -> FetchContext:
    return FetchContext((), lambda _: (error, NO_SESSION, ()), error)


def _incremental(
    session: FetchSession, expected_epoch: int, answered: Sequence[Answered]
) -> tuple[ErrorCode, int, Sequence[Answered]]:
    if session.epoch != expected_epoch:  # the same request came twice, over two connections
        return ErrorCode.INVALID_FETCH_SESSION_EPOCH, session.session_id, ()
    return ErrorCode.NONE, session.session_id, session.take(answered)
