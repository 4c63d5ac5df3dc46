"""The leader's side of one partition replica: the log, the leader's core, and everyone who waits on the two.

The core (`replication/leader.py`) decides; this carries its effects out at once and in order: a new high watermark
answers produces and fetches that waited for it and is passed on to followers, an ISR change goes to the sender.
Nothing here awaits, so between two awaits of anybody else a partition is always in one consistent state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from ..cluster.topic_config import INTERNAL_TOPICS, TopicConfig
from ..proto.errors import ErrorCode, InvalidRecordError, InvalidTimestampError, KafkaError, MessageSizeTooLargeError
from ..proto.identifiers import RECORD_BATCH_BYTES_MAX, BrokerEpoch, BrokerId, LeaderEpoch, Offset
from ..proto.record_batch import Buffer, RecordBatchHeader, check_produced_batch
from .batch_preparation import PreparedBatch, UnpreparedBatch, needs_preparation, prepare, prepare_in_line
from .purgatory import FetchQueue, ProduceQueue
from .replication.confirmations import Confirmations, Done
from .replication.isr import IsrProposal
from .replication.leader import Effects, HighWatermarkAdvanced, IsrChanged, LeaderState, SendAlterPartition
from .replication.offsets import UNKNOWN_OFFSET

if TYPE_CHECKING:
    from .log.partition_log import AppendedBatch
    from .partition import Partition

PartitionKey = tuple[bytes, int]
"""Topic id, as its 16 bytes, and partition: how partitions are looked up for messages between brokers."""

_SURELY_ENOUGH_BYTES: Final = 1 << 40


class ArmedStream(Protocol):
    """A follower's stream that waits for news of a partition."""

    def data_ready(self, key: PartitionKey) -> None:
        """There is something to say at once; the stream is no longer armed for this partition."""

    def high_watermark_ready(self, key: PartitionKey) -> None:
        """The high watermark moved, which can wait a little for data to ride on."""


