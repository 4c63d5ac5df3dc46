"""The faults of a run: each does one thing to a world. None goes beyond what the promises are made for.

A power cut of all replicas of a partition at once may lose what was acked, as with Kafka: `power_broker` spares the
last holder. What a fault needs and does not find (a stopped broker to start) makes it do nothing, and say so.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from random import Random
from typing import Any, Final

from klamm.client import AsyncAdmin, NewTopic, TopicPartition
from klamm.client.structs import ConfigResource, ConfigResourceType
from klamm.cluster.image import MetadataImage
from klamm.proto.errors import KafkaError
from simulator.ledger import Place
from simulator.network import End
from simulator.process import Process
from simulator.world import BrokerNode, ControllerNode, Node, World

Inject = Callable[[World, Random], Awaitable[None] | None]
TOPICS: Final = ("t", "compacted")
CLEAN_MARKER: Final = "/simulated/broker/.kafka_cleanshutdown"


def image_of(world: World) -> MetadataImage:
    """The newest that any running controller or broker has."""
    images = [node.server._machine.image for node in world.controllers.values() if node.server is not None]
    images += [broker.server._metadata.image for broker in world.brokers.values() if broker.serving and broker.server]
    return max(images, key=lambda image: image.end_offset, default=MetadataImage.empty())


def running(nodes: dict[int, Any]) -> list[Any]:
    return [node for node in nodes.values() if node.running]


# --- processes -----------------------------------------------------------------------------------------------


def kill_broker(world: World, random: Random) -> None:
    if found := running(world.brokers):
        random.choice(found).kill()


def kill_controller(world: World, random: Random) -> None:
    if found := running(world.controllers):
        random.choice(found).kill()


def kill_all(world: World, random: Random) -> None:
    for node in world.nodes:
        node.kill()


def restart(world: World, random: Random) -> None:
    """Starts one that is down; more often than not all of them."""
    down = [node for node in world.nodes if not node.running]
    for node in down if random.random() < 0.6 else down[:1]:
        node.start()


def stop_broker(world: World, random: Random) -> None:
    """SIGTERM."""
    if found := [broker for broker in running(world.brokers) if broker.serving]:
        random.choice(found).request_stop()


def _pause(world: World, node: Node, random: Random, seconds: tuple[float, ...] = (0.1, 0.5, 1.5, 4.0)) -> None:
    node.pause()
    process = node.process

    def go_on() -> None:
        if node.process is process:
            node.resume()

    world.loop.call_later(random.choice(seconds), go_on)


def pause_broker(world: World, random: Random) -> None:
    if found := running(world.brokers):
        _pause(world, random.choice(found), random)


def pause_controller(world: World, random: Random) -> None:
    if found := running(world.controllers):
        _pause(world, random.choice(found), random)


def crash_client(world: World, random: Random) -> None:
    world.crash_client(random)


def resume(world: World, _: Random) -> None:
    for node in world.nodes:
        node.resume()


def _active(world: World) -> ControllerNode | None:
    """The controller that leads the quorum, as it thinks itself; the newest where several do."""
    cores = [
        (node.server._raft._core.term, node)
        for node in world.controllers.values()
        if node.running and node.server is not None and node.server._raft._core is not None
        if node.server._raft._core._leads()
    ]
    return max(cores, key=lambda each: each[0], default=(0, None))[1]


def kill_active(world: World, _: Random) -> None:
    """The controller that leads."""
    if (node := _active(world)) is not None:
        node.kill()


def pause_active(world: World, random: Random) -> None:
    """For longer than the others wait for it."""
    if (node := _active(world)) is not None:
        _pause(world, node, random, (1.5, 2.5, 2.5))


# --- clients -------------------------------------------------------------------------------------------------


def pause_client(world: World, random: Random) -> None:
    """SIGSTOP; when it goes on, its group may have gone on without it."""
    if found := [client for client in world.clients() if not client.paused]:
        client = random.choice(found)
        world.transcript.note(f"pause {client}")
        client.paused = True
        world.loop.call_later(random.choice((0.3, 1.0, 2.5)), _resume_client, world, client)


def _resume_client(world: World, client: Process) -> None:
    if client.paused:
        world.transcript.note(f"resume {client}")
        client.paused = False
        if client.alive:
            world.loop.resume(client.held)


def add_client(world: World, random: Random) -> None:
    """Another member for one of the groups: they rebalance."""
    world.add_client(random)


# --- power ---------------------------------------------------------------------------------------------------


def _may_lose_its_disk(world: World, victim: BrokerNode) -> bool:
    """True if each partition has another in its ISR that runs and has not lost anything since it was registered."""
    image = image_of(world)
    safe = {
        broker.broker_id
        for broker in world.brokers.values()
        if broker is not victim and broker.serving and broker.epoch > broker.lost_data_in_epoch
    }
    return all(safe & set(partition.isr) for _, partition in image.partitions())


def power_broker(world: World, random: Random) -> None:
    """It may lose what it acked, so long as another in the ISR of each partition does not (rule 19)."""
    found = [broker for broker in running(world.brokers) if _may_lose_its_disk(world, broker)]
    if found:
        broker = random.choice(found)
        broker.cut_power()
        if random.random() < 0.5:
            broker.start()


def stop_and_power(world: World, random: Random) -> None:
    """SIGTERM, and a power cut once the process has ended in good order: then all that it had is on its disk."""
    found = [broker for broker in running(world.brokers) if broker.serving]
    if found:
        broker = random.choice(found)
        process = broker.process
        assert process is not None
        broker.request_stop()

        async def cut_power() -> None:
            await world.until(lambda: not process.alive, f"{broker.name} stops", 300)
            if broker.process is process and CLEAN_MARKER in broker.disk.files:
                world.transcript.note(f"power {broker.name} after its stop")
                broker.disk.power_cut(world.disk_random)

        world.tasks.append(world.loop.create_task(cut_power()))


def power_controller(world: World, random: Random) -> None:
    if found := running(world.controllers):
        random.choice(found).cut_power()


def power_all(world: World, _: Random) -> None:
    """Of the controllers: what they have acked is on their disks. The brokers are killed."""
    for controller in world.controllers.values():
        controller.cut_power()
    for broker in running(world.brokers):
        broker.kill()


# --- the network ---------------------------------------------------------------------------------------------


def _cut_both(world: World, one: Node, other: Node) -> None:
    world.transcript.note(f"cut {one.name} {other.name}")
    world.network.cut(one.host, other.host)
    world.network.cut(other.host, one.host)


def cut(world: World, random: Random) -> None:
    _cut_both(world, *random.sample(world.nodes, 2))


def cut_one_way(world: World, random: Random) -> None:
    one, other = random.sample(world.nodes, 2)
    world.transcript.note(f"cut_one_way {one.name} {other.name}")
    world.network.cut(one.host, other.host)


def isolate(world: World, random: Random) -> None:
    victim = random.choice(world.nodes)
    for other in world.nodes:
        if other is not victim:
            _cut_both(world, victim, other)


def cut_controllers(world: World, random: Random) -> None:
    """A broker that leads sees its followers, but no controller."""
    image = image_of(world)
    leaders = [world.brokers[p.leader] for _, p in image.partitions() if p.leader is not None]
    victim = random.choice(leaders or list(world.brokers.values()))
    for controller in world.controllers.values():
        _cut_both(world, victim, controller)


def _left_behind(world: World) -> BrokerNode | None:
    """A broker that hears no other node."""
    for broker in world.brokers.values():
        if all(world.network.is_cut(other.host, broker.host) for other in world.nodes if other is not broker):
            return broker
    return None


def leave_behind(world: World, random: Random) -> None:
    """A leader, by all other nodes and by the clients: another leads on without its hearing of it."""
    image = image_of(world)
    leaders = [world.brokers[p.leader] for _, p in image.partitions() if p.leader is not None]
    victim = random.choice(leaders or list(world.brokers.values()))
    for other in world.nodes:
        if other is not victim:
            _cut_both(world, victim, other)
    for client in world.clients():
        world.network.cut(client.host, victim.host)
        world.network.cut(victim.host, client.host)


def turn_back(world: World, _: Random) -> None:
    """The clients reach the broker that was left behind, and no other."""
    if (victim := _left_behind(world)) is None:
        return
    world.transcript.note(f"turn_back {victim.name}")
    for client in world.clients():
        world.network.mend(((client.host, victim.host), (victim.host, client.host)))
        for other in world.brokers.values():
            if other is not victim:
                world.network.cut(client.host, other.host)
                world.network.cut(other.host, client.host)


def ring(world: World, random: Random) -> None:
    """Everyone sees a majority, and no two the same one."""
    for nodes in (list(world.controllers.values()), list(world.brokers.values())):
        order: list[Node] = random.sample(nodes, len(nodes))
        half = len(order) // 2
        for place, node in enumerate(order):
            if len(order) > 2 and half:
                _cut_both(world, node, order[(place + half) % len(order)])
                break  # with three nodes one cut makes the ring


def cut_client(world: World, random: Random) -> None:
    """From some of the brokers, both ways or one."""
    if found := world.clients():
        client = random.choice(found)
        for broker in random.sample(list(world.brokers.values()), random.randint(1, len(world.brokers))):
            world.transcript.note(f"cut {client} {broker.name}")
            ways = [(client.host, broker.host), (broker.host, client.host)]
            for source, target in random.choice((ways, ways, ways[:1], ways[1:])):
                world.network.cut(source, target)


def strand(world: World, random: Random) -> None:
    """What was sent on some connections arrives long after they were given up, and others took their place."""
    found = world.network.connections()
    _strand(world, random, random.sample(found, min(len(found), random.choice((3, 10, len(found))))))


def strand_clients(world: World, random: Random) -> None:
    clients = {client.host for client in world.clients()}
    _strand(world, random, [end for end in world.network.connections() if end.host in clients])


def strand_controllers(world: World, random: Random) -> None:
    """Those on which controllers talk to the one that leads."""
    active, hosts = _active(world), {node.host for node in world.controllers.values()}
    if active is not None:
        ends = [end for end in world.network.connections() if end.host in hosts and end.peer.host == active.host]
        _strand(world, random, ends, late_s=5.0)


def cut_brokers(world: World, _: Random) -> None:
    """From one another, and from nobody else: nothing is replicated."""
    for one, other in itertools.combinations(world.brokers.values(), 2):
        _cut_both(world, one, other)


def reset_clients(world: World, _: Random) -> None:
    """All their connections, at once."""
    clients = {client.host for client in world.clients()}
    world.transcript.note("reset clients")
    for end in world.network.connections():
        if end.host in clients:
            world.network.reset(end)


def _strand(world: World, random: Random, ends: Iterable[End], late_s: float | None = None) -> None:
    for end in ends:
        world.transcript.note(f"strand {end.process} {end.peer.process}")
        late = random.choice((0.5, 1.5, 3.0)) if late_s is None else late_s
        world.network.strand(end, random.choice((0.02, 0.1, 0.4)) if late_s is None else 0.5, late)


def slow(world: World, random: Random) -> None:
    node = random.choice(world.nodes)
    world.transcript.note(f"slow {node.name}")
    world.network.slow_hosts[node.host] = random.choice((5.0, 50.0, 300.0))


def reset(world: World, random: Random) -> None:
    found = world.network.connections()
    for end in random.sample(found, min(len(found), random.choice((1, 3, 10)))):
        world.transcript.note(f"reset {end.process} {end.peer.process}")
        world.network.reset(end)


def mend(world: World, _: Random) -> None:
    world.transcript.note("mend")
    world.network.slow_hosts.clear()
    world.network.mend()


# --- disks and clocks ----------------------------------------------------------------------------------------


def disk_write_fails(world: World, random: Random) -> None:
    broker = random.choice(list(world.brokers.values()))
    world.transcript.note(f"disk_write_fails {broker.name}")
    broker.disk.fail_next(
        "pwrite", random.choice((errno.EIO, errno.ENOSPC)), path_end=".log", skip=random.choice((0, 5))
    )


def disk_sync_fails(world: World, random: Random) -> None:
    broker = random.choice(list(world.brokers.values()))
    world.transcript.note(f"disk_sync_fails {broker.name}")
    broker.disk.fail_next("sync", errno.EIO, path_end=".log")


def disk_full(world: World, random: Random) -> None:
    broker = random.choice(list(world.brokers.values()))
    world.transcript.note(f"disk_full {broker.name}")
    broker.disk.capacity = broker.disk.used + random.choice((0, 100, 2_000))


def disk_heals(world: World, _: Random) -> None:
    for broker in world.brokers.values():
        broker.disk.heal()


def bit_flip(world: World, random: Random) -> None:
    """In a follower's log, of a partition that two others hold."""
    image = image_of(world)
    found = [
        (world.brokers[follower], partition)
        for _, partition in image.partitions()
        if len(partition.isr) >= 3
        for follower in partition.isr
        if follower != partition.leader
    ]
    if not found:
        return
    broker, partition = random.choice(found)
    topic = next((name for name, each in image.topics.items() if each.topic_id == partition.topic_id), None)
    folder = f"/simulated/broker/{topic}-{partition.partition}/"
    paths = sorted(path for path in broker.disk.files if path.startswith(folder) and path.endswith(".log"))
    sizes = [(path, len(broker.disk.files[path].data)) for path in paths]
    sizes = [(path, size) for path, size in sizes if size]
    if sizes:
        path, size = random.choice(sizes)
        world.transcript.note(f"bit_flip {broker.name} {path}")
        broker.disk.flip_bit(path, random.randrange(size * 8))


