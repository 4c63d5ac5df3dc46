"""A partition as the controllers have committed it: who holds it, who is in sync, who leads, under which epochs.

Rules that hold in every committed state (DESIGN.md section 6): the leader is in the ISR (rule 7), the ISR is a subset
of the replicas, the eligible leader replicas (ELR, KIP-966) are replicas outside the ISR, the leader epoch never falls
(rule 1) and the partition epoch grows with each record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, cast

from ..proto import metadata_pb2
from ..proto.identifiers import NONE_ID, BrokerId, LeaderEpoch, PartitionEpoch, TopicId, TopicIdPartition
from .invariant import InvariantError


class LeaderRecoveryState(IntEnum):
    """Whether the leader was elected uncleanly and has not yet said that it recovered (KIP-704)."""

    RECOVERED = metadata_pb2.RECOVERED
    RECOVERING = metadata_pb2.RECOVERING


_RECOVERY_STATES: Final = {int(state): state for state in LeaderRecoveryState}


@dataclass(frozen=True, slots=True)
class PartitionImage:
    """One partition; see the module for what always holds."""

    topic_id: TopicId
    partition: int
    replicas: tuple[BrokerId, ...]  # in order of preference; the first is the preferred leader
    isr: tuple[BrokerId, ...]
    leader: BrokerId | None
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    adding_replicas: tuple[BrokerId, ...] = ()
    removing_replicas: tuple[BrokerId, ...] = ()
    target_replicas: tuple[BrokerId, ...] = ()  # empty unless a reassignment is under way (KIP-455)
    eligible_leader_replicas: tuple[BrokerId, ...] = ()
    leader_recovery_state: LeaderRecoveryState = LeaderRecoveryState.RECOVERED
    last_known_leader: BrokerId | None = None  # set only while there is no leader and nobody eligible

    @property
    def topic_id_partition(self) -> TopicIdPartition:
        """The name of this partition among nodes."""
        return TopicIdPartition(self.topic_id, self.partition)

    @property
    def preferred_leader(self) -> BrokerId:
        """The replica that leads when all is well."""
        return self.replicas[0]

    @property
    def reassigning(self) -> bool:
        """True while replicas are being added or removed (KIP-455)."""
        return bool(self.adding_replicas or self.removing_replicas)

    @property
    def replication_factor(self) -> int:
        """Replicas that it has for good: those that a reassignment is still adding do not count."""
        return len(self.replicas) - len(self.adding_replicas)

    @property
    def recovering(self) -> bool:
        """True after an unclean election, until the leader says that it has recovered."""
        return self.leader_recovery_state is LeaderRecoveryState.RECOVERING

    def __str__(self) -> str:
        leader = "none" if self.leader is None else self.leader
        return (
            f"{self.topic_id}-{self.partition} leader={leader} leader_epoch={self.leader_epoch} "
            f"isr={list(self.isr)} replicas={list(self.replicas)} partition_epoch={self.partition_epoch}"
        )

    @classmethod
    def from_record(cls, record: metadata_pb2.PartitionRecord, topic_id: TopicId | None = None) -> PartitionImage:
        """The partition that a record states; `topic_id`, if the caller has it, spares making it anew."""
        return cls(
            topic_id=TopicId(bytes=record.topic_id) if topic_id is None else topic_id,
            partition=record.partition,
            replicas=broker_ids(record.replicas),
            isr=broker_ids(record.isr),
            leader=None if record.leader == NONE_ID else BrokerId(record.leader),
            leader_epoch=LeaderEpoch(record.leader_epoch),
            partition_epoch=PartitionEpoch(record.partition_epoch),
            adding_replicas=broker_ids(record.adding_replicas),
            removing_replicas=broker_ids(record.removing_replicas),
            target_replicas=broker_ids(record.target_replicas),
            eligible_leader_replicas=broker_ids(record.eligible_leader_replicas),
            leader_recovery_state=_RECOVERY_STATES[record.leader_recovery_state],
            last_known_leader=None if record.last_known_leader == NONE_ID else BrokerId(record.last_known_leader),
        )

    def to_record(self) -> metadata_pb2.MetadataRecord:
        """The record that states this partition in full."""
        # Filled in place: handing a finished message to the outer one's constructor would copy it. A broker that
        # dies takes thousands of these.
        record = metadata_pb2.MetadataRecord()
        partition = record.partition
        partition.topic_id = self.topic_id.bytes
        partition.partition = self.partition
        partition.replicas.extend(self.replicas)
        partition.isr.extend(self.isr)
        if self.reassigning:
            partition.adding_replicas.extend(self.adding_replicas)
            partition.removing_replicas.extend(self.removing_replicas)
            partition.target_replicas.extend(self.target_replicas)
        if self.eligible_leader_replicas:
            partition.eligible_leader_replicas.extend(self.eligible_leader_replicas)
        partition.leader = NONE_ID if self.leader is None else self.leader
        partition.leader_epoch = self.leader_epoch
        partition.partition_epoch = self.partition_epoch
        if self.recovering:
            partition.leader_recovery_state = metadata_pb2.RECOVERING
        partition.last_known_leader = NONE_ID if self.last_known_leader is None else self.last_known_leader
        return record

    def check(self) -> None:
        """Holds this partition against the rules of the module.

        :raises InvariantError: it breaks one.
        """
        replicas, isr = set(self.replicas), set(self.isr)
        problem = None
        if not replicas or len(replicas) != len(self.replicas):
            problem = "replicas repeat or are none"
        elif not isr <= replicas or len(isr) != len(self.isr):
            problem = "ISR has members that are no replicas, or one of them twice"
        elif self.leader is not None and self.leader not in isr:
            problem = "leader is not in the ISR"
        elif not replicas.issuperset(self.eligible_leader_replicas) or not isr.isdisjoint(
            self.eligible_leader_replicas
        ):
            problem = "ELR has members that are no replicas, or are in the ISR"
        elif not replicas.issuperset(self.adding_replicas) or not replicas.issuperset(self.removing_replicas):
            problem = "adding or removing replicas are no replicas"
        elif self.leader_epoch < 0 or self.partition_epoch < 0:
            problem = "epoch below 0"
        elif self.recovering and len(self.isr) > 1:
            problem = "recovering with more than one in the ISR"
        if problem is not None:
            raise InvariantError(f"{problem}: {self}")

    def check_follows(self, previous: PartitionImage) -> None:
        """Holds the step from `previous` to this against rules 1 and 9.

        :raises InvariantError: an epoch fell or stood still where it must grow.
        """
        if self.partition_epoch != previous.partition_epoch + 1:
            raise InvariantError(f"partition epoch did not grow by 1 from {previous.partition_epoch}: {self}")
        if self.leader_epoch < previous.leader_epoch + (self.leader != previous.leader):
            raise InvariantError(f"leader epoch did not grow with the leader from {previous}: {self}")


def broker_ids(numbers: Sequence[int]) -> tuple[BrokerId, ...]:
    """Numbers from a message as broker ids; nothing is converted."""
    return cast("tuple[BrokerId, ...]", tuple(numbers[:])) if numbers else ()
