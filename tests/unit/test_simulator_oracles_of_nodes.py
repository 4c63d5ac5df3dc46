"""The simulator's oracles of metadata, quorum, doors, groups, clients: each fails where it should, and only there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from klamm.cluster.broker import BrokerRegistration
from klamm.cluster.image import MetadataImage, PartitionImage, TopicImage
from klamm.proto.command_pb2 import AlterPartitionCommand, AlterPartitionEntry, BrokerState, Command
from klamm.proto.identifiers import (
    BrokerEpoch,
    BrokerId,
    LeaderEpoch,
    MetadataOffset,
    PartitionEpoch,
    TopicId,
    TopicPartition,
)
from simulator.ledger import Owned, Place, Poll, Send
from simulator.oracles.breach import Findings
from simulator.oracles.door_oracle import DoorOracle, Served
from simulator.oracles.group_oracle import GroupOracle
from simulator.oracles.hooks import Hooks
from simulator.oracles.metadata_oracle import MetadataOracle
from simulator.oracles.promise_oracle import PromiseOracle, Record, WholeLog
from simulator.oracles.raft_oracle import Entry, RaftOracle, RaftView

TOPIC_ID = TopicId(int=7)
NOTHING = Command().SerializeToString()


def broker(number: int, epoch: int, *, fenced: bool = False, leaving: bool = False) -> BrokerRegistration:
    return BrokerRegistration(
        broker_id=BrokerId(number),
        incarnation_id=bytes([number, epoch]),
        broker_epoch=BrokerEpoch(epoch),
        endpoints={},
        rack=None,
        fenced=fenced,
        in_controlled_shutdown=leaving,
        log_dir_id=b"",
    )


def partition(
    leader: int | None = 1, *, isr: tuple[int, ...] = (1, 2), elr: tuple[int, ...] = (), epoch: int = 0
) -> PartitionImage:
    return PartitionImage(
        topic_id=TOPIC_ID,
        partition=0,
        replicas=(BrokerId(1), BrokerId(2), BrokerId(3)),
        isr=tuple(map(BrokerId, isr)),
        leader=None if leader is None else BrokerId(leader),
        leader_epoch=LeaderEpoch(3),
        partition_epoch=PartitionEpoch(epoch),
        eligible_leader_replicas=tuple(map(BrokerId, elr)),
    )


class Controllers:
    """Commands as controllers apply them, one record each."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.clean = True
        self.lost_in = -1
        self.acting_on = 1_000
        self.oracle = MetadataOracle(
            self.findings.report,
            on_image=lambda _: None,
            on_partition=lambda *_: None,
            stopped_cleanly=lambda _: self.clean,
            lost_data=lambda *_: self.lost_in,
            acts_on=lambda _: self.acting_on,
        )
        self.brokers = [broker(1, 11), broker(2, 12), broker(3, 13)]
        self.end_offset = 0
        self.state = partition()
        self.becomes(self.state)
        assert not self.rules

    def becomes(
        self, state: PartitionImage, *brokers: BrokerRegistration, command: bytes = NOTHING, controller: int = 1
    ) -> None:
        self.brokers = list(brokers or self.brokers)
        self.end_offset += 1
        image = replace(
            MetadataImage.empty(),
            end_offset=MetadataOffset(self.end_offset),
            brokers={each.broker_id: each for each in self.brokers},
            topics={"t": TopicImage("t", TOPIC_ID, (state,))},
            topic_names={TOPIC_ID: "t"},
        )
        self.image = image
        self.oracle.applied(controller, command, [b"record %d" % self.end_offset], image, float(self.end_offset))

    @property
    def rules(self) -> list[int]:
        return [breach.rule for breach in self.findings.breaches]


# --- metadata ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "brokers"),
    [
        (partition(3), ()),
        (partition(isr=(1, 4)), ()),
        (partition(isr=(1, 2)), (broker(1, 11), broker(2, 12, fenced=True), broker(3, 13))),
        (partition(isr=(1, 2)), (broker(1, 11), broker(2, 12, leaving=True), broker(3, 13))),
        (partition(isr=(1, 2)), (broker(1, 11), broker(3, 13))),
    ],
)
def test_rule_7_an_isr_that_cannot_be_is_seen(state: PartitionImage, brokers: tuple[BrokerRegistration, ...]) -> None:
    controllers = Controllers()
    controllers.becomes(state, *brokers)
    assert set(controllers.rules) == {7}


