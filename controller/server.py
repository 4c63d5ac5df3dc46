"""One controller, wired: the Raft node, the state machine, the services, all on one event loop and one port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from ..cluster.clock import Clock
from ..cluster.node_config import Address
from ..proto import controller_pb2, raft_pb2
from ..proto.controller_pb2_grpc import add_ControllerServicer_to_server
from ..proto.identifiers import GRPC_MESSAGE_BYTES_MAX, NodeId
from ..proto.raft_pb2_grpc import add_RaftServicer_to_server
from .active_controller import ActiveController, TopicDefaults
from .config import ControllerConfig
from .file_system import FileSystem
from .leader_balance import keep_balanced
from .metadata_log import MetadataLog
from .raft_node import RaftNode
from .raft_transport import GrpcRaftTransport
from .service import ControllerService
from .session_driver import SessionDriver
from .state_machine import MetadataStateMachine

STOP_GRACE_S: Final = 0.3

SERVER_OPTIONS: Final = (
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
    # A port that another process listens on is an error, not something to share.
    ("grpc.so_reuseport", 0),
    # Brokers and controllers ping as often as they need to notice a dead peer.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)

_SERVICES: Final = (
    controller_pb2.DESCRIPTOR.services_by_name["Controller"].full_name,
    raft_pb2.DESCRIPTOR.services_by_name["Raft"].full_name,
)


class PortError(Exception):
    """The controller cannot listen where it is told to."""


class ControllerServer:
    """Start it once; it runs until it is stopped."""

    def __init__(
        self,
        config: ControllerConfig,
        clock: Clock,
        on_failure: Callable[[Exception], None],
        *,
        file_system: FileSystem | None = None,
    ) -> None:
        """`on_failure` is told when the controller's state can no longer be trusted: the process must end.

        `file_system` stands in for the disk in simulations.
        """
        self._config = config
        self._clock = clock
        self._on_failure = on_failure
        self._balance: asyncio.Task[None] | None = None
        self._address = config.listen
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._health = health_aio.HealthServicer()
        self._machine = MetadataStateMachine(MetadataLog(records_max=config.metadata_tail_records_max))
        voters = {node_id: (address.host, address.port) for node_id, address in config.voters.items()}
        self._transport = GrpcRaftTransport(node_id=config.node_id, voters=voters)
        self._raft = RaftNode(
            node_id=config.node_id,
            voters=voters,
            data_folder=config.metadata_log_dir,
            state_machine=self._machine,
            transport=self._transport,
            clock=clock,
            config=config.raft,
            on_role_change=lambda role, term: self._controller.role_changed(role, term),
            on_failure=on_failure,
            file_system=file_system,
        )
        self._sessions = SessionDriver(
            clock=clock,
            machine=self._machine,
            session_timeout_ms=config.session_timeout_ms,
            crash_grace_ms=config.crash_grace_ms,
        )
        self._machine.on_change = self._sessions.image_changed
        self._controller = ActiveController(
            node_id=config.node_id,
            raft=self._raft,
            machine=self._machine,
            clock=clock,
            defaults=TopicDefaults(config.num_partitions, config.default_replication_factor),
            is_broker_alive=self._sessions.is_alive,
            on_active=lambda: self._sessions.became_active(self._controller),
            on_resigned=self._sessions.resigned,
        )
        self._service = ControllerService(
            node_id=config.node_id,
            voters=self._voters,
            raft=self._raft,
            machine=self._machine,
            controller=self._controller,
            sessions=self._sessions,
        )

    @property
    def address(self) -> Address:
        """Where it listens, with the port that it got."""
        return self._address

    async def start(self) -> None:
        """Listens, reads its data folder and joins the quorum.

        :raises PortError: it cannot listen
        :raises DataFolderError: the data folder cannot be used
        """
        self._listen()
        add_ControllerServicer_to_server(self._service, self._server)
        add_RaftServicer_to_server(self._transport, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*_SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
            self._server,
        )
        # The data folder is read before the first call is served: nobody is told of a state that is not there yet.
        await self._raft.start()
        await self._server.start()
        if self._config.leader_imbalance_check_s is not None:
            balance = keep_balanced(self._controller, self._config.leader_imbalance_check_s)
            self._balance = asyncio.create_task(balance, name="leader-balance")
            self._balance.add_done_callback(self._balance_ended)
        for service in ("", *_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Stops in order: takes no more commands, ends the streams, leaves the quorum."""
        await self._health.enter_graceful_shutdown()
        if self._balance is not None:
            self._balance.cancel()
        await self._controller.stop()
        await self._sessions.stop()
        self._service.close()
        await self._server.stop(STOP_GRACE_S)
        await self._raft.stop()

    def _balance_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._on_failure(error)

    def _listen(self) -> None:
        wanted = self._config.listen
        try:
            port = self._server.add_insecure_port(str(wanted))
        except RuntimeError as error:
            raise PortError(
                f"cannot listen on {wanted}: the port is in use, or the host is not this machine's"
            ) from error
        self._address = Address(wanted.host, port)

    def _voters(self) -> Mapping[NodeId, Address]:
        """As configured; the only voter may have left its port to the kernel."""
        own = self._config.voters[self._config.node_id]
        if own.port:
            return self._config.voters
        return {self._config.node_id: Address(own.host, self._address.port)}
