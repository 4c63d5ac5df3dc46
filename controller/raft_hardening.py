"""What stands between pysyncobj's Raft and the rest: a mixin whose methods take the place of the library's private ones.

`raft_node.py` puts it before `SyncObj` in the bases of the class it runs, so `_SyncObj__x` here is what the library calls
as `self.__x`. The library keeps elections, replication and the commit rule; each override closes a row of the table in
DESIGN.md section 5. The mixin imports nothing of the library.

Incoming messages enter by `receive`; outgoing ones wait in `outbox` until the caller has synced the journal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Any, Final, Protocol

from ..proto.identifiers import NodeId
from ..proto.raft_pb2 import (
    AppendEntries,
    InstallSnapshot,
    NextNodeIndex,
    RaftMessage,
    RequestVote,
    VoteGranted,
)
from .journal import Journal
from .quorum_folder import QuorumFolder
from .raft_codec import (
    MalformedRaftMessageError,
    decode_append,
    decode_part,
    encode_answer,
    encode_message,
)
from .raft_contract import NO_OP, Entry, RaftConfig
from .raft_filter import Append, Deliver, covers_snapshot, filter_append
from .raft_learners import Learners
from .raft_pre_vote import PreVote, log_is_current
from .snapshot_store import Snapshot, SnapshotAssembler, SnapshotStore

logger = logging.getLogger(__name__)

FOLLOWER: Final = 0  # pysyncobj's _RAFT_STATE
CANDIDATE: Final = 1
LEADER: Final = 2


class Applier(Protocol):
    """Who takes what is committed."""

    def apply_entry(self, entry: Entry) -> None:
        """One committed entry, in order."""

    def restore(self, snapshot: Snapshot) -> None:
        """A snapshot in place of all entries up to its last."""

    def leadership_lost(self) -> None:
        """This node led, and does no longer."""


class HardenedRaft:
    """Overrides of `SyncObj`; the attributes below are the library's own."""

    _poller: Any
    _SyncObj__otherNodes: set[Any]
    _SyncObj__connectedNodes: set[Any]
    _SyncObj__raftState: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftLeader: Any
    _SyncObj__raftElectionDeadline: float
    _SyncObj__raftLog: Journal
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftLastApplied: int
    _SyncObj__raftNextIndex: dict[Any, int]
    _SyncObj__raftMatchIndex: dict[Any, int]
    _SyncObj__lastResponseTime: dict[Any, float]
    _SyncObj__newAppendEntriesTime: float
    _SyncObj__needLoadDumpFile: bool
    _SyncObj__serializer: Any
    _SyncObj__noopIDx: int | None

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
        super().__init__(selfNode=self_node, otherNodes=other_nodes, **library_arguments)
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

    def receive(self, sender: NodeId, message: RaftMessage) -> None:
        """One message from a configured voter; answers wait in `outbox`."""
        node = self._nodes.get(sender)
        kind = message.WhichOneof("message")
        if node is None or kind is None:
            return
        try:
            if kind == "append_entries":
                self._on_append(node, message.append_entries)
            elif kind == "install_snapshot":
                self._on_snapshot_part(node, message.install_snapshot)
            elif kind == "request_vote":
                self._on_request_vote(node, message.request_vote)
            elif kind == "vote_granted":
                self._on_vote(node, message.vote_granted)
            else:
                self._on_answer(node, message.next_node_index)
        except MalformedRaftMessageError as error:
            logger.error("raft_message_malformed sender=%d kind=%s error=%s", sender, kind, error)

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

    # Messages.

    def _on_append(self, node: Any, message: AppendEntries) -> None:
        append = decode_append(message)
        if append.term < self._SyncObj__raftCurrentTerm:
            self._answer(node, next_index=1, success=False, reset=False)  # it carries the term: it is no leader any more
            return
        self._heard_leader()
        verdict = filter_append(append, self._journal, self._SyncObj__raftCommitIndex)
        if isinstance(verdict, Deliver):
            self._pass_on(node, _append_dict(verdict.append))
        else:
            self._follow(node, append.term, verdict.commit_index)
            self._answer(node, next_index=verdict.next_index, success=verdict.success, reset=verdict.reset)
        matches = isinstance(verdict, Deliver) or verdict.success
        if matches and append.admit_learner_id:
            self._maybe_admit(node, append)

    def _on_snapshot_part(self, node: Any, message: InstallSnapshot) -> None:
        part = decode_part(message)
        if message.term < self._SyncObj__raftCurrentTerm:
            self._answer(node, next_index=1, success=False, reset=False)
            return
        self._heard_leader()
        self._follow(node, message.term, self._SyncObj__raftCommitIndex)
        if covers_snapshot(part.last_index, part.last_term, self._journal, self._SyncObj__raftCommitIndex):
            self._follow(node, message.term, part.last_index)
            self._answer(node, next_index=part.last_index + 1, success=True, reset=True)
            return
        snapshot = self._assembler.add(node.id, part)
        if snapshot is None:
            self._answer(node, next_index=self._journal.last_index + 1, success=False, reset=False)
            return
        logger.info("snapshot_received leader=%d last_index=%d", node.id, part.last_index)
        serialized = {"type": "append_entries", "term": message.term, "commit_index": part.last_index}
        self._pass_on(node, serialized | {"serialized": snapshot})

    def _on_request_vote(self, node: Any, request: RequestVote) -> None:
        if self._folder.is_learner:
            return
        if not request.pre_vote:
            message = {"type": "request_vote", "term": request.term}
            log_end = {"last_log_index": request.last_log_index, "last_log_term": request.last_log_term}
            self._pass_on(node, message | log_end)
            return
        term = self._SyncObj__raftCurrentTerm
        granted = (
            request.term > term
            and not self._has_leader()
            and log_is_current(
                request.last_log_term, request.last_log_index, self._journal.last_term, self._journal.last_index
            )
        )
        answer = VoteGranted(term=request.term if granted else term, pre_vote=True, refused=not granted)
        self.outbox.append((node.id, RaftMessage(sender_id=self._self_id, vote_granted=answer)))

    def _on_vote(self, node: Any, vote: VoteGranted) -> None:
        if not vote.pre_vote:
            if (vote.term, node.id) not in self._voters_heard:  # a repeated message is not a second vote
                self._voters_heard = {heard for heard in self._voters_heard if heard[0] == vote.term}
                self._voters_heard.add((vote.term, node.id))
                self._pass_on(node, {"type": "response_vote", "term": vote.term})
        elif vote.refused:
            self._maybe_step_down(vote.term)
        elif vote.term == self._SyncObj__raftCurrentTerm + 1 and self._pre_vote.granted(vote.term, node.id):
            self._SyncObj__raftElectionDeadline = float("-inf")  # the next tick campaigns

    def _on_answer(self, node: Any, answer: NextNodeIndex) -> None:
        if self._maybe_step_down(answer.term) or answer.term < self._SyncObj__raftCurrentTerm:
            return  # an answer to another term's append says nothing about this one's
        if self._SyncObj__raftState != LEADER:
            return
        next_index = min(max(answer.next_node_index, 2), self._journal.last_index + 1)
        if answer.reset:
            self._sent_index = 0  # send at once what it asks for
        if answer.learner_id:
            self._on_learner_answer(node, answer, next_index)
            return
        self._learners.forget(node.id)
        progress = {"next_node_idx": next_index, "reset": answer.reset, "success": answer.success}
        self._pass_on(node, {"type": "next_node_idx"} | progress)

    def _on_learner_answer(self, node: Any, answer: NextNodeIndex, next_index: int) -> None:
        """It gets entries, but does not count: neither for a commit nor as one that the leader can still reach."""
        self._SyncObj__raftMatchIndex[node] = 0
        if self._learners.is_new(node.id, answer.learner_id):
            target = self._journal.last_index + 1
            self._journal.add(NO_OP, target, self._SyncObj__raftCurrentTerm)
            self._learners.add(node.id, answer.learner_id, target)
            logger.info("learner_heard node=%d term=%d target_index=%d", node.id, answer.term, target)
        if answer.reset:
            self._SyncObj__raftNextIndex[node] = next_index
        if answer.success:
            self._SyncObj__raftNextIndex[node] = max(self._SyncObj__raftNextIndex[node], next_index)
            self._learners.acked(node.id, next_index - 1)

    def _maybe_admit(self, node: Any, append: Append) -> None:
        if self._folder.is_learner and append.admit_learner_id == self._folder.properties.learner_id:
            self._journal.sync()
            self._SyncObj__setCurrentTerm(append.term, node.id)  # its vote in this term is spent
            self._folder.admit()
            logger.info("learner_admitted term=%d last_index=%d", append.term, self._journal.last_index)

    def _follow(self, node: Any, term: int, commit_index: int) -> None:
        """The library notes the leader, the term and the commit index, and leaves the log alone."""
        self._pass_on(node, {"type": "append_entries", "term": term, "commit_index": commit_index})

    def _pass_on(self, node: Any, message: dict[str, Any]) -> None:
        self._SyncObj__onMessageReceived(node, message)  # type: ignore[attr-defined]

    def _maybe_step_down(self, term: int) -> bool:
        if term <= self._SyncObj__raftCurrentTerm:
            return False
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None
        return True

    def _heard_leader(self) -> None:
        self._leader_heard_at = self._now()
        self._pre_vote.cancel()

    def _has_leader(self) -> bool:
        silence = self._now() - self._leader_heard_at
        return self._SyncObj__raftState == LEADER or silence < self._config.election_timeout_ms_min / 1000

    def _answer(self, node: Any, *, next_index: int, success: bool, reset: bool) -> None:
        message = encode_answer(
            self._self_id,
            term=self._SyncObj__raftCurrentTerm,
            next_index=next_index,
            reset=reset,
            success=success,
            learner_id=self._folder.properties.learner_id,
        )
        now, said = self._now(), message.SerializeToString()
        if self._answered[1:] == (node.id, said) and now - self._answered[0] < self._config.heartbeat_interval_ms / 2000:
            return  # a commit notice after the entry itself: the leader was told
        self._answered = (now, node.id, said)
        self.outbox.append((node.id, message))

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

    def _shorten_election_deadline(self, timeout_ms_max: int) -> None:
        deadline = self._now() + self._random.random() * timeout_ms_max / 1000
        self._SyncObj__raftElectionDeadline = min(self._SyncObj__raftElectionDeadline, deadline)

    # In place of the library's own.

    def _onTick(self, timeToWait: float = 0.0) -> None:  # noqa: N802, N803
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

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802
        low, high = self._config.election_timeout_ms_min, self._config.election_timeout_ms_max
        return (low + (high - low) * self._random.random()) / 1000

    def _campaign_timeout(self) -> float:
        low, high = self._config.campaign_timeout_ms_min, self._config.campaign_timeout_ms_max
        return (low + (high - low) * self._random.random()) / 1000

    def _SyncObj__setState(self, newState: int) -> None:  # noqa: N802, N803
        led = self._SyncObj__raftState == LEADER
        self._SyncObj__raftState = newState
        if newState == LEADER:
            self._learners.clear()
            self._sent_index = 0
        elif led:
            self._learners.clear()
            self._SyncObj__raftElectionDeadline = self._now() + self._SyncObj__generateRaftTimeout()
            self._applier.leadership_lost()

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self._sent_index, self._sent_commit_index = self._journal.last_index, self._SyncObj__raftCommitIndex
        self._commit_notice_at = float("inf")
        super()._SyncObj__sendAppendEntries()  # type: ignore[misc]

    def _SyncObj__sendNextNodeIdx(  # noqa: N802
        self,
        node: Any,
        reset: bool = False,
        nextNodeIdx: int | None = None,  # noqa: N803
        success: bool = False,
    ) -> None:
        next_index = self._journal.last_index + 1 if nextNodeIdx is None else nextNodeIdx
        self._answer(node, next_index=next_index, success=success, reset=reset)

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        while self._SyncObj__raftLastApplied < self._SyncObj__raftCommitIndex:
            index = self._SyncObj__raftLastApplied + 1
            self._applier.apply_entry(self._journal.entry_at(index))
            self._SyncObj__raftLastApplied = index
        return False  # send_what_is_new does the sending

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: N802, N803
        del clearJournal  # a snapshot that does not fit the journal replaces it, else the journal is kept
        self._take_snapshot(self._SyncObj__serializer.load())


class _NoPoller:
    """The library polls sockets here; it has none."""

    def poll(self, timeout: float) -> None:
        """Nothing to wait for."""


def _append_dict(append: Append) -> dict[str, Any]:
    return {
        "type": "append_entries",
        "term": append.term,
        "commit_index": append.commit_index,
        "entries": append.entries,
        "prevLogIdx": append.previous_index,
        "prevLogTerm": append.previous_term,
    }

