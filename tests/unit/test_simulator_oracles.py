"""The simulator's oracles themselves: for every rule a situation that breaks it, and a near one that does not.

An oracle that cannot fail is worth nothing. Logs and commitments are here; metadata, quorum, doors, groups and clients
are in test_simulator_oracles_of_nodes.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from klamm.cluster.broker import BrokerRegistration
from klamm.cluster.image import MetadataImage, PartitionImage, TopicImage
from klamm.cluster.partition import LeaderRecoveryState
from klamm.cluster.records import CONFIG_RESOURCE_TOPIC
from klamm.proto.identifiers import (
    BrokerEpoch,
    BrokerId,
    LeaderEpoch,
    MetadataOffset,
    PartitionEpoch,
    TopicId,
    TopicIdPartition,
)
from simulator.oracles.breach import Breach, Findings
from simulator.oracles.commit_oracle import CommitOracle, LeaderView
from simulator.oracles.log_oracle import LogOracle
from simulator.oracles.replica_logs import Batch, ReplicaLogs

TOPIC_ID = TopicId(int=7)
PARTITION = TopicIdPartition(TOPIC_ID, 0)


def batch(offset: int, epoch: int = 0, content: int = 0, *, producer: int = -1, sequence: int = -1) -> Batch:
    """Of one record."""
    producer_epoch = 0 if producer >= 0 else -1
    return Batch(offset, offset + 1, epoch, content or offset + 100, producer, producer_epoch, sequence, sequence)


def broker(number: int, epoch: int | None = None, *, fenced: bool = False) -> BrokerRegistration:
    return BrokerRegistration(
        broker_id=BrokerId(number),
        incarnation_id=bytes([number, (epoch or number) % 256]),
        broker_epoch=BrokerEpoch(number if epoch is None else epoch),
        endpoints={},
        rack=None,
        fenced=fenced,
        in_controlled_shutdown=False,
        log_dir_id=b"",
    )


def partition(
    leader: int | None = 1, epoch: int = 0, isr: tuple[int, ...] = (1, 2, 3), elr: tuple[int, ...] = ()
) -> PartitionImage:
    return PartitionImage(
        topic_id=TOPIC_ID,
        partition=0,
        replicas=(BrokerId(1), BrokerId(2), BrokerId(3)),
        isr=tuple(map(BrokerId, isr)),
        leader=None if leader is None else BrokerId(leader),
        leader_epoch=LeaderEpoch(epoch),
        partition_epoch=PartitionEpoch(0),
        eligible_leader_replicas=tuple(map(BrokerId, elr)),
    )


def image(state: PartitionImage, *brokers: BrokerRegistration, end_offset: int = 10) -> MetadataImage:
    registered = brokers or (broker(1), broker(2), broker(3))
    return replace(
        MetadataImage.empty(),
        end_offset=MetadataOffset(end_offset),
        brokers={each.broker_id: each for each in registered},
        topics={"t": TopicImage("t", TOPIC_ID, (state,))},
        topic_names={TOPIC_ID: "t"},
    )


class Cluster:
    """The oracles of logs and commitments over replicas that exist only here."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.logs = ReplicaLogs()
        self.commits = CommitOracle(self.logs, self.findings.report)
        self.log = LogOracle(self.logs, self.findings.report, self.commits.leader_of)
        self.state: PartitionImage | None = None
        self.configs: dict[str, str] = {}
        self.become(partition())

    def become(self, state: PartitionImage, *brokers: BrokerRegistration) -> None:
        """The controllers commit this."""
        configs = {(CONFIG_RESOURCE_TOPIC, "t"): self.configs} if self.configs else {}
        self.commits.image = replace(image(state, *brokers), configs=configs)
        self.commits.changed("t", self.state, state, self.commits.image, 1.0)
        self.state = state

    def appends(self, leader: int, *batches: Batch, followers: tuple[int, ...] = (2, 3)) -> None:
        for each in batches:
            self.log.appended_as_leader(leader, PARTITION, each)
        for follower in followers:
            self.log.appended_as_follower(follower, PARTITION, batches, gaps=False)

    def leads(self, leader: int, high_watermark: int, *, epoch: int = 0, **changes: Any) -> LeaderView:
        """The leader as it is seen."""
        view = LeaderView(
            broker_id=leader,
            partition=PARTITION,
            leader_epoch=epoch,
            high_watermark=high_watermark,
            committed_isr=frozenset({BrokerId(1), BrokerId(2), BrokerId(3)}),
            proposed={},
            min_isr=2,
            image=self.commits.image,
            run=1,
        )
        view = view._replace(**changes)
        log_end = self.logs.of(leader, PARTITION).end_offset
        self.commits.led(view, log_end, epoch, failed=False)
        return view

    @property
    def rules(self) -> list[int]:
        return [breach.rule for breach in self.findings.breaches]


