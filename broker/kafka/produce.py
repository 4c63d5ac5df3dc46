"""Produce: record batches are appended, each to its partition; request and answer are read and written by hand.

Versions 3 to 13. 3 is the first with record batches (magic 2); 4 may answer KAFKA_STORAGE_ERROR; 5 adds the log start
offset; 7 allows zstd (KIP-110); 8 adds the message of an error (KIP-467); 9 is flexible; 10 names the new leader with
NOT_LEADER_OR_FOLLOWER (KIP-951); 11 and 12 are the same for a producer without transactions (KIP-890); 13 names topics
by id (KIP-516).

Transactions are not supported: a transactional id or a transactional batch is refused. Batches of formats 0 and 1 are
refused with UNSUPPORTED_FOR_MESSAGE_FORMAT, where Apache Kafka says INVALID_RECORD.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from ...cluster.topic_config import is_internal_topic
from ...proto.errors import ErrorCode
from ...proto.record_batch import (
    COMPRESSION_MASK,
    COMPRESSION_NAMES,
    HEADER_SIZE,
    LENGTH_OVERHEAD,
    MAGIC_V2,
    TRANSACTIONAL_FLAG,
)
from ..partition_request import PartitionProduce, ProduceOutcome
from .answer import NO_TAGS, AnswerWriter
from .leader_hints import LeaderHints
from .rooms import RequestContext
from .route import Deferred, Parts
from .wire import Cursor, WireError

FLEXIBLE: Final = 9
TIMEOUT_MS_MAX: Final = 300_000
ADMIN_CLIENT_ID: Final = "__admin_client"
_ZSTD: Final = COMPRESSION_NAMES.index("zstd")
_MAGIC_OFFSET: Final = 16
_ATTRIBUTES_OFFSET: Final = 21
_UNKNOWN_ID: Final = ProduceOutcome(ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_ID.message)


class Topic(NamedTuple):
    """One topic of a request, and which of the request's partitions are its own."""

    name: str
    topic_id: UUID | None
    first: int
    end: int


class Request(NamedTuple):
    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[Topic]
    partitions: list[tuple[int, memoryview | None]]  # partition and records


def read_request(frame: bytearray, position: int, version: int) -> Request:
    """:raises WireError: the bytes are not a produce request."""
    flexible = version >= FLEXIBLE
    cursor = Cursor(frame, position)
    transactional_id = cursor.nullable_string(flexible)
    acks, timeout_ms = cursor.int16(), cursor.int32()
    topics: list[Topic] = []
    partitions: list[tuple[int, memoryview | None]] = []
    for _ in range(_count(cursor, flexible)):
        topic_id = cursor.uuid() if version >= 13 else None
        name = "" if version >= 13 else cursor.string(flexible)
        first = len(partitions)
        for _ in range(_count(cursor, flexible)):
            index = cursor.int32()
            length = cursor.length(flexible)
            partitions.append((index, None if length == -1 else cursor.view(length)))
            if flexible:
                cursor.skip_tags()
        if flexible:
            cursor.skip_tags()
        topics.append(Topic(name, topic_id, first, len(partitions)))
    return Request(transactional_id, acks, timeout_ms, topics, partitions)


def _count(cursor: Cursor, flexible: bool) -> int:
    count = cursor.count(flexible)
    if count < 0:
        raise WireError("a null array where there must be one")
    return count


def handle(frame: bytearray, position: int, context: RequestContext) -> Parts | Deferred | None:
    """Appends at once, in the order of the requests; the answer may have to wait for the replicas.

    :raises WireError: the bytes are not a produce request, or one without an answer (acks=0) failed: the connection is
        closed, for that is the only way to tell.
    """
    request = read_request(frame, position, context.api_version)
    image = context.rooms.image()
    outcomes: list[ProduceOutcome | None] = []
    accepted: list[PartitionProduce] = []
    names: list[str] = []
    for topic in request.topics:
        name = topic.name
        refusal: ProduceOutcome | None = None
        if context.api_version >= 13:
            name = "" if topic.topic_id is None else image.topic_names.get(topic.topic_id, "")
            refusal = None if name else _UNKNOWN_ID
        names.append(name)
        if is_internal_topic(name) and context.client_id != ADMIN_CLIENT_ID:
            refusal = _refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot append to internal topic {name}")
        for index, records in request.partitions[topic.first : topic.end]:
            outcome = refusal or _complaint_about(records, request.transactional_id, context.api_version)
            outcomes.append(outcome)
            if outcome is None and records is not None:
                accepted.append(PartitionProduce(name, topic.topic_id, index, None, records))
    future = context.rooms.replica_manager.produce(
        accepted, acks=request.acks, timeout_ms=max(0, min(request.timeout_ms, TIMEOUT_MS_MAX))
    )
    return Deferred(future, partial(_answer, context, request, names, outcomes))


