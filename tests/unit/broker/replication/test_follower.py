"""The follower's core: append, truncate at the point of divergence, start over, or wait."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from klamm.broker.log.epoch_cache import EpochCache, EpochEntry
from klamm.broker.replication.follower import (
    AppendRecords,
    AskAgain,
    BackOff,
    Discard,
    LeaderAnswer,
    StartOverAt,
    TruncateTo,
    decide,
)
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import LeaderEpoch, Offset

EPOCH = LeaderEpoch(9)


@dataclass
class Log:
    """A log of nothing but epochs and offsets."""

    epochs: list[tuple[int, int]]
    log_end_offset: Offset
    log_start_offset: Offset = field(default=Offset(0))

    def end_offset_for_epoch(self, epoch: LeaderEpoch) -> tuple[LeaderEpoch | None, Offset]:
        cache = EpochCache(EpochEntry(LeaderEpoch(each), Offset(start)) for each, start in self.epochs)
        return cache.end_offset_for(epoch, self.log_end_offset)


def log(epochs: list[tuple[int, int]], end: int, start: int = 0) -> Log:
    return Log(epochs, Offset(end), Offset(start))


def answer(
    fetch_offset: int,
    *,
    epoch: int = EPOCH,
    error: ErrorCode = ErrorCode.NONE,
    diverging: tuple[int, int] | None = None,
    log_start: int = 0,
) -> LeaderAnswer:
    return LeaderAnswer(
        LeaderEpoch(epoch),
        Offset(fetch_offset),
        error,
        Offset(50),
        Offset(log_start),
        None if diverging is None else (LeaderEpoch(diverging[0]), Offset(diverging[1])),
        True,
    )


def test_records_that_continue_the_log_are_appended() -> None:
    assert decide(EPOCH, log([(1, 0)], 40), answer(40)) == AppendRecords()


def test_rule_11_an_answer_of_another_epoch_is_dropped() -> None:
    for error in (ErrorCode.NONE, ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.FENCED_LEADER_EPOCH):
        assert decide(EPOCH, log([(1, 0)], 40), answer(40, epoch=8, error=error)) == Discard()


def test_an_answer_to_an_older_position_is_asked_again() -> None:
    assert decide(EPOCH, log([(1, 0)], 40), answer(30)) == AskAgain()
    assert decide(EPOCH, log([(1, 0)], 40), answer(30, error=ErrorCode.OFFSET_OUT_OF_RANGE)) == AskAgain()


def test_rule_12_truncates_to_the_nearer_end_of_a_shared_epoch() -> None:
    assert decide(EPOCH, log([(1, 0), (3, 20)], 40), answer(40, diverging=(3, 30))) == TruncateTo(Offset(30))
    # Ours ended earlier: what follows under epoch 4 is not the leader's.
    assert decide(EPOCH, log([(1, 0), (3, 20), (4, 25)], 40), answer(40, diverging=(3, 30))) == TruncateTo(Offset(25))


def test_rule_12_without_the_epoch_told_it_truncates_to_its_largest_smaller_one_and_asks_again() -> None:
    # KIP-279: the leader has epoch 3, we have 2 and 4: agreed is at most what we hold of 2.
    assert decide(EPOCH, log([(2, 0), (4, 25)], 40), answer(40, diverging=(3, 38))) == TruncateTo(Offset(25))


def test_rule_14_truncation_at_the_log_end_is_carried_out_for_the_epochs_sake() -> None:
    # KAFKA-10706: a leader of epoch 4 that was deposed before its first append.
    assert decide(EPOCH, log([(2, 0), (4, 40)], 40), answer(40, diverging=(2, 40))) == TruncateTo(Offset(40))


def test_rule_12_two_round_trips_agree() -> None:
    # Fast failovers: leader 1:0-10, 2:10-20, 5:20-; follower 1:0-10, 3:10-15, 4:15-25.
    follower = log([(1, 0), (3, 10), (4, 15)], 25)
    leader = log([(1, 0), (2, 10), (5, 20)], 30)
    trips = 0
    while True:
        last = LeaderEpoch(follower.epochs[-1][0])
        epoch, end = leader.end_offset_for_epoch(last)
        assert epoch is not None
        if not (epoch < last or end < follower.log_end_offset):
            break
        action = decide(EPOCH, follower, answer(follower.log_end_offset, diverging=(epoch, end)))
        assert isinstance(action, TruncateTo)
        follower.log_end_offset = min(follower.log_end_offset, action.offset)
        follower.epochs = [entry for entry in follower.epochs if entry[1] < action.offset]
        trips += 1
        assert trips < 5
    assert (follower.log_end_offset, follower.epochs) == (10, [(1, 0)])


def test_starts_over_where_the_leaders_log_begins_past_ours() -> None:
    out_of_range = ErrorCode.OFFSET_OUT_OF_RANGE
    assert decide(EPOCH, log([(1, 0)], 40), answer(40, error=out_of_range, log_start=60)) == StartOverAt(Offset(60))
    # Nothing of ours is lost by it: an empty log takes the leader's start.
    assert decide(EPOCH, log([], 40, 40), answer(40, error=out_of_range, log_start=10)) == StartOverAt(Offset(10))
    assert decide(EPOCH, log([(1, 0)], 40), answer(40, error=out_of_range)) == BackOff(out_of_range, False)


def test_nothing_in_common_starts_over() -> None:
    # Our log begins at 30 in epoch 5; the leader's epoch 2 ended at 20.
    assert decide(EPOCH, log([(5, 30)], 40, 30), answer(40, diverging=(2, 20))) == StartOverAt(Offset(20))


@pytest.mark.parametrize(
    ("error", "for_metadata"),
    [
        (ErrorCode.FENCED_LEADER_EPOCH, True),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, True),
        (ErrorCode.UNKNOWN_TOPIC_ID, True),
        (ErrorCode.UNKNOWN_LEADER_EPOCH, False),
        (ErrorCode.KAFKA_STORAGE_ERROR, False),
    ],
)
def test_errors_back_off(error: ErrorCode, for_metadata: bool) -> None:
    assert decide(EPOCH, log([(1, 0)], 40), answer(40, error=error)) == BackOff(error, for_metadata)
