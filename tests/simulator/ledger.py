"""What the clients of a run were told: the ground on which the oracles judge. Clients write here and nowhere else.

Values are unique over the run. A send is `sent` before it leaves, and then `acked`, or `failed` where it certainly did
not happen; one that is neither may have happened. Times are the loop's, in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from simulator.loop import SimulatedLoop


class Place(NamedTuple):
    """Of a record: the topic by its id where the client knows it, for a name may be given again."""

    topic: str
    partition: int


@dataclass(slots=True)
class Send:
    """One record that a client gave to its library."""

    producer: str
    place: Place
    value: bytes | None  # None: a tombstone; others come once in a run
    key: bytes | None
    strong: bool  # idempotent and acks=all: promised to be there once and for ever
    sent_s: float
    incarnation: int = 0  # of the topic: how often the name was given before
    acked_s: float | None = None
    offset: int | None = None
    failed: str | None = None


class Poll(NamedTuple):
    """One record that a consumer was given, in the order in which it was."""

    consumer: str
    place: Place
    incarnation: int
    offset: int
    value: bytes | None
    key: bytes | None
    at_s: float


class Commit(NamedTuple):
    """Offsets of a group that were acked as committed."""

    group: str
    consumer: str
    offsets: Mapping[Place, int]
    began_s: float
    acked_s: float


class Owned(NamedTuple):
    """What a member of a group holds from now on, as its library told it."""

    group: str
    consumer: str
    generation: int  # -1 where the library does not tell
    places: frozenset[Place]
    at_s: float


@dataclass(slots=True)
class Ledger:
    """In the order in which it happened."""

    loop: SimulatedLoop
    sends: list[Send] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    owned: list[Owned] = field(default_factory=list)
    incarnations: dict[str, int] = field(default_factory=dict)  # of topics, by name
    unclean: dict[Place, float] = field(default_factory=dict)  # when an unclean election was asked for: promises end

    def sent(
        self, producer: str, place: Place, value: bytes | None, key: bytes | None = None, *, strong: bool = True
    ) -> Send:
        """Before the record leaves."""
        incarnation = self.incarnations.get(place.topic, 0)
        send = Send(producer, place, value, key, strong, self.loop.time(), incarnation)
        self.sends.append(send)
        return send

    def acked(self, send: Send, partition: int, offset: int) -> None:
        """The library said so; the partition may be the library's choice."""
        send.place = Place(send.place.topic, partition)
        send.offset = offset if offset >= 0 else None  # written, but the library does not know where
        send.acked_s = self.loop.time()

    def failed(self, send: Send, reason: str) -> None:
        """The library said that it is certainly not there."""
        send.failed = reason

    def polled(self, consumer: str, place: Place, offset: int, value: bytes | None, key: bytes | None = None) -> None:
        incarnation = self.incarnations.get(place.topic, 0)
        self.polls.append(Poll(consumer, place, incarnation, offset, value, key, self.loop.time()))

    def committed(self, group: str, consumer: str, offsets: Mapping[Place, int], began_s: float) -> None:
        self.commits.append(Commit(group, consumer, dict(offsets), began_s, self.loop.time()))

    def owns(self, group: str, consumer: str, places: frozenset[Place], generation: int = -1) -> None:
        self.owned.append(Owned(group, consumer, generation, places, self.loop.time()))

    @property
    def acked_count(self) -> int:
        return sum(send.acked_s is not None for send in self.sends)