def _complaint_about(records: memoryview | None, transactional_id: str | None, version: int) -> ProduceOutcome | None:
    """What is wrong with a partition's records before anything of the partition is known."""
    if transactional_id is not None:
        return _refused(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not supported")
    if records is None or len(records) < HEADER_SIZE:
        if records is not None and len(records) > _MAGIC_OFFSET and records[_MAGIC_OFFSET] < MAGIC_V2:
            return _old_format(records[_MAGIC_OFFSET])
        return _refused(ErrorCode.INVALID_RECORD, "there must be one whole record batch per partition")
    if records[_MAGIC_OFFSET] != MAGIC_V2:
        if records[_MAGIC_OFFSET] < MAGIC_V2:
            return _old_format(records[_MAGIC_OFFSET])
        return _refused(ErrorCode.INVALID_RECORD, f"record batch with magic {records[_MAGIC_OFFSET]}; 2 is taken")
    size = LENGTH_OVERHEAD + int.from_bytes(records[8:12], "big", signed=True)
    if size != len(records) and size >= HEADER_SIZE:
        return _refused(
            ErrorCode.INVALID_RECORD, f"there must be exactly one record batch per partition, of {len(records)} bytes"
        )
    attributes = records[_ATTRIBUTES_OFFSET + 1]
    if version < 7 and attributes & COMPRESSION_MASK == _ZSTD:
        return _refused(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs version 7 of Produce")
    if attributes & TRANSACTIONAL_FLAG:
        return _refused(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not supported")
    if any(records[:8]):
        return _refused(ErrorCode.INVALID_RECORD, "the base offset of a produced record batch is 0")
    return None


def _refused(error: ErrorCode, message: str) -> ProduceOutcome:
    return ProduceOutcome(error, message)


def _old_format(magic: int) -> ProduceOutcome:
    return _refused(ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, f"records of format v{magic}; only v2 (magic 2) is taken")


# --- the answer ------------------------------------------------------------------------------------------------


def _answer(
    context: RequestContext,
    request: Request,
    names: Sequence[str],
    refused: Sequence[ProduceOutcome | None],
    appended: Sequence[ProduceOutcome],
) -> Parts | None:
    rest = iter(appended)
    outcomes = [next(rest) if outcome is None else outcome for outcome in refused]
    if request.acks == 0:
        _raise_first_error(request, names, outcomes)
        return None
    return write_answer(context, request, names, outcomes)


def _raise_first_error(request: Request, names: Sequence[str], outcomes: Sequence[ProduceOutcome]) -> None:
    for topic, name in zip(request.topics, names, strict=True):
        for number in range(topic.first, topic.end):
            if outcomes[number].error:
                error = outcomes[number].error
                raise WireError(f"produce with acks=0 to {name}-{request.partitions[number][0]} failed: {error.name}")


def write_answer(
    context: RequestContext, request: Request, names: Sequence[str], outcomes: Sequence[ProduceOutcome]
) -> Parts:
    version = context.api_version
    flexible = version >= FLEXIBLE
    hints = LeaderHints(context.rooms.image()) if version >= 10 else None
    answer = AnswerWriter(flexible)
    answer.count(len(request.topics))
    for topic, name in zip(request.topics, names, strict=True):
        if version >= 13:
            answer.uuid(topic.topic_id)
        else:
            answer.string(name)
        answer.count(topic.end - topic.first)
        for number in range(topic.first, topic.end):
            _write_partition(answer, version, request.partitions[number][0], outcomes[number], name, hints)
        answer.tags(NO_TAGS)
    answer.int32(0)  # throttle time
    answer.tags(hints.node_endpoints_tag(0) if hints is not None else NO_TAGS)
    return (answer.getvalue(),)


def _write_partition(
    answer: AnswerWriter, version: int, index: int, outcome: ProduceOutcome, name: str, hints: LeaderHints | None
) -> None:
    error = outcome.error
    answer.int32(index)
    answer.int16(error)
    answer.int64(-1 if outcome.base_offset is None else outcome.base_offset)
    answer.int64(-1 if outcome.log_append_time_ms is None else outcome.log_append_time_ms)
    if version >= 5:
        answer.int64(-1 if outcome.log_start_offset is None else outcome.log_start_offset)
    if version >= 8:
        answer.count(0)  # errors of single records: batches are not looked into
        answer.nullable_string(outcome.message if error else None)
    if version >= FLEXIBLE:
        hint = hints.current_leader_tag(0, name, index) if hints and error is ErrorCode.NOT_LEADER_OR_FOLLOWER else b""
        answer.tags((hint,) if hint else NO_TAGS)
