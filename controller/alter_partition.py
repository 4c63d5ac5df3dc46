"""A leader asks for another ISR (KIP-497), checked as Kafka's ReplicationControlManager checks it, in its order.

Each partition is answered by itself. A reassignment whose last replica joins the ISR here is completed here (KIP-455).
A leader in controlled shutdown that nobody could take over from names its successor here: the first replica that comes
into the ISR leads at once, without it.
"""

from __future__ import annotations

from ..cluster.image import LeaderRecoveryState, MetadataImage, PartitionImage
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import NONE_ID, BrokerId, TopicId, TopicIdPartition
from ..proto.metadata_pb2 import RECOVERING, MetadataRecord
from ..proto.metadata_pb2 import LeaderRecoveryState as WireRecoveryState
from .brokers import broker_epoch_error
from .election import Election, LiveBrokers, PartitionChange, TopicRules
from .limits import ENTRIES_PER_COMMAND_MAX
from .result import ControllerResult, refused

_ID_LENGTH = 16


def decide_alter_partition(image: MetadataImage, command: command_pb2.AlterPartitionCommand) -> ControllerResult:
    """Changes the ISRs that may be changed."""
    error = broker_epoch_error(image, command.broker_id, command.broker_epoch)
    if error is not None:
        return refused(error.error_code, error.message)
    if len(command.partitions) > ENTRIES_PER_COMMAND_MAX:
        return refused(ErrorCode.INVALID_REQUEST, f"at most {ENTRIES_PER_COMMAND_MAX} partitions in one request")
    decision = _AlterPartition(image, BrokerId(command.broker_id))
    outcomes = [decision.alter(entry) for entry in command.partitions]
    result = command_pb2.AlterPartitionResult(partitions=outcomes)
    return ControllerResult(tuple(decision.records), CommandResponse(alter_partition=result))


class _AlterPartition:
    """One command's partitions, one after the other."""

    def __init__(self, image: MetadataImage, sender: BrokerId) -> None:
        self._image = image
        self._sender = sender
        self._live = LiveBrokers.of(image)
        self._leaving = sender in self._live.leaving
        self._rules = TopicRules(image)
        self._seen: set[TopicIdPartition] = set()
        self.records: list[MetadataRecord] = []

    def alter(self, entry: command_pb2.AlterPartitionEntry) -> command_pb2.AlterPartitionOutcome:
        topic_id = TopicId(bytes=entry.topic_id) if len(entry.topic_id) == _ID_LENGTH else None
        topic = None if topic_id is None else self._image.topic_by_id(topic_id)
        if topic_id is None or topic is None:
            return _refusal(entry, ErrorCode.UNKNOWN_TOPIC_ID)
        if not 0 <= entry.partition < len(topic.partitions):
            return _refusal(entry, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        partition = topic.partitions[entry.partition]
        key = TopicIdPartition(topic_id, entry.partition)
        if key in self._seen:
            # The first one has moved the partition epoch on, whatever this one says.
            return _refusal(entry, ErrorCode.INVALID_UPDATE_VERSION)
        self._seen.add(key)
        error = self._error(partition, entry)
        if error is not None:
            return _refusal(entry, error)
        config = self._rules.of(topic.name)
        isr = tuple(BrokerId(member.broker_id) for member in entry.new_isr)
        if self._leaving and len(isr) > 1:
            isr = tuple(member for member in isr if member != self._sender)
        changed = PartitionChange(
            partition,
            self._live,
            config,
            election=Election.UNCLEAN if config.unclean_leader_election_enable else Election.ONLINE,
            isr=isr,
            leader_recovery_state=LeaderRecoveryState(entry.leader_recovery_state),
        ).build()
        if changed is None:
            return _success(partition)
        self.records.append(changed.to_record())
        if changed.leader != self._sender:
            # The change completed a reassignment that took the sender out, or its shutdown did. As in Kafka this is
            # an error and a record both.
            return _refusal(entry, ErrorCode.NEW_LEADER_ELECTED)
        return _success(changed)

    def _error(self, partition: PartitionImage, entry: command_pb2.AlterPartitionEntry) -> ErrorCode | None:
        # A leader that knows more than this state: the state is the stale one (rule 11).
        if entry.leader_epoch > partition.leader_epoch or entry.partition_epoch > partition.partition_epoch:
            return ErrorCode.NOT_CONTROLLER
        if entry.leader_epoch < partition.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        if self._sender != partition.leader:
            return ErrorCode.INVALID_REQUEST
        if entry.partition_epoch < partition.partition_epoch:
            return ErrorCode.INVALID_UPDATE_VERSION
        new_isr = [member.broker_id for member in entry.new_isr]
        if not set(partition.replicas).issuperset(new_isr) or len(set(new_isr)) != len(new_isr):
            return ErrorCode.INVALID_REQUEST
        if partition.leader not in new_isr:
            return ErrorCode.INVALID_REQUEST
        if entry.leader_recovery_state not in WireRecoveryState.values():
            return ErrorCode.INVALID_REQUEST
        recovering = entry.leader_recovery_state == RECOVERING
        if recovering and (len(new_isr) > 1 or not partition.recovering):
            return ErrorCode.INVALID_REQUEST
        if not all(self._may_be_in_isr(member) for member in entry.new_isr):
            return ErrorCode.INELIGIBLE_REPLICA
        return None

    def _may_be_in_isr(self, member: command_pb2.BrokerState) -> bool:
        broker = self._image.brokers.get(BrokerId(member.broker_id))
        if broker is None or member.broker_epoch not in (NONE_ID, broker.broker_epoch):
            return False
        return broker.active or (self._leaving and broker.broker_id == self._sender)


def _refusal(entry: command_pb2.AlterPartitionEntry, error_code: ErrorCode) -> command_pb2.AlterPartitionOutcome:
    return command_pb2.AlterPartitionOutcome(
        topic_id=entry.topic_id,
        partition=entry.partition,
        error_code=error_code,
        leader=NONE_ID,
        leader_epoch=NONE_ID,
        partition_epoch=NONE_ID,
    )


def _success(partition: PartitionImage) -> command_pb2.AlterPartitionOutcome:
    return command_pb2.AlterPartitionOutcome(
        topic_id=partition.topic_id.bytes,
        partition=partition.partition,
        leader=NONE_ID if partition.leader is None else partition.leader,
        leader_epoch=partition.leader_epoch,
        isr=partition.isr,
        leader_recovery_state=WireRecoveryState.ValueType(partition.leader_recovery_state.value),
        partition_epoch=partition.partition_epoch,
    )