def test_rule_7_a_leader_that_leaves_may_stay_while_it_is_alone() -> None:
    controllers = Controllers()
    controllers.becomes(partition(isr=(1,)), broker(1, 11, leaving=True), broker(2, 12, fenced=True))
    controllers.becomes(partition(None, isr=(), elr=(1,)), broker(1, 11, fenced=True), broker(2, 12, fenced=True))
    assert not controllers.rules


@pytest.mark.parametrize(
    ("adding", "isr", "rules"),
    [((), (1, 2), []), ((), (1,), [8]), ((3,), (1,), [])],  # the last one: broker 3 was to have it, and is not to now
)
def test_rule_8_a_reassignment_ends_when_its_targets_are_in_sync(
    adding: tuple[int, ...], isr: tuple[int, ...], rules: list[int]
) -> None:
    controllers = Controllers()
    controllers.becomes(replace(partition(isr=isr), adding_replicas=tuple(map(BrokerId, adding))))
    fewer = replace(partition(isr=isr, epoch=1), replicas=(BrokerId(1), BrokerId(2)))
    controllers.becomes(fewer)
    assert controllers.rules == rules


def alter(**changes: Any) -> bytes:
    """An AlterPartition of the leader of `partition()`, who wants broker 3 in."""
    entry: dict[str, Any] = {"leader_epoch": 3, "partition_epoch": 0}
    sender: dict[str, Any] = {"broker_id": 1, "broker_epoch": 11}
    members = [
        BrokerState(broker_id=1, broker_epoch=11),
        BrokerState(broker_id=3, broker_epoch=changes.pop("member", 13)),
    ]
    for key, value in changes.items():
        (entry if key in entry else sender)[key] = value
    wanted = AlterPartitionEntry(topic_id=TOPIC_ID.bytes, partition=0, new_isr=members, **entry)
    return Command(alter_partition=AlterPartitionCommand(partitions=[wanted], **sender)).SerializeToString()


@pytest.mark.parametrize("stale", ({"leader_epoch": 2}, {"partition_epoch": 4}, {"broker_epoch": 10}, {"broker_id": 2}))
def test_rule_11_a_stale_alter_partition_that_changes_something_is_seen(stale: dict[str, int]) -> None:
    controllers = Controllers()
    controllers.becomes(controllers.state, command=alter(**stale))  # refused: nothing changes
    controllers.becomes(partition(isr=(1, 2, 3), epoch=1), command=alter())
    assert not controllers.rules
    controllers = Controllers()
    controllers.becomes(partition(isr=(1, 2, 3), epoch=1), command=alter(**stale))
    assert controllers.rules == [11]


def test_rule_7_who_joins_as_another_incarnation_is_seen() -> None:
    controllers = Controllers()
    controllers.becomes(partition(isr=(1, 2, 3), epoch=1), command=alter(member=9))
    assert controllers.rules == [7]


@pytest.mark.parametrize(
    ("state", "clean", "lost_in", "rules"),
    [
        (partition(isr=(1,)), False, 12, []),
        (partition(isr=(1,), elr=(2,)), True, 12, []),
        (partition(isr=(1,), elr=(2,)), False, 12, [19]),
        (partition(isr=(1,), elr=(2,)), False, 11, []),  # an earlier process: this one was killed, and lost nothing
        (partition(isr=(1, 2)), False, -1, [19]),
    ],
)
def test_rule_19_who_did_not_stop_cleanly_is_out(
    state: PartitionImage, clean: bool, lost_in: int, rules: list[int]
) -> None:
    controllers = Controllers()
    controllers.clean = clean
    controllers.lost_in = lost_in
    controllers.becomes(state, broker(1, 11), broker(2, 22), broker(3, 13))
    assert controllers.rules == rules


def test_rule_19_the_only_holder_stays_eligible() -> None:
    controllers = Controllers()
    controllers.becomes(partition(2, isr=(2,)))
    controllers.clean = False
    controllers.becomes(partition(None, isr=(), elr=(2,)), broker(1, 11), broker(2, 22, fenced=True), broker(3, 13))
    assert not controllers.rules


