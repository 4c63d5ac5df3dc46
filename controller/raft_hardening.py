"""What stands between pysyncobj's Raft and the rest: a mixin whose methods replace the library's private ones.

`raft_node.py` puts it before `SyncObj` in the bases of the class it runs, so `_SyncObj__x` here is what the library
calls as `self.__x`. The library keeps elections, replication and the commit rule; each override closes a row of the
table in DESIGN.md section 5. The mixin imports nothing of the library.

Incoming messages enter by `receive` (raft_messages.py); outgoing ones wait in `outbox` until the journal was synced.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Any

from ..proto.identifiers import NodeId
from ..proto.raft_pb2 import RaftMessage, RequestVote
from .quorum_folder import QuorumFolder
from .raft_codec import encode_message
from .raft_contract import RaftConfig
from .raft_learners import Learners
from .raft_messages import FOLLOWER, LEADER, Applier, RaftMessages
from .raft_pre_vote import PreVote
from .snapshot_store import Snapshot, SnapshotAssembler, SnapshotStore


class HardenedRaft(RaftMessages):
    """Overrides of `SyncObj`."""

    def __init__(
        self,
        *,
        folder: QuorumFolder,
        applier: Applier,
        config: RaftConfig,
        now: Callable[[], float],
        random: Random,
        self_node: Any,
        other_nodes: Collection[Any],
        library_arguments: Mapping[str, Any],
    ) -> None:
        self.outbox: list[tuple[NodeId, RaftMessage]] = []
        self._folder = folder
        self._journal = folder.journal
        self._applier = applier
        self._config = config
        self._now = now
        self._random = random
        self._self_id: NodeId = self_node.id
        self._nodes: dict[NodeId, Any] = {node.id: node for node in other_nodes}
        self._pre_vote = PreVote(len(self._nodes) + 1)
        self._learners = Learners()
        self._voters_heard: set[tuple[int, NodeId]] = set()
        self._leader_heard_at = float("-inf")
        self._sent_index = 0  # last index and commit index as the others were told
        self._sent_commit_index = 0
        self._commit_notice_at = float("inf")
        self._answered: tuple[float, Any, bytes] = (float("-inf"), None, b"")  # when, whom and what last
        self._assembler = SnapshotAssembler()
        super().__init__(selfNode=self_node, otherNodes=other_nodes, **library_arguments)  # type: ignore[call-arg]
        self._poller = _NoPoller()
        self._SyncObj__connectedNodes.update(self._nodes.values())  # who cannot be reached is the transport's affair

    def load(self, snapshots: SnapshotStore) -> None:
        """Begins where the disk says: the snapshot, then the journal, whose entries are applied once they are known to
        be committed. :raises DataFolderError: the two do not fit"""
        self._SyncObj__serializer = snapshots
        self._SyncObj__needLoadDumpFile = False
        snapshot = snapshots.load()
        snapshots.require_fit(snapshot, self._journal.first_index)
        if snapshot is not None:
            self._take_snapshot(snapshot)
        if not self._nodes:
            self._SyncObj__raftElectionDeadline = float("-inf")
        else:
            # Earlier than later elections: a leader that works is not disturbed, for there is the pre-vote.
            self._shorten_election_deadline(self._config.election_timeout_ms_min)

    def connection_lost(self, node_id: NodeId) -> None:
        """The kernel says that the peer's process is gone: if it led, there is no need to wait for its silence."""
        leader = self._SyncObj__raftLeader
        if leader is not None and leader.id == node_id and self._SyncObj__raftState == FOLLOWER:
            self._leader_heard_at = float("-inf")
            self._shorten_election_deadline(self._config.lost_leader_timeout_ms_max)

    def connection_made(self) -> None:
        """A peer can be reached; where there is no leader, no need to wait for the whole time-out."""
        if self._SyncObj__raftLeader is None and self._SyncObj__raftState == FOLLOWER:
            self._shorten_election_deadline(self._config.lost_leader_timeout_ms_max)

    def send_what_is_new(self) -> None:
        """A leader tells the others of new entries at once, and of a new commit index a moment later: the next entry
        may bring it along, and each message costs more than all that is in it."""
        if self._SyncObj__raftState != LEADER:
            return
        now = self._now()
        if self._sent_commit_index != self._SyncObj__raftCommitIndex and self._commit_notice_at == float("inf"):
            self._commit_notice_at = now + self._config.commit_notice_delay_ms / 1000
        if self._sent_index != self._journal.last_index or self._commit_notice_at <= now:
            self._SyncObj__sendAppendEntries()

    def next_tick_s(self) -> float:
        """When the library has something to do even if no message comes."""
        if self._SyncObj__raftState == LEADER:
            return min(self._SyncObj__newAppendEntriesTime, self._commit_notice_at)
        return self._SyncObj__raftElectionDeadline

    def _shorten_election_deadline(self, timeout_ms_max: int) -> None:
        deadline = self._now() + self._random.random() * timeout_ms_max / 1000
        self._SyncObj__raftElectionDeadline = min(self._SyncObj__raftElectionDeadline, deadline)

    def _take_snapshot(self, snapshot: Snapshot) -> None:
        """The journal begins with the snapshot's two entries and keeps what follows them."""
        last_index, last_term = snapshot.last[1], snapshot.last[2]
        if self._journal.term_at(last_index) == last_term and self._journal.first_index <= last_index - 1:
            self._journal.deleteEntriesTo(last_index - 1 - self._journal.first_index)
        else:
            # A crash came between snapshot and journal, or the leader's snapshot is past all this node has.
            self._journal.replace_all([snapshot.previous, snapshot.last])
        self._applier.restore(snapshot)
        self._SyncObj__raftLastApplied = last_index
        self._SyncObj__raftCommitIndex = max(self._SyncObj__raftCommitIndex, last_index)

    def send(self, node: Any, message: Mapping[str, Any]) -> bool:
        """What the library hands to its transport."""
        encoded = encode_message(message, self._self_id)
        if encoded.HasField("append_entries"):
            append = encoded.append_entries
            encoded.append_entries.admit_learner_id = self._learners.admits(
                node.id,
                append.previous_index + len(append.entries),
                self._SyncObj__raftCommitIndex,
                {other.id: index for other, index in self._SyncObj__raftMatchIndex.items()},
                self._nodes.keys(),
            )
        self.outbox.append((node.id, encoded))
        return True

    # In place of the library's own.

    def _onTick(self, timeToWait: float = 0.0) -> None:
        now = self._now()
        if self._SyncObj__raftState != LEADER and self._SyncObj__raftElectionDeadline < now:
            self._before_campaign(now)
        term = self._SyncObj__raftCurrentTerm
        super()._onTick(timeToWait)  # type: ignore[misc]
        if self._SyncObj__raftCurrentTerm > term:
            self._SyncObj__raftElectionDeadline = now + self._campaign_timeout()

    def _before_campaign(self, now: float) -> None:
        """Lets the library campaign only after a pre-vote was won."""
        term = self._SyncObj__raftCurrentTerm + 1
        if self._SyncObj__raftElectionDeadline == float("-inf") and not self._folder.is_learner:
            self._pre_vote.cancel()
            return
        self._SyncObj__raftElectionDeadline = now + self._campaign_timeout()
        self._SyncObj__raftLeader = None
        if self._folder.is_learner:
            return
        self._pre_vote.begin(term, self._self_id)
        request = RequestVote(
            term=term,
            last_log_index=self._journal.last_index,
            last_log_term=self._journal.last_term,
            pre_vote=True,
        )
        for node_id in self._nodes:
            self.outbox.append((node_id, RaftMessage(sender_id=self._self_id, request_vote=request)))

    def _SyncObj__generateRaftTimeout(self) -> float:
        low, high = self._config.election_timeout_ms_min, self._config.election_timeout_ms_max
        return (low + (high - low) * self._random.random()) / 1000

    def _campaign_timeout(self) -> float:
        low, high = self._config.campaign_timeout_ms_min, self._config.campaign_timeout_ms_max
        return (low + (high - low) * self._random.random()) / 1000

    def _SyncObj__setState(self, newState: int) -> None:
        led = self._SyncObj__raftState == LEADER
        self._SyncObj__raftState = newState
        if newState == LEADER:
            self._learners.clear()
            self._sent_index = 0
        elif led:
            self._learners.clear()
            self._SyncObj__raftElectionDeadline = self._now() + self._SyncObj__generateRaftTimeout()
            self._applier.leadership_lost()

    def _SyncObj__sendAppendEntries(self) -> None:
        self._sent_index, self._sent_commit_index = self._journal.last_index, self._SyncObj__raftCommitIndex
        self._commit_notice_at = float("inf")
        super()._SyncObj__sendAppendEntries()  # type: ignore[misc]

    def _SyncObj__sendNextNodeIdx(
        self,
        node: Any,
        reset: bool = False,
        nextNodeIdx: int | None = None,
        success: bool = False,
    ) -> None:
        next_index = self._journal.last_index + 1 if nextNodeIdx is None else nextNodeIdx
        self._answer(node, next_index=next_index, success=success, reset=reset)

    def _SyncObj__applyLogEntries(self) -> bool:
        began = self._now()
        while self._SyncObj__raftLastApplied < self._SyncObj__raftCommitIndex:
            index = self._SyncObj__raftLastApplied + 1
            self._applier.apply_entry(self._journal.entry_at(index))
            self._SyncObj__raftLastApplied = index
        self._forgive_silence(self._now() - began)
        return False  # send_what_is_new does the sending

    def _forgive_silence(self, seconds: float) -> None:
        """While this node applied commands it read nothing: it was not the others who were silent.

        One command may change ten thousand partitions, on all controllers at the same time.
        """
        if seconds <= 0:
            return
        self._leader_heard_at += seconds
        self._SyncObj__raftElectionDeadline += seconds
        for node in self._SyncObj__lastResponseTime:
            self._SyncObj__lastResponseTime[node] += seconds

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:
        del clearJournal  # a snapshot that does not fit the journal replaces it, else the journal is kept
        self._take_snapshot(self._SyncObj__serializer.load())


class _NoPoller:
    """The library polls sockets here; it has none."""

    def poll(self, timeout: float) -> None:
        """Nothing to wait for."""
