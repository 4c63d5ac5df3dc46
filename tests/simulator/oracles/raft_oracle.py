"""The metadata quorum: rule 25, as Raft has it. One leader in a term, committed entries never change, a leader has all
of them, a commit index never falls, nobody votes twice, and who comes back has what was on its disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.oracles.breach import Report

Entry = tuple[bytes, int, int]
"""Content, index, term."""


@dataclass(slots=True)
class RaftView:
    """One controller's part in the quorum, at one moment."""

    node_id: int
    run: int  # of its process
    term: int
    voted_for: int | None
    leads: bool
    commit_index: int
    first_index: int
    last_index: int
    synced_index: int
    entry_at: Callable[[int], Entry]


@dataclass(slots=True)
class _Known:
    run: int = -1
    term: int = 0
    voted_for: int | None = None
    commit_index: int = 0
    checked_to: int = 0
    synced_index: int = 0


class RaftOracle:
    """Told of each controller now and then; looks only at what has moved."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._nodes: dict[int, _Known] = {}
        self._leaders: dict[int, int] = {}
        self._committed: dict[int, Entry] = {}
        self._last_committed = 0

    def saw(self, view: RaftView) -> None:
        """A running controller between two of its steps."""
        known = self._nodes.setdefault(view.node_id, _Known())
        if view.run != known.run:
            self._came_back(view, known)
        self._check_vote(view, known)
        if view.leads:
            self._check_leader(view)
        if view.commit_index < known.commit_index:
            self._report(
                25,
                f"the commit index of controller {view.node_id} fell from {known.commit_index} to {view.commit_index}",
            )
        if view.commit_index > view.last_index:
            self._report(
                25,
                f"controller {view.node_id} has all up to index {view.commit_index} committed, and entries up to "
                f"{view.last_index} only",
            )
        known.commit_index = view.commit_index
        known.synced_index = view.synced_index
        for index in range(max(known.checked_to + 1, view.first_index), min(view.commit_index, view.last_index) + 1):
            entry = view.entry_at(index)
            first = self._committed.setdefault(index, entry)
            if first != entry:
                self._report(
                    25,
                    f"controller {view.node_id} has another entry committed at index {index}: of term {entry[2]}, the "
                    f"first one seen was of term {first[2]}",
                )
        known.checked_to = view.commit_index
        self._last_committed = max(self._last_committed, view.commit_index)

    def _came_back(self, view: RaftView, known: _Known) -> None:
        held = min(known.commit_index, known.synced_index)
        if view.last_index < held:
            self._report(
                25,
                f"controller {view.node_id} came back with entries up to index {view.last_index}; it had {held} "
                "committed and on its disk",
            )
        known.run = view.run
        known.commit_index = known.checked_to = 0

    def _check_vote(self, view: RaftView, known: _Known) -> None:
        if view.term < known.term:
            self._report(25, f"controller {view.node_id} is in term {view.term} and was in {known.term} before")
        elif view.term == known.term and known.voted_for not in (None, view.voted_for):
            self._report(
                25,
                f"controller {view.node_id} voted for {known.voted_for} in term {view.term} and has "
                f"{view.voted_for} as its vote now",
            )
        known.term, known.voted_for = view.term, view.voted_for

    def _check_leader(self, view: RaftView) -> None:
        leader = self._leaders.get(view.term)
        if leader == view.node_id:
            return
        if leader is not None:
            self._report(25, f"term {view.term} has two leaders, controllers {leader} and {view.node_id}")
            return
        self._leaders[view.term] = view.node_id
        if view.last_index < self._last_committed:
            self._report(
                25,
                f"controller {view.node_id} leads in term {view.term} with entries up to index {view.last_index}; all "
                f"up to {self._last_committed} are committed",
            )
            return
        for index in range(view.first_index, self._last_committed + 1):
            first = self._committed.get(index)
            if first is not None and view.entry_at(index) != first:
                self._report(
                    25, f"controller {view.node_id} leads in term {view.term} without the committed entry {index}"
                )
                return
