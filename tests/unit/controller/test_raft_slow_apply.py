"""A command that takes long to apply: what the others say meanwhile waits unread, and is no silence.

A broker of ten thousand partitions that dies is one command; on a busy machine every controller works on it for longer
than an election time-out, all at the same time.
"""

from __future__ import annotations

import pytest
from harness.raft_by_hand import Node, entries
from harness.raft_network import LogMachine
from klamm.controller.raft_contract import RaftConfig, RaftRole
from klamm.proto.raft_pb2 import RequestVote

CONFIG = RaftConfig()
SLOW_MS = 5_000


class SlowMachine(LogMachine):
    """Takes its time for every command."""

    node: Node

    def apply(self, command: bytes, index: int, term: int) -> bytes:
        self.node.clock.now_ms += SLOW_MS
        return super().apply(command, index, term)


@pytest.fixture
def node() -> Node:
    machine = SlowMachine()
    machine.node = Node(machine=machine)
    return machine.node


def test_a_leader_goes_on_leading(node: Node) -> None:
    node.lead()
    node.core.propose(b"slow", lambda _: None)
    node.core.step()
    node.ack(1)
    assert node.core.last_applied == node.core.last_index
    node.core.step()
    roles = [node.core.role]
    node.clock.now_ms += CONFIG.leader_fallback_timeout_ms + 1
    node.core.step()
    roles.append(node.core.role)
    assert roles == [RaftRole.LEADER, RaftRole.FOLLOWER]


def test_a_follower_asks_for_no_election(node: Node) -> None:
    node.append([], (1, 0), 1)
    node.append(entries(2, 2), (1, 0), 2)
    assert node.core.last_applied == 2
    assert not any(message.HasField("request_vote") for _, message in node.core.step())
    node.clock.now_ms += CONFIG.election_timeout_ms_max + 1
    assert any(message.HasField("request_vote") for _, message in node.core.step())


def test_a_follower_knows_its_leader(node: Node) -> None:
    """Nor does it help another to an election."""
    node.append(entries(2, 2), (1, 0), 2)
    request = RequestVote(term=9, last_log_index=9, last_log_term=9, pre_vote=True)
    ((_, answer),) = node.receive(2, request_vote=request)
    assert answer.vote_granted.refused
    node.clock.now_ms += CONFIG.election_timeout_ms_min + 1
    assert [
        message.vote_granted.refused
        for _, message in node.receive(2, request_vote=request)
        if message.HasField("vote_granted")
    ] == [False]
