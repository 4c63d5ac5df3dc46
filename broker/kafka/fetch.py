"""Fetch: record batches as they lie in the log; request and answer are read and written by hand.

Versions 4 to 18. 5 adds the log start offset; 7 incremental sessions (KIP-227); 9 the leader epoch (KIP-320); 10 allows
zstd (KIP-110); 11 the rack of the consumer (KIP-392); 12 is flexible and tells where histories diverge; 13 names topics
by id (KIP-516); 14 may answer an error of tiered storage, which is not there; 15 moves the replica's id (KIP-903); 16
tells the addresses of new leaders (KIP-951); 17 and 18 add fields of replicas (KIP-853, KIP-1166).

Replicas do not fetch here but over gRPC: a broker's id as the replica's is refused. There are no transactions yet:
nothing is ever aborted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import LeaderEpoch, Offset
from ..partition_request import Fetch, FetchOutcome, PartitionFetch
from .answer import NO_TAGS, AnswerWriter, tagged
from .fetch_request import FLEXIBLE, SESSIONS, TOPIC_IDS, FetchPartition, FetchRequest, read_request
from .fetch_session import NO_SESSION, Answered, FetchContext
from .leader_hints import LeaderHints
from .rooms import RequestContext
from .route import Deferred, Parts

WAIT_MS_MAX: Final = 300_000
ANY_REPLICA: Final = 11
_HINTED: Final = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})
_UNKNOWN_ID: Final = FetchOutcome(ErrorCode.UNKNOWN_TOPIC_ID)
_REFUSED: Final = FetchOutcome(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
_NONE: Final = -1


def handle(frame: bytearray, position: int, context: RequestContext) -> Parts | Deferred:
    """Answers at once, or once there is enough or time is up; then everything is read anew.

    :raises WireError: the bytes are not a fetch request.
    """
    version = context.api_version
    rooms = context.rooms
    request = read_request(frame, position, version)
    if request.replica_id >= 0:
        return write_answer(
            context, request, ErrorCode.NONE, NO_SESSION, [(each, _REFUSED) for each in request.partitions]
        )
    session = rooms.fetch_sessions.context(request, version, rooms.clock.monotonic_ms())
    if session.error:
        return write_answer(context, request, *session.answer(()))
    fetch, unknown = _fetch_of(session.partitions, request, context)
    replica_manager = rooms.replica_manager
    outcomes = replica_manager.read(fetch)
    news = None if unknown else replica_manager.wait_for_news(fetch, outcomes)
    if news is None:
        return write_answer(context, request, *session.answer(_answered(session, outcomes, unknown)))
    return Deferred(
        news,
        lambda _: write_answer(
            context, request, *session.answer(_answered(session, replica_manager.read(fetch), unknown))
        ),
    )


def _fetch_of(
    wanted: Sequence[FetchPartition], request: FetchRequest, context: RequestContext
) -> tuple[Fetch, frozenset[int]]:
    """What to read; and which of the partitions, by their place, are of a topic id that nobody knows."""
    rooms = context.rooms
    topic_names = rooms.image().topic_names
    by_id = context.api_version >= TOPIC_IDS
    partitions: list[PartitionFetch] = []
    unknown: list[int] = []
    for place, partition in enumerate(wanted):
        topic: str | None = partition.topic
        if by_id:
            topic = None if partition.topic_id is None else topic_names.get(partition.topic_id)
            if topic is None:
                unknown.append(place)
                continue
        partitions.append(
            PartitionFetch(
                topic or "",
                partition.topic_id,
                partition.partition,
                _epoch(partition.current_leader_epoch),
                Offset(partition.fetch_offset),
                max(0, partition.partition_max_bytes),
                _epoch(partition.last_fetched_epoch),
            )
        )
    config = rooms.config
    max_bytes = max(0, min(request.max_bytes, config.fetch_bytes_max, rooms.unsent_answers.bytes_left))
    fetch = Fetch(
        partitions,
        max_wait_ms=max(0, min(request.max_wait_ms, WAIT_MS_MAX)),
        # Who wants more than it may have at once would wait in vain; of nothing, though, there is always enough.
        min_bytes=max(0, min(request.min_bytes, max(1, max_bytes))),
        max_bytes=max_bytes,
        read_committed=request.read_committed,
        from_any_replica=context.api_version >= ANY_REPLICA,
        rack=request.rack_id if config.rack_aware_fetch else "",
    )
    return fetch, frozenset(unknown)


def _epoch(number: int) -> LeaderEpoch | None:
    return None if number < 0 else LeaderEpoch(number)


def _answered(session: FetchContext, outcomes: Sequence[FetchOutcome], unknown: frozenset[int]) -> list[Answered]:
    """Each partition of the session with what came of it."""
    if not unknown:
        return list(zip(session.partitions, outcomes, strict=True))
    rest = iter(outcomes)
    return [
        (partition, _UNKNOWN_ID if place in unknown else next(rest))
        for place, partition in enumerate(session.partitions)
    ]


# --- the answer ------------------------------------------------------------------------------------------------


def write_answer(
    context: RequestContext, request: FetchRequest, error: ErrorCode, session_id: int, answered: Sequence[Answered]
) -> Parts:
    """Partitions that follow one another and have one topic share its entry."""
    version = context.api_version
    image = context.rooms.image()
    answer = AnswerWriter(version >= FLEXIBLE)
    hints = LeaderHints(image) if version >= 16 else None
    answer.int32(0)  # throttle time
    if version >= SESSIONS:
        answer.int16(error)
        answer.int32(session_id)
    aborted_count = 0 if request.read_committed else _NONE
    topics = _by_topic(answered)
    answer.count(len(topics))
    for partitions in topics:
        first = partitions[0][0]
        name: str | None = first.topic
        if version >= TOPIC_IDS:
            answer.uuid(first.topic_id)
            name = None if first.topic_id is None else image.topic_names.get(first.topic_id)
        else:
            answer.string(first.topic)
        answer.count(len(partitions))
        for partition, outcome in partitions:
            hint = b""
            if hints is not None and name is not None and outcome.error in _HINTED:
                hint = hints.current_leader_tag(1, name, partition.partition)
            _write_partition(answer, version, partition.partition, outcome, aborted_count, hint)
        answer.tags(NO_TAGS)
    answer.tags(NO_TAGS if hints is None else hints.node_endpoints_tag(0))
    return answer.parts()


def _by_topic(answered: Sequence[Answered]) -> list[list[Answered]]:
    topics: list[list[Answered]] = []
    last: FetchPartition | None = None
    for entry in answered:
        partition = entry[0]
        if last is None or (partition.topic, partition.topic_id) != (last.topic, last.topic_id):
            topics.append([])
        topics[-1].append(entry)
        last = partition
    return topics


def _write_partition(
    answer: AnswerWriter, version: int, number: int, outcome: FetchOutcome, aborted_count: int, hint: bytes
) -> None:
    error = outcome.error
    if error is ErrorCode.KAFKA_STORAGE_ERROR and version <= 5:
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER  # what clients of that time know, and retry
    answer.int32(number)
    answer.int16(error)
    answer.int64(_NONE if outcome.high_watermark is None else outcome.high_watermark)
    answer.int64(_NONE if outcome.last_stable_offset is None else outcome.last_stable_offset)
    if version >= 5:
        answer.int64(_NONE if outcome.log_start_offset is None else outcome.log_start_offset)
    answer.count(aborted_count)  # of aborted transactions
    if version >= ANY_REPLICA:
        answer.int32(_NONE if outcome.preferred_read_replica is None else outcome.preferred_read_replica)
    answer.records(outcome.records)
    if version >= FLEXIBLE:
        tags = []
        if outcome.diverging_epoch is not None:
            tags.append(tagged(0, _diverging_epoch(*outcome.diverging_epoch)))
        if hint:
            tags.append(hint)
        answer.tags(tags)


def _diverging_epoch(epoch: int, end_offset: int) -> bytes:
    answer = AnswerWriter(True)
    answer.int32(epoch)
    answer.int64(end_offset)
    answer.tags(NO_TAGS)
    return answer.getvalue()
