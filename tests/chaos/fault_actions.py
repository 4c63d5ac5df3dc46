"""What each kind of fault does, and how it heals. Every function returns when all is as it was."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from chaos.broker_membership import join_and_leave
from chaos.cuts import both_ways, deafness, halves, isolation, majority_ring, muteness
from chaos.fault_runner import Action, Arena, Note, Passed
from chaos.fleet import HOST
from chaos.nemesis import FaultKind, PlannedFault
from chaos.network import Way
from klamm.deploy.layout import BROKER, CONTROLLER, NodeSpec

_CLOCK_SHIFTS_S: Final = (-3600, -120, -30, -5, 5, 30, 120, 3600)
_DISK_LEAVE_BYTES_MAX: Final = 300_000


def do_fault(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    """Does the fault that was planned. :raises Passed: it cannot be done now."""
    _ACTIONS[planned.kind](arena, planned, random, note)


# --- processes -----------------------------------------------------------------------------------------------------


def _kill(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    victim = _victim(arena, planned.kind, random)
    with arena.claim([victim]) as held:
        if not held or not arena.cluster.is_running(victim):
            raise Passed(f"{victim.name} is in other hands")
        note(victim.name, "")
        arena.cluster.kill(victim)
        arena.pause(planned.duration_s)
        arena.cluster.spawn([victim])


def _pause(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    victim = _victim(arena, planned.kind, random)
    with arena.claim([victim]) as held:
        if not held or not arena.cluster.is_running(victim):
            raise Passed(f"{victim.name} is in other hands")
        note(victim.name, "")
        arena.cluster.processes.pause(victim)
        try:
            arena.pause(planned.duration_s)
        finally:
            arena.cluster.processes.resume(victim)


def _kill_all(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    with arena.claim(arena.cluster.layout.nodes) as held:
        if not held:
            raise Passed("some nodes are in other hands")
        victims = list(arena.cluster.member_specs)
        random.shuffle(victims)
        note("all nodes", "")
        for victim in victims:
            arena.cluster.kill(victim)
        arena.pause(planned.duration_s)
        arena.cluster.spawn(victims)


def _rolling_restart(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    noted = False
    for spec in arena.cluster.member_specs:
        if arena.ending.is_set():
            break  # the rest of them are spared
        with arena.claim([spec]) as held:
            if not held or spec.name not in arena.cluster.members:
                continue
            if not noted:
                note("all nodes, one after another", "")
                noted = True
            arena.cluster.stop_node(spec)
            arena.cluster.spawn([spec])
            if spec.role == BROKER:
                arena.cluster.await_unfenced(spec)
        arena.pause(planned.duration_s)


def _kill_client(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    note(arena.fleet.kill_one(random), "")


# --- links ---------------------------------------------------------------------------------------------------------


def _cut(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    target, detail, ways = _ways(arena, planned.kind, random)
    note(target, detail)
    try:
        arena.cut(planned.number, ways)
        arena.pause(planned.duration_s)
    finally:
        arena.cut(planned.number, frozenset())


def _ways(arena: Arena, kind: FaultKind, random: Random) -> tuple[str, str, frozenset[Way]]:
    """Whom the cut hits, more about it, and what is cut."""
    nodes = [spec.name for spec in arena.cluster.member_specs]
    # Half of the time the clients are on the wrong side of the cut, too.
    hosts = [*nodes, HOST] if random.random() < 0.5 else nodes
    beside = "clients too" if HOST in hosts else "clients still reach it"
    match kind:
        case FaultKind.CUT_OFF:
            node = random.choice(nodes)
            return node, beside, isolation(node, hosts)
        case FaultKind.CUT_ONE_WAY:
            node = random.choice(nodes)
            if random.random() < 0.5:
                return node, f"it hears nobody; {beside}", deafness(node, hosts)
            return node, f"nobody hears it; {beside}", muteness(node, hosts)
        case FaultKind.CUT_HALVES | FaultKind.CUT_MAJORITY_RING:
            random.shuffle(hosts)
            if kind is FaultKind.CUT_MAJORITY_RING:
                return "all nodes", f"ring: {', '.join(hosts)}", majority_ring(hosts)
            middle = len(hosts) // 2
            return "all nodes", f"{', '.join(hosts[:middle])} | {', '.join(hosts[middle:])}", halves(hosts)
    leader, followers = _leader_and_followers(arena, random)
    if kind is FaultKind.CUT_LEADER_FROM_FOLLOWERS:
        return leader.name, f"not heard by {', '.join(followers)}", both_ways([leader.name], followers)
    controllers = [spec.name for spec in arena.cluster.layout.controllers]
    return leader.name, "its followers still reach it", both_ways([leader.name], controllers)


def _slow_link(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    node = random.choice(arena.cluster.member_specs)
    with arena.claim_thing(f"link of {node.name}") as held:
        if not held:
            raise Passed(f"the link of {node.name} is slow already")
        note(node.name, arena.network.slow_down(node.name, random.random()))
        try:
            arena.pause(planned.duration_s)
        finally:
            arena.network.speed_up(node.name)


# --- disks and clocks ----------------------------------------------------------------------------------------------


def _fill_disk(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    brokers = [spec for spec in arena.cluster.first_brokers if arena.cluster.disks[spec.name].can_fill]
    node = random.choice(brokers)
    disk = arena.cluster.disks[node.name]
    # One full disk at a time: with two the partitions could take nothing, which is right, and shows nothing more.
    with arena.claim_thing("disks") as held:
        if not held:
            raise Passed("another disk is full")
        left = random.randint(0, _DISK_LEAVE_BYTES_MAX)
        note(node.name, f"{left} bytes left")
        try:
            disk.fill(left)
            arena.pause(planned.duration_s)
        finally:
            disk.free()


def _move_clock(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    node = random.choice(arena.cluster.member_specs)
    with arena.claim_thing(f"clock of {node.name}") as held:
        if not held:
            raise Passed(f"the clock of {node.name} is wrong already")
        seconds = random.choice(_CLOCK_SHIFTS_S)
        note(node.name, f"{seconds:+d} s")
        try:
            arena.cluster.clocks.set(node.name, seconds)
            arena.pause(planned.duration_s)
        finally:
            arena.cluster.clocks.set(node.name, 0)


# --- whom to hit ---------------------------------------------------------------------------------------------------


def _victim(arena: Arena, kind: FaultKind, random: Random) -> NodeSpec:
    members = arena.cluster.member_specs
    match kind:
        case FaultKind.KILL_LEADER | FaultKind.PAUSE_LEADER:
            return _leader_and_followers(arena, random)[0]
        case FaultKind.KILL_ACTIVE_CONTROLLER:
            active = arena.cluster.active_controller()
            return _one_of(arena, [spec for spec in members if spec.name == active], random)
        case FaultKind.KILL_CONTROLLER | FaultKind.PAUSE_CONTROLLER:
            return _one_of(arena, [spec for spec in members if spec.role == CONTROLLER], random)
    return _one_of(arena, [spec for spec in members if spec.role == BROKER], random)


def _one_of(arena: Arena, specs: Sequence[NodeSpec], random: Random) -> NodeSpec:
    free = arena.free(specs)
    if not free:
        raise Passed("no such node is free")
    return random.choice(free)


def _leader_and_followers(arena: Arena, random: Random) -> tuple[NodeSpec, list[str]]:
    """The leader of some partition, and the names of its followers."""
    led = [one for _, one in sorted(arena.cluster.partitions().items()) if one.leader_id >= 0]
    if not led:
        raise Passed("nobody is known to lead")
    partition = random.choice(led)
    followers = [f"{BROKER}-{replica}" for replica in partition.replicas if replica != partition.leader_id]
    return arena.cluster.layout.node(partition.leader_id), followers


_ACTIONS: Final[dict[FaultKind, Action]] = {
    FaultKind.KILL_BROKER: _kill,
    FaultKind.KILL_LEADER: _kill,
    FaultKind.KILL_CONTROLLER: _kill,
    FaultKind.KILL_ACTIVE_CONTROLLER: _kill,
    FaultKind.KILL_ALL: _kill_all,
    FaultKind.ROLLING_RESTART: _rolling_restart,
    FaultKind.PAUSE_BROKER: _pause,
    FaultKind.PAUSE_LEADER: _pause,
    FaultKind.PAUSE_CONTROLLER: _pause,
    FaultKind.CUT_OFF: _cut,
    FaultKind.CUT_ONE_WAY: _cut,
    FaultKind.CUT_HALVES: _cut,
    FaultKind.CUT_MAJORITY_RING: _cut,
    FaultKind.CUT_LEADER_FROM_CONTROLLERS: _cut,
    FaultKind.CUT_LEADER_FROM_FOLLOWERS: _cut,
    FaultKind.SLOW_LINK: _slow_link,
    FaultKind.FILL_DISK: _fill_disk,
    FaultKind.BROKER_JOINS_AND_LEAVES: join_and_leave,
    FaultKind.MOVE_CLOCK: _move_clock,
    FaultKind.KILL_CLIENT: _kill_client,
}
