"""Who leads next: here alone a partition's next state is made from a wanted change (Kafka's PartitionChangeBuilder).

A leader stays while it is fit: active (registered, unfenced, not shutting down) and in the ISR. Else the first replica,
in the order of the assignment, that is active and in the ISR; where the ISR is empty, in the eligible leader replicas
(ELR, KIP-966); else nobody, unless an unclean election was asked for. A leader that is shutting down and that nobody
can take over from goes on leading until it is gone.

The ELR holds who left the ISR while it was, or thereby became, smaller than min.insync.replicas. The high watermark
stands still then (rule 6), so its members hold every committed record and may lead. It is empty whenever the ISR is
large enough.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum

from ..cluster.image import LeaderRecoveryState, MetadataImage, PartitionImage, TopicImage
from ..cluster.topic_config import TopicConfig
from ..proto import command_pb2
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerId, LeaderEpoch, PartitionEpoch
from ..proto.metadata_pb2 import MetadataRecord
from .limits import ENTRIES_PER_COMMAND_MAX, RECORDS_PER_COMMAND_MAX
from .result import ControllerResult, ItemError, refused


class Election(Enum):
    """How a leader is sought."""

    ONLINE = "online"  # keep the leader if it is fit, else another fit one
    PREFERRED = "preferred"  # the first replica if it is fit, else as ONLINE
    UNCLEAN = "unclean"  # as ONLINE, and where nobody is fit any active replica: committed records may be lost


@dataclass(frozen=True, slots=True)
class LiveBrokers:
    """Who is there. For membership tests only: nothing may depend on the order of these sets."""

    active: frozenset[BrokerId]  # may lead and be in an ISR
    leaving: frozenset[BrokerId]  # unfenced, in controlled shutdown: may go on leading where there is nobody else

    @classmethod
    def of(cls, image: MetadataImage) -> LiveBrokers:
        """As the image has it."""
        brokers = image.brokers.values()
        return cls(
            active=frozenset(broker.broker_id for broker in brokers if broker.active),
            leaving=frozenset(
                broker.broker_id for broker in brokers if broker.in_controlled_shutdown and not broker.fenced
            ),
        )

    def with_active(self, broker_id: BrokerId) -> LiveBrokers:
        """As it will be when the broker is unfenced."""
        return LiveBrokers(self.active | {broker_id}, self.leaving - {broker_id})

    def without(self, broker_ids: AbstractSet[BrokerId]) -> LiveBrokers:
        """As it will be when these brokers are fenced or gone."""
        return LiveBrokers(self.active - broker_ids, self.leaving - broker_ids)


class TopicRules:
    """The settings that elections depend on, by topic, read from an image once each."""

    def __init__(self, image: MetadataImage) -> None:
        self._image = image
        self._without_overrides: TopicConfig | None = None
        self._cached: tuple[str, TopicConfig] | None = None

    def of(self, topic_name: str) -> TopicConfig:
        """The topic's settings."""
        if not self._image.topic_overrides(topic_name):
            if self._without_overrides is None:
                self._without_overrides = self._image.topic_config(topic_name)
            return self._without_overrides
        if self._cached is None or self._cached[0] != topic_name:
            self._cached = (topic_name, self._image.topic_config(topic_name))
        return self._cached[1]


