"""The gRPC door for clients: service Broker of proto/broker.proto, the calls that move records and describe things.

It decodes requests, asks the rooms behind it (`replica_manager`, the metadata image) and encodes their answers; it
holds no rule of its own. The administrative calls are in grpc_admin.py, those of consumer groups in grpc_groups.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Final
from uuid import UUID

from ..cluster.topic_config import is_internal_topic
from ..proto import broker_pb2, broker_pb2_grpc
from ..proto.errors import ErrorCode, KafkaError
from ..proto.identifiers import GRPC_MESSAGE_BYTES_MAX, NONE_ID, LeaderEpoch, Offset, TopicPartition
from .answer_budget import AnswerBudget
from .description import leader_hint
from .groups.coordinator import GroupCoordinator
from .grpc_admin import AdminCalls, AdminRooms
from .grpc_errors import Context, abort
from .grpc_groups import GroupCalls
from .metadata_description import MetadataDescriptions
from .produce_stream import ProduceStream
from .producer_ids import ProducerIds
from .replica_manager import (
    FetchOutcome,
    ListOffsetOutcome,
    PartitionFetch,
    PartitionProduce,
    ProduceOutcome,
    ReplicaManager,
)

PARTITIONS_PER_REQUEST_MAX: Final = 10_000
PRODUCE_REQUESTS_IN_FLIGHT_MAX: Final = 256
"""Of one stream; past that it is not read on until an answer has gone out, so a client that stops reading its answers
stops being read and holds no more memory than this many answers."""
FETCH_BYTES_MAX: Final = GRPC_MESSAGE_BYTES_MAX // 2
UNREAD_FETCH_BYTES_MAX: Final = FETCH_BYTES_MAX
"""Of one connection: past that its fetches wait until it reads. gRPC keeps an answer about three times until then."""
WAIT_MS_MAX: Final = 300_000

_WITH_LEADER_HINT: Final = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})
_ALLOWED_ACKS: Final = (-1, 0, 1)


def _topic_id(data: bytes) -> UUID | None:
    return UUID(bytes=data) if len(data) == 16 else None


def _leader_epoch(number: int) -> LeaderEpoch | None:
    return None if number < 0 else LeaderEpoch(number)


async def _with_refused(
    request: broker_pb2.ProduceRequest, produced: Awaitable[Sequence[ProduceOutcome]]
) -> Sequence[ProduceOutcome]:
    """The outcomes with those of internal topics among them: their records are the coordinators' own."""
    outcomes = iter(await produced)
    error = ErrorCode.INVALID_TOPIC_EXCEPTION
    return [
        ProduceOutcome(error, f"Cannot append to internal topic {partition.topic}")
        if is_internal_topic(partition.topic)
        else next(outcomes)
        for partition in request.partitions
    ]