def clock_jump(world: World, random: Random) -> None:
    """Of the wall clock; the monotonic one does not jump."""
    if found := [node for node in world.nodes if node.running]:
        node = random.choice(found)
        assert node.process is not None
        by_ms = random.choice((-3_600_000, -5_000, 5_000, 3_600_000, 40 * 86_400_000))
        world.transcript.note(f"clock_jump {node.name} by_ms={by_ms}")
        node.process.wall_offset_ms += by_ms


# --- the operator --------------------------------------------------------------------------------------------


def _operate(world: World, what: str, work: Callable[[AsyncAdmin], Coroutine[Any, Any, Any]]) -> None:
    """Has an operator do it, who does not care whether it succeeds."""
    world.transcript.note(what)

    async def operate() -> None:
        admin = AsyncAdmin(bootstrap_servers=world.bootstrap_servers, request_timeout_ms=3_000)
        try:
            await work(admin)
        except KafkaError as error:
            world.transcript.note(f"refused {what} error={type(error).__name__}")
        finally:
            await admin.close()

    operator = world.client("operator", 250)
    world.tasks.append(operator.run(lambda: world.loop.create_task(operate())))


def reassign(world: World, random: Random) -> None:
    topic = random.choice(TOPICS)
    replicas = random.sample(sorted(world.brokers), min(len(world.brokers), random.choice((2, 3))))
    partition = TopicPartition(topic, 0)
    _operate(world, f"reassign {topic}-0 {replicas}", lambda a: a.alter_partition_reassignments({partition: replicas}))


