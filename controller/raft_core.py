"""One member of the quorum without threads, sockets or timers: messages, commands and time go in, messages come out.

`RaftNode` drives it on an asyncio loop, the simulator in tests/harness/raft_network.py with a fake clock. Whoever
drives it calls `tick` and `sync` after anything went in and whenever `next_step_s` has come, and sends what they
return: `sync` hands out what may be said only once the journal is on the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from typing import Any, Final, Protocol

from ..cluster.clock import Clock
from ..proto.identifiers import NodeId
from ..proto.raft_pb2 import RaftMessage
from .quorum_folder import QuorumFolder
from .raft_contract import (
    COMMAND_BYTES_MAX,
    NO_OP,
    REGULAR,
    Entry,
    NotRaftLeaderError,
    OutcomeUnknownError,
    RaftConfig,
    RaftRole,
    StateMachine,
)
from .raft_hardening import HardenedRaft
from .raft_messages import CANDIDATE, LEADER, Applier
from .snapshot_store import Snapshot, SnapshotStore

logger = logging.getLogger(__name__)

_MARK_INTERVAL_MS: Final = 100

Completion = Callable[[bytes | Exception], None]
"""Called once: with what `apply` answered, or with OutcomeUnknownError."""


class LibraryFactory(Protocol):
    """Makes the library's node; see `raft_node.py`."""

    def __call__(
        self, *, folder: QuorumFolder, applier: Applier, config: RaftConfig, clock: Clock, random: Random
    ) -> HardenedRaft: ...


