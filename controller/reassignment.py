"""Partitions move to other brokers (KIP-455): replicas are added, catch up, and only then others are removed.

    replicas            target replicas, then those to be removed
    adding_replicas     replicas without those it had before the first reassignment: what a cancellation takes away
    removing_replicas   replicas that are no target

A reassignment begins here and ends where every target replica is in the ISR: at once if they are, else in the
AlterPartition that brings the last one in (`election.py`). Asking anew while one is under way changes the target; a
replica that was being added and is no longer wanted stays, being removed, until the new target is in sync: it may hold
the only copy.
"""

from __future__ import annotations

from ..cluster.image import MetadataImage, PartitionImage
from ..cluster.partition import broker_ids
from ..cluster.topic_config import TopicConfig
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId
from ..proto.metadata_pb2 import MetadataRecord
from .assignments import replicas_error
from .election import Election, LiveBrokers, PartitionChange, TopicRules
from .limits import ENTRIES_PER_COMMAND_MAX
from .result import ControllerResult, ItemError, refused


def decide_alter_partition_reassignments(
    image: MetadataImage, command: command_pb2.AlterPartitionReassignmentsCommand
) -> ControllerResult:
    """Begins, changes and cancels reassignments; each partition is decided by itself."""
    if len(command.partitions) > ENTRIES_PER_COMMAND_MAX:
        return refused(ErrorCode.INVALID_REQUEST, f"at most {ENTRIES_PER_COMMAND_MAX} partitions in one request")
    reassignment = _Reassignment(image, keep_replication_factor=command.keep_replication_factor)
    outcomes = []
    for entry in command.partitions:
        error = reassignment.alter(entry)
        outcomes.append(
            command_pb2.PartitionOutcome(
                topic=entry.topic,
                partition=entry.partition,
                error_code=0 if error is None else error.error_code,
                error_message="" if error is None else error.message,
            )
        )
    result = command_pb2.AlterPartitionReassignmentsResult(partitions=outcomes)
    return ControllerResult(tuple(reassignment.records), CommandResponse(alter_partition_reassignments=result))


class _Reassignment:
    """One command's partitions, one after the other."""

    def __init__(self, image: MetadataImage, *, keep_replication_factor: bool) -> None:
        self._image = image
        self._keep_replication_factor = keep_replication_factor
        self._live = LiveBrokers.of(image)
        self._rules = TopicRules(image)
        self._seen: set[tuple[str, int]] = set()
        self.records: list[MetadataRecord] = []

    def alter(self, entry: command_pb2.ReassignablePartition) -> ItemError | None:
        """Adds the record of a change; returns why it is refused."""
        topic = self._image.topics.get(entry.topic)
        if topic is None:
            return ItemError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {entry.topic}.")
        if not 0 <= entry.partition < len(topic.partitions):
            return ItemError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"Unable to find partition {entry.topic}:{entry.partition}.",
            )
        if (entry.topic, entry.partition) in self._seen:
            return ItemError(
                ErrorCode.INVALID_REQUEST, f"Partition {entry.topic}:{entry.partition} is named more than once"
            )
        self._seen.add((entry.topic, entry.partition))
        partition = topic.partitions[entry.partition]
        config = self._rules.of(entry.topic)
        change = self._cancel(partition, config, entry) if entry.cancel else self._assign(partition, config, entry)
        if isinstance(change, ItemError):
            return change
        changed = change.build()
        if changed is not None:
            self.records.append(changed.to_record())
        return None

    def _assign(
        self, partition: PartitionImage, config: TopicConfig, entry: command_pb2.ReassignablePartition
    ) -> PartitionChange | ItemError:
        error = replicas_error(self._image, entry.replicas)
        if error is not None:
            return error
        target = broker_ids(entry.replicas)
        # What it has when the reassignment under way, if there is one, is through.
        current = len(partition.replicas) - len(partition.removing_replicas)
        if self._keep_replication_factor and len(target) != current:
            return ItemError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"The replication factor is changed from {current} to {len(target)}",
            )
        original = _original_replicas(partition)
        # Kept in the order in which they stand, so that a later cancellation finds the old order.
        removing = tuple(replica for replica in partition.replicas if replica not in target)
        replicas = (*target, *removing)
        return PartitionChange(
            partition,
            self._live,
            config,
            replicas=replicas,
            adding_replicas=tuple(replica for replica in replicas if replica not in original),
            removing_replicas=removing,
            target_replicas=target,
        )

    def _cancel(
        self, partition: PartitionImage, config: TopicConfig, entry: command_pb2.ReassignablePartition
    ) -> PartitionChange | ItemError:
        if entry.replicas:
            return ItemError(ErrorCode.INVALID_REQUEST, "a cancellation names no replicas")
        if not partition.reassigning:
            return ItemError.of(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
        original = _original_replicas(partition)
        isr = tuple(member for member in partition.isr if member in original)
        eligible = isr or partition.eligible_leader_replicas
        fit = any(replica in eligible and replica in self._live.active for replica in original)
        if not fit and not isr and partition.leader is not None and not config.unclean_leader_election_enable:
            return ItemError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Unable to revert partition assignment for {entry.topic}:{entry.partition} because it would require "
                "an unclean leader election.",
            )
        return PartitionChange(
            partition,
            self._live,
            config,
            election=Election.UNCLEAN if config.unclean_leader_election_enable else Election.ONLINE,
            replicas=original,
            isr=isr,
            adding_replicas=(),
            removing_replicas=(),
            target_replicas=(),
        )


def _original_replicas(partition: PartitionImage) -> tuple[BrokerId, ...]:
    """Those it had before the reassignment under way, if there is one."""
    return tuple(replica for replica in partition.replicas if replica not in partition.adding_replicas)