@dataclass(slots=True)
class PartitionChange:
    """A wanted change of one partition; what is None stays as it is. `build` says what becomes of it."""

    partition: PartitionImage
    live: LiveBrokers  # as they will be once the change is made
    config: TopicConfig
    election: Election = Election.ONLINE
    isr: tuple[BrokerId, ...] | None = None
    eligible_leader_replicas: tuple[BrokerId, ...] | None = None
    replicas: tuple[BrokerId, ...] | None = None
    adding_replicas: tuple[BrokerId, ...] | None = None
    removing_replicas: tuple[BrokerId, ...] | None = None
    target_replicas: tuple[BrokerId, ...] | None = None
    leader_recovery_state: LeaderRecoveryState | None = None
    lost: AbstractSet[BrokerId] = frozenset()  # replicas whose data is not to be trusted: they leave ISR and ELR
    wiped: AbstractSet[BrokerId] = frozenset()  # of those, the ones whose disk is another one
    new_leader_epoch: bool = False  # also if the leader stays

    def build(self) -> PartitionImage | None:
        """The partition after the change, under its new epochs; None if nothing changes."""
        old = self.partition
        target = _Target(
            replicas=old.replicas if self.replicas is None else self.replicas,
            isr=old.isr if self.isr is None else self.isr,
            leader=old.leader,
            adding_replicas=old.adding_replicas if self.adding_replicas is None else self.adding_replicas,
            removing_replicas=old.removing_replicas if self.removing_replicas is None else self.removing_replicas,
            target_replicas=old.target_replicas if self.target_replicas is None else self.target_replicas,
            leader_recovery_state=(
                old.leader_recovery_state if self.leader_recovery_state is None else self.leader_recovery_state
            ),
        )
        if self.lost:
            target.isr = tuple(member for member in target.isr if member not in self.lost)
        target.complete_reassignment()
        self._set_elr(target)
        self._elect(target)
        last_known_leader = self._next_last_known_leader(target)
        if target.equals(old) and last_known_leader == old.last_known_leader:
            return None
        # A removed replica must not go on fetching from, or counting for, the leader it knows: the epoch tells it.
        removed = not set(old.replicas) <= set(target.replicas)
        bump = target.leader != old.leader or removed or self.new_leader_epoch
        return PartitionImage(
            topic_id=old.topic_id,
            partition=old.partition,
            replicas=target.replicas,
            isr=target.isr,
            leader=target.leader,
            leader_epoch=LeaderEpoch(old.leader_epoch + bump),
            partition_epoch=PartitionEpoch(old.partition_epoch + 1),
            adding_replicas=target.adding_replicas,
            removing_replicas=target.removing_replicas,
            target_replicas=target.target_replicas,
            eligible_leader_replicas=target.eligible_leader_replicas,
            leader_recovery_state=target.leader_recovery_state,
            last_known_leader=last_known_leader,
        )

    def _set_elr(self, target: _Target) -> None:
        if len(target.isr) >= self._min_insync_replicas(target):
            return
        elr = self.partition.eligible_leader_replicas
        if self.eligible_leader_replicas is not None:
            elr = self.eligible_leader_replicas
        candidates = (*elr, *self.partition.isr)
        target.eligible_leader_replicas = tuple(
            replica
            for replica in target.replicas
            if replica in candidates and replica not in target.isr and replica not in self.lost
        )

    def _min_insync_replicas(self, target: _Target) -> int:
        return self.config.effective_min_insync_replicas(len(target.replicas) - len(target.adding_replicas))

    def _elect(self, target: _Target) -> None:
        target.leader = self._clean_leader(target)
        if target.leader is None:
            if self.election is Election.UNCLEAN:
                self._elect_unclean(target)
        elif not target.isr:  # from the ELR
            target.isr = (target.leader,)
            if self._min_insync_replicas(target) <= 1:
                target.eligible_leader_replicas = ()
            else:
                target.eligible_leader_replicas = tuple(
                    replica for replica in target.eligible_leader_replicas if replica != target.leader
                )

    def _clean_leader(self, target: _Target) -> BrokerId | None:
        eligible = target.isr or target.eligible_leader_replicas
        current = self.partition.leader
        if current is not None and current in eligible and current in self.live.active:
            preferred = target.replicas[0]
            if self.election is Election.PREFERRED and preferred in eligible and preferred in self.live.active:
                return preferred
            return current
        for replica in target.replicas:
            if replica in eligible and replica in self.live.active:
                return replica
        return current if current in target.isr and current in self.live.leaving else None

    def _elect_unclean(self, target: _Target) -> None:
        # Who led last has most of what was written; after that the order of the assignment.
        last = self.partition.leader if self.partition.leader is not None else self.partition.last_known_leader
        order = target.replicas if last is None else (last, *target.replicas)
        for replica in order:
            if replica in self.live.active and replica in target.replicas:
                target.leader = replica
                # Forcibly alone: no other replica is known to agree with it.
                target.isr = (replica,)
                target.eligible_leader_replicas = ()
                target.leader_recovery_state = LeaderRecoveryState.RECOVERING
                return

    def _next_last_known_leader(self, target: _Target) -> BrokerId | None:
        if target.leader is not None:
            return None
        old = self.partition
        last = old.leader if old.leader is not None else old.last_known_leader
        return last if last in target.replicas and last not in self.wiped else None


