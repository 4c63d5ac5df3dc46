"""What happens in a run, drawn from its seed before it begins: the cluster's shape, its topics, the faults and when.

A fault has its own number for the choices that it makes when its time has come (which broker leads then is not known
before), so that leaving one out leaves the others as they are: failures are made shorter in this way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

PROFILES: Final[Mapping[str, tuple[str, ...]]] = {
    "kills": ("kill_broker", "kill_broker", "kill_controller", "restart", "restart", "kill_all", "crash_client"),
    "network": ("cut", "cut_one_way", "isolate", "cut_controllers", "ring", "slow", "reset", "mend", "mend", "calm"),
    "pauses": ("pause_broker", "pause_controller", "pause_broker", "resume", "resume", "crash_client", "restart"),
    "power": (
        "power_broker",
        "power_broker",
        "power_controller",
        "restart",
        "kill_broker",
        "power_all",
        "stop_and_power",
    ),
    "operator": ("reassign", "preferred", "min_isr", "stop_broker", "restart", "add_broker", "add_partitions", "calm"),
    "topics": ("delete_topic", "create_topic", "retention", "compaction", "kill_broker", "restart"),
    "disks": ("disk_write_fails", "disk_sync_fails", "disk_full", "disk_heals", "restart", "kill_broker", "bit_flip"),
    "clocks": ("clock_jump", "clock_jump", "kill_broker", "restart", "cut", "mend", "calm"),
}
BROKER_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    # What runs every few minutes in life would not run at all in the seconds of a run.
    "replica.lag.time.max.ms": ("500", "2000", "10000"),
    "log.retention.check.interval.ms": ("300", "300000"),
    "log.cleaner.backoff.ms": ("200", "15000"),
}
CONTROLLER_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {"metadata.snapshot.entries.max": ("10", "40", "10000")}
_PAUSES_MS: Final = (3, 20, 50, 200, 500, 1_000, 1_000, 2_000)


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at_ms` after the begin of the faults; `choice` seeds what it chooses."""

    at_ms: int
    kind: str
    choice: int


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a run."""

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    seed: int
    brokers: int
    topics: tuple[Topic, ...]
    delays_ms: tuple[float, ...]
    faults: tuple[Fault, ...]
    workload: int
    """Seeds what the clients choose."""
    broker_settings: Mapping[str, str] = field(default_factory=dict)
    controller_settings: Mapping[str, str] = field(default_factory=dict)

    def without(self, places: frozenset[int]) -> Plan:
        """The same run with some of its faults left out."""
        return replace(self, faults=tuple(fault for place, fault in enumerate(self.faults) if place not in places))


def draw(seed: int, prefer: tuple[str, ...] = ()) -> Plan:
    """The plan of a seed; with faults of no other profiles than those preferred, if any are."""
    random = Random(seed * 0x9E3779B97F4A7C15 + 1)
    brokers = random.choice((3, 3, 3, 4, 5))
    profiles = random.sample(sorted(PROFILES), random.choice((1, 2, 2, 3, 8)))
    kinds = [kind for profile in prefer or profiles for kind in PROFILES[profile]]
    faults = []
    at_ms = 0
    for _ in range(random.randint(3, 14)):
        at_ms += random.choice(_PAUSES_MS)
        faults.append(Fault(at_ms, random.choice(kinds), random.getrandbits(32)))
    return Plan(
        seed=seed,
        brokers=brokers,
        topics=(_topic(random, "t", {}), _topic(random, "compacted", {"cleanup.policy": "compact"})),
        delays_ms=random.choice(((0.2, 0.2, 0.5, 1.0), (0.2, 0.5, 5.0), (0.2, 1.0, 30.0), (1.0, 20.0, 100.0))),
        faults=tuple(faults),
        workload=random.getrandbits(32),
        broker_settings={key: random.choice(values) for key, values in BROKER_SETTINGS.items()},
        controller_settings={key: random.choice(values) for key, values in CONTROLLER_SETTINGS.items()},
    )


def _topic(random: Random, name: str, configs: dict[str, str]) -> Topic:
    configs = {"min.insync.replicas": random.choice(("1", "2", "2", "2")), **configs}
    if random.random() < 0.4:
        configs["segment.bytes"] = random.choice(("600", "2000"))
    if "cleanup.policy" in configs:
        configs |= {"segment.bytes": "1000", "min.cleanable.dirty.ratio": "0.1", "delete.retention.ms": "1000"}
    return Topic(name, random.choice((1, 2)), 3, configs)
