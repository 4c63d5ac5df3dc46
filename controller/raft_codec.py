"""The library's messages, which are dicts, to protobuf and back. What does not hold together is refused here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..proto.identifiers import NodeId
from ..proto.raft_pb2 import (
    AppendEntries,
    InstallSnapshot,
    NextNodeIndex,
    RaftEntry,
    RaftMessage,
    RequestVote,
    VoteGranted,
)
from .raft_contract import NO_OP, REGULAR, Entry
from .raft_filter import Append
from .snapshot_store import SnapshotPart

_FIRST: Final = 0
_MIDDLE: Final = 1
_LAST: Final = 2
_ONLY: Final = 3


class MalformedRaftMessageError(Exception):
    """A message that no controller would send."""


def encode_message(message: Mapping[str, Any], sender_id: NodeId) -> RaftMessage:
    """The protobuf form of what the library hands to its transport; the transport adds the cluster token."""
    kind = message["type"]
    if kind == "append_entries" and "serialized" in message:
        return RaftMessage(sender_id=sender_id, install_snapshot=_encode_snapshot(message))
    if kind == "append_entries":
        return RaftMessage(sender_id=sender_id, append_entries=_encode_append(message))
    if kind == "request_vote":
        vote = RequestVote(
            term=message["term"],
            last_log_index=message["last_log_index"],
            last_log_term=message["last_log_term"],
        )
        return RaftMessage(sender_id=sender_id, request_vote=vote)
    if kind == "response_vote":
        return RaftMessage(sender_id=sender_id, vote_granted=VoteGranted(term=message["term"]))
    raise ValueError(f"a message of type {kind} must not be sent")


def encode_answer(
    sender_id: NodeId, *, term: int, next_index: int, reset: bool, success: bool, learner_id: int
) -> RaftMessage:
    """The answer to an AppendEntries or InstallSnapshot of `term`."""
    answer = NextNodeIndex(term=term, next_node_index=next_index, reset=reset, success=success, learner_id=learner_id)
    return RaftMessage(sender_id=sender_id, next_node_index=answer)


def decode_append(message: AppendEntries) -> Append:
    """:raises MalformedRaftMessageError: indexes or terms do not follow one another, or an entry is of no known kind"""
    if message.transmission or min(message.term, message.commit_index, message.previous_index) < 0:
        raise MalformedRaftMessageError("AppendEntries in parts, or with negative numbers")
    entries: list[Entry] = []
    index, term = message.previous_index, message.previous_term
    for entry in message.entries:
        if entry.index != index + 1 or not term <= entry.term <= message.term:
            raise MalformedRaftMessageError(f"entry {entry.index} of term {entry.term} after {index} of {term}")
        # The library unpickles entries of its other kinds (membership, version); they must not come in.
        if not entry.command.startswith(REGULAR) and entry.command != NO_OP:
            raise MalformedRaftMessageError(f"entry {entry.index} is of an unknown kind")
        index, term = entry.index, entry.term
        entries.append((entry.command, index, term))
    if entries and not message.has_previous:
        raise MalformedRaftMessageError("entries that follow nothing")
    return Append(
        term=message.term,
        commit_index=message.commit_index,
        previous_index=message.previous_index if message.has_previous else None,
        previous_term=message.previous_term,
        entries=tuple(entries),
        admit_learner_id=message.admit_learner_id,
    )


def decode_part(message: InstallSnapshot) -> SnapshotPart:
    """:raises MalformedRaftMessageError: the part cannot be one of the whole it names"""
    part = SnapshotPart(message.last_index, message.last_term, message.offset, message.total_bytes, message.data)
    if part.last_index < 1 or part.offset < 0 or part.offset + len(part.data) > part.total_bytes:
        raise MalformedRaftMessageError(f"snapshot part of {len(part.data)} bytes at {part.offset}")
    return part


def _encode_append(message: Mapping[str, Any]) -> AppendEntries:
    previous_index = message["prevLogIdx"]
    return AppendEntries(
        term=message["term"],
        commit_index=message["commit_index"],
        has_previous=previous_index is not None,
        previous_index=previous_index or 0,
        previous_term=message["prevLogTerm"] or 0,
        entries=[RaftEntry(command=command, index=index, term=term) for command, index, term in message["entries"]],
    )


def _encode_snapshot(message: Mapping[str, Any]) -> InstallSnapshot:
    part, is_first, is_last = message["serialized"]
    whole = _ONLY if is_first and is_last else _FIRST if is_first else _LAST if is_last else _MIDDLE
    return InstallSnapshot(
        term=message["term"],
        commit_index=message["commit_index"],
        data=part.data,
        part=whole,
        total_bytes=part.total_bytes,
        offset=part.offset,
        last_index=part.last_index,
        last_term=part.last_term,
    )