@pytest.fixture
def cluster() -> Cluster:
    """Three replicas with two batches, of which all is committed."""
    cluster = Cluster()
    cluster.leads(1, 0)
    cluster.appends(1, batch(0), batch(1))
    cluster.leads(1, 2)
    assert not cluster.rules
    return cluster


def test_a_breach_is_raised_by_number_and_sentence() -> None:
    findings = Findings()
    findings.raise_first()
    findings.report(3, "lost")
    findings.report(4, "too late")
    with pytest.raises(Breach, match=r"^rule 3: lost$"):
        findings.raise_first()


def test_rule_1_two_leaders_of_one_epoch_are_seen(cluster: Cluster) -> None:
    cluster.leads(1, 2)
    cluster.become(partition(2, 1))
    cluster.leads(2, 2, epoch=1)
    cluster.leads(1, 2)  # does not know yet that it is deposed
    assert not cluster.rules
    cluster.leads(3, 2, epoch=1)
    assert cluster.rules == [1]


def test_rule_1_a_fall_of_the_committed_epoch_is_seen(cluster: Cluster) -> None:
    cluster.become(partition(2, 2))
    assert not cluster.rules
    cluster.become(partition(2, 1))
    assert cluster.rules == [1]


def test_rule_1_two_committed_leaders_of_one_epoch_are_seen(cluster: Cluster) -> None:
    cluster.become(replace(partition(1), partition_epoch=PartitionEpoch(1)))
    assert not cluster.rules
    cluster.become(partition(2))
    assert cluster.rules == [1]


def test_rule_2_other_bytes_at_one_offset_and_epoch_are_seen(cluster: Cluster) -> None:
    cluster.log.appended_as_leader(1, PARTITION, batch(2, content=5))
    cluster.log.appended_as_follower(2, PARTITION, [batch(2, content=5)], gaps=False)
    assert not cluster.rules
    cluster.log.appended_as_follower(3, PARTITION, [batch(2, content=6)], gaps=False)
    assert cluster.rules == [2]


def test_rule_2_a_compacted_batch_may_have_other_bytes(cluster: Cluster) -> None:
    cluster.log.appended_as_leader(1, PARTITION, batch(2, content=5))
    cluster.log.appended_as_follower(3, PARTITION, [batch(2, content=6)], gaps=True)
    assert not cluster.rules


def test_rule_3_a_leader_without_what_is_committed_is_seen(cluster: Cluster) -> None:
    cluster.appends(1, batch(2), followers=(2,))
    cluster.leads(1, 3, committed_isr=frozenset({BrokerId(1), BrokerId(2)}), min_isr=2)
    cluster.findings.breaches.clear()  # broker 3 is in sync for the controllers: that is rule 5, not of interest here
    cluster.become(partition(2, 1, isr=(2, 1)))
    assert not cluster.rules
    cluster.become(partition(3, 2, isr=(3,)))
    assert cluster.rules == [3]


def test_rule_3_a_leader_with_another_committed_batch_is_seen(cluster: Cluster) -> None:
    log = cluster.logs.of(3, PARTITION)
    log.replace([batch(0), batch(1, content=9)])
    cluster.become(partition(2, 1, isr=(2, 1)))
    assert not cluster.rules
    cluster.become(partition(3, 2, isr=(3,)))
    assert cluster.rules == [3]


def test_rule_3_an_unclean_election_ends_the_promise_until_the_next_leader_commits(cluster: Cluster) -> None:
    cluster.logs.of(3, PARTITION).truncate(1)
    unclean = replace(partition(3, 1, isr=(3,)), leader_recovery_state=LeaderRecoveryState.RECOVERING)
    cluster.become(unclean)
    assert not cluster.rules
    cluster.leads(3, 1, epoch=1, committed_isr=frozenset({BrokerId(3)}), min_isr=1)
    cluster.commits.acked(PARTITION, 0, "a producer")
    assert not cluster.rules
    cluster.logs.of(2, PARTITION).truncate(0)
    cluster.become(partition(2, 2, isr=(2,)))
    assert cluster.rules == [3]


