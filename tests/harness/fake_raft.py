"""A Raft node of one that commits at once, and does what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from klamm.controller.raft_contract import COMMAND_BYTES_MAX, NotRaftLeaderError, OutcomeUnknownError, RaftRole
from klamm.controller.state_machine import MetadataStateMachine
from klamm.proto.command_pb2 import Command
from klamm.proto.identifiers import NodeId


class FakeRaft:
    """What services need of `RaftNode`."""

    def __init__(self, machine: MetadataStateMachine) -> None:
        self.machine = machine
        self.role = RaftRole.FOLLOWER
        self.term = 0
        self.leader_id: NodeId | None = None
        self.commit_index = 0
        self.is_voter = True
        self.proposed: list[Command] = []
        self.fail_next: list[Exception] = []
        self.apply_before_failing = False
        self.stuck: asyncio.Event | None = None
        self.on_role_change: Callable[[RaftRole, int], None] = lambda role, term: None

    @property
    def last_index(self) -> int:
        return self.commit_index

    def lag_of(self, node_id: NodeId) -> int | None:
        return 3 if self.role is RaftRole.LEADER else None

    def is_reachable(self, node_id: NodeId) -> bool:
        return False

    def lead(self) -> None:
        """Wins an election."""
        self.term += 1
        self.role = RaftRole.LEADER
        self.leader_id = NodeId(0)
        self.on_role_change(self.role, self.term)

    def follow(self, leader_id: int) -> None:
        """Another node won."""
        self.term += 1
        self.role = RaftRole.FOLLOWER
        self.leader_id = NodeId(leader_id)
        self.on_role_change(self.role, self.term)

    async def propose(self, command: bytes, *, timeout_ms: int) -> bytes:
        if self.role is not RaftRole.LEADER:
            raise NotRaftLeaderError(self.leader_id)
        if len(command) > COMMAND_BYTES_MAX:
            raise ValueError("as RaftCore says it")
        if self.stuck is not None:
            await self.stuck.wait()
        self.proposed.append(Command.FromString(command))
        failure = self.fail_next.pop(0) if self.fail_next else None
        if failure is not None and not self.apply_before_failing:
            raise failure
        self.commit_index += 1
        answer = self.machine.apply(command, self.commit_index, self.term)
        await asyncio.sleep(0)
        if failure is not None:
            raise failure
        return answer


OUTCOME_UNKNOWN = OutcomeUnknownError("a test says so")
