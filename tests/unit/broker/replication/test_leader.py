"""The leader's core by the rules of the design; numbers in the names are theirs."""

from __future__ import annotations

from klamm.broker.replication.isr import IsrAnswer, Verdict
from klamm.broker.replication.leader import (
    HighWatermarkAdvanced,
    IsrChanged,
    LeaderState,
    SendAlterPartition,
)
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch

LAG_MS = 10_000
EPOCH = LeaderEpoch(5)


def offsets(*numbers: int) -> tuple[Offset, ...]:
    return tuple(Offset(number) for number in numbers)


class Leader:
    """Broker 1 leads a partition of brokers 1, 2 and 3, each registered under epoch 100 + its id."""

    def __init__(
        self, *, isr: tuple[int, ...] = (1, 2, 3), min_isr: int = 2, end: int = 100, committed: int = 100
    ) -> None:
        self.active = {BrokerId(number): BrokerEpoch(100 + number) for number in (1, 2, 3)}
        self.now = 50_000
        self.state = LeaderState(
            broker_id=BrokerId(1),
            leader_epoch=EPOCH,
            partition_epoch=PartitionEpoch(7),
            replicas=[BrokerId(number) for number in (1, 2, 3)],
            isr=[BrokerId(number) for number in isr],
            min_isr=min_isr,
            log_end_offset=Offset(end),
            high_watermark=Offset(committed),
            active_brokers=self.active,
            lag_time_max_ms=LAG_MS,
            now_ms=self.now,
        )

    def fetched(self, broker: int, offset: int, epoch: int | None = None) -> list[object]:
        return list(
            self.state.follower_fetched(BrokerId(broker), BrokerEpoch(epoch or 100 + broker), Offset(offset), self.now)
        )

    def appended(self, end: int) -> list[object]:
        return list(self.state.appended(Offset(end), self.now))

    def tick(self, after_ms: int = 500) -> list[object]:
        self.now += after_ms
        return list(self.state.ticked(self.now))

    def answer(self, error: ErrorCode, isr: tuple[int, ...] = (), partition_epoch: int = 8) -> list[object]:
        proposal = self.state.isr.pending
        assert proposal is not None
        members = frozenset(BrokerId(number) for number in isr)
        answer = IsrAnswer(error, EPOCH, PartitionEpoch(partition_epoch), members) if not error else IsrAnswer(error)
        effects, self.verdict = self.state.alter_partition_answered(proposal, answer, self.now)
        return list(effects)

    def metadata(self, isr: tuple[int, ...], partition_epoch: int) -> list[object]:
        return list(
            self.state.metadata_changed(
                replicas=[BrokerId(number) for number in (1, 2, 3)],
                isr=[BrokerId(number) for number in isr],
                partition_epoch=PartitionEpoch(partition_epoch),
                now_ms=self.now,
            )
        )

    @property
    def committed(self) -> set[int]:
        return set(self.state.isr.committed)


def proposed(effects: list[object]) -> list[set[int]]:
    return [set(effect.proposal.isr) for effect in effects if isinstance(effect, SendAlterPartition)]


def advanced(effects: list[object]) -> list[int]:
    return [effect.high_watermark for effect in effects if isinstance(effect, HighWatermarkAdvanced)]


# --- the high watermark --------------------------------------------------------------------------------------


def test_rule_5_high_watermark_is_the_smallest_log_end_of_the_isr() -> None:
    leader = Leader()
    assert leader.appended(110) == []
    assert leader.fetched(2, 110) == []
    assert advanced(leader.fetched(3, 105)) == [105]
    assert advanced(leader.fetched(3, 110)) == [110]


def test_rule_5_a_follower_not_heard_from_in_this_epoch_holds_the_high_watermark() -> None:
    leader = Leader(end=120, committed=100)
    assert advanced(leader.fetched(2, 120)) == []
    assert advanced(leader.fetched(3, 120)) == [120]


def test_rule_5_a_pending_expansion_counts_from_the_moment_it_is_proposed() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(2, 100)
    assert proposed(leader.fetched(3, 100)) == [{1, 2, 3}]
    leader.appended(110)
    assert advanced(leader.fetched(2, 110)) == []
    assert advanced(leader.fetched(3, 110)) == [110]


