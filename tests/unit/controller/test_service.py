"""The gRPC door: following the metadata from any offset, and describing the quorum."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from harness.fake_controllers import until
from harness.one_controller import OneController, create_command, register_command
from klamm.cluster.image import MetadataImage
from klamm.cluster.records import config_record
from klamm.controller.metadata_log import MetadataLog
from klamm.proto.controller_pb2 import DescribeQuorumRequest, FollowMetadataRequest
from klamm.proto.controller_pb2_grpc import ControllerStub, add_ControllerServicer_to_server
from klamm.proto.errors import ErrorCode
from klamm.proto.metadata_pb2 import MetadataBatch


@asynccontextmanager
async def serving(node: OneController) -> AsyncIterator[ControllerStub]:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    port = server.add_insecure_port("127.0.0.1:0")
    add_ControllerServicer_to_server(node.service, server)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield ControllerStub(channel)
    await node.stop()
    await server.stop(0.5)


def run(test: Callable[[OneController, ControllerStub], Awaitable[None]], log: MetadataLog | None = None) -> None:
    async def main() -> None:
        node = OneController(log=log)
        async with serving(node) as stub:
            node.raft.lead()
            await until(lambda: node.controller.is_active)
            await test(node, stub)

    asyncio.run(main())


def replay(image: MetadataImage, batch: MetadataBatch) -> MetadataImage:
    if batch.is_snapshot and not image.cluster_id:
        image = MetadataImage.empty()
    return image.replay(batch.records, batch.end_offset)


def test_committed_records_come_at_once_and_from_the_offset_asked_for() -> None:
    async def test(node: OneController, stub: ControllerStub) -> None:
        call = stub.FollowMetadata(FollowMetadataRequest(broker_id=1))
        batch = await call.read()
        assert (batch.base_offset, batch.end_offset) == (0, 2)
        await node.submit(register_command())
        batch = await asyncio.wait_for(call.read(), 5)
        assert batch.base_offset == 2
        late = stub.FollowMetadata(FollowMetadataRequest(broker_id=2, next_offset=1))
        batch = await late.read()
        assert (batch.base_offset, batch.end_offset) == (1, 3)
        ahead = stub.FollowMetadata(FollowMetadataRequest(broker_id=3, next_offset=4))
        reading = asyncio.ensure_future(ahead.read())
        await node.submit(create_command())  # refused: no broker is unfenced; nothing is committed
        await asyncio.sleep(0.02)
        assert not reading.done()
        for each in (call, late, ahead):
            each.cancel()
        reading.cancel()

    run(test)


def test_another_cluster_is_refused() -> None:
    async def test(node: OneController, stub: ControllerStub) -> None:
        call = stub.FollowMetadata(FollowMetadataRequest(broker_id=1, cluster_id="x" * 22))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        trailing = dict(refused.value.trailing_metadata() or ())
        assert trailing["klamm-error-code"] == str(int(ErrorCode.INCONSISTENT_CLUSTER_ID))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.FollowMetadata(FollowMetadataRequest(next_offset=-1)).read()

    run(test)


def test_who_is_behind_the_tail_gets_a_snapshot_and_then_the_rest() -> None:
    async def test(node: OneController, stub: ControllerStub) -> None:
        for number in range(50):
            alter = create_command(request=number.to_bytes(16))
            alter.ClearField("create_topics")
            resource = alter.incremental_alter_configs.resources.add(resource_type=4, resource_name="")
            resource.configs.add(name="log.retention.ms", value=str(number))
            assert (await node.submit(alter)).error_code == 0
        call = stub.FollowMetadata(FollowMetadataRequest(broker_id=1, next_offset=1))
        snapshot = await call.read()
        assert snapshot.is_snapshot
        assert snapshot.last_of_snapshot
        image = replay(MetadataImage.empty(), snapshot)
        assert image == node.machine.image
        await node.submit(register_command())
        image = replay(image, await call.read())
        assert image == node.machine.image
        call.cancel()

    run(test, MetadataLog(records_max=10))


def test_a_reader_that_stops_reading_costs_no_memory_and_catches_up() -> None:
    async def test(node: OneController, stub: ControllerStub) -> None:
        call = stub.FollowMetadata(FollowMetadataRequest(broker_id=1))
        image = replay(MetadataImage.empty(), await call.read())
        end_offset = node.machine.image.end_offset
        # 45 MB: more than gRPC and the kernel's buffers take for a reader that does not read.
        values = [config_record(4, "", f"key-{number % 7}", "x" * 15_000) for number in range(3_000)]
        for start in range(0, len(values), 50):
            records = values[start : start + 50]
            end_offset += len(records)
            node.machine._state = _with(node, records, end_offset)
            node.machine.log.append(records)
            await asyncio.sleep(0)
        assert node.machine.log.end_offset - node.machine.log.start_offset <= 500
        snapshots = 0
        while image.end_offset < end_offset:
            batch = await asyncio.wait_for(call.read(), 10)
            snapshots += batch.is_snapshot
            image = replay(MetadataImage.empty() if batch.is_snapshot else image, batch)
        assert snapshots >= 1
        assert image == node.machine.image
        call.cancel()

    run(test, MetadataLog(records_max=500))


def _with(node: OneController, records, end_offset):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(node.machine.state, image=node.machine.image.replay(records, end_offset))


def test_the_quorum_is_described() -> None:
    async def test(node: OneController, stub: ControllerStub) -> None:
        answer = await stub.DescribeQuorum(DescribeQuorumRequest())
        assert (answer.controller_id, answer.active_controller_id, answer.controller_epoch) == (0, 0, 1)
        assert answer.ready
        assert answer.voter
        assert answer.metadata_end_offset == 2
        assert answer.cluster_id == node.machine.image.cluster_id
        own, other = answer.nodes
        assert (own.reachable, own.lag, own.is_leader) == (True, 0, True)
        assert (other.reachable, other.lag, other.is_leader) == (False, 3, False)
        node.raft.follow(1)
        answer = await stub.DescribeQuorum(DescribeQuorumRequest())
        assert (answer.active_controller_id, answer.ready) == (1, True)
        assert [n.is_leader for n in answer.nodes] == [False, True]
        assert [n.lag for n in answer.nodes] == [-1, -1]

    run(test)
