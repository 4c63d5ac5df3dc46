"""A row of the comparison: what is measured, on which cluster, and what Klamm is to reach against Apache Kafka."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from . import loads
from .systems import KAFKA, KLAMM, Cluster

if TYPE_CHECKING:
    from .rows_cost import Memory, Traffic

PARTITIONS: Final = 6
WARM_UP_RECORDS: Final = 200_000
WARM_UP_TURNS_MIN: Final = 4
WARM_UP_SIZE: Final = 1000
WARM_UP_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What the ratio of the medians, Klamm's by Kafka's, is to be."""

    ratio: float
    at_most: bool = False

    def is_reached(self, ratio: float) -> bool:
        """Whether this ratio is good enough."""
        return ratio <= self.ratio if self.at_most else ratio >= self.ratio

    def __str__(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.ratio:.1f}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a figure. `side` is whose it is: that of the cluster at work, unless the row says otherwise."""

    figure: str
    value: float
    side: str | None = None


@dataclass(slots=True)
class Work:
    """One run of a row: the cluster that it has, and how much it is to do."""

    cluster: Cluster
    scale: float
    """1 for what the row does by default; less for a quick look."""
    start_seconds: float = 0.0
    """From the start of the cluster's processes to the first acked record."""
    memory_at_start: Memory | None = None
    """What its processes held when it had been idle after that."""
    traffic: Traffic | None = None
    """What rows 7 and 11 share, once there is one."""
    row: str = ""
    _topics: list[str] = field(default_factory=list)
    _named: int = 0

    @property
    def servers(self) -> str:
        """Addresses for Kafka clients."""
        return self.cluster.servers

    def count(self, records: int) -> int:
        """So many records, scaled, in thousands."""
        return max(1, round(records * self.scale / 1000)) * 1000

    def topic(self, partitions: int = PARTITIONS, replication_factor: int = 1) -> str:
        """The name of a new topic that is deleted when the row is done."""
        self._named += 1
        name = f"row-{self.row}-{self._named}"
        loads.create_topics(self.servers, [name], partitions, replication_factor)
        self._topics.append(name)
        return name

    def delete_topics(self) -> None:
        """Those that `topic` made."""
        while self._topics:
            loads.delete_topic(self.servers, self._topics.pop())

    def warm_up(self) -> None:
        """Gives a just-in-time compiler the time that it would have had in production; Klamm gets the same.

        Produces and consumes until the rate has not risen by a tenth for two turns, or the time is up.
        """
        best, turns, turns_since, deadline = 0.0, 0, 0, time.monotonic() + WARM_UP_SECONDS_MAX
        replication_factor, count = len(self.cluster.addresses), self.count(WARM_UP_RECORDS)
        while (turns < WARM_UP_TURNS_MIN or turns_since < 2) and time.monotonic() < deadline:
            topic = self.topic(PARTITIONS, replication_factor)
            began = time.monotonic()
            rate = loads.produce(self.servers, topic, count, PARTITIONS, WARM_UP_SIZE, "all")
            loads.consume(self.servers, topic, count + 1, PARTITIONS)
            self.note(f"{rate:,.0f} records/s, {time.monotonic() - began:.1f} s")
            self.delete_topics()
            turns += 1
            turns_since = turns_since + 1 if rate < 1.1 * best else 0
            best = max(best, rate)

    def note(self, what: str) -> None:
        """Tells on stderr how far things are."""
        print(f"{time.strftime('%H:%M:%S')} {self.cluster.name} row {self.row}: {what}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Row:
    """`run` measures it on a cluster, its docstring tells how; all its figures have one unit."""

    key: str
    title: str
    brokers: int
    unit: str
    goal: Goal | None
    run: Callable[[Work], Iterable[Sample]]
    alone: bool = False
    """True if it needs a cluster that no other row has used."""
    needs_warmth: bool = True
    rounds: int = 5
    """How often, unless it is said how often."""
    systems: tuple[str, ...] = (KLAMM, KAFKA)
    goals: Mapping[str, Goal | None] = field(default_factory=dict)
    """For figures that differ from `goal`."""

    @property
    def how(self) -> str:
        """How it is run, in one paragraph."""
        return " ".join((self.run.__doc__ or "").split())

    def goal_of(self, figure: str) -> Goal | None:
        """What is to be reached there."""
        return self.goals.get(figure, self.goal)
