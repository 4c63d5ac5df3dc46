"""One controller of a quorum, whose messages a test writes and reads itself."""

from __future__ import annotations

from random import Random
from typing import Any

from harness.memory_disk import MemoryDisk
from harness.raft_network import FOLDER, FakeClock, LogMachine
from klamm.controller.quorum_folder import QuorumFolder, format_new
from klamm.controller.raft_contract import Entry, RaftConfig, RaftRole
from klamm.controller.raft_core import RaftCore
from klamm.controller.raft_node import make_core
from klamm.proto.identifiers import NodeId
from klamm.proto.raft_pb2 import AppendEntries, NextNodeIndex, RaftEntry, RaftMessage, VoteGranted


class Node:
    """Controller 0."""

    def __init__(self, *, nodes: int = 3, disk: MemoryDisk | None = None, machine: Any = None) -> None:
        self.disk = disk or MemoryDisk(Random(1))
        if not self.disk.names(FOLDER):
            format_new(FOLDER, "q", file_system=self.disk)
        self.clock = FakeClock()
        self.machine = machine or LogMachine()
        voters = [NodeId(number) for number in range(nodes)]
        folder = QuorumFolder.open(FOLDER, node_id=NodeId(0), voters=voters, file_system=self.disk)
        assert folder is not None
        self.folder = folder
        self.core: RaftCore = make_core(
            node_id=NodeId(0),
            voters=voters,
            folder=folder,
            state_machine=self.machine,
            clock=self.clock,
            config=RaftConfig(),
            random=Random(1),
        )

    def receive(self, sender: int, **message: Any) -> list[tuple[NodeId, RaftMessage]]:
        self.core.receive(NodeId(sender), RaftMessage(sender_id=sender, **message))
        return self.core.step()

    def append(
        self, entries: list[Entry], previous: tuple[int, int], commit: int, term: int = 1
    ) -> list[tuple[NodeId, RaftMessage]]:
        append = AppendEntries(
            term=term,
            commit_index=commit,
            has_previous=True,
            previous_index=previous[0],
            previous_term=previous[1],
            entries=[
                RaftEntry(command=command, index=index, term=entry_term) for command, index, entry_term in entries
            ],
        )
        return self.receive(1, append_entries=append)

    def campaign(self) -> None:
        self.clock.now_ms += 5_000
        self.core.step()
        for voter in range(1, len(self.folder.properties.voters)):
            self.receive(voter, vote_granted=VoteGranted(term=self.core.term + 1, pre_vote=True))

    def lead(self) -> None:
        """Wins an election and commits its no-op with node 1."""
        self.campaign()
        for voter in range(1, len(self.folder.properties.voters) // 2 + 1):
            self.receive(voter, vote_granted=VoteGranted(term=self.core.term))
        for voter in range(1, len(self.folder.properties.voters) // 2 + 1):
            self.ack(voter)
        assert self.core.role is RaftRole.LEADER

    def ack(self, sender: int, *, term: int | None = None, next_index: int | None = None) -> None:
        answer = NextNodeIndex(
            term=self.core.term if term is None else term,
            next_node_index=self.core.last_index + 1 if next_index is None else next_index,
            success=True,
        )
        self.receive(sender, next_node_index=answer)

    @property
    def log(self) -> list[Entry]:
        return self.folder.journal[:]


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [(b"\x00" + str(index).encode(), index, term) for index in range(first, last + 1)]
