"""The in-sync replicas as one leader sees them: what the controller committed, and the one change it has asked for.

    from            to              when
    settled         pending         a change is proposed; never while another is in flight (KIP-497)
    pending         settled (new)   the controller committed it, or metadata of a newer partition epoch came
    pending         settled (old)   the controller refused it for a member's sake (INELIGIBLE_REPLICA)
    pending         pending         refused because our view is old: metadata that ends it is on its way;
                                    or the outcome is not known: asked again, never taken back (rule 9)

While a change is pending the *maximal* ISR, the larger of the two sets, counts for the high watermark: a shrink counts
once it is committed, an expansion from the moment it is proposed, for the controller may have committed it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from ...cluster.invariant import invariant
from ...proto.errors import ErrorCode
from ...proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch

_REVERTS: Final = frozenset({ErrorCode.INELIGIBLE_REPLICA})
_WAITS_FOR_METADATA: Final = frozenset(
    {
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NEW_LEADER_ELECTED,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
    }
)


@dataclass(frozen=True, slots=True)
class IsrProposal:
    """One change a leader asks the controller for. The sender adds the leader's own broker epoch."""

    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    isr: frozenset[BrokerId]
    broker_epochs: tuple[
        tuple[BrokerId, BrokerEpoch | None], ...
    ]  # of the followers in `isr`, as seen in their fetches


@dataclass(frozen=True, slots=True)
class IsrAnswer:
    """The controller's answer for one partition; the last three are None unless `error` is NONE."""

    error: ErrorCode
    leader_epoch: LeaderEpoch | None = None
    partition_epoch: PartitionEpoch | None = None
    isr: frozenset[BrokerId] | None = None


class Verdict(Enum):
    """What an answer did to the state."""

    IGNORED = auto()
    COMMITTED = auto()
    REVERTED = auto()
    WAITS_FOR_METADATA = auto()
    RETRY = auto()


@dataclass(frozen=True, slots=True)
class IsrState:
    """See the table above; each change gives a new one."""

    committed: frozenset[BrokerId]
    partition_epoch: PartitionEpoch
    pending: IsrProposal | None
    maximal: frozenset[BrokerId]

    @classmethod
    def settled(cls, isr: Iterable[BrokerId], partition_epoch: PartitionEpoch) -> IsrState:
        committed = frozenset(isr)
        return cls(committed, partition_epoch, None, committed)

    def propose(self, proposal: IsrProposal) -> IsrState:
        """The state with `proposal` in flight."""
        invariant(self.pending is None, "a second ISR change while one is in flight")
        invariant(proposal.partition_epoch == self.partition_epoch, "an ISR change from another partition epoch")
        grows = proposal.isr > self.committed
        invariant(grows or proposal.isr < self.committed, "an ISR change either grows or shrinks")
        return IsrState(self.committed, self.partition_epoch, proposal, proposal.isr if grows else self.committed)

    def answered(self, proposal: IsrProposal, answer: IsrAnswer) -> tuple[IsrState, Verdict]:
        """The state after the controller's answer to `proposal`; void unless that is what is in flight."""
        if self.pending is not proposal:
            return self, Verdict.IGNORED
        if answer.error is ErrorCode.NONE:
            return self._accepted(proposal, answer)
        if answer.error in _REVERTS:
            return IsrState.settled(self.committed, self.partition_epoch), Verdict.REVERTED
        if answer.error in _WAITS_FOR_METADATA:
            return self, Verdict.WAITS_FOR_METADATA
        return self, Verdict.RETRY

    def _accepted(self, proposal: IsrProposal, answer: IsrAnswer) -> tuple[IsrState, Verdict]:
        if answer.isr is None or answer.partition_epoch is None or answer.leader_epoch != proposal.leader_epoch:
            return self, Verdict.WAITS_FOR_METADATA
        if answer.partition_epoch < self.partition_epoch:
            return self, Verdict.WAITS_FOR_METADATA
        return IsrState.settled(answer.isr, answer.partition_epoch), Verdict.COMMITTED

    def replaced(self, isr: Iterable[BrokerId], partition_epoch: PartitionEpoch) -> IsrState:
        """The state after metadata: a newer partition epoch ends what was pending, an older one says nothing new."""
        return IsrState.settled(isr, partition_epoch) if partition_epoch > self.partition_epoch else self
