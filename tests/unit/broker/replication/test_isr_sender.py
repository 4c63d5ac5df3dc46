"""What a leader makes of the controllers' answer to AlterPartition, and when."""

from __future__ import annotations

from typing import Any

from klamm.broker.replication.isr_sender import IsrChanges
from klamm.broker.replication.leader import Effects, LeaderState
from klamm.proto.command_pb2 import AlterPartitionOutcome, AlterPartitionResult, CommandResponse
from klamm.proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch

KEY = (b"t" * 16, 0)


class StillClock:
    def monotonic_ms(self) -> int:
        return 20_000

    def wall_ms(self) -> int:
        return 0


class Leader:
    """A leader of epoch 3 whose two followers stopped at offset 0 while it went on to 10."""

    def __init__(self) -> None:
        self.state = LeaderState(
            broker_id=BrokerId(1),
            leader_epoch=LeaderEpoch(3),
            partition_epoch=PartitionEpoch(7),
            replicas=[BrokerId(1), BrokerId(2), BrokerId(3)],
            isr=[BrokerId(1), BrokerId(2), BrokerId(3)],
            min_isr=1,
            log_end_offset=Offset(0),
            high_watermark=Offset(0),
            active_brokers={BrokerId(number): BrokerEpoch(number) for number in (1, 2, 3)},
            lag_time_max_ms=10_000,
            now_ms=0,
        )
        self.effects: list[Any] = []
        for number in (2, 3):
            self.state.follower_fetched(BrokerId(number), BrokerEpoch(number), Offset(0), 0)
        self.state.appended(Offset(10), 1)
        self.state.ticked(20_000)

    def pending_proposal(self) -> Any:
        return self.state.isr.pending

    def carry_out(self, effects: Effects) -> None:
        self.effects.extend(effects)


class Replica:
    key = KEY

    def __init__(self) -> None:
        self.leader = Leader()


def answer(metadata_end_offset: int) -> CommandResponse:
    outcome = AlterPartitionOutcome(topic_id=KEY[0], partition=0, leader=1, leader_epoch=3, isr=[1], partition_epoch=8)
    return CommandResponse(
        metadata_end_offset=metadata_end_offset, alter_partition=AlterPartitionResult(partitions=[outcome])
    )


def ask(replica: Any, image_end_offset: int) -> tuple[IsrChanges, list[object]]:
    changes = IsrChanges(BrokerId(1), StillClock(), lambda: image_end_offset)
    command, asked = changes.build([replica], BrokerEpoch(1))
    (entry,) = command.alter_partition.partitions
    assert [state.broker_id for state in entry.new_isr] == [1]
    return changes, asked


def test_an_answer_no_newer_than_the_metadata_is_taken_up_at_once() -> None:
    replica = Replica()
    changes, asked = ask(replica, image_end_offset=100)
    assert changes.answered(asked, answer(metadata_end_offset=100)) == []
    assert replica.leader.state.isr.committed == {1}
    assert replica.leader.state.high_watermark == 10


def test_rule_6_an_answer_ahead_of_the_metadata_waits_for_it_as_min_insync_replicas_may_have_been_raised() -> None:
    """Offset 99 of the metadata raised min.insync.replicas to 2, offset 100 is our ISR of one. The controllers then
    count the two that left as holding all that is committed (KIP-966): nothing may be committed without them."""
    replica = Replica()
    state = replica.leader.state
    changes, asked = ask(replica, image_end_offset=99)
    assert changes.answered(asked, answer(metadata_end_offset=101)) == []
    assert state.isr.committed == {1, 2, 3}
    assert state.isr.maximal == {1, 2, 3}
    assert state.high_watermark == 0
    state.min_isr_changed(2, 20_001)
    state.metadata_changed(
        replicas=[BrokerId(1), BrokerId(2), BrokerId(3)],
        isr=[BrokerId(1)],
        partition_epoch=PartitionEpoch(8),
        now_ms=20_002,
    )
    assert state.isr.committed == {1}
    assert state.isr.pending is None
    assert state.high_watermark == 0
