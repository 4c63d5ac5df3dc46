"""Produce: record batches are appended, each to its partition; request and answer are read and written by hand.

Versions 3 to 13. 3 is the first with record batches (magic 2); 4 may answer KAFKA_STORAGE_ERROR; 5 adds the log start
offset; 7 allows zstd (KIP-110); 8 adds the message of an error (KIP-467); 9 is flexible; 10 names the new leader with
NOT_LEADER_OR_FOLLOWER (KIP-951); 11 and 12 are the same for a producer without transactions (KIP-890); 13 names topics
by id (KIP-516).

Transactions are not supported: a transactional id or a transactional batch is refused. Batches of formats 0 and 1 are
refused with UNSUPPORTED_FOR_MESSAGE_FORMAT, where Apache Kafka says INVALID_RECORD.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from ...cluster.topic_config import INTERNAL_TOPICS
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
from .answer import NO_TAGS, AnswerWriter, uvarint
from .leader_hints import LeaderHints
from .rooms import RequestContext
from .route import Deferred, Parts
from .wire import Cursor, WireError

FLEXIBLE: Final = 9
TOPIC_IDS: Final = 13
TIMEOUT_MS_MAX: Final = 300_000
ADMIN_CLIENT_ID: Final = "__admin_client"
_ZERO_ID: Final = bytes(16)
_ZSTD: Final = COMPRESSION_NAMES.index("zstd")
_MAGIC_OFFSET: Final = 16
_BEGIN: Final = struct.Struct(">BhiB")
_ONE_PARTITION: Final = struct.Struct(">BiB")
_NO_TAGS_AT_ALL: Final = b"\0\0\0"
_ONE_APPENDED: Final = struct.Struct(">BihqqqBBBBiB")
_ACKS_AND_TIMEOUT: Final = struct.Struct(">hi")
_BATCH_BEGIN: Final = struct.Struct(">qiibIh")
_PARTITION: Final = struct.Struct(">ihqq")
_TRANSACTIONAL: Final = ProduceOutcome(
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not supported"
)
_UNKNOWN_ID: Final = ProduceOutcome(ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_ID.message)


class Partition(NamedTuple):
    """One partition of a request; its records lie in the request's bytes from `start` to `end`; -1, -1: null."""

    number: int
    start: int
    end: int


class Topic(NamedTuple):
    name: str
    topic_id: UUID | None  # None where topics go by name, and for the zero id
    partitions: list[Partition]


class Request(NamedTuple):
    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[Topic]


def read_request(frame: bytearray, position: int, version: int) -> Request:
    """:raises WireError: the bytes are not a produce request."""
    if version >= FLEXIBLE:
        request = _read_one_batch(frame, position, version)
        if request is not None:
            return request
    return _read_any(frame, position, version)


def _read_any(frame: bytearray, position: int, version: int) -> Request:
    flexible = version >= FLEXIBLE
    cursor = Cursor(frame, position)
    transactional_id = cursor.nullable_string(flexible)
    acks, timeout_ms = cursor.unpack(_ACKS_AND_TIMEOUT)
    topics: list[Topic] = []
    for _ in range(cursor.full_count(flexible)):
        topic_id = cursor.uuid() if version >= TOPIC_IDS else None
        name = "" if version >= TOPIC_IDS else cursor.string(flexible)
        partitions: list[Partition] = []
        for _ in range(cursor.full_count(flexible)):
            index = cursor.int32()
            start, end = cursor.extent(flexible)
            partitions.append(Partition(index, start, end))
            if flexible:
                cursor.skip_tags()
        if flexible:
            cursor.skip_tags()
        topics.append(Topic(name, topic_id, partitions))
    return Request(transactional_id, acks, timeout_ms, topics)