@dataclass(slots=True)
class _Target:
    """A partition in the making."""

    replicas: tuple[BrokerId, ...]
    isr: tuple[BrokerId, ...]
    leader: BrokerId | None
    adding_replicas: tuple[BrokerId, ...]
    removing_replicas: tuple[BrokerId, ...]
    target_replicas: tuple[BrokerId, ...]
    leader_recovery_state: LeaderRecoveryState
    eligible_leader_replicas: tuple[BrokerId, ...] = ()

    def complete_reassignment(self) -> None:
        """Ends the reassignment if every target replica is in the ISR (KIP-455)."""
        if not self.adding_replicas and not self.removing_replicas:
            self.target_replicas = ()
            return
        isr = tuple(member for member in self.isr if member not in self.removing_replicas)
        if isr and set(self.target_replicas) <= set(isr):
            self.replicas, self.isr = self.target_replicas, isr
            self.adding_replicas = self.removing_replicas = self.target_replicas = ()

    def equals(self, partition: PartitionImage) -> bool:
        """True if the partition is like this already."""
        return (
            self.isr == partition.isr
            and self.leader == partition.leader
            and self.replicas == partition.replicas
            and self.eligible_leader_replicas == partition.eligible_leader_replicas
            and self.adding_replicas == partition.adding_replicas
            and self.removing_replicas == partition.removing_replicas
            and self.target_replicas == partition.target_replicas
            and self.leader_recovery_state is partition.leader_recovery_state
        )


def decide_elect_leaders(image: MetadataImage, command: command_pb2.ElectLeadersCommand) -> ControllerResult:
    """Elects preferred leaders, or leaders at the price of data where there is none (KIP-460)."""
    if command.election_type not in (command_pb2.ELECTION_PREFERRED, command_pb2.ELECTION_UNCLEAN):
        return refused(ErrorCode.INVALID_REQUEST, f"unknown election type {command.election_type}")
    if command.all_partitions and command.partitions:
        return refused(ErrorCode.INVALID_REQUEST, "name partitions or ask for all of them, not both")
    if len(command.partitions) > ENTRIES_PER_COMMAND_MAX:
        return refused(ErrorCode.INVALID_REQUEST, f"at most {ENTRIES_PER_COMMAND_MAX} partitions in one request")
    unclean = command.election_type == command_pb2.ELECTION_UNCLEAN
    elector = _Elector(image, Election.UNCLEAN if unclean else Election.PREFERRED)
    outcomes: list[command_pb2.PartitionOutcome] = []
    if command.all_partitions:
        for topic, partition in image.partitions():
            error = elector.elect(topic, partition)
            if error is None or error.error_code is not ErrorCode.ELECTION_NOT_NEEDED:
                outcomes.append(_outcome(topic.name, partition.partition, error))
    else:
        for topic_name, number in _distinct(command):
            named = image.topics.get(topic_name)
            if named is None or not 0 <= number < len(named.partitions):
                error = ItemError.of(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            else:
                error = elector.elect(named, named.partitions[number])
            outcomes.append(_outcome(topic_name, number, error))
    if len(elector.records) > RECORDS_PER_COMMAND_MAX:
        return refused(
            ErrorCode.POLICY_VIOLATION, f"more than {RECORDS_PER_COMMAND_MAX} elections at once: name fewer partitions"
        )
    response = command_pb2.CommandResponse(elect_leaders=command_pb2.ElectLeadersResult(partitions=outcomes))
    return ControllerResult(tuple(elector.records), response)


def _distinct(command: command_pb2.ElectLeadersCommand) -> list[tuple[str, int]]:
    return list(dict.fromkeys((entry.topic, entry.partition) for entry in command.partitions))


def _outcome(topic_name: str, partition: int, error: ItemError | None) -> command_pb2.PartitionOutcome:
    return command_pb2.PartitionOutcome(
        topic=topic_name,
        partition=partition,
        error_code=0 if error is None else error.error_code,
        error_message="" if error is None else error.message,
    )


class _Elector:
    """Elections of one command; each partition is asked about once."""

    def __init__(self, image: MetadataImage, election: Election) -> None:
        self._live = LiveBrokers.of(image)
        self._rules = TopicRules(image)
        self._election = election
        self.records: list[MetadataRecord] = []

    def elect(self, topic: TopicImage, partition: PartitionImage) -> ItemError | None:
        """Adds the record of a change; returns why there is none."""
        preferred = self._election is Election.PREFERRED
        if partition.leader == partition.preferred_leader if preferred else partition.leader is not None:
            return ItemError.of(ErrorCode.ELECTION_NOT_NEEDED)
        changed = PartitionChange(partition, self._live, self._rules.of(topic.name), election=self._election).build()
        if changed is None or changed.leader == partition.leader:
            return ItemError.of(
                ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE if preferred else ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
            )
        self.records.append(changed.to_record())
        return None
