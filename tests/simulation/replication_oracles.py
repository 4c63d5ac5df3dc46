"""The rules of replication (DESIGN.md section 6), held against a simulated cluster while it runs and at its end."""

from __future__ import annotations

from harness.simulated_cluster import SimulatedBroker, SimulatedCluster
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.partition import Partition
from klamm.cluster.image import MetadataImage, PartitionImage
from klamm.proto.identifiers import Offset, TopicIdPartition
from klamm.proto.record_batch import batches

Replica = tuple[SimulatedBroker, Partition]


def whole_log(log: PartitionLog) -> dict[int, bytes]:
    """Every batch by its base offset."""
    found: dict[int, bytes] = {}
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        data = log.read(offset, max_bytes=1 << 24, end_offset=log.log_end_offset)
        assert data
        for position, header in batches(data):
            found[header.base_offset] = data[position : position + header.size_bytes]
            offset = Offset(header.next_offset)
    return found


class Oracles:
    """`step` after every few milliseconds, `commit` after every metadata change, `finish` when all is healed."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._leaders: dict[tuple[TopicIdPartition, int], int] = {}
        self._epochs: dict[tuple[int, TopicIdPartition, int], int] = {}
        self._high_watermarks: dict[tuple[int, TopicIdPartition, int, int], tuple[int, bool]] = {}
        self._partition_epochs: dict[tuple[int, TopicIdPartition, int, int], int] = {}
        self.acked: dict[TopicIdPartition, dict[int, bytes]] = {}
        self.consumed: dict[TopicIdPartition, dict[int, bytes]] = {}
        self.truncations = 0
        self.leaderships = 0
        cluster.on_commit.append(self.commit)

    def replicas(self) -> list[Replica]:
        """Every replica of a running broker."""
        return [
            (broker, partition)
            for broker in self._cluster.brokers.values()
            if broker.manager is not None
            for partition in broker.manager._partitions.by_key.values()
        ]

    # --- while it runs ---------------------------------------------------------------------------------------

    def step(self) -> None:
        self.commit()
        for broker, partition in self.replicas():
            log = partition.log
            assert log.log_start_offset <= partition.high_watermark <= log.log_end_offset
            self._check_epoch(broker, partition)
            if partition.leader is not None:
                self._check_leader(broker, partition)

    def _check_epoch(self, broker: SimulatedBroker, partition: Partition) -> None:
        assert partition.leader_epoch is not None
        key = (broker.broker_id, partition.topic_id_partition, id(broker.manager))
        assert self._epochs.get(key, -1) <= partition.leader_epoch, "rule 1: a leader epoch fell"
        self._epochs[key] = partition.leader_epoch

    def _check_leader(self, broker: SimulatedBroker, partition: Partition) -> None:
        assert partition.leader is not None
        state = partition.leader.state
        tp, epoch = partition.topic_id_partition, state.leader_epoch
        owner = self._leaders.get((tp, epoch))
        if owner is None:
            self.leaderships += 1
        assert owner in (None, broker.broker_id), f"rule 1: brokers {owner} and {broker.broker_id} lead {tp} in {epoch}"
        self._leaders[tp, epoch] = broker.broker_id
        key = (broker.broker_id, tp, epoch, id(state))
        before, under_min_isr = self._high_watermarks.get(key, (-1, False))
        high_watermark = partition.high_watermark
        assert high_watermark >= before, "rule 4: a high watermark fell"
        if under_min_isr and state.under_min_isr and before >= 0 and state.isr.partition_epoch == self._seen(key):
            assert high_watermark == before, "rule 6: a high watermark moved under min ISR"
        self._high_watermarks[key] = (high_watermark, state.under_min_isr)
        self._partition_epochs[key] = state.isr.partition_epoch
        proposed = {} if state.isr.pending is None else dict(state.isr.pending.broker_epochs)
        for member in state.isr.maximal:
            log = self._log_of(member, tp)
            # A proposal is for one incarnation: what another has on its disk is no word that the first gave.
            joins_as = None if member in state.isr.committed else proposed.get(member)
            lost = joins_as is not None and joins_as <= self._cluster.brokers[member].lost_data_in_epoch
            if log is not None and not lost and self._holds_its_word(member, broker.image):
                assert high_watermark <= log.log_end_offset, f"rule 5: {partition} is past the log end of {member}"
        latest = partition.log.epoch_cache.latest_epoch
        assert latest == epoch or partition.failure is not None, "rule 13: a leader without its epoch in the cache"

    def _seen(self, key: tuple[int, TopicIdPartition, int, int]) -> int:
        return self._partition_epochs.get(key, -1)

    def _log_of(self, broker_id: int, tp: TopicIdPartition) -> PartitionLog | None:
        log_manager = self._cluster.brokers[broker_id].log_manager  # type: ignore[index]
        return None if log_manager is None else log_manager.get(tp)

    def _holds_its_word(self, broker_id: int, seen_by: MetadataImage) -> bool:
        """False while a broker that lost data is known by its old registration only (rule 19)."""
        broker = self._cluster.brokers[broker_id]  # type: ignore[index]
        registered = seen_by.brokers.get(broker.broker_id)
        return registered is None or registered.broker_epoch > broker.lost_data_in_epoch

    def commit(self) -> None:
        """Rules 7 and 8, seen from outside: whoever is in the ISR or eligible to lead holds all that was acked."""
        for _, image in self._cluster.image.partitions():
            acked = self.acked.get(image.topic_id_partition)
            if not acked:
                continue
            for member in (*image.isr, *image.eligible_leader_replicas):
                log = self._log_of(member, image.topic_id_partition)
                if log is not None and self._holds_its_word(member, self._cluster.image):
                    assert log.log_end_offset > max(acked), f"rule 3: {member} lacks acked records of {image}"

    def saw(self, tp: TopicIdPartition, records: bytes, high_watermark: int) -> None:
        """A consumer read this."""
        seen = self.consumed.setdefault(tp, {})
        for position, header in batches(records):
            assert header.next_offset <= high_watermark, "rule 4: read past the high watermark"
            data = records[position : position + header.size_bytes]
            assert seen.setdefault(header.base_offset, data) == data, "rule 3: what was consumed has changed"

    def truncated(self, partition: Partition, cut: dict[int, bytes]) -> None:
        """Rule 12: what a follower cut off is not what its leader has."""
        self.truncations += 1
        image = self._cluster.image.partition(*partition.topic_id_partition)
        if image is None or image.leader is None or image.leader_epoch != partition.leader_epoch:
            return
        leaders = self._log_of(image.leader, partition.topic_id_partition)
        theirs = {} if leaders is None else whole_log(leaders)
        for base_offset, data in cut.items():
            assert theirs.get(base_offset) != data, f"rule 12: {partition} at {base_offset} is cut off and the leader's"

    # --- at the end ------------------------------------------------------------------------------------------

    def healed(self) -> bool:
        """Every replica in sync and at one offset, everything committed."""
        by_partition: dict[TopicIdPartition, list[Partition]] = {}
        for _, partition in self.replicas():
            by_partition.setdefault(partition.topic_id_partition, []).append(partition)
        return all(
            self._is_healed(image, by_partition.get(image.topic_id_partition, []))
            for _, image in self._cluster.image.partitions()
        )

    @staticmethod
    def _is_healed(image: PartitionImage, partitions: list[Partition]) -> bool:
        return (
            len(image.isr) == len(image.replicas) == len(partitions)
            and len({partition.log.log_end_offset for partition in partitions}) == 1
            and len({partition.high_watermark for partition in partitions}) == 1
            and all(partition.high_watermark == partition.log.log_end_offset for partition in partitions)
        )

    def finish(self) -> None:
        """Rules 2, 3 and 17 over whole logs."""
        for _, image in self._cluster.image.partitions():
            tp = image.topic_id_partition
            logs = [whole_log(log) for member in image.replicas if (log := self._log_of(member, tp)) is not None]
            assert all(log == logs[0] for log in logs), f"rule 2: replicas of {tp} differ"
            for offset, data in self.acked.get(tp, {}).items():
                assert logs[0].get(offset) == data, f"rule 3: the acked record at {tp} {offset} is lost"
            for offset, data in self.consumed.get(tp, {}).items():
                assert logs[0].get(offset) == data, f"rule 3: the consumed record at {tp} {offset} is lost"
            self._check_sequences(tp, logs[0])

    @staticmethod
    def _check_sequences(tp: TopicIdPartition, log: dict[int, bytes]) -> None:
        seen: set[tuple[int, int, int]] = set()
        last: dict[int, int] = {}
        for offset in sorted(log):
            for _, header in batches(log[offset]):
                if header.producer_id < 0:
                    continue
                key = (header.producer_id, header.producer_epoch, header.base_sequence)
                assert key not in seen, f"rule 17: {key} is twice in {tp}"
                seen.add(key)
                assert header.base_sequence == last.get(header.producer_id, -1) + 1, f"rule 17: a gap in {tp}"
                last[header.producer_id] = header.last_sequence