def _read_one_batch(frame: bytearray, position: int, version: int) -> Request | None:
    """The request of one batch without transaction, in a third of the time: most have this form. None: it has not."""
    try:
        transactional_id, acks, timeout_ms, topic_count = _BEGIN.unpack_from(frame, position)
        position += _BEGIN.size
        name, topic_id = "", None
        if version >= TOPIC_IDS:
            topic_id = UUID(bytes=bytes(frame[position : position + 16]))
            position += 16
            if not topic_id.int:
                return None
        else:
            size = frame[position]
            if not 1 <= size <= 0x7F:
                return None
            name = frame[position + 1 : position + size].decode()
            position += size
        partition_count, number, size = _ONE_PARTITION.unpack_from(frame, position)
        if transactional_id or topic_count != 2 or partition_count != 2:
            return None
        position += _ONE_PARTITION.size
        shift = 7
        if size > 0x7F:
            size &= 0x7F
            while frame[position] > 0x7F and shift < 28:
                size |= (frame[position] & 0x7F) << shift
                shift += 7
                position += 1
            size |= frame[position] << shift
            position += 1
    except (struct.error, IndexError, ValueError):
        return None
    end = position + size - 1
    if size < 1 or frame[end : end + 3] != _NO_TAGS_AT_ALL:
        return None
    return Request(None, acks, timeout_ms, [Topic(name, topic_id, [Partition(number, position, end)])])


def handle(frame: bytearray, position: int, context: RequestContext) -> Parts | Deferred | None:
    """Appends at once, in the order of the requests; the answer may have to wait for the replicas.

    :raises WireError: the bytes are not a produce request, or one without an answer (acks=0) failed: the connection is
        closed, for that is the only way to tell.
    """
    version = context.api_version
    request = read_request(frame, position, version)
    topic_names = context.rooms.image().topic_names if version >= TOPIC_IDS else {}
    view = memoryview(frame)
    refused: list[ProduceOutcome | None] = []
    accepted: list[PartitionProduce] = []
    names: list[str] = []
    for topic in request.topics:
        name: str = topic.name
        refusal: ProduceOutcome | None = None
        if version >= TOPIC_IDS:
            name = "" if topic.topic_id is None else topic_names.get(topic.topic_id, "")
            refusal = None if name else _UNKNOWN_ID
        names.append(name)
        if request.transactional_id is not None:
            refusal = _TRANSACTIONAL
        elif name in INTERNAL_TOPICS and context.client_id != ADMIN_CLIENT_ID:
            refusal = _refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot append to internal topic {name}")
        for index, start, end in topic.partitions:
            outcome = refusal or _complaint_about(frame, start, end, version)
            refused.append(outcome)
            if outcome is None:
                accepted.append(PartitionProduce(name, topic.topic_id, index, None, view[start:end]))
    timeout_ms = max(0, min(request.timeout_ms, TIMEOUT_MS_MAX))
    outcomes = context.rooms.replica_manager.append(accepted, request.acks, timeout_ms)
    if isinstance(outcomes, list):
        return _answer(context, request, names, refused, outcomes)
    return Deferred(outcomes, partial(_answer, context, request, names, refused))


