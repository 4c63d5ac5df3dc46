"""A quorum of real `RaftNode`s over gRPC on loopback, all on one event loop, with their folders on disk."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from grpc import aio
from harness.raft_network import LogMachine
from klamm.controller.file_system import FileSystem
from klamm.controller.quorum_folder import format_new
from klamm.controller.raft_node import RaftConfig, RaftNode, RaftRole
from klamm.controller.raft_transport import GrpcRaftTransport
from klamm.controller.system_clock import SystemClock
from klamm.proto.identifiers import NodeId
from klamm.proto.raft_pb2_grpc import add_RaftServicer_to_server

QUICK = RaftConfig(
    heartbeat_interval_ms=100, election_timeout_ms_min=400, election_timeout_ms_max=800, snapshot_entries_max=200
)

NO_HEARTBEATS = RaftConfig(
    heartbeat_interval_ms=1_000_000,
    election_timeout_ms_min=4_000_000,
    election_timeout_ms_max=8_000_000,
    leader_fallback_timeout_ms=3_500_000,
)
"""What waits for one, or for a leader's silence, waits longer than any test."""


class Quorum:
    """Nodes by id; ports are held by sockets that do not listen until their server takes them."""

    def __init__(self, folder: Path, *, nodes: int = 3, config: RaftConfig = QUICK, quorum_id: str = "test") -> None:
        self.folder = folder
        self.config = config
        self._reserved = [socket.socket() for _ in range(nodes)]
        for reserved in self._reserved:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(("127.0.0.1", 0))
        self.voters = {NodeId(n): ("127.0.0.1", s.getsockname()[1]) for n, s in enumerate(self._reserved)}
        self.nodes: dict[NodeId, RaftNode] = {}
        self.machines: dict[NodeId, LogMachine] = {}
        self.roles: list[tuple[NodeId, RaftRole, int]] = []
        self.failures: list[tuple[NodeId, Exception]] = []
        self._servers: dict[NodeId, aio.Server] = {}
        for node_id in self.voters:
            format_new(self.folder / str(node_id), quorum_id)

    async def start(
        self, *node_ids: int, file_system: FileSystem | None = None, machine: LogMachine | None = None
    ) -> None:
        """Starts these nodes, or all."""
        for node_id in map(NodeId, node_ids or self.voters):
            transport = GrpcRaftTransport(node_id=node_id, voters=self.voters)
            server = aio.server(options=[("grpc.so_reuseport", 0)])
            add_RaftServicer_to_server(transport, server)
            server.add_insecure_port("{}:{}".format(*self.voters[node_id]))
            await server.start()
            self.machines[node_id] = machine or LogMachine()
            node = RaftNode(
                node_id=node_id,
                voters=self.voters,
                data_folder=self.folder / str(node_id),
                state_machine=self.machines[node_id],
                transport=transport,
                clock=SystemClock(),
                config=self.config,
                on_role_change=self._role_noter(node_id),
                on_failure=self._failure_noter(node_id),
                file_system=file_system,
            )
            self._servers[node_id] = server
            self.nodes[node_id] = node
            await node.start()

    async def stop(self, *node_ids: int) -> None:
        """Stops these nodes, or all that run. Their connections end at once."""
        for node_id in [NodeId(n) for n in node_ids] or list(self.nodes):
            await self._servers.pop(node_id).stop(0)
            await self.nodes.pop(node_id).stop()

    def close(self) -> None:
        """Gives the ports back."""
        for reserved in self._reserved:
            reserved.close()

    async def leader(self) -> RaftNode:
        """Waits for one."""
        await self.until(lambda: any(node.role is RaftRole.LEADER for node in self.nodes.values()), "no leader")
        return next(node for node in self.nodes.values() if node.role is RaftRole.LEADER)

    async def connected(self) -> None:
        """Waits until every node reaches every other: without heartbeats, who is connected too late for something is
        not told again by itself.
        """
        await self.until(
            lambda: all(
                node.is_reachable(other) for each, node in self.nodes.items() for other in self.nodes if other != each
            ),
            "not all are connected",
        )

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits until it is true."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - conditions over several nodes have no event
                await asyncio.sleep(0.005)
        assert condition(), what

    def id_of(self, node: RaftNode) -> NodeId:
        """The id of one of the nodes."""
        return next(node_id for node_id, other in self.nodes.items() if other is node)

    def _role_noter(self, node_id: NodeId) -> Callable[[RaftRole, int], None]:
        return lambda role, term: self.roles.append((node_id, role, term))

    def _failure_noter(self, node_id: NodeId) -> Callable[[Exception], None]:
        return lambda error: self.failures.append((node_id, error))


def run_quorum(
    folder: Path,
    test: Callable[[Quorum], object],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **options: object,
) -> None:
    """Runs a coroutine function with a quorum whose nodes are not started yet, and ends it."""

    async def main() -> None:
        quorum = Quorum(folder, **options)  # type: ignore[arg-type]
        try:
            await test(quorum)  # type: ignore[misc]
        finally:
            await quorum.stop()
            quorum.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
