"""Finds out whether a leadership is still one, by asking those who could have taken it over (as Raft's read index).

A leader that is cut off, or was stopped for a while, does not know that another leads in its place. What it acks is
safe all the same, for that takes the others; but what it merely tells may be out of date. So before it tells what must
not be, it begins a round. The number of the round goes to the followers with the next answer of their streams, and
comes back with the positions that they send then. Once all of `LeaderState.possible_successors` have sent it back, in
the leader's own epoch, no other leader had begun when the round did.

Rounds are numbered within one leadership, so a number is never of an earlier one. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...proto.identifiers import BrokerId

Done = Callable[[bool], None]
"""Told once: True if the leadership lasted to the begin of the round, False if it is over."""


class Confirmations:
    """The rounds of one leadership."""

    def __init__(self) -> None:
        self._round = 0
        self._heard: dict[BrokerId, int] = {}
        self._waiting: dict[Done, int] = {}  # in the order of the rounds

    @property
    def begun(self) -> bool:
        """There has been a round at all."""
        return self._round > 0

    @property
    def waiting(self) -> bool:
        """Somebody has not been told yet."""
        return bool(self._waiting)

    def wanted_from(self, broker_id: BrokerId) -> int:
        """The round that this follower is to send back; 0 if it has sent the last. That somebody waits no longer
        changes nothing: a follower that owes an answer does not count as in sync for ever."""
        return self._round if self._heard.get(broker_id, 0) < self._round else 0

    def begin(self, done: Done) -> None:
        """Begins a round; `done` is told when it ends."""
        self._round += 1
        self._waiting[done] = self._round

    def forget(self, done: Done) -> None:
        """Whoever began with this waits no longer."""
        self._waiting.pop(done, None)

    def heard(self, broker_id: BrokerId, confirmed_round: int) -> None:
        """A follower sent a round back."""
        if confirmed_round > self._heard.get(broker_id, 0):
            self._heard[broker_id] = min(confirmed_round, self._round)

    def settle(self, possible_successors: Iterable[BrokerId]) -> None:
        """Ends the rounds that all of these have sent back."""
        reached = min((self._heard.get(each, 0) for each in possible_successors), default=self._round)
        ended = []
        for done, number in self._waiting.items():
            if number > reached:
                break
            ended.append(done)
        for done in ended:
            del self._waiting[done]
            done(True)

    def end(self) -> None:
        """The leadership is over."""
        waiting, self._waiting = self._waiting, {}
        for done in waiting:
            done(False)
