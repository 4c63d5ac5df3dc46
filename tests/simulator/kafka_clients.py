"""Clients over Kafka's protocol: aiokafka's producer and consumer, each in a process of its own, as programs use them.

They write what they were told into the ledger. A send that aiokafka did not take failed; any other that it does not
confirm may have happened. After an error that aiokafka does not get over by itself they begin anew with a new object,
as a careful program does. Start them in a process: `process.run(lambda: loop.create_task(kafka_producer(...)))`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CorruptRecordException, IllegalStateError, KafkaError
from simulator.ledger import Place, Send
from simulator.world import World

KEYS: Final = 8
REQUEST_TIMEOUT_MS: Final = 4_000
SESSION_TIMEOUT_MS: Final = 6_000
_POLL_MS: Final = 200
_AGAIN_S: Final = 0.2
_STOP_S: Final = 120
_STRATEGIES: Final = (RangePartitionAssignor, RoundRobinPartitionAssignor)


class _Client(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


ClientT = TypeVar("ClientT", bound=_Client)


class _Producer(AIOKafkaProducer):  # type: ignore[misc]
    def __del__(self) -> None:
        """One that was killed is not closed."""


class _Consumer(AIOKafkaConsumer):  # type: ignore[misc]
    def __del__(self) -> None:
        """As the producer's."""


async def kafka_producer(world: World, name: str, topic: str, stop: asyncio.Event, *, strong: bool = True) -> None:
    """Bursts of records with a few keys until `stop`, then waits until each is acked or given up.

    `strong` is acks=all and idempotent, otherwise acks=1.
    """
    random = _random(world, name)
    options = _options(world, name) | {
        "acks": "all" if strong else 1,
        "enable_idempotence": strong,
        "linger_ms": random.choice((0, 0, 5)),
        "compression_type": random.choice((None, None, "gzip", "snappy", "lz4", "zstd")),
    }
    while not stop.is_set():
        async with _running(lambda: _Producer(**options), stop) as producer:
            failures: list[BaseException] = []
            while producer is not None and not stop.is_set() and not failures:
                for _ in range(random.choice((1, 1, 3, 10))):
                    await _send(world, producer, name, topic, random, strong, failures)
                await asyncio.sleep(random.choice((0.005, 0.05, 0.2, 0.5)))


async def _send(
    world: World,
    producer: _Producer,
    name: str,
    topic: str,
    random: Random,
    strong: bool,
    failures: list[BaseException],
) -> None:
    key = b"k%d" % random.randrange(KEYS)
    value = b"%s-%d" % (name.encode(), len(world.ledger.sends))
    send = world.ledger.sent(name, Place(topic, -1), value, key, strong=strong)
    try:
        # Without a time of its own the record would get the machine's.
        future = await producer.send(topic, value, key, timestamp_ms=int(time.time() * 1000))
    except KafkaError as error:
        world.ledger.failed(send, repr(error))  # it was not taken
        return
    future.add_done_callback(lambda done: _told(world, send, done, failures))


def _told(world: World, send: Send, done: asyncio.Future[Any], failures: list[BaseException]) -> None:
    error = done.exception()
    if error is None:
        world.ledger.acked(send, done.result().partition, done.result().offset)
    else:
        failures.append(error)  # behind a batch that was given up aiokafka's sequence numbers have a gap


async def kafka_assigned_consumer(world: World, name: str, topic: str, partition: int, stop: asyncio.Event) -> None:
    """Reads one partition from its beginning, and goes on where it was, until `stop`."""
    options = _options(world, name) | {"auto_offset_reset": "earliest", "enable_auto_commit": False}
    assigned = TopicPartition(topic, partition)
    next_offset: int | None = None
    while not stop.is_set():
        async with _running(lambda: _Consumer(**options), stop) as consumer:
            if consumer is None:
                return
            consumer.assign([assigned])
            if next_offset is not None:
                consumer.seek(assigned, next_offset)
            while not stop.is_set():
                try:
                    polled = await _poll(world, consumer, name)
                except KafkaError:
                    break
                next_offset = polled.get(Place(topic, partition), next_offset)