@pytest.mark.parametrize(("acting_on", "rules"), [(23, []), (-1, []), (22, [20]), (0, [20])])
def test_rule_20_a_broker_is_unfenced_once_it_acts_on_its_registration(acting_on: int, rules: list[int]) -> None:
    controllers = Controllers()
    controllers.becomes(partition(isr=(1,)), broker(1, 11), broker(2, 22, fenced=True))
    controllers.acting_on = acting_on
    controllers.becomes(partition(isr=(1,)), broker(1, 11), broker(2, 22))
    assert controllers.rules == rules


def test_rule_25_controllers_apply_the_same_records() -> None:
    controllers = Controllers()
    controllers.oracle.applied(2, NOTHING, [b"record 1"], controllers.image, 9.0)
    controllers.oracle.restored(3, controllers.image)
    assert not controllers.rules
    controllers.oracle.applied(2, NOTHING, [b"another"], controllers.image, 9.0)
    controllers.oracle.restored(3, replace(controllers.image, brokers={}))
    assert controllers.rules == [25, 25]


def test_a_topics_id_is_known_while_it_has_one_only() -> None:
    controllers = Controllers()
    oracle = controllers.oracle
    assert oracle.topic_id("t", 0.5, 2) == TOPIC_ID
    assert oracle.topic_id("t", 0.1, 0.5) is None
    gone = replace(controllers.image, end_offset=MetadataOffset(2), topics={}, topic_names={})
    oracle.applied(1, NOTHING, [b"removed"], gone, 3.0)
    assert TOPIC_ID in oracle.removed
    assert oracle.topic_id("t", 2.0, 9.0) == TOPIC_ID
    assert oracle.topic_id("t", 4.0, 9.0) is None


# --- the quorum ----------------------------------------------------------------------------------------------


