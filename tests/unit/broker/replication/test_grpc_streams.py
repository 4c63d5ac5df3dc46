"""Replication over real gRPC on a port of the kernel's: a leader, two followers, and streams that break."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import grpc.aio
import pytest
from harness.record_batches import record_batch
from klamm.broker.log.log_manager import LogManager
from klamm.broker.replica_manager import PartitionProduce, ReplicaManager
from klamm.broker.replication.replication_service import SERVER_OPTIONS
from klamm.broker.system_clock import SystemClock
from klamm.cluster.image import MetadataImage
from klamm.proto.command_pb2 import Command, CommandResponse
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerEpoch, BrokerId
from klamm.proto.metadata_pb2 import Endpoint, MetadataRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord
from klamm.proto.replication_pb2_grpc import add_ReplicationServicer_to_server

TOPIC_ID = UUID(int=77).bytes
PARTITIONS = 3


class Node:
    """A broker's replication: a manager, and a gRPC server in front of it."""

    def __init__(self, broker_id: int, folder: Path) -> None:
        self.broker_id = BrokerId(broker_id)
        clock = SystemClock()
        self.log_manager = LogManager.open(folder / str(broker_id), node_id=self.broker_id, clock=clock)
        self.manager = ReplicaManager(
            broker_id=self.broker_id,
            log_manager=self.log_manager,
            clock=clock,
            broker_epoch=lambda: BrokerEpoch(broker_id),
            submit=self._submit,
        )
        self.server: grpc.aio.Server | None = None
        self.port = 0
        self.image = MetadataImage.empty()

    @staticmethod
    async def _submit(command: Command) -> CommandResponse:
        await asyncio.sleep(0.1)
        return CommandResponse(error_code=ErrorCode.REQUEST_TIMED_OUT)

    async def listen(self) -> None:
        self.server = grpc.aio.server(options=[*SERVER_OPTIONS, ("grpc.so_reuseport", 0)])
        add_ReplicationServicer_to_server(self.manager.servicer(), self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def stop_listening(self) -> None:
        assert self.server is not None
        await self.server.stop(None)

    async def on(self, image: MetadataImage) -> None:
        old, self.image = self.image, image
        await self.manager.on_metadata(old, image)

    async def stop(self) -> None:
        await self.manager.shutdown()
        await self.stop_listening()
        await self.log_manager.shutdown(clean=False)


def image_of(nodes: list[Node], leader: int, epoch: int) -> MetadataImage:
    records = [
        MetadataRecord(
            register_broker=RegisterBrokerRecord(
                broker_id=node.broker_id,
                incarnation_id=b"i" * 16,
                broker_epoch=node.broker_id,
                endpoints=[Endpoint(name="GRPC", host="127.0.0.1", port=node.port)],
                log_dir_id=b"d" * 16,
            )
        )
        for node in nodes
    ]
    records.append(MetadataRecord(topic=TopicRecord(name="t", topic_id=TOPIC_ID)))
    ids = [node.broker_id for node in nodes]
    records += [
        MetadataRecord(
            partition=PartitionRecord(
                topic_id=TOPIC_ID,
                partition=number,
                replicas=ids,
                isr=ids,
                leader=leader,
                leader_epoch=epoch,
                partition_epoch=epoch,
                last_known_leader=-1,
            )
        )
        for number in range(PARTITIONS)
    ]
    return MetadataImage.empty().replay(records, len(records))


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def produce(node: Node, number: int, timeout_ms: int = 10_000) -> ErrorCode:
    batch = bytes(record_batch([b"x" * 1000], timestamps=int(time.time() * 1000)))
    [outcome] = await node.manager.produce([PartitionProduce("t", None, number, None, batch)], -1, timeout_ms)
    return outcome.error


def end_of(node: Node, number: int) -> int:
    partition = node.manager.get("t", number)
    assert partition is not None
    return partition.log.log_end_offset


def test_records_cross_break_and_change_direction(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        nodes = [Node(number, tmp_path) for number in (1, 2, 3)]
        for node in nodes:
            await node.listen()
            await node.manager.start()
        image = image_of(nodes, leader=1, epoch=0)
        for node in nodes:
            await node.on(image)
        errors = await asyncio.gather(*(produce(nodes[0], number % PARTITIONS) for number in range(300)))
        assert set(errors) == {ErrorCode.NONE}
        assert [[end_of(node, number) for number in range(PARTITIONS)] for node in nodes] == [[100] * PARTITIONS] * 3

        await nodes[0].stop_listening()  # every stream breaks
        waiting = asyncio.ensure_future(produce(nodes[0], 0))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await nodes[0].listen()
        assert await waiting is ErrorCode.NONE

        image = image_of(nodes, leader=2, epoch=1)
        for node in nodes[1:]:
            await node.on(image)
        late = asyncio.ensure_future(produce(nodes[1], 1))  # broker 1 has not heard yet: it does not fetch
        await asyncio.sleep(0.05)
        assert not late.done()
        assert await produce(nodes[0], 1, timeout_ms=50) is ErrorCode.REQUEST_TIMED_OUT  # and commits nothing
        await nodes[0].on(image)
        assert await late is ErrorCode.NONE
        await until(lambda: {end_of(node, 1) for node in nodes} == {101})
        for node in nodes:
            await node.stop()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
