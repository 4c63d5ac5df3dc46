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
    "network": (
        "cut",
        "cut_one_way",
        "isolate",
        "cut_controllers",
        "ring",
        "slow",
        "reset",
        "left_behind",
        "mend",
        "mend",
        "calm",
    ),
    "pauses": ("pause_broker", "pause_controller", "pause_broker", "resume", "resume", "crash_client", "restart"),
    "quorum": ("kill_active", "kill_active", "pause_active", "restart", "restart", "deposed", "power_controller"),
    "clients": (
        "pause_client",
        "cut_client",
        "strand_clients",
        "crash_client",
        "add_client",
        "stale_members",
        "second_sync",
        "mend",
    ),
    "power": (
        "power_broker",
        "power_broker",
        "power_controller",
        "restart",
        "kill_broker",
        "power_all",
        "stop_and_power",
    ),
    "operator": (
        "reassign",
        "preferred",
        "min_isr",
        "stop_broker",
        "restart",
        "add_broker",
        "add_partitions",
        "calm",
        "stale_isr",
    ),
    "topics": ("delete_topic", "create_topic", "retention", "compaction", "kill_broker", "restart", "stalled"),
    "unclean": ("forsaken", "compaction", "unclean", "kill_broker", "restart", "cut", "mend"),
    "disks": ("disk_write_fails", "disk_sync_fails", "disk_full", "disk_heals", "restart", "kill_broker", "bit_flip"),
    "clocks": ("clock_jump", "clock_jump", "kill_broker", "restart", "cut", "mend", "calm"),
}
SCRIPTS: Final[Mapping[str, tuple[tuple[int, str], ...]]] = {
    # Faults that say something only one after the other, with how long each comes after the one before, in ms.
    # Who led the quorum leads again while what it was told in its first term is still under way.
    "deposed": ((0, "strand_controllers"), (400, "pause_active"), (2_800, "kill_active"), (300, "restart"),
                (2_500, "calm")),
    # Clients come back to a leader that was replaced long ago and has not heard of it.
    "left_behind": ((0, "leave_behind"), (5_500, "turn_back"), (4_000, "mend"), (300, "calm")),
    # Requests of one generation of a group arrive in the next one.
    # The leader of a group hands its assignment in again while the first one is not committed.
    "second_sync": ((0, "add_client"), (400, "cut_brokers"), (300, "reset_clients"), (300, "reset_clients"),
                    (300, "reset_clients"), (200, "mend"), (300, "calm")),
    # Leaders have much that is not committed, and retention and compaction look at it.
    "stalled": ((0, "retention_tight"), (200, "cut_brokers"), (1_700, "mend"), (300, "calm")),
    # One that was alone in the ISR is gone, and another leads without what it had.
    "forsaken": ((0, "min_isr_one"), (100, "cut_leader_off"), (2_500, "kill_leader"), (0, "mend"),
                 (2_200, "unclean"), (500, "restart"), (1_000, "calm")),
    # A leader's ISR change is on its way while the controllers change the partition.
    "stale_isr": ((0, "slow_leader"), (50, "cut_leader_off"), (500, "reassign"), (400, "reassign"), (400, "reassign"),
                  (0, "mend")),
    "stale_members": ((0, "add_client"), (700, "strand_clients"), (0, "add_client"), (1_000, "strand"),
                      (500, "add_client"), (1_500, "calm")),
}  # fmt: skip
BROKER_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    # What runs every few minutes in life would not run at all in the seconds of a run.
    "replica.lag.time.max.ms": ("500", "2000", "10000"),
    "log.retention.check.interval.ms": ("300", "300000"),
    "log.cleaner.backoff.ms": ("200", "15000"),
    "group.min.session.timeout.ms": ("1000",),
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
        kind, choice = random.choice(kinds), random.getrandbits(32)
        for pause_ms, step in SCRIPTS.get(kind, ((0, kind),)):
            at_ms += pause_ms
            faults.append(Fault(at_ms, step, choice))
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