def preferred(world: World, _: Random) -> None:
    _operate(world, "preferred", lambda admin: admin.elect_leaders())


def _configure(world: World, topic: str, configs: dict[str, str | None]) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs)
    _operate(world, f"configure {topic} {configs}", lambda admin: admin.alter_configs([resource]))


def min_isr(world: World, random: Random) -> None:
    _configure(world, random.choice(TOPICS), {"min.insync.replicas": random.choice(("1", "2", "3", None))})


def retention(world: World, random: Random) -> None:
    _configure(world, "t", {"retention.bytes": random.choice(("2000", "-1")), "segment.bytes": "500"})


def retention_tight(world: World, _: Random) -> None:
    """Of all that is committed almost nothing stays."""
    _configure(world, "t", {"retention.bytes": "500", "segment.bytes": "500"})


def compaction(world: World, random: Random) -> None:
    _configure(world, "compacted", {"min.cleanable.dirty.ratio": random.choice(("0.01", "0.5"))})


def min_isr_one(world: World, _: Random) -> None:
    for topic in TOPICS:
        _configure(world, topic, {"min.insync.replicas": "1"})


def _leader(world: World, random: Random) -> BrokerNode | None:
    """Of one of the partitions; the same for the same fault's choice."""
    topic = random.choice(("t", "compacted", "compacted"))
    found = image_of(world).topics.get(topic)
    leader = None if found is None else found.partitions[0].leader
    return None if leader is None else world.brokers[leader]


