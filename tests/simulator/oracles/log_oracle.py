"""What may happen to a log, seen at each append, truncation and start: rules 2, 12, 14, 15, 17, 18 and 27.

2   a batch at one (offset, epoch) has one content, on whatever replica
12  a follower cuts off nothing that its leader has
14  the epoch cache says of every batch what the batch says of itself, and of nothing else
15  a leader appends under its own epoch only
17  a producer's sequences are appended once and without a gap
18  what a killed process left is a prefix of what it had
27  what was appended without an error is in the file
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from klamm.proto.identifiers import TopicIdPartition
from simulator.oracles.breach import Report
from simulator.oracles.replica_logs import Batch, ReplicaLog, ReplicaLogs

Entries = Sequence[tuple[int, int]]
"""Leader epochs and their start offsets."""


class LogOracle:
    """Told of everything that changes a log, after it was done."""

    def __init__(
        self, logs: ReplicaLogs, report: Report, leader_of: Callable[[TopicIdPartition, int], int | None]
    ) -> None:
        """`leader_of` says who leads in an epoch, as the controllers have committed it."""
        self._logs = logs
        self._report = report
        self._leader_of = leader_of
        self._contents: dict[tuple[TopicIdPartition, int, int], tuple[int, int]] = {}
        self._refused: set[tuple[int, TopicIdPartition, int, int]] = set()
        self.lost_promises: set[TopicIdPartition] = (
            set()
        )  # an unclean election or a lost disk: producers may begin anew

    # --- appends ---------------------------------------------------------------------------------------------

    def appended_as_leader(
        self, broker_id: int, partition: TopicIdPartition, batch: Batch, *, written: bool = True
    ) -> None:
        """A leader has appended what a client sent; `written`: it is in the file."""
        if not written:
            self._report(
                27,
                f"broker {broker_id} appended to {self._logs.name(partition)} at offset {batch.base_offset} without an "
                "error, and the batch is not in the file",
            )
        log = self._logs.of(broker_id, partition)
        leader = self._leader_of(partition, batch.leader_epoch)
        if leader != broker_id:
            self._report(
                15,
                f"broker {broker_id} appended to {self._logs.name(partition)} at offset {batch.base_offset} under "
                f"leader epoch {batch.leader_epoch}, in which the controllers have broker {leader} lead",
            )
        self._check_sequence(broker_id, partition, log, batch)
        self._note(broker_id, partition, batch)
        log.append(batch)

    def appended_as_follower(
        self, broker_id: int, partition: TopicIdPartition, added: Sequence[Batch], *, gaps: bool
    ) -> None:
        """A follower has appended what its leader sent."""
        log = self._logs.of(broker_id, partition)
        if gaps:
            self._logs.compacted.add(partition)
        for batch in added:
            if not log.batches and batch.base_offset < log.end_offset:
                log.restart(batch.base_offset)
            self._note(broker_id, partition, batch)
            log.append(batch)

    def _note(self, broker_id: int, partition: TopicIdPartition, batch: Batch) -> None:
        if partition in self._logs.compacted:
            return
        key = (partition, batch.base_offset, batch.leader_epoch)
        digest, first = self._contents.setdefault(key, (batch.digest, broker_id))
        if digest != batch.digest:
            self._report(
                2,
                f"{self._logs.name(partition)} at offset {batch.base_offset} under epoch {batch.leader_epoch}: broker "
                f"{broker_id} holds other bytes than broker {first}",
            )

    def refused(self, broker_id: int, partition: TopicIdPartition, producer_id: int, producer_epoch: int) -> None:
        """A leader said of a batch that it will not take it. Clients that do not wait for that, or count on from there,
        come next with a sequence that is not 0: from a producer that it does not know the first leader of a partition
        takes any, as Kafka's. Later ones do not.
        """
        self._refused.add((broker_id, partition, producer_id, producer_epoch))

    def _check_sequence(self, broker_id: int, partition: TopicIdPartition, log: ReplicaLog, batch: Batch) -> None:
        if batch.producer_id < 0 or batch.base_sequence < 0:
            return
        where = (
            f"producer {batch.producer_id} epoch {batch.producer_epoch}: sequence {batch.base_sequence} was appended "
            f"to {self._logs.name(partition)} at offset {batch.base_offset} by broker {broker_id}"
        )
        before = log.offset_of(batch.producer_id, batch.producer_epoch, batch.base_sequence)
        if before is not None:
            self._report(17, f"{where}, and is at offset {before} already")
            return
        if partition in self.lost_promises or log.begins_at:
            return
        last = log.last_of(batch.producer_id)
        if last is None and batch.leader_epoch == 0:
            refused = (broker_id, partition, batch.producer_id, batch.producer_epoch) in self._refused
            # Else it is deposed, does not know yet, and what was sent before went to a later leader: nothing of this
            # will be committed.
            if refused or self._logs.hold_producer(partition, batch.producer_id):
                return
        expected = 0
        if last is not None:
            epoch, sequence = last
            if batch.producer_epoch < epoch:
                self._report(17, f"{where}, though epoch {epoch} of it was there before")
                return
            expected = (sequence + 1) & 0x7FFFFFFF if epoch == batch.producer_epoch else 0
        if batch.base_sequence != expected:
            self._report(17, f"{where}, where {expected} is next")

    # --- truncations -----------------------------------------------------------------------------------------

    def truncated(
        self,
        broker_id: int,
        partition: TopicIdPartition,
        end_offset: int,
        leader_id: int | None,
        leader_start_offset: int = 0,
        *,
        asked: int | None = None,
    ) -> None:
        """A log ends at `end_offset` now; `leader_id` is whose follower it is, None where that is not known. The cut
        was to be at `asked`: where compaction has left nothing before that, the log ends sooner."""
        cut = self._logs.of(broker_id, partition).truncate(end_offset)
        if asked is not None and partition in self._logs.compacted:
            cut = [batch for batch in cut if batch.next_offset > asked]
        self._check_cut(broker_id, partition, cut, leader_id, leader_start_offset, f"truncated to {end_offset}")

    def restarted(
        self,
        broker_id: int,
        partition: TopicIdPartition,
        offset: int,
        leader_id: int | None,
        leader_start_offset: int = 0,
    ) -> None:
        """A log was emptied; `leader_id` is None where that may be for another reason than what the leader has."""
        cut = self._logs.of(broker_id, partition).restart(offset)
        self._check_cut(broker_id, partition, cut, leader_id, leader_start_offset, f"started over at {offset}")

    def _check_cut(
        self,
        broker_id: int,
        partition: TopicIdPartition,
        cut: Sequence[Batch],
        leader_id: int | None,
        leader_start_offset: int,
        what: str,
    ) -> None:
        leaders = None if leader_id is None else self._logs.get(leader_id, partition)
        if leaders is None or not leaders.intact:
            return
        for batch in cut:
            theirs = leaders.at(batch.base_offset)
            if batch.base_offset >= leader_start_offset and theirs is not None and theirs[:4] == batch[:4]:
                self._report(
                    12,
                    f"broker {broker_id} {what} in {self._logs.name(partition)} and cut off the batch at offset "
                    f"{batch.base_offset} of epoch {batch.leader_epoch}, which its leader {leader_id} has too",
                )
                return

    # --- starts ----------------------------------------------------------------------------------------------

    def loaded(
        self,
        broker_id: int,
        partition: TopicIdPartition,
        found: Sequence[Batch],
        end_offset: int,
        *,
        whole: bool,
        damaged: bool = False,
    ) -> None:
        """A process has opened a log on its disk. `whole`: nothing but the process ended, so all of it must be there;
        `damaged`: the disk has decayed, and nothing can be said of what is left."""
        log = self._logs.of(broker_id, partition)
        if not damaged and partition not in self._logs.compacted:
            self._check_prefix(broker_id, partition, log, found, end_offset, whole=whole)
        if damaged or partition in self._logs.compacted:
            log.truncate(end_offset)  # a batch on the disk may be another one; that is seen when it is read
        else:
            kept = [batch for batch in log.batches if found and batch.base_offset < found[0].base_offset]
            log.replace([*kept, *found] if found else [])
            log.end_offset = end_offset
            if not log.batches:
                log.begins_at = end_offset
        log.intact = True

    def _check_prefix(
        self,
        broker_id: int,
        partition: TopicIdPartition,
        log: ReplicaLog,
        found: Sequence[Batch],
        end_offset: int,
        *,
        whole: bool,
    ) -> None:
        name = self._logs.name(partition)
        if whole and end_offset < log.end_offset:
            self._report(
                18,
                f"broker {broker_id} was killed with {name} up to offset {log.end_offset} and found it up to "
                f"{end_offset} only",
            )
        for batch in found:
            before = log.at(batch.base_offset)
            if before is None or before[:4] != batch[:4]:
                was = "nothing" if before is None else f"another one of epoch {before.leader_epoch}"
                self._report(
                    18,
                    f"broker {broker_id} found a batch at offset {batch.base_offset} of epoch {batch.leader_epoch} in "
                    f"{name}, where {was} was when its process ended",
                )
                return

    # --- epochs ----------------------------------------------------------------------------------------------

    def check_epochs(
        self,
        broker_id: int,
        partition: TopicIdPartition,
        entries: Entries,
        start_offset: int,
        end_offset: int,
        *,
        known_from: int = 0,
    ) -> None:
        """Rule 14, after a log was cut at either end or opened; below `known_from` epochs may be missing."""
        where = f"the epoch cache of broker {broker_id} for {self._logs.name(partition)}"
        if entries and entries[-1][1] > end_offset:
            epoch, start = entries[-1]
            self._report(14, f"{where} has epoch {epoch} begin at {start}, past the log end {end_offset}")
            return
        if entries and entries[0][1] < start_offset:
            epoch, start = entries[0]
            self._report(14, f"{where} has epoch {epoch} begin at {start}, before the log start {start_offset}")
            return
        log = self._logs.of(broker_id, partition)
        index = -1
        for batch in log.between(max(start_offset, known_from), end_offset):
            while index + 1 < len(entries) and entries[index + 1][1] <= batch.base_offset:
                index += 1
            epoch_there = entries[index][0] if index >= 0 else None
            if epoch_there != batch.leader_epoch:
                self._report(
                    14,
                    f"{where} has epoch {epoch_there} at offset {batch.base_offset}, where the batch is of epoch "
                    f"{batch.leader_epoch}",
                )
                return
