"""One replica of one partition on this broker: its log, its high watermark, and the role the controller gave it.

    from        to          when
    (none)      leader      metadata names this broker; the epoch is written down before the first append (rule 13)
    (none)      follower    metadata names another broker, or none
    leader      follower    a newer leader epoch; everyone who waits is answered
    follower    leader      a newer leader epoch
    leader      suspended   the log failed: nothing is served or acked until the controllers move the leadership,
                            or say that there is nobody else (then it goes on as leader)
    any         closed      the topic is deleted, the replica reassigned, or the broker stops

Each move happens between two awaits, so nobody sees half of one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, Protocol

from ..cluster.clock import Clock
from ..cluster.image import PartitionImage
from ..cluster.invariant import invariant
from ..cluster.topic_config import TopicConfig
from ..proto.errors import ErrorCode, KafkaStorageError
from ..proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicIdPartition
from ..proto.replication_pb2 import ReplicaPartitionData
from .leader_replica import LeaderReplica, PartitionKey
from .log.errors import LogCorruptError
from .log.log_config import LogConfig
from .log.partition_log import PartitionLog
from .purgatory import FetchQueue
from .replication.follower import Action, AppendRecords, LeaderAnswer, StartOverAt, TruncateTo, decide
from .replication.isr import IsrProposal
from .replication.leader import IsrChanged, LeaderState
from .replication.offsets import check_order, follower_high_watermark

logger = logging.getLogger(__name__)

_ALONE_MS: Final = 10_000


class PartitionHost(Protocol):
    """What a partition asks of the replica manager that owns it."""

    @property
    def broker_id(self) -> BrokerId: ...

    @property
    def active_brokers(self) -> Mapping[BrokerId, BrokerEpoch]: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def replica_lag_time_max_ms(self) -> int: ...

    def send_alter_partition(self, partition: Partition, proposal: IsrProposal) -> None: ...

    def isr_changed(self, partition: Partition, changed: IsrChanged) -> None: ...

    def unsettled(self, partition: Partition) -> None:
        """Time may change something here: tick the leader's core until it is settled."""

    def replica_failed(self, partition: Partition, error: KafkaStorageError) -> None:
        """Ask the controllers to take this replica out of the ISR, and its leadership away."""


