"""One broker process: its rooms put together, started and stopped in the right order.

Start: take the log folder and recover it; bind the port; register with the controllers; replay metadata up to the own
registration (rule 20); serve; ask to be unfenced. Stop: hand over every leadership while still serving (rule 26), stop
serving, close the log, write the clean-shutdown marker last.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ..cluster.image import Endpoint, MetadataImage
from ..cluster.node_config import Address
from ..proto import broker_pb2_grpc, replication_pb2_grpc
from ..proto.command_pb2 import Command, CommandResponse
from ..proto.errors import InconsistentClusterIdError, KafkaError
from ..proto.identifiers import GRPC_LISTENER, GRPC_MESSAGE_BYTES_MAX, KAFKA_LISTENER
from .config import BROKER_DEFINITION, BrokerConfig
from .config_description import ConfigDescriber
from .controller_client import ControllerClient
from .groups.coordinator import GroupCoordinator
from .groups.group_log import ReplicaGroupLogs
from .grpc_admin import AdminRooms
from .grpc_service import BrokerService
from .kafka.listener import KafkaListener
from .kafka.rooms import KafkaRooms, fetch_sessions
from .lifecycle import BrokerLifecycle, Registration
from .log.file_system import FileSystem
from .log.log_manager import LogManager, LogManagerConfig
from .metadata_follower import MetadataFollower
from .producer_ids import ProducerIds
from .replica_manager import ReplicaConfig, ReplicaManager
from .replication.replication_service import SERVER_OPTIONS
from .system_clock import SystemClock

logger = logging.getLogger(__name__)

METADATA_TIMEOUT_MS: Final = 60_000
COMMAND_TIMEOUT_MS: Final = 10_000
STOP_GRACE_SECONDS: Final = 1.0
SLOW_STEP_SECONDS: Final = 5.0
"""A step of a stop that takes longer is named in the log: a supervisor may end the process before it says more."""
SERVICE_NAMES: Final = ("klamm.v1.Broker", "klamm.v1.Replication")

_GRPC_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, never a port shared
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
    *SERVER_OPTIONS,
)


class ServingAt(NamedTuple):
    """Where a broker is reached on its own machine."""

    grpc: Address
    kafka: Address | None


class BrokerServer:
    """Lives on one event loop: `start`, then `wait_for_stop` until told, then `stop`."""

    def __init__(self, config: BrokerConfig, *, file_system: FileSystem | None = None) -> None:
        """`file_system` stands in for the disk in simulations."""
        self._config = config
        self._file_system = file_system
        self._clock = SystemClock()
        self._stop = asyncio.Event()
        self._failure: Exception | None = None
        self._has_log = False
        self._has_rooms = False
        self._has_registered = False
        self._serving = False
        self._kafka: KafkaListener | None = None

    async def start(self) -> ServingAt:
        """Returns the addresses it listens on.

        :raises KafkaError, LogDirectoryError: the port, the registration or the log folder was refused; the message
            says what to do.
        """
        config = self._config
        self._log_manager = LogManager.open(
            config.log_dir,
            node_id=config.node_id,
            clock=self._clock,
            config=LogManagerConfig(
                retention_check_interval_ms=config.retention_check_interval_ms, cleaner=config.log_cleaner
            ),
            file_system=self._file_system,
        )
        self._has_log = True
        self._grpc = grpc.aio.server(options=_GRPC_OPTIONS)
        port = self._bind()
        if config.kafka is not None:
            self._kafka = KafkaListener(config.kafka)
            kafka = Address(config.kafka.listen.host, self._kafka.bind())
        else:
            kafka = None
        self._build_rooms(port)
        self._has_rooms = True
        await self._join_cluster(port, kafka)
        await self._grpc.start()
        if self._kafka is not None:
            await self._kafka.serve(self._kafka_rooms)
        self._serving = True
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        for name in SERVICE_NAMES:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._lifecycle.ready_to_unfence()
        return ServingAt(Address(config.listen.host, port), kafka)

    def _bind(self) -> int:
        listen = self._config.listen
        try:
            return self._grpc.add_insecure_port(str(listen))
        except RuntimeError as error:
            raise KafkaError(
                f"cannot listen on {listen}: the port is in use or not allowed; "
                f"free it, or choose another under `listeners`"
            ) from error

    def _build_rooms(self, port: int) -> None:
        config = self._config
        self._controller = ControllerClient(config.controllers, self._clock)
        self._lifecycle = BrokerLifecycle(
            self._controller,
            self._clock,
            heartbeat_interval_ms=config.heartbeat_interval_ms,
            on_fatal=self._fail,
        )
        self._replica_manager = ReplicaManager(
            broker_id=config.node_id,
            log_manager=self._log_manager,
            clock=self._clock,
            broker_epoch=lambda: self._lifecycle.broker_epoch,
            submit=self._submit,
            config=ReplicaConfig(
                replica_lag_time_max_ms=config.replica_lag_time_max_ms, topic_defaults=config.topic_defaults
            ),
            on_fatal=self._fail,
            in_touch=lambda: self._lifecycle.is_in_touch,
        )
        self._metadata = MetadataFollower(
            self._controller,
            self._on_metadata,
            broker_id=config.node_id,
            on_fatal=self._fail,
            cluster_id=self._log_manager.cluster_id,
        )
        self._metadata.add_listener(self._lifecycle.metadata_applied)
        rooms = self._admin_rooms()
        self._groups = GroupCoordinator(
            broker_id=config.node_id,
            config=config.groups,
            logs=ReplicaGroupLogs(self._replica_manager, self._clock),
            submit=rooms.submit,
            clock=self._clock,
            on_fatal=self._fail,
        )
        self._register_services(rooms)

    async def _on_metadata(self, old: MetadataImage, new: MetadataImage) -> None:
        """Groups that others coordinate now are given up first: their members need not wait for the replicas."""
        self._groups.resign(new)
        await self._replica_manager.on_metadata(old, new)
        await self._groups.on_metadata(old, new)

    async def _submit(self, command: Command) -> CommandResponse:
        return await self._controller.submit(command, timeout_ms=COMMAND_TIMEOUT_MS)

    def _admin_rooms(self) -> AdminRooms:
        config = self._config
        return AdminRooms(
            broker_id=config.node_id,
            controller=self._controller,
            image=lambda: self._metadata.image,
            wait_for_metadata=self._metadata.wait_for,
            configs=ConfigDescriber(config.node_id, BROKER_DEFINITION, config.properties),
            auto_create_topics=config.auto_create_topics,
        )

    def _register_services(self, rooms: AdminRooms) -> None:
        config = self._config
        producer_ids = ProducerIds(config.node_id, lambda: self._lifecycle.broker_epoch, self._controller)
        self._service = BrokerService(rooms, self._replica_manager, producer_ids, self._groups)
        broker_pb2_grpc.add_BrokerServicer_to_server(self._service, self._grpc)
        self._kafka_rooms = KafkaRooms(
            broker_id=config.node_id,
            config=config,
            clock=self._clock,
            admin=rooms,
            replica_manager=self._replica_manager,
            log_manager=self._log_manager,
            producer_ids=producer_ids,
            groups=self._groups,
            fetch_sessions=fetch_sessions(config.fetch_sessions_max),
        )
        replication_pb2_grpc.add_ReplicationServicer_to_server(self._replica_manager.servicer(), self._grpc)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection((*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._grpc)

    async def _join_cluster(self, port: int, kafka: Address | None) -> None:
        """Registers, then waits until this broker has acted on its own registration (rule 20)."""
        config = self._config
        endpoints = {GRPC_LISTENER: _endpoint(config.advertised or config.listen, port)}
        if config.kafka is not None and kafka is not None:
            endpoints[KAFKA_LISTENER] = _endpoint(config.kafka.advertised or config.kafka.listen, kafka.port)
        registration = Registration(
            broker_id=config.node_id,
            incarnation_id=uuid.uuid4().bytes,
            cluster_id=self._log_manager.cluster_id,
            endpoints=endpoints,
            rack=config.rack,
            log_dir_id=self._log_manager.log_dir_id.bytes,
        )
        try:
            cluster_id = await self._lifecycle.start(
                registration,
                self._log_manager.previous_broker_epoch,
                killed_broker_epoch=self._log_manager.killed_broker_epoch,
                on_registered=self._log_manager.note_registered,
            )
        except InconsistentClusterIdError as error:
            raise InconsistentClusterIdError(
                f"{config.log_dir} holds data of another cluster: {error}; set log.dirs to another folder, or "
                f"controller.quorum.bootstrap.servers to the right controllers"
            ) from error
        self._has_registered = True
        self._log_manager.set_cluster_id(cluster_id)
        await self._replica_manager.start()
        await self._groups.start()
        registered = self._lifecycle.broker_epoch + 1
        await self._metadata.start(registered)
        if not await self._metadata.wait_for(registered, METADATA_TIMEOUT_MS):
            raise KafkaError("the controllers registered this broker but did not send the metadata; see their logs")
        self._replica_manager.set_aside_strays(self._metadata.image)

    def _fail(self, error: Exception) -> None:
        """The broker cannot go on: the process ends with exit code 1."""
        if self._failure is None:
            self._failure = error
        self._stop.set()

    @property
    def failure(self) -> Exception | None:
        """What ended the broker's work, or happened while it stopped."""
        return self._failure

    def request_stop(self) -> None:
        self._stop.set()

    async def wait_for_stop(self) -> None:
        """Returns when a stop was asked for. :raises Exception: the failure that ended the broker's work."""
        await self._stop.wait()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Controlled shutdown; after a failure, everything but the hand-over and the clean marker.

        Also after a start that failed half-way: what is not there need not be stopped. Before the registration the
        log is as the last stop left it: clean if that was, under that stop's epoch.
        """
        if not self._has_rooms:
            if self._kafka is not None:
                await self._kafka.stop(0)
            if self._has_log:
                await self._log_manager.shutdown(clean=self._log_manager.was_clean)
            return
        clean = self._failure is None and self._serving
        if clean:
            await self._lifecycle.controlled_shutdown(self._config.controlled_shutdown_timeout_ms)
        if self._serving:
            await self._health.enter_graceful_shutdown()
        # First: metadata that comes later would lead and follow again, and write to logs that are being closed.
        with _told_if_slow("metadata"):
            await self._metadata.stop()
        with _told_if_slow("groups"):
            await self._groups.shutdown()
        with _told_if_slow("replicas"):
            await self._replica_manager.shutdown()
        if self._kafka is not None:
            with _told_if_slow("kafka_listener"):
                await self._kafka.stop(STOP_GRACE_SECONDS)
        with _told_if_slow("grpc_server"):
            await self._service.shutdown()
            await self._grpc.stop(STOP_GRACE_SECONDS)
        with _told_if_slow("heartbeats"):
            await self._lifecycle.stop()
        with _told_if_slow("logs"):
            await self._close_logs(clean)
        await self._controller.close()

    async def _close_logs(self, clean: bool) -> None:
        if self._failure is None and not self._has_registered:
            await self._log_manager.shutdown(clean=self._log_manager.was_clean)
        else:
            clean = clean and self._failure is None  # a disk may have failed meanwhile
            await self._log_manager.shutdown(clean=clean, broker_epoch=self._lifecycle.broker_epoch if clean else None)


@contextmanager
def _told_if_slow(step: str) -> Iterator[None]:
    """Says in the log what a stop waits for."""
    told = asyncio.get_running_loop().call_later(
        SLOW_STEP_SECONDS, logger.warning, "broker_stop_waits step=%s waited_s=%g", step, SLOW_STEP_SECONDS
    )
    try:
        yield
    finally:
        told.cancel()


def _endpoint(address: Address, port: int) -> Endpoint:
    """What is told of a listener that got `port`."""
    return Endpoint(address.host, address.port or port)
