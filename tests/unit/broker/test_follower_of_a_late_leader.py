"""A follower with a tail of its own, and a leader that has deleted what it wrote in that place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.keyed_logs import COMPACTED, CleanedDisk, append_keyed, records
from klamm.broker.partition import Partition
from klamm.proto.errors import KafkaStorageError
from klamm.proto.identifiers import Offset
from klamm.proto.replication_pb2 import EpochEndOffset
from unit.broker.test_compacted_follower import answer, follower_of

COMMITTED, LEADERS_START, OWN_END = 30, 35, 40
DELETED_BY_TIME = replace(COMPACTED, compacted=False)


def follower() -> tuple[CleanedDisk, Partition]:
    """It led until offset 30 was committed, and wrote up to 40. The leader of epoch 1 began at 30 and wrote past 35;
    retention has taken what it had below 35, so that is where it says that epoch 0 ends (KIP-279)."""
    disk = CleanedDisk(config=DELETED_BY_TIME)
    for offset in range(OWN_END):
        append_keyed(disk.log, (b"key", b"own %d" % offset))
    disk.high_watermark = COMMITTED
    disk.checkpoint()
    partition = follower_of(disk, 1)
    partition.high_watermark = Offset(COMMITTED)
    disk.manager._high_watermark_of = lambda _: partition.high_watermark
    return disk, partition


def told_where_epoch_0_ends(partition: Partition) -> None:
    end = EpochEndOffset(epoch=0, end_offset=LEADERS_START)
    partition.apply_leader_answer(
        answer(partition, diverging_epoch=end, high_watermark=LEADERS_START, log_start_offset=LEADERS_START)
    )


def test_rule_2_what_was_never_committed_is_not_shown_by_the_next_process_either() -> None:
    disk, partition = follower()
    told_where_epoch_0_ends(partition)
    assert (partition.log.log_start_offset, partition.log.log_end_offset) == (LEADERS_START, LEADERS_START)
    assert partition.high_watermark == LEADERS_START
    again = disk.restarted().log  # as kill -9 leaves it
    assert (again.log_start_offset, again.log_end_offset, records(again)) == (LEADERS_START, LEADERS_START, [])


def test_rule_2_it_is_hidden_before_it_is_cut_off() -> None:
    disk, partition = follower()
    disk.disk.fail_next("truncate", path_end=".log")
    with pytest.raises(KafkaStorageError):
        told_where_epoch_0_ends(partition)
    disk.disk.heal()
    assert disk.restarted().log.log_start_offset == LEADERS_START


def test_what_the_leader_still_has_stays() -> None:
    disk, partition = follower()
    end = EpochEndOffset(epoch=0, end_offset=COMMITTED)
    partition.apply_leader_answer(
        answer(partition, diverging_epoch=end, high_watermark=LEADERS_START, log_start_offset=10)
    )
    assert (partition.log.log_start_offset, partition.log.log_end_offset) == (0, COMMITTED)
    assert len(records(disk.restarted().log)) == COMMITTED