class Quorum:
    """Controllers' journals."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.oracle = RaftOracle(self.findings.report)

    def sees(self, node: int, log: str, commit_index: int, **changes: Any) -> None:
        """`log` has one letter an entry, a digit: its term."""
        entries: Mapping[int, Entry] = {index + 1: (b"", index + 1, int(term)) for index, term in enumerate(log)}
        view = RaftView(
            node_id=node,
            run=1,
            term=int(log[-1]),
            voted_for=None,
            leads=False,
            commit_index=commit_index,
            first_index=1,
            last_index=len(log),
            synced_index=len(log),
            entry_at=entries.__getitem__,
        )
        self.oracle.saw(replace(view, **changes))

    @property
    def rules(self) -> list[int]:
        return [breach.rule for breach in self.findings.breaches]


def test_rule_25_a_term_has_one_leader() -> None:
    quorum = Quorum()
    quorum.sees(1, "1", 1, leads=True)
    quorum.sees(2, "12", 1, leads=True)
    quorum.sees(1, "1", 1, leads=True)
    assert not quorum.rules
    quorum.sees(3, "12", 1, leads=True)
    assert quorum.rules == [25]


def test_rule_25_committed_entries_stay_what_they_are() -> None:
    quorum = Quorum()
    quorum.sees(1, "11", 1)
    quorum.sees(2, "12", 1)
    assert not quorum.rules
    quorum.sees(2, "12", 2)
    quorum.sees(1, "11", 2)
    assert quorum.rules == [25]


def test_rule_25_a_leader_has_all_that_is_committed() -> None:
    quorum = Quorum()
    quorum.sees(1, "11", 2, leads=True)
    quorum.sees(2, "112", 0, leads=True)
    assert not quorum.rules
    quorum.sees(3, "13", 0, leads=True)
    quorum.sees(3, "1", 0, leads=True, term=4)
    assert quorum.rules == [25, 25]


def test_rule_25_a_commit_index_never_falls_but_in_another_process() -> None:
    quorum = Quorum()
    quorum.sees(1, "11", 2)
    quorum.sees(1, "11", 1, run=2)
    assert not quorum.rules
    quorum.sees(1, "11", 0, run=2)
    assert quorum.rules == [25]


def test_rule_25_nobody_votes_twice_or_forgets_its_term() -> None:
    quorum = Quorum()
    quorum.sees(1, "1", 0, term=2)
    quorum.sees(1, "1", 0, term=2, voted_for=3)
    quorum.sees(1, "1", 0, term=3, voted_for=2)
    assert not quorum.rules
    quorum.sees(1, "1", 0, term=3, voted_for=1, run=2)
    quorum.sees(1, "1", 0, term=2, run=3)
    quorum.sees(2, "1", 0, term=2, voted_for=1)
    quorum.sees(2, "1", 0, term=2, voted_for=None, run=2)
    assert quorum.rules == [25, 25, 25]


def test_rule_25_who_comes_back_has_what_was_on_its_disk() -> None:
    quorum = Quorum()
    quorum.sees(1, "111", 3, synced_index=2)
    quorum.sees(1, "11", 0, run=2)
    assert not quorum.rules
    quorum.sees(1, "11", 2, run=2)
    quorum.sees(1, "1", 0, run=3)
    assert quorum.rules == [25]


# --- doors ---------------------------------------------------------------------------------------------------

SERVED = Served(1, "t-0", 3, 3, records_end=5, high_watermark=5, last_stable_offset=5, told_high_watermark=5)


@pytest.mark.parametrize(
    ("served", "rules"),
    [
        (SERVED, []),
        (SERVED._replace(asked_epoch=None), []),
        (SERVED._replace(records_end=6), [4]),
        (SERVED._replace(last_stable_offset=6), [23]),
        (SERVED._replace(asked_epoch=2), [11]),
    ],
)
def test_rule_4_and_11_and_23_what_a_consumer_is_given(served: Served, rules: list[int]) -> None:
    findings = Findings()
    DoorOracle(findings.report).read(served)
    assert [breach.rule for breach in findings.breaches] == rules


@pytest.mark.parametrize(("acts_on", "rules"), [(12, []), (11, [20]), (-1, [20])])
def test_rule_20_nothing_is_served_before_the_registration(acts_on: int, rules: list[int]) -> None:
    findings = Findings()
    DoorOracle(findings.report).served(1, 11, acts_on)
    assert [breach.rule for breach in findings.breaches] == rules


def test_rule_17_a_producer_id_is_given_once() -> None:
    findings = Findings()
    doors = DoorOracle(findings.report)
    for broker_id, producer_id in ((1, 0), (1, 1), (2, 1000)):
        doors.gave_producer_id(broker_id, producer_id)
    assert not findings.breaches
    doors.gave_producer_id(2, 1)
    assert [breach.rule for breach in findings.breaches] == [17]


# --- groups --------------------------------------------------------------------------------------------------

T0 = TopicPartition("t", 0)


class Coordinator:
    """Commits of one group."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.oracle = GroupOracle(self.findings.report)

    def commits(self, offset: int, began_s: float, acked_s: float | None) -> None:
        self.oracle.began("g", 1, T0, offset, began_s).acked_s = acked_s

    def shows(
        self, offset: int | None, *, shard: int = 1, since_s: float = -1.0, may_expire: bool = False
    ) -> list[int]:
        self.findings.breaches.clear()
        committed = {} if offset is None else {"g": {T0: offset}}
        self.oracle.shows("broker 1", shard, committed, since_s=since_s, may_expire=may_expire)
        return [breach.rule for breach in self.findings.breaches]


def test_rule_21_the_last_acked_commit_is_what_the_next_coordinator_has() -> None:
    coordinator = Coordinator()
    coordinator.commits(5, 1, 2)
    coordinator.commits(7, 3, 4)
    assert coordinator.shows(7) == []
    assert coordinator.shows(5) == [21]
    assert coordinator.shows(None) == [21]
    assert coordinator.shows(None, shard=0) == []
    assert coordinator.shows(None, may_expire=True) == []
    assert coordinator.shows(5, since_s=5) == []
    coordinator.oracle.deleted("t")
    assert coordinator.shows(None) == []


def test_rule_21_a_commit_without_an_answer_may_count_and_so_may_either_of_two_at_once() -> None:
    coordinator = Coordinator()
    coordinator.commits(5, 1, 2)
    coordinator.commits(7, 3, None)
    assert coordinator.shows(5) == []
    assert coordinator.shows(7) == []
    coordinator.commits(8, 3.5, 5)
    coordinator.commits(9, 4, 6)
    assert coordinator.shows(8) == []
    assert coordinator.shows(9) == []
    assert coordinator.shows(5) == [21]


