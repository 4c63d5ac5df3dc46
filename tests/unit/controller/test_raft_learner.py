"""A wiped controller: it must not act as if it knew the past, and becomes a voter again only once it does."""

from __future__ import annotations

from random import Random

import pytest
from harness.memory_disk import MemoryDisk
from harness.raft_by_hand import Node
from harness.raft_network import FOLDER, Controller, RaftNetwork
from harness.released_raft import ReleasedNode
from klamm.controller.quorum_folder import MARKER, readmit
from klamm.controller.raft_contract import RaftConfig, RaftRole
from klamm.controller.raft_learners import Learners
from klamm.proto.identifiers import NodeId
from klamm.proto.raft_pb2 import AppendEntries, NextNodeIndex, RaftEntry, RequestVote


def quorum(seed: int) -> tuple[RaftNetwork, Controller, Controller, Controller]:
    """The leader and the two others, after some commands."""
    network = RaftNetwork(seed, config=RaftConfig(heartbeat_interval_ms=100, election_timeout_ms_min=400))
    for node_id in network.voters:
        network.start(node_id)
    assert network.run(5_000, lambda: network.leader() is not None)
    leader = network.leader()
    assert leader is not None
    network.propose("first")
    network.run(1_000)
    second, third = (c for c in network.controllers.values() if c is not leader)
    return network, leader, second, third


def commit(network: RaftNetwork, command: str) -> bool:
    return network.propose(command) and network.run(2_000, lambda: command in network.acked.values())


@pytest.mark.parametrize("seed", range(10))
def test_a_wiped_controller_elects_nobody_who_lacks_what_it_once_acked(seed: int) -> None:
    released = ReleasedNode()  # as it starts on an empty disk, whatever it held before
    released.receive(1, type="request_vote", term=5, last_log_index=1, last_log_term=0)
    assert [message["type"] for _, message in released.transport.sent] == ["response_vote"]

    network, leader, wiped, behind = quorum(seed)
    network.cut_off(behind.node_id)
    assert commit(network, "held by two")
    network.wipe(wiped.node_id)
    network.heal()
    network.cut_off(leader.node_id)
    network.readmit(wiped.node_id)
    network.start(wiped.node_id)
    network.run(20_000)
    assert wiped.core is not None and behind.core is not None
    assert wiped.core.role is RaftRole.NON_VOTER
    assert behind.core.role is not RaftRole.LEADER
    network.heal()
    assert network.run(20_000, lambda: wiped.core is not None and wiped.core.role is not RaftRole.NON_VOTER)
    network.settle()
    assert "held by two" in [command for _, command in behind.machine.applied]


@pytest.mark.parametrize("seed", range(10))
def test_an_admitted_controller_votes_and_counts(seed: int) -> None:
    network, leader, wiped, _ = quorum(seed)
    network.wipe(wiped.node_id)
    network.readmit(wiped.node_id)
    network.start(wiped.node_id)
    assert network.run(20_000, lambda: wiped.core is not None and wiped.core.role is RaftRole.FOLLOWER)
    network.kill(leader.node_id)
    assert network.run(10_000, lambda: network.leader() is not None)
    assert commit(network, "by the other and the wiped")
    network.settle()


def test_a_learner_does_not_count_for_a_commit() -> None:
    network, leader, wiped, away = quorum(1)
    network.cut_off(away.node_id)
    network.wipe(wiped.node_id)
    network.readmit(wiped.node_id)
    network.start(wiped.node_id)
    assert leader.core is not None
    core = leader.core
    network.propose("not by a learner")
    assert network.run(5_000, lambda: core.role is not RaftRole.LEADER)  # and does not keep a leader in office
    assert "not by a learner" in network.unknown
    assert wiped.core is not None and wiped.core.role is RaftRole.NON_VOTER
    network.settle()