def _complaint_about(frame: bytearray, start: int, end: int, version: int) -> ProduceOutcome | None:
    """What is wrong with a partition's records before anything of the partition is known."""
    if end - start < HEADER_SIZE:
        if end - start > _MAGIC_OFFSET and frame[start + _MAGIC_OFFSET] < MAGIC_V2:
            return _old_format(frame[start + _MAGIC_OFFSET])
        return _refused(ErrorCode.INVALID_RECORD, "there must be one whole record batch per partition")
    base_offset, length, _, magic, _, attributes = _BATCH_BEGIN.unpack_from(frame, start)
    if magic != MAGIC_V2:
        if 0 <= magic < MAGIC_V2:
            return _old_format(magic)
        return _refused(ErrorCode.INVALID_RECORD, f"record batch with magic {magic}; only 2 is taken")
    if LENGTH_OVERHEAD + length != end - start:
        return _refused(
            ErrorCode.INVALID_RECORD,
            f"there must be exactly one record batch per partition; it says {LENGTH_OVERHEAD + length} bytes of the "
            f"{end - start} that were sent",
        )
    if attributes & TRANSACTIONAL_FLAG:
        return _TRANSACTIONAL
    if version < 7 and attributes & COMPRESSION_MASK == _ZSTD:
        return _refused(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs version 7 of Produce")
    if base_offset:
        return _refused(ErrorCode.INVALID_RECORD, f"the base offset of a produced batch is 0, not {base_offset}")
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
    rest = iter(outcomes)
    for topic, name in zip(request.topics, names, strict=True):
        for partition in topic.partitions:
            error = next(rest).error
            if error:
                raise WireError(f"produce with acks=0 to {name}-{partition.number} failed: {error.name}")


def write_answer(
    context: RequestContext, request: Request, names: Sequence[str], outcomes: Sequence[ProduceOutcome]
) -> Parts:
    version = context.api_version
    flexible = version >= FLEXIBLE
    if flexible and len(outcomes) == 1 and len(names) == 1 and not outcomes[0].error:
        return (_answer_of_one_batch(request.topics[0], version, outcomes[0]),)
    answer = AnswerWriter(flexible)
    hints: LeaderHints | None = None
    rest = iter(outcomes)
    answer.count(len(request.topics))
    for topic, name in zip(request.topics, names, strict=True):
        if version >= TOPIC_IDS:
            answer.uuid(topic.topic_id)
        else:
            answer.string(name)
        answer.count(len(topic.partitions))
        for partition in topic.partitions:
            outcome = next(rest)
            _write_partition(answer, version, partition.number, outcome)
            if not flexible:
                continue
            hint = b""
            if version >= 10 and outcome.error is ErrorCode.NOT_LEADER_OR_FOLLOWER:
                hints = hints or LeaderHints(context.rooms.image())
                hint = hints.current_leader_tag(0, name, partition.number)
            answer.tags((hint,) if hint else NO_TAGS)
        answer.tags(NO_TAGS)
    answer.int32(0)  # throttle time
    answer.tags(NO_TAGS if hints is None else hints.node_endpoints_tag(0))
    return (answer.getvalue(),)


def _answer_of_one_batch(topic: Topic, version: int, outcome: ProduceOutcome) -> bytes:
    """As `write_answer` for one partition without an error, of flexible versions."""
    append_time = outcome.log_append_time_ms
    appended = _ONE_APPENDED.pack(
        2,  # one partition
        topic.partitions[0].number,
        0,  # no error
        -1 if outcome.base_offset is None else outcome.base_offset,
        -1 if append_time is None else append_time,
        -1 if outcome.log_start_offset is None else outcome.log_start_offset,
        1,  # no errors of records
        0,  # nor a message
        0,  # no tagged fields of the partition
        0,  # nor of the topic
        0,  # throttle time
        0,  # no tagged fields
    )
    if version >= TOPIC_IDS:
        return b"\2" + (_ZERO_ID if topic.topic_id is None else topic.topic_id.bytes) + appended
    name = topic.name.encode()
    return b"\2" + uvarint(len(name) + 1) + name + appended


def _write_partition(answer: AnswerWriter, version: int, index: int, outcome: ProduceOutcome) -> None:
    error = outcome.error
    answer.pack(
        _PARTITION,
        index,
        error,
        -1 if outcome.base_offset is None else outcome.base_offset,
        -1 if outcome.log_append_time_ms is None else outcome.log_append_time_ms,
    )
    if version >= 5:
        answer.int64(-1 if outcome.log_start_offset is None else outcome.log_start_offset)
    if version >= 8:
        answer.count(len(outcome.record_errors))
        for batch_index, reason in outcome.record_errors:
            answer.int32(batch_index)
            answer.nullable_string(reason)
            answer.tags(())
        answer.nullable_string(outcome.message if error else None)