def test_rule_22_a_partition_has_one_owner_in_a_generation() -> None:
    findings = Findings()
    oracle = GroupOracle(findings.report)
    places = frozenset({Place("t", 0)})
    entries = [Owned("g", "a", 1, places, 1.0), Owned("g", "a", 1, places, 1.5), Owned("g", "b", 2, places, 2.0)]
    oracle.owned(entries, lambda _: -1.0)
    oracle.owned([Owned("g", "a", -1, places, 3.0), Owned("g", "b", -1, places, 3.0)], lambda _: -1.0)
    oracle.assigned("g", 3, {"a": [T0], "b": [TopicPartition("t", 1)]})
    assert not findings.breaches
    oracle.owned([Owned("g", "b", 1, places, 4.0)], lambda _: 1.0)
    oracle.assigned("g", 3, {"a": [T0], "b": [T0]})
    assert [breach.rule for breach in findings.breaches] == [22, 22]


def test_rule_22_a_group_whose_records_are_lost_counts_anew() -> None:
    findings = Findings()
    oracle = GroupOracle(findings.report)
    places = frozenset({Place("t", 0)})
    oracle.owned([Owned("g", "a", 1, places, 1.0)], lambda _: -1.0)
    oracle.owned([Owned("g", "b", 1, places, 4.0)], lambda _: 2.0)
    assert not findings.breaches
    oracle.owned([Owned("g", "a", 1, places, 5.0)], lambda _: 2.0)
    assert [breach.rule for breach in findings.breaches] == [22]


@pytest.mark.parametrize(
    ("what", "asked", "is_member", "rules"),
    [
        ("sync", 3, True, []),
        ("sync", 2, True, [22]),
        ("heartbeat", 2, True, [22]),
        ("commit", 2, True, [21]),
        ("commit", 3, False, [21]),
    ],
)
def test_rules_21_and_22_only_a_member_of_the_generation_is_heard(
    what: str, asked: int, is_member: bool, rules: list[int]
) -> None:
    findings = Findings()
    GroupOracle(findings.report).took(what, "g", asked, 3, member="m", is_member=is_member)
    assert [breach.rule for breach in findings.breaches] == rules


def test_rule_22_a_generation_gets_one_assignment_of_its_coordinator() -> None:
    findings = Findings()
    groups = GroupOracle(findings.report)
    one, other = Findings(), Findings()  # coordinators: anything that is itself alone
    groups.handed_in(one, "g", 1)
    groups.handed_in(one, "g", 2)
    groups.handed_in(other, "g", 2)  # which has read the log, where the first one never came to be
    assert not findings.breaches
    groups.handed_in(one, "g", 2)
    assert [breach.rule for breach in findings.breaches] == [22]


# --- clients -------------------------------------------------------------------------------------------------

PLACE = Place("t", 0)


def send(value: bytes, offset: int | None = None, *, failed: str | None = None, strong: bool = True) -> Send:
    return Send("p", PLACE, value, b"k", strong, 1.0, 0, None if offset is None else 2.0, offset, failed)


def log(*values: bytes | None, start: int = 0, broker_id: int = 1) -> WholeLog:
    """None: compaction took it."""
    found = {start + index: Record(b"k", value) for index, value in enumerate(values) if value is not None}
    return WholeLog(broker_id, start, start + len(values), found)


def told(whole: WholeLog, *sends: Send, polls: tuple[Poll, ...] = (), compacted: bool = False) -> list[int]:
    findings = Findings()
    PromiseOracle(findings.report).partition("t-0", whole, sends, polls, compacted=compacted)
    return [breach.rule for breach in findings.breaches]


def test_rule_3_what_was_acked_is_at_its_offset() -> None:
    assert told(log(b"a", b"b"), send(b"a", 0), send(b"b", 1), send(b"c")) == []
    assert told(log(b"a", b"b"), send(b"b", 0)) == [3]
    assert told(log(b"a"), send(b"b", 1)) == [3]
    assert told(log(b"b", start=1), send(b"a", 0)) == []  # retention took it
    assert told(log(b"a"), send(b"b", 1, strong=False)) == []


def test_rule_3_what_was_acked_without_an_offset_is_somewhere() -> None:
    lost, there = send(b"a", -1), send(b"b", -1)
    for each in (lost, there):
        each.offset = None  # as the ledger writes it down
    assert told(log(b"b", b"c"), there) == []
    assert told(log(b"b", b"c"), lost) == [3]
    assert told(log(b"b", start=1), lost) == []  # retention took it
    assert told(log(None, b"b"), lost, compacted=True) == []


