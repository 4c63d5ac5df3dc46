"""GetMetadata's answer, of topics that were described before where they have not changed.

An image shares what did not change with the image before it, the very same objects. So a topic's description holds as
long as the topic is that object and the same brokers are alive. Thousands of topics that must be described anew take
turns with other work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from ..cluster.image import MetadataImage, TopicImage
from ..proto import broker_pb2
from ..proto.identifiers import BrokerId, TopicId
from .description import describe_brokers, describe_missing_topic, describe_topic

TURN_SECONDS_MAX: Final = 0.005
"""Others have their turn after this long."""


class MetadataDescriptions:
    """Lives on one event loop."""

    def __init__(self) -> None:
        self._known: dict[TopicId, tuple[TopicImage, broker_pb2.TopicDescription]] = {}
        self._alive: frozenset[BrokerId] = frozenset()

    async def describe(self, image: MetadataImage, names: Iterable[str] | None) -> broker_pb2.MetadataResponse:
        """Brokers that are not fenced, and the topics named (None: every topic); see `description`."""
        self._take(image)
        answer = describe_brokers(image)
        turn_ends = time.monotonic() + TURN_SECONDS_MAX
        for name in sorted(image.topics) if names is None else names:
            topic = image.topics.get(name)
            answer.topics.append(describe_missing_topic(name) if topic is None else self._topic(image, topic))
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                self._take(image)  # others may have asked about a newer image meanwhile
                turn_ends = time.monotonic() + TURN_SECONDS_MAX
        return answer

    def _take(self, image: MetadataImage) -> None:
        """Offline replicas depend on which brokers are alive. Topics that are gone are forgotten now and then."""
        alive = frozenset(broker_id for broker_id, broker in image.brokers.items() if not broker.fenced)
        if alive != self._alive:
            self._known.clear()
            self._alive = alive
        if len(self._known) > 2 * len(image.topics) + 100:
            self._known = {topic_id: entry for topic_id, entry in self._known.items() if topic_id in image.topic_names}

    def _topic(self, image: MetadataImage, topic: TopicImage) -> broker_pb2.TopicDescription:
        known = self._known.get(topic.topic_id)
        if known is None or known[0] is not topic:
            known = self._known[topic.topic_id] = (topic, describe_topic(image, topic))
        return known[1]
