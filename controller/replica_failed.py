"""A broker gives up replicas whose log failed: a corrupt segment, a full disk (rule 27).

Such a replica leaves ISR and ELR and leads no longer, in one record, where somebody else in sync can lead. Where there
is nobody, nothing changes: the last holder of the data stays where it is, and its broker serves what can be served.

The leader epoch grows even where the leader stays. The replica may drop its log now, and what the leader knows of it is
from before: neither may bring it back into the ISR, nor an AlterPartition that is already on its way.
"""

from __future__ import annotations

from ..cluster.image import MetadataImage
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId, TopicId
from ..proto.metadata_pb2 import MetadataRecord
from .brokers import broker_epoch_error
from .election import LiveBrokers, PartitionChange, TopicRules
from .limits import ENTRIES_PER_COMMAND_MAX
from .result import ControllerResult, refused

_ID_LENGTH = 16


def decide_replica_failed(image: MetadataImage, command: command_pb2.ReplicaFailedCommand) -> ControllerResult:
    """Takes the sender's replicas out of ISR and ELR; each partition is answered by itself."""
    error = broker_epoch_error(image, command.broker_id, command.broker_epoch)
    if error is not None:
        return refused(error.error_code, error.message)
    if len(command.partitions) > ENTRIES_PER_COMMAND_MAX:
        return refused(ErrorCode.INVALID_REQUEST, f"at most {ENTRIES_PER_COMMAND_MAX} partitions in one request")
    sender = BrokerId(command.broker_id)
    live = LiveBrokers.of(image)
    rules = TopicRules(image)
    records: dict[tuple[bytes, int], MetadataRecord] = {}
    result = command_pb2.ReplicaFailedResult()
    for entry in command.partitions:
        error_code = ErrorCode.NONE
        if (entry.topic_id, entry.partition) not in records:
            error_code, record = _give_up(image, sender, entry, live, rules)
            if record is not None:
                records[entry.topic_id, entry.partition] = record
        result.partitions.add(topic_id=entry.topic_id, partition=entry.partition, error_code=error_code)
    return ControllerResult(tuple(records.values()), CommandResponse(replica_failed=result))


def _give_up(
    image: MetadataImage,
    sender: BrokerId,
    entry: command_pb2.FailedReplica,
    live: LiveBrokers,
    rules: TopicRules,
) -> tuple[ErrorCode, MetadataRecord | None]:
    topic = image.topic_by_id(TopicId(bytes=entry.topic_id)) if len(entry.topic_id) == _ID_LENGTH else None
    if topic is None:
        return ErrorCode.UNKNOWN_TOPIC_ID, None
    if not 0 <= entry.partition < len(topic.partitions):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
    partition = topic.partitions[entry.partition]
    if entry.leader_epoch > partition.leader_epoch:
        return ErrorCode.NOT_CONTROLLER, None
    if entry.leader_epoch < partition.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH, None
    if sender not in (*partition.isr, *partition.eligible_leader_replicas):
        return ErrorCode.NONE, None
    isr = tuple(member for member in partition.isr if member != sender)
    changed = PartitionChange(
        partition, live, rules.of(topic.name), isr=isr, lost=frozenset((sender,)), new_leader_epoch=True
    ).build()
    if changed is None or changed.leader is None:
        return ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, None
    return ErrorCode.NONE, changed.to_record()
