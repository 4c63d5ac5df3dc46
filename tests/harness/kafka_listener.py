"""A Kafka listener on a real port, over rooms of one's choice; and one broker's real replicas to put behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from harness.kafka_client import KafkaClient
from harness.kafka_rooms import Rooms
from harness.metadata_cluster import MetadataCluster
from klamm.broker.config import BrokerConfig, KafkaListenerConfig
from klamm.broker.groups.coordinator import GroupCoordinator
from klamm.broker.groups.group_config import GroupConfig
from klamm.broker.groups.group_log import ReplicaGroupLogs
from klamm.broker.kafka.listener import KafkaListener
from klamm.broker.kafka.rooms import KafkaRooms
from klamm.broker.log.log_manager import LogManager
from klamm.broker.replica_manager import ReplicaManager
from klamm.broker.system_clock import SystemClock
from klamm.cluster.image import MetadataImage
from klamm.cluster.node_config import Address
from klamm.proto.command_pb2 import Command, CommandResponse
from klamm.proto.identifiers import BrokerEpoch, BrokerId

HOST = "127.0.0.1"
LISTEN = KafkaListenerConfig(Address(HOST, 0))


class Serving:
    """A listener that serves."""

    def __init__(self, listener: KafkaListener, port: int) -> None:
        self.listener = listener
        self.port = port

    @asynccontextmanager
    async def client(self, client_id: str | None = "test") -> AsyncIterator[KafkaClient]:
        """A new connection to it."""
        async with KafkaClient.connect(HOST, self.port, client_id) as client:
            yield client


@asynccontextmanager
async def serving(rooms: KafkaRooms, config: KafkaListenerConfig = LISTEN) -> AsyncIterator[Serving]:
    """Listens on a port of the kernel's choice, and stops in the end."""
    listener = KafkaListener(config)
    port = listener.bind()
    await listener.serve(rooms)
    try:
        yield Serving(listener, port)
    finally:
        await listener.stop(1.0)


def broker_config(folder: Path, **values: Any) -> BrokerConfig:
    """The configuration of broker 1, with these fields."""
    path = folder / "broker.properties"
    path.write_text(
        f"node.id=1\nlog.dirs={folder / 'log'}\ncontroller.quorum.bootstrap.servers=127.0.0.1:9292\n"
        "listeners=GRPC://127.0.0.1:0,KAFKA://127.0.0.1:0\n"
    )
    return replace(BrokerConfig.load(path), **values)


class OneBroker:
    """Broker 1 with its replicas on disk, under the controllers' real decisions; it holds no connection to anybody."""

    def __init__(self, folder: Path, racks: tuple[str, ...] = ("",), **config: Any) -> None:
        """One more registered broker, which does nothing, for each further rack."""
        self.cluster = MetadataCluster()
        self.cluster.become_controller()
        for number, rack in enumerate(racks, start=1):
            self.cluster.register(number, rack=rack)
            self.cluster.unfence(number)
        self._seen = MetadataImage.empty()
        self.failures: list[Exception] = []  # invariants that broke
        clock = SystemClock()
        self.log_manager = LogManager.open(folder / "log", node_id=BrokerId(1), clock=clock)
        self.replica_manager = ReplicaManager(
            broker_id=BrokerId(1),
            log_manager=self.log_manager,
            clock=clock,
            broker_epoch=lambda: BrokerEpoch(self.cluster.epoch(1)),
            submit=self._submit,
        )
        self.groups = GroupCoordinator(
            broker_id=BrokerId(1),
            config=GroupConfig(offsets_topic_replication_factor=1),
            logs=ReplicaGroupLogs(self.replica_manager, clock),
            submit=lambda command, timeout_ms: self.rooms.admin.submit(command, timeout_ms),
            clock=clock,
            on_fatal=self.failures.append,
        )
        self.kafka = Rooms(
            self.cluster,
            groups=self.groups,
            config=broker_config(folder, **config),
            clock=clock,
            replica_manager=self.replica_manager,
            log_manager=self.log_manager,
        )

    @property
    def rooms(self) -> KafkaRooms:
        return self.kafka.rooms

    async def _submit(self, command: Command) -> CommandResponse:
        return await self.kafka.controllers.submit(command, timeout_ms=1_000)

    async def create_topic(self, name: str, *assignment: list[int], **configs: str) -> None:
        """A topic with a partition for each list of replicas; [1] if none is given."""
        self.cluster.create_topic(name, assignments=[list(replicas) for replicas in assignment] or [[1]], **configs)
        await self.replay()

    async def replay(self) -> None:
        """Takes up what the controllers have decided since."""
        before, self._seen = self._seen, self.cluster.image
        self.groups.resign(self._seen)
        await self.replica_manager.on_metadata(before, self._seen)
        await self.groups.on_metadata(before, self._seen)

    async def stop(self) -> None:
        await self.groups.shutdown()
        await self.replica_manager.shutdown()
        await self.log_manager.shutdown(clean=True)


@asynccontextmanager
async def one_broker(
    folder: Path, listen: KafkaListenerConfig = LISTEN, racks: tuple[str, ...] = ("",), **config: Any
) -> AsyncIterator[tuple[OneBroker, Serving]]:
    """One broker that serves Kafka clients."""
    broker = OneBroker(folder, racks, **config)
    try:
        async with serving(broker.rooms, listen) as served:
            yield broker, served
    finally:
        await broker.stop()


@contextmanager
def handlers(**by_name: Any) -> Iterator[None]:
    """Serves these APIs by other functions meanwhile."""
    from klamm.broker.kafka import route

    before = route._handler

    def handler(name: str) -> Any:
        return by_name[name] if name in by_name else before(name)

    route._handler = cast(Any, handler)
    route.find_route.cache_clear()
    try:
        yield
    finally:
        route._handler = before
        route.find_route.cache_clear()


def run_as_a_broker_does(main: Coroutine[Any, Any, None]) -> None:
    """Runs it on the event loop that brokers have."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        runner.run(main)


async def soon(condition: Any) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.005)
