"""All of a broker that talks to controllers, and nothing else: it registers, sends heartbeats and follows metadata."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from klamm.broker.controller_client import ControllerClient
from klamm.broker.lifecycle import BrokerLifecycle, Registration
from klamm.broker.metadata_follower import MetadataFollower
from klamm.broker.system_clock import SystemClock
from klamm.cluster.image import Endpoint, MetadataImage, TopicImage
from klamm.proto.command_pb2 import Command, CommandResponse, CreatableTopic, CreateTopicsCommand
from klamm.proto.identifiers import BrokerEpoch, BrokerId


class PartitionlessBroker:
    """Wired as a broker wires them."""

    def __init__(
        self,
        broker_id: int,
        controllers: Sequence[tuple[str, int]],
        *,
        interval_ms: int = 500,
        incarnation_id: bytes | None = None,
        log_dir_id: bytes | None = None,
        cluster_id: str | None = None,
    ) -> None:
        self.broker_id = BrokerId(broker_id)
        self.fatal: list[Exception] = []
        self.images: list[MetadataImage] = []
        self.client = ControllerClient(controllers, SystemClock())
        self.follower = MetadataFollower(
            self.client,
            self._on_image,
            broker_id=self.broker_id,
            on_fatal=self.fatal.append,
            cluster_id=cluster_id,
        )
        self.lifecycle = BrokerLifecycle(
            self.client,
            SystemClock(),
            heartbeat_interval_ms=interval_ms,
            on_fatal=self.fatal.append,
            duplicate_timeout_ms=5_000,
        )
        self.follower.add_listener(self.lifecycle.metadata_applied)
        self.registration = Registration(
            broker_id=self.broker_id,
            incarnation_id=incarnation_id or uuid.uuid4().bytes,
            cluster_id=cluster_id,
            endpoints={"GRPC": Endpoint("127.0.0.1", 9_000 + broker_id)},
            rack=None,
            log_dir_id=log_dir_id or uuid.uuid4().bytes,
        )

    @property
    def image(self) -> MetadataImage:
        return self.follower.image

    async def start(self, previous_broker_epoch: BrokerEpoch | None = None) -> None:
        """Registers and is unfenced."""
        await self.follower.start()
        await self.lifecycle.start(self.registration, previous_broker_epoch)
        self.lifecycle.ready_to_unfence()
        assert await self.lifecycle.wait_until_running(10_000)

    async def stop(self) -> None:
        """Ends at once, as a crash would."""
        await self.lifecycle.stop()
        await self.follower.stop()
        await self.client.close()

    async def create_topic(
        self, name: str, partitions: int = 1, replication_factor: int = 1, *, timeout_ms: int = 10_000
    ) -> CommandResponse:
        """As a broker's administrative calls do."""
        topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=replication_factor)
        return await self.client.submit(
            Command(create_topics=CreateTopicsCommand(topics=[topic])), timeout_ms=timeout_ms
        )

    def topic(self, name: str) -> TopicImage:
        return self.image.topics[name]

    async def _on_image(self, old: MetadataImage, new: MetadataImage) -> None:
        assert not self.images or old is self.images[-1]
        self.images.append(new)
