"""A follower whose log is compacted, and a leader that an unclean election has put before it."""

from __future__ import annotations

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
    image = PartitionImage(
        topic_id=TOPIC_ID,
        partition=0,
        replicas=(BrokerId(1), BrokerId(2)),
        isr=(BrokerId(2),),
        leader=BrokerId(2),
        leader_epoch=LeaderEpoch(epoch),
        partition_epoch=PartitionEpoch(9),
    )
    assert partition.follow(image)
    return partition


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
