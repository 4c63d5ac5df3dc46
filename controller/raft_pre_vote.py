"""Pre-vote (Raft thesis, 9.6): a node asks "would you vote for me?" before it raises its term. Pure.

Without it a node that was cut off comes back with a higher term and deposes a leader that works.
"""

from __future__ import annotations

from collections.abc import Hashable


class PreVote:
    """One candidate's rounds; a round belongs to the term that would be campaigned in."""

    def __init__(self, voters: int) -> None:
        self._needed = voters // 2 + 1
        self._term: int | None = None
        self._granted: set[Hashable] = set()

    def begin(self, term: int, self_id: Hashable) -> bool:
        """Starts a round; True if the node's own vote is enough."""
        self._term = term
        self._granted = {self_id}
        return len(self._granted) >= self._needed

    def granted(self, term: int, voter: Hashable) -> bool:
        """Counts an answer, once for each voter; True if it makes a majority."""
        if term != self._term or voter in self._granted:
            return False
        self._granted.add(voter)
        return len(self._granted) == self._needed

    def cancel(self) -> None:
        """A leader was heard, or the term has moved."""
        self._term = None


def log_is_current(last_term: int, last_index: int, own_last_term: int, own_last_index: int) -> bool:
    """True if a log that ends like this may lead one that ends like ours (Raft, 5.4.1)."""
    return (last_term, last_index) >= (own_last_term, own_last_index)