class LeaderReplica:
    """Lives from the begin of one leader epoch to its end."""

    def __init__(self, partition: Partition, state: LeaderState, produces: ProduceQueue | None = None) -> None:
        self._partition = partition
        self._log = partition.log
        self.state: Final = state
        self.produces = ProduceQueue() if produces is None else produces
        self.fetches: Final = FetchQueue()
        self.armed: Final[dict[ArmedStream, None]] = {}
        # Ends and sizes of the batches above the high watermark: what waiting fetches count.
        self._uncommitted: Final[deque[tuple[Offset, int]]] = deque()
        if state.log_end_offset > state.high_watermark:
            self._uncommitted.append((state.log_end_offset, _SURELY_ENOUGH_BYTES))
        self.low_watermark_listeners: Final[dict[Callable[[], None], None]] = {}
        self.follower_log_starts: Final[dict[BrokerId, Offset]] = {}
        self._confirmations: Final = Confirmations()
        if state.under_min_isr:
            self.produces.decide_all(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)

    @property
    def leader_epoch(self) -> LeaderEpoch:
        return self.state.leader_epoch

    # --- produce ---------------------------------------------------------------------------------------------

    def append(
        self,
        records: Buffer,
        config: TopicConfig,
        now_ms: int,
        wall_ms: int,
        prepared: PreparedBatch | None = None,
    ) -> AppendedBatch | UnpreparedBatch:
        """Checks one produced batch and appends it; a writable memoryview is patched in place. Nothing is appended if
        the batch is to be prepared aside first: then it comes again with `prepared`.

        :raises KafkaError: it was not appended; KafkaStorageError: nor can others be, the disk failed.
        """
        if prepared is not None and prepared.suits(config):
            records, header = prepared.records, prepared.header
        else:
            prepared = None
            header = check_produced_batch(records, size_bytes_max=RECORD_BATCH_BYTES_MAX)
        # The topic's settings may be stricter than when a batch was first appended: its retry is a duplicate all the
        # same. Refused, the client would think that it is not there and write it again in other words (rule 17).
        if not self._is_duplicate(header):
            _check_batch_of_client(header, config, wall_ms)
            if prepared is None and needs_preparation(header, config):
                prepared = self._prepare(records, header, config)
                if prepared is None:
                    return UnpreparedBatch(records, header, config)
                records, header = prepared.records, prepared.header
                _check_size(header, config)
        appended = self._log.append_as_leader(
            records if isinstance(records, memoryview) and not records.readonly else bytearray(records),
            leader_epoch=self.state.leader_epoch,
            now_ms=wall_ms,
            log_append_time=config.log_append_time,
            header=header,
        )
        if not appended.duplicate:
            self._uncommitted.append((self._log.log_end_offset, len(records)))
            self.carry_out(self.state.appended(self._log.log_end_offset, now_ms))
            self._tell_armed()
            self._partition.host.unsettled(self._partition)
        return appended

    def _prepare(self, records: Buffer, header: RecordBatchHeader, config: TopicConfig) -> PreparedBatch | None:
        if self._partition.topic in INTERNAL_TOPICS:  # coordinators count on it that theirs are appended at once
            return prepare(records, header, config)
        return prepare_in_line(records, header, config)

    def _is_duplicate(self, header: RecordBatchHeader) -> bool:
        if header.producer_id < 0 or header.is_control:
            return False
        try:
            return self._log.producer_states.check(header, self.state.leader_epoch) is not None
        except KafkaError:  # the append itself says so, once the settings allow the batch
            return False

    def _tell_armed(self) -> None:
        if self.armed:
            key = self._partition.key
            streams = tuple(self.armed)
            self.armed.clear()
            for stream in streams:
                stream.data_ready(key)

    # --- followers -------------------------------------------------------------------------------------------

    def follower_fetched(
        self, broker_id: BrokerId, broker_epoch: BrokerEpoch, fetch_offset: Offset, now_ms: int
    ) -> None:
        """A follower's log agrees with this one up to `fetch_offset`."""
        self.carry_out(self.state.follower_fetched(broker_id, broker_epoch, fetch_offset, now_ms))

    # --- whether this still leads ----------------------------------------------------------------------------

    def wanted_from(self, broker_id: BrokerId) -> int:
        """The round that goes to this follower with what it is sent; 0: none."""
        return self._confirmations.wanted_from(broker_id)

    def confirm(self, done: Done) -> None:
        """Tells `done`, once, whether nobody else had begun to lead when this was called; perhaps at once.

        It takes as long as the slowest of those who might, be that for ever: see `leadership.still_leads`.
        """
        self._confirmations.begin(done)
        self._confirmations.settle(self.state.possible_successors)
        if self._confirmations.waiting:
            self.state.asked(self._partition.host.clock.monotonic_ms())
            self._tell_armed()
            self._partition.host.unsettled(self._partition)

    def ticked(self, now_ms: int) -> None:
        """Time went by. Who owes an answer is asked anew: it may have passed over what the question came with."""
        self.carry_out(self.state.ticked(now_ms))
        if any(follower.asked for follower in self.state.followers.values()):
            self._tell_armed()

    def confirm_no_more(self, done: Done) -> None:
        """`done` need not be told any more."""
        self._confirmations.forget(done)

    def confirmed(self, broker_id: BrokerId, confirmed_round: int) -> None:
        """A follower has sent this round back, in this leader epoch; 0: none yet."""
        if not self._confirmations.begun:
            return
        self._confirmations.heard(broker_id, confirmed_round)
        if not self._confirmations.wanted_from(broker_id):
            self.state.confirmed(broker_id)
        if self._confirmations.waiting:
            self._confirmations.settle(self.state.possible_successors)

    # --- the log start ---------------------------------------------------------------------------------------

    @property
    def low_watermark(self) -> Offset:
        """The least log start of all replicas on active brokers; -1 while one of them has not told its own."""
        active = self._partition.host.active_brokers
        starts = (
            self.follower_log_starts.get(broker_id, UNKNOWN_OFFSET)
            for broker_id in self.state.followers
            if broker_id in active
        )
        return min((self._log.log_start_offset, *starts))

    def advance_log_start_to(self, offset: Offset) -> None:
        """Deletes the records below. :raises KafkaStorageError: the disk failed."""
        if self._log.advance_log_start_to(offset):
            for stream in tuple(self.armed):
                stream.high_watermark_ready(self._partition.key)

    def follower_log_start(self, broker_id: BrokerId, log_start_offset: Offset) -> None:
        """Where a follower's log begins."""
        if self.follower_log_starts.get(broker_id) != log_start_offset:
            self.follower_log_starts[broker_id] = log_start_offset
            for listener in tuple(self.low_watermark_listeners):
                listener()

    # --- effects ---------------------------------------------------------------------------------------------

    def carry_out(self, effects: Effects) -> None:
        """What the core decided, in its order."""
        for effect in effects:
            if isinstance(effect, HighWatermarkAdvanced):
                self._high_watermark_advanced(effect.high_watermark)
            elif isinstance(effect, SendAlterPartition):
                self._partition.host.send_alter_partition(self._partition, effect.proposal)
            else:
                self._isr_changed(effect)
        if self._confirmations.waiting:  # who might have taken over may be others now
            self._confirmations.settle(self.state.possible_successors)

    def _high_watermark_advanced(self, high_watermark: Offset) -> None:
        self._partition.high_watermark = high_watermark
        self.produces.high_watermark_advanced(high_watermark)
        uncommitted = self._uncommitted
        size_bytes = 0
        while uncommitted and uncommitted[0][0] <= high_watermark:
            size_bytes += uncommitted.popleft()[1]
        if size_bytes:
            self.fetches.committed(size_bytes)
        for stream in tuple(self.armed):
            stream.high_watermark_ready(self._partition.key)

    def _isr_changed(self, changed: IsrChanged) -> None:
        self._partition.host.isr_changed(self._partition, changed)
        if changed.under_min_isr:
            # The high watermark will not move (rule 6): whether what waits will be committed is not known (rule 16).
            self.produces.decide_all(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        self._partition.host.unsettled(self._partition)

    def pending_proposal(self) -> IsrProposal | None:
        """The ISR change in flight, if any."""
        return self.state.isr.pending

    # --- the end ---------------------------------------------------------------------------------------------

    def hand_over_produces(self) -> ProduceQueue:
        """Those who wait for the ISR, for this broker's next leadership."""
        produces, self.produces = self.produces, ProduceQueue()
        return produces

    def resign(self, error: ErrorCode) -> None:
        """The leadership is over: everyone who waits is told, and asks somebody else."""
        self.produces.decide_all(error)
        self.fetches.finish_all()
        self._confirmations.end()
        self.state.nobody_asked()
        self._tell_armed()
        for listener in tuple(self.low_watermark_listeners):
            listener()


def _check_batch_of_client(header: RecordBatchHeader, config: TopicConfig, wall_ms: int) -> None:
    _check_size(header, config)
    if header.is_control:
        raise InvalidRecordError("clients may not write control batches")
    if config.log_append_time:
        return
    oldest_ms = wall_ms - config.message_timestamp_before_max_ms
    newest_ms = wall_ms + config.message_timestamp_after_max_ms
    if header.max_timestamp > newest_ms or (0 <= header.base_timestamp < oldest_ms):
        raise InvalidTimestampError(
            f"timestamps {header.base_timestamp} to {header.max_timestamp} ms; {oldest_ms} to {newest_ms} are allowed"
        )


def _check_size(header: RecordBatchHeader, config: TopicConfig) -> None:
    if header.size_bytes > config.max_message_bytes:
        raise MessageSizeTooLargeError(
            f"record batch of {header.size_bytes} bytes; max.message.bytes allows {config.max_message_bytes}"
        )
