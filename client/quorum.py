"""Asks a controller what it knows of the metadata quorum, straight at its own address: for `klamm status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .structs import QuorumInfo, QuorumNodeInfo

if TYPE_CHECKING:
    from ..proto.controller_pb2 import DescribeQuorumResponse


def describe_quorum(address: str, timeout_ms: float = 2000) -> QuorumInfo:
    """What the controller at host:port answers.

    :raises NetworkError: nobody listens there. :raises RequestTimedOutError: it does not answer in time.
    """
    from .loop_thread import loop_thread

    return loop_thread().run(describe_quorum_async(address, timeout_ms))


async def describe_quorum_async(address: str, timeout_ms: float = 2000) -> QuorumInfo:
    """The same on the running event loop."""
    import grpc.aio

    from ..proto.controller_pb2 import DescribeQuorumRequest
    from ..proto.controller_pb2_grpc import ControllerStub
    from .transport import CHANNEL_OPTIONS, call

    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub = ControllerStub(channel)
        response: DescribeQuorumResponse = await call(stub.DescribeQuorum, DescribeQuorumRequest(), timeout_ms)
    return quorum_info(response)


def quorum_info(response: DescribeQuorumResponse) -> QuorumInfo:
    """The answer as a user sees it."""
    return QuorumInfo(
        controller_id=response.controller_id,
        active_controller_id=_known(response.active_controller_id),
        controller_epoch=response.controller_epoch,
        commit_index=response.commit_index,
        metadata_end_offset=response.metadata_end_offset,
        cluster_id=response.cluster_id or None,
        ready=response.ready,
        voter=response.voter,
        nodes=tuple(
            QuorumNodeInfo(
                controller_id=node.controller_id,
                host=node.host,
                port=node.port,
                reachable=node.reachable,
                log_end_index=_known(node.log_end_index),
                lag=_known(node.lag),
                is_leader=node.is_leader,
            )
            for node in response.nodes
        ),
    )


def _known(number: int) -> int | None:
    return None if number < 0 else number