def cut_leader_off(world: World, random: Random) -> None:
    """From the other brokers; the controllers still reach it."""
    if (leader := _leader(world, random)) is not None:
        for other in world.brokers.values():
            if other is not leader:
                _cut_both(world, leader, other)


def slow_leader(world: World, random: Random) -> None:
    if (leader := _leader(world, random)) is not None:
        world.transcript.note(f"slow {leader.name}")
        world.network.slow_hosts[leader.host] = 300.0


def kill_leader(world: World, random: Random) -> None:
    if (leader := _leader(world, random)) is not None:
        leader.kill()


def unclean(world: World, _: Random) -> None:
    """Wherever nobody leads, somebody is to, at the price of data."""
    ledger, now_s = world.ledger, world.loop.time()
    for topic, partition in image_of(world).partitions():
        if topic.name in TOPICS:
            ledger.unclean[Place(topic.name, partition.partition)] = now_s
    wanted = [TopicPartition(place.topic, place.partition) for place in ledger.unclean]
    _operate(world, "unclean", lambda admin: admin.elect_leaders(wanted, unclean=True))


def add_partitions(world: World, random: Random) -> None:
    _operate(world, "add_partitions t", lambda admin: admin.create_partitions({"t": random.choice((2, 3))}))


def add_broker(world: World, _: Random) -> None:
    if len(world.brokers) < 5:
        world.add_broker().start()