def test_a_restart_does_not_make_a_learner_a_voter() -> None:
    network, _, wiped, away = quorum(2)
    network.cut_off(away.node_id)
    network.wipe(wiped.node_id)
    network.readmit(wiped.node_id)
    for _ in range(4):
        network.start(wiped.node_id)
        network.run(3_000)
        assert wiped.core is not None and wiped.core.role is RaftRole.NON_VOTER
        network.kill(wiped.node_id, power=True)
    network.heal()
    network.start(wiped.node_id)
    assert network.run(20_000, lambda: wiped.core is not None and wiped.core.role is not RaftRole.NON_VOTER)


def test_a_node_without_a_marker_does_nothing() -> None:
    network, _, wiped, _ = quorum(3)
    network.wipe(wiped.node_id)
    network.start(wiped.node_id)
    assert wiped.core is None
    assert wiped.disk.names(FOLDER) == []
    assert commit(network, "without it")


def test_admission_waits_for_every_other_controller_to_ack_a_fresh_entry() -> None:
    learners = Learners()
    one, two, three, four = (NodeId(number) for number in range(1, 5))
    others = [one, two, three, four]
    assert learners.is_new(one, 77)
    learners.add(one, 77, target_index=20)
    assert not learners.is_new(one, 77)
    assert learners.is_new(one, 78)
    matches = {one: 0, two: 20, three: 20, four: 19}
    learners.acked(one, 20)
    assert learners.admits(one, 20, 20, matches, others) == 0  # four may still be a candidate of a later term
    matches[four] = 20
    assert learners.admits(one, 20, 20, matches, others) == 77
    assert learners.admits(one, 19, 20, matches, others) == 0  # the message does not prove that it holds the target
    assert learners.admits(one, 20, 19, matches, others) == 0  # not committed without it
    assert learners.admits(two, 20, 20, matches, others) == 0
    learners.add(four, 99, target_index=30)
    learners.acked(four, 25)
    matches[four] = 0
    assert learners.admits(one, 20, 20, matches, others) == 77  # a learner's ack says as well that it is no candidate
    learners.add(one, 78, target_index=31)
    assert learners.admits(one, 31, 31, dict.fromkeys(others, 31), others) == 0  # another re-admission: another proof


def test_a_leader_admits_a_learner_once_a_fresh_entry_is_acked_by_all() -> None:
    """An entry from before the learner was heard proves nothing: its ack may be older than the wipe."""
    node = Node()
    node.lead()
    node.ack(1)
    known = node.core.last_index

    def learner_answers(next_index: int) -> list[int]:
        answer = NextNodeIndex(term=node.core.term, next_node_index=next_index, success=True, learner_id=42)
        node.receive(2, next_node_index=answer)
        node.clock.now_ms += 500
        sent = node.core.step()
        return [message.append_entries.admit_learner_id for node_id, message in sent if node_id == 2]

    assert learner_answers(known + 1) == [0]
    assert node.core.last_index == known + 1  # the target
    assert learner_answers(known + 2) == [0]
    assert node.core.commit_index == known  # a learner does not count
    node.ack(1)
    assert node.core.commit_index == known + 1
    assert 42 in learner_answers(known + 2)


def test_a_learner_is_admitted_by_its_own_id_alone() -> None:
    disk = MemoryDisk(Random(0))
    readmit(FOLDER, "q", learner_id=42, file_system=disk)
    node = Node(disk=disk)

    def append(learner_id: int, index: int) -> bool:
        message = AppendEntries(
            term=3,
            commit_index=index,
            has_previous=True,
            previous_index=index - 1,
            previous_term=0 if index == 2 else 3,
            entries=[RaftEntry(command=b"\x00x", index=index, term=3)],
            admit_learner_id=learner_id,
        )
        (_, answer), *_ = node.receive(1, append_entries=message)
        return answer.next_node_index.learner_id == 42

    assert append(0, 2)
    assert append(41, 3)
    assert append(42, 5)  # does not match: nothing is proven
    assert node.core.role is RaftRole.NON_VOTER
    assert not node.receive(2, request_vote=RequestVote(term=9, last_log_index=99, last_log_term=9))
    append(42, 4)
    assert node.core.role is RaftRole.FOLLOWER
    assert not append(0, 5)
    assert node.disk.read(FOLDER / MARKER) != b""
    assert not Node(disk=disk).folder.is_learner