def test_rule_3_what_was_read_is_at_its_offset() -> None:
    def poll(value: bytes) -> tuple[Poll]:
        return (Poll("c", PLACE, 0, 1, value, b"k", 1.0),)

    assert told(log(b"a", b"b"), polls=poll(b"b")) == []
    assert told(log(b"a", b"b"), polls=poll(b"c")) == [3]
    assert told(log(b"a"), polls=poll(b"b")) == [3]


def test_rule_3_compaction_takes_what_has_a_successor_and_nothing_else() -> None:
    assert told(log(None, b"b"), send(b"a", 0), compacted=True) == []
    assert told(log(b"a", None), send(b"b", 1), compacted=True) == [3]
    assert told(log(None, b"b"), send(b"a", 0)) == [3]
    assert told(log(b"x", b"b"), send(b"a", 0), compacted=True) == [3]


def test_rule_3_a_tombstone_may_go_with_what_it_deletes() -> None:
    acked = (send(b"a", 0), Send("p", PLACE, None, b"k", True, 1.0, 0, 2.0, 1))
    assert told(log(None, None), *acked, compacted=True) == []
    assert told(log(None, None), *acked) == [3, 3]
    assert told(log(None, None, None), *acked, send(b"c", 2), compacted=True) == [3]  # this came after it
    assert told(log(None, None), acked[0], compacted=True) == [3]


def test_rule_3_nobody_knows_what_became_of_a_tombstone_without_an_answer() -> None:
    findings = Findings()
    oracle = PromiseOracle(findings.report)
    oracle.partition("t-0", log(None), [send(b"a", 0)], [], compacted=True, maybe_deleted={b"k"})
    assert not findings.breaches
    oracle.partition("t-0", log(None), [send(b"a", 0)], [], compacted=True, maybe_deleted={b"other"})
    assert [breach.rule for breach in findings.breaches] == [3]


def test_rule_16_what_failed_for_sure_is_not_there() -> None:
    assert told(log(b"a"), send(b"b", failed="the buffer is full")) == []
    assert told(log(b"a", b"b"), send(b"b", failed="the buffer is full")) == [16]


def test_rule_17_a_value_is_there_once() -> None:
    assert told(log(b"a", b"b", b"b"), send(b"a", 0), send(b"b", 1, strong=False)) == []
    assert told(log(b"a", b"b", b"b"), send(b"b")) == [17]


@pytest.mark.parametrize(
    ("one", "other", "compacted", "rules"),
    [
        (log(b"a", b"b"), log(b"a", b"b"), False, []),
        (log(b"a", b"b"), log(b"b", start=1), False, []),
        (log(b"a", b"b"), log(b"a", b"c"), False, [2]),
        (log(b"a", b"b"), log(b"a"), False, [2, 2]),
        (log(b"a", b"b"), log(None, b"b"), True, []),
        (log(b"a", b"b"), log(None, b"c"), True, [2]),
        (log(b"a", b"b"), log(None, b"b"), False, [2]),
    ],
)
def test_rule_2_replicas_hold_the_same(one: WholeLog, other: WholeLog, compacted: bool, rules: list[int]) -> None:
    findings = Findings()
    PromiseOracle(findings.report).replicas("t-0", [one, other._replace(broker_id=2)], compacted=compacted)
    assert [breach.rule for breach in findings.breaches] == rules


# --- hooks ---------------------------------------------------------------------------------------------------


class Base:
    def double(self, number: int) -> int:
        return 2 * number


class Derived(Base):
    def triple(self, number: int) -> int:
        return 3 * number


def test_hooks_hear_change_nothing_and_come_off() -> None:
    heard: list[tuple[Any, ...]] = []
    hooks = Hooks()
    hooks.after(Derived, "triple", lambda result, _, number: heard.append((result, number)))
    hooks.after(Derived, "double", lambda result, _, number: heard.append((result, number)))

    def plus_one(original: Callable[..., int], *arguments: Any) -> int:
        return original(*arguments) + 1

    hooks.around(Derived, "double", plus_one)
    assert (Derived().triple(2), Derived().double(2), Base().double(2)) == (6, 5, 4)
    assert heard == [(6, 2), (4, 2)]
    hooks.close()
    assert (Derived().triple(2), Derived().double(2)) == (6, 4)
    assert "double" not in vars(Derived)
    assert len(heard) == 2
