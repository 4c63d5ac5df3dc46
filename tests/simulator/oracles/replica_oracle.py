"""What a replica makes of its own log and of its followers' words: rules 4, 9, 11, 17 and 19.

4   no replica takes for committed what no leader ever did: not after a restart either
9   whom the controllers have in the ISR, the leader waits for: what it has asked for it never takes back by itself
11  a leader counts a follower's position only if it was told under the leader's own epoch
19  who is eligible to lead has all that is committed (KIP-966)
17  what a replica remembers of a producer is what is in its log: no less, and nothing that was cut off
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from klamm.broker.leader_replica import LeaderReplica
from klamm.broker.log.producer_state import ProducerStates
from klamm.broker.replication.leader import LeaderState
from klamm.broker.replication.leader_session import LeaderSession, Position
from klamm.cluster.image import PartitionImage
from klamm.proto.identifiers import TopicIdPartition
from simulator.oracles.breach import Report
from simulator.oracles.hooks import Hooks
from simulator.oracles.replica_logs import ReplicaLogs


class Log(Protocol):
    """What has to be seen of a log."""

    log_start_offset: Any
    log_end_offset: Any
    producer_states: ProducerStates


class ReplicaOracle:
    """Told of high watermarks and cuts; it hears of positions by itself."""

    def __init__(self, logs: ReplicaLogs, report: Report) -> None:
        self._logs = logs
        self._report = report
        self._committed: dict[TopicIdPartition, int] = {}
        self._position: Position | None = None

    def listen(self, hooks: Hooks) -> None:
        """To what streams tell leaders."""
        hooks.around(LeaderSession, "_look_at", self._look_at)
        hooks.after(LeaderReplica, "follower_fetched", self._fetched)

    # --- rule 4 ----------------------------------------------------------------------------------------------

    def leader_has_committed(self, partition: TopicIdPartition, high_watermark: int) -> None:
        """A leader's high watermark has moved."""
        self._committed[partition] = max(high_watermark, self._committed.get(partition, 0))

    def has(self, broker_id: int, partition: TopicIdPartition, high_watermark: int, log_start_offset: int) -> None:
        """A replica's high watermark, leader or not."""
        committed = self._committed.get(partition, 0)
        if high_watermark > max(committed, log_start_offset):
            self._report(
                4,
                f"broker {broker_id} has {self._logs.name(partition)} committed up to {high_watermark}; no leader ever "
                f"had more than {committed}",
            )

    # --- rule 9 ----------------------------------------------------------------------------------------------

    def leads(self, state: LeaderState, committed: PartitionImage | None, name: str) -> None:
        """A leader, and its partition as the controllers have committed it."""
        if committed is None or committed.leader != state.broker_id or committed.leader_epoch != state.leader_epoch:
            return
        if not state.isr.maximal.issuperset(committed.isr):
            self._report(
                9,
                f"the controllers have the ISR {list(committed.isr)} of {name} in epoch {state.leader_epoch}; its "
                f"leader, broker {state.broker_id}, counts with {sorted(state.isr.maximal)} only",
            )

    # --- rule 19 ---------------------------------------------------------------------------------------------

    def eligible(self, partition: TopicIdPartition, members: Iterable[int]) -> None:
        """These may be elected where the ISR is empty, as the controllers have committed it (KIP-966)."""
        committed = self._committed.get(partition, 0)
        for member in members:
            log = self._logs.get(member, partition)
            if log is not None and log.intact and log.end_offset < committed:
                self._report(
                    19,
                    f"broker {member} may be elected for {self._logs.name(partition)} with its log up to "
                    f"{log.end_offset}; what is committed goes up to {committed}",
                )

    # --- rule 11 ---------------------------------------------------------------------------------------------

    def _look_at(
        self, look_at: Callable[..., None], session: LeaderSession, key: Any, position: Position, now: int
    ) -> None:
        before, self._position = self._position, position
        try:
            look_at(session, key, position, now)
        finally:
            self._position = before

    def _fetched(self, _: None, leader: LeaderReplica, broker_id: int, *__: Any) -> None:
        position = self._position
        if position is not None and position.leader_epoch != leader.leader_epoch:
            self._report(
                11,
                f"the leader of {leader._partition} in epoch {leader.leader_epoch} counts what broker {broker_id} said "
                f"in epoch {position.leader_epoch}: that it has all up to {position.fetch_offset}",
            )

    # --- rule 17 ---------------------------------------------------------------------------------------------

    def check_producers(self, broker_id: int, partition: TopicIdPartition, log: Log) -> None:
        """After a log was cut or opened."""
        known = self._logs.of(broker_id, partition)
        if partition in self._logs.compacted:
            return
        where = f"broker {broker_id} for {self._logs.name(partition)}"
        for producer_id in log.producer_states:
            entry = log.producer_states.get(producer_id)
            if entry is not None and entry.batches and entry.batches[-1].last_offset >= log.log_end_offset:
                self._report(
                    17,
                    f"{where} remembers a batch of producer {producer_id} at offset {entry.batches[-1].last_offset}; "
                    f"the log ends at {log.log_end_offset}",
                )
                return
        newest = {
            batch.producer_id: batch
            for batch in known.between(int(log.log_start_offset), int(log.log_end_offset))
            if batch.producer_id >= 0 and batch.base_sequence >= 0
        }
        for producer_id, batch in newest.items():
            entry = log.producer_states.get(producer_id)
            remembered = None
            if entry is not None and entry.batches:
                remembered = (entry.epoch, entry.batches[-1].last_sequence)
            if remembered != (batch.producer_epoch, batch.last_sequence):
                self._report(
                    17,
                    f"{where} remembers (epoch, sequence) {remembered} of producer {producer_id}; in the log the "
                    f"last is {(batch.producer_epoch, batch.last_sequence)}, at offset {batch.base_offset}",
                )
                return