def create_topic(world: World, random: Random) -> None:
    name = "fleeting"
    replicas = min(3, len(world.brokers))
    _operate(world, f"create {name}", lambda admin: admin.create_topics([NewTopic(name, 1, replicas)]))


def delete_topic(world: World, _: Random) -> None:
    _operate(world, "delete fleeting", lambda admin: admin.delete_topics(["fleeting"]))


def calm(_: World, __: Random) -> None:
    """Nothing happens for a while."""


FAULTS: Final[dict[str, Inject]] = {
    function.__name__: function
    for function in (
        *(
            kill_broker,
            kill_controller,
            kill_all,
            restart,
            stop_broker,
            pause_broker,
            pause_controller,
            resume,
            crash_client,
        ),
        *(retention_tight, min_isr_one, cut_leader_off, slow_leader, kill_leader, unclean),
        *(kill_active, pause_active, pause_client, add_client),
        *(cut_client, strand, strand_clients, strand_controllers, cut_brokers, reset_clients),
        *(power_broker, power_controller, power_all, cut, cut_one_way, isolate, cut_controllers, ring, slow, reset),
        *(stop_and_power, leave_behind, turn_back),
        *(mend, disk_write_fails, disk_sync_fails, disk_full, disk_heals, bit_flip, clock_jump, reassign, preferred),
        *(min_isr, retention, compaction, add_partitions, add_broker, create_topic, delete_topic, calm),
    )
}


async def heal(world: World) -> None:
    """Everything that faults did is undone; what is down is started until it stays up."""
    world.transcript.note("heal")
    mend(world, Random(0))
    disk_heals(world, Random(0))
    resume(world, Random(0))
    for client in world.clients():
        _resume_client(world, client)
    deadline = world.loop.time() + 60
    while world.loop.time() < deadline:
        for node in world.nodes:
            if not node.running:
                node.start()
            elif isinstance(node, BrokerNode) and node.serving and _has_failed_log(node):
                node.request_stop()  # an operator who sees a failed log restarts the broker
        await asyncio.sleep(0.5)
        if all(_is_up(node) for node in world.nodes):
            return
    down = [node.name for node in world.nodes if not _is_up(node)]
    raise AssertionError(f"liveness: {down} did not come up within 60 s of healing")


def _is_up(node: Node) -> bool:
    if isinstance(node, BrokerNode):
        return node.running and node.serving and not _has_failed_log(node)
    return node.running and isinstance(node, ControllerNode) and node.server is not None


def _has_failed_log(node: BrokerNode) -> bool:
    assert node.server is not None
    partitions = node.server._replica_manager._partitions.by_key.values()
    return any(partition.failure is not None or partition.log.failure is not None for partition in partitions)