def test_rule_9_a_pending_shrink_does_not_count_until_it_is_committed() -> None:
    leader = Leader()
    leader.fetched(2, 100)
    leader.fetched(3, 100)
    leader.appended(110)
    leader.fetched(2, 110)
    assert proposed(leader.tick(LAG_MS + 1)) == [{1, 2}]
    assert leader.state.high_watermark == 100
    # KAFKA-13091: the answer itself moves it, no fetch is needed.
    effects = leader.answer(ErrorCode.NONE, (1, 2))
    assert effects == [IsrChanged(frozenset({BrokerId(1), BrokerId(2)}), False), HighWatermarkAdvanced(Offset(110))]


def test_rule_4_high_watermark_never_falls() -> None:
    leader = Leader()
    leader.fetched(2, 100)
    leader.fetched(3, 100)
    leader.fetched(3, 40)
    leader.appended(110)
    assert leader.state.high_watermark == 100


def test_rule_6_high_watermark_stands_still_under_min_isr() -> None:
    leader = Leader(isr=(1,))
    assert leader.appended(110) == []
    # A pending expansion does not count for the size: the controller may refuse it.
    leader.fetched(2, 110)
    leader.appended(120)
    assert leader.fetched(2, 120) == []
    assert leader.answer(ErrorCode.NONE, (1, 2))[-1] == HighWatermarkAdvanced(Offset(120))


def test_an_isr_of_one_commits_at_once_where_min_isr_is_one() -> None:
    leader = Leader(isr=(1,), min_isr=1)
    assert advanced(leader.appended(110)) == [110]


def test_a_new_leader_alone_in_the_isr_commits_what_it_has() -> None:
    leader = Leader(isr=(1,), min_isr=1, end=100, committed=90)
    assert list(leader.state.started(leader.now)) == [HighWatermarkAdvanced(Offset(100))]


def test_rule_10_a_leader_that_gets_no_answer_acks_nothing_more() -> None:
    leader = Leader()
    leader.fetched(2, 100)
    leader.fetched(3, 100)
    leader.appended(110)
    for _ in range(100):
        leader.tick()
    assert leader.committed == {1, 2, 3}
    assert leader.state.high_watermark == 100


def test_high_watermark_waits_for_a_caught_up_replica_that_is_about_to_join() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(2, 100)
    leader.active.pop(BrokerId(3))
    leader.fetched(3, 100)
    leader.active[BrokerId(3)] = BrokerEpoch(103)
    leader.appended(110)
    assert advanced(leader.fetched(2, 110)) == []
    leader.active.pop(BrokerId(3))  # fenced again: nobody waits for it
    assert advanced(leader.tick()) == [110]


def test_high_watermark_does_not_wait_for_a_replica_that_was_taken_out_a_moment_ago() -> None:
    # Its disk is full: it was at the log end just now, and keeps asking for what it cannot write.
    leader = Leader()
    leader.fetched(2, 100)
    leader.fetched(3, 100)
    leader.appended(101)
    assert advanced(leader.fetched(2, 101)) == []
    assert advanced(leader.metadata((1, 2), 8)) == [101]
    leader.now += 100
    leader.fetched(3, 100)
    leader.appended(102)
    assert advanced(leader.fetched(2, 102)) == [102]


def test_min_isr_is_taken_up_when_it_changes() -> None:
    leader = Leader(isr=(1, 2), min_isr=3)
    leader.appended(110)
    leader.fetched(2, 110)
    assert leader.state.high_watermark == 100
    assert advanced(list(leader.state.min_isr_changed(2, leader.now))) == [110]


# --- joining -------------------------------------------------------------------------------------------------


def test_rule_8_a_replica_below_the_high_watermark_does_not_join() -> None:
    leader = Leader(isr=(1, 2))
    assert proposed(leader.fetched(3, 99)) == []
    assert proposed(leader.fetched(3, 100)) == [{1, 2, 3}]


