"""A controller without Raft and without a network, in the test's own loop."""

from __future__ import annotations

from harness.fake_raft import FakeRaft
from klamm.cluster.clock import Clock
from klamm.cluster.node_config import Address
from klamm.controller.active_controller import ActiveController, TopicDefaults
from klamm.controller.metadata_log import MetadataLog
from klamm.controller.service import ControllerService
from klamm.controller.session_driver import SessionDriver
from klamm.controller.state_machine import MetadataStateMachine
from klamm.controller.system_clock import SystemClock
from klamm.proto.command_pb2 import (
    Command,
    CommandResponse,
    CreatableTopic,
    CreateTopicsCommand,
    RegisterBrokerCommand,
)
from klamm.proto.identifiers import NodeId
from klamm.proto.metadata_pb2 import Endpoint


class OneController:
    """Wired as `ControllerServer` wires it."""

    def __init__(
        self,
        *,
        log: MetadataLog | None = None,
        session_timeout_ms: int = 2_000,
        crash_grace_ms: int = 250,
        defaults: TopicDefaults | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.machine = MetadataStateMachine(log or MetadataLog())
        self.raft = FakeRaft(self.machine)
        self.sessions = SessionDriver(
            clock=clock,
            machine=self.machine,
            session_timeout_ms=session_timeout_ms,
            crash_grace_ms=crash_grace_ms,
        )
        self.machine.on_change = self.sessions.image_changed
        self.controller = ActiveController(
            node_id=NodeId(0),
            raft=self.raft,
            machine=self.machine,
            clock=clock,
            defaults=defaults or TopicDefaults(),
            is_broker_alive=self.sessions.is_alive,
            on_active=lambda: self.sessions.became_active(self.controller),
            on_resigned=self.sessions.resigned,
        )
        self.raft.on_role_change = self.controller.role_changed
        self.service = ControllerService(
            node_id=NodeId(0),
            voters=lambda: {NodeId(0): Address("127.0.0.1", 1), NodeId(1): Address("127.0.0.1", 2)},
            raft=self.raft,
            machine=self.machine,
            controller=self.controller,
            sessions=self.sessions,
        )

    async def stop(self) -> None:
        self.service.close()
        await self.controller.stop()
        await self.sessions.stop()

    async def submit(self, command: Command) -> CommandResponse:
        return await self.controller.submit(command, timeout_ms=1_000)


def register_command(broker_id: int = 1, incarnation: bytes = b"i" * 16, request: bytes = b"r" * 16) -> Command:
    """A broker announces itself."""
    return Command(
        request_id=request,
        register_broker=RegisterBrokerCommand(
            broker_id=broker_id,
            incarnation_id=incarnation,
            endpoints=[Endpoint(name="GRPC", host="127.0.0.1", port=9000)],
            previous_broker_epoch=-1,
            log_dir_id=b"d" * 16,
        ),
    )


def create_command(name: str = "t", request: bytes = b"t" * 16) -> Command:
    """A user creates a topic, with every default."""
    topic = CreatableTopic(name=name, num_partitions=-1, replication_factor=-1)
    return Command(request_id=request, create_topics=CreateTopicsCommand(topics=[topic]))
