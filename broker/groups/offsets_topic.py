"""The topic __consumer_offsets: which of its partitions a group belongs to, and how it comes to be.

The partition is Kafka's: the hash of Java's String of the group id, made positive, modulo the number of partitions.
Any client that asks for a coordinator has the topic created when it is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final

from ...cluster.image import MetadataImage, TopicImage
from ...proto.command_pb2 import Command, CommandResponse, CreatableTopic, CreateTopicsCommand
from ...proto.errors import ErrorCode
from ...proto.identifiers import NONE_ID
from .group_config import GroupConfig

logger = logging.getLogger(__name__)

OFFSETS_TOPIC: Final = "__consumer_offsets"
_CREATE_TIMEOUT_MS: Final = 10_000
_HASH_CACHE_SIZE: Final = 32_768

Submit = Callable[[Command, int], Awaitable[CommandResponse]]
"""Has a command carried out within so many ms and waits until this broker has seen it (`AdminRooms.submit`)."""


@lru_cache(_HASH_CACHE_SIZE)
def java_hash(text: str) -> int:
    """`String.hashCode` of Java: over UTF-16 code units, as a signed 32-bit number."""
    data = text.encode("utf-16-be", "surrogatepass")
    code = 0
    for index in range(0, len(data), 2):
        code = (31 * code + (data[index] << 8 | data[index + 1])) & 0xFFFFFFFF
    return code - (1 << 32) if code & 0x80000000 else code


def partition_of(group_id: str, partition_count: int) -> int:
    """As Kafka's `Utils.abs(groupId.hashCode()) % partitions`; its abs of the least integer is 0."""
    code = java_hash(group_id)
    return (0 if code == -(1 << 31) else abs(code)) % partition_count


class OffsetsTopic:
    """Lives on one event loop."""

    def __init__(self, config: GroupConfig, image: Callable[[], MetadataImage], submit: Submit) -> None:
        self._config = config
        self._image = image
        self._submit = submit
        self._creating: asyncio.Task[ErrorCode] | None = None

    def get(self) -> TopicImage | None:
        """The topic, if there is one."""
        return self._image().topics.get(OFFSETS_TOPIC)

    def partition_of(self, group_id: str) -> int | None:
        """The partition of a group; None while there is no topic."""
        topic = self.get()
        return None if topic is None else partition_of(group_id, len(topic.partitions))

    async def ensure(self) -> ErrorCode:
        """Creates the topic where it is missing, once however many ask; COORDINATOR_NOT_AVAILABLE if that failed."""
        if self.get() is not None:
            return ErrorCode.NONE
        if self._creating is None or self._creating.done():
            self._creating = asyncio.create_task(self._create(), name="create-offsets-topic")
        return await asyncio.shield(self._creating)

    async def _create(self) -> ErrorCode:
        config = self._config
        factor = config.offsets_topic_replication_factor
        topic = CreatableTopic(
            name=OFFSETS_TOPIC,
            num_partitions=config.offsets_topic_num_partitions,
            replication_factor=NONE_ID if factor is None else factor,
            configs={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(config.offsets_topic_segment_bytes),
            },
        )
        response = await self._submit(Command(create_topics=CreateTopicsCommand(topics=[topic])), _CREATE_TIMEOUT_MS)
        code, message = ErrorCode.of(response.error_code), response.error_message
        if code is ErrorCode.NONE:
            created = response.create_topics.topics[0]
            code, message = ErrorCode.of(created.error_code), created.error_message
        if code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            return ErrorCode.NONE
        logger.warning("offsets_topic_not_created error=%s message=%s", code.name, message)
        return ErrorCode.COORDINATOR_NOT_AVAILABLE

    async def close(self) -> None:
        """Gives up creating it."""
        if self._creating is not None:
            self._creating.cancel()
            await asyncio.gather(self._creating, return_exceptions=True)
