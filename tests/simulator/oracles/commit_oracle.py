"""What is committed stays committed: rules 1, 3, 4, 5, 6, 8, 13 and 19, from leaders' high watermarks and from the
partitions as the controllers have committed them.

    1   one leader in an epoch; the epoch never falls
    3   what a high watermark has covered is in the log of every later leader, and of all who may become one
    4   a high watermark never falls on a leader within an epoch
    5   it never passes the log end of a member of the ISR, those included whose joining is pending
    6   it stands still while the ISR is smaller than min.insync.replicas
    8   who joins the ISR has all that is committed, and reaches the begin of the leader's epoch
    13  a leader has its epoch in its cache
    19  who lost its disk is not elected

A broker that lost what it had not synced (a power cut, a decayed disk) is bound by its next registration only: until
then the others do not know, and count on it in good faith.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from klamm.cluster.image import MetadataImage, PartitionImage
from klamm.proto.identifiers import BrokerId, TopicIdPartition
from simulator.oracles.breach import Report
from simulator.oracles.replica_logs import Batch, ReplicaLog, ReplicaLogs


@dataclass(slots=True)
class Committed:
    """One partition: what is committed, in whose epoch, and what of it was promised."""

    batches: list[Batch] = field(default_factory=list)
    end_offset: int = 0
    leaders: dict[int, int] = field(default_factory=dict)  # broker by epoch
    epoch_starts: dict[int, int] = field(default_factory=dict)  # log end when the leader began
    promised_since_s: float = -1.0  # acks before this have been given up, by an unclean election or a lost disk
    given_up: bool = False  # what is committed is to be taken from the next leader


class LeaderView(NamedTuple):
    """A leader as its broker has it, at one moment."""

    broker_id: int
    partition: TopicIdPartition
    leader_epoch: int
    high_watermark: int
    committed_isr: frozenset[BrokerId]
    proposed: Mapping[BrokerId, int | None]  # members of a pending ISR, with the incarnations meant
    min_isr: int
    image: MetadataImage  # that the broker acts on
    run: int  # of the process: another one may begin with a lower high watermark


class CommitOracle:
    """Told of every look at a leader and of every committed change of a partition."""

    def __init__(self, logs: ReplicaLogs, report: Report) -> None:
        self._logs = logs
        self._report = report
        self._committed: dict[TopicIdPartition, Committed] = {}
        self._high_watermarks: dict[tuple[int, TopicIdPartition, int, int], int] = {}
        self._lost: dict[tuple[int, TopicIdPartition | None], int] = {}  # in which incarnation
        self.image = MetadataImage.empty()  # the newest that is committed
        self.distrusted: set[int] = set()  # brokers whose disks have failed: not to trust these is right

    def of(self, partition: TopicIdPartition) -> Committed:
        """What is known of a partition."""
        found = self._committed.get(partition)
        if found is None:
            found = self._committed[partition] = Committed()
        return found

    def leader_of(self, partition: TopicIdPartition, leader_epoch: int) -> int | None:
        """Who leads in an epoch, as committed; None: nobody, or it is not known."""
        return self.of(partition).leaders.get(leader_epoch)

    # --- whose word counts -----------------------------------------------------------------------------------

    def lost_data(self, broker_id: int, broker_epoch: int, partition: TopicIdPartition | None = None) -> None:
        """A broker's disk has lost something in this incarnation; None: anything."""
        self._lost[broker_id, partition] = max(broker_epoch, self._lost.get((broker_id, partition), -1))

    def lost_in(self, broker_id: int, partition: TopicIdPartition) -> int:
        """The last incarnation in which it did."""
        return max(self._lost.get((broker_id, None), -1), self._lost.get((broker_id, partition), -1))

    def is_bound(self, broker_id: int, partition: TopicIdPartition, image: MetadataImage) -> bool:
        """False while a broker that lost data is known to `image` by its old registration only (rule 19)."""
        lost_in = self.lost_in(broker_id, partition)
        if lost_in < 0:
            return True
        registered = image.brokers.get(BrokerId(broker_id))
        return registered is None or registered.broker_epoch > lost_in

    def disk_lost(self, broker_id: int, broker_epoch: int, now_s: float) -> None:
        """A power cut: its logs are unknown until they are opened. Where nobody else holds what is committed, that is
        the end of the promise: so many disks may not be lost at once."""
        self.lost_data(broker_id, broker_epoch)
        for partition, log in self._logs.on(broker_id):
            log.intact = False
            state = self.image.partition(*partition)
            if state is None or broker_id not in (*state.isr, *state.eligible_leader_replicas):
                continue
            others = {*state.isr, *state.eligible_leader_replicas} - {broker_id}
            if not any(self._holds(other, partition) for other in others):
                self.give_up(partition, now_s)

    def give_up(self, partition: TopicIdPartition, now_s: float) -> None:
        """What is committed there so far is promised no longer."""
        committed = self.of(partition)
        committed.given_up = True
        committed.promised_since_s = now_s

    def _holds(self, broker_id: int, partition: TopicIdPartition) -> bool:
        log = self._logs.get(broker_id, partition)
        return log is not None and log.intact and self._lacks(log, partition) is None

    def _lacks(self, log: ReplicaLog, partition: TopicIdPartition) -> Batch | None:
        """The first committed batch that is not in this log, though it should be."""
        committed = self.of(partition)
        if log.end_offset < committed.end_offset:
            return next((batch for batch in committed.batches if batch.next_offset > log.end_offset), None)
        if partition in self._logs.compacted:
            return None
        first = max(log.begins_at, log.batches[0].base_offset if log.batches else 0)
        expected = [batch for batch in committed.batches if batch.base_offset >= first]
        actual = log.between(first, committed.end_offset)
        if expected == actual:
            return None
        return next((batch for batch in expected if log.at(batch.base_offset) != batch), None)

    # --- leaders as they run ---------------------------------------------------------------------------------

    def led(self, view: LeaderView, log_end_offset: int, latest_epoch: int | None, *, failed: bool) -> None:
        """A leader as it is between two steps of its broker."""
        committed = self.of(view.partition)
        if view.leader_epoch not in committed.epoch_starts:
            # It may have appended since it began.
            own = self._logs.get(view.broker_id, view.partition) or ()
            firsts = (each.base_offset for each in own if each.leader_epoch == view.leader_epoch)
            committed.epoch_starts[view.leader_epoch] = next(firsts, log_end_offset)
        leader = committed.leaders.get(view.leader_epoch)
        name = self._logs.name(view.partition)
        if leader != view.broker_id:
            self._report(
                1,
                f"broker {view.broker_id} leads {name} in leader epoch {view.leader_epoch}, in which the controllers "
                f"have broker {leader} lead",
            )
        if latest_epoch != view.leader_epoch and not failed:
            self._report(
                13,
                f"broker {view.broker_id} leads {name} in leader epoch {view.leader_epoch}, and the newest epoch in "
                f"its cache is {latest_epoch}",
            )
        self.high_watermark(view)

    def high_watermark(self, view: LeaderView) -> None:
        """A leader's high watermark, at the moment that it moves or later."""
        key = (view.broker_id, view.partition, view.leader_epoch, view.run)
        before = self._high_watermarks.get(key)
        if before == view.high_watermark:
            return
        self._high_watermarks[key] = view.high_watermark
        name = self._logs.name(view.partition)
        if before is not None and view.high_watermark < before:
            self._report(
                4,
                f"the high watermark of {name} fell from {before} to {view.high_watermark} on broker {view.broker_id} "
                f"in leader epoch {view.leader_epoch}",
            )
            return
        if before is not None and len(view.committed_isr) < view.min_isr:
            self._report(
                6,
                f"the high watermark of {name} moved from {before} to {view.high_watermark} on broker {view.broker_id} "
                f"in leader epoch {view.leader_epoch}, with {len(view.committed_isr)} in sync and "
                f"min.insync.replicas {view.min_isr}",
            )
        self._check_members(view)
        self._extend(view)

    def _check_members(self, view: LeaderView) -> None:
        members: dict[BrokerId, None] = dict.fromkeys(sorted(view.committed_isr))
        members.update(dict.fromkeys(sorted(view.proposed)))
        state = self.image.partition(*view.partition)
        if state is not None and state.leader_epoch == view.leader_epoch:
            members.update(dict.fromkeys(state.isr))
        for member in members:
            if state is not None and member not in state.replicas:
                continue  # it was taken out, and may have given its log up before the leader hears of it
            log = self._logs.get(member, view.partition)
            end_offset = 0 if log is None else log.end_offset
            if member == view.broker_id or end_offset >= view.high_watermark or (log is not None and not log.intact):
                continue
            joins_as = view.proposed.get(member) if member not in view.committed_isr else None
            lost = joins_as is not None and joins_as <= self.lost_in(member, view.partition)
            if lost or not self.is_bound(member, view.partition, view.image):
                continue
            how = "in sync" if member in view.committed_isr else "about to be in sync"
            self._report(
                5,
                f"the high watermark of {self._logs.name(view.partition)} is {view.high_watermark} on broker "
                f"{view.broker_id} in leader epoch {view.leader_epoch}, past the log end {end_offset} of broker "
                f"{member}, which is {how}",
            )

    def _extend(self, view: LeaderView) -> None:
        """What the high watermark covers is committed from now on."""
        committed = self.of(view.partition)
        log = self._logs.of(view.broker_id, view.partition)
        if committed.given_up:
            newest = max(committed.leaders, default=-1)
            if view.leader_epoch < newest:
                return
            committed.batches = log.between(0, view.high_watermark)
            committed.end_offset = view.high_watermark
            committed.given_up = False
        elif view.high_watermark > committed.end_offset:
            committed.batches += log.between(committed.end_offset, view.high_watermark)
            committed.end_offset = view.high_watermark

    def truncated(self, broker_id: int, partition: TopicIdPartition, end_offset: int) -> None:
        """A replica that counts has cut off what is committed."""
        committed = self._committed.get(partition)
        if committed is None or committed.given_up or end_offset >= committed.end_offset:
            return
        state = self.image.partition(*partition)
        if state is None or broker_id not in (*state.isr, *state.eligible_leader_replicas):
            return
        if self.is_bound(broker_id, partition, self.image):
            self._report(
                3,
                f"broker {broker_id} may lead {self._logs.name(partition)} and cut off all from offset {end_offset} "
                f"on, of which all below {committed.end_offset} is committed",
            )

    # --- partitions as they are committed --------------------------------------------------------------------

    def changed(
        self, name: str, old: PartitionImage | None, new: PartitionImage, image: MetadataImage, now_s: float
    ) -> None:
        """The controllers have committed another state of a partition; `image` has it. Call `image` first."""
        partition = new.topic_id_partition
        self._logs.names[partition] = f"{name}-{new.partition}"
        committed = self.of(partition)
        if old is not None and new.leader_epoch < old.leader_epoch:
            self._report(1, f"the leader epoch of {name}-{new.partition} fell from {old.leader_epoch}: {new}")
        if new.leader is not None:
            known = committed.leaders.setdefault(new.leader_epoch, new.leader)
            if known != new.leader:
                self._report(
                    1, f"{name}-{new.partition} has two leaders in epoch {new.leader_epoch}: {known} and {new.leader}"
                )
        if new.recovering and (old is None or not old.recovering or new.leader_epoch != old.leader_epoch):
            self.give_up(partition, now_s)
        self._who_is_left(name, old, new, image, now_s)
        if not committed.given_up:
            self._check_holders(name, old, new, image)

    def _who_is_left(
        self, name: str, old: PartitionImage | None, new: PartitionImage, image: MetadataImage, now_s: float
    ) -> None:
        """Where the controllers count on none but replicas that have lost data, which they cannot know yet, it is the
        end of the promise: as many were in sync as they had to be, or it was one fault more than it is made for."""
        partition = new.topic_id_partition
        holders = (*new.isr, *new.eligible_leader_replicas)
        if not holders or any(self.is_bound(holder, partition, image) for holder in holders):
            return
        before = () if old is None else (*old.isr, *old.eligible_leader_replicas)
        dropped = [each for each in before if each in new.replicas and each not in (*holders, *self.distrusted)]
        min_isr = image.topic_config(name).effective_min_insync_replicas(len(new.replicas) - len(new.adding_replicas))
        held = [each for each in dropped if self._holds(each, partition)]
        if held and len(new.isr) < min_isr and not self.of(partition).given_up:
            self._report(
                19,
                f"of {name}-{new.partition} only {holders} may lead, who lost data, though broker {held[0]} has all "
                f"of it and was eligible: {new}",
            )
        self.give_up(partition, now_s)

    def _check_holders(self, name: str, old: PartitionImage | None, new: PartitionImage, image: MetadataImage) -> None:
        partition = new.topic_id_partition
        committed = self.of(partition)
        if not committed.end_offset and not committed.epoch_starts:
            return
        before = set() if old is None else {*old.isr, *old.eligible_leader_replicas}
        for member in (*new.isr, *new.eligible_leader_replicas):
            log = self._logs.get(member, partition)
            if log is None:
                log = ReplicaLog()
            if not log.intact or not self.is_bound(member, partition, image):
                continue
            lacking = self._lacks(log, partition)
            joined = member not in before
            elected = member == new.leader and (old is None or old.leader_epoch != new.leader_epoch)
            if lacking is not None:
                rule = 8 if joined and not elected else 19 if self.lost_in(member, partition) >= 0 else 3
                what = "leads" if elected else "joined the ISR of" if joined else "may lead"
                self._report(
                    rule,
                    f"broker {member} {what} {name}-{new.partition} in leader epoch {new.leader_epoch} with its log up "
                    f"to offset {log.end_offset} and without the committed batch at offset {lacking.base_offset} of "
                    f"epoch {lacking.leader_epoch}",
                )
            elif joined and not elected and old is not None and old.leader_epoch == new.leader_epoch:
                self._check_start(name, member, log.end_offset, new)

    def _check_start(self, name: str, member: int, log_end_offset: int, new: PartitionImage) -> None:
        start_offset = self.of(new.topic_id_partition).epoch_starts.get(new.leader_epoch, 0)
        if log_end_offset < start_offset:
            self._report(
                8,
                f"broker {member} joined the ISR of {name}-{new.partition} with its log up to offset {log_end_offset}; "
                f"leader epoch {new.leader_epoch} began at {start_offset}",
            )

    # --- acks ------------------------------------------------------------------------------------------------

    def acked(self, partition: TopicIdPartition, last_offset: int, whom: str) -> None:
        """Somebody was told that all up to this offset is there for ever."""
        committed = self.of(partition)
        if not committed.given_up and last_offset >= committed.end_offset:
            self._report(
                3,
                f"{whom} was acked offset {last_offset} of {self._logs.name(partition)} under acks=all, of which no "
                f"leader has committed more than what is below {committed.end_offset}",
            )

    def partitions(self) -> Iterable[tuple[TopicIdPartition, Committed]]:
        """All that there ever were."""
        return self._committed.items()
