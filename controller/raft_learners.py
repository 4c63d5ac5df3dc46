"""The leader's side of re-admitting a wiped controller. Pure.

A wiped node W may have acked entries and cast votes that it no longer knows of. It is safe to let it vote once

1. it holds every entry that was committed before it came back, and
2. nobody can still use a vote that it gave before it was wiped.

When the leader first hears a learner (each re-admission has an id of its own) it appends a fresh no-op, the *target*.
The learner's answers do not count for a commit. Once the target is committed without it AND every other controller has
acked the target in this term, both hold: those acks came after W was back, so no other node was then in a later term,
hence none had won, or was campaigning in, a later term with W's old vote; and so the leader's log holds all that was
committed with W's old acks. The next append that proves that W holds the target carries its id, which admits it.

That every other controller has to answer, and not only a majority, is the price in a quorum of five: with one
controller away, a wiped one waits until it is back (or wiped and re-admitted itself).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Learner:
    learner_id: int
    target_index: int
    match_index: int = 0


class Learners:
    """Learners that this leader has heard in its term."""

    def __init__(self) -> None:
        self._learners: dict[Hashable, _Learner] = {}

    def clear(self) -> None:
        """Leadership ended, or began."""
        self._learners.clear()

    def is_new(self, node: Hashable, learner_id: int) -> bool:
        """True if this re-admission was not heard yet: a target must be appended."""
        learner = self._learners.get(node)
        return learner is None or learner.learner_id != learner_id

    def add(self, node: Hashable, learner_id: int, target_index: int) -> None:
        """Notes a re-admission and its target."""
        self._learners[node] = _Learner(learner_id, target_index)

    def acked(self, node: Hashable, match_index: int) -> None:
        """A learner holds the entries up to `match_index`."""
        learner = self._learners[node]
        learner.match_index = max(learner.match_index, match_index)

    def forget(self, node: Hashable) -> None:
        """It answers as a voter."""
        self._learners.pop(node, None)

    def admits(
        self,
        node: Hashable,
        append_end_index: int,
        commit_index: int,
        match_index: Mapping[Hashable, int],
        others: Collection[Hashable],
    ) -> int:
        """The id to send with an append to `node` that proves entries up to `append_end_index`; 0 for none."""
        learner = self._learners.get(node)
        if learner is None:
            return 0
        target = learner.target_index
        if min(append_end_index, commit_index, learner.match_index) < target:
            return 0
        for other in others:
            second = self._learners.get(other)
            if other != node and max(match_index[other], second.match_index if second else 0) < target:
                return 0
        return learner.learner_id