class RaftCore:
    """State and log of one controller. A call that raises (OSError, InvariantError) ends its use."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        folder: QuorumFolder,
        state_machine: StateMachine,
        clock: Clock,
        config: RaftConfig,
        random: Random,
        library: LibraryFactory,
    ) -> None:
        self._node_id = node_id
        self._folder = folder
        self._state_machine = state_machine
        self._clock = clock
        self._config = config
        self._pending: dict[int, Completion] = {}  # by index; all of this node's own term as leader
        self._announced_term: int | None = None  # in which it leads and its no-op was applied
        self._events: list[tuple[RaftRole, int]] = []
        self._entries_since_snapshot = 0
        self._bytes_since_snapshot = 0
        self._marked_at_ms = 0
        snapshots = SnapshotStore(
            folder.file_system, folder.folder, state_machine.snapshot, config.snapshot_chunk_bytes
        )
        self._library: Any = library(folder=folder, applier=self, config=config, clock=clock, random=random)
        self._library.load(snapshots)
        self._reported_role = self.role

    @property
    def role(self) -> RaftRole:
        """LEADER only once everything committed before this term is applied."""
        if self._folder.is_learner:
            return RaftRole.NON_VOTER
        state = self._library._SyncObj__raftState
        if state == LEADER:
            return RaftRole.LEADER if self._announced_term == self.term else RaftRole.CANDIDATE
        return RaftRole.CANDIDATE if state == CANDIDATE else RaftRole.FOLLOWER

    @property
    def term(self) -> int:
        """The current term."""
        return int(self._library._SyncObj__raftCurrentTerm)

    @property
    def leader_id(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        leader = self._library._SyncObj__raftLeader
        if leader is None or (leader.id == self._node_id and self.role is not RaftRole.LEADER):
            return None
        return NodeId(leader.id)

    @property
    def commit_index(self) -> int:
        """Index of the last entry known to be committed."""
        return int(self._library._SyncObj__raftCommitIndex)

    @property
    def last_index(self) -> int:
        """Index of the last entry in the log."""
        return self._folder.journal.last_index

    @property
    def last_applied(self) -> int:
        """Index of the last entry that the state machine has seen."""
        return int(self._library._SyncObj__raftLastApplied)

    @property
    def is_synced(self) -> bool:
        """True if `sync` has no entries to write."""
        return self._folder.journal.synced_index == self._folder.journal.last_index

    def lag_of(self, node_id: NodeId) -> int | None:
        """Entries that a node lacks, as its leader knows; None for all but the leader."""
        if self.role is not RaftRole.LEADER:
            return None
        if node_id == self._node_id:
            return 0
        match_index = self._library._SyncObj__raftMatchIndex
        return next((self.last_index - index for node, index in match_index.items() if node.id == node_id), None)

    def receive(self, sender: NodeId, message: RaftMessage) -> None:
        """Takes a message from a configured voter of this quorum."""
        self._library.receive(sender, message)

    def connection_changed(self, node_id: NodeId, connected: bool) -> None:
        """A peer can be reached, or no longer: a hint that may make an election start sooner."""
        if connected:
            self._library.connection_made()
        else:
            self._library.connection_lost(node_id)

    def propose(self, command: bytes, completion: Completion) -> int:
        """Appends a command, which `step` makes durable and sends; returns its index. b"" is a no-op: it is never
        applied, and is done once all before it is.

        :raises NotRaftLeaderError: nothing was appended
        :raises ValueError: the command is too large for one message
        """
        if self.role is not RaftRole.LEADER:
            raise NotRaftLeaderError(self.leader_id)
        if len(command) > COMMAND_BYTES_MAX:
            raise ValueError(f"a command of {len(command)} bytes; the limit is {COMMAND_BYTES_MAX}")
        index = self.last_index + 1
        self._folder.journal.add(REGULAR + command if command else NO_OP, index, self.term)
        self._pending[index] = completion
        return index

    def abandon(self, index: int) -> None:
        """Nobody waits for this proposal any more; it may still be committed."""
        self._pending.pop(index, None)

    def step(self) -> list[tuple[NodeId, RaftMessage]]:
        """Ticks, syncs, and returns what is to be sent."""
        return self.tick() + self.sync()

    def tick(self) -> list[tuple[NodeId, RaftMessage]]:
        """The first half of a step: what it returns may be sent before `sync`, so that a leader's disk and its
        followers' disks work at the same time (Raft thesis, 10.2.1)."""
        library = self._library
        library.doTick(0.0)
        if self._entries_since_snapshot >= self._config.snapshot_entries_max or (
            self._bytes_since_snapshot >= self._config.snapshot_bytes_max
        ):
            self._entries_since_snapshot = self._bytes_since_snapshot = 0
            library.forceLogCompaction()
        library.send_what_is_new()
        self._note_role()
        outbox: list[tuple[NodeId, RaftMessage]] = library.outbox
        # An answer says "it is on my disk"; all else rests on term and vote, which are there already.
        library.outbox = [item for item in outbox if item[1].HasField("next_node_index")]
        return [item for item in outbox if not item[1].HasField("next_node_index")]

    def sync(self) -> list[tuple[NodeId, RaftMessage]]:
        """The second half: the journal is on the disk when it returns; what it returns had to wait for that."""
        self._folder.journal.sync()
        now = self._clock.monotonic_ms()
        if now - self._marked_at_ms >= _MARK_INTERVAL_MS:
            self._marked_at_ms = now
            self._folder.journal.mark_synced()
        outbox: list[tuple[NodeId, RaftMessage]] = self._library.outbox
        self._library.outbox = []
        return outbox

    def next_step_s(self) -> float:
        """When to call `step` even if nothing goes in, by the clock in seconds."""
        return float(self._library.next_tick_s())

    def take_role_changes(self) -> list[tuple[RaftRole, int]]:
        """Changes of (role, term) since the last call, in order."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Ends it; nothing is written any more."""
        self._fail_pending()
        self._folder.close()

    # What the library does with the log.

    def apply_entry(self, entry: Entry) -> None:
        """Called in order of the log, for every committed entry once."""
        data, index, term = entry
        result = b""
        if data.startswith(REGULAR):
            result = self._state_machine.apply(data[1:], index, term)
        self._entries_since_snapshot += 1
        self._bytes_since_snapshot += len(data)
        if term == self.term and index == self._library._SyncObj__noopIDx and self._leads():
            self._announced_term = term
        completion = self._pending.pop(index, None)
        if completion is not None:
            completion(result)

    def restore(self, snapshot: Snapshot) -> None:
        """Called at the start, and when the leader sent one."""
        self._state_machine.restore(snapshot.state)
        self._entries_since_snapshot = self._bytes_since_snapshot = 0

    def leadership_lost(self) -> None:
        """Called when this node no longer leads, for whatever reason."""
        if self._announced_term is not None:
            self._announced_term = None
            if self._reported_role is RaftRole.LEADER:
                self._report(RaftRole.FOLLOWER)
        self._fail_pending()

    def _leads(self) -> bool:
        return bool(self._library._SyncObj__raftState == LEADER)

    def _note_role(self) -> None:
        if self.role is not self._reported_role:
            self._report(self.role)

    def _report(self, role: RaftRole) -> None:
        self._reported_role = role
        self._events.append((role, self.term))
        logger.info("raft_role_changed node=%d role=%s term=%d", self._node_id, role.value, self.term)

    def _fail_pending(self) -> None:
        pending, self._pending = self._pending, {}
        for completion in pending.values():
            completion(OutcomeUnknownError("leadership was lost after the command was appended"))