class Partition:
    """See the table above. `leader` is None unless this broker leads; `leader_epoch` is None before any metadata."""

    def __init__(
        self,
        host: PartitionHost,
        *,
        topic: str,
        topic_id_partition: TopicIdPartition,
        log: PartitionLog,
        high_watermark: Offset,
        config: TopicConfig,
    ) -> None:
        self.host: Final = host
        self.topic: Final = topic
        self.topic_id_partition: Final = topic_id_partition
        self.key: Final[PartitionKey] = (topic_id_partition.topic_id.bytes, topic_id_partition.partition)
        self.log: Final = log
        self.high_watermark = high_watermark
        self.config = config
        self.leader: LeaderReplica | None = None
        self.leader_id: BrokerId | None = None
        self.leader_epoch: LeaderEpoch | None = None
        self.failure: KafkaStorageError | None = None  # set: a leader is suspended, a follower could not append
        self.refetch = False  # the log is corrupt: start over once this replica cannot be elected
        self.closed: ErrorCode | None = None
        self.confirmed_round = 0  # what a follower sends back to its leader; of this leader epoch
        self.retry_ms = 0  # how long the follower backed off last; 0: all is well
        self.in_isr = False
        self.electable = False  # in the ISR, or eligible where that is empty (KIP-966)
        self._replication_factor = 1
        self._follower_fetches: FetchQueue | None = None  # consumers that read from this follower (KIP-392)
        self._alone_until_ms = 0  # until then the controllers need not be told again that the log failed

    def __str__(self) -> str:
        return f"{self.topic}-{self.topic_id_partition.partition}"

    @property
    def failing(self) -> bool:
        """The log failed, and the controllers may not know it yet."""
        return self.failure is not None and self.leader_epoch is not None and self.closed is None

    @property
    def fetches(self) -> FetchQueue:
        """Consumers that wait for more to be committed here."""
        if self.leader is not None:
            return self.leader.fetches
        if self._follower_fetches is None:
            self._follower_fetches = FetchQueue()
        return self._follower_fetches

    # --- roles -----------------------------------------------------------------------------------------------

    def lead(self, image: PartitionImage, now_ms: int) -> None:
        """Metadata says that this broker leads.

        :raises KafkaStorageError: the new epoch could not be written down; the partition is suspended.
        """
        if self._is_older(image):
            return
        self._take_assignment(image)
        if self.leader is not None and self.leader_epoch == image.leader_epoch:
            state = self.leader.state
            self.leader.carry_out(
                state.metadata_changed(
                    replicas=image.replicas, isr=image.isr, partition_epoch=image.partition_epoch, now_ms=now_ms
                )
            )
            self.leader.carry_out(state.min_isr_changed(self._min_isr(), now_ms))
            self.host.unsettled(self)
            return
        self._begin_leadership(image, now_ms)

    def _begin_leadership(self, image: PartitionImage, now_ms: int) -> None:
        # One epoch on and nobody led in between: who waits for the ISR may go on waiting, as the log is the same.
        goes_on = self.leader if self.leader_epoch is not None and image.leader_epoch == self.leader_epoch + 1 else None
        produces = None if goes_on is None else goes_on.hand_over_produces()
        self._resign(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        check_order(self.log.log_start_offset, self.high_watermark, self.log.log_end_offset)
        self.leader_id = image.leader
        self.leader_epoch = image.leader_epoch
        self.failure = None
        self.retry_ms = 0
        state = LeaderState(
            broker_id=self.host.broker_id,
            leader_epoch=image.leader_epoch,
            partition_epoch=image.partition_epoch,
            replicas=image.replicas,
            isr=image.isr,
            min_isr=self._min_isr(),
            log_end_offset=self.log.log_end_offset,
            high_watermark=self.high_watermark,
            active_brokers=self.host.active_brokers,
            lag_time_max_ms=self.host.replica_lag_time_max_ms,
            now_ms=now_ms,
        )
        self.leader = LeaderReplica(self, state, produces)
        try:
            self.log.assign_epoch(image.leader_epoch, self.log.log_end_offset)
        except KafkaStorageError as error:
            self.suspend(error)
            raise
        logger.info(
            "became_leader partition=%s epoch=%d start_offset=%d high_watermark=%d isr=%s",
            self,
            image.leader_epoch,
            self.log.log_end_offset,
            self.high_watermark,
            list(image.isr),
        )
        self.leader.carry_out(state.started(now_ms))
        self.host.unsettled(self)

    def follow(self, image: PartitionImage) -> bool:
        """Metadata says that another broker leads, or none; True if that is news to who fetches for this replica.

        :raises KafkaStorageError: a corrupt log could not be emptied.
        """
        if self._is_older(image):
            return False
        self._take_assignment(image)
        changed = self.leader_epoch != image.leader_epoch or self.leader_id != image.leader
        if changed:
            self._resign(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self.leader_id = image.leader
            self.leader_epoch = image.leader_epoch
            self.confirmed_round = 0
            self.failure = None
            self.retry_ms = 0
            logger.info(
                "became_follower partition=%s epoch=%d leader=%s log_end_offset=%d high_watermark=%d",
                self,
                image.leader_epoch,
                image.leader,
                self.log.log_end_offset,
                self.high_watermark,
            )
        if self.refetch:
            self._refetch(new_epoch=changed)
        return changed

    def _refetch(self, *, new_epoch: bool) -> None:
        """Drops a corrupt log once nothing counts on it any more.

        That is so at the begin of a leader epoch in which it cannot be elected: only then the leader has forgotten
        how far this log reached, and will not bring it back into the ISR on the strength of that.
        """
        if self.electable:
            self.suspend(KafkaStorageError(f"{self}: the log is corrupt, and this replica may still be elected"))
        elif new_epoch:
            self._start_over(self.log.log_start_offset)
            self.refetch = False

    def close(self, error: ErrorCode) -> None:
        """No longer a replica here; whoever waits gets `error`."""
        self.closed = error
        self._resign(error)

    def suspend(self, error: KafkaStorageError) -> None:
        """The log failed: a leader serves and acks nothing more and has the leadership moved (rule 27).

        A follower tries on, but not as a member of the ISR: the high watermark would wait for it.
        """
        if self.host.clock.monotonic_ms() < self._alone_until_ms:
            return
        first, self.failure = self.failure is None, error
        if not first and self.leader is not None:
            return
        self.refetch = self.refetch or isinstance(error, LogCorruptError)
        logger.error("replica_failed partition=%s epoch=%s error=%s", self, self.leader_epoch, error)
        if self.leader is not None:
            self.leader.resign(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if self.in_isr or (self.refetch and self.electable):
            self.host.replica_failed(self, error)

    def resume(self) -> bool:
        """Nobody else can lead: go on as before; what is broken in the log stays unserved, read by read.

        False if not even the begin of this leadership can be written down: then it has not begun (rule 13).
        """
        now_ms = self.host.clock.monotonic_ms()
        leader = self.leader
        if leader is not None and self.log.epoch_cache.latest_epoch != leader.leader_epoch:
            try:
                self.log.assign_epoch(leader.leader_epoch, self.log.log_end_offset)
            except KafkaStorageError as error:
                self.failure = error
                return False
            self.failure = None
            leader.carry_out(leader.state.started(now_ms))
            self.host.unsettled(self)
        self.failure = None
        self.refetch = False
        self._alone_until_ms = now_ms + _ALONE_MS
        return True

    def reconfigure(self, config: TopicConfig, image: PartitionImage, now_ms: int) -> None:
        """The topic's settings are other ones now, and the partition is as in `image` then.

        A leader that the same metadata depose, or give another epoch, must not go by the new minimum first: what it
        has under way may never be committed (rule 4). `lead` and `follow` come after this.
        """
        self.config = config
        self.log.update_config(LogConfig.from_topic_config(config))
        if self.leader is not None and self.leader_epoch == image.leader_epoch:
            self.leader.carry_out(self.leader.state.min_isr_changed(self._min_isr(), now_ms))

    def _resign(self, error: ErrorCode) -> None:
        leader, self.leader = self.leader, None
        if leader is not None:
            leader.resign(error)
        if self._follower_fetches is not None:
            self._follower_fetches.finish_all()
            self._follower_fetches = None

    def _is_older(self, image: PartitionImage) -> bool:
        return self.leader_epoch is not None and image.leader_epoch < self.leader_epoch

    def _take_assignment(self, image: PartitionImage) -> None:
        # Replicas still being added do not raise the demand, as the controllers count it too.
        self._replication_factor = len(image.replicas) - len(image.adding_replicas)
        self.in_isr = self.host.broker_id in image.isr
        self.electable = self.in_isr or self.host.broker_id in image.eligible_leader_replicas

    def _min_isr(self) -> int:
        return self.config.effective_min_insync_replicas(self._replication_factor)

    # --- the follower's side ---------------------------------------------------------------------------------

    def apply_leader_answer(self, data: ReplicaPartitionData) -> Action:
        """Does what the follower's core makes of the leader's answer, and returns it.

        :raises CorruptRecordError: the records are not whole or do not continue this log.
        :raises KafkaStorageError: the disk failed.
        """
        invariant(self.leader is None, "a leader was handed another leader's records")
        answer = _answer_of(data)
        action = decide(LeaderEpoch(-1) if self.leader_epoch is None else self.leader_epoch, self.log, answer)
        if isinstance(action, AppendRecords):
            self._append(data.records if answer.has_records else b"", answer, gaps=data.offset_gaps)
        elif isinstance(action, TruncateTo):
            # Who may be elected holds all that is committed, and is to cut off none of that; nothing is missing for the
            # sake of other records. It may be elected before it has a second copy, so it keeps this one.
            if self.electable or self.log.is_whole_below(action.offset):
                if action.offset == answer.log_start_offset:
                    self._hide_below(action.offset)
                self._truncate_to(action.offset)
            else:  # what is to be cut off has replaced records that the leader still has
                self._start_over(answer.log_start_offset)
        elif isinstance(action, StartOverAt):
            self._start_over(action.offset)
        check_order(self.log.log_start_offset, self.high_watermark, self.log.log_end_offset)
        return action

    def _append(self, records: bytes, answer: LeaderAnswer, *, gaps: bool) -> None:
        log = self.log
        if records:
            now_ms = self.host.clock.wall_ms()
            log.append_as_follower(
                records,
                now_ms=now_ms,
                gaps=gaps,
                high_watermark=answer.high_watermark,
                leader_epoch=answer.leader_epoch,
            )
            self.failure = None
        before = self.high_watermark
        self.high_watermark = follower_high_watermark(before, answer.high_watermark, log.log_end_offset)
        if self._follower_fetches is not None and self.high_watermark > before:
            self._follower_fetches.finish_all()
        if answer.log_start_offset > log.log_start_offset:
            log.advance_log_start_to(min(answer.log_start_offset, self.high_watermark))

    def _truncate_to(self, offset: Offset) -> None:
        logger.info(
            "truncated partition=%s epoch=%s log_end_offset=%d to=%d high_watermark=%d",
            self,
            self.leader_epoch,
            self.log.log_end_offset,
            offset,
            self.high_watermark,
        )
        if offset < self.high_watermark:
            # Only an unclean election can do this: what was committed is lost, as its operator chose.
            logger.warning("committed_records_lost partition=%s from=%d to=%d", self, offset, self.high_watermark)
        self.log.truncate_to(offset)
        self.high_watermark = min(self.high_watermark, self.log.log_end_offset)

    def _hide_below(self, offset: Offset) -> None:
        """For a leader whose log begins there: it may have deleted where the logs parted (`end_offset_for`), and then
        something below is here that was never committed. No process may show that, not the next one either (rule 2).
        """
        self.high_watermark = max(self.high_watermark, offset)
        self.log.advance_log_start_to(offset, at_once=True)

    def _start_over(self, offset: Offset) -> None:
        logger.warning(
            "started_over partition=%s epoch=%s log_start_offset=%d log_end_offset=%d at=%d",
            self,
            self.leader_epoch,
            self.log.log_start_offset,
            self.log.log_end_offset,
            offset,
        )
        self.log.truncate_fully_and_start_at(offset)
        self.high_watermark = offset


def _answer_of(data: ReplicaPartitionData) -> LeaderAnswer:
    diverging = None
    if data.HasField("diverging_epoch"):
        diverging = (LeaderEpoch(data.diverging_epoch.epoch), Offset(data.diverging_epoch.end_offset))
    return LeaderAnswer(
        leader_epoch=LeaderEpoch(data.leader_epoch),
        fetch_offset=Offset(data.fetch_offset),
        error=ErrorCode.of(data.error_code),
        high_watermark=Offset(data.high_watermark),
        log_start_offset=Offset(data.log_start_offset),
        diverging_epoch=diverging,
        has_records=bool(data.records),
    )
