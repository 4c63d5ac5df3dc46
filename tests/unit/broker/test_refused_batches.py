"""Which batch of a producer a partition waits for, by itself: what came, in what order, and when."""

from __future__ import annotations

import pytest
from harness.record_batches import record_batch
from klamm.broker.log.producer_state import ProducerStates
from klamm.broker.refused_batches import FORGOTTEN_AFTER_MS, GIVEN_UP_AFTER_MS, REFUSED_MAX, RefusedBatches
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import LeaderEpoch
from klamm.proto.record_batch import RecordBatchHeader, parse_header

LAST = 2**31 - 1
REFUSED = ErrorCode.NOT_ENOUGH_REPLICAS


def header(sequence: int, *, epoch: int = 0, producer_id: int = 7) -> RecordBatchHeader:
    plain = parse_header(record_batch(producer_id=producer_id, producer_epoch=epoch, base_sequence=0))
    return plain._replace(base_sequence=sequence)


class Waiting:
    """`RefusedBatches`, asked about one partition."""

    def __init__(self) -> None:
        self.batches = RefusedBatches()
        self.states = ProducerStates()

    def append(self, sequence: int, *, epoch: int = 0) -> None:
        self.states.record(header(sequence, epoch=epoch), sequence, 0)

    def refuse(self, sequence: int, *, epoch: int = 0, producer_id: int = 7, now_ms: int = 0) -> None:
        batch = header(sequence, epoch=epoch, producer_id=producer_id)
        self.batches.refused("t", 0, batch, self.states, REFUSED, now_ms)

    def overtakes(self, sequence: int, *, epoch: int = 0, producer_id: int = 7, now_ms: int = 0) -> bool:
        batch = header(sequence, epoch=epoch, producer_id=producer_id)
        error = self.batches.overtaken_by("t", 0, batch, self.states, now_ms)
        assert error in (None, REFUSED)
        return error is not None


@pytest.mark.parametrize(("refused", "behind"), [(1, 2), (5, 100), (LAST, 0), (LAST - 1, 3)])
def test_who_is_behind_overtakes_until_the_refused_one_has_come(refused: int, behind: int) -> None:
    waiting = Waiting()
    waiting.append(refused - 1)
    waiting.refuse(refused)
    assert waiting.overtakes(behind)
    assert not waiting.overtakes(refused - 1)  # a duplicate
    assert waiting.overtakes(behind)
    assert not waiting.overtakes(refused)
    assert not waiting.overtakes(behind)


def test_the_first_of_several_that_were_refused_is_waited_for() -> None:
    waiting = Waiting()
    waiting.append(0)
    for sequence in (2, 1, 3, 0):  # 0 is there already
        waiting.refuse(sequence)
    assert waiting.overtakes(2)
    assert not waiting.overtakes(1)


def test_producers_do_not_wait_for_one_another() -> None:
    waiting = Waiting()
    waiting.refuse(0, producer_id=7)
    assert not waiting.overtakes(1, producer_id=8)
    assert waiting.overtakes(1, producer_id=7)
    waiting.refuse(-1, producer_id=-1)  # without a producer id nothing is promised
    assert len(waiting.batches) == 1


def test_a_later_epoch_ends_the_waiting_and_an_earlier_one_does_not() -> None:
    waiting = Waiting()
    waiting.refuse(4, epoch=2)
    assert not waiting.overtakes(9, epoch=1)
    assert waiting.overtakes(9, epoch=2)
    assert not waiting.overtakes(9, epoch=3)
    assert not waiting.batches


def test_what_was_appended_by_other_ways_is_not_waited_for() -> None:
    waiting = Waiting()
    waiting.refuse(0)
    for sequence in (0, 1):
        waiting.append(sequence)
    assert not waiting.overtakes(3)
    waiting.refuse(1)  # a duplicate
    assert not waiting.batches
    waiting.append(0, epoch=1)
    waiting.refuse(2)  # of an epoch that is over
    assert not waiting.batches


def test_it_is_waited_for_from_when_it_came_last() -> None:
    waiting = Waiting()
    waiting.refuse(0)
    waiting.refuse(0, now_ms=5_000)
    waiting.refuse(1, now_ms=9_000)
    assert waiting.overtakes(1, now_ms=4_999 + FORGOTTEN_AFTER_MS)
    assert not waiting.overtakes(1, now_ms=5_000 + FORGOTTEN_AFTER_MS)
    waiting.refuse(2, now_ms=50_000)
    waiting.refuse(3, now_ms=50_000 + FORGOTTEN_AFTER_MS)  # 2 was given up
    assert not waiting.overtakes(3, now_ms=50_000 + FORGOTTEN_AFTER_MS)


def test_no_more_are_held_than_so_many() -> None:
    waiting = Waiting()
    for producer_id in range(REFUSED_MAX + 1):
        waiting.refuse(0, producer_id=producer_id)
    assert len(waiting.batches) == REFUSED_MAX
    assert not waiting.overtakes(1, producer_id=0)
    assert waiting.overtakes(1, producer_id=1)


def test_who_never_comes_again_is_forgotten_when_others_come() -> None:
    waiting = Waiting()
    waiting.refuse(0, producer_id=8)
    waiting.refuse(0, producer_id=9, now_ms=1)
    assert not waiting.overtakes(5, now_ms=FORGOTTEN_AFTER_MS)
    assert len(waiting.batches) == 1
    assert not waiting.overtakes(5, now_ms=FORGOTTEN_AFTER_MS + 1)
    assert not waiting.batches


def test_a_batch_that_comes_too_early_is_to_come_again_once_under_each_leader() -> None:
    waiting = Waiting()
    waiting.append(0)

    def early(sequence: int, leader_epoch: int, now_ms: int) -> bool:
        found = waiting.batches.came_early("t", 0, header(sequence), waiting.states, LeaderEpoch(leader_epoch), now_ms)
        assert found in (None, REFUSED)
        return found is REFUSED

    assert early(2, 1, 0)
    assert not early(2, 1, 500)
    assert early(2, 1, 1_000)
    assert early(2, 3, 2_000), "what was appended meanwhile may have gone with the leader between"
    assert early(2, 3, 2_000 + GIVEN_UP_AFTER_MS), "long ago"


def test_who_goes_on_in_an_epoch_that_is_out_of_order_has_given_up_what_was_before() -> None:
    waiting = Waiting()
    batches, epoch = waiting.batches, LeaderEpoch(1)
    for now_ms in (0, 1, 2, 30_000, 30_001):
        batches.came_early("t", 0, header(1), waiting.states, epoch, now_ms)
        assert not batches.gave_up("t", 0, header(2), now_ms)
    assert not batches.gave_up("t", 0, header(2), GIVEN_UP_AFTER_MS)
    assert batches.gave_up("t", 0, header(2), GIVEN_UP_AFTER_MS + 1)
    assert not batches.gave_up("t", 0, header(2, epoch=1), GIVEN_UP_AFTER_MS + 1)
    assert not batches.gave_up("t", 1, header(2), GIVEN_UP_AFTER_MS + 1)