def test_rule_8_a_replica_below_the_start_of_the_leader_epoch_does_not_join() -> None:
    # The leader may hold committed records above its own high watermark: its predecessor's.
    leader = Leader(isr=(1, 2), end=100, committed=80)
    assert proposed(leader.fetched(3, 90)) == []
    assert proposed(leader.fetched(3, 100)) == [{1, 2, 3}]


def test_rule_7_no_fenced_leaving_or_stale_broker_is_proposed() -> None:
    leader = Leader(isr=(1, 2))
    assert proposed(leader.fetched(3, 100, epoch=99)) == []
    leader.active.pop(BrokerId(3))
    assert proposed(leader.fetched(3, 100)) == []
    leader.active[BrokerId(3)] = BrokerEpoch(103)
    # It is armed and says no more: metadata alone must let it in.
    assert proposed(list(leader.state.brokers_changed(leader.now))) == [{1, 2, 3}]


def test_under_min_isr_a_replica_past_a_high_watermark_that_stands_still_does_not_join() -> None:
    # KAFKA-19996
    leader = Leader(isr=(1,), end=500, committed=100)
    leader.state.leader_epoch_start_offset  # noqa: B018
    leader.appended(900)
    assert proposed(leader.fetched(2, 600)) == []
    assert proposed(leader.fetched(2, 900)) == [{1, 2}]


def test_the_broker_epoch_of_each_follower_goes_into_the_proposal() -> None:
    leader = Leader(isr=(1, 2))
    [effect] = [effect for effect in leader.fetched(3, 100) if isinstance(effect, SendAlterPartition)]
    assert effect.proposal.broker_epochs == ((2, None), (3, 103))  # broker 2 has not fetched from this leader


def test_a_replica_that_lost_its_log_is_not_waited_for() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(2, 100)
    leader.active.pop(BrokerId(3))
    leader.fetched(3, 100)
    leader.active[BrokerId(3)] = BrokerEpoch(103)
    leader.fetched(3, 0)
    leader.appended(110)
    assert advanced(leader.fetched(2, 110)) == [110]


# --- leaving -------------------------------------------------------------------------------------------------


def test_a_silent_follower_at_the_log_end_is_in_sync_however_long() -> None:
    leader = Leader()
    leader.fetched(2, 100)
    leader.fetched(3, 100)
    assert leader.tick(10 * LAG_MS) == []
    leader.appended(110)  # armed until now: its lag begins here
    assert leader.tick(LAG_MS) == []
    assert proposed(leader.tick(1)) == [{1}]