def test_rule_3_a_replica_that_may_lead_cuts_off_nothing_that_is_committed(cluster: Cluster) -> None:
    cluster.commits.truncated(2, PARTITION, 2)
    assert not cluster.rules
    cluster.commits.truncated(2, PARTITION, 1)
    assert cluster.rules == [3]
    cluster.findings.breaches.clear()
    cluster.become(partition(isr=(1, 3)))
    cluster.commits.truncated(2, PARTITION, 1)
    assert not cluster.rules


def test_rule_3_an_ack_before_the_commit_is_seen(cluster: Cluster) -> None:
    cluster.commits.acked(PARTITION, 1, "a producer")
    assert not cluster.rules
    cluster.commits.acked(PARTITION, 2, "a producer")
    assert cluster.rules == [3]


def test_rule_4_a_falling_high_watermark_is_seen(cluster: Cluster) -> None:
    cluster.leads(1, 2)
    cluster.become(partition(2, 1))
    cluster.leads(2, 1, epoch=1)  # another leader may know less
    cluster.leads(1, 1, run=2)  # and so may another process
    assert not cluster.rules
    cluster.leads(2, 0, epoch=1)
    assert cluster.rules == [4]


def test_rule_5_a_high_watermark_past_a_member_of_the_isr_is_seen(cluster: Cluster) -> None:
    cluster.appends(1, batch(2), followers=(2,))
    cluster.become(partition(isr=(1, 2)))
    cluster.leads(1, 3, committed_isr=frozenset({BrokerId(1), BrokerId(2)}))
    assert not cluster.rules
    cluster.appends(1, batch(3), followers=())
    cluster.leads(1, 4, committed_isr=frozenset({BrokerId(1), BrokerId(2)}))
    assert cluster.rules == [5]


def test_rule_5_and_9_a_member_counts_from_its_proposal_on(cluster: Cluster) -> None:
    cluster.become(partition(isr=(1, 2)))
    cluster.appends(1, batch(2), followers=(2,))
    alone = frozenset({BrokerId(1), BrokerId(2)})
    cluster.leads(1, 2, committed_isr=alone, proposed={BrokerId(3): 3})
    assert not cluster.rules
    cluster.leads(1, 3, committed_isr=alone, proposed={BrokerId(3): 3})
    assert cluster.rules == [5]


def test_rule_5_and_9_a_member_that_the_controllers_have_committed_counts_whatever_the_leader_thinks(
    cluster: Cluster,
) -> None:
    cluster.appends(1, batch(2), followers=(2,))
    cluster.leads(1, 3, committed_isr=frozenset({BrokerId(1), BrokerId(2)}))  # it took its proposal of 3 back
    assert cluster.rules == [5]


def test_rule_5_who_lost_its_disk_is_bound_by_its_next_registration(cluster: Cluster) -> None:
    cluster.commits.disk_lost(3, 3, 1.0)
    cluster.log.loaded(3, PARTITION, [], 0, whole=False)
    cluster.appends(1, batch(2), followers=(2,))
    cluster.leads(1, 3)
    assert not cluster.rules
    cluster.appends(1, batch(3), followers=(2,))
    cluster.leads(1, 4, image=image(partition(), broker(1), broker(2), broker(3, 9)))
    assert cluster.rules == [5]


def test_rule_5_who_was_taken_out_of_the_assignment_is_bound_no_more(cluster: Cluster) -> None:
    cluster.appends(1, batch(2), followers=(2,))
    cluster.become(replace(partition(isr=(1, 2)), replicas=(BrokerId(1), BrokerId(2))))
    cluster.leads(1, 3)  # it has not heard of it yet
    assert not cluster.rules


def test_rule_6_a_high_watermark_that_moves_under_min_isr_is_seen(cluster: Cluster) -> None:
    cluster.appends(1, batch(2))
    cluster.leads(1, 3, committed_isr=frozenset({BrokerId(1), BrokerId(2)}), min_isr=2)
    cluster.leads(1, 3, committed_isr=frozenset({BrokerId(1)}), min_isr=2)
    assert not cluster.rules
    cluster.appends(1, batch(3))
    cluster.leads(1, 4, committed_isr=frozenset({BrokerId(1)}), min_isr=2)
    assert cluster.rules == [6]


