"""A follower whose log is compacted, and a leader that tells it to cut off what the leader does not have."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from harness.keyed_logs import COMPACTED, KEY, TOPIC_ID, CleanedDisk, append_keyed, records, table
from klamm.broker.partition import Partition
from klamm.cluster.partition import PartitionImage
from klamm.cluster.topic_config import TopicConfig
from klamm.proto.identifiers import BrokerId, LeaderEpoch, Offset, PartitionEpoch
from klamm.proto.replication_pb2 import EpochEndOffset, ReplicaPartitionData


def follower_of(disk: CleanedDisk, epoch: int) -> Partition:
    host = cast(Any, SimpleNamespace(broker_id=BrokerId(1), clock=disk.clock))
    partition = Partition(
        host,
        topic="topic",
        topic_id_partition=KEY,
        log=disk.log,
        high_watermark=disk.log.log_end_offset,
        config=TopicConfig.resolve({"cleanup.policy": "compact"}),
    )
    assert partition.follow(image(leader=2, isr=(2,), epoch=epoch))
    return partition


def image(*, leader: int, isr: tuple[int, ...], epoch: int) -> PartitionImage:
    return PartitionImage(
        topic_id=TOPIC_ID,
        partition=0,
        replicas=(BrokerId(1), BrokerId(2), BrokerId(3)),
        isr=tuple(map(BrokerId, isr)),
        leader=BrokerId(leader),
        leader_epoch=LeaderEpoch(epoch),
        partition_epoch=PartitionEpoch(9),
    )


def answer(partition: Partition, **fields: Any) -> ReplicaPartitionData:
    return ReplicaPartitionData(
        topic_id=TOPIC_ID.bytes,
        leader_epoch=cast(int, partition.leader_epoch),
        fetch_offset=partition.log.log_end_offset,
        **fields,
    )


@pytest.mark.parametrize("restart", [False, True], ids=["as it is", "restarted"])
def test_what_was_replaced_by_records_that_are_cut_off_is_fetched_anew(restart: bool) -> None:
    disk, leader = CleanedDisk(), CleanedDisk()
    for log in (disk.log, leader.log):
        append_keyed(log, (b"careful", b"acked long ago"))
        append_keyed(log, (b"other", b"acked too"))
    shared = disk.log.log_end_offset
    append_keyed(disk.log, (b"careful", b"newer"))
    for index in range(20):
        append_keyed(disk.log, (b"filler", b"%d" % index * 20))
    append_keyed(leader.log, (b"unclean", b"the leader's own"), epoch=1)
    expected = table(leader.log)
    assert disk.clean()
    assert 0 not in [record.offset for record in records(disk.log)]
    if restart:
        disk.checkpoint()
        disk = disk.restarted()
    partition = follower_of(disk, 1)
    partition.apply_leader_answer(answer(partition, diverging_epoch=EpochEndOffset(epoch=0, end_offset=shared)))
    for _ in range(20):
        end = leader.log.log_end_offset
        if disk.log.log_end_offset == end:
            break
        data = leader.log.read(disk.log.log_end_offset, max_bytes=100, end_offset=end)
        partition.apply_leader_answer(answer(partition, records=data, high_watermark=end))
    assert table(disk.log) == expected
    assert partition.high_watermark == leader.log.log_end_offset


def test_what_was_never_cleaned_is_cut_as_ever() -> None:
    disk = CleanedDisk(config=COMPACTED)
    for index in range(20):
        append_keyed(disk.log, (b"filler", b"%d" % index * 20))
    assert disk.clean()
    cleaned_to = disk.log.cleaned_to
    append_keyed(disk.log, (b"late", b"1"))
    partition = follower_of(disk, 1)
    before = records(disk.log)
    cut = Offset(disk.log.log_end_offset - 1)
    assert cut >= cleaned_to
    partition.apply_leader_answer(answer(partition, diverging_epoch=EpochEndOffset(epoch=0, end_offset=cut)))
    assert records(disk.log) == [record for record in before if record.offset < cut]


def test_rule_3_a_member_of_the_isr_cuts_what_is_not_committed_and_keeps_the_rest() -> None:
    """The chunk that told it of gaps had an uncommitted tail, and the next leader was elected without that."""
    cleaned = CleanedDisk()
    leader, disk = (CleanedDisk(config=replace(COMPACTED, segment_bytes=1 << 20)) for _ in range(2))
    for index in range(60):
        append_keyed(cleaned.log, (b"key-%d" % (index % 5), b"%d" % index))
    assert cleaned.clean()
    committed = cleaned.log.log_end_offset
    while leader.log.log_end_offset < committed:
        data = cleaned.log.read(leader.log.log_end_offset, max_bytes=1 << 20, end_offset=committed)
        leader.log.append_as_follower(data, gaps=True, high_watermark=committed)
    for index in range(3):
        append_keyed(leader.log, (b"tail", b"%d" % index))
    partition = follower_of(disk, 0)
    data = leader.log.read(Offset(0), max_bytes=1 << 20, end_offset=leader.log.log_end_offset)
    partition.apply_leader_answer(answer(partition, records=data, high_watermark=committed, offset_gaps=True))
    copied = records(disk.log)
    assert (disk.log.log_end_offset, partition.high_watermark) == (63, 60)
    assert not partition.follow(image(leader=2, isr=(2, 3, 1), epoch=0))
    assert partition.follow(image(leader=3, isr=(3, 1), epoch=1))
    cut = EpochEndOffset(epoch=0, end_offset=61)
    partition.apply_leader_answer(answer(partition, diverging_epoch=cut, high_watermark=committed))
    assert (disk.log.log_end_offset, partition.high_watermark) == (61, 60)
    assert records(disk.log) == [record for record in copied if record.offset < 61]
