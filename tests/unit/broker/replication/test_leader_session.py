"""One follower's stream at the leader: armed once, answered once, bounded by credit."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from harness.fake_file_system import FakeFileSystem
from harness.record_batches import record_batch
from klamm.broker.log.descriptor_pool import DescriptorPool
from klamm.broker.log.log_config import LogConfig
from klamm.broker.log.recovery import LogPlace, create_log
from klamm.broker.partition import Partition
from klamm.broker.replication.follower_session import CREDIT_BYTES
from klamm.broker.replication.leader_session import RESPONSE_BYTES_MAX, RESPONSE_PARTITIONS_MAX, LeaderSession
from klamm.cluster.image import PartitionImage
from klamm.cluster.topic_config import TopicConfig
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import (
    BrokerEpoch,
    BrokerId,
    LeaderEpoch,
    Offset,
    PartitionEpoch,
    TopicIdPartition,
    TopicPartition,
)
from klamm.proto.replication_pb2 import ReplicaFetchRequest, ReplicaPartitionData, ReplicaPosition

TOPIC_ID = UUID(int=3)


class Clock:
    now_ms = 1_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms


@dataclass
class Host:
    """Broker 1, with 2 and 3 alive; notes what is asked of it."""

    broker_id: BrokerId = field(default_factory=lambda: BrokerId(1))
    clock: Clock = field(default_factory=Clock)
    replica_lag_time_max_ms: int = 10_000
    active_brokers: dict[BrokerId, BrokerEpoch] = field(
        default_factory=lambda: {BrokerId(number): BrokerEpoch(number) for number in (1, 2, 3)}
    )
    asked: list[str] = field(default_factory=list)

    def send_alter_partition(self, partition: Partition, proposal: object) -> None:
        self.asked.append("alter")

    def isr_changed(self, partition: Partition, changed: object) -> None:
        self.asked.append("isr")

    def unsettled(self, partition: Partition) -> None: ...

    def replica_failed(self, partition: Partition, error: Exception) -> None:
        self.asked.append("failed")


class Room:
    """Partitions that broker 1 leads in epoch 5, and a stream of broker 2."""

    def __init__(self, partitions: int = 1) -> None:
        self.host = Host()
        self.disk = FakeFileSystem()
        self.partitions = {}
        for number in range(partitions):
            partition = self.make(number)
            self.partitions[partition.key] = partition
        self.woken = 0
        self.later = 0
        self.session = LeaderSession(
            BrokerId(2),
            BrokerEpoch(2),
            partitions=self.partitions,
            clock=self.host.clock,
            wake=self._wake,
            wake_later=self._wake_later,
        )

    def make(self, number: int, epoch: int = 5) -> Partition:
        place = LogPlace(TopicPartition("t", number), TOPIC_ID, f"/t-{number}")
        pool = DescriptorPool(100)
        log = create_log(self.disk, pool, place, LogConfig(), 0)
        partition = Partition(
            self.host,
            topic="t",
            topic_id_partition=TopicIdPartition(TOPIC_ID, number),
            log=log,
            high_watermark=Offset(0),
            config=TopicConfig.resolve(),
        )
        self.lead(partition, epoch)
        return partition

    def lead(self, partition: Partition, epoch: int) -> None:
        replicas = tuple(BrokerId(number) for number in (1, 2, 3))
        image = PartitionImage(
            topic_id=TOPIC_ID,
            partition=partition.topic_id_partition.partition,
            replicas=replicas,
            isr=replicas,
            leader=BrokerId(1),
            leader_epoch=LeaderEpoch(epoch),
            partition_epoch=PartitionEpoch(epoch),
        )
        partition.lead(image, self.host.clock.now_ms)

    def _wake(self) -> None:
        self.woken += 1

    def _wake_later(self) -> None:
        self.later += 1

    def append(self, number: int = 0, size: int = 10) -> None:
        partition = self.partitions[TOPIC_ID.bytes, number]
        assert partition.leader is not None
        batch = bytes(record_batch([b"x" * size], timestamps=self.host.clock.now_ms))
        partition.leader.append(batch, partition.config, self.host.clock.now_ms, self.host.clock.now_ms)

    def arm(self, *positions: ReplicaPosition, credit: int = CREDIT_BYTES) -> None:
        self.session.receive(ReplicaFetchRequest(broker_id=2, broker_epoch=2, positions=positions, credit_bytes=credit))

    def answers(self) -> list[ReplicaPartitionData]:
        response = self.session.next_response()
        return [] if response is None else list(response.partitions)


def at(
    offset: int, number: int = 0, *, epoch: int = 5, last_epoch: int = -1, high_watermark: int = 0, confirmed: int = 0
) -> ReplicaPosition:
    return ReplicaPosition(
        topic_id=TOPIC_ID.bytes,
        partition=number,
        current_leader_epoch=epoch,
        fetch_offset=offset,
        last_fetched_epoch=last_epoch,
        high_watermark=high_watermark,
        confirmed_round=confirmed,
    )


def test_an_armed_partition_is_answered_once_and_at_once() -> None:
    room = Room()
    room.arm(at(0))
    assert (room.answers(), room.woken) == ([], 0)
    room.append()
    room.append()
    assert room.woken == 1
    [data] = room.answers()
    assert (data.fetch_offset, data.leader_epoch, len(data.records) > 100) == (0, 5, True)
    room.append()
    assert room.answers() == []
    assert room.session.armed_count == 0


def test_rule_11_an_older_epoch_is_refused_and_a_newer_one_waits_for_metadata() -> None:
    room = Room()
    room.append()
    room.arm(at(0, epoch=4))
    assert [data.error_code for data in room.answers()] == [ErrorCode.FENCED_LEADER_EPOCH]
    room.arm(at(0, epoch=6))
    assert room.answers() == []
    room.session.metadata_changed()
    assert room.answers() == []
    room.lead(room.partitions[TOPIC_ID.bytes, 0], 6)
    room.session.metadata_changed()
    [data] = room.answers()
    assert (data.error_code, data.leader_epoch, bool(data.records)) == (0, 6, True)


def test_a_partition_not_known_yet_waits_for_metadata() -> None:
    room = Room()
    room.arm(at(0, 7))
    assert room.answers() == []
    partition = room.make(7)
    room.partitions[partition.key] = partition
    room.append(7)
    room.session.metadata_changed()
    assert [bool(data.records) for data in room.answers()] == [True]


def test_rule_12_a_diverging_position_is_told_so_and_does_not_count() -> None:
    room = Room()
    partition = room.partitions[TOPIC_ID.bytes, 0]
    room.append()
    room.append()
    room.arm(at(9, last_epoch=3))
    [data] = room.answers()
    assert data.HasField("diverging_epoch") and not data.records
    room.arm(at(9, last_epoch=5))
    [data] = room.answers()
    assert (data.diverging_epoch.epoch, data.diverging_epoch.end_offset) == (5, 2)
    assert partition.leader is not None
    assert partition.leader.state.followers[BrokerId(2)].log_end_offset == -1


def test_out_of_range() -> None:
    room = Room()
    partition = room.partitions[TOPIC_ID.bytes, 0]
    for _ in range(5):
        room.append()
    partition.log.advance_log_start_to(Offset(3))
    room.arm(at(1, last_epoch=5))
    [data] = room.answers()
    assert (data.error_code, data.log_start_offset) == (ErrorCode.OFFSET_OUT_OF_RANGE, 3)


def test_a_high_watermark_waits_for_records_to_ride_on() -> None:
    room = Room()
    partition = room.partitions[TOPIC_ID.bytes, 0]
    room.append()
    assert partition.leader is not None
    partition.leader.follower_fetched(BrokerId(3), BrokerEpoch(3), Offset(1), 1_000)
    room.arm(at(1, last_epoch=5))  # this moves it
    assert (partition.high_watermark, room.later, room.answers()) == (1, 1, [])
    room.session.release_lazy()
    [data] = room.answers()
    assert (data.high_watermark, data.records) == (1, b"")
    room.arm(at(1, last_epoch=5, high_watermark=1))
    assert (room.later, room.answers()) == (1, [])


def test_credit_bounds_what_is_under_way() -> None:
    room = Room(partitions=40)
    for number in range(40):
        room.append(number, size=100_000)
    room.arm(*(at(0, number) for number in range(40)), credit=1_500_000)
    sent = 0
    while data := room.answers():
        size = sum(len(each.records) for each in data)
        assert size <= RESPONSE_BYTES_MAX + 100_200
        sent += size
    assert 1_500_000 <= sent <= 1_500_000 + 100_200
    room.arm(credit=300_000)
    assert len(room.answers()) >= 2


def test_a_message_is_about_so_many_partitions_and_no_more() -> None:
    """Thousands of partitions may have a little to say at once; whoever makes or reads it would do nothing else."""
    count = 2 * RESPONSE_PARTITIONS_MAX + 1
    room = Room(partitions=count)
    for number in range(count):
        room.append(number)
    room.arm(*(at(0, number) for number in range(count)))
    sizes, seen = [], set()
    while data := room.answers():
        sizes.append(len(data))
        seen |= {each.partition for each in data}
    assert sizes == [RESPONSE_PARTITIONS_MAX, RESPONSE_PARTITIONS_MAX, 1]
    assert len(seen) == count


def test_a_slow_partition_does_not_hold_up_its_neighbour() -> None:
    room = Room(partitions=2)
    room.append(1)
    room.disk.fail_next("pread", 5, path_end="t-0/00000000000000000000.log")
    room.append(0)
    room.arm(at(0, 0), at(0, 1))
    found = {data.partition: data for data in room.answers()}
    assert found[0].error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert found[1].records
    assert room.host.asked == ["failed"]


def test_lost_leadership_is_told_to_who_is_armed() -> None:
    room = Room()
    room.arm(at(0))
    partition = room.partitions[TOPIC_ID.bytes, 0]
    partition.close(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert [data.error_code for data in room.answers()] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    room.arm(at(0))
    del room.partitions[partition.key]
    assert [data.error_code for data in room.answers()] == [ErrorCode.UNKNOWN_TOPIC_ID]


def test_a_closed_stream_is_forgotten() -> None:
    room = Room()
    room.arm(at(0))
    partition = room.partitions[TOPIC_ID.bytes, 0]
    assert partition.leader is not None and len(partition.leader.armed) == 1
    room.session.close()
    assert not partition.leader.armed
    room.arm(at(0))
    room.arm(ReplicaPosition(topic_id=TOPIC_ID.bytes, partition=0, remove=True))
    assert not partition.leader.armed


def test_a_replica_that_is_not_assigned_yet_waits_for_metadata() -> None:
    room = Room()
    room.append()
    other = LeaderSession(
        BrokerId(9),
        BrokerEpoch(9),
        partitions=room.partitions,
        clock=room.host.clock,
        wake=lambda: None,
        wake_later=lambda: None,
    )
    other.receive(ReplicaFetchRequest(broker_id=9, broker_epoch=9, positions=[at(0)], credit_bytes=1))
    assert other.next_response() is None


def test_a_round_goes_out_at_once_and_only_a_position_that_was_sent_after_it_ends_it() -> None:
    room = Room()
    partition = room.partitions[TOPIC_ID.bytes, 0]
    assert partition.leader is not None
    told: list[bool] = []
    room.arm(at(0))
    partition.leader.confirm(told.append)
    assert room.woken == 1
    [data] = room.answers()
    assert (data.confirm_round, data.error_code, data.records) == (1, 0, b"")
    room.arm(at(0))  # sent before the answer came: it may have been long on its way
    assert (room.answers(), told) == ([], []), "it was told already"
    partition.leader.ticked(1_500)
    assert [data.confirm_round for data in room.answers()] == [1], "it may have passed over it"
    room.arm(at(0, confirmed=1))
    assert (room.answers(), told) == ([], []), "broker 3 is in sync, too"
    partition.leader.confirmed(BrokerId(3), 1)
    assert told == [True]
    room.append()
    [data] = room.answers()
    assert data.confirm_round == 0


def test_rounds_that_come_while_one_is_on_its_way_end_with_the_next_answer() -> None:
    room = Room()
    partition = room.partitions[TOPIC_ID.bytes, 0]
    assert partition.leader is not None
    told: list[str] = []
    room.arm(at(0))
    partition.leader.confirm(lambda _: told.append("first"))
    assert [data.confirm_round for data in room.answers()] == [1]
    partition.leader.confirm(lambda _: told.append("second"))
    partition.leader.confirm(lambda _: told.append("third"))
    assert room.answers() == []
    partition.leader.confirmed(BrokerId(3), 3)
    room.arm(at(0, confirmed=1))
    assert told == ["first"]
    assert [data.confirm_round for data in room.answers()] == [3]
    room.arm(at(0, confirmed=3))
    assert told == ["first", "second", "third"]


def test_a_position_of_another_epoch_ends_no_round() -> None:
    room = Room()
    partition = room.partitions[TOPIC_ID.bytes, 0]
    assert partition.leader is not None
    told: list[bool] = []
    partition.leader.confirmed(BrokerId(3), 7)  # never asked
    partition.leader.confirm(told.append)
    partition.leader.confirmed(BrokerId(3), 1)
    room.arm(at(0, epoch=4, confirmed=1))
    room.arm(at(0, epoch=6, confirmed=1))
    assert told == []
    room.lead(partition, 6)
    assert told == [False]
