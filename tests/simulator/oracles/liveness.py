"""Whether a cluster is well again: what must come true some time after all faults have ended."""

from __future__ import annotations

from klamm.broker.groups.group_request import GroupState
from klamm.broker.groups.shard import ShardState
from klamm.broker.partition import Partition
from klamm.cluster.image import MetadataImage, PartitionImage
from klamm.controller.raft_contract import RaftRole
from simulator.oracles.sight import replicas, serving_server
from simulator.world import World


def what_is_missing(world: World) -> str | None:
    """One sentence on the first thing that is not as it should be; None: all is."""
    return _controllers(world) or _brokers(world) or _partitions(world) or _groups(world)


def _image(world: World) -> MetadataImage:
    images = [node.server._machine.image for node in world.controllers.values() if node.server is not None]
    return max(images, key=lambda image: image.end_offset)


def _controllers(world: World) -> str | None:
    cores = {}
    for node in world.controllers.values():
        if not node.running or node.server is None or node.server._raft._core is None:
            return f"{node.name} does not run"
        cores[node.name] = node.server._raft._core
    if sum(core.role is RaftRole.LEADER for core in cores.values()) != 1:
        return f"the controllers have not one leader: {[core.role.value for core in cores.values()]}"
    applied = {name: core.last_applied for name, core in cores.items()}
    return None if len(set(applied.values())) == 1 else f"the controllers have applied {applied}"


def _brokers(world: World) -> str | None:
    image = _image(world)
    for node in world.brokers.values():
        server = serving_server(node)
        if not node.serving or server is None:
            return f"{node.name} does not serve"
        if not image.is_active(node.broker_id):  # type: ignore[arg-type]
            return f"{node.name} is not active: {image.brokers.get(node.broker_id)}"  # type: ignore[call-overload]
        if server._metadata.image.end_offset != image.end_offset:
            return f"{node.name} acts on metadata up to {server._metadata.image.end_offset} of {image.end_offset}"
    return None


def _partitions(world: World) -> str | None:
    hosted: dict[tuple[object, int], list[Partition]] = {}
    for node in world.brokers.values():
        for partition in replicas(node):
            key = partition.topic_id_partition
            hosted.setdefault((key.topic_id, key.partition), []).append(partition)
    for topic, state in _image(world).partitions():
        problem = _partition(state, hosted.get((state.topic_id, state.partition), []))
        if problem is not None:
            return f"{topic.name}-{state.partition} {problem}: {state}"
    return None


def _partition(state: PartitionImage, found: list[Partition]) -> str | None:
    if state.leader is None:
        return "has no leader"
    if state.reassigning:
        return "is still being reassigned"
    if state.recovering:
        return "is still recovering"
    if len(state.isr) != len(state.replicas):
        return "is not in sync"
    if len(found) != len(state.replicas):
        return f"is on brokers {sorted(partition.host.broker_id for partition in found)}"
    ends = {int(partition.host.broker_id): int(partition.log.log_end_offset) for partition in found}
    if len(set(ends.values())) != 1:
        return f"ends at {ends}"
    high_watermarks = {int(partition.host.broker_id): int(partition.high_watermark) for partition in found}
    if set(high_watermarks.values()) != set(ends.values()):
        return f"ends at {ends} and has the high watermarks {high_watermarks}"
    return None


def _groups(world: World) -> str | None:
    for node in world.brokers.values():
        server = serving_server(node)
        for shard in () if server is None else server._groups._shards.values():
            if shard.state is not ShardState.ACTIVE:
                return f"{node.name} does not coordinate {shard} yet"
            for group_id, entry in shard.entries.items():
                if entry.group.state not in (GroupState.STABLE, GroupState.EMPTY, GroupState.DEAD):
                    return f"group {group_id} is {entry.group.state} at {node.name}"
    return None
