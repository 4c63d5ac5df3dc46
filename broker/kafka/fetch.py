"""Fetch: record batches as they lie in the log; request and answer are read and written by hand.

Versions 4 to 18. 5 adds the log start offset; 7 incremental sessions (KIP-227); 9 the leader epoch (KIP-320); 10 allows
zstd (KIP-110); 11 the rack of the consumer (KIP-392); 12 is flexible and tells where histories diverge; 13 names topics
by id (KIP-516); 14 may answer an error of tiered storage, which is not there; 15 moves the replica's id (KIP-903); 16
tells the addresses of new leaders (KIP-951); 17 and 18 add fields of replicas (KIP-853, KIP-1166).

Replicas do not fetch here but over gRPC: a replica id other than -1 is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import LeaderEpoch, Offset
from ..partition_request import FetchOutcome, PartitionFetch
from .answer import NO_TAGS, AnswerWriter, tagged
from .fetch_request import FLEXIBLE, SESSIONS, TOPIC_IDS, FetchPartition, FetchRequest, read_request
from .leader_hints import LeaderHints
from .rooms import RequestContext
from .route import Deferred, Parts

WAIT_MS_MAX: Final = 300_000


def handle(frame: bytearray, position: int, context: RequestContext) -> Parts | Deferred:
    request = read_request(frame, position, context.api_version)
    rooms = context.rooms
    names = [
        partition.topic if partition.topic_id is None else rooms.image().topic_names.get(partition.topic_id, "")
        for partition in request.partitions
    ]
    future = asyncio.ensure_future(
        rooms.replica_manager.fetch(
            [
                PartitionFetch(
                    name,
                    partition.topic_id,
                    partition.partition,
                    _epoch(partition.current_leader_epoch),
                    Offset(partition.fetch_offset),
                    max(0, partition.partition_max_bytes),
                    _epoch(partition.last_fetched_epoch),
                )
                for name, partition in zip(names, request.partitions, strict=True)
            ],
            max_wait_ms=max(0, min(request.max_wait_ms, WAIT_MS_MAX)),
            min_bytes=max(0, request.min_bytes),
            max_bytes=max(0, min(request.max_bytes, rooms.config.fetch_bytes_max)),
            read_committed=request.read_committed,
        )
    )
    return Deferred(future, partial(_answer, context, request, names))


def _epoch(number: int) -> LeaderEpoch | None:
    return None if number < 0 else LeaderEpoch(number)


def _answer(
    context: RequestContext, request: FetchRequest, names: Sequence[str], outcomes: Sequence[FetchOutcome]
) -> Parts:
    version = context.api_version
    answer = AnswerWriter(version >= FLEXIBLE)
    hints = LeaderHints(context.rooms.image())
    answer.int32(0)
    if version >= SESSIONS:
        answer.int16(0)
        answer.int32(0)
    answer.count(len(request.partitions))
    for partition, name, outcome in zip(request.partitions, names, outcomes, strict=True):
        if version >= TOPIC_IDS:
            answer.uuid(partition.topic_id)
        else:
            answer.string(partition.topic)
        answer.count(1)
        _write_partition(answer, version, partition, name, outcome, hints)
        answer.tags(NO_TAGS)
    answer.tags(hints.node_endpoints_tag(0) if version >= 16 else NO_TAGS)
    return answer.parts()


def _write_partition(
    answer: AnswerWriter, version: int, partition: FetchPartition, name: str, outcome: FetchOutcome, hints: LeaderHints
) -> None:
    answer.int32(partition.partition)
    answer.int16(outcome.error)
    answer.int64(-1 if outcome.high_watermark is None else outcome.high_watermark)
    answer.int64(-1 if outcome.last_stable_offset is None else outcome.last_stable_offset)
    if version >= 5:
        answer.int64(-1 if outcome.log_start_offset is None else outcome.log_start_offset)
    answer.count(-1)
    if version >= 11:
        answer.int32(-1)
    answer.records(outcome.records)
    if version >= FLEXIBLE:
        tags = []
        if outcome.diverging_epoch is not None:
            diverging = AnswerWriter(True)
            diverging.int32(outcome.diverging_epoch[0])
            diverging.int64(outcome.diverging_epoch[1])
            diverging.tags(NO_TAGS)
            tags.append(tagged(0, diverging.getvalue()))
        if outcome.error in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH):
            tags.append(hints.current_leader_tag(1, name, partition.partition))
        answer.tags([tag for tag in tags if tag])