def test_a_follower_that_owes_an_answer_is_in_sync_as_long_as_the_lag_allows_and_joins_with_its_answer() -> None:
    leader = Leader()
    leader.fetched(2, 100)
    leader.fetched(3, 100)
    leader.tick(10 * LAG_MS)
    leader.state.asked(leader.now)
    assert not leader.state.settled
    leader.state.confirmed(BrokerId(2))
    leader.tick(LAG_MS // 2)
    leader.state.asked(leader.now)  # its time is counted from the first question that it does not answer
    leader.state.confirmed(BrokerId(2))
    assert leader.tick(LAG_MS // 2) == []
    assert proposed(leader.tick(1)) == [{1, 2}]
    leader.answer(ErrorCode.NONE, (1, 2))
    assert leader.tick() == [], "that it stands at the log end is no reason to let it in again"
    leader.state.confirmed(BrokerId(3))
    assert proposed(leader.fetched(3, 100)) == [{1, 2, 3}]


def test_an_append_is_no_sign_of_life_of_who_owes_an_answer() -> None:
    leader = Leader()
    leader.fetched(2, 100)
    leader.fetched(3, 100)
    leader.state.asked(leader.now)
    leader.state.confirmed(BrokerId(2))
    leader.tick(LAG_MS)
    leader.appended(110)
    assert proposed(leader.tick(1)) == [{1, 2}]


def test_who_may_lead_next_is_who_is_in_sync_or_may_be_and_under_min_isr_anybody() -> None:
    leader = Leader(isr=(1, 2), min_isr=2)
    assert leader.state.possible_successors == {2}
    leader.fetched(3, 100)  # its joining is proposed
    assert leader.state.possible_successors == {2, 3}
    assert Leader(isr=(1,), min_isr=1).state.possible_successors == set()
    assert Leader(isr=(1,), min_isr=2).state.possible_successors == {2, 3}


def test_a_follower_that_reached_the_earlier_log_end_is_not_lagging() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(2, 100)
    end = 100
    for _ in range(10):
        end += 10
        leader.appended(end)
        leader.now += LAG_MS // 2
        leader.fetched(2, end - 5)  # never at the end, but past what was there when it asked before
    assert proposed(leader.tick(1)) == []


def test_a_follower_stuck_behind_leaves_though_it_keeps_asking() -> None:
    leader = Leader(isr=(1, 2), min_isr=1)
    leader.fetched(2, 100)
    leader.appended(200)
    for _ in range(30):
        leader.now += 500
        leader.fetched(2, 150)
    assert proposed(leader.tick()) == [{1}]


# --- one change in flight ------------------------------------------------------------------------------------


def test_rule_9_one_change_is_in_flight() -> None:
    leader = Leader(isr=(1,))
    assert proposed(leader.fetched(2, 100)) == [{1, 2}]
    assert proposed(leader.fetched(3, 100)) == []
    assert proposed(leader.answer(ErrorCode.NONE, (1, 2))) == [{1, 2, 3}]


def test_rule_9_a_time_out_is_unknown_and_never_taken_back() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(3, 100)
    assert leader.answer(ErrorCode.REQUEST_TIMED_OUT) == []
    assert leader.verdict is Verdict.RETRY
    assert leader.state.isr.maximal == {1, 2, 3}


def test_an_ineligible_replica_is_taken_back_and_tried_later() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(3, 100)
    assert leader.answer(ErrorCode.INELIGIBLE_REPLICA) == []
    assert leader.verdict is Verdict.REVERTED
    assert leader.state.isr.maximal == {1, 2}
    assert proposed(leader.fetched(3, 100)) == []
    assert proposed(leader.tick(1_000)) == [{1, 2, 3}]


def test_refused_for_an_old_view_it_waits_for_metadata() -> None:
    for error in (ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.UNKNOWN_TOPIC_ID):
        leader = Leader(isr=(1, 2))
        leader.fetched(3, 100)
        assert leader.answer(error) == []
        assert leader.verdict is Verdict.WAITS_FOR_METADATA
        assert leader.state.isr.maximal == {1, 2, 3}
        leader.metadata((1, 2), 9)
        assert leader.state.isr.maximal == {1, 2, 3}  # proposed anew, from what metadata says
        assert leader.state.isr.partition_epoch == 9


def test_rule_11_an_answer_to_another_proposal_is_void() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(3, 100)
    old = leader.state.isr.pending
    assert old is not None
    leader.metadata((1,), 9)
    answer = IsrAnswer(ErrorCode.NONE, EPOCH, PartitionEpoch(8), frozenset({BrokerId(1), BrokerId(2), BrokerId(3)}))
    effects, verdict = leader.state.alter_partition_answered(old, answer, leader.now)
    assert (effects, verdict) == ((), Verdict.IGNORED)
    assert leader.committed == {1}


def test_rule_11_an_answer_of_another_leader_epoch_commits_nothing() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(3, 100)
    proposal = leader.state.isr.pending
    assert proposal is not None
    answer = IsrAnswer(ErrorCode.NONE, LeaderEpoch(6), PartitionEpoch(9), frozenset({BrokerId(2)}))
    assert leader.state.alter_partition_answered(proposal, answer, leader.now) == ((), Verdict.WAITS_FOR_METADATA)


def test_old_metadata_changes_nothing() -> None:
    leader = Leader(isr=(1, 2))
    leader.fetched(3, 100)
    leader.answer(ErrorCode.NONE, (1, 2, 3), partition_epoch=8)
    assert leader.metadata((1, 2), 7) == []
    assert leader.committed == {1, 2, 3}


def test_settled_means_that_time_alone_changes_nothing() -> None:
    leader = Leader()
    assert not leader.state.settled
    leader.fetched(2, 100)
    leader.fetched(3, 100)
    assert leader.state.settled
    leader.appended(110)
    assert not leader.state.settled
