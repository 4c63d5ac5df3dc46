"""What each controller does with its journal, its vote and its word, at the moment that it does it: rules 9, 11 and 25.

9   what a controller answers to a command was committed: it is applied there, not only about to be
11  what an answer of an earlier term says of a follower counts for nothing in this one
25  nothing is applied that is not on the disks of a majority; a journal is cut only where it conflicts with what the
    leader sends, and never where entries were applied; a term has one vote of each controller

`RaftOracle` looks at the controllers now and then; what is over in a moment is seen here only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from klamm.controller.active_controller import ActiveController
from klamm.controller.journal import Journal
from klamm.controller.raft_contract import REGULAR, Entry
from klamm.controller.raft_core import RaftCore
from klamm.controller.raft_messages import RaftMessages
from klamm.controller.vote_store import VoteStore
from klamm.proto.command_pb2 import Command, CommandResponse
from klamm.proto.errors import ErrorCode
from klamm.proto.raft_pb2 import AppendEntries, NextNodeIndex
from simulator.oracles.breach import Report
from simulator.oracles.hooks import Hooks
from simulator.oracles.sight import current_node_id
from simulator.process import current_process

_NOT_TAKEN: Final = frozenset(
    {
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.THROTTLING_QUOTA_EXCEEDED,
        ErrorCode.INVALID_REQUEST,
    }
)
"""Answers that a controller may give without having proposed anything, or without knowing what became of it."""


class Terms(Protocol):
    """What must be seen of a journal."""

    @property
    def first_index(self) -> int: ...

    @property
    def synced_index(self) -> int: ...

    def term_at(self, index: int) -> int | None: ...


class QuorumOracle:
    """`listen` has it hear by itself; the other methods are what it hears."""

    def __init__(self, report: Report, voters: int) -> None:
        self._report = report
        self._voters = voters
        self._journals: dict[int, Terms] = {}  # of dead processes too: what was synced is on the disk
        self._applied: dict[int, int] = {}  # term by index, of all controllers together
        self._commands: dict[int, set[int]] = {}  # hashes of those that a controller has applied
        self._votes: dict[int, tuple[int, int | None]] = {}
        self._append: Mapping[int, int] | None = None  # terms by index, of the append that is being taken

    def listen(self, hooks: Hooks) -> None:
        """To journals, votes, messages and answers."""
        hooks.after(Journal, "__init__", self._opened)
        hooks.around(Journal, "deleteEntriesFrom", self._cut)
        hooks.after(VoteStore, "store", self._stored)
        hooks.around(RaftMessages, "_on_append", self._on_append)
        hooks.around(RaftMessages, "_on_answer", self._on_answer)
        hooks.around(RaftCore, "apply_entry", self._apply)
        hooks.around(ActiveController, "propose", self._propose)

    # --- rule 25 ---------------------------------------------------------------------------------------------

    def opened(self, node_id: int, journal: Terms) -> None:
        """A controller's process has this journal from now on."""
        self._journals[node_id] = journal

    def applies(self, node_id: int, index: int, term: int) -> None:
        """A controller is about to apply an entry."""
        holders = [other for other, journal in self._journals.items() if _holds(journal, index, term)]
        if len(holders) * 2 <= self._voters:
            self._report(
                25,
                f"controller {node_id} applies entry {index} of term {term}, which is on the disks of {holders} only",
            )
        known = self._applied.setdefault(index, term)
        if known != term:
            self._report(
                25, f"controller {node_id} applies an entry {index} of term {term}; applied was one of term {known}"
            )

    def cuts(self, node_id: int, cut: Mapping[int, int], append: Mapping[int, int] | None) -> None:
        """A journal loses its end: terms by index of what goes, and of what the leader has just sent."""
        gone = next((index for index, term in sorted(cut.items()) if self._applied.get(index) == term), None)
        if gone is not None:
            self._report(25, f"controller {node_id} cuts off entry {gone} of term {cut[gone]}, which was applied")
        first = min(cut, default=None)
        if first is None or append is None:
            return
        if append.get(first) in (None, cut[first]):
            self._report(
                25,
                f"controller {node_id} cuts its journal at entry {first} of term {cut[first]}, where the leader has "
                f"sent {'nothing' if append.get(first) is None else 'the same'}",
            )

    def votes(self, node_id: int, term: int, voted_for: int | None) -> None:
        """A controller has written down its term and its vote."""
        known_term, known_vote = self._votes.get(node_id, (0, None))
        if term < known_term:
            self._report(25, f"controller {node_id} goes back to term {term} from {known_term}")
        elif term == known_term and known_vote not in (None, voted_for):
            self._report(
                25, f"controller {node_id} votes for {voted_for} in term {term}, in which it voted for {known_vote}"
            )
        self._votes[node_id] = (term, voted_for)

    # --- rule 9 ----------------------------------------------------------------------------------------------

    def applied(self, node_id: int, command: bytes) -> None:
        """A controller has applied a command."""
        self._commands.setdefault(node_id, set()).add(hash(command))

    def answers(self, node_id: int, command: bytes, kind: str) -> None:
        """A controller says what came of a command that it has proposed."""
        if hash(command) not in self._commands.get(node_id, ()):
            self._report(9, f"controller {node_id} answered {kind} by what it would do: it is not committed yet")

    # --- rule 11 ---------------------------------------------------------------------------------------------

    def took_answer(self, node_id: int, term: int, answer_term: int, *, changed: bool) -> None:
        """A leader has read what a follower answered; `changed`: it thinks otherwise of the follower now."""
        if answer_term < term and changed:
            self._report(
                11,
                f"controller {node_id} leads in term {term} and counts an answer that was given in term {answer_term}",
            )

    # --- ears ------------------------------------------------------------------------------------------------

    def _opened(self, _: None, journal: Journal, *__: Any) -> None:
        if current_process.get() is not None:
            self.opened(current_node_id(), journal)

    def _stored(self, _: None, __: VoteStore, term: int, voted_for: int | None) -> None:
        if current_process.get() is not None:
            self.votes(current_node_id(), term, voted_for)

    def _on_append(self, on_append: Callable[..., None], raft: RaftMessages, node: Any, message: AppendEntries) -> None:
        self._append = {entry.index: entry.term for entry in message.entries}
        try:
            on_append(raft, node, message)
        finally:
            self._append = None

    def _cut(self, cut: Callable[..., None], journal: Journal, entry_from: int) -> None:
        first, last = journal.first_index + entry_from, journal.last_index
        terms = {index: journal.entry_at(index)[2] for index in range(first, last + 1)}
        self.cuts(current_node_id(), terms, self._append)
        cut(journal, entry_from)

    def _on_answer(self, on_answer: Callable[..., None], raft: RaftMessages, node: Any, answer: NextNodeIndex) -> None:
        term, before = raft._SyncObj__raftCurrentTerm, _opinion(raft, node)
        on_answer(raft, node, answer)
        self.took_answer(current_node_id(), term, answer.term, changed=_opinion(raft, node) != before)

    def _apply(self, apply: Callable[..., None], core: RaftCore, entry: Entry) -> None:
        data, index, term = entry
        self.applies(current_node_id(), index, term)
        if data.startswith(REGULAR):
            self.applied(current_node_id(), data[1:])
        apply(core, entry)

    async def _propose(
        self, propose: Callable[..., Any], controller: ActiveController, command: Command, **named: Any
    ) -> CommandResponse:
        response: CommandResponse = await propose(controller, command, **named)
        if response.error_code not in _NOT_TAKEN:
            stamped = command.SerializeToString(deterministic=True)
            self.answers(current_node_id(), stamped, str(command.WhichOneof("command")))
        return response


def _holds(journal: Terms, index: int, term: int) -> bool:
    """What a snapshot covers was applied before."""
    return index < journal.first_index or (index <= journal.synced_index and journal.term_at(index) == term)


def _opinion(raft: RaftMessages, node: Any) -> tuple[Any, ...]:
    """What a leader thinks of a follower."""
    return (
        raft._SyncObj__raftMatchIndex.get(node),
        raft._SyncObj__raftNextIndex.get(node),
        raft._SyncObj__lastResponseTime.get(node),
    )
