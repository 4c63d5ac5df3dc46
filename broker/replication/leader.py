"""The leader of one partition, as a core: follower progress in; high watermark and wanted ISR changes out.

It knows no log, no clock and no stream: who owns it tells it what happened (`appended`, `follower_fetched`, `ticked`,
`alter_partition_answered`, `metadata_changed`) and carries out the effects it gives back, in their order.

The rules are Kafka's (`Partition.scala`), by the numbers of the design: 4 and 5 high watermark, 6 min.insync.replicas
(KIP-966), 7 and 8 who may join (KIP-841, KIP-903), 9 one change in flight (KIP-497). One thing differs. A follower here
does not poll: it arms a position and waits. So one that stands at the log end counts as caught up until the moment of
the next append, or of the next question (`confirmations.py`), however long ago it was last heard from. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ...cluster.invariant import invariant
from ...proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch
from .isr import IsrAnswer, IsrProposal, IsrState, Verdict
from .offsets import UNKNOWN_OFFSET

_REFUSED_WAIT_MS: Final = 500
"""After the controller called a follower ineligible, others may be proposed first."""


@dataclass(frozen=True, slots=True)
class HighWatermarkAdvanced:
    """Everything below is committed: answer who waited for it."""

    high_watermark: Offset


@dataclass(frozen=True, slots=True)
class SendAlterPartition:
    """Ask the controller for another ISR; ask again until it answers."""

    proposal: IsrProposal


@dataclass(frozen=True, slots=True)
class IsrChanged:
    """The committed ISR is another one now."""

    isr: frozenset[BrokerId]
    under_min_isr: bool


Effect = HighWatermarkAdvanced | SendAlterPartition | IsrChanged
Effects = tuple[Effect, ...]


@dataclass(slots=True)
class FollowerProgress:
    """What the leader knows of one follower in this leader epoch."""

    broker_id: BrokerId
    last_caught_up_ms: int | None  # None: never in this epoch
    log_end_offset: Offset = UNKNOWN_OFFSET
    broker_epoch: BrokerEpoch | None = None
    last_fetch_ms: int | None = None
    last_fetch_leader_log_end_offset: Offset = UNKNOWN_OFFSET
    refused_until_ms: int = 0
    asked: bool = False  # whether it still follows; until it says so, standing at the log end proves nothing

    def left_isr(self) -> None:
        """Its disk may be full, or its broker gone: what it had a moment ago is no reason to wait for it."""
        self.last_caught_up_ms = None
        self.last_fetch_ms = None

    def stands_at(self, leader_log_end_offset: Offset) -> bool:
        """It is at the log end, and owes no answer."""
        return self.log_end_offset == leader_log_end_offset and not self.asked

    def caught_up(self, leader_log_end_offset: Offset, now_ms: int, lag_time_max_ms: int) -> bool:
        """At the log end, or there no longer ago than the lag allowed."""
        if self.stands_at(leader_log_end_offset):
            return True
        return self.last_caught_up_ms is not None and now_ms - self.last_caught_up_ms <= lag_time_max_ms


class LeaderState:
    """One leadership: from one leader epoch's begin to its end."""

    def __init__(
        self,
        *,
        broker_id: BrokerId,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        replicas: Iterable[BrokerId],
        isr: Iterable[BrokerId],
        min_isr: int,
        log_end_offset: Offset,
        high_watermark: Offset,
        active_brokers: Mapping[BrokerId, BrokerEpoch],
        lag_time_max_ms: int,
        now_ms: int,
    ) -> None:
        """`active_brokers`, neither fenced nor leaving, with their epochs, is shared and kept current by the owner."""
        self.broker_id: Final = broker_id
        self.leader_epoch: Final = leader_epoch
        self.leader_epoch_start_offset: Final = log_end_offset
        self.log_end_offset = log_end_offset
        self.high_watermark = high_watermark
        self.min_isr = min_isr
        self.isr = IsrState.settled(isr, partition_epoch)
        self._active_brokers = active_brokers
        self._lag_time_max_ms = lag_time_max_ms
        self.followers: dict[BrokerId, FollowerProgress] = {
            replica: FollowerProgress(replica, now_ms if replica in self.isr.committed else None)
            for replica in replicas
            if replica != broker_id
        }
        invariant(broker_id in self.isr.committed, "a broker leads without being in the ISR")

    @property
    def under_min_isr(self) -> bool:
        """Fewer in sync, by what the controller has committed, than min.insync.replicas."""
        return len(self.isr.committed) < self.min_isr

    @property
    def possible_successors(self) -> frozenset[BrokerId]:
        """Whoever the controllers may have made leader of a later epoch without this one's knowing.

        That is a member of the maximal ISR; under min.insync.replicas it may be any replica, for who is eligible then
        (KIP-966) a leader does not know. Elections that are called unclean are not counted.
        """
        members = frozenset(self.followers) if self.under_min_isr else self.isr.maximal
        return members - {self.broker_id}

    @property
    def settled(self) -> bool:
        """Nothing is left that time alone could change: every replica is in the ISR and at the log end."""
        return len(self.isr.committed) > len(self.followers) and all(
            follower.stands_at(self.log_end_offset) for follower in self.followers.values()
        )

    def started(self, now_ms: int) -> Effects:
        """Leadership begins: alone in the ISR, all it has is committed."""
        return self._high_watermark_effects(now_ms)

    def appended(self, log_end_offset: Offset, now_ms: int) -> Effects:
        """The leader wrote: who stood at the log end was in sync up to this moment."""
        for follower in self.followers.values():
            if follower.stands_at(self.log_end_offset):
                follower.last_caught_up_ms = now_ms
        self.log_end_offset = log_end_offset
        return self._high_watermark_effects(now_ms)

    def asked(self, now_ms: int) -> None:
        """All followers are asked whether they follow still: who stood at the log end was in sync up to this moment."""
        for follower in self.followers.values():
            if follower.stands_at(self.log_end_offset):
                follower.last_caught_up_ms = now_ms
            follower.asked = True

    def nobody_asked(self) -> None:
        """Nobody could answer: that is no fault of theirs."""
        for follower in self.followers.values():
            follower.asked = False

    def confirmed(self, broker_id: BrokerId) -> None:
        """A follower has answered all that it was asked."""
        if (follower := self.followers.get(broker_id)) is not None:
            follower.asked = False

    def follower_fetched(
        self, broker_id: BrokerId, broker_epoch: BrokerEpoch, fetch_offset: Offset, now_ms: int
    ) -> Effects:
        """A replica holds this leader's log up to `fetch_offset`: epochs were checked and do not diverge there."""
        follower = self.followers[broker_id]
        if fetch_offset < follower.log_end_offset:
            follower.last_caught_up_ms = None  # it lost its log: nothing may wait for it, and it joins anew
        elif fetch_offset >= self.log_end_offset:
            follower.last_caught_up_ms = now_ms
        elif fetch_offset >= follower.last_fetch_leader_log_end_offset and follower.last_fetch_ms is not None:
            # It has all that was there when it asked before.
            follower.last_caught_up_ms = max(follower.last_caught_up_ms or 0, follower.last_fetch_ms)
        follower.log_end_offset = fetch_offset
        follower.broker_epoch = broker_epoch
        follower.last_fetch_ms = now_ms
        follower.last_fetch_leader_log_end_offset = self.log_end_offset
        expansion = self._maybe_expand(follower, now_ms)
        return (*expansion, *self._high_watermark_effects(now_ms))

    def ticked(self, now_ms: int) -> Effects:
        """Time went by: the lagging leave, the refused are proposed again, and none is waited for too long."""
        change = self._maybe_shrink(now_ms) or self._maybe_expand_idle(now_ms)
        return (*change, *self._high_watermark_effects(now_ms))

    def brokers_changed(self, now_ms: int) -> Effects:
        """Some broker was fenced, unfenced or started anew: who stands at the log end may be fit to join now."""
        return (*self._maybe_expand_idle(now_ms), *self._high_watermark_effects(now_ms))

    def alter_partition_answered(
        self, proposal: IsrProposal, answer: IsrAnswer, now_ms: int
    ) -> tuple[Effects, Verdict]:
        """The controller answered `proposal`."""
        before = self.isr
        self.isr, verdict = before.answered(proposal, answer)
        if verdict is Verdict.REVERTED:
            for broker_id in proposal.isr - before.committed:
                if (follower := self.followers.get(broker_id)) is not None:
                    follower.refused_until_ms = now_ms + _REFUSED_WAIT_MS
        if verdict not in (Verdict.COMMITTED, Verdict.REVERTED):
            return (), verdict
        return self._after_isr_change(before, now_ms), verdict

    def metadata_changed(
        self, *, replicas: Iterable[BrokerId], isr: Iterable[BrokerId], partition_epoch: PartitionEpoch, now_ms: int
    ) -> Effects:
        """The partition as the controller has it now, in the same leader epoch."""
        if partition_epoch < self.isr.partition_epoch:
            return ()
        before = self.isr
        self.isr = before.replaced(isr, partition_epoch)
        assigned = [replica for replica in replicas if replica != self.broker_id]
        self.followers = {
            replica: self.followers.get(replica) or FollowerProgress(replica, None) for replica in assigned
        }
        for broker_id in before.committed - self.isr.committed:
            if (follower := self.followers.get(broker_id)) is not None:
                follower.left_isr()
        return self._after_isr_change(before, now_ms)

    def min_isr_changed(self, min_isr: int, now_ms: int) -> Effects:
        """min.insync.replicas was altered."""
        if min_isr == self.min_isr:
            return ()
        self.min_isr = min_isr
        return (IsrChanged(self.isr.committed, self.under_min_isr), *self._high_watermark_effects(now_ms))

    def _after_isr_change(self, before: IsrState, now_ms: int) -> Effects:
        # The high watermark may move without a fetch: whom it waited for may have left (KAFKA-13091).
        changed: Effects = ()
        if self.isr.committed != before.committed:
            changed = (IsrChanged(self.isr.committed, self.under_min_isr),)
        committed = self._high_watermark_effects(now_ms)
        return (*changed, *committed, *self._maybe_expand_idle(now_ms))

    def _high_watermark_effects(self, now_ms: int) -> Effects:
        if self.high_watermark >= self.log_end_offset or len(self.isr.committed) < self.min_isr:
            return ()
        committed = self.log_end_offset
        maximal = self.isr.maximal
        for follower in self.followers.values():
            if follower.log_end_offset < committed and (
                follower.broker_id in maximal or self._waits_for(follower, now_ms)
            ):
                committed = follower.log_end_offset
        if committed <= self.high_watermark:
            return ()
        self.high_watermark = committed
        return (HighWatermarkAdvanced(committed),)

    def _waits_for(self, follower: FollowerProgress, now_ms: int) -> bool:
        """Not in the ISR yet, but so close that running ahead of it could keep it out for good."""
        return follower.caught_up(self.log_end_offset, now_ms, self._lag_time_max_ms) and self._eligible(follower)

    def _eligible(self, follower: FollowerProgress) -> bool:
        """Unfenced, not leaving, and fetching as the very incarnation that the metadata knows (KIP-841, KIP-903)."""
        return (
            follower.broker_epoch is not None and self._active_brokers.get(follower.broker_id) == follower.broker_epoch
        )

    def _may_join(self, follower: FollowerProgress, now_ms: int) -> bool:
        if (
            follower.broker_id in self.isr.committed
            or follower.log_end_offset < self.high_watermark
            or follower.log_end_offset < self.leader_epoch_start_offset
            or now_ms < follower.refused_until_ms
            or not self._eligible(follower)
        ):
            return False
        # Under min ISR the high watermark stands still, so being past it says little (KAFKA-19996).
        return not self.under_min_isr or follower.caught_up(self.log_end_offset, now_ms, self._lag_time_max_ms)

    def _maybe_expand(self, follower: FollowerProgress, now_ms: int) -> tuple[SendAlterPartition, ...]:
        """For a follower that fetched just now."""
        if self.isr.pending is not None or not self._may_join(follower, now_ms):
            return ()
        return self._propose(self.isr.committed | {follower.broker_id})

    def _maybe_expand_idle(self, now_ms: int) -> tuple[SendAlterPartition, ...]:
        """For followers that are armed at the log end and so will not fetch before the next append.

        No other may join without a fetch: it may be the very one that left for having fallen silent.
        """
        if len(self.isr.committed) > len(self.followers):
            return ()
        for follower in self.followers.values():
            if follower.stands_at(self.log_end_offset) and (change := self._maybe_expand(follower, now_ms)):
                return change
        return ()

    def _maybe_shrink(self, now_ms: int) -> tuple[SendAlterPartition, ...]:
        if self.isr.pending is not None:
            return ()
        lagging = frozenset(
            follower.broker_id
            for follower in self.followers.values()
            if follower.broker_id in self.isr.committed
            and not follower.caught_up(self.log_end_offset, now_ms, self._lag_time_max_ms)
        )
        return self._propose(self.isr.committed - lagging) if lagging else ()

    def _propose(self, isr: frozenset[BrokerId]) -> tuple[SendAlterPartition, ...]:
        epochs = tuple(
            (broker_id, self.followers[broker_id].broker_epoch if broker_id in self.followers else None)
            for broker_id in sorted(isr - {self.broker_id})
        )
        proposal = IsrProposal(self.leader_epoch, self.isr.partition_epoch, isr, epochs)
        self.isr = self.isr.propose(proposal)
        return (SendAlterPartition(proposal),)
