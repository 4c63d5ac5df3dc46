"""The clients of a run, each in a process of its own: they write what they were told into the ledger, and nothing else
counts. Clients of the SDK; those over Kafka's protocol are in kafka_clients.py.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Coroutine
from random import Random
from typing import Any

from klamm.client import AsyncConsumer, AsyncProducer, ConsumerRebalanceListener, TopicPartition
from klamm.proto.errors import KafkaError
from simulator.kafka_clients import kafka_assigned_consumer, kafka_group_member, kafka_producer
from simulator.ledger import Place, Send
from simulator.pipelining_producer import pipelining_producer
from simulator.process import Process
from simulator.world import World

KEYS = 8
SESSION_TIMEOUTS_MS = (1_200, 6_000)
PIPELINING = 0.4
WATCHING = 0.4
_MEMBERS_MAX = 5


class Workload:
    """Starts the clients, and ends them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = Random(seed)
        self.stop = asyncio.Event()
        self.tasks: dict[asyncio.Task[None], Process] = {}
        world.crash_client = self.crash
        world.add_client = self.add
        world.clients = lambda: [process for task, process in self.tasks.items() if not task.done()]
        self._work: dict[asyncio.Task[None], Callable[[str], Coroutine[Any, Any, None]]] = {}
        self._hosts = itertools.count(1)
        self._values = itertools.count(1)

    def start(self) -> None:
        """Some of each kind: not all in every run, for a run costs time."""
        random = self.random
        for number in range(random.choice((1, 1, 2))):
            self.run(f"producer-{number}", lambda name: self.produce(name, "t", strong=True))
        if random.random() < 0.7:
            self.run("keeper", lambda name: self.produce(name, "compacted", strong=True))
        if random.random() < 0.5:
            topic = random.choice(("t", "t", "compacted", "fleeting"))
            self.run("careless", lambda name: self.produce(name, topic, strong=False))
        if random.random() < 0.5:
            self.run("reader", lambda name: self.read(name, "t"))
        for number in range(random.choice((0, 0, 1, 2))):
            self.run(f"member-{number}", lambda name: self.take_part(name, "group", ["t", "compacted"]))
        self._start_kafka_clients(random)

    def _start_kafka_clients(self, random: Random) -> None:
        """Those of Kafka's protocol, in a group of their own: aiokafka shares no assignor's name with the SDK."""
        world, stop = self.world, self.stop
        if random.random() < 0.3:
            self.run("kafka-producer", lambda name: kafka_producer(world, name, "t", stop))
        if random.random() < 0.2:
            self.run("kafka-reader", lambda name: kafka_assigned_consumer(world, name, "t", 0, stop))
        if random.random() < 0.2:
            self.run("kafka-member", lambda name: kafka_group_member(world, name, "kafka", ["t", "compacted"], stop))
        # By a number of its own: runs without it are what they were before there was such a client.
        if Random(f"{world.seed} pipelining").random() < PIPELINING:
            self.run("pipelining", lambda name: pipelining_producer(world, name, "t", 0, stop))

        if Random(f"{world.seed} watching").random() < WATCHING:
            self.run(
                "watcher",
                lambda name: self.watch(Random(f"{world.seed} {name}"), ["group", "kafka"], ["t", "compacted"]),
            )

    def run(self, name: str, work: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        """In a new process."""
        process = self.world.client(name, next(self._hosts))
        task: asyncio.Task[None] = process.run(lambda: self.world.loop.create_task(work(name), name=name))
        self.tasks[task] = process
        self._work[task] = work

    def add(self, random: Random) -> None:
        """One more member for a group, if there are not many already."""
        members = [process for process in self.world.clients() if "member" in process.name]
        if len(members) >= _MEMBERS_MAX or self.stop.is_set():
            return
        name = f"member-{next(self._values)}"
        if random.random() < 0.5:
            self.run(name, lambda name: self.take_part(name, "group", ["t", "compacted"]))
        else:
            world, stop = self.world, self.stop
            self.run(f"kafka-{name}", lambda name: kafka_group_member(world, name, "kafka", ["t", "compacted"], stop))

    def crash(self, random: Random) -> None:
        """A client's process is gone, whatever it was doing; another of its kind takes its place."""
        found = [task for task in self.tasks if not task.done()]
        if not found or self.stop.is_set():
            return
        task = random.choice(found)
        process, work = self.tasks.pop(task), self._work.pop(task)
        self.world.transcript.note(f"crash {process}")
        process.alive = False
        self.world.network.died(process)
        for owned in [each for each in self.world.ledger.owned if each.consumer == process.name][-1:]:
            self.world.ledger.owns(owned.group, owned.consumer, frozenset())  # it does nothing with them any more
        self.run(f"{process.name}'", work)

    def check(self) -> None:
        """:raises Exception: what a client failed with."""
        for task in self.tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def end(self) -> None:
        """Until every client has said its last word."""
        self.stop.set()
        await self.world.until(lambda: all(task.done() for task in self.tasks), "clients end", 180)
        self.check()

    # --- producers -------------------------------------------------------------------------------------------

    async def produce(self, name: str, topic: str, *, strong: bool) -> None:
        """Bursts of records with a few keys, to partitions that the partitioner chooses by key."""
        world, random = self.world, Random(self.random.getrandbits(32))
        options = {"acks": "all", "enable_idempotence": True} if strong else {"acks": 1, "enable_idempotence": False}
        producer = AsyncProducer(bootstrap_servers=world.bootstrap_servers, linger_ms=1, **options)
        await producer.start()
        while not self.stop.is_set():
            for _ in range(random.choice((1, 1, 3, 10))):
                await self._send(producer, name, topic, random, strong=strong)
            await asyncio.sleep(random.choice((0.005, 0.05, 0.2, 0.5)))
        await producer.close(120)

    async def _send(self, producer: AsyncProducer, name: str, topic: str, random: Random, *, strong: bool) -> None:
        ledger = self.world.ledger
        # Some keys come once: compaction may never take their records away.
        key = b"k%d" % random.randrange(KEYS) if random.random() < 0.9 else b"once-%d" % random.getrandbits(32)
        value: bytes | None = b"%s-%d" % (name.encode(), next(self._values))
        if topic == "compacted" and random.random() < 0.2:
            key = b"gone-%d" % random.randrange(3)
            value = value if random.random() < 0.5 else None
        send = ledger.sent(name, Place(topic, -1), value, key, strong=strong)
        try:
            future = await producer.send(topic, value, key)
        except KafkaError as error:
            ledger.failed(send, str(error))  # it was not taken: the buffer is full or the topic is not known
            return
        if strong:
            future.add_callback(lambda done: ledger.acked(send, done.partition, done.offset))
        else:  # the other way to hear of it, which takes a task each
            waiting = asyncio.ensure_future(_outcome(future))
            waiting.add_done_callback(lambda done: self._told(send, done))

    def _told(self, send: Send, done: asyncio.Future[Any]) -> None:
        result = done.result()
        if not isinstance(result, KafkaError):
            self.world.ledger.acked(send, result.partition, result.offset)

    # --- consumers -------------------------------------------------------------------------------------------

    async def read(self, name: str, topic: str) -> None:
        """From the beginning of every partition, without a group."""
        consumer = AsyncConsumer(bootstrap_servers=self.world.bootstrap_servers, auto_offset_reset="earliest")
        await consumer.start()
        consumer.assign([TopicPartition(topic, 0)])
        while not self.stop.is_set():
            await self._poll(consumer, name)
        await consumer.close()

    async def take_part(self, name: str, group: str, topics: list[str]) -> None:
        """As a member of a group that commits now and then."""
        world, random = self.world, Random(self.random.getrandbits(32))
        consumer = AsyncConsumer(
            *topics, bootstrap_servers=world.bootstrap_servers, group_id=group, enable_auto_commit=False,
            auto_offset_reset="earliest", session_timeout_ms=random.choice(SESSION_TIMEOUTS_MS),
            heartbeat_interval_ms=300,
        )  # fmt: skip
        held: set[Place] = set()

        def tell() -> None:
            generation = consumer.consumer_group_metadata().generation_id
            world.ledger.owns(group, name, frozenset(held), -1 if generation is None else generation)

        consumer_listener = _Ownership(tell, held)
        await consumer.start()
        consumer.subscribe(topics, listener=consumer_listener)
        next_offsets: dict[Place, int] = {}
        while not self.stop.is_set():
            for place, offset in (await self._poll(consumer, name)).items():
                next_offsets[place] = offset + 1
            if random.random() < 0.3:
                await self._commit(consumer, group, name, {p: o for p, o in next_offsets.items() if p in held})
        await consumer.close()
        held.clear()
        world.ledger.owns(group, name, frozenset())

    async def watch(self, random: Random, groups: list[str], topics: list[str]) -> None:
        """Asks for what groups have committed, without being a member; the oracles hear what it is told."""
        group = random.choice(groups)
        consumer = AsyncConsumer(bootstrap_servers=self.world.bootstrap_servers, group_id=group)
        await consumer.start()
        while not self.stop.is_set():
            for topic in topics:
                try:
                    await consumer.committed(TopicPartition(topic, 0), timeout_ms=5_000)
                except KafkaError:
                    pass  # nobody coordinates the group at the moment, or there is no such topic
            await asyncio.sleep(random.choice((0.1, 0.3, 0.5)))
        await consumer.close()

    async def _commit(self, consumer: AsyncConsumer, group: str, name: str, offsets: dict[Place, int]) -> None:
        began_s = self.world.loop.time()
        if not offsets:
            return
        try:
            await consumer.commit({TopicPartition(*place): offset for place, offset in offsets.items()})
        except KafkaError:
            return  # the outcome is not known, or the member was put out
        self.world.ledger.committed(group, name, offsets, began_s)

    async def _poll(self, consumer: AsyncConsumer, name: str) -> dict[Place, int]:
        last: dict[Place, int] = {}
        try:
            polled = await consumer.poll(200)
        except KafkaError:
            await asyncio.sleep(0.1)
            return last
        for partition, records in polled.items():
            place = Place(partition.topic, partition.partition)
            for record in records:
                self.world.ledger.polled(name, place, record.offset, record.value, record.key)
                last[place] = record.offset
        return last


class _Ownership(ConsumerRebalanceListener):
    """Tells the ledger what a member holds."""

    def __init__(self, tell: Callable[[], None], held: set[Place]) -> None:
        self._tell, self._held = tell, held

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._held.update(Place(each.topic, each.partition) for each in assigned)
        self._tell()

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._held.difference_update(Place(each.topic, each.partition) for each in revoked)
        self._tell()

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self.on_partitions_revoked(lost)


async def _outcome(future: Any) -> Any:
    try:
        return await future
    except KafkaError as error:
        return error
