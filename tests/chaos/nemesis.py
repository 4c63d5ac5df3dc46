"""The nemesis' plan: which fault begins when and lasts how long, drawn from a seed. Pure.

The same seed, length and means give the same plan. Whom a fault hits is decided when it begins, with the fault's own
seed, for it may be "whoever leads then". Every kind that can be done comes once before any comes twice, in an order of
the seed's, so that a short campaign has of everything. Faults overlap: kinds that begin while others last are the
combinations. Now and then there is a lull, in which the cluster may become whole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final


class FaultKind(StrEnum):
    """What is done to the cluster or its clients."""

    KILL_BROKER = "kill -9 of a broker"
    KILL_LEADER = "kill -9 of a leader"
    KILL_CONTROLLER = "kill -9 of a controller"
    KILL_ACTIVE_CONTROLLER = "kill -9 of the active controller"
    KILL_ALL = "kill -9 of all nodes at once"
    ROLLING_RESTART = "rolling restart"
    PAUSE_BROKER = "SIGSTOP of a broker"
    PAUSE_LEADER = "SIGSTOP of a leader"
    PAUSE_CONTROLLER = "SIGSTOP of a controller"
    CUT_OFF = "node cut off"
    CUT_ONE_WAY = "node cut off one way"
    CUT_HALVES = "two halves"
    CUT_MAJORITY_RING = "majority ring"
    CUT_LEADER_FROM_CONTROLLERS = "leader cut from controllers alone"
    CUT_LEADER_FROM_FOLLOWERS = "leader cut from followers alone"
    SLOW_LINK = "slow link"
    FILL_DISK = "disk full"
    BROKER_JOINS_AND_LEAVES = "broker added and removed"
    MOVE_CLOCK = "clock moved"
    KILL_CLIENT = "kill -9 of a client"


CUTS: Final = frozenset(
    {
        FaultKind.CUT_OFF,
        FaultKind.CUT_ONE_WAY,
        FaultKind.CUT_HALVES,
        FaultKind.CUT_MAJORITY_RING,
        FaultKind.CUT_LEADER_FROM_CONTROLLERS,
        FaultKind.CUT_LEADER_FROM_FOLLOWERS,
    }
)
"""Kinds that need hosts with links of their own."""

_SECONDS: Final[dict[FaultKind, tuple[float, float]]] = {
    FaultKind.KILL_BROKER: (0.2, 8.0),
    FaultKind.KILL_LEADER: (0.2, 8.0),
    FaultKind.KILL_CONTROLLER: (0.2, 8.0),
    FaultKind.KILL_ACTIVE_CONTROLLER: (0.2, 8.0),
    FaultKind.KILL_ALL: (0.0, 3.0),
    FaultKind.ROLLING_RESTART: (0.0, 1.0),  # between two nodes
    FaultKind.PAUSE_BROKER: (0.5, 12.0),
    FaultKind.PAUSE_LEADER: (0.5, 12.0),
    FaultKind.PAUSE_CONTROLLER: (0.5, 12.0),
    FaultKind.CUT_OFF: (2.0, 15.0),
    FaultKind.CUT_ONE_WAY: (2.0, 15.0),
    FaultKind.CUT_HALVES: (2.0, 12.0),
    FaultKind.CUT_MAJORITY_RING: (3.0, 15.0),
    FaultKind.CUT_LEADER_FROM_CONTROLLERS: (3.0, 15.0),
    FaultKind.CUT_LEADER_FROM_FOLLOWERS: (3.0, 15.0),
    FaultKind.SLOW_LINK: (4.0, 15.0),
    FaultKind.FILL_DISK: (4.0, 15.0),
    FaultKind.BROKER_JOINS_AND_LEAVES: (2.0, 10.0),  # between the way there and the way back
    FaultKind.MOVE_CLOCK: (3.0, 15.0),
    FaultKind.KILL_CLIENT: (0.0, 0.0),
}
_OFTEN: Final = (FaultKind.KILL_LEADER, FaultKind.CUT_LEADER_FROM_CONTROLLERS, FaultKind.KILL_CLIENT)
"""Twice in each round of all kinds."""
_GAP_S: Final = (1.0, 6.0)
_LULL_S: Final = (8.0, 12.0)
_FAULTS_BETWEEN_LULLS: Final = (6, 12)
_WARM_UP_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault. It begins `start_s` seconds after the campaign and ends by itself, after about `duration_s`."""

    number: int
    kind: FaultKind
    start_s: float
    duration_s: float
    seed: int


def draw_plan(seed: int, seconds: float, kinds: Collection[FaultKind]) -> list[PlannedFault]:
    """The faults of a campaign of this length, by start; none begins after its end. No kinds, no faults."""
    random = Random(seed)
    plan: list[PlannedFault] = []
    bag: list[FaultKind] = []
    now = _WARM_UP_S
    until_lull = random.randint(*_FAULTS_BETWEEN_LULLS)
    while kinds and now < seconds:
        if not bag:
            bag = _full_bag(random, kinds)
        kind = bag.pop()
        plan.append(PlannedFault(len(plan), kind, now, random.uniform(*_SECONDS[kind]), random.getrandbits(32)))
        now += random.uniform(*_GAP_S)
        until_lull -= 1
        if until_lull == 0:
            now += random.uniform(*_LULL_S)
            until_lull = random.randint(*_FAULTS_BETWEEN_LULLS)
    return plan


def _full_bag(random: Random, kinds: Collection[FaultKind]) -> list[FaultKind]:
    bag = [kind for kind in FaultKind if kind in kinds]  # the order of the enumeration, whatever that of `kinds` is
    bag += [kind for kind in _OFTEN if kind in kinds]
    random.shuffle(bag)
    return bag
