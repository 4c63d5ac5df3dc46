"""What the administrative calls of both doors, gRPC and Kafka, stand on.

A change goes to the active controller as a command and is answered only when this broker has replayed it, so that who
asks this broker next sees it.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from ..cluster.image import MetadataImage
from ..cluster.topic_config import is_internal_topic, topic_name_error
from ..proto.command_pb2 import Command, CommandResponse, CreatableTopic, CreateTopicsCommand
from ..proto.controller_pb2 import DescribeQuorumResponse
from ..proto.identifiers import NONE_ID, BrokerId
from .config_description import ConfigDescriber

TIMEOUT_MS_MAX: Final = 300_000
AUTO_CREATE_TIMEOUT_MS: Final = 5_000


class ControllerChannel(Protocol):
    """What the doors need of the way to the controllers (`controller_client.ControllerClient`)."""

    async def submit(self, command: Command, *, timeout_ms: int) -> CommandResponse: ...

    async def describe_quorum(self) -> DescribeQuorumResponse | None: ...


@dataclass(frozen=True)
class AdminRooms:
    """One object serves every client of either door."""

    broker_id: BrokerId
    controller: ControllerChannel
    image: Callable[[], MetadataImage]
    wait_for_metadata: Callable[[int, int], Awaitable[bool]]  # end offset, time-out in ms -> seen in time
    configs: ConfigDescriber
    auto_create_topics: bool

    async def submit(self, command: Command, timeout_ms: int) -> CommandResponse:
        """Has one command carried out, once however often it is sent again, and waits until this broker has seen it.

        The answer's error is that of the command as a whole: REQUEST_TIMED_OUT if there was none within `timeout_ms`
        (0 or less leaves no time at all, as in Apache Kafka); whether it took effect is then not known.
        """
        timeout_ms = min(timeout_ms, TIMEOUT_MS_MAX)
        command.request_id = uuid.uuid4().bytes
        response = await self.controller.submit(command, timeout_ms=timeout_ms)
        if response.error_code == 0:
            await self.wait_for_metadata(response.metadata_end_offset, timeout_ms)
        return response

    async def create_missing(self, names: Iterable[str]) -> None:
        """Automatic creation of topics on first use; a name that cannot be created stays unknown.

        Internal topics are left to those who own them: they know how many partitions these have.
        """
        if not self.auto_create_topics:
            return
        topics = self.image().topics
        missing = [
            name
            for name in dict.fromkeys(names)
            if name not in topics and topic_name_error(name) is None and not is_internal_topic(name)
        ]
        if not missing:
            return
        creatable = [CreatableTopic(name=name, num_partitions=NONE_ID, replication_factor=NONE_ID) for name in missing]
        await self.submit(Command(create_topics=CreateTopicsCommand(topics=creatable)), AUTO_CREATE_TIMEOUT_MS)