def test_rule_8_who_joins_without_what_is_committed_is_seen(cluster: Cluster) -> None:
    cluster.become(partition(isr=(1, 2)))
    cluster.become(partition(isr=(1, 2, 3)))
    assert not cluster.rules
    cluster.become(partition(isr=(1, 2)))
    cluster.logs.of(3, PARTITION).truncate(1)
    cluster.become(partition(isr=(1, 2, 3)))
    assert cluster.rules == [8]


def test_rule_8_an_epoch_begins_before_what_its_leader_had_appended_when_it_was_looked_at(cluster: Cluster) -> None:
    cluster.become(partition(2, 1, isr=(1, 2)))
    cluster.appends(2, batch(2, epoch=1), followers=())
    cluster.leads(2, 2, epoch=1)
    cluster.become(partition(2, 1, isr=(1, 2, 3)))  # with all that the epoch began with
    assert not cluster.rules


def test_rule_8_who_joins_below_the_begin_of_the_epoch_is_seen(cluster: Cluster) -> None:
    cluster.become(partition(isr=(1, 2)))
    cluster.appends(1, batch(2), followers=(2,))  # not committed, and the next leader has it
    cluster.become(partition(2, 1, isr=(1, 2)))
    cluster.leads(2, 2, epoch=1)
    cluster.log.appended_as_follower(3, PARTITION, [batch(2)], gaps=False)
    cluster.become(partition(2, 1, isr=(1, 2, 3)))
    assert not cluster.rules
    cluster.become(partition(2, 1, isr=(1, 2)))
    cluster.logs.of(3, PARTITION).truncate(2)
    cluster.become(partition(2, 1, isr=(1, 2, 3)))
    assert cluster.rules == [8]


def test_rule_12_cutting_off_what_the_leader_has_is_seen(cluster: Cluster) -> None:
    cluster.appends(1, batch(2), followers=(2, 3))
    cluster.become(partition(2, 1))
    cluster.log.truncated(1, PARTITION, 3, leader_id=2)
    cluster.log.appended_as_leader(1, PARTITION, batch(3))  # by the deposed leader
    cluster.log.truncated(1, PARTITION, 3, leader_id=2)
    assert not cluster.rules
    cluster.log.truncated(1, PARTITION, 2, leader_id=2)
    assert cluster.rules == [12]


def test_rule_12_what_compaction_left_may_end_before_the_cut(cluster: Cluster) -> None:
    cluster.logs.compacted.add(PARTITION)
    cluster.log.truncated(2, PARTITION, 0, leader_id=1, asked=2)
    assert not cluster.rules
    cluster.log.truncated(3, PARTITION, 0, leader_id=1, asked=1)
    assert cluster.rules == [12]


def test_rule_12_starting_over_is_for_what_the_leader_no_longer_has(cluster: Cluster) -> None:
    cluster.log.restarted(3, PARTITION, 2, leader_id=1, leader_start_offset=2)
    assert not cluster.rules
    cluster.log.restarted(2, PARTITION, 0, leader_id=1, leader_start_offset=0)
    assert cluster.rules == [12]


def test_rule_13_a_leader_without_its_epoch_in_the_cache_is_seen(cluster: Cluster) -> None:
    view = cluster.leads(1, 2)
    cluster.commits.led(view, 2, None, failed=True)  # the disk did not take it, and nothing is served
    assert not cluster.rules
    cluster.commits.led(view, 2, None, failed=False)
    assert cluster.rules == [13]


@pytest.mark.parametrize("entries", [[(0, 0), (1, 1)], [], [(0, 1)], [(0, 0), (3, 5)]])
def test_rule_14_an_epoch_cache_that_is_not_the_logs_is_seen(cluster: Cluster, entries: list[tuple[int, int]]) -> None:
    cluster.log.check_epochs(1, PARTITION, [(0, 0), (3, 2)], 0, 2)
    assert not cluster.rules
    cluster.log.check_epochs(1, PARTITION, entries, 0, 2)
    assert cluster.rules == [14]


def test_rule_14_an_epoch_from_before_the_log_start_is_seen(cluster: Cluster) -> None:
    cluster.log.check_epochs(1, PARTITION, [(0, 1)], 1, 2)
    cluster.log.check_epochs(1, PARTITION, [(0, 1)], 0, 2, known_from=1)  # a crash has made the log start fall back
    assert not cluster.rules
    cluster.log.check_epochs(1, PARTITION, [(0, 0)], 1, 2)
    assert cluster.rules == [14]


