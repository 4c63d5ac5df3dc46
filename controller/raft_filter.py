"""What of an AppendEntries or InstallSnapshot the library may see. Pure.

pysyncobj 0.3.17 cuts a follower's log at every append whose previous entry is not its last one, even where all entries
match, and takes the leader's commit index for its own log as long as that is, matching or not. Raft (figure 2) says:

* entries that are held with the same term are skipped; the log is cut at the first that conflicts, and never at or
  below the commit index;
* the commit index moves to the leader's, but not past the last entry this very message proved to match.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..cluster.invariant import invariant
from .raft_contract import Entry


class LogView(Protocol):
    """The follower's log."""

    @property
    def first_index(self) -> int:
        """Of the first entry kept; everything up to it is committed."""

    @property
    def last_index(self) -> int:
        """Of the last entry."""

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None if it is not kept."""


@dataclass(frozen=True, slots=True)
class Append:
    """An AppendEntries. `previous_index` is None where the leader itself no longer knows the entry before."""

    term: int
    commit_index: int
    previous_index: int | None
    previous_term: int
    entries: tuple[Entry, ...]
    admit_learner_id: int = 0

    @property
    def end_index(self) -> int:
        """Index of the last entry that this message speaks of."""
        return (self.previous_index or 0) + len(self.entries)


@dataclass(frozen=True, slots=True)
class Deliver:
    """The library may have it: what it will cut conflicts, and what it will add is new."""

    append: Append


@dataclass(frozen=True, slots=True)
class Answer:
    """Nothing is to be added or cut. The answer, and how far the commit index may move."""

    next_index: int
    success: bool
    reset: bool
    commit_index: int


def filter_append(append: Append, log: LogView, commit_index: int) -> Deliver | Answer:
    """Decides about an AppendEntries of the current term."""
    if append.previous_index is None:
        return Answer(log.last_index + 1, success=False, reset=True, commit_index=commit_index)
    safe_commit_index = min(append.commit_index, append.end_index)
    if append.end_index <= commit_index:
        _require_agreement(append, log, commit_index)
        return Answer(append.end_index + 1, success=True, reset=False, commit_index=commit_index)
    if append.previous_index <= commit_index:
        # The leader holds what is committed (leader completeness): what it says of that needs no look.
        _require_agreement(append, log, commit_index)
        append = _from(append, commit_index, _term_at(log, commit_index))
    held_term = log.term_at(append.previous_index or 0)
    if held_term != append.previous_term:
        return _mismatch(append.previous_index or 0, held_term, log, commit_index)
    for entry in append.entries:
        _, index, term = entry
        held_term = log.term_at(index)
        if held_term is None or held_term != term:
            before = index - 1
            invariant(before >= commit_index, f"entry {index} of term {term} conflicts at or below {commit_index}")
            rest = _from(append, before, _term_at(log, before))
            return Deliver(
                Append(rest.term, safe_commit_index, before, rest.previous_term, rest.entries, rest.admit_learner_id)
            )
    return Answer(append.end_index + 1, success=True, reset=False, commit_index=safe_commit_index)


def covers_snapshot(last_index: int, last_term: int, log: LogView, commit_index: int) -> bool:
    """True if the log holds all that a snapshot up to this entry would bring."""
    return last_index <= commit_index or log.term_at(last_index) == last_term


def _mismatch(previous_index: int, held_term: int | None, log: LogView, commit_index: int) -> Answer:
    """Asks for what comes after the last entry that may match: a round trip for each term, not for each entry."""
    if held_term is None:
        return Answer(log.last_index + 1, success=False, reset=True, commit_index=commit_index)
    index = previous_index
    while index - 1 > commit_index and log.term_at(index - 1) == held_term:
        index -= 1
    return Answer(index, success=False, reset=True, commit_index=commit_index)


def _from(append: Append, previous_index: int, previous_term: int) -> Append:
    """The same append without the entries up to `previous_index`."""
    rest = append.entries[previous_index - (append.previous_index or 0) :]
    return Append(append.term, append.commit_index, previous_index, previous_term, rest, append.admit_learner_id)


def _require_agreement(append: Append, log: LogView, commit_index: int) -> None:
    previous = (b"", append.previous_index or 0, append.previous_term)
    for _, index, term in (previous, *append.entries):
        held_term = log.term_at(index)
        invariant(
            index > commit_index or held_term is None or held_term == term,
            f"committed entry {index} is of term {held_term}; the leader of term {append.term} has it of {term}",
        )


def _term_at(log: LogView, index: int) -> int:
    term = log.term_at(index)
    invariant(term is not None, f"entry {index} is not kept")
    return term or 0