class BrokerService(AdminCalls, GroupCalls, broker_pb2_grpc.BrokerServicer):
    """Service Broker. One object serves every client."""

    def __init__(
        self,
        rooms: AdminRooms,
        replica_manager: ReplicaManager,
        producer_ids: ProducerIds,
        groups: GroupCoordinator,
    ) -> None:
        super().__init__(rooms)
        self._groups = groups
        self._replica_manager = replica_manager
        self._producer_ids = producer_ids
        self._descriptions = MetadataDescriptions()
        self._unread = AnswerBudget(UNREAD_FETCH_BYTES_MAX)
        self._produce_streams: set[ProduceStream] = set()

    async def shutdown(self) -> None:
        """Ends the produce streams, which clients keep open: a stop would wait for them in vain."""
        for stream in self._produce_streams:
            stream.end()

    # --- produce ---------------------------------------------------------------------------------------------

    async def Produce(self, request: broker_pb2.ProduceRequest, context: Context) -> broker_pb2.ProduceResponse:
        complaint = self._complaint_about(request)
        if complaint:
            await abort(context, *complaint)
        return self._produce_response(request, await self._start_produce(request))

    async def ProduceStream(
        self, requests: AsyncIterator[broker_pb2.ProduceRequest], context: Context
    ) -> AsyncIterator[broker_pb2.ProduceResponse]:
        stream = ProduceStream(
            check=self._complaint_about,
            start=self._start_produce,
            answer=self._produce_response,
            in_flight_max=PRODUCE_REQUESTS_IN_FLIGHT_MAX,
        )
        self._produce_streams.add(stream)
        reader = asyncio.create_task(stream.read(requests), name="produce-stream-reader")
        try:
            async for response in stream.responses():
                yield response
        finally:
            self._produce_streams.discard(stream)
            reader.cancel()
            stream.close()
        if stream.complaint:
            await abort(context, *stream.complaint)

    def _complaint_about(self, request: broker_pb2.ProduceRequest) -> tuple[ErrorCode, str] | None:
        if request.acks not in _ALLOWED_ACKS:
            return ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {request.acks}; it must be -1 (all), 0 or 1"
        if len(request.partitions) > PARTITIONS_PER_REQUEST_MAX:
            limit = PARTITIONS_PER_REQUEST_MAX
            return ErrorCode.INVALID_REQUEST, f"{len(request.partitions)} partitions; a request may name {limit}"
        return None

    def _start_produce(self, request: broker_pb2.ProduceRequest) -> Awaitable[Sequence[ProduceOutcome]]:
        """Appends at once, in the order of the calls; what is returned waits for the replicas."""
        allowed = [partition for partition in request.partitions if not is_internal_topic(partition.topic)]
        produced = self._replica_manager.produce(
            [
                PartitionProduce(
                    topic=partition.topic,
                    topic_id=_topic_id(partition.topic_id),
                    partition=partition.partition,
                    current_leader_epoch=_leader_epoch(partition.current_leader_epoch),
                    records=partition.records,
                )
                for partition in allowed
            ],
            acks=request.acks,
            timeout_ms=max(0, min(request.timeout_ms, WAIT_MS_MAX)),
        )
        return produced if len(allowed) == len(request.partitions) else _with_refused(request, produced)

    def _produce_response(
        self, request: broker_pb2.ProduceRequest, outcomes: Sequence[ProduceOutcome]
    ) -> broker_pb2.ProduceResponse:
        response = broker_pb2.ProduceResponse(request_id=request.request_id)
        for partition, outcome in zip(request.partitions, outcomes, strict=True):
            response.partitions.add(
                topic=partition.topic,
                partition=partition.partition,
                error_code=outcome.error,
                error_message=outcome.message,
                base_offset=NONE_ID if outcome.base_offset is None else outcome.base_offset,
                log_append_time_ms=NONE_ID if outcome.log_append_time_ms is None else outcome.log_append_time_ms,
                log_start_offset=NONE_ID if outcome.log_start_offset is None else outcome.log_start_offset,
                current_leader=self._hint(outcome.error, partition.topic, partition.partition),
            )
        return response

    # --- fetch and offsets -----------------------------------------------------------------------------------

    async def Fetch(self, request: broker_pb2.FetchRequest, context: Context) -> broker_pb2.FetchResponse:
        if len(request.partitions) > PARTITIONS_PER_REQUEST_MAX:
            await abort(
                context, ErrorCode.INVALID_REQUEST, f"a request may name {PARTITIONS_PER_REQUEST_MAX} partitions"
            )
        peer = context.peer()
        outcomes = await self._replica_manager.fetch(
            [
                PartitionFetch(
                    topic=partition.topic,
                    topic_id=_topic_id(partition.topic_id),
                    partition=partition.partition,
                    current_leader_epoch=_leader_epoch(partition.current_leader_epoch),
                    fetch_offset=Offset(partition.fetch_offset),
                    partition_max_bytes=max(0, partition.partition_max_bytes),
                    last_fetched_epoch=_leader_epoch(partition.last_fetched_epoch),
                )
                for partition in request.partitions
            ],
            max_wait_ms=max(0, min(request.max_wait_ms, WAIT_MS_MAX)),
            min_bytes=max(0, request.min_bytes),
            max_bytes=max(0, min(request.max_bytes, FETCH_BYTES_MAX)),
            read_committed=request.isolation_level == broker_pb2.READ_COMMITTED,
            admit=lambda: self._unread.admit(peer),
        )
        size_bytes = sum(len(outcome.records) for outcome in outcomes)
        if size_bytes:
            self._unread.hold(peer, size_bytes)
            # The stubs ask for a class where grpc takes any function.
            context.add_done_callback(lambda _: self._unread.release(peer, size_bytes))  # type: ignore[arg-type]
        return broker_pb2.FetchResponse(
            partitions=[
                self._fetch_answer(partition, outcome)
                for partition, outcome in zip(request.partitions, outcomes, strict=True)
            ]
        )

    def _fetch_answer(
        self, partition: broker_pb2.PartitionFetchRequest, outcome: FetchOutcome
    ) -> broker_pb2.PartitionFetchResponse:
        diverging = outcome.diverging_epoch
        return broker_pb2.PartitionFetchResponse(
            topic=partition.topic,
            partition=partition.partition,
            error_code=outcome.error,
            error_message=outcome.message,
            high_watermark=NONE_ID if outcome.high_watermark is None else outcome.high_watermark,
            last_stable_offset=NONE_ID if outcome.last_stable_offset is None else outcome.last_stable_offset,
            log_start_offset=NONE_ID if outcome.log_start_offset is None else outcome.log_start_offset,
            current_leader=self._hint(outcome.error, partition.topic, partition.partition),
            records=bytes(outcome.records),
            diverging_epoch=NONE_ID if diverging is None else diverging[0],
            diverging_epoch_end_offset=NONE_ID if diverging is None else diverging[1],
        )

    async def ListOffsets(
        self, request: broker_pb2.ListOffsetsRequest, context: Context
    ) -> broker_pb2.ListOffsetsResponse:
        read_committed = request.isolation_level == broker_pb2.READ_COMMITTED
        return broker_pb2.ListOffsetsResponse(
            partitions=[
                self._list_offsets_answer(
                    partition,
                    self._replica_manager.list_offset(
                        TopicPartition(partition.topic, partition.partition),
                        partition.timestamp,
                        _leader_epoch(partition.current_leader_epoch),
                        read_committed,
                    ),
                )
                for partition in request.partitions
            ]
        )

    def _list_offsets_answer(
        self, partition: broker_pb2.PartitionListOffsetsRequest, outcome: ListOffsetOutcome
    ) -> broker_pb2.PartitionListOffsetsResponse:
        return broker_pb2.PartitionListOffsetsResponse(
            topic=partition.topic,
            partition=partition.partition,
            error_code=outcome.error,
            error_message=outcome.message,
            timestamp=NONE_ID if outcome.timestamp is None else outcome.timestamp,
            offset=NONE_ID if outcome.offset is None else outcome.offset,
            leader_epoch=NONE_ID if outcome.leader_epoch is None else outcome.leader_epoch,
            current_leader=self._hint(outcome.error, partition.topic, partition.partition),
        )

    def _hint(self, error: ErrorCode, topic: str, partition: int) -> broker_pb2.LeaderHint | None:
        return leader_hint(self._image(), topic, partition) if error in _WITH_LEADER_HINT else None

    # --- the rest --------------------------------------------------------------------------------------------

    async def GetMetadata(self, request: broker_pb2.MetadataRequest, context: Context) -> broker_pb2.MetadataResponse:
        if request.all_topics:
            return await self._descriptions.describe(self._image(), None)
        names = list(dict.fromkeys(request.topics))
        if request.allow_auto_topic_creation:
            await self._rooms.create_missing(names)
        return await self._descriptions.describe(self._image(), names)

    async def InitProducerId(
        self, request: broker_pb2.InitProducerIdRequest, context: Context
    ) -> broker_pb2.InitProducerIdResponse:
        try:
            producer_id, producer_epoch = await self._producer_ids.init(request.producer_id, request.producer_epoch)
        except KafkaError as error:
            return broker_pb2.InitProducerIdResponse(error_code=error.error_code, error_message=str(error))
        return broker_pb2.InitProducerIdResponse(producer_id=producer_id, producer_epoch=producer_epoch)