def test_rule_15_an_append_under_another_brokers_epoch_is_seen(cluster: Cluster) -> None:
    cluster.become(partition(2, 1))
    cluster.log.appended_as_leader(2, PARTITION, batch(2, 1))
    cluster.log.appended_as_leader(1, PARTITION, batch(2, 0, content=8))  # deposed, under its own epoch
    assert not cluster.rules
    cluster.log.appended_as_leader(1, PARTITION, batch(3, 1))
    assert cluster.rules == [15]


def test_rule_17_sequences_are_appended_once_and_without_a_gap(cluster: Cluster) -> None:
    cluster.log.appended_as_leader(1, PARTITION, batch(2, producer=5, sequence=0))
    cluster.log.appended_as_leader(1, PARTITION, batch(3, producer=5, sequence=1))
    cluster.log.appended_as_leader(1, PARTITION, batch(4, producer=6, sequence=0))
    assert not cluster.rules
    cluster.log.appended_as_leader(1, PARTITION, batch(5, producer=5, sequence=1))
    cluster.log.appended_as_leader(1, PARTITION, batch(6, producer=6, sequence=2))
    assert cluster.rules == [17, 17]


def test_rule_17_a_new_producer_epoch_begins_at_0_and_ends_the_older_one(cluster: Cluster) -> None:
    first = batch(2, producer=5, sequence=7)._replace(producer_epoch=1)
    cluster.log.appended_as_leader(1, PARTITION, first._replace(base_sequence=0, last_sequence=0))
    assert not cluster.rules
    cluster.log.appended_as_leader(1, PARTITION, batch(3, producer=5, sequence=0))
    cluster.log.appended_as_leader(1, PARTITION, first._replace(base_offset=4, next_offset=5, producer_epoch=2))
    assert cluster.rules == [17, 17]


def test_rule_17_behind_a_refused_batch_of_an_unknown_producer_any_sequence_may_come(cluster: Cluster) -> None:
    cluster.log.refused(1, PARTITION, 5, 0)
    cluster.log.appended_as_leader(1, PARTITION, batch(2, producer=5, sequence=32))
    assert not cluster.rules
    cluster.log.appended_as_leader(1, PARTITION, batch(3, producer=5, sequence=40))  # it is known now
    cluster.log.appended_as_leader(1, PARTITION, batch(4, producer=6, sequence=32))  # another one
    assert cluster.rules == [17, 17]


def test_rule_17_a_first_leader_that_is_deposed_takes_what_comes_behind_what_a_later_one_got(cluster: Cluster) -> None:
    for leader, epoch in ((2, 1), (3, 2)):
        cluster.become(partition(leader, epoch=epoch))
        cluster.log.appended_as_leader(leader, PARTITION, batch(2, epoch, 5, producer=5, sequence=epoch - 1))
    cluster.log.appended_as_leader(1, PARTITION, batch(2, producer=5, sequence=1))
    assert cluster.rules == [17]  # the second leader's, who does not have what the first one got


def test_rule_17_a_later_leader_does_not_take_any_sequence_behind_a_refused_batch(cluster: Cluster) -> None:
    cluster.become(partition(epoch=1))
    cluster.log.refused(1, PARTITION, 5, 0)
    cluster.log.appended_as_leader(1, PARTITION, batch(2, 1, producer=5, sequence=32))
    assert cluster.rules == [17]


def test_rule_17_what_was_cut_off_may_come_again(cluster: Cluster) -> None:
    cluster.log.appended_as_leader(1, PARTITION, batch(2, producer=5, sequence=0))
    cluster.log.truncated(1, PARTITION, 2, leader_id=2)
    cluster.log.appended_as_leader(1, PARTITION, batch(2, producer=5, sequence=0))
    assert not cluster.rules


def test_rule_18_what_a_start_finds_is_what_was_there(cluster: Cluster) -> None:
    cluster.log.loaded(1, PARTITION, [batch(0), batch(1)], 2, whole=True)
    cluster.log.loaded(2, PARTITION, [batch(0)], 1, whole=False)  # the power failed
    assert not cluster.rules
    cluster.log.loaded(3, PARTITION, [batch(0), batch(1, content=9)], 2, whole=True)
    assert cluster.rules == [18]


