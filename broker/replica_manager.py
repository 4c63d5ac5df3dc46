"""Owns this broker's replicas: takes produces and fetches to those it leads, and keeps the others copying.

Doors (gRPC, Kafka) call `produce`, `fetch` and `list_offset`; the metadata follower calls `on_metadata`. Everything
here runs on one event loop, and nothing of a partition changes across an await, so there are no locks. Appends are done
at once, but for batches that must be prepared aside and those behind them (`slow_appends.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from ..cluster.clock import Clock
from ..cluster.image import MetadataImage
from ..proto.errors import ErrorCode, KafkaError, KafkaStorageError, OutOfOrderSequenceNumberError
from ..proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicId, TopicIdPartition, TopicPartition
from ..proto.record_batch import HEADER_SIZE, Buffer, parse_header
from .batch_preparation import PreparedBatch, UnpreparedBatch
from .deadline_timer import DeadlineTimer
from .keyed_records import InvalidRecordsError
from .leader_replica import LeaderReplica
from .leadership import still_leads
from .log.consumer_read import read_for_consumer
from .log.log_manager import LogManager
from .log.producer_state import ProducerEntry
from .offset_lookup import epoch_end_offset, list_offset
from .partition import Partition
from .partition_request import (
    EpochEndOffsetOutcome,
    Fetch,
    FetchOutcome,
    ListOffsetOutcome,
    PartitionFetch,
    PartitionProduce,
    ProduceOutcome,
)
from .partitions import Partitions
from .purgatory import WaitingFetch, WaitingProduce
from .record_deletion import RecordDeletion, RecordDeletionOutcome, delete_records
from .refused_batches import RefusedBatches
from .replication.command_sender import Submit
from .replication.replication_service import ReplicationServicer, ReplicationStreams
from .replication.transport import ReplicaTransport
from .slow_appends import Appended, SlowAppends, Wait

__all__ = [
    "Fetch",
    "FetchOutcome",
    "ListOffsetOutcome",
    "PartitionFetch",
    "PartitionProduce",
    "ProduceOutcome",
    "ReplicaConfig",
    "ReplicaManager",
]

logger = logging.getLogger(__name__)

ACKS_ALL: Final = -1
_GIVEN_UP: Final = ProduceOutcome(ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_LEADER_OR_FOLLOWER.message)
_UNKNOWN_OUTCOME: Final = frozenset({ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND})


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """Settings of replication on one broker."""

    replica_lag_time_max_ms: int = 10_000
    topic_defaults: Mapping[str, str] = field(default_factory=dict)  # from the broker's file, broker-level names
    tick_ms: int = 500


class ReplicaManager:
    """See the module. `start` before the first metadata, `shutdown` after the last request."""

    def __init__(
        self,
        *,
        broker_id: BrokerId,
        log_manager: LogManager,
        clock: Clock,
        broker_epoch: Callable[[], BrokerEpoch],
        submit: Submit,
        config: ReplicaConfig | None = None,
        transport: ReplicaTransport | None = None,
        random: Random | None = None,
        on_fatal: Callable[[Exception], None] | None = None,
        in_touch: Callable[[], bool] | None = None,
    ) -> None:
        """`submit` has the controllers carry out a command, keeping its request id; REQUEST_TIMED_OUT if unknown.

        `in_touch` is false while the controllers may have fenced this broker without its knowing; None: it never is.
        `on_fatal` is called when an invariant broke: the process must end.
        """
        config = config or ReplicaConfig()
        self._clock = clock
        self.in_touch: Final = in_touch or (lambda: True)
        self._partitions = Partitions(
            broker_id=broker_id,
            log_manager=log_manager,
            clock=clock,
            broker_epoch=broker_epoch,
            submit=submit,
            replica_lag_time_max_ms=config.replica_lag_time_max_ms,
            topic_defaults=config.topic_defaults,
            tick_ms=config.tick_ms,
            transport=transport,
            random=random or Random(),
            on_fatal=on_fatal or _log_fatal,
        )
        self._produce_timer: DeadlineTimer[WaitingProduce] = DeadlineTimer(clock, WaitingProduce.time_out)
        self._slow_appends = SlowAppends(self)
        self._refused_batches = RefusedBatches()
        self._fetch_timer: DeadlineTimer[WaitingFetch] = DeadlineTimer(clock, WaitingFetch.finish)

    # --- life ------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> ReplicationStreams:
        """The followers' streams to this broker."""
        return self._partitions.streams

    def servicer(self) -> ReplicationServicer:
        """Service Replication, to be added to the gRPC server."""
        return ReplicationServicer(self._partitions.streams)

    def get(self, topic: str, partition: int) -> Partition | None:
        """The replica of this partition here, if there is one."""
        return self._partitions.by_name.get((topic, partition))

    def high_watermark_of(self, topic_id_partition: TopicIdPartition) -> Offset | None:
        """For the log manager's checkpoints and retention; None where this broker has no replica (yet)."""
        return self._partitions.high_watermark_of(topic_id_partition)

    async def start(self) -> None:
        """Begins the work in the background, the log manager's too."""
        await self._partitions.start()

    async def on_metadata(self, old: MetadataImage, new: MetadataImage) -> None:
        """Takes up what changed from `old` to `new`."""
        await self._partitions.on_metadata(old, new)

    def set_aside_strays(self, image: MetadataImage) -> int:
        """Sets aside every log of an unknown topic or of another broker's replica (rule 24); returns how many.

        To be called once, when the metadata is known to be current (rule 20): before, any topic may look unknown.
        """
        return self._partitions.set_aside_strays(image)

    async def shutdown(self) -> None:
        """Stops fetching and leading; whoever waits is answered. The logs stay open: they are the log manager's."""
        await self._slow_appends.shutdown()
        await self._partitions.shutdown()
        self._produce_timer.close()
        self._fetch_timer.close()

    # --- produce ---------------------------------------------------------------------------------------------

    def produce(
        self, requests: Sequence[PartitionProduce], acks: int, timeout_ms: int
    ) -> Awaitable[list[ProduceOutcome]]:
        """Appends each batch, now and in order; what is returned waits for the ISR if `acks` is -1 (all)."""
        outcomes = self.append(requests, acks, timeout_ms)
        if not isinstance(outcomes, list):
            return outcomes
        future: asyncio.Future[list[ProduceOutcome]] = asyncio.get_running_loop().create_future()
        future.set_result(outcomes)
        return future

    def append(
        self, requests: Sequence[PartitionProduce], acks: int, timeout_ms: int
    ) -> list[ProduceOutcome] | asyncio.Future[list[ProduceOutcome]]:
        """As `produce`, without a future where there is nothing to wait for."""
        outcomes: list[ProduceOutcome] = []
        waits: list[Wait] = []
        slow: list[tuple[int, PartitionProduce]] = []
        slow_names: set[tuple[str, int]] = set()  # a request may name a partition twice: in its order, too
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
        for index, request in enumerate(requests):
            appended = None
            name = (request.topic, request.partition)
            if name not in slow_names and not (self._slow_appends.any and name in self._slow_appends):
                appended = self._append(request, acks, now_ms, wall_ms)
            if appended is None or isinstance(appended, UnpreparedBatch):
                slow.append((index, request))
                slow_names.add(name)
                outcomes.append(_GIVEN_UP)
                continue
            outcome, leader, required = appended
            outcomes.append(outcome)
            if leader is not None and required is not None:
                waits.append((index, leader, required))
        if slow:
            return self._slow_appends.add(slow, outcomes, waits, acks, timeout_ms)
        if not waits:
            return outcomes
        future: asyncio.Future[list[ProduceOutcome]] = asyncio.get_running_loop().create_future()
        self.wait_for_isr(outcomes, waits, timeout_ms, future)
        return future

    def _append(
        self,
        request: PartitionProduce,
        acks: int,
        now_ms: int,
        wall_ms: int,
        prepared: PreparedBatch | None = None,
    ) -> Appended | UnpreparedBatch:
        """The outcome so far, and under acks=all what to wait for, unless that is reached already."""
        found = self._leading(request.topic, request.topic_id, request.partition, request.current_leader_epoch)
        if isinstance(found, ErrorCode):
            return self._refused(request, found, found.message, now_ms), None, None
        partition, leader = found
        state = leader.state
        if acks not in (ACKS_ALL, 0, 1):
            return ProduceOutcome(ErrorCode.INVALID_REQUIRED_ACKS, ErrorCode.INVALID_REQUIRED_ACKS.message), None, None
        if acks == ACKS_ALL and state.under_min_isr:
            message = f"{len(state.isr.committed)} in sync, min.insync.replicas is {state.min_isr}"
            return self._refused(request, ErrorCode.NOT_ENOUGH_REPLICAS, message, now_ms), None, None
        overtaken = self._overtaken(request, partition, now_ms) if self._refused_batches else None
        if overtaken is not None:
            return ProduceOutcome(overtaken, "a batch before this one was refused, and has not come again"), None, None
        try:
            appended = leader.append(request.records, partition.config, now_ms, wall_ms, prepared)
        except KafkaError as error:
            if isinstance(error, KafkaStorageError):
                partition.suspend(error)
                self._refused(request, error.error_code, str(error), now_ms)
            elif isinstance(error, OutOfOrderSequenceNumberError):
                outcome = self._out_of_order(request, partition, leader, error, now_ms)
                if outcome is None:
                    return self._append(request, acks, now_ms, wall_ms, prepared)
                return outcome, None, None
            return self.refusal(error), None, None
        if isinstance(appended, UnpreparedBatch):
            return appended
        outcome = ProduceOutcome(
            ErrorCode.NONE, "", appended.base_offset, appended.log_append_time_ms, partition.log.log_start_offset
        )
        required = Offset(appended.last_offset + 1)
        if acks != ACKS_ALL or partition.high_watermark >= required:
            return outcome, None, None
        return outcome, leader, required

    def _refused(self, request: PartitionProduce, error: ErrorCode, message: str, now_ms: int) -> ProduceOutcome:
        """What the producer is told. What it sends behind is not to be taken before this has come again."""
        if error.retriable and len(request.records) >= HEADER_SIZE:
            partition = self._partitions.by_name.get((request.topic, request.partition))
            states = None if partition is None else partition.log.producer_states
            header = parse_header(request.records)
            self._refused_batches.refused(request.topic, request.partition, header, states, error, now_ms)
        return ProduceOutcome(error, message)

    def _overtaken(self, request: PartitionProduce, partition: Partition, now_ms: int) -> ErrorCode | None:
        """What it is to be told if it came past a batch that was refused; see `refused_batches`."""
        if len(request.records) < HEADER_SIZE:
            return None
        header, states = parse_header(request.records), partition.log.producer_states
        return self._refused_batches.overtaken_by(request.topic, request.partition, header, states, now_ms)

    def _out_of_order(
        self, request: PartitionProduce, partition: Partition, leader: LeaderReplica, error: KafkaError, now_ms: int
    ) -> ProduceOutcome | None:
        """Only a first leader has got all that was sent before: see `refused_batches`. None: it is to be taken."""
        if leader.leader_epoch > 0:
            header, states = parse_header(request.records), partition.log.producer_states
            name, refused = (request.topic, request.partition), self._refused_batches
            if states.get(header.producer_id) is None and refused.gave_up(*name, header, now_ms):
                logger.warning(
                    "producer_taken_at_any_sequence partition=%s epoch=%d producer=%d sequence=%d",
                    partition,
                    leader.leader_epoch,
                    header.producer_id,
                    header.base_sequence,
                )
                states.take_any_sequence_of(header.producer_id)
                return None
            code = refused.came_early(*name, header, states, leader.leader_epoch, now_ms)
            if code is not None:
                return ProduceOutcome(code, f"{error}; to come again behind what is under way")
        return self.refusal(error)

    def wait_for_isr(
        self,
        outcomes: list[ProduceOutcome],
        waits: Sequence[Wait],
        timeout_ms: int,
        future: asyncio.Future[list[ProduceOutcome]],
    ) -> None:
        def complete(waiting: WaitingProduce) -> None:
            self._produce_timer.discard(waiting)
            for (index, _, _), error in zip(waits, waiting.errors, strict=True):
                if error is not None and error is not ErrorCode.NONE:
                    outcomes[index] = ProduceOutcome(error, error.message)
            if not future.done():
                future.set_result(outcomes)

        waiting = WaitingProduce(len(waits), complete)
        for position, (_, leader, required) in enumerate(waits):
            leader.produces.add(required, waiting, position)
        self._produce_timer.add(waiting, timeout_ms)

    def append_one(
        self, request: PartitionProduce, acks: int, prepared: PreparedBatch | None
    ) -> Appended | UnpreparedBatch:
        """For `SlowAppends`: one append whose turn has come."""
        return self._append(request, acks, self._clock.monotonic_ms(), self._clock.wall_ms(), prepared)

    def refusal(self, error: KafkaError) -> ProduceOutcome:
        """What a producer is told of a batch that was not appended."""
        record_errors = error.record_errors if isinstance(error, InvalidRecordsError) else ()
        return ProduceOutcome(error.error_code, str(error), record_errors=record_errors)

    def topic_id_of(self, topic: str, partition: int) -> TopicId | None:
        """Of the replica here that has this name now, if there is one."""
        found = self._partitions.by_name.get((topic, partition))
        return None if found is None else found.topic_id_partition.topic_id

    # --- fetch -----------------------------------------------------------------------------------------------

    async def fetch(
        self,
        requests: Sequence[PartitionFetch],
        max_wait_ms: int,
        min_bytes: int,
        max_bytes: int,
        read_committed: bool = False,
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> list[FetchOutcome]:
        """Reads up to the high watermark; waits for `min_bytes` unless there is more already or else to tell.

        `admit` is awaited before each reading: whoever asks can be made to wait without holding what was read.
        """
        fetch = Fetch(requests, max_wait_ms, min_bytes, max_bytes, read_committed)
        if admit is not None:
            await admit()
        outcomes = self.read(fetch)
        news = self.wait_for_news(fetch, outcomes)
        if news is None:
            return outcomes
        await news
        if admit is not None:
            await admit()
        return self.read(fetch)

    def wait_for_news(self, fetch: Fetch, outcomes: Sequence[FetchOutcome]) -> asyncio.Future[None] | None:
        """None if `outcomes` are to be told at once; else done when it is time to read again, or cancelled."""
        size_bytes = sum([len(outcome.records) for outcome in outcomes])
        if (
            size_bytes >= fetch.min_bytes
            or fetch.max_wait_ms <= 0
            or not outcomes
            or any(outcome.is_urgent or outcome.stops_short for outcome in outcomes)
        ):
            return self._confirmation(fetch, outcomes)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = WaitingFetch(
            fetch.min_bytes - size_bytes, lambda _: None if future.done() else future.set_result(None)
        )
        for request in fetch.partitions:
            partition = self._partitions.by_name.get((request.topic, request.partition))
            if partition is not None:
                waiting.wait_on(partition.fetches)
        self._fetch_timer.add(waiting, fetch.max_wait_ms)

        def end(_: asyncio.Future[None]) -> None:
            self._fetch_timer.discard(waiting)
            waiting.finish()

        future.add_done_callback(end)
        return future

    def _confirmation(self, fetch: Fetch, outcomes: Sequence[FetchOutcome]) -> asyncio.Future[None] | None:
        """None unless a reader is past the end here: then done once it is known whether this broker leads still."""
        asked = [
            request for request, outcome in zip(fetch.partitions, outcomes, strict=True) if outcome.to_be_confirmed
        ]
        return asyncio.ensure_future(self._confirm(fetch, asked)) if asked else None

    async def _confirm(self, fetch: Fetch, requests: Sequence[PartitionFetch]) -> None:
        leaders = []
        for topic, _, number, *_ in requests:
            partition = self._partitions.by_name.get((topic, number))
            if partition is not None and partition.leader is not None:
                leaders.append((topic, number, partition.leader))
        confirmed = await asyncio.gather(*(self._confirm_one(leader) for _, _, leader in leaders))
        fetch.confirmed.update(
            (topic, number, leader.leader_epoch)
            for (topic, number, leader), leads in zip(leaders, confirmed, strict=True)
            if leads
        )

    async def _confirm_one(self, leader: LeaderReplica) -> bool:
        # Who is alone needs nobody's word, but an unclean election asks for nobody's either.
        return await still_leads(leader, self.in_touch) and (bool(leader.state.possible_successors) or self.in_touch())

    def read(self, fetch: Fetch) -> list[FetchOutcome]:
        """What there is now; at least one batch, if there is one at all."""
        left_bytes = fetch.max_bytes
        nothing_yet = True
        outcomes = []
        for request in fetch.partitions:
            outcome = self._read_one(fetch, request, left_bytes, nothing_yet)
            outcomes.append(outcome)
            if outcome.records:
                nothing_yet = False
                left_bytes -= len(outcome.records)
        return outcomes

    def _read_one(self, fetch: Fetch, request: PartitionFetch, left_bytes: int, nothing_yet: bool) -> FetchOutcome:
        found = self._readable(fetch, request)
        if isinstance(found, ErrorCode):
            return FetchOutcome(found, found.message)
        partition, leader = found
        if leader is not None and fetch.rack:
            replica = self._partitions.preferred_read_replica(leader, fetch.rack, request.fetch_offset)
            if replica is not None:
                return _fetch_outcome(partition, preferred_read_replica=replica)
        diverging = _divergence(partition, request)
        if isinstance(diverging, ErrorCode):
            return _fetch_outcome(partition, diverging, diverging.message)
        if diverging is not None:
            return _fetch_outcome(partition, diverging_epoch=diverging)
        if (
            leader is not None
            and request.fetch_offset > partition.log.log_end_offset
            and (request.topic, request.partition, leader.leader_epoch) not in fetch.confirmed
        ):
            # Another may lead by now, and hold that offset. OFFSET_OUT_OF_RANGE would have the reader begin anew.
            return _fetch_outcome(
                partition,
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"offset {request.fetch_offset} is past the end here, and nobody confirms that this broker leads still",
                to_be_confirmed=True,
            )
        if not partition.log.log_start_offset <= request.fetch_offset <= partition.log.log_end_offset:
            return _fetch_outcome(
                partition, ErrorCode.OFFSET_OUT_OF_RANGE, f"offset {request.fetch_offset} is not in the log"
            )
        if leader is None and request.fetch_offset > partition.high_watermark:
            # The leader may know more to be committed than this follower was told of yet (KIP-392).
            return _fetch_outcome(
                partition, ErrorCode.OFFSET_NOT_AVAILABLE, f"offset {request.fetch_offset} is not known to be committed"
            )
        max_bytes = min(request.partition_max_bytes, left_bytes)
        if request.fetch_offset >= partition.high_watermark or (max_bytes <= 0 and not nothing_yet):
            return _fetch_outcome(partition)
        try:
            records = read_for_consumer(
                partition.log,
                request.fetch_offset,
                max_bytes=max(max_bytes, 0),
                end_offset=partition.high_watermark,
                min_one_batch=nothing_yet,
            )
        except KafkaStorageError as error:
            partition.suspend(error)
            return FetchOutcome(error.error_code, str(error))
        except KafkaError as error:
            return _fetch_outcome(partition, error.error_code, str(error))
        return _fetch_outcome(partition, records=records)

    def _readable(self, fetch: Fetch, request: PartitionFetch) -> tuple[Partition, LeaderReplica | None] | ErrorCode:
        """As `_leading`, but that a follower will do where the fetch says so."""
        found = self._leading(request.topic, request.topic_id, request.partition, request.current_leader_epoch)
        if found is not ErrorCode.NOT_LEADER_OR_FOLLOWER or not fetch.from_any_replica:
            return found
        partition = self._partitions.by_name.get((request.topic, request.partition))
        if partition is None or partition.leader_epoch is None:
            return found
        return (partition, None) if partition.failure is None else ErrorCode.KAFKA_STORAGE_ERROR

    # --- offsets ---------------------------------------------------------------------------------------------

    def list_offset(
        self,
        topic_partition: TopicPartition,
        timestamp: int,
        current_leader_epoch: LeaderEpoch | None,
        read_committed: bool = False,
        *,
        committed_only: bool = True,
        leader_only: bool = True,
    ) -> ListOffsetOutcome:
        """See `offset_lookup.list_offset`; without `leader_only` any replica answers from what it has.

        There are no transactions yet: what `read_committed` hides is nothing more.
        """
        found = self._replica(topic_partition, current_leader_epoch, leader_only)
        if isinstance(found, ErrorCode):
            return ListOffsetOutcome(found, found.message)
        return list_offset(found, timestamp, committed_only=committed_only)

    def epoch_end_offset(
        self, topic_partition: TopicPartition, epoch: int, current_leader_epoch: LeaderEpoch | None
    ) -> EpochEndOffsetOutcome:
        """Where an epoch ended in the leader's log (KIP-320); see `offset_lookup.epoch_end_offset`."""
        found = self._replica(topic_partition, current_leader_epoch)
        return EpochEndOffsetOutcome(found) if isinstance(found, ErrorCode) else epoch_end_offset(found, epoch)

    def _replica(
        self, topic_partition: TopicPartition, current_leader_epoch: LeaderEpoch | None, leader_only: bool = True
    ) -> Partition | ErrorCode:
        found = self._leading(topic_partition.topic, None, topic_partition.partition, current_leader_epoch)
        if isinstance(found, tuple):
            return found[0]
        if not leader_only and found is ErrorCode.NOT_LEADER_OR_FOLLOWER:
            return self.get(*topic_partition) or found
        return found

    def active_producers(self, topic_partition: TopicPartition) -> list[tuple[int, ProducerEntry]] | ErrorCode:
        """Producer ids that the replica here remembers, with what it knows of them (KIP-664); leader or not."""
        partition = self.get(*topic_partition)
        if partition is None:
            return self._partitions.why_absent(topic_partition.topic, None, topic_partition.partition)
        if partition.failure is not None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        states = partition.log.producer_states
        return [(producer_id, entry) for producer_id in states if (entry := states.get(producer_id)) is not None]

    async def delete_records(self, deletions: Sequence[RecordDeletion], timeout_ms: int) -> list[RecordDeletionOutcome]:
        """Moves log starts and waits for the replicas to follow (KIP-107); see `record_deletion`."""
        return await delete_records(
            deletions, timeout_ms, lambda name: self._leading(name.topic, None, name.partition, None), self._clock
        )

    # --- who leads -------------------------------------------------------------------------------------------

    def _leading(
        self, topic: str, topic_id: TopicId | None, number: int, current_leader_epoch: LeaderEpoch | None
    ) -> tuple[Partition, LeaderReplica] | ErrorCode:
        """The partition and its leadership here, or why it cannot be served here (rule 15)."""
        partition = self._partitions.by_name.get((topic, number))
        if partition is None:
            return self._partitions.why_absent(topic, topic_id, number)
        if topic_id is not None and topic_id != partition.topic_id_partition.topic_id:
            return self._partitions.why_absent(topic, topic_id, number)
        if current_leader_epoch is not None and partition.leader_epoch is not None:
            if current_leader_epoch < partition.leader_epoch:
                return ErrorCode.FENCED_LEADER_EPOCH
            if current_leader_epoch > partition.leader_epoch:
                return ErrorCode.UNKNOWN_LEADER_EPOCH
        leader = partition.leader
        if leader is None:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return (partition, leader) if partition.failure is None else ErrorCode.KAFKA_STORAGE_ERROR


def _divergence(partition: Partition, request: PartitionFetch) -> tuple[LeaderEpoch, Offset] | ErrorCode | None:
    """Where the reader's history leaves this log, if it does (KIP-320)."""
    asked = request.last_fetched_epoch
    if asked is None:
        return None
    if partition.leader_epoch is not None and asked > partition.leader_epoch:
        return ErrorCode.UNKNOWN_LEADER_EPOCH  # it is this broker that is behind, not the reader
    epoch, end_offset = partition.log.end_offset_for_epoch(asked)
    if epoch is None:
        return ErrorCode.OFFSET_OUT_OF_RANGE
    if epoch < asked or end_offset < request.fetch_offset:
        return epoch, end_offset
    return None


def _fetch_outcome(
    partition: Partition,
    error: ErrorCode = ErrorCode.NONE,
    message: str = "",
    *,
    records: Buffer = b"",
    diverging_epoch: tuple[LeaderEpoch, Offset] | None = None,
    preferred_read_replica: BrokerId | None = None,
    to_be_confirmed: bool = False,
) -> FetchOutcome:
    # There are no transactions yet: all that is committed by the ISR is stable.
    high_watermark = partition.high_watermark
    return FetchOutcome(
        error,
        message,
        high_watermark,
        high_watermark,
        partition.log.log_start_offset,
        records,
        diverging_epoch,
        preferred_read_replica,
        to_be_confirmed,
    )


def _log_fatal(error: Exception) -> None:
    logger.critical("invariant_broken error=%s", error, exc_info=error)
