"""A failed replica leaves ISR, ELR and leadership in one record, unless it is the last."""

from __future__ import annotations

from uuid import UUID

import pytest
from klamm.cluster.image import MetadataImage
from klamm.controller.alter_partition import decide_alter_partition
from klamm.controller.replica_failed import decide_replica_failed
from klamm.proto.command_pb2 import (
    AlterPartitionCommand,
    AlterPartitionEntry,
    BrokerState,
    FailedReplica,
    ReplicaFailedCommand,
)
from klamm.proto.errors import ErrorCode
from klamm.proto.metadata_pb2 import MetadataRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord

TOPIC_ID = UUID(int=5).bytes


def image(isr: list[int], *, leader: int = 1, elr: list[int] | None = None, fenced: int = 0) -> MetadataImage:
    records = [
        MetadataRecord(
            register_broker=RegisterBrokerRecord(
                broker_id=number,
                incarnation_id=b"i" * 16,
                broker_epoch=number * 10,
                fenced=number == fenced,
                log_dir_id=b"d" * 16,
            )
        )
        for number in (1, 2, 3)
    ]
    records.append(MetadataRecord(topic=TopicRecord(name="t", topic_id=TOPIC_ID)))
    partition = PartitionRecord(
        topic_id=TOPIC_ID,
        partition=0,
        replicas=[1, 2, 3],
        isr=isr,
        leader=leader,
        leader_epoch=4,
        partition_epoch=9,
        eligible_leader_replicas=elr or [],
        last_known_leader=-1,
    )
    records.append(MetadataRecord(partition=partition))
    return MetadataImage.empty().replay(records, len(records))


def give_up(
    before: MetadataImage, broker: int, *, epoch: int = 4, broker_epoch: int | None = None
) -> tuple[ErrorCode, list[PartitionRecord]]:
    failed = FailedReplica(topic_id=TOPIC_ID, partition=0, leader_epoch=epoch)
    command = ReplicaFailedCommand(
        broker_id=broker,
        broker_epoch=broker * 10 if broker_epoch is None else broker_epoch,
        partitions=[failed, failed],
    )
    result = decide_replica_failed(before, command)
    if result.error_code is not ErrorCode.NONE:
        return result.error_code, [record.partition for record in result.records]
    first, second = result.response.replica_failed.partitions
    assert second.error_code in (first.error_code, ErrorCode.NONE)
    return ErrorCode(first.error_code), [record.partition for record in result.records]


def test_rule_27_a_failed_leader_is_followed_by_another_of_the_isr() -> None:
    error, [record] = give_up(image([1, 2, 3]), 1)
    assert error is ErrorCode.NONE
    assert (record.leader, list(record.isr), record.leader_epoch, record.partition_epoch) == (2, [2, 3], 5, 10)


def test_a_failed_replica_is_not_eligible_to_lead_though_the_isr_is_small() -> None:
    _, [record] = give_up(image([1, 2]), 1)
    assert (record.leader, list(record.isr), list(record.eligible_leader_replicas)) == (2, [2], [])


def test_rule_8_a_failed_follower_leaves_the_isr_and_the_leader_forgets_how_far_it_was() -> None:
    # It may start over with an empty log: what the leader knows of it belongs to the epoch that ends here.
    before = image([1, 2, 3])
    _, [record] = give_up(before, 3)
    assert (record.leader, list(record.isr), record.leader_epoch) == (1, [1, 2], 5)
    after = before.replay([MetadataRecord(partition=record)], before.end_offset + 1)
    brought_back = AlterPartitionCommand(
        broker_id=1,
        broker_epoch=10,
        partitions=[
            AlterPartitionEntry(
                topic_id=TOPIC_ID,
                leader_epoch=4,
                partition_epoch=10,
                new_isr=[BrokerState(broker_id=n, broker_epoch=n * 10) for n in (1, 2, 3)],
            )
        ],
    )
    outcome = decide_alter_partition(after, brought_back).response.alter_partition.partitions[0]
    assert outcome.error_code == ErrorCode.FENCED_LEADER_EPOCH


def test_the_last_one_stays() -> None:
    assert give_up(image([1]), 1) == (ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, [])


def test_one_that_counts_for_nothing_changes_nothing() -> None:
    assert give_up(image([1, 2]), 3) == (ErrorCode.NONE, [])


@pytest.mark.parametrize(("epoch", "error"), [(3, ErrorCode.FENCED_LEADER_EPOCH), (5, ErrorCode.NOT_CONTROLLER)])
def test_rule_11_another_leader_epoch_is_refused(epoch: int, error: ErrorCode) -> None:
    assert give_up(image([1, 2, 3]), 1, epoch=epoch) == (error, [])


def test_rule_11_an_older_registration_is_refused() -> None:
    assert give_up(image([1, 2, 3]), 1, broker_epoch=3) == (ErrorCode.STALE_BROKER_EPOCH, [])