def test_rule_18_of_a_decayed_log_nothing_can_be_said(cluster: Cluster) -> None:
    cluster.log.loaded(1, PARTITION, [batch(0)], 2, whole=False, damaged=True)
    assert not cluster.rules
    assert cluster.logs.of(1, PARTITION).end_offset == 2


def test_rule_18_kill_9_loses_nothing_and_invents_nothing(cluster: Cluster) -> None:
    cluster.log.loaded(1, PARTITION, [batch(0)], 1, whole=True)
    cluster.log.loaded(2, PARTITION, [batch(0), batch(1), batch(2)], 3, whole=True)
    assert cluster.rules == [18, 18]


def test_rule_19_a_leader_that_lost_its_disk_is_seen(cluster: Cluster) -> None:
    cluster.commits.disk_lost(3, 3, 1.0)
    cluster.configs = {"min.insync.replicas": "2"}
    cluster.become(partition(3, 1, isr=(3,), elr=(1,)))  # nobody knows yet
    cluster.log.loaded(3, PARTITION, [], 0, whole=False)
    assert not cluster.rules
    cluster.become(partition(None, 2, isr=(), elr=(1,)), broker(1), broker(2), broker(3, 9))
    cluster.become(partition(3, 3, isr=(3,)), broker(1), broker(2), broker(3, 9))
    assert cluster.rules == [19]


def test_rule_19_the_promise_ends_when_all_who_hold_it_lose_their_disks(cluster: Cluster) -> None:
    for number in (1, 2, 3):
        cluster.commits.disk_lost(number, number, 5.0)
        assert cluster.commits.of(PARTITION).given_up == (number == 3)
    assert cluster.commits.of(PARTITION).promised_since_s == 5.0


@pytest.mark.parametrize("lost", [True, False])
def test_rule_19_the_promise_ends_when_only_who_lost_data_is_left_of_enough_in_sync(
    cluster: Cluster, lost: bool
) -> None:
    cluster.configs = {"min.insync.replicas": "1"}
    if lost:
        cluster.commits.disk_lost(3, 3, 5.0)
        cluster.log.loaded(3, PARTITION, [], 0, whole=False)
    cluster.become(partition(1, isr=(1, 3)))
    assert not cluster.commits.of(PARTITION).given_up
    cluster.become(partition(3, 1, isr=(3,)))  # nobody knows yet, and one in sync is enough
    assert cluster.commits.of(PARTITION).given_up == lost
    assert not cluster.rules


@pytest.mark.parametrize(
    ("eligible", "distrusted", "rules"), [((), (), [19]), ((1,), (), []), ((), (1, 2), []), ((), (1,), [19])]
)
def test_rule_19_who_holds_the_data_stays_eligible_while_too_few_are_in_sync(
    cluster: Cluster, eligible: tuple[int, ...], distrusted: tuple[int, ...], rules: list[int]
) -> None:
    cluster.configs = {"min.insync.replicas": "2"}
    cluster.commits.distrusted |= {*distrusted}
    cluster.commits.disk_lost(3, 3, 5.0)
    cluster.log.loaded(3, PARTITION, [], 0, whole=False)
    cluster.become(partition(3, 1, isr=(3,), elr=eligible))
    assert cluster.rules == rules


def test_rule_19_the_promise_ends_when_only_decayed_replicas_are_left(cluster: Cluster) -> None:
    cluster.configs = {"min.insync.replicas": "1"}
    cluster.commits.lost_data(3, 3, PARTITION)
    cluster.become(partition(1, isr=(1, 3)))
    assert not cluster.commits.of(PARTITION).given_up
    cluster.become(partition(3, 1, isr=(3,)))
    assert cluster.commits.of(PARTITION).given_up
    assert not cluster.rules


def test_rule_27_what_was_appended_without_an_error_is_in_the_file(cluster: Cluster) -> None:
    cluster.log.appended_as_leader(1, PARTITION, batch(2), written=True)
    assert not cluster.rules
    cluster.log.appended_as_leader(1, PARTITION, batch(3), written=False)
    assert cluster.rules == [27]


def test_names_stand_for_ids_in_sentences(cluster: Cluster) -> None:
    cluster.commits.acked(PARTITION, 5, "a producer")
    assert "of t-0 under" in str(cluster.findings.breaches[0])
    assert str(UUID(int=7)) not in str(cluster.findings.breaches[0])
