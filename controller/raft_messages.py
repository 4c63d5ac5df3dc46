"""Messages from the other controllers: what each does to the library's node, and what of it the library gets to see.

Half of the mixin described in raft_hardening.py; the attributes that begin with `_SyncObj` are the library's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
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
from .raft_codec import MalformedRaftMessageError, decode_append, decode_part, encode_answer
from .raft_contract import NO_OP, Entry, RaftConfig
from .raft_filter import Append, Deliver, covers_snapshot, filter_append
from .raft_learners import Learners
from .raft_pre_vote import PreVote, log_is_current
from .snapshot_store import Snapshot, SnapshotAssembler

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


class RaftMessages:
    """What comes in, by `receive`; what goes out waits in `outbox`."""

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
    _SyncObj__setState: Callable[[int], None]
    _SyncObj__setCurrentTerm: Callable[[int, NodeId | None], None]

    outbox: list[tuple[NodeId, RaftMessage]]
    _folder: QuorumFolder
    _journal: Journal
    _applier: Applier
    _config: RaftConfig
    _now: Callable[[], float]
    _self_id: NodeId
    _nodes: dict[NodeId, Any]
    _pre_vote: PreVote
    _learners: Learners
    _assembler: SnapshotAssembler
    _voters_heard: set[tuple[int, NodeId]]  # (term, who) of votes for this node
    _leader_heard_at: float
    _sent_index: int  # the last entry that was sent to the others
    _answered: tuple[float, Any, bytes]  # when, whom and what last

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

    def _on_append(self, node: Any, message: AppendEntries) -> None:
        append = decode_append(message)
        if append.term < self._SyncObj__raftCurrentTerm:
            self._answer(
                node, next_index=1, success=False, reset=False
            )  # it carries the term: it is no leader any more
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
            term = self._SyncObj__raftCurrentTerm
            # A repeated message is not a second vote, also not when a late one of an earlier term came in between.
            if vote.term == term and (term, node.id) not in self._voters_heard:
                self._voters_heard = {heard for heard in self._voters_heard if heard[0] == term}
                self._voters_heard.add((term, node.id))
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
        if (
            self._answered[1:] == (node.id, said)
            and now - self._answered[0] < self._config.heartbeat_interval_ms / 2000
        ):
            return  # a commit notice after the entry itself: the leader was told
        self._answered = (now, node.id, said)
        self.outbox.append((node.id, message))


def _append_dict(append: Append) -> dict[str, Any]:
    return {
        "type": "append_entries",
        "term": append.term,
        "commit_index": append.commit_index,
        "entries": append.entries,
        "prevLogIdx": append.previous_index,
        "prevLogTerm": append.previous_term,
    }