async def kafka_group_member(world: World, name: str, group: str, topics: Iterable[str], stop: asyncio.Event) -> None:
    """A member of a classic group that commits what it has read now and then, until `stop`."""
    random = _random(world, name)
    options = _options(world, name) | {
        "group_id": group,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": SESSION_TIMEOUT_MS,
        "heartbeat_interval_ms": 500,
        "partition_assignment_strategy": random.sample(_STRATEGIES, len(_STRATEGIES)),
    }
    while not stop.is_set():
        async with _running(lambda: _Consumer(**options), stop) as consumer:
            if consumer is None:
                return
            ownership = _Ownership(world, group, name, consumer)
            consumer.subscribe(list(topics), listener=ownership)
            try:
                await _take_part(world, name, group, consumer, ownership, random, stop)
            finally:
                ownership.give_up()


async def _take_part(
    world: World,
    name: str,
    group: str,
    consumer: _Consumer,
    ownership: _Ownership,
    random: Random,
    stop: asyncio.Event,
) -> None:
    """Until `stop`, or until the consumer is of no use any more."""
    while not stop.is_set():
        try:
            polled = await _poll(world, consumer, name)
        except KafkaError:
            return
        ownership.next_offsets.update({place: at for place, at in polled.items() if place in ownership.held})
        if ownership.next_offsets and random.random() < 0.3:
            await _commit(world, consumer, group, name, dict(ownership.next_offsets))


async def _commit(world: World, consumer: _Consumer, group: str, name: str, offsets: Mapping[Place, int]) -> None:
    began_s = world.loop.time()
    try:
        await consumer.commit({TopicPartition(*place): offset for place, offset in offsets.items()})
    except (KafkaError, IllegalStateError):
        return  # put out of the group, or nobody knows
    world.ledger.committed(group, name, offsets, began_s)


class _Ownership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells the ledger what a member holds. Eager: all is revoked before each rebalance."""

    def __init__(self, world: World, group: str, name: str, consumer: _Consumer) -> None:
        self._world, self._group, self._name, self._consumer = world, group, name, consumer
        self.held: frozenset[Place] = frozenset()
        self.next_offsets: dict[Place, int] = {}

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.give_up()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._hold(frozenset(Place(each.topic, each.partition) for each in assigned))

    def give_up(self) -> None:
        """Whether or not aiokafka says so: a consumer that stops tells nobody."""
        if self.held:
            self._hold(frozenset())

    def _hold(self, places: frozenset[Place]) -> None:
        self.held = places
        self.next_offsets.clear()
        self._world.ledger.owns(self._group, self._name, places, self._consumer._coordinator.generation)


async def _poll(world: World, consumer: _Consumer, name: str) -> dict[Place, int]:
    """The offsets behind what was read. :raises KafkaError: the consumer cannot go on."""
    behind: dict[Place, int] = {}
    try:
        polled = await consumer.getmany(timeout_ms=_POLL_MS)
    except CorruptRecordException as error:
        raise AssertionError(f"{name} was given a record that is corrupt") from error
    for partition, records in polled.items():
        place = Place(partition.topic, partition.partition)
        for record in records:
            world.ledger.polled(name, place, record.offset, record.value, record.key)
            behind[place] = record.offset + 1
    return behind


@asynccontextmanager
async def _running(make: Callable[[], ClientT], stop: asyncio.Event) -> AsyncIterator[ClientT | None]:
    """A client that has found the cluster; None if `stop` came first."""
    client: ClientT | None = None
    while client is None and not stop.is_set():
        client = make()
        try:
            await client.start()
        except KafkaError:
            await _stop(client)
            client = None
            await asyncio.sleep(_AGAIN_S)
    try:
        yield client
    finally:
        if client is not None:
            await _stop(client)


async def _stop(client: _Client) -> None:
    try:
        # aiokafka's consumer waits for ever in stop() if a rebalance ends in that moment: its fetcher, which just then
        # cancels its own requests, takes the cancellation of itself for one of theirs. A second one gets through.
        async with asyncio.timeout(_STOP_S):
            await client.stop()
    except KafkaError:
        pass  # what it could not say any more nobody hears
    except TimeoutError:
        if not isinstance(client, _Consumer):
            raise


def _options(world: World, name: str) -> dict[str, Any]:
    return {
        "bootstrap_servers": world.kafka_bootstrap_servers,
        "client_id": name,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "metadata_max_age_ms": 10_000,
    }


def _random(world: World, name: str) -> Random:
    return Random(f"{world.seed} {name}")
