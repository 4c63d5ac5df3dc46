"""A broker that joins the cluster, takes over replicas, gives them back and leaves, while other faults go on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from chaos.cluster import POLL_SECONDS
from chaos.fault_runner import Arena, Note, Passed
from chaos.nemesis import PlannedFault
from klamm.client import Admin
from klamm.deploy.errors import WaitTimeoutError
from klamm.deploy.layout import NodeSpec
from klamm.proto.broker_pb2 import PartitionDescription
from klamm.proto.errors import KafkaError

Spot = tuple[str, int]
Replicas = Mapping[Spot, Sequence[int]]

_MOVED_SHARE: Final = 0.4
_MOVE_SECONDS_MAX: Final = 240.0
"""Other faults hold a move up."""
_WIPE_SHARE: Final = 0.5


def join_and_leave(arena: Arena, planned: PlannedFault, random: Random, note: Note) -> None:
    """The whole of it. :raises Passed: all brokers there can be are in the cluster."""
    # One at a time: two would each put replicas back to where the other has meanwhile taken them from.
    with arena.claim_thing("membership") as held:
        if not held:
            raise Passed("another broker is coming or going")
        spec = _newcomer(arena)
        note(spec.name, "")
        with arena.claim([spec]) as claimed:
            if not claimed:
                raise Passed(f"{spec.name} is in other hands")
            arena.cluster.spawn([spec])
            arena.cluster.members.add(spec.name)
        arena.cluster.await_unfenced(spec)
        before = {
            spot: list(one.replicas)
            for spot, one in arena.cluster.partitions().items()
            if random.random() < _MOVED_SHARE and spec.node_id not in one.replicas
        }
        there = {spot: _with(replicas, spec.node_id, random) for spot, replicas in before.items()}
        if _moved(arena, there):
            arena.say(f"fault {planned.number}: {spec.name} has {len(there)} replicas")
            arena.pause(planned.duration_s)
        if _moved(arena, before):
            _leave(arena, spec, wipe=random.random() < _WIPE_SHARE)
        else:
            arena.say(f"fault {planned.number}: {spec.name} stays")


def _newcomer(arena: Arena) -> NodeSpec:
    for spec in arena.cluster.layout.brokers:
        if spec.name not in arena.cluster.members:
            return spec
    raise Passed("every broker there can be is in the cluster")


def _with(replicas: Sequence[int], newcomer: int, random: Random) -> list[int]:
    """One of them, the preferred leader at times, makes room for the newcomer."""
    changed = list(replicas)
    changed[random.randrange(len(changed))] = newcomer
    return changed


def _moved(arena: Arena, wanted: Replicas) -> bool:
    """Moves the partitions, and waits until each has exactly these replicas; False if that takes too long.

    It may, while other faults go on. What is under way must have come to its end when the campaign is over: that the
    cluster is whole then is asked by who ends it.
    """

    def asked() -> bool:
        try:
            with _admin(arena) as admin:
                admin.alter_partition_reassignments(wanted, timeout_ms=5000)
        except KafkaError:
            return False  # nobody is there to take it, or it may have been taken: it is asked for again
        return True

    def done() -> bool:
        partitions = arena.cluster.partitions()
        if all(_is_at(partitions.get(spot), replicas) for spot, replicas in wanted.items()):
            return True
        if not any(one.adding_replicas or one.removing_replicas for one in partitions.values()) and partitions:
            asked()  # it was asked for in vain, or of a controller that then was none
        return False

    if not wanted:
        return True
    asked()
    deadline = time.monotonic() + _MOVE_SECONDS_MAX
    while not done():
        if time.monotonic() >= deadline or arena.ending.wait(POLL_SECONDS):
            return False
    return True


def _is_at(partition: PartitionDescription | None, replicas: Sequence[int]) -> bool:
    return (
        partition is not None
        and list(partition.replicas) == list(replicas)
        and not partition.adding_replicas
        and not partition.removing_replicas
    )


def _leave(arena: Arena, spec: NodeSpec, *, wipe: bool) -> None:
    with arena.claim([spec]) as claimed:
        if not claimed:
            raise WaitTimeoutError(f"{spec.name} cannot leave: it is in other hands")
        holds = [spot for spot, one in arena.cluster.partitions().items() if spec.node_id in one.replicas]
        if holds:
            return  # a topic of the cluster's own came to be meanwhile, with a replica there: it stays
        arena.cluster.stop_node(spec)
        arena.cluster.members.discard(spec.name)

        def unregistered() -> bool:
            try:
                with _admin(arena) as admin:
                    admin.unregister_broker(spec.node_id, timeout_ms=5000)
            except KafkaError:
                cluster = arena.cluster.observer.cluster()
                return cluster is not None and spec.node_id not in {broker.broker_id for broker in cluster.brokers}
            return True

        arena.cluster.wait_until(unregistered, timeout_s=_MOVE_SECONDS_MAX, what=f"{spec.name} to be unregistered")
        if wipe:
            arena.cluster.remove_data(spec)


def _admin(arena: Arena) -> Admin:
    return Admin(bootstrap_servers=arena.cluster.layout.bootstrap_servers, request_timeout_ms=5000)
