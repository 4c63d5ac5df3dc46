"""A follower whose log is compacted, and a leader that tells it to cut off what the leader does not have."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from harness.keyed_logs import COMPACTED, KEY, TOPIC_ID, CleanedDisk, append_keyed, records, table
from klamm.broker.partition import Partition
from klamm.broker.replication.follower_session import FollowerSession
from klamm.broker.replication.leader_session import LeaderSession
from klamm.cluster.partition import PartitionImage
from klamm.cluster.topic_config import TopicConfig
from klamm.proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch
from klamm.proto.replication_pb2 import EpochEndOffset, ReplicaPartitionData
from unit.broker.replication.test_leader_session import Host


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


@pytest.mark.parametrize("restart", [False, True], ids=["as it is", "restarted"])
def test_rule_3_who_has_not_copied_yet_what_its_missing_records_went_for_copies_anew_after_an_unclean_election(
    restart: bool,
) -> None:
    """A replica that is being copied lacks a record for the sake of a newer one that the next leader has lost."""
    first, kept, disk = CleanedDisk(), CleanedDisk(), CleanedDisk()
    for log in (first.log, kept.log):
        append_keyed(log, (b"careful", b"acked long ago"))
        for index in range(20):
            append_keyed(log, (b"key-%d" % index, b"%d" % index * 20))
    append_keyed(first.log, (b"careful", b"newer"))
    for index in range(20):
        append_keyed(first.log, (b"filler", b"%d" % index * 20))
    assert first.clean()
    assert 0 not in [record.offset for record in records(first.log)]

    partition = follower_of(disk, 0)
    committed = first.log.log_end_offset
    data = first.log.read(Offset(0), max_bytes=400, end_offset=committed)
    partition.apply_leader_answer(answer(partition, records=data, high_watermark=committed, offset_gaps=True))
    assert 0 < disk.log.log_end_offset < kept.log.log_end_offset
    if restart:
        disk = disk.restarted()
    partition = follower_of(disk, 1)

    copy(partition, leader_of(kept, 1))
    assert table(disk.log) == table(kept.log)
    assert table(disk.log)[b"careful"] == b"acked long ago"


def test_who_has_not_copied_yet_what_its_missing_records_went_for_goes_on_after_a_clean_election() -> None:
    first, disk = CleanedDisk(), CleanedDisk()
    for index in range(60):
        append_keyed(first.log, (b"key-%d" % (index % 5), b"%d" % index * 20))
    assert first.clean()
    partition = follower_of(disk, 0)
    committed = first.log.log_end_offset
    data = first.log.read(Offset(0), max_bytes=400, end_offset=committed)
    partition.apply_leader_answer(answer(partition, records=data, high_watermark=committed, offset_gaps=True))
    assert disk.log.log_end_offset < disk.log.cleaned_by
    partition.follow(image(leader=2, isr=(2,), epoch=1))
    leader = leader_of(first, 1)
    append_keyed(first.log, (b"late", b"1"), epoch=1)
    truncations = disk.log.truncations
    copy(partition, leader)
    assert disk.log.truncations == truncations
    assert records(disk.log) == records(first.log)


def leader_of(disk: CleanedDisk, epoch: int) -> Partition:
    """Broker 2, which leads alone."""
    partition = Partition(
        Host(BrokerId(2)),
        topic="topic",
        topic_id_partition=KEY,
        log=disk.log,
        high_watermark=disk.log.log_end_offset,
        config=TopicConfig.resolve({"cleanup.policy": "compact"}),
    )
    partition.lead(image(leader=2, isr=(2,), epoch=epoch), 0)
    return partition


def copy(follower: Partition, leader: Partition) -> None:
    """Until the leader has nothing more to say."""
    asking = FollowerSession(BrokerId(1), BrokerId(2), Random(1))
    asking.partitions[follower.key] = follower
    answering = LeaderSession(
        BrokerId(1),
        BrokerEpoch(1),
        partitions={leader.key: leader},
        clock=Host().clock,
        wake=lambda: None,
        wake_later=lambda: None,
    )
    answering.receive(asking.request(BrokerEpoch(1), [follower.key], credit_bytes=1 << 20))
    while (response := answering.next_response()) is not None:
        received = asking.receive(response)
        assert not received.ask_later
        answering.receive(asking.request(BrokerEpoch(1), received.ask))
