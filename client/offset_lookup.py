"""Asks the leaders for offsets: the earliest, the latest, the first at or after a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from ..proto.broker_pb2 import (
    ListOffsetsRequest,
    ListOffsetsResponse,
    PartitionListOffsetsRequest,
    PartitionListOffsetsResponse,
)
from ..proto.errors import ErrorCode, KafkaError, KafkaTimeoutError, error_for
from ..proto.identifiers import NONE_ID, TopicPartition
from .backoff import Backoff
from .cluster_client import ClusterClient
from .structs import OffsetAndTimestamp

logger = logging.getLogger(__name__)

OnFound = Callable[[TopicPartition, OffsetAndTimestamp | None], None]
_CALL_TIMEOUT_MS = 2000
"""Short: a leader that hangs is asked again, or the one that follows it."""


async def look_up_offsets(
    cluster: ClusterClient,
    timestamps: Mapping[TopicPartition, int],
    *,
    isolation_level: int,
    timeout_ms: float,
    on_found: OnFound,
) -> None:
    """Looks each partition's offset up and reports it; None where no record is that young. Retries as leaders move.

    :raises KafkaTimeoutError: some could not be found in time. :raises KafkaError: some never will be.
    """
    deadline_ms = cluster.clock.monotonic_ms() + timeout_ms
    backoff = Backoff(cluster.random)
    pending = dict(timestamps)
    reason = ""
    while pending:
        by_leader: dict[int, list[TopicPartition]] = {}
        for topic_partition in pending:
            leader = cluster.cache.leader_of(topic_partition)
            if leader is not None:
                by_leader.setdefault(leader.broker_id, []).append(topic_partition)
        remaining_ms = deadline_ms - cluster.clock.monotonic_ms()
        if remaining_ms <= 0:
            names = ", ".join(map(str, sorted(pending)))
            raise KafkaTimeoutError(f"no offsets of {names} within {timeout_ms:g} ms{': ' if reason else ''}{reason}")
        outcomes = await asyncio.gather(
            *(
                _ask(cluster, broker_id, partitions, pending, isolation_level, min(remaining_ms, _CALL_TIMEOUT_MS))
                for broker_id, partitions in by_leader.items()
            ),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, KafkaError):
                reason = str(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                reason = _take_answers(cluster, outcome.partitions, pending, on_found) or reason
        if pending:
            await _before_retry(cluster, pending, min(backoff.next_ms(), max(1.0, remaining_ms)))


async def _ask(
    cluster: ClusterClient,
    broker_id: int,
    partitions: Collection[TopicPartition],
    timestamps: Mapping[TopicPartition, int],
    isolation_level: int,
    timeout_ms: float,
) -> ListOffsetsResponse:
    request = ListOffsetsRequest(isolation_level=isolation_level)  # type: ignore[arg-type]
    for topic_partition in partitions:
        leader = cluster.cache.leader_of(topic_partition)
        request.partitions.append(
            PartitionListOffsetsRequest(
                topic=topic_partition.topic,
                partition=topic_partition.partition,
                current_leader_epoch=NONE_ID if leader is None else leader.epoch,
                timestamp=timestamps[topic_partition],
            )
        )
    response: ListOffsetsResponse = await cluster.call_broker(broker_id, "ListOffsets", request, timeout_ms)
    return response


def _take_answers(
    cluster: ClusterClient,
    answers: Collection[PartitionListOffsetsResponse],
    pending: dict[TopicPartition, int],
    on_found: OnFound,
) -> str:
    reason = ""
    for answer in answers:
        topic_partition = TopicPartition(answer.topic, answer.partition)
        if topic_partition not in pending:
            continue
        code = ErrorCode.of(answer.error_code)
        if code is ErrorCode.NONE:
            del pending[topic_partition]
            epoch = answer.leader_epoch if answer.leader_epoch >= 0 else None
            none = answer.offset < 0
            on_found(topic_partition, None if none else OffsetAndTimestamp(answer.offset, answer.timestamp, epoch))
        elif code.retriable:
            reason = f"{topic_partition}: {answer.error_message or code.message}"
            if answer.HasField("current_leader"):
                cluster.cache.note_leader(topic_partition, answer.current_leader)
        else:
            raise error_for(code, f"{topic_partition}: {answer.error_message or code.message}")
    return reason


async def _before_retry(cluster: ClusterClient, pending: Collection[TopicPartition], wait_ms: float) -> None:
    await asyncio.sleep(wait_ms / 1000)
    try:
        await cluster.refresh({topic_partition.topic for topic_partition in pending})
    except KafkaError as error:
        logger.info("metadata_refresh_failed error=%s", error)
